// SPDX-License-Identifier: Apache-2.0
// A proxy's misses: values that its rows do not hold are asked of replicas by exactly the versions
// that the read's view shows, verified by length and check, given to every read that waits for
// them, and kept (proxy/fill.c). Misses of one turn for one replica leave in one message; a
// value is under way once, however many wait, but for hedges: when a replica takes long, another
// is asked too, and the first answer counts. A replica that cannot give a value is followed by the
// next, until the deadline `fetch`; then the lookup gets ERR_UNAVAILABLE. Sooner it gets: ERR_BUSY,
// there is no room among fetch_max; ERR_GONE or ERR_DIVERGED, every replica has trimmed it, or none
// ever had it; ERR_CORRUPT, two rows of one version differ. Never another value.
// Which replica is asked: proxy/pool.h; how much at once: proxy/budget.h. Misses beyond the budget
// wait until their deadline.
// Absent keys, held values and lengths need no replica and never come here.
//
// Reads come from any loop; everything else is on the instance's home loop.
#ifndef QS_PROXY_FETCH_H
#define QS_PROXY_FETCH_H

#include "common/core/instance.h"
#include "common/core/read.h"

struct fetcher;

// For proxy/proxy.c: before any thread runs, and after all have ended.
struct fetcher *fetcher_new(struct instance *instance) MUST_CHECK;
void fetcher_free(struct fetcher *fetcher);

// Connects to the replicas of instance->replicas, as it changes, from the home loop. Any thread,
// once.
int fetch_open(struct instance *instance) MUST_CHECK;
// Ends what is under way with ERR_UNAVAILABLE and closes the connections; `closed` is raised when
// none is left. Any thread, once. Reads that come later get ERR_UNAVAILABLE.
void fetch_close(struct instance *instance, struct notice *closed);

// The role's `fetch`: on read->loop, ends there in read_fetched, never before it returns.
void fetch_read(struct instance *instance, struct read *read);

struct replica_status {
    char address[ADDRESS_TEXT_BYTES];
    const char *state;   // "ready", "quarantine", "probing", "refused", "away"
    bool connected;
    unsigned in_flight;   // requests
    uint64_t rtt_ns;      // of pings, 0 = not known
    uint64_t response_ns; // smoothed time of an answer, 0 = not known
    uint64_t visible;     // the index and the history floor that it last said, 0 = not yet
    uint64_t floor;
};

// Copies up to `max` replicas; returns how many there are. Any thread, a proxy's instance only.
size_t fetch_status(struct instance *instance, struct replica_status *to, size_t max);

// The least visible index that a connected, healthy replica has said; 0 when none has. Values of
// versions up to it can be had again, as far as is known; it may be above what this proxy shows.
// Any thread.
uint64_t fetch_lowest_visible(struct instance *instance);

#endif
