// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/size/storm.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/elapse.h"
#include "tests/sim/seams.h"
#include "tests/sim/size/gauge.h"
#include "tests/sim/size/load.h"
#include "tests/sim/store_model.h"

#define KEYS 2000
#define VALUE_BYTES 1008
#define FILLS 12000 // writes before the storm, ten at a time
#define LATE_NS NS_PER_S
#define LIMIT_NS (1800 * NS_PER_S)
#define FAR_NS (20 * NS_PER_MS)
#define NEAR_NS (NS_PER_MS / 10)

struct kind {
    const char *what;
    bool whole_log;    // the root's journal still has everything
    bool only_root;    // no node is told of another
    unsigned crashes;  // of whoever has got most from the root and is not whole
    uint64_t away_ns;  // for so long each
    double most, most_slices; // to the site, in snapshots or whole logs; 0 = anything
};

static const struct kind kinds[] = {
    {.what = "told of each other", .most = 1.5, .most_slices = 1.1},
    {.what = "told of the root alone", .only_root = true, .most_slices = 1.1},
    {.what = "3 times the one that is given to ends, for 1 s", .crashes = 3, .away_ns = NS_PER_S,
     .most_slices = 2.3},
    {.what = "the same, for 60 s", .crashes = 3, .away_ns = 60 * NS_PER_S, .most_slices = 2.3},
    {.what = "the log leads on from nothing", .whole_log = true, .most = 1.5},
    {.what = "the same, told of the root alone", .whole_log = true, .only_root = true,
     .most = 1.5},
};

static _Alignas(64) struct node nodes[NODES_MAX];
static struct {
    const struct kind *kind;
    unsigned count; // with the root
    uint64_t down_bytes, up_bytes;
    unsigned crashes;
} storm;

static unsigned place(unsigned host) { return host == 0 ? 0 : 1; }
static uint64_t latency_ns(unsigned from, unsigned to)
{
    return place(from) == place(to) ? NEAR_NS : FAR_NS;
}

static void carried(unsigned from, unsigned to, size_t size)
{
    if (place(from) != place(to)) {
        *(from == 0 ? &storm.down_bytes : &storm.up_bytes) += size;
    }
}

// ---- the nodes ---------------------------------------------------------------------------------

static void fill(struct endpoint *endpoint, const struct node *self, unsigned number)
{
    const char *reason = NULL;
    snprintf(endpoint->address, sizeof endpoint->address, "%s", nodes[number].address);
    CHECK(address_parse(&endpoint->parsed, endpoint->address, &reason) == OK);
    snprintf(endpoint->node, sizeof endpoint->node, "%s", nodes[number].name);
    endpoint->kind = number == 0 ? ENDPOINT_ROOT : ENDPOINT_REPLICA;
    endpoint->own_site = place(number) == place(self->number);
    endpoint->distance_ns = UINT64_MAX;
}

static void introduce(struct node *node)
{
    unsigned count = node->number == 0 ? 0 : storm.kind->only_root ? 1 : storm.count - 1;
    struct endpoints *list = endpoints_new(count);
    for (unsigned i = 0, at = 0; at < count; i = (i + 1) % storm.count) {
        if (i != node->number && (i != 0 || storm.kind->only_root || at == count - 1)) {
            fill(&list->endpoint[at++], node, i);
        }
    }
    endpoint_feed_publish(&node->process.instance->parents, list);
}

static void choose_options(struct node *node)
{
    struct instance_options *options = &node->instance_options;
    node->options.site = node->number == 0 ? "A" : "B";
    node->options.heartbeat = 500;
    node->options.silence = 2000;
    node->options.reconnect = 1000;
    node->options.repair_max = 4;
    node->options.peers_max = 400;
    options->sync = 2;
    options->children_max = 32;
    options->probe = 10000;
    options->snapshot_rate = 500 * KIB;
    options->snapshot_wait = 3600000;
    options->segment_bytes = 64 * KIB;
    options->journal_bytes = storm.kind->whole_log ? GIB : 512 * KIB;
    options->replay_bytes = 512 * KIB;
}

static void plant(uint64_t seed, unsigned count, const struct kind *kind, bool verbose)
{
    static const struct net_map map = {
        .place = place, .latency_ns = latency_ns, .carried = carried};
    struct store_model_odds odds = {.flush = 500};
    world_open(seed, verbose);
    fds_reset();
    memset(&storm, 0, sizeof storm);
    storm.kind = kind;
    storm.count = count;
    net_open(count);
    net_set_map(&map);
    disks_open(count);
    store_model_reset(chance_u64());
    store_model_odds(&odds);
    gauge_open(nodes, count);
    for (unsigned i = 0; i < count; i++) {
        node_init(&nodes[i], i, i == 0 ? ROLE_ROOT : ROLE_REPLICA);
        choose_options(&nodes[i]);
        nodes[i].introduce = introduce;
    }
    node_start_after(&nodes[0], 0);
    load_open(&nodes[0], KEYS, VALUE_BYTES);
}

// ---- the run -----------------------------------------------------------------------------------

static unsigned serving(void)
{
    uint64_t index = gauge_newest_before(LATE_NS);
    unsigned count = 0;
    for (unsigned i = 1; i < storm.count; i++) {
        count += node_serves(&nodes[i]) && nodes[i].visible >= index ? 1 : 0;
    }
    return count;
}

static uint64_t built_bytes(unsigned i)
{
    return METRIC_GET(&nodes[i].metrics, instance, build_bytes);
}

// Ends whoever has come furthest, when it has a quarter more than the one before had.
static void crash_furthest(void)
{
    unsigned furthest = 1;
    uint64_t wanted = (uint64_t)KEYS * VALUE_BYTES * (1 + storm.crashes) / 5;
    for (unsigned i = 1; i < storm.count; i++) {
        furthest = built_bytes(i) > built_bytes(furthest) ? i : furthest;
    }
    struct node *node = &nodes[furthest];
    if (storm.crashes < storm.kind->crashes && node->phase == NODE_UP &&
        built_bytes(furthest) >= wanted) {
        storm.crashes++;
        node_kill(node, false);
        node_start_after(node, storm.kind->away_ns);
    }
}

static void describe(void)
{
    for (unsigned i = 1; i < storm.count; i++) {
        struct upstream_status status = {.state = "is not up"};
        if (nodes[i].phase == NODE_UP) {
            follow_status(nodes[i].process.instance, &status);
        }
        world_log(nodes[i].name, "index %llu of %llu: %s", (unsigned long long)nodes[i].visible,
                  (unsigned long long)gauge_newest(), status.state);
    }
}

static uint64_t run_storm(uint64_t *ret_half_ns)
{
    uint64_t begun_ns = world_now_ns();
    for (unsigned i = 1; i < storm.count; i++) {
        node_start_after(&nodes[i], chance_below(NS_PER_S / 2));
    }
    storm.down_bytes = storm.up_bytes = 0;
    *ret_half_ns = 0;
    for (unsigned up = 0; up < storm.count - 1; up = serving()) {
        if (world_now_ns() - begun_ns > LIMIT_NS) {
            describe();
            world_fail("only %u of %u serve", up, storm.count - 1);
        }
        if (up * 2 >= storm.count && *ret_half_ns == 0) {
            *ret_half_ns = world_now_ns() - begun_ns;
        }
        crash_furthest();
        elapse_for(ELAPSE_LOOK_NS);
    }
    return world_now_ns() - begun_ns;
}

static int by_size(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

// What a node takes; some took less, since they crashed. Or the log, if nobody took a snapshot.
static uint64_t whole_bytes(void)
{
    static uint64_t bytes[NODES_MAX];
    for (unsigned i = 1; i < storm.count; i++) {
        bytes[i - 1] = built_bytes(i);
    }
    qsort(bytes, storm.count - 1, sizeof bytes[0], by_size);
    uint64_t median = bytes[(storm.count - 1) / 2];
    return median > 0 ? median : METRIC_GET(&nodes[0].metrics, instance, journal_bytes_written);
}

static void print_row(uint64_t took_ns, uint64_t half_ns)
{
    double whole = (double)whole_bytes(), down = (double)storm.down_bytes / whole;
    double slices = (double)METRIC_GET(&nodes[0].metrics, instance, snapshot_bytes) / whole;
    const struct kind *kind = storm.kind;
    printf("| %s | %.2f | %.2f | %.2f | %.1f s | %.1f s |\n", kind->what, down, slices,
           (double)storm.up_bytes / (double)MIB, (double)half_ns / NS_PER_S,
           (double)took_ns / NS_PER_S);
    WORLD_CHECK(kind->most == 0 || down <= kind->most, "%.2f went to the site", down);
    WORLD_CHECK(kind->most_slices == 0 || slices <= kind->most_slices, "%.2f as slices", slices);
}

void storm_print(uint64_t seed, unsigned count, bool verbose)
{
    printf("| %u nodes of one site | to the site | of that slices | from it, MiB | half serve "
           "after | all |\n|---|---|---|---|---|---|\n",
           count);
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        uint64_t half_ns;
        plant(seed, count + 1, &kinds[i], verbose);
        while (!node_serves(&nodes[0])) {
            elapse_for(ELAPSE_LOOK_NS);
        }
        load_set(10, 10 * NS_PER_MS);
        while (gauge_newest() < FILLS) {
            elapse_for(ELAPSE_LOOK_NS);
        }
        load_set(1, 100 * NS_PER_MS);
        elapse_for(NS_PER_S);
        uint64_t took_ns = run_storm(&half_ns);
        print_row(took_ns, half_ns);
        fflush(stdout);
        store_model_reset(0);
        world_close();
    }
}
