// SPDX-License-Identifier: Apache-2.0
// qsd, the daemon: reads its arguments and its configuration, says what is wrong with either, and
// runs. Exit codes: 0 fine, 1 the daemon failed or the configuration is not valid, 2 wrong usage.
#include <errno.h>
#include <stdio.h>

#include "common/base/mem.h"
#include "qs/daemon.h"
#include "qs/reference.h"
#include "qs/version.h"

static const char usage[] =
    "usage: qsd --config FILE         runs the daemon until SIGTERM or SIGINT\n"
    "       qsd --check-config FILE   says whether FILE is valid, and what is wrong with it\n"
    "       qsd --reference PAGE      prints a reference page (options, metrics, commands, "
    "errors)\n"
    "       qsd --help | --version\n";

static int print(struct buf *text)
{
    size_t written = fwrite(text->data, 1, text->size, stdout);
    int code = written == text->size && fflush(stdout) == 0 ? 0 : 1;
    buf_free(text);
    return code;
}

static int wrong_usage(const char *what)
{
    fprintf(stderr, "qsd: %s\n%s", what, usage);
    return 2;
}

static int with_config(const char *path, bool run)
{
    struct config *config;
    char *message;
    if (config_read(&config, path, &message) != OK) {
        fprintf(stderr, "%s\n", message);
        mem_free(message);
        return 1;
    }
    int code = 0;
    if (run) {
        code = daemon_run(config);
    } else {
        printf("%s: valid, %zu instance%s\n", path, config->instance_count,
               config->instance_count == 1 ? "" : "s");
    }
    config_free(config);
    return code;
}

int main(int argc, char **argv)
{
    const char *option = argc > 1 ? argv[1] : "", *argument = argc > 2 ? argv[2] : NULL;
    struct buf text = {0};
    if (strcmp(option, "--help") == 0) {
        buf_format(&text, "%s\n", usage);
        config_help(&text);
        return print(&text);
    }
    if (strcmp(option, "--version") == 0) {
        buf_append_text(&text, "qsd " QS_VERSION "\n");
        return print(&text);
    }
    bool run = strcmp(option, "--config") == 0;
    bool reference = strcmp(option, "--reference") == 0;
    if (!run && !reference && strcmp(option, "--check-config") != 0) {
        return wrong_usage(argc > 1 ? "unknown option" : "an option is missing");
    }
    if (argc != 3) {
        return wrong_usage("exactly one argument must follow");
    }
    if (!reference) {
        return with_config(argument, run);
    }
    return reference_page(argument, &text) ? print(&text) : wrong_usage("there is no such page");
}
