// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/grid.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/model.h"
#include "tests/sim/seams.h"

#define CENTRE_FIRST 2 // the sites before are the root's and the standby's
#define CENTRE_NODES 4 // intermediate, replica, two proxies
#define CHILDREN_MAX 32 // the default
#define ACCESS_US 150  // one way within a site
#define CITY_US 500    // ... from site to site of a city

#define FEW 4          // nodes on a list, where each node knows only some

static _Alignas(64) struct node nodes[GRID_NODES];
static bool knows_few;

// Where the sites are, and what a packet takes from city to city.
static const unsigned city[GRID_SITES] = {0, 1, 0, 1, 2};
static const unsigned way_us[3][3] = {
    {CITY_US, 15000, 40000}, {15000, CITY_US, 45000}, {40000, 45000, CITY_US}};
static const char *const site_names[GRID_SITES] = {"root", "standby", "east", "west", "south"};

struct node *grid_node(unsigned number) { return &nodes[number]; }

unsigned grid_site(unsigned number)
{
    return number < CENTRE_FIRST ? number
                                 : CENTRE_FIRST + (number - CENTRE_FIRST) / CENTRE_NODES;
}

// 0 = intermediate, 1 = replica, 2 and 3 = proxies; of the root and the standby 0.
static unsigned place_of(unsigned number)
{
    return number < CENTRE_FIRST ? 0 : (number - CENTRE_FIRST) % CENTRE_NODES;
}

static unsigned itself(unsigned host) { return host; }

static uint64_t latency_ns(unsigned from, unsigned to)
{
    unsigned a = grid_site(from), b = grid_site(to);
    return (a == b ? ACCESS_US : way_us[city[a]][city[b]]) * 1000ull;
}

static void carried(unsigned from, unsigned to, size_t size)
{
    (void)from, (void)to, (void)size;
}

// ---- who knows whom ----------------------------------------------------------------------------

// What is asked for the log comes first where it is lower: own intermediate, others, standby, root.
static unsigned rank(unsigned self, unsigned other)
{
    if (grid_site(self) == grid_site(other)) {
        return 0;
    }
    return other >= CENTRE_FIRST ? 1 : 3 - other;
}

// As the field's lists: intermediates follow the standby, the root, other intermediates; leaves the
// intermediates, their own first, then those.
static void list(unsigned self)
{
    bool middle = place_of(self) == 0;
    for (unsigned wanted = 0; wanted < 4; wanted++) {
        unsigned kind = middle ? 3 - wanted : wanted;
        for (unsigned other = 0; other < GRID_NODES; other++) {
            if (other != self && place_of(other) == 0 && rank(self, other) == kind &&
                !(self == 1 && other != 0)) {
                node_upstream(&nodes[self], other);
            }
        }
    }
}

static void fill(struct endpoint *endpoint, unsigned self, unsigned other)
{
    const char *reason = NULL;
    snprintf(endpoint->address, sizeof endpoint->address, "%s", nodes[other].address);
    CHECK(address_parse(&endpoint->parsed, endpoint->address, &reason) == OK);
    snprintf(endpoint->node, sizeof endpoint->node, "%s", nodes[other].name);
    snprintf(endpoint->site, sizeof endpoint->site, "%s", site_names[grid_site(other)]);
    endpoint->kind = other == 0 ? ENDPOINT_ROOT : ENDPOINT_REPLICA;
    endpoint->depth = UINT32_MAX;
    endpoint->own_site = grid_site(self) == grid_site(other);
    endpoint->distance_ns = 2 * latency_ns(self, other);
}

static bool feeds(unsigned number) { return nodes[number].instance_options.role != ROLE_PROXY; }

// Everybody that a node may know, least number first; when it knows few, two of the lower numbers,
// so that one is left when the other is lost, and two of any, with whom circles would form.
static unsigned choose_known(unsigned self, unsigned found[GRID_NODES])
{
    unsigned count = 0;
    for (unsigned other = 0; other < GRID_NODES; other++) {
        if (other != self && feeds(other)) {
            found[count++] = other;
        }
    }
    if (!knows_few || count <= FEW) {
        return count;
    }
    for (unsigned i = 0; i < FEW; i++) {
        unsigned lower = i;
        while (lower < count && found[lower] < self) {
            lower++;
        }
        unsigned bound = i < FEW / 2 && lower > i ? lower : count;
        unsigned at = (unsigned)chance_between(i, bound - 1);
        unsigned chosen = found[at];
        memmove(&found[i + 1], &found[i], (at - i) * sizeof found[0]);
        found[i] = chosen;
    }
    return FEW;
}

// As Consul names them.
static void introduce(struct node *node)
{
    unsigned found[GRID_NODES];
    unsigned count = choose_known(node->number, found);
    struct endpoints *list = endpoints_new(count);
    for (unsigned i = 0; i < count; i++) {
        fill(&list->endpoint[i], node->number, found[i]);
    }
    endpoint_feed_publish(&node->process.instance->parents, list);
}

// ---- setting up --------------------------------------------------------------------------------

static void sources(unsigned self)
{
    for (unsigned wanted = 0; wanted < 3; wanted++) {
        for (unsigned other = 1; other < GRID_NODES; other++) {
            bool holds = nodes[other].instance_options.role == ROLE_REPLICA;
            if (holds && other != self && rank(self, other) == wanted) {
                node_source(&nodes[self], other);
            }
        }
    }
}

bool grid_crowded(void) { return nodes[0].instance_options.children_max < CHILDREN_MAX; }

static void choose_options(struct node *node, bool finds, uint64_t children_max)
{
    struct instance_options *options = &node->instance_options;
    node->options.heartbeat = 500;
    node->options.silence = 2000;
    node->options.reconnect = 1000;
    node->options.site = finds ? site_names[grid_site(node->number)] : NULL;
    options->sync = 2;
    options->children_max = children_max;
    options->probe = 10000;
    options->window = 60000;
    node->host.skew_ppm = (int64_t)chance_below(401) - 200;
    node->host.wall_ms = chance_below(1u << 31);
}

void grid_open(void)
{
    static const struct net_map map = {
        .place = itself, .latency_ns = latency_ns, .carried = carried};
    bool finds = chance_permille(750);
    knows_few = chance_permille(400);
    uint64_t children_max = chance_permille(750) ? CHILDREN_MAX : chance_between(2, 4);
    net_open(GRID_NODES);
    net_set_map(&map);
    disks_open(GRID_NODES);
    for (unsigned i = 0; i < GRID_NODES; i++) {
        int role = i == 0 ? ROLE_ROOT : place_of(i) < 2 ? ROLE_REPLICA : ROLE_PROXY;
        node_init(&nodes[i], i, role);
        choose_options(&nodes[i], finds, children_max);
    }
    for (unsigned i = 1; i < GRID_NODES; i++) {
        if (finds) {
            nodes[i].introduce = introduce;
        } else {
            list(i);
        }
        if (nodes[i].instance_options.role == ROLE_PROXY) {
            sources(i);
        }
    }
    for (unsigned i = 0; i < GRID_NODES; i++) {
        node_start_after(&nodes[i], i == 0 ? 0 : chance_below(500 * NS_PER_MS));
    }
}

// ---- looking -----------------------------------------------------------------------------------

static bool upstream(unsigned number, struct upstream_status *ret_status)
{
    struct node *node = &nodes[number];
    if (node->phase != NODE_UP || node_is_root(node) || node->process.instance == NULL) {
        return false;
    }
    follow_status(node->process.instance, ret_status);
    return true;
}

unsigned grid_parent(unsigned number)
{
    struct upstream_status status;
    bool follows = upstream(number, &status) && status.connected;
    return follows ? (unsigned)strtoul(status.node + 1, NULL, 10) : GRID_NOBODY;
}

bool grid_rooted(unsigned number)
{
    unsigned hops = 0;
    while (number != 0 && number != GRID_NOBODY && hops++ < GRID_NODES) {
        number = grid_parent(number);
    }
    return number == 0;
}

unsigned grid_changes(void)
{
    unsigned sum = 0;
    for (unsigned i = 1; i < GRID_NODES; i++) {
        sum += (unsigned)METRIC_GET(&nodes[i].metrics, instance, parent_changes);
    }
    return sum;
}

void grid_describe(void)
{
    for (unsigned i = 0; i < GRID_NODES; i++) {
        struct upstream_status status = {.state = "is not up"};
        unsigned parent = upstream(i, &status) ? grid_parent(i) : GRID_NOBODY;
        world_log(nodes[i].name, "%s, at index %llu of %llu, parent %d: %s",
                  site_names[grid_site(i)], (unsigned long long)nodes[i].visible,
                  (unsigned long long)model_index(), (int)parent, i == 0 ? "" : status.state);
    }
}
