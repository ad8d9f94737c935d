// SPDX-License-Identifier: Apache-2.0
// Eviction: the filter that compactions of a proxy's store run. It takes the *value* out of a row,
// never the key, and only what all of this allows:
//   - the level of space is over the soft limit, and the hand (proxy/hand.h) has given an order;
//   - the row's version is not in the window: the floor is read once, at the begin of a pass, and
//     is one that a published view has shown; for one store it only rises, so an old one keeps
//     more;
//   - the row is old enough (proxy/recency.h, proxy/ages.h). In the range of keys that the hand has
//     asked for the order's limit counts to the letter; where RocksDB rewrites rows for reasons of
//     its own only what is older than that and was not read for two periods.
// A row that stays and was read gets its stamp renewed, since it is written anew in any case.
//
// A compaction looks at no snapshot, so a reader of an older view may meet the stub: that is a miss
// at the stub's own version, and the same value comes from a replica.
//
// Passes run on the store's threads, several at once; evict_show on the applier's; what asks, on
// any; everything else on the walker's.
#ifndef QS_PROXY_EVICT_H
#define QS_PROXY_EVICT_H

#include "common/base/metrics.h"
#include "common/data/store.h"
#include "proxy/ages.h"
#include "proxy/recency.h"
#include "proxy/stub.h"

struct evict;

struct evict_order {
    bool active; // else nothing goes
    bool ranged; // [lower, upper] is what the hand has asked for; an empty upper = no bound
    struct ages_limit limit;
    uint64_t salt; // another one in each order: or what was spared once would always be
    struct bytes lower, upper;
};

struct evict *evict_open(const struct recency *recency, struct instance_metrics *metrics)
    MUST_CHECK;
void evict_close(struct evict *evict); // the store was closed

// The filter of the default family; lives as long as `evict`.
const struct store_filter *evict_filter(struct evict *evict);

// The order for passes that begin from now on; its keys are copied.
void evict_set(struct evict *evict, const struct evict_order *order);
// Applier thread: the floor of the window in a view that was published, or the index of a store
// that was taken into use.
void evict_show(struct evict *evict, uint64_t floor);
uint64_t evict_floor(const struct evict *evict);
// Bytes of values that all passes have dropped.
uint64_t evict_dropped(const struct evict *evict);

// The rule, pure: whether the value of this row, of this age, goes.
bool evict_goes(const struct evict_order *order, struct bytes key, const struct stub *stub,
                uint64_t floor, unsigned age);

#endif
