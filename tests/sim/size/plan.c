// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/size/plan.h"

#include <stdio.h>
#include <string.h>

#include "common/core/instance.h"
#include "tests/sim/size/earth.h"

#define FEEDERS 4                       // sites on a list beside the own one
#define SITES_FED_MAX 12                // a site is first on so many lists of other sites
#define REGION_NS NS_PER_MS             // round trip between two sites of a region, at least
#define SPREAD_NS (2 * NS_PER_MS)       // a region's sites but its first are up to so far out
#define SITE_LEAST_NS (2 * NS_PER_MS / 10)
#define SITE_MOST_NS (5 * NS_PER_MS / 10)
#define HOP_NS (10 * NS_PER_MS)                // what passing a site on is taken to cost
#define LIST_MAX (2 + FEEDERS + 1)

struct site {
    unsigned region, first;
    uint64_t spread_ns;    // from where its region was measured
    uint64_t from_root_ns; // over those who feed it
    unsigned fed;          // sites that have it first
    bool placed;
    unsigned feeders[FEEDERS]; // best first
    unsigned feeder_count;
    char name[ENDPOINT_SITE_MAX + 1];
};

static struct {
    unsigned nodes, sites;
    enum plan_lists lists;
    struct site site[PLACES_MAX + 1];
    uint16_t site_of[NODES_MAX];
} plan;

unsigned plan_nodes(void) { return plan.nodes; }
unsigned plan_sites(void) { return plan.sites; }
unsigned plan_site(unsigned node) { return plan.site_of[node]; }
unsigned plan_site_first(unsigned site) { return plan.site[site].first; }
const char *plan_site_name(unsigned site) { return plan.site[site].name; }

// Its place among its site's nodes, the root not counted.
static unsigned place_in_site(unsigned node)
{
    unsigned site = plan.site_of[node];
    return node - plan.site[site].first - (site == 0 ? 1 : 0);
}

static unsigned intermediate(unsigned site, unsigned which)
{
    return plan.site[site].first + which + (site == 0 ? 1 : 0);
}

bool plan_feeds(unsigned node) { return node == 0 || place_in_site(node) < 2; }

int plan_role(unsigned node)
{
    return node == 0                               ? ROLE_ROOT
           : plan_feeds(node) || node % 4 == 0 ? ROLE_REPLICA
                                                   : ROLE_PROXY;
}

// Any number, the same for the same `of`.
static uint64_t scatter(uint64_t of) { return (of * 0x9e3779b97f4a7c15ull) >> 32; }

// ---- distances ---------------------------------------------------------------------------------

static uint64_t between_sites_ns(unsigned a, unsigned b)
{
    const struct site *from = &plan.site[a], *to = &plan.site[b];
    uint64_t way_ns = from->region == to->region ? REGION_NS
                                                 : earth_round_trip_ns(from->region, to->region);
    return way_ns + from->spread_ns + to->spread_ns;
}

uint64_t plan_round_trip_ns(unsigned a, unsigned b)
{
    if (plan.site_of[a] != plan.site_of[b]) {
        return between_sites_ns(plan.site_of[a], plan.site_of[b]);
    }
    uint64_t pair = (uint64_t)(a < b ? a : b) << 32 | (a < b ? b : a);
    return SITE_LEAST_NS + scatter(pair) % (SITE_MOST_NS - SITE_LEAST_NS);
}

// ---- who feeds which site ----------------------------------------------------------------------

static uint64_t way_over_ns(unsigned feeder, unsigned site)
{
    return plan.site[feeder].from_root_ns + HOP_NS + between_sites_ns(feeder, site) / 2;
}

// What speaks against having `feeder` on the list of `site`; UINT64_MAX: it cannot be. The head of
// a list is not one that is first on too many others.
static uint64_t cost_ns(unsigned feeder, unsigned site, bool head)
{
    const struct site *other = &plan.site[feeder];
    for (unsigned i = 0; i < plan.site[site].feeder_count; i++) {
        if (plan.site[site].feeders[i] == feeder) {
            return UINT64_MAX;
        }
    }
    if (plan.lists == LISTS_NEAREST) {
        return feeder == site ? UINT64_MAX : between_sites_ns(feeder, site);
    }
    bool fits = other->placed && !(head && other->fed >= SITES_FED_MAX);
    return fits ? way_over_ns(feeder, site) : UINT64_MAX;
}

static bool choose_feeder(unsigned site, bool head, unsigned *ret_feeder)
{
    uint64_t least_ns = UINT64_MAX;
    for (unsigned i = 0; i < plan.sites; i++) {
        uint64_t cost = cost_ns(i, site, head);
        if (cost < least_ns) {
            least_ns = cost;
            *ret_feeder = i;
        }
    }
    return least_ns != UINT64_MAX;
}

static void place_site(unsigned number)
{
    struct site *site = &plan.site[number];
    unsigned feeder = 0;
    while (site->feeder_count < FEEDERS &&
           choose_feeder(number, site->feeder_count == 0, &feeder)) {
        site->feeders[site->feeder_count++] = feeder;
    }
    site->placed = true;
    site->from_root_ns = SITE_MOST_NS / 2; // the root's own
    if (site->feeder_count > 0) {
        plan.site[site->feeders[0]].fed++;
        site->from_root_ns = way_over_ns(site->feeders[0], number);
    }
}

// Nearest to the root first: on inward lists whoever is on one is nearer to it, so that no circle
// can come about.
static void place_sites(void)
{
    for (unsigned count = 0; count < plan.sites; count++) {
        unsigned next = 0;
        uint64_t least_ns = UINT64_MAX;
        for (unsigned i = 0; i < plan.sites; i++) {
            uint64_t away_ns = i == 0 ? 0 : between_sites_ns(0, i);
            if (!plan.site[i].placed && away_ns < least_ns) {
                least_ns = away_ns;
                next = i;
            }
        }
        place_site(next);
    }
}

void plan_open(unsigned nodes, unsigned sites, enum plan_lists lists)
{
    CHECK(nodes <= NODES_MAX && sites <= PLACES_MAX && nodes / sites >= 4);
    memset(&plan, 0, sizeof plan);
    plan.nodes = nodes;
    plan.sites = sites;
    plan.lists = lists;
    plan.site[sites].first = nodes;
    for (unsigned i = 0; i < sites; i++) {
        struct site *site = &plan.site[i];
        site->region = i % earth_regions();
        site->spread_ns = i < earth_regions() ? 0 : scatter(i) % SPREAD_NS;
        site->first = (unsigned)((uint64_t)i * nodes / sites);
        snprintf(site->name, sizeof site->name, "%s %u", earth_name(site->region),
                 i / earth_regions() + 1);
    }
    for (unsigned i = 0; i < nodes; i++) {
        unsigned site = i == 0 ? 0 : plan.site_of[i - 1];
        plan.site_of[i] = (uint16_t)(site + (i >= plan.site[site + 1].first ? 1 : 0));
    }
    place_sites();
}

// ---- lists -------------------------------------------------------------------------------------

struct draft {
    unsigned nodes[LIST_MAX];
    unsigned count;
};

static void add(struct draft *draft, unsigned node) { draft->nodes[draft->count++] = node; }

static void write_list(unsigned node, struct draft *draft)
{
    unsigned number = plan.site_of[node];
    const struct site *site = &plan.site[number];
    unsigned place = place_in_site(node);
    if (place == 1) {
        add(draft, intermediate(number, 0));
    } else if (place > 1) {
        add(draft, intermediate(number, place % 2));
        add(draft, intermediate(number, 1 - place % 2));
    }
    for (unsigned i = 0; i < site->feeder_count; i++) {
        add(draft, intermediate(site->feeders[i], 0));
    }
    add(draft, 0);
}

static void fill(struct endpoint *endpoint, unsigned self, unsigned node)
{
    const char *reason = NULL;
    snprintf(endpoint->address, sizeof endpoint->address, "10.0.%u.%u:7400", node / 256,
             node % 256);
    int error = address_parse(&endpoint->parsed, endpoint->address, &reason);
    CHECK(error == OK);
    unsigned site = plan.site_of[node];
    snprintf(endpoint->node, sizeof endpoint->node, "n%u", node);
    snprintf(endpoint->site, sizeof endpoint->site, "%s", plan.site[site].name);
    endpoint->kind = node == 0 ? ENDPOINT_ROOT : ENDPOINT_INTERMEDIATE;
    endpoint->own_site = site == plan.site_of[self];
    endpoint->distance_ns = plan_round_trip_ns(self, node);
}

void plan_introduce(struct node *node)
{
    struct draft draft = {0};
    if (node->number != 0) {
        write_list(node->number, &draft);
    }
    struct endpoints *list = endpoints_new(draft.count);
    for (unsigned i = 0; i < draft.count; i++) {
        fill(&list->endpoint[i], node->number, draft.nodes[i]);
    }
    endpoint_feed_publish(&node->process.instance->parents, list);
}
