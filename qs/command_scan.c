// SPDX-License-Identifier: Apache-2.0
// Commands that walk keys in order: SCAN KEYS QS.RANGE. Each walk is over one view; a SCAN is
// exact page by page, and its pages are cut by keys looked at, as Redis's are.
#include "qs/cursors.h"
#include "qs/dispatch.h"

#define SCAN_COUNT 10
#define RANGE_LIMIT 1000
#define BAD_INTEGER "ERR value is not an integer or out of range"

static struct cursors *cursors_of(const struct request *request)
{
    return request->session->clients->cursors;
}

// The bytes that every match of the glob begins with.
static struct bytes glob_prefix(struct bytes pattern)
{
    size_t size = 0;
    while (size < pattern.size && strchr("*?[\\", pattern.data[size]) == NULL) {
        size++;
    }
    return bytes_of(pattern.data, size);
}

// The first key behind all that begin with `prefix`; empty when there is none.
static struct bytes prefix_end(struct arena *arena, struct bytes prefix)
{
    while (prefix.size > 0 && prefix.data[prefix.size - 1] == 0xff) {
        prefix.size--;
    }
    if (prefix.size == 0) {
        return prefix;
    }
    uint8_t *end = arena_alloc(arena, prefix.size);
    memcpy(end, prefix.data, prefix.size);
    end[prefix.size - 1]++;
    return bytes_of(end, prefix.size);
}

// Narrows the range to what the glob can match at all.
static void range_match(struct request *request, struct range_read *range, struct bytes pattern)
{
    struct bytes prefix = glob_prefix(pattern);
    range->match = pattern;
    range->end = prefix_end(&request->arena, prefix);
    if (bytes_compare(prefix, range->start) > 0) {
        range->start = prefix;
    }
}

static bool range_sound(const struct range_read *range, struct buf *to)
{
    if (range->status != OK) {
        reply_error_code(to, range->status);
        return false;
    }
    return true;
}

// ---- SCAN --------------------------------------------------------------------------------------

struct scan {
    uint64_t cursor;
    uint64_t count;
    struct bytes match;
    bool none; // TYPE names a type that no key has
};

static bool scan_options(const struct call *call, struct scan *scan, struct buf *to)
{
    for (unsigned i = 2; i < call->word_count; i += 2) {
        struct bytes option = call_word(call, i);
        if (i + 1 == call->word_count) {
            reply_error(to, "ERR syntax error");
            return false;
        }
        struct bytes value = call_word(call, i + 1);
        int64_t count;
        if (word_is(option, "COUNT")) {
            if (!parse_i64(value, &count)) {
                reply_error(to, BAD_INTEGER);
                return false;
            }
            scan->count = count < 1 ? 0 : (uint64_t)count;
        } else if (word_is(option, "MATCH")) {
            scan->match = value;
        } else if (word_is(option, "TYPE")) {
            scan->none = !word_is(value, "string");
        } else {
            scan->count = 0;
        }
        if (scan->count == 0) {
            reply_error(to, "ERR syntax error");
            return false;
        }
    }
    return true;
}

static void reply_page(struct buf *to, uint64_t cursor, uint64_t count)
{
    struct buf text = {0};
    buf_format(&text, "%llu", (unsigned long long)cursor);
    reply_array(to, 2);
    reply_bulk(to, buf_bytes(&text));
    reply_array(to, count);
    buf_free(&text);
}

static bool plan_scan(struct request *request, struct call *call, struct buf *to)
{
    struct scan scan = {.count = SCAN_COUNT};
    struct bytes start = bytes_of(NULL, 0);
    if (!parse_u64(call_word(call, 1), &scan.cursor)) {
        reply_error(to, "ERR invalid cursor");
        return false;
    }
    if (!scan_options(call, &scan, to)) {
        return false;
    }
    if (scan.cursor != 0 &&
        !cursor_find(cursors_of(request), scan.cursor, request->at, &request->arena, &start)) {
        reply_error(to, "ERR invalid cursor");
        return false;
    }
    if (scan.none) {
        reply_page(to, 0, 0);
        return false;
    }
    struct range_read *range = call_range(request, call);
    range->start = start;
    range->limit = UINT64_MAX;
    range->visited_max = u64_min(scan.count, request->session->daemon->config->node.keys_max);
    range_match(request, range, scan.match);
    return true;
}

static void render_scan(struct request *request, struct call *call, struct buf *to)
{
    const struct range_read *range = &call->ranged->range;
    if (!range_sound(range, to)) {
        return;
    }
    uint64_t from = 0;
    CHECK(parse_u64(call_word(call, 1), &from));
    uint64_t next = 0;
    if (range->more) {
        next = cursor_add(cursors_of(request), from, request->at, range->next);
    }
    reply_page(to, next, range->read.count);
    for (unsigned i = 0; i < range->read.count; i++) {
        reply_bulk(to, range->read.lookups[i].key);
    }
}

const struct command_steps *command_scan(void)
{
    static const struct command_steps steps = {
        .plan = plan_scan, .render = render_scan, .aside = true};
    return &steps;
}

// ---- KEYS --------------------------------------------------------------------------------------

static bool plan_keys(struct request *request, struct call *call, struct buf *to)
{
    (void)to;
    struct range_read *range = call_range(request, call);
    range->limit = request->session->daemon->config->node.keys_max;
    range_match(request, range, call_word(call, 1));
    return true;
}

static void render_keys(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    const struct range_read *range = &call->ranged->range;
    if (!range_sound(range, to)) {
        return;
    }
    if (range->more) {
        reply_error_code(to, ERR_KEYS_LIMIT);
        return;
    }
    reply_array(to, range->read.count);
    for (unsigned i = 0; i < range->read.count; i++) {
        reply_bulk(to, range->read.lookups[i].key);
    }
}

const struct command_steps *command_keys(void)
{
    static const struct command_steps steps = {
        .plan = plan_keys, .render = render_keys, .aside = true};
    return &steps;
}

// ---- QS.RANGE ----------------------------------------------------------------------------------

struct range_options {
    uint64_t limit;
    struct bytes at; // empty: the view's index
};

static bool range_options(const struct call *call, struct range_options *options, struct buf *to)
{
    *options = (struct range_options){.limit = RANGE_LIMIT};
    for (unsigned i = 3; i < call->word_count; i += 2) {
        int64_t limit;
        bool last = i + 1 == call->word_count;
        if (!last && word_is(call_word(call, i), "LIMIT")) {
            if (!parse_i64(call_word(call, i + 1), &limit) || limit < 1) {
                reply_error(to, BAD_INTEGER);
                return false;
            }
            options->limit = (uint64_t)limit;
        } else if (!last && word_is(call_word(call, i), "AT") && call_word(call, i + 1).size > 0) {
            options->at = call_word(call, i + 1);
        } else {
            reply_error(to, "ERR syntax error");
            return false;
        }
    }
    return true;
}

static bool plan_range(struct request *request, struct call *call, struct buf *to)
{
    struct range_options options;
    uint64_t at = 0;
    if (!range_options(call, &options, to)) {
        return false;
    }
    if (options.at.size > 0) {
        if (!call_at(request, options.at, &at, to)) {
            return false;
        }
        if (at == 0) { // before the first index there was nothing
            reply_array(to, 0);
            return false;
        }
    }
    struct range_read *range = call_range(request, call);
    range->start = call_word(call, 1);
    range->end = call_word(call, 2);
    range->limit = u64_min(options.limit, request->session->daemon->config->node.keys_max);
    range->read.values = true;
    range->read.at = at;
    return true;
}

static void render_range(struct request *request, struct call *call, struct buf *to)
{
    const struct range_read *range = &call->ranged->range;
    struct range_options options;
    CHECK(range_options(call, &options, to));
    if (!range_sound(range, to)) {
        return;
    }
    // Cut by the client's own limit is an answer; cut by ours is not.
    if (range->more && options.limit > request->session->daemon->config->node.keys_max) {
        reply_error_code(to, ERR_KEYS_LIMIT);
        return;
    }
    for (unsigned i = 0; i < range->read.count; i++) {
        if (range->read.lookups[i].status != OK) {
            reply_error_code(to, range->read.lookups[i].status);
            return;
        }
    }
    reply_array(to, (uint64_t)range->read.count * 2);
    for (unsigned i = 0; i < range->read.count; i++) {
        reply_bulk(to, range->read.lookups[i].key);
        reply_bulk(to, range->read.lookups[i].record.value);
    }
}

const struct command_steps *command_qs_range(void)
{
    static const struct command_steps steps = {
        .plan = plan_range, .render = render_range, .aside = true};
    return &steps;
}
