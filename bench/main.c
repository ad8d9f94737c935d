// SPDX-License-Identifier: Apache-2.0
// qs-bench: what is measured, and what is proved at full speed. Each experiment has a table of its
// options, from which help and parser derive.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/drive.h"
#include "bench/growth.h"
#include "bench/mixed.h"
#include "bench/mixed_private.h"
#include "bench/pairs.h"
#include "bench/peers.h"
#include "bench/roles.h"

enum kind { NUMBER, NUMBERS, TEXT, TEXTS, FLAG };

struct option {
    const char *name;
    enum kind kind;
    void *to;             // uint64_t, uint64_t[], const char *, const char *[], bool
    uint64_t least, most; // of a number
    size_t *count;        // of NUMBERS (separated by commas) and TEXTS (the option again)
    size_t room;
    const char *help;
    bool *given; // set when it is there; NULL: nobody asks
};

struct experiment {
    const char *name, *help;
    int (*run)(int argc, char **argv);
};

// ---- options ------------------------------------------------------------------------------------

static void show_default(const struct option *option)
{
    const uint64_t *numbers = option->to;
    if (option->kind == NUMBER) {
        printf(" (%llu)", (unsigned long long)*numbers);
    } else if (option->kind == NUMBERS) {
        for (size_t i = 0; i < *option->count; i++) {
            printf("%s%llu", i == 0 ? " (" : ",", (unsigned long long)numbers[i]);
        }
        printf(")");
    }
}

static int show_options(const char *name, const struct option *options, size_t count)
{
    printf("usage: qs-bench %s [OPTION VALUE]...\n\n", name);
    for (size_t i = 0; i < count; i++) {
        printf("  --%-14s %s", options[i].name, options[i].help);
        show_default(&options[i]);
        printf("\n");
    }
    return 0;
}

static bool parse_number(const struct option *option, const char *text, char end, uint64_t *to)
{
    char *after;
    errno = 0;
    unsigned long long number = strtoull(text, &after, 10);
    if (errno != 0 || after == text || *after != end || *text == '-' || number < option->least ||
        number > option->most) {
        fprintf(stderr, "qs-bench: --%s: '%s' is not a number from %llu to %llu\n", option->name,
                text, (unsigned long long)option->least, (unsigned long long)option->most);
        return false;
    }
    *to = number;
    return true;
}

static bool parse_numbers(const struct option *option, const char *text)
{
    uint64_t *to = option->to;
    for (*option->count = 0;; text = strchr(text, ',') + 1) {
        if (*option->count == option->room) {
            fprintf(stderr, "qs-bench: --%s: at most %zu numbers\n", option->name, option->room);
            return false;
        }
        char end = strchr(text, ',') != NULL ? ',' : '\0';
        if (!parse_number(option, text, end, &to[*option->count])) {
            return false;
        }
        ++*option->count;
        if (end == '\0') {
            return true;
        }
    }
}

static bool parse_value(const struct option *option, const char *text)
{
    if (option->kind == NUMBER) {
        return parse_number(option, text, '\0', option->to);
    }
    if (option->kind == NUMBERS) {
        return parse_numbers(option, text);
    }
    const char **to = option->to;
    if (option->kind == TEXT) {
        *to = text;
        return true;
    }
    if (*option->count == option->room) {
        fprintf(stderr, "qs-bench: --%s: at most %zu times\n", option->name, option->room);
        return false;
    }
    to[(*option->count)++] = text;
    return true;
}

static const struct option *find_option(const struct option *options, size_t count,
                                        const char *word)
{
    for (size_t i = 0; i < count && strncmp(word, "--", 2) == 0; i++) {
        if (strcmp(word + 2, options[i].name) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static bool parse(const struct option *options, size_t count, int argc, char **argv)
{
    for (int i = 0; i < argc; i++) {
        const struct option *option = find_option(options, count, argv[i]);
        if (option == NULL) {
            fprintf(stderr, "qs-bench: there is no option '%s' (--help shows them)\n", argv[i]);
            return false;
        }
        if (option->given != NULL) {
            *option->given = true;
        }
        if (option->kind == FLAG) {
            *(bool *)option->to = true;
        } else if (++i == argc) {
            fprintf(stderr, "qs-bench: --%s needs a value\n", option->name);
            return false;
        } else if (!parse_value(option, argv[i])) {
            return false;
        }
    }
    return true;
}

static bool asks_help(int argc, char **argv) { return argc > 0 && strcmp(argv[0], "--help") == 0; }

// ---- experiments --------------------------------------------------------------------------------

// Roles on these pairs; the exit code.
static int run_roles_on(const struct pairs *pairs, struct roles_options *options)
{
    if (pairs->count < ROLES_PAIRS_LEAST) { // only a file can have fewer
        fprintf(stderr, "qs-bench: --pairs: %llu pairs, at least %d are needed\n",
                (unsigned long long)pairs->count, ROLES_PAIRS_LEAST);
        return 2;
    }
    if (options->probes > pairs->count / 20) {
        fprintf(stderr, "qs-bench: --probes: at most a twentieth of the pairs: %llu\n",
                (unsigned long long)(pairs->count / 20));
        return 2;
    }
    options->pairs = pairs;
    return roles_run(options);
}

static int run_roles(int argc, char **argv)
{
    bool made = false;
    struct pairs_options of = {.count = 1000000, .value_bytes = 290, .seed = 1};
    struct roles_options to = {
        .working_set = {1, 20}, .working_set_count = 2,
        .writes = {0, 350, 10000}, .writes_count = 3,
        .runs = 15, .seconds = 3, .rate = 5000, .connections = 16, .probes = 5000,
        .io = "auto", .name = "roles",
    };
    const struct option options[] = {
        {"keys", NUMBER, &of.count, ROLES_PAIRS_LEAST, PAIRS_MAX, NULL, 0, "pairs in the database",
         &made},
        {"value-bytes", NUMBER, &of.value_bytes, PAIR_VALUE_BYTES_LEAST, PAIR_VALUE_BYTES_MAX, NULL,
         0, "bytes of a value", &made},
        {"pairs", TEXT, &of.file, 0, 0, NULL, 0,
         "file of the pairs (key TAB value), in place of made ones"},
        {"working-set", NUMBERS, to.working_set, 1, 90, &to.working_set_count, SITES_MAX,
         "percent of the keys that are read, one site each"},
        {"writes", NUMBERS, to.writes, 0, 1000000, &to.writes_count, WRITES_MAX,
         "writes a second at the root"},
        {"zipf-only", FLAG, &to.zipf, 0, 0, NULL, 0, "no uniform look-ups"},
        {"uniform-only", FLAG, &to.uniform, 0, 0, NULL, 0, "no look-ups by Zipf's law"},
        {"pairs-of-runs", NUMBER, &to.runs, 1, RUNS_MAX, NULL, 0, "of a cell"},
        {"seconds", NUMBER, &to.seconds, 1, 3600, NULL, 0, "of a run"},
        {"rate", NUMBER, &to.rate, 1, 1000000, NULL, 0, "look-ups a second"},
        {"connections", NUMBER, &to.connections, 1, LOAD_CONNECTIONS_MAX, NULL, 0, "of the load"},
        {"probes", NUMBER, &to.probes, 1, 1000000, NULL, 0,
         "present keys asked for one after another"},
        {"cache", TEXT, &to.cache, 0, 0, NULL, 0, "the proxy's cache { max_bytes }, as 400MB"},
        {"io", TEXT, &to.io, 0, 0, NULL, 0, "the daemons' option"},
        {"seed", NUMBER, &of.seed, 0, UINT64_MAX, NULL, 0, "of the data and the look-ups"},
        {"out", TEXT, &to.out, 0, 0, NULL, 0, "directory for roles.json and roles.svg"},
        {"name", TEXT, &to.name, 0, 0, NULL, 0, "of these two files, in place of roles"},
        {"data", TEXT, &to.data, 0, 0, NULL, 0,
         "directory of the nodes, loaded by the first run and kept for the next"},
        {"keep", FLAG, &to.keep, 0, 0, NULL, 0, "keeps the nodes' directories"},
    };
    if (asks_help(argc, argv)) {
        return show_options("roles", options, ARRAY_LEN(options));
    }
    if (!parse(options, ARRAY_LEN(options), argc, argv)) {
        return 2;
    }
    if (to.zipf == to.uniform) {
        to.zipf = to.uniform = true;
    }
    if (made && of.file != NULL) {
        fprintf(stderr, "qs-bench: --pairs names a file that has its own pairs: --keys and "
                        "--value-bytes cannot stand beside it\n");
        return 2;
    }
    struct pairs pairs;
    if (!pairs_open(&pairs, &of)) {
        return 2;
    }
    int code = run_roles_on(&pairs, &to);
    pairs_close(&pairs);
    return code;
}

static int run_peers(int argc, char **argv)
{
    struct pairs_options of = {.count = 5000000, .value_bytes = 290, .seed = 1};
    struct peers_options to = {
        .rounds = 5, .run_ms = 1000, .rate = 20000, .connections = 50, .depth = 16,
        .writes = 10000,
        .io = "auto", .name = "peers",
    };
    const struct option options[] = {
        {"keys", NUMBER, &of.count, PEERS_PAIRS_LEAST, PAIRS_MAX, NULL, 0, "pairs in each server"},
        {"value-bytes", NUMBER, &of.value_bytes, PAIR_VALUE_BYTES_LEAST, PAIR_VALUE_BYTES_MAX, NULL,
         0, "bytes of a value"},
        {"section", TEXTS, to.sections, 0, 0, &to.section_count, PEERS_SECTIONS_MAX,
         "one of " PEERS_SECTIONS "; several times (all)"},
        {"rounds", NUMBER, &to.rounds, 1, SHEET_ROUNDS_MAX, NULL, 0, "of each row"},
        {"run-ms", NUMBER, &to.run_ms, 10, 3600000, NULL, 0, "of one side in a round"},
        {"rate", NUMBER, &to.rate, 1, 1000000, NULL, 0, "look-ups a second of open loops"},
        {"connections", NUMBER, &to.connections, 1, DRIVE_CONNECTIONS_MAX, NULL, 0, "of a load"},
        {"depth", NUMBER, &to.depth, 2, DRIVE_DEPTH_MAX, NULL, 0,
         "requests at once of the deep closed loops"},
        {"writes", NUMBER, &to.writes, 1, 1000000, NULL, 0, "a second at the root of a chain"},
        {"valkey", TEXT, &to.valkey, 0, 0, NULL, 0, "Valkey's server program (none)"},
        {"io", TEXT, &to.io, 0, 0, NULL, 0, "the daemons' option"},
        {"seed", NUMBER, &of.seed, 0, UINT64_MAX, NULL, 0, "of the data"},
        {"out", TEXT, &to.out, 0, 0, NULL, 0, "directory for peers.json and peers.svg"},
        {"name", TEXT, &to.name, 0, 0, NULL, 0, "of these two files, in place of peers"},
    };
    if (asks_help(argc, argv)) {
        return show_options("peers", options, ARRAY_LEN(options));
    }
    struct pairs pairs;
    if (!parse(options, ARRAY_LEN(options), argc, argv) || !pairs_open(&pairs, &of)) {
        return 2;
    }
    to.pairs = &pairs;
    int code = peers_run(&to);
    pairs_close(&pairs);
    return code;
}

static int run_growth(int argc, char **argv)
{
    struct growth_options to = {
        .keys = {1000000, 5000000, 20000000}, .count = 3, .value_bytes = 290, .seed = 1,
        .rounds = 5, .run_ms = 1000, .io = "auto", .name = "growth",
    };
    const struct option options[] = {
        {"keys", NUMBERS, to.keys, GROWTH_KEYS_LEAST, PAIRS_MAX, &to.count, GROWTH_SIZES,
         "pairs of each size, ascending"},
        {"value-bytes", NUMBER, &to.value_bytes, PAIR_VALUE_BYTES_LEAST, PAIR_VALUE_BYTES_MAX, NULL,
         0, "bytes of a value"},
        {"rounds", NUMBER, &to.rounds, 1, SHEET_ROUNDS_MAX, NULL, 0, "of each row"},
        {"run-ms", NUMBER, &to.run_ms, 10, 3600000, NULL, 0, "of one load in a round"},
        {"io", TEXT, &to.io, 0, 0, NULL, 0, "the daemon's option"},
        {"seed", NUMBER, &to.seed, 0, UINT64_MAX, NULL, 0, "of the data"},
        {"out", TEXT, &to.out, 0, 0, NULL, 0, "directory for growth.json and growth.svg"},
        {"name", TEXT, &to.name, 0, 0, NULL, 0, "of these two files, in place of growth"},
    };
    if (asks_help(argc, argv)) {
        return show_options("growth", options, ARRAY_LEN(options));
    }
    return parse(options, ARRAY_LEN(options), argc, argv) ? growth_run(&to) : 2;
}

static int run_mixed(int argc, char **argv)
{
    struct mixed_options to = {
        .reads = 1000000, .read_rate = 40000, .writes = 10000, .sessions = 16,
        .changes = 5, .keys = 20000, .value_bytes = 600, .seed = 1, .limit_seconds = 600,
    };
    const struct option options[] = {
        {"root", TEXT, &to.root, 0, 0, NULL, 0, "unix socket of an empty root"},
        {"node", TEXTS, to.nodes, 0, 0, &to.node_count, MIXED_NODES_MAX,
         "unix socket of a node that is read; several times"},
        {"reads", NUMBER, &to.reads, 1, UINT64_MAX, NULL, 0, "keys looked up in all"},
        {"read-rate", NUMBER, &to.read_rate, 2, 100000000, NULL, 0, "keys looked up a second"},
        {"writes", NUMBER, &to.writes, 0, 10000000, NULL, 0, "changes written a second"},
        {"changes", NUMBER, &to.changes, 1, MIXED_CHANGES_MAX, NULL, 0, "of a batch, at most"},
        {"sessions", NUMBER, &to.sessions, 1, MIXED_SESSIONS_MAX, NULL, 0, "that read"},
        {"handles", NUMBER, &to.handles, 0, MIXED_HANDLES_MAX, NULL, 0,
         "threads that read by libqs and the socket"},
        {"mapped", NUMBER, &to.mapped, 0, MIXED_HANDLES_MAX, NULL, 0,
         "threads that read by libqs and shared memory, as fast as it goes"},
        {"keys", NUMBER, &to.keys, 2, 1000000000, NULL, 0, "keys that are written"},
        {"fresh", NUMBER, &to.fresh, 0, 1000000000, NULL, 0,
         "more keys, each written once, one after another"},
        {"root-restarts", FLAG, &to.root_restarts, 0, 0, NULL, 0,
         "the root, too, is killed and started by somebody else"},
        {"value-bytes", NUMBER, &to.value_bytes, MIXED_VALUE_BYTES_LEAST, 1000000, NULL, 0,
         "longest value"},
        {"limit", NUMBER, &to.limit_seconds, 1, 1000000, NULL, 0, "seconds it may take"},
        {"seed", NUMBER, &to.seed, 0, UINT64_MAX, NULL, 0, "of writes and look-ups"},
    };
    if (asks_help(argc, argv)) {
        return show_options("mixed", options, ARRAY_LEN(options));
    }
    if (!parse(options, ARRAY_LEN(options), argc, argv)) {
        return 2;
    }
    if (to.root == NULL || to.node_count == 0) {
        fprintf(stderr, "qs-bench: mixed needs --root and at least one --node\n");
        return 2;
    }
    return mixed_run(&to);
}

static const struct experiment experiments[] = {
    {"roles", "latencies of a replica and a proxy under the same look-ups, side by side",
     run_roles},
    {"peers", "qs beside Redis, Valkey, memcached and others, as ratios of interleaved rounds",
     run_peers},
    {"growth", "look-ups, memory, disk and starts of a root with more and more keys", run_growth},
    {"mixed", "every read checked against the log, while nodes are killed by somebody else",
     run_mixed},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(experiments); i++) {
        if (strcmp(argv[1], experiments[i].name) == 0) {
            return experiments[i].run(argc - 2, argv + 2);
        }
    }
    bool asked = asks_help(argc - 1, argv + 1);
    FILE *to = asked ? stdout : stderr;
    fprintf(to, "usage: qs-bench EXPERIMENT [OPTION VALUE]... | qs-bench EXPERIMENT --help\n\n");
    for (size_t i = 0; i < ARRAY_LEN(experiments); i++) {
        fprintf(to, "  %-8s %s\n", experiments[i].name, experiments[i].help);
    }
    return asked ? 0 : 2;
}
