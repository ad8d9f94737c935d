// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/size/gauge.h"

#include <stdio.h>
#include <string.h>

#include "common/tree/tree.h"

#define INDEXES_MAX 100000u
#define TIMED_MAX 2000u

struct moment {
    uint64_t acknowledged_ns;
    struct digest digest; // as whoever was first showed it
    bool shown;
};

static struct {
    struct node *nodes;
    unsigned count;
    struct moment moments[INDEXES_MAX];
    uint64_t newest;
    uint64_t older; // gauge_newest_before has come so far
    uint64_t first; // index of the first timed write, 0 = none yet
    uint64_t last;
    bool runs;
    uint64_t started_ns, ran_ns;
    uint32_t *delays_us; // TIMED_MAX a node
    uint32_t parents[NODES_MAX];
    struct gauge_bytes bytes[NODES_MAX];
    struct gauge_census census;
} gauge;

void gauge_open(struct node *nodes, unsigned count)
{
    memset(&gauge, 0, sizeof gauge);
    gauge.nodes = nodes;
    gauge.count = count;
    gauge.delays_us = world_alloc((size_t)count * TIMED_MAX * sizeof gauge.delays_us[0]);
}

// ---- writes ------------------------------------------------------------------------------------

static bool is_timed(uint64_t index)
{
    return gauge.first != 0 && index >= gauge.first && index <= gauge.last &&
           (index - gauge.first) % GAUGE_EVERY == 0;
}

static uint32_t *delay_of(unsigned node, uint64_t index)
{
    return &gauge.delays_us[(size_t)node * TIMED_MAX + (index - gauge.first) / GAUGE_EVERY];
}

void gauge_acknowledged(uint64_t index)
{
    CHECK(index == gauge.newest + 1 && index < INDEXES_MAX);
    gauge.newest = index;
    gauge.moments[index].acknowledged_ns = world_now_ns();
    if (!gauge.runs) {
        return;
    }
    gauge.first = gauge.first == 0 ? index : gauge.first;
    if ((index - gauge.first) / GAUGE_EVERY >= TIMED_MAX) {
        return;
    }
    gauge.last = index;
    for (unsigned i = 0; i < gauge.count && is_timed(index); i++) {
        *delay_of(i, index) = gauge.nodes[i].visible >= index ? 0 : UINT32_MAX;
    }
}

uint64_t gauge_newest(void) { return gauge.newest; }

uint64_t gauge_newest_before(uint64_t age_ns)
{
    while (gauge.older < gauge.newest &&
           gauge.moments[gauge.older + 1].acknowledged_ns + age_ns <= world_now_ns()) {
        gauge.older++;
    }
    return gauge.older;
}

static void prove(const struct node *node, const struct view *view)
{
    uint64_t index = view->place.index;
    CHECK(index < INDEXES_MAX);
    WORLD_CHECK(index >= node->visible, "n%u went back from index %llu to %llu", node->number,
                (unsigned long long)node->visible, (unsigned long long)index);
    struct moment *moment = &gauge.moments[index];
    if (!moment->shown) {
        moment->shown = true;
        moment->digest = view->digest;
    }
    WORLD_CHECK(digest_equal(&moment->digest, &view->digest),
                "n%u at index %llu shows another digest than others", node->number,
                (unsigned long long)index);
}

static void shows(struct node *node, const struct view *view)
{
    uint64_t index = view->place.index;
    prove(node, view);
    for (uint64_t i = node->visible + 1; i <= u64_min(index, gauge.last); i++) {
        if (is_timed(i)) {
            uint64_t delay_ns = world_now_ns() - gauge.moments[i].acknowledged_ns;
            *delay_of(node->number, i) = (uint32_t)(delay_ns / 1000);
        }
    }
    node->shown = true;
    node->visible = index;
    world_note(index * 31 + node->number);
}

void __real_views_publish(struct views *views, struct view *view);
void __wrap_views_publish(struct views *views, struct view *view);
void __wrap_views_publish(struct views *views, struct view *view)
{
    shows(node_of(world_host()), view);
    __real_views_publish(views, view);
}

// ---- who follows whom --------------------------------------------------------------------------

unsigned gauge_parent(struct node *node)
{
    struct upstream_status status = {0};
    if (node->phase != NODE_UP || node_is_root(node)) {
        return GAUGE_NOBODY;
    }
    follow_status(node->process.instance, &status);
    unsigned high, low;
    if (!status.connected || sscanf(status.address, "10.0.%u.%u:", &high, &low) != 2) {
        return GAUGE_NOBODY;
    }
    return high * 256 + low;
}

unsigned gauge_parent_then(unsigned node) { return gauge.parents[node]; }

// What the root has been told of the others so far.
static struct gauge_census census_now(void)
{
    const struct instance_metrics *metrics = &gauge.nodes[0].metrics;
    return (struct gauge_census){METRIC_GET(metrics, instance, census_nodes),
                                 METRIC_GET(metrics, instance, census_bytes)};
}

void gauge_start(void)
{
    gauge.census = census_now();
    for (unsigned i = 0; i < gauge.count; i++) {
        gauge.parents[i] = gauge_parent(&gauge.nodes[i]);
    }
    gauge.started_ns = world_now_ns();
    gauge.runs = true;
}

void gauge_stop(void)
{
    gauge.ran_ns = world_now_ns() - gauge.started_ns;
    struct gauge_census census = census_now();
    gauge.census = (struct gauge_census){census.nodes, census.bytes - gauge.census.bytes};
    gauge.runs = false;
}

// ---- results -----------------------------------------------------------------------------------

unsigned gauge_timed(void)
{
    return gauge.first == 0 ? 0 : (unsigned)((gauge.last - gauge.first) / GAUGE_EVERY + 1);
}

uint32_t gauge_delay_us(unsigned node, unsigned at)
{
    return gauge.delays_us[(size_t)node * TIMED_MAX + at];
}

struct gauge_bytes gauge_bytes(unsigned node) { return gauge.bytes[node]; }
struct gauge_census gauge_census(void) { return gauge.census; }
uint64_t gauge_ns(void) { return gauge.ran_ns; }

void gauge_carried(unsigned from, unsigned to, size_t size)
{
    if (!gauge.runs) {
        return;
    }
    if (gauge.parents[to] == from) {
        gauge.bytes[to].down += size;
    } else if (gauge.parents[from] == to) {
        gauge.bytes[from].up += size;
    }
}
