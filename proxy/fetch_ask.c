// SPDX-License-Identifier: Apache-2.0
// Whom to ask for a flight, and when: all decisions about replicas and time. The rules themselves
// are pure and stand in proxy/pool.c, proxy/budget.c and proxy/retry.c.
#include "proxy/fetcher.h"

#define PAUSE_NS (20 * NS_PER_MS) // between rounds over the replicas
#define ATTEMPTS 3                // a replica has this part of the time before another is asked
#define LEAVE_AFTER 4             // a replica that owes an answer for this many times is left
#define HEDGE_FACTOR 3            // times the usual, before a second replica is asked

// ---- what happens to a flight ------------------------------------------------------------------

unsigned fetcher_look(struct fetcher *fetcher)
{
    struct view *view = instance_pin(fetcher->instance);
    unsigned forks = view == NULL ? 0 : view->forks;
    fetcher->pool.index = view == NULL ? 0 : view->place.index;
    view_release(view);
    return forks;
}

void fetcher_stir(struct fetcher *fetcher)
{
    if (!fetcher->flush_queued) {
        fetcher->flush_queued = true;
        loop_defer(fetcher->instance->home, &fetcher->flush);
    }
}

static struct flight *flight_of(struct list *node)
{
    return CONTAINER_OF(node, struct flight, node);
}

void fetcher_want(struct fetcher *fetcher, struct flight *flight)
{
    flight->ready_ns = fetcher_now_ns(fetcher);
    list_append(&fetcher->ready, &flight->node);
}

static void pause_flight(struct fetcher *fetcher, struct flight *flight)
{
    flight->retry_ns = fetcher_now_ns(fetcher) + PAUSE_NS;
    list_append(&fetcher->paused, &flight->node);
}

// Nobody is being asked for it.
static void judge(struct fetcher *fetcher, struct flight *flight)
{
    uint64_t askable = pool_askable(&fetcher->pool);
    struct instance_metrics *metrics = fetcher->instance->metrics;
    switch (retry_judge(&flight->retry, askable, pool_connected(&fetcher->pool))) {
    case RETRY_NEXT:
        METRIC_ADD(metrics, instance, fetch_retried, 1);
        fetcher_want(fetcher, flight);
        break;
    case RETRY_PAUSE:
        METRIC_ADD(metrics, instance, fetch_retried, 1);
        pause_flight(fetcher, flight);
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

void fetcher_refused(struct fetcher *fetcher, struct flight *flight, enum fetch_status status)
{
    retry_refused(&flight->retry, status);
    if (flight_asks(flight) == 0) {
        judge(fetcher, flight);
    }
}

// ---- asking ------------------------------------------------------------------------------------

static uint64_t hedge_after_ns(const struct fetcher *fetcher, unsigned number)
{
    uint64_t least_ns = fetcher->instance->options->hedge * NS_PER_MS;
    uint64_t usual_ns = atomic_load(&fetcher->pool.members[number].response_ns);
    return least_ns == 0 ? UINT64_MAX : u64_max(least_ns, usual_ns * HEDGE_FACTOR);
}

static void send_request(struct fetcher *fetcher, unsigned number,
                         struct flight *const *flights, unsigned count, bool hedge)
{
    for (unsigned i = 0; i < count; i++) {
        retry_asked(&flights[i]->retry, number);
    }
    struct source_request *request = source_ask(&fetcher->sources[number], flights, count);
    uint64_t after_ns = hedge ? UINT64_MAX : hedge_after_ns(fetcher, number);
    request->hedge = hedge;
    request->hedge_ns = after_ns == UINT64_MAX ? UINT64_MAX : request->sent_ns + after_ns;
    budget_take(&fetcher->budget, request->bytes);
    if (pool_sent(&fetcher->pool, number, request->bytes)) {
        METRIC_ADD(fetcher->instance->metrics, instance, fetch_probes, 1);
    }
}

// Takes flights that replica `number` can be asked for as well as for `first`, which is one of
// them, out of `ready`: as many as a message may ask for and as there is room.
static unsigned take_batch(struct fetcher *fetcher, unsigned number, struct flight *first,
                           struct flight *to[FETCH_ITEMS_MAX])
{
    uint64_t now = fetcher_now_ns(fetcher);
    uint64_t room = u64_min(budget_room(&fetcher->budget, now), pool_room(&fetcher->pool, number));
    uint64_t limit = u64_min(room, FETCH_BYTES_MAX);
    unsigned most = pool_is_probe(&fetcher->pool, number) ? 1 : FETCH_ITEMS_MAX;
    uint64_t bytes = flight_cost(first);
    unsigned count = 1;
    to[0] = first;
    LIST_FOR_EACH(node, &fetcher->ready) {
        struct flight *flight = flight_of(node);
        if (count == most || bytes + flight_cost(flight) > limit) {
            break;
        }
        if ((flight->retry.tried >> number & 1) == 0 &&
            pool_alike(&fetcher->pool, number, first->version, flight->version, now)) {
            list_remove(&flight->node);
            bytes += flight_cost(flight);
            to[count++] = flight;
        }
    }
    return count;
}

// True when it was asked for, with others.
static bool ask_for(struct fetcher *fetcher, struct flight *flight)
{
    uint64_t now = fetcher_now_ns(fetcher);
    int number =
        pool_choose(&fetcher->pool, flight->version, flight->retry.tried, false, now);
    if (number < 0) {
        return false;
    }
    struct flight *flights[FETCH_ITEMS_MAX];
    unsigned count = take_batch(fetcher, (unsigned)number, flight, flights);
    unsigned waited = 0;
    for (unsigned i = 0; i < count; i++) {
        waited += flights[i]->ready_ns != now ? 1 : 0;
    }
    METRIC_ADD(fetcher->instance->metrics, instance, fetch_waited, waited);
    send_request(fetcher, (unsigned)number, flights, count, false);
    return true;
}

static void ask(struct fetcher *fetcher)
{
    struct list left;
    list_init(&left);
    uint64_t now = fetcher_now_ns(fetcher);
    while (!list_empty(&fetcher->ready) && budget_room(&fetcher->budget, now) > 0 &&
           pool_open_now(&fetcher->pool, now) != 0) {
        struct flight *flight = flight_of(list_take(&fetcher->ready));
        if (ask_for(fetcher, flight)) {
            continue;
        }
        if ((pool_askable(&fetcher->pool) & ~flight->retry.tried) == 0) {
            judge(fetcher, flight); // the one it waited for is gone
        } else {
            list_append(&left, &flight->node);
        }
    }
    list_move_all(&left, &fetcher->ready);
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
        fetcher_want(fetcher, flight);
    }
}

static uint64_t request_due(const struct fetcher *fetcher, const struct source_request *request)
{
    uint64_t wait_ns = fetcher->wait_ns;
    uint64_t late_ns = request->sent_ns + (request->late ? wait_ns * LEAVE_AFTER
                                                         : wait_ns / ATTEMPTS);
    return u64_min(late_ns, request->hedge_ns);
}

// The first answer counts: what a replica has not given after much longer than usual is asked of
// another one too, as far as hedges are allowed. Once for each request.
static void hedge(struct fetcher *fetcher, struct source_request *request)
{
    struct flight *flights[FETCH_ITEMS_MAX];
    unsigned count = 0;
    uint64_t tried = 0, newest = 0;
    uint64_t now = fetcher_now_ns(fetcher);
    request->hedge_ns = UINT64_MAX;
    for (unsigned i = 0; i < request->count; i++) {
        struct flight *flight = request->flights[i];
        if (flight != NULL && flight_asks(flight) < FLIGHT_ASKS) {
            flights[count++] = flight;
            tried |= flight->retry.tried;
            newest = u64_max(newest, flight->version);
        }
    }
    if (count == 0 || budget_room(&fetcher->budget, now) == 0) {
        return;
    }
    int number = pool_choose(&fetcher->pool, newest, tried, true, now);
    if (number >= 0 && budget_hedge(&fetcher->budget)) {
        METRIC_ADD(fetcher->instance->metrics, instance, fetch_hedged, count);
        send_request(fetcher, (unsigned)number, flights, count, true);
    }
}

// A replica that does not answer: what others can be asked for is asked of them. The request
// weighs on that replica alone from now on.
static void request_late(struct fetcher *fetcher, struct source *source,
                         struct source_request *request)
{
    uint64_t now = fetcher_now_ns(fetcher);
    request->late = true;
    request->hedge_ns = UINT64_MAX;
    budget_return(&fetcher->budget, request->bytes);
    METRIC_ADD(fetcher->instance->metrics, instance, fetch_timeouts, 1);
    pool_measured(&fetcher->pool, source->number, now - request->sent_ns, now);
    fetcher_fault(fetcher, source, "it does not answer in time");
    // Also one that has refused it already: it may have been behind.
    bool others = (pool_askable(&fetcher->pool) & ~((uint64_t)1 << source->number)) != 0;
    for (unsigned i = 0; i < request->count; i++) {
        struct flight *flight = request->flights[i];
        if (flight != NULL && (others || flight_asks(flight) > 1)) {
            flight_leave(flight, &request->flights[i]);
            fetcher_refused(fetcher, flight, FETCH_ERROR);
        }
    }
}

// True when the replica shall be left.
static bool check_request(struct fetcher *fetcher, struct source *source,
                          struct source_request *request)
{
    uint64_t now = fetcher_now_ns(fetcher);
    if (request_due(fetcher, request) > now) {
        return false;
    }
    if (request->late) {
        return true;
    }
    if (request->hedge_ns <= now) {
        hedge(fetcher, request);
    }
    if (request_due(fetcher, request) <= now) {
        request_late(fetcher, source, request);
    }
    return false;
}

static void check_requests(struct fetcher *fetcher)
{
    for (unsigned i = 0; i < fetcher->source_count; i++) {
        struct source *source = &fetcher->sources[i];
        bool leave = false;
        LIST_FOR_EACH(node, &source->requests) {
            leave = check_request(fetcher, source,
                                  CONTAINER_OF(node, struct source_request, node)) || leave;
        }
        if (leave) {
            pool_leaving(&fetcher->pool, i);
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
    if (!list_empty(&fetcher->ready)) {
        uint64_t wait_ns = budget_wait_ns(&fetcher->budget, fetcher_now_ns(fetcher));
        if (wait_ns > 0 && wait_ns < UINT64_MAX) {
            due_ns = u64_min(due_ns, fetcher_now_ns(fetcher) + wait_ns);
        }
    }
    if (due_ns == UINT64_MAX) {
        loop_timer_clear(&fetcher->timer);
        return;
    }
    uint64_t now = fetcher_now_ns(fetcher);
    loop_timer_set(fetcher->instance->home, &fetcher->timer, due_ns > now ? due_ns - now : 0);
}

static void show(const struct fetcher *fetcher)
{
    struct instance_metrics *metrics = fetcher->instance->metrics;
    int connected = __builtin_popcountll(pool_connected(&fetcher->pool));
    int healthy = __builtin_popcountll(pool_healthy(&fetcher->pool));
    METRIC_SET(metrics, instance, fetch_under_way, fetcher->flights.count);
    METRIC_SET(metrics, instance, fetch_requests_under_way, fetcher->budget.requests);
    METRIC_SET(metrics, instance, fetch_bytes_under_way, fetcher->budget.bytes);
    METRIC_SET(metrics, instance, replicas_connected, connected);
    METRIC_SET(metrics, instance, replicas_quarantined, connected - healthy);
}

// The end of a turn in which something happened.
void fetcher_on_flush(struct task *task)
{
    struct fetcher *fetcher = CONTAINER_OF(task, struct fetcher, flush);
    fetcher->flush_queued = false;
    unsigned forks = fetcher_look(fetcher);
    if (forks != fetcher->forks) {
        fetcher->forks = forks;
        fetcher_forked(fetcher);
    }
    fetcher_admit(fetcher);
    fetcher->recalls_first = !fetcher->recalls_first;
    if (fetcher->recalls_first) {
        recall_serve(fetcher);
    }
    ask(fetcher);
    recall_serve(fetcher);
    fetcher_retire(fetcher);
    show(fetcher);
    if (!fetcher->closing) {
        arm(fetcher);
    }
}

void fetcher_on_timer(struct timer *timer)
{
    struct fetcher *fetcher = CONTAINER_OF(timer, struct fetcher, timer);
    fetcher_expire(fetcher);
    end_pauses(fetcher);
    check_requests(fetcher);
    fetcher_stir(fetcher);
}
