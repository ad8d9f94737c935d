// SPDX-License-Identifier: Apache-2.0
// The options as a person reads them: the end of `qsd --help`, and the reference page in Markdown.
// Both come from the rows alone, so they cannot be out of date. Any thread.
#include <inttypes.h>

#include "qs/config_parts.h"

static void append_size(struct buf *to, uint64_t bytes)
{
    static const char *const units[] = {"B", "KB", "MB", "GB", "TB"};
    size_t unit = 0;
    while (bytes >= 1024 && bytes % 1024 == 0 && unit + 1 < ARRAY_LEN(units)) {
        bytes /= 1024;
        unit++;
    }
    buf_format(to, "%" PRIu64 "%s", bytes, units[unit]);
}

static void append_ms(struct buf *to, uint64_t ms)
{
    static const struct {
        uint64_t ms;
        const char *word;
    } units[] = {{86400000, "d"}, {3600000, "h"}, {60000, "m"}, {1000, "s"}, {1, "ms"}};
    size_t unit = 0;
    while (unit + 1 < ARRAY_LEN(units) && (ms < units[unit].ms || ms % units[unit].ms != 0)) {
        unit++;
    }
    buf_format(to, "%" PRIu64 "%s", ms / units[unit].ms, units[unit].word);
}

static void append_bound(struct buf *to, const struct option_row *row, uint64_t bound)
{
    if (row->type == OPTION_SIZE || row->type == OPTION_SPACE) {
        append_size(to, bound);
    } else if (row->type == OPTION_MS) {
        append_ms(to, bound);
    } else {
        buf_format(to, "%" PRIu64, bound);
    }
}

// "size, 64KB to 1GB" or "auto, uring or epoll".
static void append_kind(struct buf *to, const struct option_row *row)
{
    size_t before = to->size;
    option_words(to, row->type);
    if (to->size > before) {
        return;
    }
    buf_append_text(to, option_type_text(row->type));
    if (option_is_number(row)) {
        buf_append_text(to, ", ");
        append_bound(to, row, row->min);
        buf_append_text(to, " to ");
        append_bound(to, row, row->max);
    }
}

static const char *initial_text(const struct option_row *row)
{
    return option_is_required(row)   ? "must be given"
           : row->initial[0] == '\0' ? "unset"
                                     : row->initial;
}

static void help_scope(struct buf *to, struct option_scope scope)
{
    for (size_t i = 0; i < scope.count; i++) {
        const struct option_row *row = &scope.rows[i];
        buf_format(to, "  %-15s %s\n  %-15s (", row->name, row->help, "");
        append_kind(to, row);
        buf_format(to, "; %s%s)\n",
                   option_is_required(row) || row->initial[0] == '\0' ? "" : "default ",
                   initial_text(row));
    }
}

void config_help(struct buf *to)
{
    buf_append_text(to, "Options of the configuration file, once a daemon (NAME = VALUE):\n");
    help_scope(to, option_scope_node());
    buf_append_text(to, "\nOptions inside the section consul { ... }:\n");
    help_scope(to, option_scope_consul());
    buf_append_text(to, "\nOptions inside each instance NAME { ... }:\n");
    help_scope(to, option_scope_instance());
    buf_append_text(to, "\nOptions inside the section cache { ... } of a proxy's instance:\n");
    help_scope(to, option_scope_cache());
}

// In a table's cell the bar is special.
static void append_cell(struct buf *to, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '|') {
            buf_append(to, "\\", 1);
        }
        buf_append(to, at, 1);
    }
}

static void reference_scope(struct buf *to, struct option_scope scope)
{
    buf_append_text(to, "| option | value | default | |\n|---|---|---|---|\n");
    for (size_t i = 0; i < scope.count; i++) {
        const struct option_row *row = &scope.rows[i];
        bool word = option_is_required(row) || row->initial[0] == '\0';
        buf_format(to, "| `%s` | ", row->name);
        append_kind(to, row);
        buf_format(to, word ? " | %s | " : " | `%s` | ", initial_text(row));
        append_cell(to, row->help);
        buf_append_text(to, " |\n");
    }
}

void config_reference(struct buf *to)
{
    buf_append_text(
        to,
        "# Options\n\n"
        "The configuration is one text file, `qsd --config FILE`; `qsd --check-config FILE` says\n"
        "what is wrong with it, with the line. One option stands after another, `name = value`,\n"
        "without `;`. Comments begin with `#`. A value that holds blanks or any of\n"
        "`# \" ' = { } ( ) + , * ;` needs quotes; a list is `{\"a\", \"b\"}`, and `+=` adds to a\n"
        "list. In double quotes `${NAME}` and `${NAME:-text}` are replaced from the environment.\n"
        "Sizes are bytes, or numbers with `KB`, `MB`, `GB`, `TB` (steps of 1024); durations are\n"
        "milliseconds, or numbers with `ms`, `s`, `m`, `h`, `d`.\n\n"
        "## Once a daemon\n\n");
    reference_scope(to, option_scope_node());
    buf_append_text(to, "\n## In the section `consul { ... }`\n\n"
                        "With it, also when it is empty, this node registers itself in Consul and\n"
                        "finds there what the configuration does not name (`docs/discovery.md`).\n"
                        "`CONFIG GET` names these `consul.option`.\n\n");
    reference_scope(to, option_scope_consul());
    buf_append_text(to, "\n## In each `instance NAME { ... }`\n\n"
                        "NAME is 1 to 40 of a-z, 0-9 and `-`.\n\n");
    reference_scope(to, option_scope_instance());
    buf_append_text(to, "\n## In the section `cache { ... }` of a proxy's instance\n\n"
                        "What its directory may take; where two limits are given the tighter one\n"
                        "counts. `CONFIG GET` names these `NAME.cache.option`.\n\n");
    reference_scope(to, option_scope_cache());
}
