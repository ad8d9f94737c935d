// SPDX-License-Identifier: Apache-2.0
// qs's reads of keys: QS.GET QS.MGET QS.GETAT. Each value comes with its version and an index: the
// view's, or, in a transaction that writes, the transaction's, or the one that was asked for.
#include "qs/dispatch.h"
#include "qs/token.h"

// Longer than any process lives, and still a sound number of nanoseconds.
#define WAIT_MS_MAX ((int64_t)10 * 365 * 86400 * 1000)

static void reply_versioned(const struct request *request, const struct lookup *lookup,
                            uint64_t index, struct buf *to)
{
    reply_array(to, 3);
    if (lookup->status == OK) {
        reply_bulk(to, lookup->record.value);
        reply_integer(to, (int64_t)lookup->record.version);
    } else {
        reply_nil(to, request->protocol);
        reply_integer(to, 0);
    }
    reply_integer(to, (int64_t)index);
}

// ---- QS.GET, QS.MGET ---------------------------------------------------------------------------

// What stands behind the keys: MININDEX index|token ms.
struct least {
    unsigned keys;
    bool named;
    struct token token;
    uint64_t ms;
};

static bool least_words(const struct call *call, struct least *least, struct buf *to)
{
    unsigned count = call->word_count;
    *least = (struct least){.keys = count - 1};
    if (count < 5 || !word_is(call_word(call, count - 3), "MININDEX")) {
        return true;
    }
    int64_t ms;
    least->named = true;
    least->keys = count - 4;
    if (token_parse(call_word(call, count - 2), &least->token) != OK) {
        reply_error(to, "ERR value is not an integer or out of range");
        return false;
    }
    if (!parse_i64(call_word(call, count - 1), &ms) || ms > WAIT_MS_MAX) {
        reply_error(to, "ERR timeout is not an integer or out of range");
        return false;
    }
    if (ms < 0) {
        reply_error(to, "ERR timeout is negative");
        return false;
    }
    least->ms = (uint64_t)ms;
    return true;
}

// Words that are wrong are the plan's to answer.
static bool least_values(struct call *call, struct token *ret_least, uint64_t *ret_ms)
{
    struct buf error = {0};
    struct least least;
    bool named = least_words(call, &least, &error) && least.named;
    buf_free(&error);
    if (named) {
        *ret_least = least.token;
        *ret_ms = least.ms;
    }
    return named;
}

static bool plan_values(struct request *request, struct call *call, struct buf *to)
{
    struct least least;
    if (!least_words(call, &least, to)) {
        return false;
    }
    if (least.named && request->exec) {
        reply_error(to, "ERR MININDEX is not allowed inside a transaction");
        return false;
    }
    return call_keys(call, 1, least.keys, true, to);
}

static bool plan_value(struct request *request, struct call *call, struct buf *to)
{
    bool whole = call->word_count == 5 && word_is(call_word(call, 2), "MININDEX");
    if (call->word_count != 2 && !whole) {
        reply_error(to, "ERR syntax error");
        return false;
    }
    return plan_values(request, call, to);
}

static void render_qs_get(struct request *request, struct call *call, struct buf *to)
{
    if (call_sound(call, to)) {
        reply_versioned(request, &call->lookups[0], request->index, to);
    }
}

const struct command_steps *command_qs_get(void)
{
    static const struct command_steps steps = {
        .least = least_values, .plan = plan_value, .render = render_qs_get, .indexed = true};
    return &steps;
}

static void render_qs_mget(struct request *request, struct call *call, struct buf *to)
{
    if (!call_sound(call, to)) {
        return;
    }
    reply_array(to, call->key_count);
    for (unsigned i = 0; i < call->key_count; i++) {
        reply_versioned(request, &call->lookups[i], request->index, to);
    }
}

const struct command_steps *command_qs_mget(void)
{
    static const struct command_steps steps = {
        .least = least_values, .plan = plan_values, .render = render_qs_mget, .indexed = true};
    return &steps;
}

// ---- QS.GETAT ----------------------------------------------------------------------------------

static bool plan_getat(struct request *request, struct call *call, struct buf *to)
{
    uint64_t at;
    if (!key_check(call_word(call, 1), to) || !call_at(request, call_word(call, 2), &at, to)) {
        return false;
    }
    if (at == 0) { // before the first index there was nothing, however far the history reaches
        reply_versioned(request, &(struct lookup){.status = ERR_NOT_FOUND}, 0, to);
        return false;
    }
    call_past(request, call, call_word(call, 1), at);
    return true;
}

static void render_getat(struct request *request, struct call *call, struct buf *to)
{
    const struct lookup *lookup = &call->past->lookup;
    if (lookup->status == OK || lookup->status == ERR_NOT_FOUND) {
        reply_versioned(request, lookup, call->past->read.at, to);
    } else {
        reply_error_code(to, lookup->status);
    }
}

const struct command_steps *command_qs_getat(void)
{
    static const struct command_steps steps = {
        .plan = plan_getat, .render = render_getat, .aside = true};
    return &steps;
}
