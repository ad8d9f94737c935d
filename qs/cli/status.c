// SPDX-License-Identifier: Apache-2.0
// status and tree: what INFO and QS.TREE say, as tables and drawings for people; --json hands the
// same on for programs.
#include <inttypes.h>
#include <jansson.h>
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

// Calls a command without arguments whose reply is a text.
static redisReply *call_text(struct cli *cli, const char *name)
{
    struct bytes words[] = {bytes_text(name)};
    redisReply *reply = cli_connect(cli) ? cli_call(cli, 1, words) : NULL;
    if (reply != NULL && reply->type != REDIS_REPLY_STRING) {
        cli_error("the server answered something else than a text; is it qs?");
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

int run_status(struct cli *cli)
{
    if (!cli_words_fit(cli, 0, 0)) {
        return EXIT_USAGE;
    }
    redisReply *reply = call_text(cli, "INFO");
    if (reply == NULL) {
        return EXIT_ERROR;
    }
    struct buf text = {0};
    if (cli->json) {
        append_status_json(&text, reply_bytes(reply));
    } else {
        append_status_text(&text, reply_bytes(reply));
        append_replicas(&text, reply_bytes(reply));
    }
    freeReplyObject(reply);
    return cli_finish(&text, EXIT_FOUND);
}

// ---- tree -------------------------------------------------------------------------------------

static const char *text_of(json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL || text[0] == '\0' ? "?" : text;
}

static void append_number(struct buf *to, const char *label, json_t *object, const char *name)
{
    json_t *value = json_object_get(object, name);
    if (json_is_integer(value)) {
        buf_format(to, "%s%" JSON_INTEGER_FORMAT, label, json_integer_value(value));
    } else if (json_is_real(value)) {
        buf_format(to, "%s%.1f ms", label, json_real_value(value));
    } else {
        buf_format(to, "%sunknown", label);
    }
}

// The nodes above: each one step further in. Returns the depth of this node.
static size_t append_path(struct buf *to, json_t *tree)
{
    json_t *path = json_object_get(tree, "path");
    size_t count = json_array_size(path), depth = count > 0 ? count - 1 : 0;
    for (size_t i = 0; i < depth; i++) {
        const char *name = json_string_value(json_array_get(path, i));
        buf_format(to, "%*s%s%s\n", (int)(i == 0 ? 0 : 3 * (i - 1)), "", i == 0 ? "" : "`- ",
                   name == NULL ? "?" : name);
    }
    return depth;
}

static void append_tree(struct buf *to, json_t *tree)
{
    size_t depth = append_path(to, tree);
    int indent = (int)(depth == 0 ? 0 : 3 * (depth - 1));
    buf_format(to, "%*s%s%s (this node)  %s %s, %s", indent, "", depth == 0 ? "" : "`- ",
               text_of(tree, "node"), text_of(tree, "instance"), text_of(tree, "role"),
               text_of(tree, "state"));
    append_number(to, ", index ", tree, "visible_index");
    append_number(to, ", age ", tree, "age_ms");
    buf_append_text(to, "\n");
    json_t *children = json_object_get(tree, "children");
    size_t count = json_array_size(children);
    indent = depth == 0 ? 0 : indent + 3;
    for (size_t i = 0; i < count; i++) {
        json_t *child = json_array_get(children, i);
        buf_format(to, "%*s%s %s  %s", indent, "", i + 1 < count ? "|-" : "`-",
                   text_of(child, "node"), text_of(child, "role"));
        append_number(to, ", index ", child, "visible_index");
        append_number(to, ", age ", child, "age_ms");
        append_number(to, ", round trip ", child, "rtt_ms");
        buf_format(to, ", %s\n", text_of(child, "address"));
    }
    json_t *parent = json_object_get(tree, "parent");
    if (json_is_object(parent)) {
        buf_format(to, "\nparent %s at %s: %s", text_of(parent, "node"), text_of(parent, "address"),
                   text_of(parent, "state"));
        append_number(to, ", round trip ", parent, "rtt_ms");
        buf_append_text(to, "\n");
    }
}

int run_tree(struct cli *cli)
{
    if (!cli_words_fit(cli, 0, 0)) {
        return EXIT_USAGE;
    }
    redisReply *reply = call_text(cli, "QS.TREE");
    if (reply == NULL) {
        return EXIT_ERROR;
    }
    struct buf text = {0};
    json_t *tree = json_loadb(reply->str, (size_t)reply->len, 0, NULL);
    if (cli->json || tree == NULL) {
        buf_append_bytes(&text, reply_bytes(reply));
        buf_append_text(&text, "\n");
    } else {
        append_tree(&text, tree);
    }
    json_decref(tree);
    freeReplyObject(reply);
    return cli_finish(&text, EXIT_FOUND);
}
