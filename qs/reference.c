// SPDX-License-Identifier: Apache-2.0
// Reference pages from the tables. A cell is the row's own text; only the bar, which ends a cell
// in Markdown, is escaped. Any thread.
#include "qs/reference.h"

#include "common/base/error.h"
#include "common/base/metrics.h"
#include "qs/config.h"

static void append_cell(struct buf *to, const char *text)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '|') {
            buf_append(to, "\\", 1);
        }
        buf_append(to, at, 1);
    }
}

// ---- commands ---------------------------------------------------------------------------------

struct command_row {
    const char *word;
    int arity;
    const char *flags; // as written in the table: "READ | NOMULTI"
    const char *arguments;
    const char *summary;
};

static const struct command_row command_rows[] = {
#define COMMAND(word, handler, arity, flags, arguments, summary)                                   \
    {word, arity, #flags, arguments, summary},
#include "common/tables/commands.h"
};

static void append_flags(struct buf *to, const char *flags)
{
    for (const char *at = flags; *at != '\0'; at++) {
        char lower = *at >= 'A' && *at <= 'Z' ? (char)(*at + 'a' - 'A') : *at;
        if (lower != '|' && !(lower == ' ' && at[1] != '|')) {
            buf_append(to, &lower, 1);
        }
    }
}

static void page_commands(struct buf *to)
{
    buf_append_text(
        to, "# Commands\n\n"
            "RESP2 and RESP3. Standard commands keep the meaning and the error words they have in\n"
            "Redis; what is ours begins with `QS.`.\n\n"
            "Kinds: *read* answers from one view of an instance; *write* needs the root that\n"
            "leads, or `forward_writes`; *instance* needs an instance; *local* needs none.\n"
            "*nomulti* is refused between MULTI and EXEC, *immediate* runs there at once,\n"
            "*loading* is answered while the instance loads.\n\n"
            "| command | | kind |\n|---|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(command_rows); i++) {
        const struct command_row *row = &command_rows[i];
        buf_format(to, "| `%s%s", row->word, row->arguments[0] != '\0' ? " " : "");
        append_cell(to, row->arguments);
        buf_append_text(to, "` | ");
        append_cell(to, row->summary);
        buf_append_text(to, " | ");
        append_flags(to, row->flags);
        buf_append_text(to, " |\n");
    }
}

// ---- errors -----------------------------------------------------------------------------------

struct error_row {
    int number;
    const char *word;
    const char *text;
};

static const struct error_row error_rows[] = {
#define ERROR(name, number, word, text) {number, word, text},
#include "common/tables/errors.h"
};

static void page_errors(struct buf *to)
{
    buf_append_text(to,
                    "# Errors\n\n"
                    "The number stands in messages between nodes, the word begins the error reply\n"
                    "of a command.\n\n| number | word | text |\n|---|---|---|\n");
    for (size_t i = 0; i < ARRAY_LEN(error_rows); i++) {
        buf_format(to, "| %d | `%s` | ", error_rows[i].number, error_rows[i].word);
        append_cell(to, error_rows[i].text);
        buf_append_text(to, " |\n");
    }
}

// ---- metrics ----------------------------------------------------------------------------------

static void append_metric(struct buf *to, const struct metric_row *row)
{
    buf_format(to, "| `qs_%s` | %s | %s | ", row->name, row->counter ? "counter" : "gauge",
               row->unit);
    append_cell(to, row->help);
    buf_append_text(to, " |\n");
}

static void page_metrics(struct buf *to)
{
    static const char head[] = "| metric | kind | unit | |\n|---|---|---|---|\n";
    buf_append_text(to, "# Metrics\n\n`/metrics` at the `admin` address, for Prometheus.\n\n"
                        "## Once a daemon\n\n");
    buf_append_text(to, head);
    for (unsigned id = 0; id < NODE_METRIC_COUNT; id++) {
        append_metric(to, node_metric_row(id));
    }
    buf_append_text(to, "\n## Once an instance, label `instance`\n\n");
    buf_append_text(to, head);
    for (unsigned id = 0; id < INSTANCE_METRIC_COUNT; id++) {
        append_metric(to, instance_metric_row(id));
    }
}

static const struct {
    const char *name;
    void (*write)(struct buf *to);
} pages[] = {
    {"options", config_reference},
    {"metrics", page_metrics},
    {"commands", page_commands},
    {"errors", page_errors},
};

bool reference_page(const char *name, struct buf *to)
{
    for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
        if (strcmp(name, pages[i].name) == 0) {
            pages[i].write(to);
            return true;
        }
    }
    return false;
}
