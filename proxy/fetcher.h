// SPDX-License-Identifier: Apache-2.0
// The inside of the fetcher, shared by fetch.c (reads, their ends, replicas coming and going) and
// fetch_ask.c (whom to ask, and time); nobody else includes it.
//
// A read becomes a call with one waiter for each missing value, posted to the home loop. A waiter
// hangs on a flight (proxy/flight.h) and, since all wait equally long, in one list in the order of
// deadlines. A flight has waiters always, and stands in `ready`, in `paused`, or in the slot of a
// request. When the last waiter of a call has its end, the call goes back to the read's loop.
// Home loop only.
#ifndef QS_PROXY_FETCHER_H
#define QS_PROXY_FETCHER_H

#include "common/base/log.h"
#include "proxy/fetch.h"
#include "proxy/fill.h"
#include "proxy/source.h"

struct fetch_call;

struct waiter {
    struct list node; // of its flight
    struct list age;  // of all, the oldest first
    struct flight *flight;
    struct lookup *lookup;
    struct fetch_call *call;
    uint64_t deadline_ns;
};

struct fetch_call {
    struct task task;
    struct fetcher *fetcher;
    struct read *read;
    unsigned left; // waiters without an end, and one while they are being set up
    unsigned count;
    struct waiter waiters[];
};

struct fetcher {
    struct instance *instance;
    uint64_t wait_ns;
    struct flight_table flights;
    struct fills fills;
    struct list waiters;
    struct list ready;  // flights to be asked for
    struct list paused; // flights between two rounds, the first to go on first
    struct source *sources;
    unsigned source_count;
    unsigned rotation;  // number of the replica asked last
    uint64_t alone_ns;  // since when no replica is connected, 0 = one is
    struct timer timer;
    struct task flush, open, close;
    bool flush_queued, closing;
    struct notice *closed;
    struct log_gate bad_gate, never_gate;
};

static inline uint64_t fetcher_now_ns(const struct fetcher *fetcher)
{
    return loop_now_ns(fetcher->instance->home);
}

// Ends every waiter of a flight with `error`, and the flight. (fetch.c)
void fetcher_fail(struct fetcher *fetcher, struct flight *flight, int error);
// Ends the waiters whose deadline is over. (fetch.c)
void fetcher_expire(struct fetcher *fetcher);

// One bit for each replica that is connected. (fetch_ask.c, as all that follows)
uint64_t fetcher_connected(const struct fetcher *fetcher);
// Something happened: what can be asked for is, at the end of this turn.
void fetcher_stir(struct fetcher *fetcher);
// The replica asked last did not give the value: `flight` is in no slot any more.
void fetcher_refused(struct fetcher *fetcher, struct flight *flight, enum fetch_status status);
void fetcher_on_flush(struct task *task);
void fetcher_on_timer(struct timer *timer);

#endif
