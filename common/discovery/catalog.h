// SPDX-License-Identifier: Apache-2.0
// What Consul's JSON says, turned into lists. Whatever stands there may be wrong: an answer that
// is not what it should be is refused whole, a node whose data cannot be used is left out, counted
// and named. Pure functions, any thread.
#ifndef QS_COMMON_DISCOVERY_CATALOG_H
#define QS_COMMON_DISCOVERY_CATALOG_H

#include "common/base/bytes.h"
#include "common/discovery/endpoints.h"

#define CATALOG_NODES_MAX 1024 // of one answer, the nearest; more are not looked at
#define CATALOG_SITES_MAX 64

// What an answer is read for.
struct catalog_wish {
    const char *node;    // this node: it is left out
    const char *cluster; // nodes of another one are left out
    bool own_site;
};

// Nodes that were left out because of their data.
struct catalog_faults {
    size_t refused;
    char first[192]; // "node x: what is wrong"
};

// /v1/health/service/...: the nodes in the order of the answer. ERR_PROTOCOL.
int catalog_read_health(struct bytes body, const struct catalog_wish *wish,
                        struct endpoints **ret_endpoints,
                        struct catalog_faults *ret_faults) MUST_CHECK;

struct catalog_site {
    char name[ENDPOINT_SITE_MAX + 1];
    uint64_t distance_ns; // UINT64_MAX = not known
};

struct catalog_sites {
    size_t count;
    struct catalog_site site[CATALOG_SITES_MAX];
};

// /v1/catalog/datacenters: all data centres, in its order. ERR_PROTOCOL.
int catalog_read_sites(struct bytes body, struct catalog_sites *ret_sites) MUST_CHECK;

// /v1/coordinate/datacenters: sets the distances from data centre `own`, as far as they are told,
// and orders the sites by them, nearest first. ERR_PROTOCOL.
int catalog_read_distances(struct bytes body, const char *own,
                           struct catalog_sites *sites) MUST_CHECK;

// /v1/agent/self: the name of the agent's data centre (ENDPOINT_SITE_MAX + 1 bytes). ERR_PROTOCOL.
int catalog_read_self(struct bytes body, char *ret_site) MUST_CHECK;

// An endpoint from a host in numbers and a port. NULL, or what is wrong with it (static memory).
const char *catalog_address(struct endpoint *endpoint, const char *host, int64_t port);

#endif
