// SPDX-License-Identifier: Apache-2.0
// Whom to ask for a flight, and when: all decisions about replicas and time. The rules themselves
// are pure and stand in proxy/retry.c.
#include "proxy/fetcher.h"

#define PAUSE_NS (20 * NS_PER_MS) // between rounds over the replicas
#define ATTEMPTS 3                // a replica has this part of the time before another is asked
#define LEAVE_AFTER 4             // a replica that owes an answer for this many times is left

// ---- whom --------------------------------------------------------------------------------------

uint64_t fetcher_connected(const struct fetcher *fetcher)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        bool connected = source_state(&fetcher->sources[i]) == SOURCE_READY;
        mask |= (uint64_t)connected << i;
    }
    return mask;
}

static uint64_t usable_mask(const struct fetcher *fetcher)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        mask |= (uint64_t)source_usable(&fetcher->sources[i]) << i;
    }
    return mask;
}

void fetcher_stir(struct fetcher *fetcher)
{
    if (!fetcher->flush_queued) {
        fetcher->flush_queued = true;
        loop_defer(fetcher->instance->home, &fetcher->flush);
    }
}

void fetcher_refused(struct fetcher *fetcher, struct flight *flight, enum fetch_status status)
{
    switch (retry_refused(&flight->retry, status, fetcher_connected(fetcher))) {
    case RETRY_NEXT:
        list_append(&fetcher->ready, &flight->node);
        break;
    case RETRY_PAUSE:
        flight->retry_ns = fetcher_now_ns(fetcher) + PAUSE_NS;
        list_append(&fetcher->paused, &flight->node);
        break;
    case RETRY_GONE:
        fetcher_fail(fetcher, flight, ERR_GONE);
        break;
    case RETRY_NEVER:
        LOG_GATED(&fetcher->never_gate, LOG_ERROR, fetcher->instance->name,
                  "diverged: no replica ever held a version %llu that this proxy has",
                  (unsigned long long)flight->version);
        fetcher_fail(fetcher, flight, ERR_DIVERGED);
        break;
    }
}

// ---- asking ------------------------------------------------------------------------------------

static struct flight *flight_of(struct list *node)
{
    return CONTAINER_OF(node, struct flight, node);
}

// Takes flights that replica `number` was not asked for out of `ready`, as many as a message may
// ask for; `first`, which is one of them, in any case.
static unsigned take_batch(struct fetcher *fetcher, unsigned number, struct flight *first,
                           struct flight *to[FETCH_ITEMS_MAX])
{
    list_remove(&first->node);
    to[0] = first;
    unsigned count = 1;
    uint64_t bytes = first->length;
    LIST_FOR_EACH(node, &fetcher->ready) {
        struct flight *flight = flight_of(node);
        bool fits = bytes + flight->length <= FETCH_BYTES_MAX;
        if (count == FETCH_ITEMS_MAX || !fits) {
            break;
        }
        if ((flight->retry.tried >> number & 1) == 0) {
            list_remove(&flight->node);
            bytes += flight->length;
            to[count++] = flight;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        retry_asked(&to[i]->retry, number);
    }
    return count;
}

static void ask(struct fetcher *fetcher)
{
    struct list left;
    list_init(&left);
    struct list *node;
    while ((node = list_take(&fetcher->ready)) != NULL) {
        struct flight *flight = flight_of(node);
        int number = retry_choose(&flight->retry, usable_mask(fetcher), fetcher->rotation);
        if (number >= 0) {
            struct flight *flights[FETCH_ITEMS_MAX];
            fetcher->rotation = (unsigned)number;
            unsigned count = take_batch(fetcher, (unsigned)number, flight, flights);
            source_ask(&fetcher->sources[number], flights, count);
            continue;
        }
        uint64_t connected = fetcher_connected(fetcher);
        if (connected != 0 && (connected & ~flight->retry.tried) == 0) {
            // The one it waited for is gone, all others refused: a new round.
            flight->retry = (struct retry){0};
            flight->retry_ns = fetcher_now_ns(fetcher) + PAUSE_NS;
            list_append(&fetcher->paused, &flight->node);
        } else {
            list_append(&left, &flight->node);
        }
    }
    list_move_all(&fetcher->ready, &left);
}

// ---- time --------------------------------------------------------------------------------------

static void end_pauses(struct fetcher *fetcher)
{
    while (!list_empty(&fetcher->paused)) {
        struct flight *flight = flight_of(fetcher->paused.next);
        if (flight->retry_ns > fetcher_now_ns(fetcher)) {
            break;
        }
        list_remove(&flight->node);
        list_append(&fetcher->ready, &flight->node);
    }
}

static uint64_t request_due(const struct fetcher *fetcher, const struct source_request *request)
{
    uint64_t wait_ns = fetcher->wait_ns;
    return request->sent_ns + (request->late ? wait_ns * LEAVE_AFTER : wait_ns / ATTEMPTS);
}

// A replica that takes long: what others can be asked for is asked of them.
static void request_late(struct fetcher *fetcher, struct source_request *request)
{
    request->late = true;
    uint64_t connected = fetcher_connected(fetcher);
    for (unsigned i = 0; i < request->count; i++) {
        struct flight *flight = request->flights[i];
        if (flight != NULL && (connected & ~flight->retry.tried) != 0) {
            request->flights[i] = NULL;
            flight->slot = NULL;
            fetcher_refused(fetcher, flight, FETCH_ERROR);
        }
    }
}

static void check_requests(struct fetcher *fetcher)
{
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        struct source *source = &fetcher->sources[i];
        bool leave = false;
        LIST_FOR_EACH(node, &source->requests) {
            struct source_request *request = CONTAINER_OF(node, struct source_request, node);
            if (request_due(fetcher, request) <= fetcher_now_ns(fetcher)) {
                leave = leave || request->late;
                request_late(fetcher, request);
            }
        }
        if (leave) {
            source_leave(source, ERR_TIMEOUT, "it does not answer");
        }
    }
}

static void arm(struct fetcher *fetcher)
{
    uint64_t due_ns = UINT64_MAX;
    if (!list_empty(&fetcher->waiters)) {
        due_ns = CONTAINER_OF(fetcher->waiters.next, struct waiter, age)->deadline_ns;
    }
    if (!list_empty(&fetcher->paused)) {
        due_ns = u64_min(due_ns, flight_of(fetcher->paused.next)->retry_ns);
    }
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        if (source_state(&fetcher->sources[i]) == SOURCE_READY) {
            LIST_FOR_EACH(node, &fetcher->sources[i].requests) {
                due_ns = u64_min(due_ns,
                                 request_due(fetcher, CONTAINER_OF(node, struct source_request,
                                                                   node)));
            }
        }
    }
    if (due_ns == UINT64_MAX) {
        loop_timer_clear(&fetcher->timer);
        return;
    }
    uint64_t now = fetcher_now_ns(fetcher);
    loop_timer_set(fetcher->instance->home, &fetcher->timer, due_ns > now ? due_ns - now : 0);
}

// The end of a turn in which something happened.
void fetcher_on_flush(struct task *task)
{
    struct fetcher *fetcher = CONTAINER_OF(task, struct fetcher, flush);
    fetcher->flush_queued = false;
    ask(fetcher);
    arm(fetcher);
}

void fetcher_on_timer(struct timer *timer)
{
    struct fetcher *fetcher = CONTAINER_OF(timer, struct fetcher, timer);
    fetcher_expire(fetcher);
    end_pauses(fetcher);
    check_requests(fetcher);
    fetcher_stir(fetcher);
}
