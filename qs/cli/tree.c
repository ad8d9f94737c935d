// SPDX-License-Identifier: Apache-2.0
// tree: what QS.TREE says, drawn for people: every node below its parent, and in columns what it
// has said last, with the lag of the hop from its parent in its three parts. --json hands the
// server's answer on for programs.
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"
#include "qs/cli/cli.h"

#define DEPTH_MAX 256u // what is deeper is drawn as if it were not
#define INDENT_COLUMNS 3

struct drawn_node {
    const char *node, *parent; // parent "": none
    json_t *json;
    bool drawn;
};

struct drawing {
    struct buf *to;
    struct drawn_node *nodes; // in the order of their parents, then of their names
    const char **names;       // all there are, in order
    size_t count;
    const char *here; // name of the node that was asked
    int width;        // of the first column
    uint8_t last[DEPTH_MAX]; // of each step of the branch at hand: is it the last child?
};

// ---- cells -------------------------------------------------------------------------------------

static const char *text_of(json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

static bool is_set(json_t *object, const char *name)
{
    return json_is_true(json_object_get(object, name));
}

// Puts a duration of milliseconds into `to`, in the unit that suits it.
static void put_time(char to[16], json_t *ms)
{
    double value = json_number_value(ms);
    if (!json_is_number(ms)) {
        snprintf(to, 16, "?");
    } else if (value < 1) {
        snprintf(to, 16, "%.0f us", value * 1000);
    } else if (value < 1000) {
        snprintf(to, 16, "%.1f ms", value);
    } else if (value < 600000) {
        snprintf(to, 16, "%.1f s", value / 1000);
    } else {
        snprintf(to, 16, "%.0f min", u64_min((uint64_t)value, UINT32_MAX) / 60000.0);
    }
}

static void append_time(struct buf *to, json_t *object, const char *name)
{
    char text[16];
    put_time(text, json_object_get(object, name));
    buf_format(to, " %9s", text);
}

static void append_notes(const struct drawing *drawing, json_t *node)
{
    struct buf *to = drawing->to;
    if (strcmp(text_of(node, "node"), drawing->here) == 0) {
        buf_append_text(to, "  (asked)");
    }
    if (is_set(node, "lost")) {
        buf_append_text(to, "  LOST");
    }
    if (is_set(node, "old")) {
        buf_append_text(to, "  OLD DATA");
    }
    if (is_set(node, "cut")) {
        buf_append_text(to, "  more below: its census_max is reached");
    }
    buf_append_text(to, "\n");
}

// ---- the drawing -------------------------------------------------------------------------------

static int by_parent(const void *a, const void *b)
{
    const struct drawn_node *left = a, *right = b;
    int order = strcmp(left->parent, right->parent);
    return order != 0 ? order : strcmp(left->node, right->node);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_listed(const struct drawing *drawing, const char *name)
{
    return bsearch(&name, drawing->names, drawing->count, sizeof name, by_name) != NULL;
}

// The first node whose parent is `name`, or where it would stand.
static size_t first_child(const struct drawing *drawing, const char *name)
{
    size_t low = 0, high = drawing->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(drawing->nodes[middle].parent, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

// Is there another child of `name` from `at` on?
static bool is_child(const struct drawing *drawing, size_t at, const char *name)
{
    return at < drawing->count && strcmp(drawing->nodes[at].parent, name) == 0;
}

static void append_line(struct drawing *drawing, size_t at, size_t depth)
{
    struct drawn_node *drawn = &drawing->nodes[at];
    json_t *node = drawn->json;
    struct buf *to = drawing->to;
    for (size_t i = 1; i + 1 < depth; i++) {
        buf_append_text(to, drawing->last[i] ? "   " : "│  ");
    }
    if (depth > 1) {
        buf_append_text(to, drawing->last[depth - 1] ? "└─ " : "├─ ");
    }
    int used = INDENT_COLUMNS * (int)(depth - 1);
    buf_format(to, "%-*s %-8s %-8s", drawing->width - used, drawn->node, text_of(node, "role"),
               text_of(node, "state"));
    json_t *index = json_object_get(node, "visible_index");
    buf_format(to, " %12" JSON_INTEGER_FORMAT, json_integer_value(index));
    static const char *const times[] = {"age_ms", "network_ms", "queue_ms", "apply_ms", "said_ms"};
    for (size_t i = 0; i < ARRAY_LEN(times); i++) {
        append_time(to, node, times[i]);
    }
    append_notes(drawing, node);
    drawn->drawn = true;
}

// Draws a node and all below it, without a recursion: the stack is the branch at hand. What was
// drawn already is not drawn again, should nodes name each other in a circle.
static void append_branch(struct drawing *drawing, size_t top)
{
    const char *names[DEPTH_MAX];
    size_t next[DEPTH_MAX];
    size_t depth = 1;
    names[0] = drawing->nodes[top].node;
    next[0] = first_child(drawing, names[0]);
    append_line(drawing, top, 1);
    while (depth > 0) {
        size_t child = next[depth - 1]++;
        if (depth == DEPTH_MAX || !is_child(drawing, child, names[depth - 1])) {
            depth--;
        } else if (!drawing->nodes[child].drawn) {
            drawing->last[depth] = !is_child(drawing, child + 1, names[depth - 1]);
            names[depth] = drawing->nodes[child].node;
            next[depth] = first_child(drawing, names[depth]);
            depth++;
            append_line(drawing, child, depth);
        }
    }
}

// How wide the first column must be: a name, and the steps to it.
static int width_of(const struct drawing *drawing)
{
    size_t width = 24;
    for (size_t i = 0; i < drawing->count; i++) {
        width = u64_max(width, strlen(drawing->nodes[i].node) + 5 * INDENT_COLUMNS);
    }
    return (int)u64_min(width, 100);
}

static void append_nodes(struct buf *to, json_t *nodes, const char *here)
{
    struct drawing drawing = {.to = to, .count = json_array_size(nodes), .here = here};
    drawing.nodes = mem_zalloc((drawing.count + 1) * sizeof *drawing.nodes);
    drawing.names = mem_zalloc((drawing.count + 1) * sizeof *drawing.names);
    for (size_t i = 0; i < drawing.count; i++) {
        json_t *node = json_array_get(nodes, i);
        drawing.nodes[i].json = node;
        drawing.nodes[i].node = drawing.names[i] = text_of(node, "node");
        drawing.nodes[i].parent = text_of(node, "parent");
    }
    qsort(drawing.nodes, drawing.count, sizeof *drawing.nodes, by_parent);
    qsort(drawing.names, drawing.count, sizeof *drawing.names, by_name);
    drawing.width = width_of(&drawing);
    buf_format(to, "%-*s %-8s %-8s %12s %9s %9s %9s %9s %9s\n", drawing.width, "NODE", "ROLE",
               "STATE", "INDEX", "AGE", "NETWORK", "QUEUE", "APPLY", "SAID");
    // First whose parent is not there; then what is left, should two name each other.
    for (unsigned pass = 0; pass < 2; pass++) {
        for (size_t i = 0; i < drawing.count; i++) {
            const struct drawn_node *node = &drawing.nodes[i];
            if (!node->drawn && (pass == 1 || !is_listed(&drawing, node->parent))) {
                append_branch(&drawing, i);
            }
        }
    }
    mem_free(drawing.nodes);
    mem_free(drawing.names);
}

// ---- around it ---------------------------------------------------------------------------------

static void append_path(struct buf *to, json_t *tree)
{
    json_t *path = json_object_get(tree, "path");
    for (size_t i = 0; i < json_array_size(path); i++) {
        const char *name = json_string_value(json_array_get(path, i));
        buf_format(to, "%s%s", i == 0 ? "path    " : " > ", name == NULL ? "?" : name);
    }
    buf_append_text(to, "\n");
}

static void append_place(struct buf *to, json_t *tree)
{
    append_path(to, tree);
    json_t *parent = json_object_get(tree, "parent");
    if (json_is_object(parent)) {
        char rtt[16];
        put_time(rtt, json_object_get(parent, "rtt_ms"));
        buf_format(to, "parent  %s at %s: %s, round trip %s\n", text_of(parent, "node"),
                   text_of(parent, "address"), text_of(parent, "state"), rtt);
    }
    json_t *children = json_object_get(tree, "children");
    for (size_t i = 0; i < json_array_size(children); i++) {
        json_t *child = json_array_get(children, i);
        char rtt[16], age[16];
        put_time(rtt, json_object_get(child, "rtt_ms"));
        put_time(age, json_object_get(child, "age_ms"));
        buf_format(to, "child   %s %s at %s, index %lld, age %s, round trip %s\n",
                   text_of(child, "node"), text_of(child, "role"), text_of(child, "address"),
                   (long long)json_integer_value(json_object_get(child, "visible_index")), age,
                   rtt);
    }
}

static void append_tree(struct buf *to, json_t *tree)
{
    buf_format(to, "%s: node %s, %s, %s\n", text_of(tree, "instance"), text_of(tree, "node"),
               text_of(tree, "role"), text_of(tree, "state"));
    append_place(to, tree);
    json_t *picture = json_object_get(tree, "tree");
    if (!json_is_object(picture)) {
        return;
    }
    char taken[16];
    put_time(taken, json_object_get(picture, "taken_ms"));
    json_t *nodes = json_object_get(picture, "nodes");
    buf_format(to, "\n%zu nodes, as %s %s ago", json_array_size(nodes),
               is_set(picture, "whole") ? "the root knew them" : "some node knew them", taken);
    if (!is_set(picture, "whole")) {
        buf_format(to, "; NOT THE WHOLE TREE: %s", text_of(picture, "reason"));
    }
    buf_append_text(to, "\n");
    append_nodes(to, nodes, text_of(tree, "node"));
}

int run_tree(struct cli *cli)
{
    bool here = cli_flag(cli, "--here");
    if (!cli_words_fit(cli, 0, 0)) {
        return EXIT_USAGE;
    }
    struct bytes words[] = {bytes_text("QS.TREE"), bytes_text("ALL")};
    redisReply *reply = cli_call_text(cli, here ? 1 : 2, words);
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
