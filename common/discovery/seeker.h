// SPDX-License-Identifier: Apache-2.0
// What is sought for one instance: asks each data centre, keeps what they say in rosters, and
// publishes lists of parents and of replicas whenever they change. The finder's thread, but for
// what the feeds do.
//
// Of each data centre (a source):
//   nodes     /v1/health/service/<service>?passing, those that are no proxies: a blocking query in
//             the own data centre, in others at an interval that grows with the distance
//   replicas  the SRV records of replica.<service>.service.<site>.<domain>, for a proxy
// Own data centre first, then the others by their distance; whom a data centre does not name any
// more comes last of it. While no replica is named roots join them: they hold every value.
#ifndef QS_COMMON_DISCOVERY_SEEKER_H
#define QS_COMMON_DISCOVERY_SEEKER_H

#include "common/base/log.h"
#include "common/discovery/catalog.h"
#include "common/discovery/dns.h"
#include "common/discovery/inquiry.h"
#include "common/discovery/roster.h"

#define SEEKER_LIST_MAX 256  // entries of one published list
#define SEEKER_LOOK_MS 10000 // between two questions for the own data centre's replicas
#define SEEKER_NEAR 3        // so many other data centres are asked as often as this:
#define SEEKER_NEAR_MS 30000
#define SEEKER_FAR_MS 300000 // ... and the rest
#define SEEKER_LOST_MS 2000  // ... and all of them while nobody is known who could be followed
#define SEEKER_STAGGER_MS 200 // for each of them, before the first question
#define SEEKER_SAVE_NS (10 * NS_PER_S) // between two writes of the file, at least

// What it points to outlives the seeker.
struct seeker_setup {
    const char *instance, *node, *cluster;
    const char *service, *domain;
    const char *site;                         // of this node, NULL = the agent's own
    struct endpoint_feed *parents, *replicas; // NULL = not sought
    const char *saved_path;
    struct instance_metrics *metrics;
    struct node_metrics *node_metrics;
    struct consul *consul;
    struct dns *dns;
};

// What one data centre says.
struct source {
    struct seeker *seeker;
    char site[ENDPOINT_SITE_MAX + 1]; // "" = the agent's own
    bool own;
    uint64_t distance_ns;
    struct inquiry inquiry;
    uint64_t said; // hash of the last answer
    struct dns_call look;
    uint64_t look_ns; // when it is due; of one under way when it began
    uint64_t look_every_ms;
    unsigned look_failures; // in a row
    struct roster nodes, replicas;
    size_t replicas_named; // by the last answer about nodes, also an empty one
};

struct seeker {
    struct seeker_setup setup;
    struct source *sources[CATALOG_SITES_MAX]; // [0] is the own one
    size_t source_count;
    struct endpoints *parents, *replicas; // as last published
    bool changed;                         // since they were
    uint64_t publish_ns, save_ns;         // not before
    bool unsaved;
    struct log_gate gate, refused_gate;
};

// Publishes what was saved.
void seeker_open(struct seeker *seeker, const struct seeker_setup *setup);
void seeker_close(struct seeker *seeker);

// Asks, publishes and saves what is due. Returns when to call again at the latest.
uint64_t seeker_turn(struct seeker *seeker, uint64_t now_ns);

// These data centres there are, nearest first, `own` among them.
void seeker_sites(struct seeker *seeker, const char *own, const struct catalog_sites *sites);

#endif
