// SPDX-License-Identifier: Apache-2.0
// Reading at one view: plan every call -> read the facts (presence, version, length: watched keys
// too) and the values, each as one read -> ranges, and keys as of earlier indexes, one after
// another -> answer all calls in order.
// One GET takes the same way as an EXEC of many commands.
#include "qs/request.h"
#include "qs/session.h"

static void answer_all(struct request *request, struct buf *to)
{
    if (request->conflict) {
        reply_nil_array(to, request->protocol);
        return;
    }
    if (request->exec) {
        reply_array(to, request->call_count);
    }
    for (unsigned i = 0; i < request->call_count; i++) {
        request_render(request, &request->calls[i], to);
    }
}

static void finish(struct request *request)
{
    answer_all(request, request_out(request));
    for (unsigned i = 0; i < REQUEST_READS; i++) {
        read_release(&request->reads[i]);
    }
    for (unsigned i = 0; i < request->call_count; i++) {
        if (request->calls[i].ranged != NULL) {
            range_release(&request->calls[i].ranged->range);
        }
        if (request->calls[i].past != NULL) {
            read_release(&request->calls[i].past->read);
        }
    }
    request_finish(request);
}

// ---- calls that read by themselves -------------------------------------------------------------

static void setup_read(struct request *request, struct read *read)
{
    read->instance = request->at->instance;
    read->readers = request->session->daemon->readers;
    read->loop = request->session->home->loop;
    read->view = view_hold(request->view);
    read->reply_limit = request->reply_left;
}

// The next call with a range or a key as of an earlier index, NULL after the last.
static struct call *take_call(struct request *request)
{
    while (request->call_next < request->call_count && !request->conflict) {
        struct call *call = &request->calls[request->call_next++];
        if ((call->ranged != NULL || call->past != NULL) && !call->answered) {
            return call;
        }
    }
    return NULL;
}

static void range_done(struct range_read *range);
static void past_done(struct read *read);

static void next_call(struct request *request)
{
    struct call *call = take_call(request);
    if (call == NULL) {
        finish(request);
    } else if (call->ranged != NULL) {
        struct range_read *range = &call->ranged->range;
        setup_read(request, &range->read);
        range->done = range_done;
        range_start(range);
    } else {
        struct read *read = &call->past->read;
        setup_read(request, read);
        read->lookups = &call->past->lookup;
        read->count = 1;
        read->values = true;
        read->done = past_done;
        read_start(read);
    }
}

// Always from the loop: a range is never finished before range_start returns.
static void range_done(struct range_read *range)
{
    struct request *request = CONTAINER_OF(range, struct call_range, range)->request;
    request->reply_left -= u64_min(request->reply_left - 1, range->bytes);
    next_call(request);
}

static void past_go_on(struct task *task)
{
    struct read *read = CONTAINER_OF(task, struct read, job.done);
    struct call_past *past = CONTAINER_OF(read, struct call_past, read);
    uint64_t length = past->lookup.status == OK ? past->lookup.record.length : 0;
    past->request->reply_left -= u64_min(past->request->reply_left - 1, length);
    next_call(past->request);
}

// It may be done before it has begun: the next one has a turn of its own, so that many in one EXEC
// do not nest.
static void past_done(struct read *read)
{
    read->job.done.run = past_go_on;
    loop_post(read->loop, &read->job.done);
}

// ---- keys --------------------------------------------------------------------------------------

static void compare_watched(struct request *request)
{
    const struct lookup *lookups = request->reads[READ_FACTS].lookups;
    for (unsigned i = 0; i < request->watched_count; i++) {
        bool known = lookups[i].status == OK || lookups[i].status == ERR_NOT_FOUND;
        uint64_t version = lookups[i].status == OK ? lookups[i].record.version : 0;
        if (!known || version != request->watched[i].version ||
            request->at != request->watched[i].at) {
            request->conflict = true;
        }
    }
}

static void reads_step(struct request *request)
{
    if (--request->reads_pending > 0) {
        return;
    }
    compare_watched(request);
    const struct read *values = &request->reads[READ_VALUES];
    for (unsigned i = 0; i < values->count; i++) {
        const struct lookup *lookup = &values->lookups[i];
        uint64_t length = lookup->status == OK ? lookup->record.length : 0;
        request->reply_left -= u64_min(request->reply_left - 1, length);
    }
    next_call(request);
}

static void facts_done(struct read *read)
{
    reads_step(CONTAINER_OF(read, struct request, reads[READ_FACTS]));
}

static void values_done(struct read *read)
{
    reads_step(CONTAINER_OF(read, struct request, reads[READ_VALUES]));
}

// Gives every call its stretch of the lookups: watched keys first, then the facts, then the values.
static void lay_out(struct request *request, unsigned facts, unsigned values)
{
    struct lookup *lookups = request_lookups(request, facts + values);
    struct lookup *next[REQUEST_READS] = {lookups, lookups + facts};
    request->reads[READ_FACTS].lookups = lookups;
    request->reads[READ_FACTS].count = facts;
    request->reads[READ_VALUES].lookups = lookups + facts;
    request->reads[READ_VALUES].count = values;
    for (unsigned i = 0; i < request->watched_count; i++) {
        (next[READ_FACTS]++)->key = request->watched[i].key;
    }
    for (unsigned i = 0; i < request->call_count; i++) {
        struct call *call = &request->calls[i];
        struct lookup **at = &next[call->values ? READ_VALUES : READ_FACTS];
        call->lookups = *at;
        for (unsigned k = 0; k < call->key_count; k++) {
            ((*at)++)->key = call->words[call->key_first + k];
        }
    }
}

void request_plan(struct request *request)
{
    unsigned counts[REQUEST_READS] = {request->watched_count, 0};
    unsigned ranges = 0;
    unsigned pasts = 0;
    for (unsigned i = 0; i < request->call_count; i++) {
        struct call *call = &request->calls[i];
        bool plans = call->steps->plan != NULL && !(request->writing && call->steps->aside);
        if (plans && !call->answered && !call->steps->plan(request, call, &call->early)) {
            call->answered = true;
            call->key_count = 0;
        }
        counts[call->values ? READ_VALUES : READ_FACTS] += call->key_count;
        ranges += call->ranged != NULL ? 1 : 0;
        pasts += call->past != NULL ? 1 : 0;
    }
    lay_out(request, counts[READ_FACTS], counts[READ_VALUES]);
    unsigned keys = counts[READ_FACTS] + counts[READ_VALUES] + pasts;
    request->cost = ranges > 0 || keys > SESSION_COST_MAX ? SESSION_COST_MAX : keys;
    if (request->session != NULL) {
        request->session->cost += request->cost;
    }
}

static bool needs_view(const struct request *request)
{
    bool needs = request->watched_count > 0;
    for (unsigned i = 0; i < request->call_count; i++) {
        unsigned flags = request->calls[i].command->flags;
        needs = needs || (flags & (COMMAND_READ | COMMAND_INSTANCE)) != 0;
    }
    return needs;
}

// What stood in the way of reading has come.
static void own_reached(struct request *request, uint64_t visible)
{
    (void)visible;
    request_read(request);
}

void request_read(struct request *request)
{
    struct buf refusal = {0};
    if (needs_view(request) && request_await_own(request, own_reached)) {
        return;
    }
    if (needs_view(request) && !request_pin(request, &refusal)) {
        buf_append_bytes(request_out(request), buf_bytes(&refusal));
        buf_free(&refusal);
        request_finish(request);
        return;
    }
    request_plan(request);
    request->reply_left = request->session->daemon->config->node.reply_bytes;
    static void (*const done[REQUEST_READS])(struct read *) = {facts_done, values_done};
    // One more than there are reads: a read may be done before read_start returns.
    request->reads_pending = 1;
    for (unsigned i = 0; i < REQUEST_READS; i++) {
        struct read *read = &request->reads[i];
        if (read->count > 0) {
            setup_read(request, read);
            read->values = i == READ_VALUES;
            read->done = done[i];
            request->reads_pending++;
            read_start(read);
        }
    }
    reads_step(request);
}
