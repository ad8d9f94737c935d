// SPDX-License-Identifier: Apache-2.0
// The reads' side of fetching: calls, waiters, and how they end.
#include "common/base/mem.h"
#include "common/core/read.h"
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

// An admitted waiter has its end.
static void waiter_end(struct waiter *waiter)
{
    struct fetch_call *call = waiter->call;
    list_remove(&waiter->node);
    list_remove(&waiter->age);
    CHECK(call->under_way > 0);
    call->under_way--;
    call->under_way_bytes -= waiter->lookup->record.length;
    call_release(call);
}

static void waiter_fail(struct waiter *waiter, int error)
{
    waiter->lookup->status = error;
    waiter->call->failure = error;
    if (error != ERR_BUSY) {
        METRIC_ADD(waiter->call->fetcher->instance->metrics, instance, fetch_failed, 1);
    }
    waiter_end(waiter);
}

static void waiter_give(struct waiter *waiter, struct bytes value)
{
    struct lookup *lookup = waiter->lookup;
    lookup->fetched = mem_copy(value.data, value.size);
    lookup->record.value = bytes_of(lookup->fetched, value.size);
    lookup->record.held = true;
    waiter_end(waiter);
}

void fetcher_fail(struct fetcher *fetcher, struct flight *flight, int error)
{
    LIST_FOR_EACH(node, &flight->waiters) {
        waiter_fail(CONTAINER_OF(node, struct waiter, node), error);
    }
    flights_remove(&fetcher->flights, flight);
    fetcher_stir(fetcher); // the rest of their calls is to be ended too
}

void fetcher_land(struct fetcher *fetcher, struct flight *flight, struct bytes value)
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

// Nobody who is asked from now on answers for the history before, and a version of one history is
// none of the other: what is missed at an old view has come to nothing.
void fetcher_forked(struct fetcher *fetcher)
{
    while (!list_empty(&fetcher->waiters)) {
        struct waiter *waiter = CONTAINER_OF(fetcher->waiters.next, struct waiter, age);
        fetcher_fail(fetcher, waiter->flight, ERR_UNAVAILABLE);
    }
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        struct source *source = &fetcher->sources[i];
        if (source_state(source) == SOURCE_READY && source_is_outdated(source)) {
            pool_leaving(&fetcher->pool, i);
            source_leave(source, ERR_HISTORY, "the data here is that of another history now");
        }
    }
}

// ---- beginnings --------------------------------------------------------------------------------

bool fetcher_hopeful(const struct fetcher *fetcher)
{
    uint64_t alone_ns = fetcher->alone_ns == 0 ? 0 : fetcher_now_ns(fetcher) - fetcher->alone_ns;
    return !fetcher->closing && fetcher->listed > 0 && alone_ns <= fetcher->wait_ns;
}

// The flight that will bring what `lookup` misses: one under way, or a new one.
static int flight_for(struct fetcher *fetcher, const struct lookup *lookup,
                      struct flight **ret_flight)
{
    const struct record *record = &lookup->record;
    struct flight *flight = flights_find(&fetcher->flights, lookup->key, record->version);
    if (flight != NULL) {
        if (flight->length != record->length || flight->check != record->check) {
            return ERR_CORRUPT; // two rows of one version cannot differ
        }
        METRIC_ADD(fetcher->instance->metrics, instance, fetch_joined, 1);
    } else {
        flight = flights_add(&fetcher->flights, lookup->key, record->version, record->length,
                             record->check);
        if (flight == NULL) {
            return ERR_BUSY;
        }
        fetcher_want(fetcher, flight);
    }
    *ret_flight = flight;
    return OK;
}

static bool has_share(const struct fetcher *fetcher, const struct fetch_call *call)
{
    uint64_t length = call->waiters[call->admitted].lookup->record.length;
    return call->under_way == 0 || (call->under_way < fetcher->share &&
                                    call->under_way_bytes + length <= fetcher->share_bytes);
}

// Admits the next waiter of a call. False: the table is full, and the call may wait for it because
// it is half done. One that has not begun is told instead, so that nothing queues up without bound.
static bool admit_next(struct fetcher *fetcher, struct fetch_call *call)
{
    struct waiter *waiter = &call->waiters[call->admitted];
    int error = call->failure;
    if (error == OK) {
        bool hopeful = fetcher_hopeful(fetcher) && call->read->view->forks == fetcher->forks;
        error = hopeful ? flight_for(fetcher, waiter->lookup, &waiter->flight) : ERR_UNAVAILABLE;
    }
    if (error == ERR_BUSY && call->failure == OK && call->admitted > 0) {
        return false;
    }
    call->admitted++;
    call->under_way++;
    call->under_way_bytes += waiter->lookup->record.length;
    if (error != OK) {
        waiter_fail(waiter, error);
        return true;
    }
    waiter->deadline_ns = fetcher_now_ns(fetcher) + fetcher->wait_ns;
    list_append(&waiter->flight->waiters, &waiter->node);
    list_append(&fetcher->waiters, &waiter->age);
    return true;
}

void fetcher_admit(struct fetcher *fetcher)
{
    LIST_FOR_EACH(node, &fetcher->calls) {
        struct fetch_call *call = CONTAINER_OF(node, struct fetch_call, node);
        bool room = true;
        while (room && call->admitted < call->count &&
               (call->failure != OK || has_share(fetcher, call))) {
            room = admit_next(fetcher, call);
        }
        if (call->admitted == call->count) {
            list_remove(&call->node);
            call_release(call);
        }
    }
}

static void call_begin(struct task *task)
{
    struct fetch_call *call = CONTAINER_OF(task, struct fetch_call, task);
    call->left = call->count + 1;
    list_append(&call->fetcher->calls, &call->node);
    fetcher_stir(call->fetcher);
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
