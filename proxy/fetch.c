// SPDX-License-Identifier: Apache-2.0
// The reads' side: calls, waiters and their ends; and what replicas do to flights.
#include "proxy/fetch.h"

#include "common/base/mem.h"
#include "proxy/fetcher.h"
#include "proxy/proxy.h"

// ---- ends --------------------------------------------------------------------------------------

static void call_done(struct task *task)
{
    struct fetch_call *call = CONTAINER_OF(task, struct fetch_call, task);
    struct read *read = call->read;
    mem_free(call);
    read_fetched(read);
}

static void call_release(struct fetch_call *call)
{
    CHECK(call->left > 0);
    call->left--;
    if (call->left == 0) {
        call->task.run = call_done;
        loop_post(call->read->loop, &call->task);
    }
}

static void waiter_fail(struct waiter *waiter, int error)
{
    list_remove(&waiter->node);
    list_remove(&waiter->age);
    waiter->lookup->status = error;
    if (error != ERR_BUSY) {
        METRIC_ADD(waiter->call->fetcher->instance->metrics, instance, fetch_failed, 1);
    }
    call_release(waiter->call);
}

static void waiter_give(struct waiter *waiter, struct bytes value)
{
    list_remove(&waiter->node);
    list_remove(&waiter->age);
    struct lookup *lookup = waiter->lookup;
    lookup->fetched = mem_copy(value.data, value.size);
    lookup->record.value = bytes_of(lookup->fetched, value.size);
    lookup->record.held = true;
    call_release(waiter->call);
}

void fetcher_fail(struct fetcher *fetcher, struct flight *flight, int error)
{
    LIST_FOR_EACH(node, &flight->waiters) {
        waiter_fail(CONTAINER_OF(node, struct waiter, node), error);
    }
    flights_remove(&fetcher->flights, flight);
}

static void flight_land(struct fetcher *fetcher, struct flight *flight, struct bytes value)
{
    const struct record record = {.version = flight->version,
                                  .length = flight->length,
                                  .check = flight->check,
                                  .held = true,
                                  .value = value};
    fills_add(&fetcher->fills, flight_key(flight), &record);
    LIST_FOR_EACH(node, &flight->waiters) {
        waiter_give(CONTAINER_OF(node, struct waiter, node), value);
    }
    flights_remove(&fetcher->flights, flight);
}

void fetcher_expire(struct fetcher *fetcher)
{
    while (!list_empty(&fetcher->waiters)) {
        struct waiter *oldest = CONTAINER_OF(fetcher->waiters.next, struct waiter, age);
        if (oldest->deadline_ns > fetcher_now_ns(fetcher)) {
            break;
        }
        struct flight *flight = oldest->flight;
        waiter_fail(oldest, ERR_UNAVAILABLE);
        if (list_empty(&flight->waiters)) {
            flights_remove(&fetcher->flights, flight);
        }
    }
}

// ---- reads -------------------------------------------------------------------------------------

// True when a replica may come up before the deadline, as far as the past tells.
static bool hopeful(const struct fetcher *fetcher)
{
    uint64_t alone_ns = fetcher->alone_ns == 0 ? 0 : fetcher_now_ns(fetcher) - fetcher->alone_ns;
    return !fetcher->closing && fetcher->source_count > 0 && alone_ns <= fetcher->wait_ns;
}

static void waiter_begin(struct fetcher *fetcher, struct waiter *waiter)
{
    const struct lookup *lookup = waiter->lookup;
    const struct record *record = &lookup->record;
    struct flight *flight = flights_find(&fetcher->flights, lookup->key, record->version);
    if (!hopeful(fetcher)) {
        waiter_fail(waiter, ERR_UNAVAILABLE);
        return;
    }
    if (flight != NULL) {
        if (flight->length != record->length || flight->check != record->check) {
            waiter_fail(waiter, ERR_CORRUPT); // two rows of one version cannot differ
            return;
        }
        METRIC_ADD(fetcher->instance->metrics, instance, fetch_joined, 1);
    } else {
        flight = flights_add(&fetcher->flights, lookup->key, record->version, record->length,
                             record->check);
        if (flight == NULL) {
            waiter_fail(waiter, ERR_BUSY);
            return;
        }
        list_append(&fetcher->ready, &flight->node);
    }
    waiter->flight = flight;
    waiter->deadline_ns = fetcher_now_ns(fetcher) + fetcher->wait_ns;
    list_append(&flight->waiters, &waiter->node);
    list_append(&fetcher->waiters, &waiter->age);
}

static void call_begin(struct task *task)
{
    struct fetch_call *call = CONTAINER_OF(task, struct fetch_call, task);
    struct fetcher *fetcher = call->fetcher;
    call->left = call->count + 1;
    for (unsigned i = 0; i < call->count; i++) {
        waiter_begin(fetcher, &call->waiters[i]);
    }
    call_release(call);
    fetcher_stir(fetcher);
}

void fetch_read(struct instance *instance, struct read *read)
{
    struct proxy *proxy = instance->role_state;
    unsigned missing = 0;
    for (unsigned i = 0; i < read->count; i++) {
        missing += lookup_missing(&read->lookups[i]) ? 1 : 0;
    }
    CHECK(missing > 0);
    struct fetch_call *call = mem_zalloc(sizeof *call + missing * sizeof call->waiters[0]);
    call->fetcher = proxy->fetcher;
    call->read = read;
    for (unsigned i = 0; i < read->count; i++) {
        if (lookup_missing(&read->lookups[i])) {
            struct waiter *waiter = &call->waiters[call->count++];
            waiter->lookup = &read->lookups[i];
            waiter->call = call;
            list_init(&waiter->node);
            list_init(&waiter->age);
        }
    }
    METRIC_ADD(instance->metrics, instance, fetch_misses, missing);
    call->task.run = call_begin;
    loop_post(instance->home, &call->task);
}

// ---- replicas ----------------------------------------------------------------------------------

static bool is_sound(const struct flight *flight, struct bytes value)
{
    return value.size == flight->length && record_check(flight->version, value) == flight->check;
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

static void on_answers(struct source *source, struct source_request *request,
                       const struct fetch_answer *answers)
{
    struct fetcher *fetcher = source->owner;
    for (unsigned i = 0; i < request->count; i++) {
        struct flight *flight = request->flights[i];
        enum fetch_status status = answers[i].status;
        if (flight == NULL) {
            continue;
        }
        request->flights[i] = NULL;
        flight->slot = NULL;
        if (status == FETCH_EXACT && is_sound(flight, answers[i].value)) {
            flight_land(fetcher, flight, answers[i].value);
            continue;
        }
        if (status == FETCH_EXACT) {
            METRIC_ADD(fetcher->instance->metrics, instance, fetch_bad, 1);
            LOG_GATED(&fetcher->bad_gate, LOG_ERROR, fetcher->instance->name,
                      "replica %s gave a value that fails its check, another is asked",
                      source->text);
            status = FETCH_ERROR;
        }
        note_refusal(fetcher, status);
        fetcher_refused(fetcher, flight, status);
    }
    fills_post(&fetcher->fills);
    fetcher_stir(fetcher);
}

static void on_unanswered(struct source *source, struct source_request *request)
{
    struct fetcher *fetcher = source->owner;
    for (unsigned i = 0; i < request->count; i++) {
        struct flight *flight = request->flights[i];
        if (flight != NULL) {
            request->flights[i] = NULL;
            flight->slot = NULL;
            fetcher_refused(fetcher, flight, FETCH_ERROR);
        }
    }
    fetcher_stir(fetcher);
}

static void on_ready(struct source *source)
{
    struct fetcher *fetcher = source->owner;
    fetcher->alone_ns = 0;
    fetcher_stir(fetcher);
}

static void close_if_done(struct fetcher *fetcher)
{
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

static void on_lost(struct source *source)
{
    struct fetcher *fetcher = source->owner;
    if (fetcher->closing) {
        close_if_done(fetcher);
    } else if (fetcher->alone_ns == 0 && fetcher_connected(fetcher) == 0) {
        fetcher->alone_ns = fetcher_now_ns(fetcher);
    }
}

// ---- opening and closing -----------------------------------------------------------------------

static void on_open(struct task *task)
{
    struct fetcher *fetcher = CONTAINER_OF(task, struct fetcher, open);
    fetcher->alone_ns = fetcher_now_ns(fetcher);
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        source_start(&fetcher->sources[i]);
    }
}

static void on_close(struct task *task)
{
    struct fetcher *fetcher = CONTAINER_OF(task, struct fetcher, close);
    fetcher->closing = true;
    while (!list_empty(&fetcher->waiters)) {
        struct waiter *waiter = CONTAINER_OF(fetcher->waiters.next, struct waiter, age);
        fetcher_fail(fetcher, waiter->flight, ERR_UNAVAILABLE);
    }
    loop_timer_clear(&fetcher->timer);
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        source_close(&fetcher->sources[i]);
    }
    close_if_done(fetcher);
}

static unsigned count_sources(struct instance *instance)
{
    unsigned count = 0;
    option_ADDRESSES addresses = instance->options->replicas;
    while (addresses != NULL && addresses[count] != NULL) {
        if (count == RETRY_SOURCES_MAX) {
            log_line(LOG_WARN, instance->name, "only the first %u replicas are used", count);
            break;
        }
        count++;
    }
    return count;
}

struct fetcher *fetcher_new(struct instance *instance)
{
    static const struct source_ops ops = {.on_ready = on_ready,
                                          .on_answers = on_answers,
                                          .on_unanswered = on_unanswered,
                                          .on_lost = on_lost};
    struct fetcher *fetcher = mem_zalloc(sizeof *fetcher);
    fetcher->instance = instance;
    fetcher->wait_ns = instance->options->fetch * NS_PER_MS;
    fetcher->flush.run = fetcher_on_flush;
    fetcher->open.run = on_open;
    fetcher->close.run = on_close;
    fetcher->alone_ns = 1; // before the opening nothing is hoped for
    flights_open(&fetcher->flights, instance->options->fetch_max);
    fills_open(&fetcher->fills, instance);
    list_init(&fetcher->waiters);
    list_init(&fetcher->ready);
    list_init(&fetcher->paused);
    timer_init(&fetcher->timer, fetcher_on_timer);
    fetcher->source_count = count_sources(instance);
    fetcher->sources = mem_zalloc(fetcher->source_count * sizeof *fetcher->sources);
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        source_open(&fetcher->sources[i], instance, i, instance->options->replicas[i], &ops,
                    fetcher);
    }
    return fetcher;
}

void fetcher_free(struct fetcher *fetcher)
{
    fills_close(&fetcher->fills);
    flights_close(&fetcher->flights);
    mem_free(fetcher->sources);
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

size_t fetch_status(struct instance *instance, struct replica_status *to, size_t max)
{
    const struct fetcher *fetcher = ((struct proxy *)instance->role_state)->fetcher;
    for (size_t i = 0; i < max && i < fetcher->source_count; i++) {
        const struct source *source = &fetcher->sources[i];
        to[i] = (struct replica_status){.address = source->text,
                                        .connected = source_state(source) == SOURCE_READY,
                                        .in_flight = atomic_load(&source->in_flight),
                                        .rtt_ns = atomic_load(&source->rtt_ns)};
    }
    return fetcher->source_count;
}
