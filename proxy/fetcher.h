// SPDX-License-Identifier: Apache-2.0
// The inside of the fetcher, shared by fetch_call.c (reads and their ends), fetch.c (replicas
// coming, answering and going), fetch_members.c (which there are), fetch_ask.c (whom to ask, and
// time) and recall.c (reads as of an earlier index, which go over the same links); nobody else
// includes it.
//
// A read becomes a call with one waiter for each missing value, posted to the home loop. Waiters
// are admitted at the end of a turn, of each call no more than its share at once, so that no read
// alone can take all of fetch_max. An admitted waiter hangs on a flight (proxy/flight.h) and, since
// all wait equally long, in one list in the order of deadlines. A flight has waiters always, and
// stands in `ready`, in `paused`, or in the slots of requests. When the last waiter of a call has
// its end, the call goes back to the read's loop. When one fails, those that are not admitted yet
// fail alike: the command has its error already. Home loop only.
#ifndef QS_PROXY_FETCHER_H
#define QS_PROXY_FETCHER_H

#include <pthread.h>

#include "common/base/log.h"
#include "proxy/budget.h"
#include "proxy/fetch.h"
#include "proxy/fill.h"
#include "proxy/pool.h"
#include "proxy/recall.h"
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
    struct list node; // of the fetcher's calls, until all waiters are admitted
    struct fetcher *fetcher;
    struct read *read;
    int failure;         // of one waiter: nothing more is asked for
    unsigned left;       // waiters without an end, and one while it is among the calls
    unsigned admitted;   // the first of them
    unsigned under_way;  // of these, without an end
    uint64_t under_way_bytes;
    unsigned count;
    struct waiter waiters[];
};

struct fetcher {
    struct instance *instance;
    uint64_t wait_ns;
    uint64_t share, share_bytes; // of one call, at once
    struct flight_table flights;
    struct fills fills;
    struct list calls;
    struct list waiters;
    struct list ready;  // flights to be asked for
    struct list paused; // flights between two rounds, the first to go on first
    pthread_mutex_t lock; // who the sources are, against looks from other threads
    const struct source_ops *source_ops;
    struct source *sources; // POOL_MAX, by their numbers; those closed are free
    unsigned source_count;  // numbers that were ever used
    unsigned listed;        // replicas in the list in force
    struct notice list;     // there is another one
    bool opened;
    struct pool pool;     // of the sources, by their numbers
    struct budget budget;
    struct recalls recalls;
    uint64_t alone_ns;  // since when no replica is connected, 0 = one is
    unsigned forks;     // of the view that was looked at last: flights are of its history
    struct timer timer;
    struct task flush, open, close;
    bool flush_queued, closing;
    bool recalls_first; // alternately, as fetches and recalls live on one budget
    struct notice *closed;
    struct log_gate bad_gate, never_gate, quarantine_gate;
};

static inline uint64_t fetcher_now_ns(const struct fetcher *fetcher)
{
    return loop_now_ns(fetcher->instance->home);
}

// The value came: given to every waiter, kept, and the flight ends. (fetch_call.c, as the next)
void fetcher_land(struct fetcher *fetcher, struct flight *flight, struct bytes value);
// Ends every waiter of a flight with `error`, and the flight.
void fetcher_fail(struct fetcher *fetcher, struct flight *flight, int error);
// The data shown became that of another history: what is under way is of the one before.
void fetcher_forked(struct fetcher *fetcher);
// True when a replica may come up before the deadline, as far as is known.
bool fetcher_hopeful(const struct fetcher *fetcher);
// Ends the waiters whose deadline is over.
void fetcher_expire(struct fetcher *fetcher);
// Admits waiters as far as the limits allow; ends those of calls that have failed.
void fetcher_admit(struct fetcher *fetcher);

// The list in force is looked at, again and again. (fetch_members.c, as the next)
void fetcher_take_list(struct fetcher *fetcher);
// Leaves those that have left the list, as far as nothing is under way.
void fetcher_retire(struct fetcher *fetcher);
void fetcher_members_open(struct fetcher *fetcher);
void fetcher_members_close(struct fetcher *fetcher);

// A request is over: it weighs on nothing any more. (fetch.c, as the next)
void fetcher_unburden(struct fetcher *fetcher, struct source *source,
                      const struct source_request *request);
// A replica was of no use.
void fetcher_fault(struct fetcher *fetcher, struct source *source, const char *what);

// Something happened: what can be asked for is, at the end of this turn. (fetch_ask.c, as all
// that follows)
void fetcher_stir(struct fetcher *fetcher);
// Where this proxy stands now, which is what replicas are measured by. Returns the view's forks.
unsigned fetcher_look(struct fetcher *fetcher);
// `flight` shall be asked for; it is in no list.
void fetcher_want(struct fetcher *fetcher, struct flight *flight);
// A replica did not give the value, and `flight` is in that slot no more.
void fetcher_refused(struct fetcher *fetcher, struct flight *flight, enum fetch_status status);
void fetcher_on_flush(struct task *task);
void fetcher_on_timer(struct timer *timer);

#endif
