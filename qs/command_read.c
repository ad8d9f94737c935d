// SPDX-License-Identifier: Apache-2.0
// Redis's commands that read keys: GET MGET EXISTS STRLEN TYPE TTL PTTL. Each plans its keys and
// renders what was found; where that was found, in a view or a transaction, makes no difference.
#include "qs/dispatch.h"

static bool plan_value(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    return call_keys(call, 1, 1, true, to);
}

static bool plan_values(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    return call_keys(call, 1, call->word_count - 1, true, to);
}

static bool plan_facts(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    return call_keys(call, 1, call->word_count - 1, false, to);
}

static void reply_value(const struct lookup *lookup, int protocol, struct buf *to)
{
    if (lookup->status == OK) {
        reply_bulk(to, lookup->record.value);
    } else {
        reply_nil(to, protocol);
    }
}

static void render_get(struct request *request, struct call *call, struct buf *to)
{
    if (call_sound(call, to)) {
        reply_value(&call->lookups[0], request->protocol, to);
    }
}

const struct command_steps *command_get(void)
{
    static const struct command_steps steps = {.plan = plan_value, .render = render_get};
    return &steps;
}

static void render_mget(struct request *request, struct call *call, struct buf *to)
{
    if (!call_sound(call, to)) {
        return;
    }
    reply_array(to, call->key_count);
    for (unsigned i = 0; i < call->key_count; i++) {
        reply_value(&call->lookups[i], request->protocol, to);
    }
}

const struct command_steps *command_mget(void)
{
    static const struct command_steps steps = {.plan = plan_values, .render = render_mget};
    return &steps;
}

// A key that is named twice counts twice, as in Redis.
static void render_exists(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    if (!call_sound(call, to)) {
        return;
    }
    int64_t count = 0;
    for (unsigned i = 0; i < call->key_count; i++) {
        count += call->lookups[i].status == OK ? 1 : 0;
    }
    reply_integer(to, count);
}

const struct command_steps *command_exists(void)
{
    static const struct command_steps steps = {.plan = plan_facts, .render = render_exists};
    return &steps;
}

static void render_strlen(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    if (call_sound(call, to)) {
        const struct lookup *lookup = &call->lookups[0];
        reply_integer(to, lookup->status == OK ? (int64_t)lookup->record.length : 0);
    }
}

const struct command_steps *command_strlen(void)
{
    static const struct command_steps steps = {
        .plan = plan_facts, .render = render_strlen, .lengths = true};
    return &steps;
}

static void render_type(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    if (call_sound(call, to)) {
        reply_simple(to, call->lookups[0].status == OK ? "string" : "none");
    }
}

const struct command_steps *command_type(void)
{
    static const struct command_steps steps = {.plan = plan_facts, .render = render_type};
    return &steps;
}

static void render_ttl(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    if (call_sound(call, to)) {
        reply_integer(to, call->lookups[0].status == OK ? -1 : -2);
    }
}

const struct command_steps *command_ttl(void)
{
    static const struct command_steps steps = {.plan = plan_facts, .render = render_ttl};
    return &steps;
}
