// SPDX-License-Identifier: Apache-2.0
// Where the other nodes of an instance are to be found: immutable lists, and the feed through which
// a new list takes the place of the one before. Whoever finds nodes (the configuration, Consul)
// publishes; whoever connects to them (the follower, a proxy's fetcher) subscribes and looks again
// when its notice comes. A list is a hint: it says whom to try, never who lives.
#ifndef QS_COMMON_DISCOVERY_ENDPOINTS_H
#define QS_COMMON_DISCOVERY_ENDPOINTS_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/task.h"
#include "common/io/address.h"

#define ENDPOINT_NODE_MAX 64 // characters of a node's name
#define ENDPOINT_SITE_MAX 64 // ... of a data centre's

enum endpoint_kind {
    ENDPOINT_UNKNOWN = 0, // nothing but an address was given
    ENDPOINT_ROOT,
    ENDPOINT_INTERMEDIATE, // takes children and holds every value
    ENDPOINT_REPLICA,
    ENDPOINT_PROXY,
};

struct endpoint {
    char address[ADDRESS_TEXT_BYTES]; // numeric host:port, as address_parse takes it
    struct address parsed;
    char node[ENDPOINT_NODE_MAX + 1]; // "" = not known
    char site[ENDPOINT_SITE_MAX + 1]; // "" = not known
    enum endpoint_kind kind;
    unsigned depth;       // hops from the root as it last said, UINT32_MAX = not known
    uint64_t distance_ns; // round trip by network coordinates, UINT64_MAX = not known
    bool own_site;        // in this node's own data centre
};

// Immutable once published; the order is the finder's, best first.
struct endpoints {
    _Atomic unsigned references;
    size_t count;
    struct endpoint endpoint[];
};

// One reference for the caller, `count` zeroed entries to be filled before it is shown to anybody.
struct endpoints *endpoints_new(size_t count) MUST_CHECK;
struct endpoints *endpoints_hold(struct endpoints *endpoints); // returns it, any thread
void endpoints_release(struct endpoints *endpoints);           // any thread; NULL is fine

// From addresses as configured (NULL-terminated; NULL = none), in their order. ERR_CONFIG: *ret_bad
// is the text at fault, *ret_reason (static memory) says why.
int endpoints_parse(const char *const *texts, struct endpoints **ret_endpoints,
                    const char **ret_bad, const char **ret_reason) MUST_CHECK;

// Whether both have the same entries, in any order, by everything but depth and distance.
bool endpoints_same(const struct endpoints *a, const struct endpoints *b);

// The list in force and those who want to hear of the next one. Zeroed and opened; outlives its
// subscribers.
struct endpoint_feed {
    pthread_mutex_t lock;
    struct endpoints *newest;   // `lock`; never NULL
    struct notice *subscribers[4]; // `lock`
};

void endpoint_feed_open(struct endpoint_feed *feed); // with an empty list
void endpoint_feed_close(struct endpoint_feed *feed);

// Takes the reference over. Subscribers are told. Any thread.
void endpoint_feed_publish(struct endpoint_feed *feed, struct endpoints *endpoints);

// The list in force, held for the caller. Any thread.
struct endpoints *endpoint_feed_get(struct endpoint_feed *feed) MUST_CHECK;

// From here on `notice` is raised after each publication; after the second call never again (it may
// still be pending).
void endpoint_feed_subscribe(struct endpoint_feed *feed, struct notice *notice);
void endpoint_feed_unsubscribe(struct endpoint_feed *feed, struct notice *notice);

#endif
