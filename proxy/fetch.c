// SPDX-License-Identifier: Apache-2.0
// The replicas' side of fetching: what they do to flights, how they come and go; opening, closing.
#include "proxy/fetch.h"

#include "common/base/mem.h"
#include "proxy/fetcher.h"
#include "proxy/proxy.h"

#define CALL_SHARE 4 // one call may take this part of fetch_max at once

// ---- requests ----------------------------------------------------------------------------------

void fetcher_unburden(struct fetcher *fetcher, struct source *source,
                      const struct source_request *request)
{
    pool_over(&fetcher->pool, source->number, request->bytes);
    if (!request->late) {
        budget_return(&fetcher->budget, request->bytes);
    }
}

static void note_quarantine(struct fetcher *fetcher, const struct source *source, const char *what)
{
    const struct pool_member *member = &fetcher->pool.members[source->number];
    METRIC_ADD(fetcher->instance->metrics, instance, fetch_quarantines, 1);
    LOG_GATED(&fetcher->quarantine_gate, LOG_WARN, fetcher->instance->name,
              "replica %s is in quarantine for %llu ms, after %u errors in a row: %s", source->text,
              (unsigned long long)((member->until_ns - fetcher_now_ns(fetcher)) / NS_PER_MS),
              member->errors, what);
}

void fetcher_fault(struct fetcher *fetcher, struct source *source, const char *what)
{
    if (pool_failed(&fetcher->pool, source->number, fetcher_now_ns(fetcher))) {
        note_quarantine(fetcher, source, what);
    }
}

static void note_refusal(struct fetcher *fetcher, enum fetch_status status)
{
    struct instance_metrics *metrics = fetcher->instance->metrics;
    if (status == FETCH_BEHIND) {
        METRIC_ADD(metrics, instance, fetch_behind, 1);
    } else if (status == FETCH_GONE) {
        METRIC_ADD(metrics, instance, fetch_gone, 1);
    } else if (status == FETCH_NEVER) {
        METRIC_ADD(metrics, instance, fetch_never, 1);
    }
}

static void note_bad(struct fetcher *fetcher, const struct source *source)
{
    METRIC_ADD(fetcher->instance->metrics, instance, fetch_bad, 1);
    LOG_GATED(&fetcher->bad_gate, LOG_ERROR, fetcher->instance->name,
              "replica %s gave a value that fails its check, another is asked", source->text);
}

// One item of an answer, for a flight that still waits. False: it is no answer at all, or a lie.
static bool settle(struct fetcher *fetcher, struct source *source, struct source_request *request,
                   unsigned i, const struct fetch_answer *answer)
{
    struct flight *flight = request->flights[i];
    enum fetch_status status = answer->status;
    flight_leave(flight, &request->flights[i]);
    if (status == FETCH_EXACT && flight_fits(flight, answer->value)) {
        METRIC_ADD(fetcher->instance->metrics, instance, fetch_bytes, answer->value.size);
        METRIC_ADD(fetcher->instance->metrics, instance, fetch_hedges_won, request->hedge ? 1 : 0);
        fetcher_land(fetcher, flight, answer->value);
        return true;
    }
    if (status == FETCH_EXACT) {
        note_bad(fetcher, source);
        status = FETCH_ERROR;
    } else {
        budget_refund(&fetcher->budget, flight->length);
    }
    note_refusal(fetcher, status);
    fetcher_refused(fetcher, flight, status);
    return status != FETCH_ERROR;
}

static void on_answers(struct source *source, struct source_request *request,
                       const struct message_fetched *message, const struct fetch_answer *answers)
{
    struct fetcher *fetcher = source->owner;
    struct instance_metrics *metrics = fetcher->instance->metrics;
    uint64_t now = fetcher_now_ns(fetcher);
    unsigned sound = 0, wasted = 0;
    (void)fetcher_look(fetcher);
    pool_reported(&fetcher->pool, source->number, message->visible, message->floor, now);
    pool_measured(&fetcher->pool, source->number, now - request->sent_ns, now);
    fetcher_unburden(fetcher, source, request);
    for (unsigned i = 0; i < request->count; i++) {
        if (request->flights[i] == NULL) {
            wasted += answers[i].status == FETCH_EXACT ? 1 : 0;
            sound += answers[i].status != FETCH_ERROR ? 1 : 0;
        } else {
            sound += settle(fetcher, source, request, i, &answers[i]) ? 1 : 0;
        }
    }
    METRIC_ADD(metrics, instance, fetch_wasted, wasted);
    // One that always answers too late is of no use; one that cannot read a record of many is.
    if (sound == 0) {
        fetcher_fault(fetcher, source, "its answers cannot be used");
    } else if (!request->late) {
        pool_succeeded(&fetcher->pool, source->number);
    }
    fills_post(&fetcher->fills);
    fetcher_stir(fetcher);
}

static void on_unanswered(struct source *source, struct source_request *request)
{
    struct fetcher *fetcher = source->owner;
    fetcher_unburden(fetcher, source, request);
    budget_refund(&fetcher->budget, request->bytes);
    for (unsigned i = 0; i < request->count; i++) {
        struct flight *flight = request->flights[i];
        if (flight != NULL) {
            flight_leave(flight, &request->flights[i]);
            fetcher_refused(fetcher, flight, FETCH_ERROR);
        }
    }
    fetcher_stir(fetcher);
}

// ---- replicas ----------------------------------------------------------------------------------

static void on_ready(struct source *source, uint64_t index)
{
    struct fetcher *fetcher = source->owner;
    (void)fetcher_look(fetcher);
    pool_joined(&fetcher->pool, source->number, index, fetcher_now_ns(fetcher));
    fetcher->alone_ns = 0;
    fetcher_stir(fetcher);
}

static int on_message(struct source *source, uint16_t code, struct bytes payload)
{
    return recall_message(source->owner, source, code, payload);
}

static void close_if_done(struct fetcher *fetcher)
{
    if (atomic_load(&fetcher->list.pending)) {
        return;
    }
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        if (source_state(&fetcher->sources[i]) != SOURCE_CLOSED) {
            return;
        }
    }
    struct notice *closed = fetcher->closed;
    fetcher->closed = NULL;
    if (closed != NULL) {
        notice_raise(closed);
    }
}

static void on_lost(struct source *source, bool was_ready)
{
    struct fetcher *fetcher = source->owner;
    recall_lost(fetcher, source);
    bool quarantined = was_ready && pool_left(&fetcher->pool, source->number,
                                              fetcher_now_ns(fetcher));
    if (quarantined && !source->closing) {
        note_quarantine(fetcher, source, "it is lost again and again");
    }
    if (fetcher->closing) {
        close_if_done(fetcher);
    } else if (source->closing) {
        notice_raise(&fetcher->list); // its number is free
    }
    if (fetcher->alone_ns == 0 && pool_connected(&fetcher->pool) == 0) {
        fetcher->alone_ns = fetcher_now_ns(fetcher);
    }
    fetcher_stir(fetcher);
}

// ---- opening and closing -----------------------------------------------------------------------

static void on_open(struct task *task)
{
    struct fetcher *fetcher = CONTAINER_OF(task, struct fetcher, open);
    fetcher->alone_ns = fetcher_now_ns(fetcher);
    fetcher->opened = true;
    endpoint_feed_subscribe(&fetcher->instance->replicas, &fetcher->list);
    fetcher_take_list(fetcher);
}

static void on_list(struct notice *notice)
{
    struct fetcher *fetcher = CONTAINER_OF(notice, struct fetcher, list);
    if (fetcher->closing) {
        close_if_done(fetcher);
    } else {
        fetcher_take_list(fetcher);
    }
}

static void on_close(struct task *task)
{
    struct fetcher *fetcher = CONTAINER_OF(task, struct fetcher, close);
    fetcher->closing = true;
    if (fetcher->opened) {
        fetcher->opened = false;
        endpoint_feed_unsubscribe(&fetcher->instance->replicas, &fetcher->list);
    }
    while (!list_empty(&fetcher->waiters)) {
        struct waiter *waiter = CONTAINER_OF(fetcher->waiters.next, struct waiter, age);
        fetcher_fail(fetcher, waiter->flight, ERR_UNAVAILABLE);
    }
    fetcher_admit(fetcher);
    recall_close(fetcher);
    loop_timer_clear(&fetcher->timer);
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        source_close(&fetcher->sources[i]);
    }
    close_if_done(fetcher);
}

static void limits_open(struct fetcher *fetcher, const struct instance_options *options)
{
    budget_open(&fetcher->budget, options->fetch_rate, options->fetch_burst,
                options->fetch_requests, options->fetch_bytes);
    // What a call has under way shall be able to come before its deadline.
    uint64_t in_time = options->fetch_rate == 0 ? UINT64_MAX
                                                : options->fetch_rate / 2 * options->fetch / 1000;
    fetcher->share = u64_max(1, options->fetch_max / CALL_SHARE);
    fetcher->share_bytes = u64_min(options->fetch_bytes, in_time);
}

struct fetcher *fetcher_new(struct instance *instance)
{
    static const struct source_ops ops = {.on_ready = on_ready,
                                          .on_answers = on_answers,
                                          .on_unanswered = on_unanswered,
                                          .on_message = on_message,
                                          .on_lost = on_lost};
    struct fetcher *fetcher = mem_zalloc(sizeof *fetcher);
    fetcher->instance = instance;
    fetcher->wait_ns = instance->options->fetch * NS_PER_MS;
    fetcher->flush.run = fetcher_on_flush;
    fetcher->open.run = on_open;
    fetcher->close.run = on_close;
    fetcher->alone_ns = 1; // before the opening nothing is hoped for
    flights_open(&fetcher->flights, instance->options->fetch_max);
    limits_open(fetcher, instance->options);
    fills_open(&fetcher->fills, instance);
    recalls_open(&fetcher->recalls);
    list_init(&fetcher->calls);
    list_init(&fetcher->waiters);
    list_init(&fetcher->ready);
    list_init(&fetcher->paused);
    timer_init(&fetcher->timer, fetcher_on_timer);
    notice_init(&fetcher->list, loop_mailbox(instance->home), on_list);
    fetcher->source_ops = &ops;
    fetcher_members_open(fetcher);
    pool_open(&fetcher->pool, instance->options->replica_requests,
              instance->options->replica_bytes, instance->options->quarantine);
    return fetcher;
}

void fetcher_free(struct fetcher *fetcher)
{
    fills_close(&fetcher->fills);
    flights_close(&fetcher->flights);
    fetcher_members_close(fetcher);
    mem_free(fetcher);
}

int fetch_open(struct instance *instance)
{
    struct proxy *proxy = instance->role_state;
    loop_post(instance->home, &proxy->fetcher->open);
    return OK;
}

void fetch_close(struct instance *instance, struct notice *closed)
{
    struct fetcher *fetcher = ((struct proxy *)instance->role_state)->fetcher;
    fetcher->closed = closed;
    loop_post(instance->home, &fetcher->close);
}

static const char *state_text(enum source_state state, const struct source *source,
                              enum pool_health health)
{
    if (state != SOURCE_READY) {
        return atomic_load(&source->refused) ? "refused" : "away";
    }
    return health == POOL_HEALTHY ? "ready" : health == POOL_PROBING ? "probing" : "quarantine";
}

static void tell(const struct fetcher *fetcher, unsigned number, struct replica_status *to)
{
    const struct source *source = &fetcher->sources[number];
    const struct pool_member *member = &fetcher->pool.members[number];
    enum source_state state = source_state(source);
    enum pool_health health = (enum pool_health)atomic_load(&member->health);
    *to = (struct replica_status){.state = state_text(state, source, health),
                                  .connected = state == SOURCE_READY,
                                  .in_flight = atomic_load(&source->in_flight),
                                  .rtt_ns = atomic_load(&source->rtt_ns),
                                  .response_ns = atomic_load(&member->response_ns),
                                  .visible = atomic_load(&member->visible),
                                  .floor = atomic_load(&member->floor)};
    memcpy(to->address, source->text, sizeof to->address);
}

size_t fetch_status(struct instance *instance, struct replica_status *to, size_t max)
{
    struct fetcher *fetcher = ((struct proxy *)instance->role_state)->fetcher;
    size_t count = 0;
    pthread_mutex_lock(&fetcher->lock);
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        if (source_state(&fetcher->sources[i]) != SOURCE_CLOSED) {
            if (count < max) {
                tell(fetcher, i, &to[count]);
            }
            count++;
        }
    }
    pthread_mutex_unlock(&fetcher->lock);
    return count;
}

uint64_t fetch_lowest_visible(struct instance *instance)
{
    struct fetcher *fetcher = ((struct proxy *)instance->role_state)->fetcher;
    uint64_t connected = 0;
    pthread_mutex_lock(&fetcher->lock);
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        connected |= (uint64_t)(source_state(&fetcher->sources[i]) == SOURCE_READY) << i;
    }
    uint64_t lowest = pool_lowest_visible(&fetcher->pool, connected);
    pthread_mutex_unlock(&fetcher->lock);
    return lowest;
}
