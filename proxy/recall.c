// SPDX-License-Identifier: Apache-2.0
// A call is always in one of two states: a replica is asked (`source` is set), or it waits for the
// next tick of the timer, which asks, gives up waiting for an answer, and ends what is over. One
// that found no room for it waits for some, too. Fetches and these share
// one budget, and what a replica may have in flight, so each end of one wakes the other.
#include "proxy/recall.h"

#include "common/base/mem.h"
#include "common/wire/past_items.h"
#include "proxy/fetcher.h"
#include "proxy/proxy.h"

#define TICK_NS (20 * NS_PER_MS) // also the pause between two rounds
#define ATTEMPTS 3               // a replica has this part of the time before another is asked
// What an answer is taken to bring until it is here and can be counted.
#define ANSWER_BYTES (64 * KIB)

struct recall_call {
    struct list node;
    struct list busy; // in recalls->busy, while all replicas are
    struct task task;
    struct fetcher *fetcher;
    struct read *read;
    struct range_read *range; // whose read it is, or NULL
    unsigned position;        // lookups before this one are resolved
    struct buf from;          // where the range goes on
    uint64_t bytes;           // of values
    uint64_t deadline_ns;
    struct source *source;    // being asked, NULL = none
    bool probe;               // ... to find out whether it has recovered
    uint64_t id;
    uint64_t asked_ns;
    // Of this round:
    uint64_t tried;
    unsigned asked, gone, behind;
    int verdict; // of the last whole round
};

// ---- ends --------------------------------------------------------------------------------------

static void call_done(struct task *task)
{
    struct recall_call *call = CONTAINER_OF(task, struct recall_call, task);
    struct read *read = call->read;
    struct range_read *range = call->range;
    buf_free(&call->from);
    mem_free(call);
    if (range != NULL) {
        range_ended(range);
    } else {
        read_resolved(read);
    }
}

// The replica that was asked is asked no more.
static void leave_source(struct recall_call *call)
{
    if (call->source != NULL) {
        pool_over(&call->fetcher->pool, call->source->number, ANSWER_BYTES);
        budget_return(&call->fetcher->budget, ANSWER_BYTES);
        call->source = NULL;
        fetcher_stir(call->fetcher);
    }
}

// What is not resolved by now gets `error`.
static void call_end(struct recall_call *call, int error)
{
    struct fetcher *fetcher = call->fetcher;
    if (call->source != NULL) {
        pool_dropped(&fetcher->pool, call->source->number);
    }
    leave_source(call);
    list_remove(&call->busy);
    list_remove(&call->node);
    fetcher->recalls.count--;
    METRIC_SET(fetcher->instance->metrics, instance, recalls_under_way, fetcher->recalls.count);
    if (error != OK) {
        METRIC_ADD(fetcher->instance->metrics, instance, recalls_failed, 1);
    }
    if (call->range != NULL) {
        call->range->status = call->range->status != OK ? call->range->status : error;
    }
    for (unsigned i = call->position; i < call->read->count && error != OK; i++) {
        if (call->range == NULL && call->read->lookups[i].past) {
            call->read->lookups[i].status = error;
        }
    }
    call->task.run = call_done;
    loop_post(call->read->loop, &call->task);
}

// ---- asking ------------------------------------------------------------------------------------

// Passes over lookups that need no asking. False: there is none left.
static bool next_lookup(struct recall_call *call)
{
    const struct read *read = call->read;
    while (call->position < read->count && !read->lookups[call->position].past) {
        call->position++;
    }
    return call->position < read->count;
}

static void send_look(struct recall_call *call, struct buf *to)
{
    const struct read *read = call->read;
    struct buf items = {0};
    unsigned count = 0;
    for (unsigned i = call->position; i < read->count && count < FETCH_ITEMS_MAX; i++) {
        if (read->lookups[i].past) {
            past_key_append(&items, read->lookups[i].key);
            count++;
        }
    }
    const struct message_look message = {
        .id = call->id, .at = read->at, .items = buf_bytes(&items)};
    message_look_encode(to, &message);
    buf_free(&items);
}

// No key is longer than a bound, so cutting one moves it past no key.
static struct bytes cut(struct bytes bound)
{
    return bytes_of(bound.data, u64_min(bound.size, PAST_BOUND_MAX));
}

static void send_past(struct recall_call *call, struct buf *to)
{
    const struct range_read *range = call->range;
    // One more than is wanted tells whether there are more.
    uint64_t left = range->limit - range->read.count;
    const struct message_past message = {.id = call->id,
                                         .at = range->read.at,
                                         .start = cut(buf_bytes(&call->from)),
                                         .end = cut(range->end),
                                         .limit = u64_min(left, PAST_ROWS_MAX - 1) + 1};
    message_past_encode(to, &message);
}

// Every replica that could be asked has been. True: the call has ended.
static bool round_over(struct recall_call *call)
{
    bool all_gone = call->asked > 0 && call->gone == call->asked;
    bool all_behind = call->behind > 0 && call->gone + call->behind == call->asked;
    call->verdict = all_behind ? ERR_BEHIND : ERR_UNAVAILABLE;
    call->tried = 0;
    call->asked = call->gone = call->behind = 0;
    // One that is connected but in quarantine might still have it.
    const struct pool *pool = &call->fetcher->pool;
    if (all_gone && pool_healthy(pool) == pool_connected(pool)) {
        call_end(call, ERR_GONE);
        return true;
    }
    if (!fetcher_hopeful(call->fetcher)) {
        call_end(call, ERR_UNAVAILABLE);
        return true;
    }
    return false;
}

static void ask(struct recall_call *call)
{
    struct fetcher *fetcher = call->fetcher;
    list_remove(&call->busy);
    if ((pool_askable(&fetcher->pool) & ~call->tried) == 0) {
        (void)round_over(call); // the next one begins with the next tick
        return;
    }
    uint64_t now_ns = fetcher_now_ns(fetcher);
    int number = -1;
    if (budget_room(&fetcher->budget, now_ns) > 0) {
        number = pool_choose(&fetcher->pool, call->read->at, call->tried, false, now_ns);
    }
    if (number < 0) {
        list_append(&fetcher->recalls.busy, &call->busy);
        return;
    }
    struct source *source = &fetcher->sources[number];
    if (source_state(source) != SOURCE_READY) {
        return; // it is being left
    }
    call->tried |= (uint64_t)1 << number;
    // No check vouches for an answer about the past, so it must be of the read's own history.
    if (memcmp(source->history, call->read->view->history, HISTORY_ID_BYTES) != 0) {
        return;
    }
    call->asked++;
    call->source = source;
    call->asked_ns = now_ns;
    call->id = fetcher->recalls.next_id++;
    budget_take(&fetcher->budget, ANSWER_BYTES);
    call->probe = pool_sent(&fetcher->pool, source->number, ANSWER_BYTES);
    if (call->range != NULL) {
        send_past(call, link_out(&source->link));
    } else {
        send_look(call, link_out(&source->link));
    }
    link_wrote(&source->link);
    METRIC_ADD(fetcher->instance->metrics, instance, recalls_sent, 1);
}

void recall_serve(struct fetcher *fetcher)
{
    struct list *node;
    bool served = true;
    while (served && (node = list_take(&fetcher->recalls.busy)) != NULL) {
        struct recall_call *call = CONTAINER_OF(node, struct recall_call, busy);
        ask(call);
        served = list_empty(&fetcher->recalls.busy) ||
                 fetcher->recalls.busy.prev != &call->busy;
    }
}

// The replica that was asked did not answer the question.
static void refused(struct recall_call *call, enum fetch_status status)
{
    leave_source(call);
    call->gone += status == FETCH_GONE ? 1 : 0;
    call->behind += status == FETCH_BEHIND ? 1 : 0;
    ask(call);
}

// ---- beginnings --------------------------------------------------------------------------------

static void on_tick(struct timer *timer)
{
    struct fetcher *fetcher = CONTAINER_OF(timer, struct fetcher, recalls.timer);
    uint64_t now_ns = fetcher_now_ns(fetcher);
    LIST_FOR_EACH(node, &fetcher->recalls.calls) {
        struct recall_call *call = CONTAINER_OF(node, struct recall_call, node);
        if (now_ns >= call->deadline_ns) {
            call_end(call, call->verdict);
        } else if (call->source == NULL) {
            ask(call);
        } else if (now_ns - call->asked_ns >= fetcher->wait_ns / ATTEMPTS) {
            fetcher_fault(fetcher, call->source, "it does not answer in time");
            refused(call, FETCH_ERROR);
        }
    }
    if (fetcher->recalls.count > 0) {
        loop_timer_set(fetcher->instance->home, timer, TICK_NS);
    }
}

static void call_begin(struct task *task)
{
    struct recall_call *call = CONTAINER_OF(task, struct recall_call, task);
    struct fetcher *fetcher = call->fetcher;
    struct recalls *recalls = &fetcher->recalls;
    list_append(&recalls->calls, &call->node);
    recalls->count++;
    METRIC_ADD(fetcher->instance->metrics, instance, recalls, 1);
    METRIC_SET(fetcher->instance->metrics, instance, recalls_under_way, recalls->count);
    if (recalls->count == 1) {
        loop_timer_set(fetcher->instance->home, &recalls->timer, TICK_NS);
    }
    call->deadline_ns = fetcher_now_ns(fetcher) + fetcher->wait_ns;
    if (recalls->count > fetcher->instance->options->fetch_max) {
        call_end(call, ERR_BUSY);
    } else if (!fetcher_hopeful(fetcher)) {
        call_end(call, ERR_UNAVAILABLE);
    } else if (call->range == NULL && !next_lookup(call)) {
        call_end(call, OK);
    } else {
        ask(call);
    }
}

static void begin(struct instance *instance, struct read *read, struct range_read *range)
{
    struct recall_call *call = mem_zalloc(sizeof *call);
    list_init(&call->node);
    list_init(&call->busy);
    call->fetcher = ((struct proxy *)instance->role_state)->fetcher;
    call->read = read;
    call->range = range;
    call->verdict = ERR_UNAVAILABLE;
    if (range != NULL) {
        buf_append_bytes(&call->from, range->start);
    }
    call->task.run = call_begin;
    loop_post(instance->home, &call->task);
}

void recall_read(struct instance *instance, struct read *read) { begin(instance, read, NULL); }

void recall_range(struct instance *instance, struct range_read *range)
{
    begin(instance, &range->read, range);
}

void recalls_open(struct recalls *recalls)
{
    list_init(&recalls->calls);
    list_init(&recalls->busy);
    recalls->next_id = 1;
    timer_init(&recalls->timer, on_tick);
}

// ---- answers -----------------------------------------------------------------------------------

// Is it a row that a replica could hold at the index?
static bool is_sound(const struct recall_call *call, const struct past_row *row)
{
    return row->version != 0 && row->version <= call->read->at &&
           record_check(row->version, row->value) == row->check;
}

static struct record record_of(const struct past_row *row)
{
    return (struct record){.version = row->version,
                           .length = (uint32_t)row->value.size,
                           .check = row->check,
                           .held = true,
                           .value = row->value};
}

static enum fetch_status take_looked(struct recall_call *call, struct bytes items)
{
    while (items.size > 0) {
        struct past_row row = past_row_next(&items);
        struct lookup *lookup = &call->read->lookups[call->position];
        bool expected = next_lookup(call) && bytes_equal(row.key, lookup->key);
        if (!expected || (row.version != 0 && !is_sound(call, &row))) {
            return FETCH_ERROR;
        }
        const struct record record = record_of(&row);
        lookup_recall(call->read, lookup, row.version != 0 ? OK : ERR_NOT_FOUND, &record,
                      &call->bytes);
        call->position++;
        (void)next_lookup(call);
    }
    return FETCH_EXACT;
}

// Sets *ret_over when the range takes no more.
static enum fetch_status take_pasted(struct recall_call *call, struct bytes items, bool *ret_over)
{
    struct range_read *range = call->range;
    while (items.size > 0 && !*ret_over) {
        struct past_row row = past_row_next(&items);
        bool inside = bytes_compare(row.key, buf_bytes(&call->from)) >= 0 &&
                      (range->end.size == 0 || bytes_compare(row.key, range->end) < 0);
        if (!inside || !is_sound(call, &row)) {
            return FETCH_ERROR;
        }
        const struct record record = record_of(&row);
        range_slice(range);
        *ret_over = !range_offer(range, row.key, OK, &record);
        buf_clear(&call->from); // behind this key
        buf_append_bytes(&call->from, row.key);
        buf_append(&call->from, "", 1);
    }
    return FETCH_EXACT;
}

static void note_bad(struct recall_call *call)
{
    struct fetcher *fetcher = call->fetcher;
    METRIC_ADD(fetcher->instance->metrics, instance, fetch_bad, 1);
    LOG_GATED(&fetcher->bad_gate, LOG_ERROR, fetcher->instance->name,
              "replica %s gave a row of the past that fails its check, another is asked",
              call->source->text);
}

// Takes what came; on FETCH_EXACT it was of use and, if *ret_over, all.
static enum fetch_status take(struct recall_call *call, const struct message_pasted *answer,
                              bool *ret_over)
{
    if (call->range == NULL) {
        enum fetch_status status =
            answer->items.size > 0 ? take_looked(call, answer->items) : FETCH_ERROR;
        *ret_over = call->position == call->read->count;
        return status;
    }
    enum fetch_status status = take_pasted(call, answer->items, ret_over);
    if (status != FETCH_EXACT || *ret_over) {
        return status;
    }
    *ret_over = answer->next.size == 0;
    // It may have passed keys that were not there, but must not go back.
    bool forward = bytes_compare(answer->next, buf_bytes(&call->from)) > 0 ||
                   (answer->items.size > 0 &&
                    bytes_compare(answer->next, buf_bytes(&call->from)) == 0);
    if (!*ret_over && !forward) {
        return FETCH_ERROR;
    }
    buf_clear(&call->from);
    buf_append_bytes(&call->from, answer->next);
    return FETCH_EXACT;
}

static void answered(struct recall_call *call, const struct message_pasted *answer)
{
    struct fetcher *fetcher = call->fetcher;
    struct source *source = call->source;
    uint64_t now_ns = fetcher_now_ns(fetcher);
    uint64_t came = u64_min(answer->items.size, ANSWER_BYTES);
    budget_refund(&fetcher->budget, ANSWER_BYTES - came);
    pool_reported(&fetcher->pool, source->number, answer->visible, answer->floor, now_ns);
    pool_measured(&fetcher->pool, source->number, now_ns - call->asked_ns, now_ns);
    enum fetch_status status = (enum fetch_status)answer->status;
    bool over = false;
    if (status == FETCH_EXACT) {
        status = take(call, answer, &over);
        if (status != FETCH_EXACT) {
            note_bad(call);
        }
    }
    // That it cannot read this row says nothing of others: who asks for it again and again must not
    // take the replica from everybody. A probe, though, is judged by what it brought.
    bool owned_up = answer->status == FETCH_ERROR && !call->probe;
    if ((status == FETCH_ERROR || status == FETCH_NEVER) && !owned_up) {
        fetcher_fault(fetcher, source, "its answers cannot be used");
    } else if (!owned_up) {
        pool_succeeded(&fetcher->pool, source->number);
    }
    if (status != FETCH_EXACT) {
        refused(call, status);
    } else if (over) {
        call_end(call, OK);
    } else {
        leave_source(call);
        call->tried = 0;
        call->asked = call->gone = call->behind = 0;
        ask(call);
    }
}

static int decode(uint16_t code, struct bytes payload, struct message_pasted *ret_answer)
{
    int error;
    if (code == MESSAGE_looked) {
        struct message_looked looked = {0};
        error = message_looked_decode(payload, &looked);
        *ret_answer = (struct message_pasted){.id = looked.id,
                                              .status = looked.status,
                                              .visible = looked.visible,
                                              .floor = looked.floor,
                                              .items = looked.items};
    } else {
        error = message_pasted_decode(payload, ret_answer);
    }
    if (error != OK) {
        return error;
    }
    unsigned count;
    error = past_rows_check(ret_answer->items, &count);
    bool fits = ret_answer->status <= FETCH_ERROR && ret_answer->next.size <= PAST_BOUND_MAX;
    return error == OK && !fits ? ERR_PROTOCOL : error;
}

int recall_message(struct fetcher *fetcher, struct source *source, uint16_t code,
                   struct bytes payload)
{
    if (code != MESSAGE_looked && code != MESSAGE_pasted) {
        return ERR_PROTOCOL;
    }
    struct message_pasted answer = {0};
    int error = decode(code, payload, &answer);
    if (error != OK) {
        return error;
    }
    // Also what nobody waits for any more.
    budget_owe(&fetcher->budget, answer.items.size - u64_min(answer.items.size, ANSWER_BYTES));
    LIST_FOR_EACH(node, &fetcher->recalls.calls) {
        struct recall_call *call = CONTAINER_OF(node, struct recall_call, node);
        if (call->source == source && call->id == answer.id) {
            if ((call->range != NULL) != (code == MESSAGE_pasted)) {
                return ERR_PROTOCOL;
            }
            answered(call, &answer);
            return OK;
        }
    }
    // Nobody waits any more, or nobody ever asked.
    return answer.id < fetcher->recalls.next_id ? OK : ERR_PROTOCOL;
}

void recall_lost(struct fetcher *fetcher, struct source *source)
{
    LIST_FOR_EACH(node, &fetcher->recalls.calls) {
        struct recall_call *call = CONTAINER_OF(node, struct recall_call, node);
        if (call->source == source) {
            budget_refund(&fetcher->budget, ANSWER_BYTES);
            leave_source(call); // another is asked with the next tick
        }
    }
}

void recall_forget(struct fetcher *fetcher, unsigned number)
{
    LIST_FOR_EACH(node, &fetcher->recalls.calls) {
        CONTAINER_OF(node, struct recall_call, node)->tried &= ~((uint64_t)1 << number);
    }
}

void recall_close(struct fetcher *fetcher)
{
    while (!list_empty(&fetcher->recalls.calls)) {
        call_end(CONTAINER_OF(fetcher->recalls.calls.next, struct recall_call, node),
                 ERR_UNAVAILABLE);
    }
    loop_timer_clear(&fetcher->recalls.timer);
}
