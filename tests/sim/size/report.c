// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/size/report.h"

#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/size/earth.h"
#include "tests/sim/size/gauge.h"
#include "tests/sim/size/plan.h"

#define BATCHING_US 2000u // a follower syncs that much later, and shows nothing before
#define POINTS 1000u

// Numbers in their order, for percentiles.
struct series {
    double *values;
    size_t count;
};

// What is known of a node's place and of what it measured.
struct fact {
    unsigned depth;
    uint64_t slowest_us; // round trip, on its path to the root
    uint32_t p99_us;
};

static struct fact facts[NODES_MAX];

// ---- series ------------------------------------------------------------------------------------

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct series series_new(size_t capacity)
{
    return (struct series){.values = world_alloc(capacity * sizeof(double))};
}

static void series_add(struct series *series, double value)
{
    series->values[series->count++] = value;
}

static void series_sort(struct series *series)
{
    qsort(series->values, series->count, sizeof series->values[0], ascending);
}

static double at(const struct series *series, double part)
{
    if (series->count == 0) {
        return 0;
    }
    size_t place = (size_t)(part * (double)(series->count - 1) + 0.5);
    return series->values[place];
}

static void print_row(const char *what, struct series *series, const char *unit)
{
    series_sort(series);
    printf("| %s | %.1f | %.1f | %.1f | %.1f | %.1f | %s |\n", what, at(series, 0.5),
           at(series, 0.9), at(series, 0.99), at(series, 0.999), at(series, 1), unit);
}

// ---- facts -------------------------------------------------------------------------------------

static void learn_path(unsigned node)
{
    struct fact *fact = &facts[node];
    *fact = (struct fact){0};
    while (node != 0) {
        unsigned parent = gauge_parent_then(node);
        WORLD_CHECK(parent != GAUGE_NOBODY && fact->depth < plan_nodes(),
                    "n%u had no path to the root when it was measured", node);
        uint64_t way_us = plan_round_trip_ns(node, parent) / 1000;
        fact->slowest_us = u64_max(fact->slowest_us, way_us);
        fact->depth++;
        node = parent;
    }
}

static struct series delays_of(unsigned node)
{
    struct series delays = series_new(gauge_timed());
    for (unsigned i = 0; i < gauge_timed(); i++) {
        WORLD_CHECK(gauge_delay_us(node, i) != UINT32_MAX, "n%u did not show every write", node);
        series_add(&delays, gauge_delay_us(node, i));
    }
    series_sort(&delays);
    return delays;
}

static void learn(void)
{
    for (unsigned i = 1; i < plan_nodes(); i++) {
        learn_path(i);
        struct series delays = delays_of(i);
        facts[i].p99_us = (uint32_t)at(&delays, 0.99);
    }
}

// ---- the table ---------------------------------------------------------------------------------

static void print_shape(const struct trial_setup *setup, const struct trial *trial)
{
    unsigned *children = world_zalloc(plan_nodes() * sizeof *children);
    unsigned deepest = 0, between = 0;
    struct series depth = series_new(plan_nodes()), fed = series_new(plan_nodes());
    for (unsigned i = 1; i < plan_nodes(); i++) {
        unsigned parent = gauge_parent_then(i);
        children[parent]++;
        between += plan_site(i) != plan_site(parent) ? 1 : 0;
        series_add(&depth, facts[i].depth);
        deepest = facts[i].depth > deepest ? facts[i].depth : deepest;
    }
    for (unsigned i = 1; i < plan_nodes(); i++) {
        if (children[i] > 0) {
            series_add(&fed, children[i]);
        }
    }
    series_sort(&depth);
    series_sort(&fed);
    printf("%u nodes in %u sites of %u regions, the root in %s; seed %llu. All follow %.1f s after "
           "the first start; the last\none moves to a better parent at %.0f s.\n",
           setup->nodes, setup->sites, (unsigned)u64_min(setup->sites, earth_regions()),
           earth_name(0), (unsigned long long)setup->seed, (double)trial->formed_ms / 1e3,
           (double)trial->settled_ms / 1e3);
    printf("Depth: half of the nodes at most %.0f hops from the root, the deepest %u. Children: %u "
           "of the root; of the %zu\nothers that feed, half at most %.0f, the most %.0f. %u links "
           "are between sites, %u inside one.\n\n",
           at(&depth, 0.5), deepest, children[0], fed.count, at(&fed, 0.5), at(&fed, 1), between,
           plan_nodes() - 1 - between);
}

static void print_delays(void)
{
    struct series all = series_new((size_t)plan_nodes() * gauge_timed());
    struct series slowest = series_new(plan_nodes());
    struct series share = series_new(plan_nodes());
    unsigned within = 0;
    uint32_t beyond_us = 0; // the longest p99 of the others
    for (unsigned i = 1; i < plan_nodes(); i++) {
        for (unsigned j = 0; j < gauge_timed(); j++) {
            series_add(&all, gauge_delay_us(i, j) / 1e3);
        }
        double limit_us = 1.5 * (double)facts[i].slowest_us + BATCHING_US;
        series_add(&slowest, (double)facts[i].slowest_us / 1e3);
        series_add(&share, 100.0 * facts[i].p99_us / limit_us);
        if (facts[i].p99_us <= limit_us) {
            within++;
        } else {
            beyond_us = facts[i].p99_us > beyond_us ? facts[i].p99_us : beyond_us;
        }
    }
    printf("| under 1,000 writes/s | p50 | p90 | p99 | p99.9 | most | |\n"
           "|---|---|---|---|---|---|---|\n");
    print_row("propagation, every node", &all, "ms");
    print_row("slowest round trip on a node's path", &slowest, "ms");
    print_row("p99 of a node, of 1.5 x that + 2 ms", &share, "%");
    printf("\n%u of %u nodes have a p99 of at most 1.5 times the slowest round trip on their path "
           "plus 2 ms;\nthat of the other %u is at most %.1f ms.\n\n",
           within, plan_nodes() - 1, plan_nodes() - 1 - within, beyond_us / 1e3);
}

static void print_bytes(void)
{
    struct series down[2], up[2]; // inside a site, between two
    double sum = 0, root = 0;
    double seconds = (double)gauge_ns() / 1e9;
    for (unsigned i = 0; i < 2; i++) {
        down[i] = series_new(plan_nodes());
        up[i] = series_new(plan_nodes());
    }
    for (unsigned i = 1; i < plan_nodes(); i++) {
        struct gauge_bytes bytes = gauge_bytes(i);
        unsigned parent = gauge_parent_then(i);
        bool between = plan_site(i) != plan_site(parent);
        series_add(&down[between], (double)bytes.down / 1e3 / seconds);
        series_add(&up[between], (double)bytes.up / 1e3 / seconds);
        sum += between ? (double)(bytes.down + bytes.up) / 1e3 / seconds : 0;
        root += parent == 0 ? (double)bytes.down / 1e3 / seconds : 0;
    }
    printf("| a link under 1,000 writes/s | p50 | p90 | p99 | p99.9 | most | |\n"
           "|---|---|---|---|---|---|---|\n");
    print_row("between sites, to the child", &down[1], "kB/s");
    print_row("between sites, to the parent", &up[1], "kB/s");
    print_row("inside a site, to the child", &down[0], "kB/s");
    print_row("inside a site, to the parent", &up[0], "kB/s");
    printf("\nAll links between sites together carry %.1f MB/s, the root sends %.1f MB/s.\n\n",
           sum / 1e3, root / 1e3);
    struct gauge_census census = gauge_census();
    printf("The root knows of %llu others what they are and how they lag; its children tell it all "
           "of that in\n%.1f kB/s.\n\n", (unsigned long long)census.nodes,
           (double)census.bytes / 1e3 / seconds);
}

static void print_time(uint64_t ms)
{
    if (ms == UINT64_MAX) {
        printf(" not within %u s |", TRIAL_FAULT_S);
    } else {
        printf(" %.2f s |", (double)ms / 1e3);
    }
}

static void print_healing(const struct healing *healing)
{
    printf("| %s | %u | %u |", healing->what, healing->cut_off, healing->orphans);
    print_time(healing->follow_ms);
    print_time(healing->whole_ms);
    print_time(healing->return_ms);
    printf(" %u |\n", healing->changes);
}

static void print_faults(const struct trial *trial)
{
    printf("| fault, of %u s | nodes cut off | orphans | all of them follow again | nobody lacks "
           "what is older than 1 s | all do so after the return | changes of parent |\n"
           "|---|---|---|---|---|---|---|\n", TRIAL_FAULT_S);
    print_healing(&trial->site);
    print_healing(&trial->power);
    print_healing(&trial->process);
    printf("\nA link between sites that is cut for %u s %u times, every %u s: %u changes of parent "
           "of the node below it, %u of all\nothers.\n\n",
           TRIAL_FLAP_S, trial->flapping.cycles, 2 * TRIAL_FLAP_S, trial->flapping.own,
           trial->flapping.others);
}

void report_print(const struct trial_setup *setup, const struct trial *trial)
{
    learn();
    print_shape(setup, trial);
    print_delays();
    print_bytes();
    if (!setup->calm) {
        print_faults(trial);
    }
    printf("All nodes show the same index with the same digest %.2f s after the last write.\n",
           (double)trial->equal_ms / 1e3);
}
// ---- points ------------------------------------------------------------------------------------

static void write_delays(FILE *file)
{
    struct series all = series_new((size_t)plan_nodes() * gauge_timed());
    for (unsigned i = 1; i < plan_nodes(); i++) {
        for (unsigned j = 0; j < gauge_timed(); j++) {
            series_add(&all, gauge_delay_us(i, j));
        }
    }
    series_sort(&all);
    for (unsigned i = 0; i <= POINTS; i++) {
        fprintf(file, "delay %.0f %u\n", at(&all, (double)i / POINTS), i);
    }
}

static void write_healing(FILE *file, unsigned number, const struct healing *healing)
{
    for (unsigned i = 0; i < healing->moments; i++) {
        fprintf(file, "heal %u %u %u %u\n", number, i * 100, healing->lone[i], healing->late[i]);
    }
}

bool report_points(const char *path, const struct trial *trial)
{
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        fprintf(stderr, "size: cannot write %s\n", path);
        return false;
    }
    write_delays(file);
    for (unsigned i = 1; i < plan_nodes(); i++) {
        fprintf(file, "node %u %llu %u\n", facts[i].depth,
                (unsigned long long)facts[i].slowest_us, facts[i].p99_us);
    }
    write_healing(file, 0, &trial->site);
    write_healing(file, 1, &trial->power);
    write_healing(file, 2, &trial->process);
    return fclose(file) == 0;
}
