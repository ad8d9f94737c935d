// SPDX-License-Identifier: Apache-2.0
// Arguments and the table of commands. Options of the tool stand before the command, those of the
// command behind it in any order; "--" ends options, so that a key may begin with a dash.
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/wire/resp.h"
#include "qs/cli/cli.h"
#include "qs/version.h"

#define DEFAULT_SOCKET "/run/qs/qs.sock"
#define DEFAULT_HOST "127.0.0.1"
#define DEFAULT_PORT 7401

struct command {
    const char *name;
    const char *arguments;
    const char *help;
    int (*run)(struct cli *cli);
};

static int run_help(struct cli *cli);

static const struct command commands[] = {
    {"get", "KEY [--at INDEX|TOKEN | --min-index INDEX|TOKEN [--wait MS]]",
     "prints the value (as of an index, or of no earlier one); exit code 1 when the key is absent",
     run_get},
    {"mget", "KEY...", "prints key TAB value lines, absent keys without a tab", run_mget},
    {"range", "START END [--limit N] [--at INDEX|TOKEN]",
     "prints [START, END) in order; \"\" = no bound", run_range},
    {"put", "KEY [VALUE]", "writes a value (standard input without VALUE), prints the index",
     run_put},
    {"del", "KEY...", "deletes keys, prints the index", run_del},
    {"import",
     "[--format tsv|jsonl|resp|auto] [--batch N] [--from-offset N] [--resume] [--skip-bad] "
     "[--progress] FILE|-",
     "writes all pairs of a file", run_import},
    {"export", "[--page N] [FILE]",
     "writes all pairs as TSV (--json: JSON lines); not at one index", run_export},
    {"index", "[--token]", "prints the visible index, or history:index", run_index},
    {"wait", "INDEX|TOKEN [MS]",
     "waits until the index is visible; exit code 1 when it is not in time", run_wait},
    {"digest", "[--scan]",
     "prints the visible index and the digest of the data there; --scan: from the whole store",
     run_digest},
    {"watch", "PREFIX [--from INDEX|TOKEN]",
     "prints every change of keys with the prefix as it becomes visible", run_watch},
    {"status", "", "shows the daemon and its instances", run_status},
    {"tree", "[--here]", "draws the whole tree; --here: only what this node knows by itself",
     run_tree},
    {"promote", "[--wait MS] [--accept-loss INSTANCE]",
     "of several roots: the one that is asked shall lead; exit code 1 when it does not in time; "
     "--accept-loss: in a new history, as too few others are left for good",
     run_promote},
    {"help", "[COMMAND]", "shows this", run_help},
};

static const char usage[] =
    "usage: qs [-s SOCKET | -h HOST -p PORT] [-i INSTANCE] [--json] COMMAND ...\n";

static void show_command(FILE *to, const struct command *command)
{
    fprintf(to, "  qs %s %s\n      %s\n", command->name, command->arguments, command->help);
}

static void show_help(FILE *to)
{
    fprintf(to, "%s\n", usage);
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        show_command(to, &commands[i]);
    }
    fprintf(to,
            "\nThe address is, without -s and -h: the socket in the environment's QS_SOCKET, else\n"
            "%s if it is there, else %s:%d.\n"
            "In TSV \\t \\n \\r \\\\ \\0 \\xHH stand for bytes.\n"
            "Exit codes: 0 found or done, 1 absent, 2 wrong usage, 3 error.\n",
            DEFAULT_SOCKET, DEFAULT_HOST, DEFAULT_PORT);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static int run_help(struct cli *cli)
{
    const struct command *command = cli->count > 0 ? find_command(cli->words[0]) : NULL;
    if (cli->count > 0 && command == NULL) {
        return cli_usage(cli, "there is no command '%s'", cli->words[0]);
    }
    if (command != NULL) {
        show_command(stdout, command);
    } else {
        show_help(stdout);
    }
    return fflush(stdout) == 0 ? EXIT_FOUND : EXIT_ERROR;
}

int cli_usage(struct cli *cli, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("qs: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
    const struct command *command = cli->command == NULL ? NULL : find_command(cli->command);
    if (command != NULL) {
        show_command(stderr, command);
    } else {
        fprintf(stderr, "%s(qs help shows the commands)\n", usage);
    }
    return EXIT_USAGE;
}

static void drop_words(struct cli *cli, int first, int number)
{
    for (int i = first; i + number < cli->count; i++) {
        cli->words[i] = cli->words[i + number];
    }
    cli->count -= number;
    cli->plain_from -= number;
}

bool cli_flag(struct cli *cli, const char *name)
{
    for (int i = 0; i < cli->plain_from; i++) {
        if (strcmp(cli->words[i], name) == 0) {
            drop_words(cli, i, 1);
            return true;
        }
    }
    return false;
}

const char *cli_option(struct cli *cli, const char *name)
{
    for (int i = 0; i + 1 < cli->plain_from; i++) {
        if (strcmp(cli->words[i], name) == 0) {
            const char *value = cli->words[i + 1];
            drop_words(cli, i, 2);
            return value;
        }
    }
    return NULL;
}

bool cli_number(struct cli *cli, const char *name, uint64_t initial, uint64_t *ret_number)
{
    const char *text = cli_option(cli, name);
    if (text == NULL) {
        *ret_number = initial;
        return true;
    }
    if (!parse_u64(bytes_text(text), ret_number)) {
        cli_usage(cli, "%s takes a number, not '%s'", name, text);
        return false;
    }
    return true;
}

bool cli_words_fit(struct cli *cli, int least, int most)
{
    for (int i = 0; i < cli->plain_from; i++) {
        if (strncmp(cli->words[i], "--", 2) == 0) {
            cli_usage(cli, "unknown option %s, or its value is missing", cli->words[i]);
            return false;
        }
    }
    if (cli->count < least || cli->count > most) {
        cli_usage(cli, cli->count < least ? "an argument is missing" : "too many arguments");
        return false;
    }
    return true;
}

static bool parse_port(const char *text, int *ret_port)
{
    uint64_t port;
    if (!parse_u64(bytes_text(text), &port) || port < 1 || port > 65535) {
        return false;
    }
    *ret_port = (int)port;
    return true;
}

// The address when none is given: see show_help.
static void choose_address(struct cli *cli)
{
    if (cli->socket != NULL) {
        if (strncmp(cli->socket, "unix:", 5) == 0) {
            cli->socket += 5;
        }
        return;
    }
    const char *given = getenv("QS_SOCKET");
    if (cli->host == NULL && cli->port == 0 && given != NULL && given[0] != '\0') {
        cli->socket = strncmp(given, "unix:", 5) == 0 ? given + 5 : given;
    } else if (cli->host == NULL && cli->port == 0 && access(DEFAULT_SOCKET, F_OK) == 0) {
        cli->socket = DEFAULT_SOCKET;
    }
    cli->host = cli->host == NULL ? DEFAULT_HOST : cli->host;
    cli->port = cli->port == 0 ? DEFAULT_PORT : cli->port;
}

// Reads the options before the command; returns where the command stands, 0 after a mistake.
static int read_options(struct cli *cli, int argc, char **argv)
{
    int at = 1;
    for (; at < argc && argv[at][0] == '-'; at++) {
        const char *option = argv[at], *value = at + 1 < argc ? argv[at + 1] : NULL;
        if (strcmp(option, "--json") == 0) {
            cli->json = true;
            continue;
        }
        bool known = strlen(option) == 2 && strchr("shpi", option[1]) != NULL;
        if (!known || value == NULL) {
            cli_usage(cli, known ? "%s needs a value" : "unknown option %s", option);
            return 0;
        }
        at++;
        if (option[1] == 's') {
            cli->socket = value;
        } else if (option[1] == 'h') {
            cli->host = value;
        } else if (option[1] == 'i') {
            cli->instance = value;
        } else if (!parse_port(value, &cli->port)) {
            cli_usage(cli, "'%s' is not a port", value);
            return 0;
        }
    }
    if (cli->socket != NULL && (cli->host != NULL || cli->port != 0)) {
        cli_usage(cli, "-s and -h, -p exclude each other");
        return 0;
    }
    if (at == argc) {
        cli_usage(cli, "a command is missing");
        return 0;
    }
    return at;
}

static int run_command(struct cli *cli, const struct command *command)
{
    cli->plain_from = cli->count;
    for (int i = 0; i < cli->count; i++) {
        if (strcmp(cli->words[i], "--") == 0) {
            cli->plain_from = i + 1;
            drop_words(cli, i, 1);
            break;
        }
    }
    cli->json = cli_flag(cli, "--json") || cli->json;
    choose_address(cli);
    int code = command->run(cli);
    if (cli->redis != NULL) {
        redisFree(cli->redis);
    }
    return code;
}

int main(int argc, char **argv)
{
    struct cli cli = {0};
    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        show_help(stdout);
        return EXIT_FOUND;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("qs " QS_VERSION "\n");
        return EXIT_FOUND;
    }
    int at = read_options(&cli, argc, argv);
    if (at == 0) {
        return EXIT_USAGE;
    }
    const struct command *command = find_command(argv[at]);
    if (command == NULL) {
        return cli_usage(&cli, "there is no command '%s'", argv[at]);
    }
    cli.command = command->name;
    cli.words = argv + at + 1;
    cli.count = argc - at - 1;
    return run_command(&cli, command);
}
