// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/run.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/core/walk.h"
#include "tests/sim/ending.h"
#include "tests/sim/faults.h"
#include "tests/sim/seams.h"
#include "tests/sim/session.h"
#include "tests/sim/store_model.h"

#define OPERATIONS 2000
#define FAULTS_LEAST 3
#define LIVENESS_LIMIT_NS (90 * NS_PER_S)
#define SETTLE_NS NS_PER_S
#define SETTLE_OPERATIONS 300
#define STRICT_OPERATIONS 150
#define LOOK_NS (50 * NS_PER_MS)
#define SEVERAL 3        // roots, where there is more than one
#define SEVERAL_EVERY 8  // of so many seeds one has them

static _Alignas(64) struct node nodes[NODES_MAX];

struct shape {
    unsigned nodes;
    unsigned keys;
    uint64_t safety_ns;
    uint64_t fault_every_ns;
    struct sessions_setup sessions;
};

// ---- the tree ----------------------------------------------------------------------------------

static void choose_options(struct node *node, bool small_journal)
{
    struct instance_options *options = &node->instance_options;
    options->sync = chance_permille(500) ? 0 : chance_skewed(1, 100);
    options->segment_bytes = chance_skewed(4 * KIB, 256 * KIB);
    options->block_bytes = chance_permille(800) ? 256 * KIB : chance_skewed(4096, 64 * KIB);
    options->block_entries = chance_permille(800) ? 1000 : chance_skewed(1, 100);
    options->apply_chunk = chance_skewed(64, 64 * KIB);
    options->apply_queue = chance_skewed(16 * KIB, 4 * MIB);
    options->submit_queue = chance_skewed(8 * KIB, MIB);
    options->replay_bytes = chance_skewed(16 * KIB, 4 * MIB);
    options->window = chance_skewed(50, 20000);
    options->window_bytes = chance_skewed(1000, MIB);
    options->keep_bytes = chance_permille(400) ? 0 : chance_skewed(10, 100000);
    options->fetch = chance_skewed(300, 3000);
    options->fetch_max = chance_permille(300) ? 4 : 1000;
    options->history = chance_permille(200) ? 0 : chance_skewed(50, 60000);
    options->history_bytes = chance_permille(300) ? chance_skewed(64, 64 * KIB) : GIB;
    options->fetch_rate = chance_permille(500) ? 0 : chance_skewed(512 * KIB, GIB);
    options->fetch_burst = chance_skewed(2 * KIB, MIB);
    options->fetch_requests = chance_skewed(1, 64);
    options->fetch_bytes = chance_skewed(64 * KIB, 128 * MIB);
    options->replica_requests = chance_skewed(1, 8);
    options->replica_bytes = chance_skewed(64 * KIB, 32 * MIB);
    options->hedge = chance_permille(300) ? 0 : chance_skewed(1, 200);
    options->quarantine = chance_skewed(10, 3000);
    options->snapshots_max = chance_between(1, 3);
    options->snapshot_rate = chance_permille(300) ? chance_skewed(4 * KIB, MIB) : GIB;
    options->filter_bits = chance_permille(200) ? 0 : chance_skewed(1, 24);
    options->filter_bytes = chance_skewed(64, 64 * KIB);
    options->hot_bytes = chance_permille(400) ? 0 : chance_skewed(1, 64 * KIB);
    options->hot_entry = 64 + options->hot_bytes % 512;
    options->walk_every = chance_permille(200) ? 0 : chance_skewed(1000, 20000);
    options->children_max = chance_permille(500) ? 0 : chance_between(1, 3);
    options->probe = chance_permille(300) ? 0 : chance_skewed(50, 5000);
    node->options.site = chance_permille(300) ? NULL : chance_permille(500) ? "here" : "there";
    options->walk_rate = chance_permille(300) ? 0 : chance_skewed(2 * KIB, MIB);
    if (small_journal) {
        options->segment_bytes = chance_skewed(2 * KIB, 16 * KIB);
        options->journal_bytes = chance_skewed(4 * KIB, 128 * KIB);
        options->replay_bytes = chance_skewed(4 * KIB, 64 * KIB);
    }
    node->host.skew_ppm = (int64_t)chance_below(40001) - 20000;
    node->host.wall_ms = chance_below(1u << 31);
    node->host.born_ns = 0;
}

// n0 root, n1 intermediate, n2 replica below it, from n3 on proxies and more replicas. Or n0 to n2
// are three roots, the first of which leads.
static void plant(const struct shape *shape, bool small_journal, bool several)
{
    uint64_t heartbeat = chance_between(150, 750);
    uint64_t silence = heartbeat * chance_between(4, 7);
    for (unsigned i = 0; i < shape->nodes; i++) {
        int role = i == 0 || (several && i < SEVERAL)  ? ROLE_ROOT
                   : i < 3 || (i > 4 && i % 2 == 1) ? ROLE_REPLICA
                                                    : ROLE_PROXY;
        struct node *node = &nodes[i];
        node_init(node, i, role);
        choose_options(node, small_journal);
        node->options.heartbeat = heartbeat;
        node->options.silence = silence;
        node->options.reconnect = chance_between(20, 1000);
        if (several && i < SEVERAL) {
            node_roots(node, SEVERAL);
            node_start_after(node, chance_below(500 * NS_PER_MS));
            continue;
        }
        if (i == 1) {
            node_upstream(node, 0);
        } else if (i > 1) {
            node_upstream(node, (unsigned)chance_between(1, u64_min(i - 1, 2)));
            node_upstream(node, 0);
        }
        // Whoever else there is, so that circles would form if they could.
        for (unsigned other = 1; i > 0 && other < shape->nodes; other++) {
            if (other != i && chance_permille(150)) {
                node_upstream(node, other);
            }
        }
        if (role == ROLE_PROXY) {
            node_source(node, 1);
            node_source(node, 2);
            if (chance_permille(500)) {
                node_source(node, 0);
            }
        }
        node_start_after(node, chance_below(500 * NS_PER_MS));
    }
}

// ---- phases ------------------------------------------------------------------------------------

static bool converged(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        const struct node *node = &nodes[i];
        if (!node_serves(node) || node->visible != model_index()) {
            return false;
        }
    }
    return true;
}

static void describe(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct node *node = &nodes[i];
        if (node->phase != NODE_UP) {
            world_log(node->name, "phase %d", (int)node->phase);
            continue;
        }
        struct instance *instance = node->process.instance;
        struct upstream_status status;
        follow_status(instance, &status);
        world_log(node->name,
                  "state %d, index %llu of %llu, blocks after %llu to %llu, held to %llu, damaged "
                  "%llu, upstream: %s",
                  (int)instance_state(instance), (unsigned long long)node->visible,
                  (unsigned long long)model_index(),
                  (unsigned long long)journal_oldest(instance->journal).number,
                  (unsigned long long)journal_end(instance->journal).number,
                  (unsigned long long)journal_tail(instance->journal).number,
                  (unsigned long long)atomic_load(&instance->damaged_first), status.state);
    }
}

// Runs until `over`, or fails after the limit.
static void run_until(bool (*over)(unsigned count), unsigned count, const char *what)
{
    uint64_t limit_ns = world_now_ns() + LIVENESS_LIMIT_NS;
    uint64_t look_ns = 0;
    while (true) {
        if (world_now_ns() >= look_ns) {
            if (over(count)) {
                return;
            }
            look_ns = world_now_ns() + LOOK_NS;
            if (world_now_ns() > limit_ns) {
                describe(count);
                world_fail("%s did not come within %llu s of peace", what,
                           (unsigned long long)(LIVENESS_LIMIT_NS / NS_PER_S));
            }
        }
        WORLD_CHECK(world_step(), "nothing happens any more");
    }
}

static bool idle(unsigned count)
{
    (void)count;
    return sessions_idle();
}

static bool whole(unsigned count)
{
    return sessions_idle() && converged(count);
}

// Where a row went bad there is another store, or a walk has found it gone.
static bool healed(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        struct node *node = &nodes[i];
        const struct instance *instance = node->process.instance;
        if (node->decayed &&
            (node->phase != NODE_UP || atomic_load(&instance->doubted) ||
             walk_going(instance->walk) || atomic_load(&instance->wants_build))) {
            return false;
        }
    }
    return whole(count);
}

static bool stopped(unsigned count) { return ending_stopped(nodes, count); }

// Ends when enough has happened, at the latest after three times the time that it should take.
static void safety(const struct shape *shape, bool faults)
{
    uint64_t least = faults ? FAULTS_LEAST : 0;
    uint64_t begun_ns = world_now_ns();
    uint64_t age_ns = 0;
    while (age_ns < shape->safety_ns ||
           (age_ns < 3 * shape->safety_ns &&
            (sessions_done() < OPERATIONS || faults_struck() < least))) {
        WORLD_CHECK(world_step(), "nothing happens any more");
        age_ns = world_now_ns() - begun_ns;
    }
}

static void liveness(const struct shape *shape)
{
    faults_heal();
    sessions_stop();
    run_until(idle, shape->nodes, "the end of every operation");
    run_until(whole, shape->nodes, "the same index everywhere");
    faults_doubt();
    run_until(healed, shape->nodes, "the end of bad rows");
    // Links that died without a word, and stores that broke, are noticed meanwhile.
    uint64_t settle_ns = nodes[0].options.silence * NS_PER_MS + SETTLE_NS;
    uint64_t think_ns = settle_ns * shape->sessions.count / SETTLE_OPERATIONS / 2;
    sessions_resume(think_ns);
    uint64_t settled_ns = world_now_ns() + settle_ns;
    while (world_now_ns() < settled_ns) {
        WORLD_CHECK(world_step(), "nothing happens any more");
    }
    sessions_stop();
    run_until(idle, shape->nodes, "the end of every operation in peace");
    run_until(whole, shape->nodes, "the same index everywhere again");
    ending_strict(STRICT_OPERATIONS, think_ns / 4, LIVENESS_LIMIT_NS);
    run_until(whole, shape->nodes, "the same index everywhere at the end");
    ending_stop(nodes, shape->nodes);
    run_until(stopped, shape->nodes, "a graceful end");
}

static struct shape choose_shape(void)
{
    struct shape shape = {
        .nodes = (unsigned)chance_between(5, chance_permille(300) ? 7 : 5),
        .keys = (unsigned)(chance_permille(500) ? chance_skewed(6, 60) : chance_between(60, 250)),
        .safety_ns = chance_between(3000, chance_permille(100) ? 40000 : 10000) * NS_PER_MS,
        .sessions = {.count = (unsigned)chance_between(chance_permille(100) ? 3 : 16, 48),
                     .writes_permille = (unsigned)chance_between(40, 250),
                     .value_max = (size_t)chance_skewed(300, 30000)},
    };
    shape.fault_every_ns = shape.safety_ns / chance_between(6, 30);
    shape.sessions.think_ns = shape.safety_ns * shape.sessions.count / OPERATIONS;
    if (chance_permille(900)) {
        // On the average half of it goes by until the next one.
        shape.sessions.pulse_ns = shape.sessions.think_ns;
        shape.sessions.think_ns /= 2;
    }
    return shape;
}

static void open_stores(void)
{
    struct store_model_odds odds = {
        .incomplete = (unsigned)chance_between(2, 30),
        .flush = (unsigned)chance_between(5, 300),
        .beside = (unsigned)chance_between(5, 300),
        .compaction = (unsigned)chance_between(2, 60),
        .missed = (unsigned)chance_between(2, 60),
    };
    store_model_reset(chance_u64());
    store_model_odds(&odds);
}

static void close_stores(void)
{
    struct store_model_counts counts = store_model_counts();
    count_add(COUNT_store_flushes, counts.own_flushes);
    count_add(COUNT_store_compactions, counts.own_compactions);
    count_add(COUNT_store_losses, counts.lost);
    count_add(COUNT_store_beside, counts.beside);
    count_add(COUNT_store_errors, counts.faults);
    count_add(COUNT_rows_filtered, counts.dropped + counts.changed);
    store_model_reset(0);
}

void run_seed(uint64_t seed, bool verbose, bool faults, struct run_result *ret_result,
              uint64_t counts[COUNT_TOTAL])
{
    world_open(seed, verbose);
    fds_reset();
    struct shape shape = choose_shape();
    net_open(shape.nodes);
    disks_open(shape.nodes);
    open_stores();
    model_open(shape.keys);
    plant(&shape, chance_permille(300), seed % SEVERAL_EVERY == 0);
    sessions_open(nodes, shape.nodes, &shape.sessions);
    faults_open(nodes, shape.nodes, faults ? shape.fault_every_ns : 0);
    safety(&shape, faults);
    liveness(&shape);
    close_stores();
    ending_close(ret_result, counts);
}
