// SPDX-License-Identifier: Apache-2.0
// status: what INFO says, as tables for people; --json hands the same on for programs.
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "common/wire/import_text.h"
#include "qs/cli/cli.h"

// ---- status -----------------------------------------------------------------------------------

struct line {
    struct bytes name, value;
    bool section; // "# Name"
};

// Takes the next line of INFO off `text`; false at the end.
static bool take_line(struct bytes *text, struct line *ret_line)
{
    if (text->size == 0) {
        return false;
    }
    const uint8_t *end = memchr(text->data, '\n', text->size);
    size_t size = end == NULL ? text->size : (size_t)(end - text->data);
    struct bytes line = bytes_of(text->data, size);
    size_t used = end == NULL ? size : size + 1;
    *text = bytes_of(text->data + used, text->size - used);
    if (line.size > 0 && line.data[line.size - 1] == '\r') {
        line.size--;
    }
    *ret_line = (struct line){.name = line, .value = bytes_of("", 0)};
    if (line.size > 2 && line.data[0] == '#') {
        ret_line->section = true;
        ret_line->name = bytes_of(line.data + 2, line.size - 2);
        return true;
    }
    const uint8_t *colon = line.size == 0 ? NULL : memchr(line.data, ':', line.size);
    if (colon != NULL) {
        ret_line->name.size = (size_t)(colon - line.data);
        ret_line->value = bytes_of(colon + 1, line.size - ret_line->name.size - 1);
    }
    return true;
}

static struct bytes find_field(struct bytes info, const char *name)
{
    struct line line;
    while (take_line(&info, &line)) {
        if (!line.section && bytes_equal_text(line.name, name)) {
            return line.value;
        }
    }
    return bytes_of("?", 1);
}

// The value of `name` in "a=1,b=2".
static struct bytes find_part(struct bytes parts, const char *name)
{
    size_t size = strlen(name);
    while (parts.size > 0) {
        const uint8_t *comma = memchr(parts.data, ',', parts.size);
        size_t part = comma == NULL ? parts.size : (size_t)(comma - parts.data);
        if (part > size && memcmp(parts.data, name, size) == 0 && parts.data[size] == '=') {
            return bytes_of(parts.data + size + 1, part - size - 1);
        }
        size_t used = comma == NULL ? part : part + 1;
        parts = bytes_of(parts.data + used, parts.size - used);
    }
    return bytes_of("?", 1);
}

#define SHOWN(bytes) (int)(bytes).size, (const char *)(bytes).data

static void append_status_json(struct buf *to, struct bytes info)
{
    struct line line;
    bool first_section = true, first_field = true;
    buf_append_text(to, "{");
    while (take_line(&info, &line)) {
        if (line.section) {
            buf_format(to, "%s\"%.*s\": {", first_section ? "" : "}, ", SHOWN(line.name));
            first_section = false;
            first_field = true;
        } else if (line.name.size > 0) {
            char *name = mem_format("%.*s", SHOWN(line.name));
            buf_append_text(to, first_field ? "" : ", ");
            export_json_member(to, name, line.value);
            mem_free(name);
            first_field = false;
        }
    }
    buf_append_text(to, first_section ? "}\n" : "}}\n");
}

static void append_status_text(struct buf *to, struct bytes info)
{
    static const char *const shown[][2] = {
        {"node", "node"},
        {"cluster", "cluster"},
        {"qs", "qs_version"},
        {"io", "multiplexing_api"},
        {"uptime s", "uptime_in_seconds"},
        {"clients", "connected_clients"},
        {"peers", "connected_peers"},
        {"commands", "total_commands_processed"},
        {"memory", "used_memory_human"},
    };
    for (size_t i = 0; i < ARRAY_LEN(shown); i++) {
        struct bytes value = find_field(info, shown[i][1]);
        buf_format(to, "%s%s %.*s", i == 0 ? "" : ", ", shown[i][0], SHOWN(value));
    }
    buf_format(to, "\n\n%-16s %6s %-8s %-8s %-10s %12s %12s %12s %10s %14s %-7s %-10s  %s\n",
               "INSTANCE", "NUMBER", "ROLE", "STATE", "STORE", "INDEX", "SYNCED", "KEYS", "AGE MS",
               "DISK BYTES", "SPACE", "LIMIT", "DIGEST");
    struct line line;
    while (take_line(&info, &line)) {
        if (line.section || line.name.size < 10 || memcmp(line.name.data, "instance_", 9) != 0) {
            continue;
        }
        static const char *const parts[] = {"number", "role", "state", "store", "visible_index",
                                            "synced_index", "keys", "age_ms", "disk_bytes",
                                            "space", "space_reason", "digest"};
        static const int widths[] = {6, -8, -8, -10, 12, 12, 12, 10, 14, -7, -10, 0};
        buf_format(to, "%-16.*s", SHOWN(bytes_of(line.name.data + 9, line.name.size - 9)));
        for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
            struct bytes part = find_part(line.value, parts[i]);
            buf_format(to, "%s%*.*s", i + 1 == ARRAY_LEN(parts) ? "  " : " ", widths[i],
                       SHOWN(part));
        }
        buf_append_text(to, "\n");
    }
}

// Whose data is older than alarm_age.
static void append_alarms(struct buf *to, struct bytes info)
{
    struct line line;
    while (take_line(&info, &line)) {
        if (!line.section && line.name.size > 9 && memcmp(line.name.data, "instance_", 9) == 0 &&
            bytes_equal_text(find_part(line.value, "age_alarm"), "1")) {
            buf_format(to, "\nwarning: the data of %.*s is older than alarm_age\n",
                       SHOWN(bytes_of(line.name.data + 9, line.name.size - 9)));
        }
    }
}

// What proxies fetch from: "replica_<instance>_<number>" lines, if there are any.
static void append_replicas(struct buf *to, struct bytes info)
{
    static const char *const parts[] = {"state", "in_flight", "rtt_us", "response_us",
                                        "visible_index", "history_floor", "address"};
    static const int widths[] = {-10, 9, 9, 11, 12, 12, 0};
    bool first = true;
    struct line line;
    while (take_line(&info, &line)) {
        const uint8_t *number = line.section || line.name.size < 8
                                    ? NULL : memrchr(line.name.data, '_', line.name.size);
        if (number == NULL || memcmp(line.name.data, "replica_", 8) != 0 ||
            number <= line.name.data + 8) {
            continue;
        }
        if (first) {
            buf_format(to, "\n%-16s %-10s %9s %9s %11s %12s %12s  %s\n", "REPLICAS OF", "STATE",
                       "IN FLIGHT", "PING US", "RESPONSE US", "INDEX", "FLOOR", "ADDRESS");
            first = false;
        }
        buf_format(to, "%-16.*s", (int)(number - line.name.data - 8),
                   (const char *)line.name.data + 8);
        for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
            struct bytes part = find_part(line.value, parts[i]);
            buf_format(to, "%s%*.*s", i + 1 == ARRAY_LEN(parts) ? "  " : " ", widths[i],
                       SHOWN(part));
        }
        buf_append_text(to, "\n");
    }
}

int run_status(struct cli *cli)
{
    if (!cli_words_fit(cli, 0, 0)) {
        return EXIT_USAGE;
    }
    struct bytes words[] = {bytes_text("INFO")};
    redisReply *reply = cli_call_text(cli, 1, words);
    if (reply == NULL) {
        return EXIT_ERROR;
    }
    struct buf text = {0};
    if (cli->json) {
        append_status_json(&text, reply_bytes(reply));
    } else {
        append_status_text(&text, reply_bytes(reply));
        append_alarms(&text, reply_bytes(reply));
        append_replicas(&text, reply_bytes(reply));
    }
    freeReplyObject(reply);
    return cli_finish(&text, EXIT_FOUND);
}
