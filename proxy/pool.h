// SPDX-License-Identifier: Apache-2.0
// How a proxy's replicas stand, by number, and which is asked next.
//
// - The load is spread by expected wait: what the replica took lately times what it has to do. All
//   whose wait is within POOL_NEAR times the least are equally near: among them the one with the
//   fewest requests in flight, then in turn. So a far data centre is left alone until the near
//   one is busy, and no replica has it all. What was measured fades, or a replica that was slow
//   once would never be measured again.
// - One that seems not to show a version yet is asked for it last: it was so many indexes behind
//   this proxy when it last said where it stands, and is taken to be so for a moment.
// - POOL_ERRORS errors in a row put a replica in quarantine, for a time that doubles from once to
//   once and is jittered. Then one request is a probe: an answer in time closes the quarantine, an
//   error prolongs it. Meanwhile it is asked for nothing else, unless all others that are
//   connected are in quarantine too.
//
// The fetcher's loop; fields marked atomic may be read by any thread. No clock of its own.
#ifndef QS_PROXY_POOL_H
#define QS_PROXY_POOL_H

#include <stdatomic.h>

#include "common/base/base.h"

#define POOL_MAX 64
#define POOL_NEAR 2
#define POOL_ERRORS 3
#define POOL_FIRST_MS 200 // the first quarantine

enum pool_health { POOL_HEALTHY, POOL_QUARANTINED, POOL_PROBING };

struct pool_member {
    bool connected;
    uint64_t requests, bytes;    // in flight
    _Atomic uint64_t response_ns; // smoothed time of an answer, 0 = not known
    uint64_t measured_ns;        // when that was
    uint64_t lag;                // indexes that it was behind this proxy
    uint64_t lag_ns;             // when that was so
    _Atomic uint64_t visible;    // the index that it said it shows, 0 = it has not said
    _Atomic uint64_t floor;      // of its history, likewise
    _Atomic int health;          // enum pool_health
    unsigned errors;             // in a row
    unsigned quarantines;        // in a row
    uint64_t until_ns;           // of the quarantine
};

struct pool {
    struct pool_member members[POOL_MAX];
    unsigned count;
    unsigned rotation; // the one asked last
    uint64_t index;    // that this proxy shows; the owner keeps it up to date
    uint64_t requests_max, bytes_max; // in flight, each
    uint64_t quarantine_ms;           // the longest
};

void pool_open(struct pool *pool, uint64_t requests_max, uint64_t bytes_max,
               uint64_t quarantine_ms);
// Number `number` is another replica from now on, of which nothing is known. Numbers are given
// from 0 on.
void pool_enter(struct pool *pool, unsigned number);

// A replica came, whose journal ends at `index`; is being left: it is asked for nothing more; is
// not left after all; or went, with all that it was asked for, which is an error.
void pool_joined(struct pool *pool, unsigned number, uint64_t index, uint64_t now_ns);
void pool_leaving(struct pool *pool, unsigned number);
void pool_staying(struct pool *pool, unsigned number);
// True: it is in quarantine from now on (as everywhere).
bool pool_left(struct pool *pool, unsigned number, uint64_t now_ns);

// Sets of replicas, one bit each: connected; those that may be asked now or once they have less to
// do; those that may be asked at once.
uint64_t pool_connected(const struct pool *pool);
uint64_t pool_healthy(const struct pool *pool); // connected, and not in quarantine
uint64_t pool_askable(const struct pool *pool);
uint64_t pool_open_now(const struct pool *pool, uint64_t now_ns);

// Whom to ask for `version`, of all but `tried`: a number, or -1 when nobody can be asked now.
// `spare`: only a healthy one that is not known to be behind.
int pool_choose(struct pool *pool, uint64_t version, uint64_t tried, bool spare, uint64_t now_ns);
// What is asked of `number` for one version may be asked of it for the other as well.
bool pool_alike(const struct pool *pool, unsigned number, uint64_t one, uint64_t other,
                uint64_t now_ns);
// The next request to it is a probe: it should ask for little.
bool pool_is_probe(const struct pool *pool, unsigned number);
// Bytes that it may be asked for; as in proxy/budget.h the last value may exceed them.
uint64_t pool_room(const struct pool *pool, unsigned number);

// A request is sent to the chosen one: true when it is a probe. And is over, however it ended.
bool pool_sent(struct pool *pool, unsigned number, uint64_t bytes);
void pool_over(struct pool *pool, unsigned number, uint64_t bytes);
// Before pool_over: nobody waits for it any more, which says nothing of the replica. If it was a
// probe, another one is due.
void pool_dropped(struct pool *pool, unsigned number);

// It took this long to answer, or has not answered for this long.
void pool_measured(struct pool *pool, unsigned number, uint64_t took_ns, uint64_t now_ns);
// It said where it stands.
void pool_reported(struct pool *pool, unsigned number, uint64_t visible, uint64_t floor,
                   uint64_t now_ns);
// It was of use; it was not.
void pool_succeeded(struct pool *pool, unsigned number);
bool pool_failed(struct pool *pool, unsigned number, uint64_t now_ns);

// The least index that a healthy, connected replica has said to show; 0: none has. It is a
// replica's word: compare it with what this proxy shows. Any thread.
uint64_t pool_lowest_visible(const struct pool *pool, uint64_t connected);

#endif
