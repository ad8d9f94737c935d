// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/size/trial.h"

#include <stdio.h>
#include <string.h>

#include "tests/sim/elapse.h"
#include "tests/sim/seams.h"
#include "tests/sim/size/gauge.h"
#include "tests/sim/size/load.h"
#include "tests/sim/size/plan.h"
#include "tests/sim/store_model.h"

#define MOMENT_NS (100 * NS_PER_MS)
#define LATE_NS NS_PER_S
#define FORM_LIMIT_NS (120 * NS_PER_S)
#define FAULT_NS (TRIAL_FAULT_S * NS_PER_S)
#define RETURN_LIMIT_NS (60 * NS_PER_S)
#define WARM_NS (NS_PER_S / 2)
#define SETTLED_NS (25 * NS_PER_S) // no change of parent for so long
#define SETTLE_LIMIT_NS (180 * NS_PER_S)
#define FLAP_NS (TRIAL_FLAP_S * NS_PER_S)
#define NONE UINT64_MAX

static _Alignas(64) struct node nodes[NODES_MAX];
static char sites[PLACES_MAX][64];

// ---- the tree ----------------------------------------------------------------------------------

static void choose_options(struct node *node)
{
    struct instance_options *options = &node->instance_options;
    unsigned site = plan_site(node->number);
    snprintf(sites[site], sizeof sites[site], "%s", plan_site_name(site));
    node->options.site = sites[site];
    node->options.heartbeat = 500;
    node->options.silence = 2000;
    node->options.reconnect = 1000;
    node->options.peers_max = 400;
    options->sync = 2;
    options->children_max = PLAN_CHILDREN_MAX;
    options->probe = 10000;
    // Small, since each node has its own in this one process.
    options->segment_bytes = 128 * KIB;
    options->journal_bytes = 512 * KIB;
    options->replay_bytes = 128 * KIB;
    options->history = 600000; // nothing is collected
}

static uint64_t latency_ns(unsigned from, unsigned to) { return plan_round_trip_ns(from, to) / 2; }

static void plant(const struct trial_setup *setup)
{
    static const struct net_map map = {
        .place = plan_site, .latency_ns = latency_ns, .carried = gauge_carried};
    struct store_model_odds odds = {.flush = 500};
    plan_open(setup->nodes, setup->sites, setup->lists);
    net_open(setup->nodes);
    net_set_map(&map);
    disks_open(setup->nodes);
    store_model_reset(chance_u64());
    store_model_odds(&odds);
    gauge_open(nodes, setup->nodes);
    for (unsigned i = 0; i < setup->nodes; i++) {
        node_init(&nodes[i], i, plan_role(i));
        choose_options(&nodes[i]);
        nodes[i].introduce = plan_introduce;
        if (plan_role(i) == ROLE_PROXY) {
            node_source(&nodes[i], plan_site_first(plan_site(i)) + 1);
        }
        node_start_after(&nodes[i], i == 0 ? 0 : chance_below(2 * NS_PER_S));
    }
    load_open(&nodes[0], 256, 64);
}

// ---- looking -----------------------------------------------------------------------------------

static void describe(void)
{
    for (unsigned i = 1; i < plan_nodes(); i++) {
        struct upstream_status status = {.state = "is not up"};
        if (gauge_parent(&nodes[i]) == GAUGE_NOBODY || nodes[i].visible < gauge_newest()) {
            if (nodes[i].phase == NODE_UP) {
                follow_status(nodes[i].process.instance, &status);
            }
            world_log(nodes[i].name, "at %s, index %llu of %llu: %s",
                      plan_site_name(plan_site(i)), (unsigned long long)nodes[i].visible,
                      (unsigned long long)gauge_newest(), status.state);
        }
    }
}

// Runs until it is so; returns for how long, in ms.
static uint64_t run_until(bool (*over)(void), uint64_t limit_ns, const char *what)
{
    return elapse_until(over, describe, limit_ns, what) / NS_PER_MS;
}

static bool all_follow(void)
{
    for (unsigned i = 0; i < plan_nodes(); i++) {
        if (!node_serves(&nodes[i]) || (i > 0 && gauge_parent(&nodes[i]) == GAUGE_NOBODY)) {
            return false;
        }
    }
    return true;
}

static bool is_late(const struct node *node, uint64_t index)
{
    return node->phase != NODE_UP || node->visible < index;
}

static bool none_late(void)
{
    uint64_t index = gauge_newest_before(LATE_NS);
    for (unsigned i = 0; i < plan_nodes(); i++) {
        if (is_late(&nodes[i], index)) {
            return false;
        }
    }
    return true;
}

static bool all_equal(void)
{
    for (unsigned i = 0; i < plan_nodes(); i++) {
        if (nodes[i].visible != gauge_newest()) {
            return false;
        }
    }
    return load_idle();
}

static unsigned changes_of(const struct node *node)
{
    return (unsigned)METRIC_GET(&node->metrics, instance, parent_changes);
}

static unsigned changes(void)
{
    unsigned sum = 0;
    for (unsigned i = 0; i < plan_nodes(); i++) {
        sum += changes_of(&nodes[i]);
    }
    return sum;
}

// Runs until no node has taken another parent for long; returns when the last one did, in ms.
static uint64_t settle(void)
{
    uint64_t begun_ns = world_now_ns();
    uint64_t last_ns = begun_ns;
    unsigned known = changes();
    while (world_now_ns() - last_ns < SETTLED_NS && world_now_ns() - begun_ns < SETTLE_LIMIT_NS) {
        elapse_for(MOMENT_NS);
        if (changes() != known) {
            known = changes();
            last_ns = world_now_ns();
        }
    }
    return last_ns / NS_PER_MS;
}

// ---- faults ------------------------------------------------------------------------------------

// Who is gone, and who had one of these as parent.
static struct {
    bool gone[NODES_MAX], orphan[NODES_MAX];
} struck;

static bool is_lone(unsigned number)
{
    unsigned parent = struck.orphan[number] ? gauge_parent(&nodes[number]) : 0;
    return parent == GAUGE_NOBODY || (struck.orphan[number] && struck.gone[parent]);
}

static void mark(struct healing *healing, unsigned first, unsigned count)
{
    memset(&struck, 0, sizeof struck);
    for (unsigned i = first; i < first + count; i++) {
        struck.gone[i] = true;
    }
    healing->cut_off = count;
    for (unsigned i = 1; i < plan_nodes(); i++) {
        unsigned parent = gauge_parent(&nodes[i]);
        struck.orphan[i] = !struck.gone[i] && parent != GAUGE_NOBODY && struck.gone[parent];
        healing->orphans += struck.orphan[i] ? 1 : 0;
    }
}

static void look(struct healing *healing, uint64_t begun_ns)
{
    uint64_t age_ns = world_now_ns() - begun_ns;
    uint64_t index = gauge_newest_before(LATE_NS);
    unsigned lone = 0, late = 0;
    for (unsigned i = 0; i < plan_nodes(); i++) {
        lone += is_lone(i) ? 1 : 0;
        late += !struck.gone[i] && is_late(&nodes[i], index) ? 1 : 0;
    }
    healing->follow_ms = lone == 0 ? u64_min(healing->follow_ms, age_ns / NS_PER_MS) : NONE;
    // What is missing shows only after the time from which on a write is late.
    bool whole = late == 0 && age_ns > LATE_NS;
    healing->whole_ms = whole ? u64_min(healing->whole_ms, age_ns / NS_PER_MS) : NONE;
    if (age_ns / MOMENT_NS == healing->moments && healing->moments < MOMENTS_MAX) {
        healing->lone[healing->moments] = lone;
        healing->late[healing->moments++] = late;
    }
}

// The fault has struck, and lasts.
static void watch(struct healing *healing)
{
    uint64_t begun_ns = world_now_ns();
    healing->follow_ms = healing->whole_ms = NONE;
    while (world_now_ns() - begun_ns < FAULT_NS) {
        look(healing, begun_ns);
        elapse_for(ELAPSE_LOOK_NS);
    }
}

static bool over(void) { return none_late() && all_follow(); }

// `changes_before`: of parents, of all nodes, when it struck.
static void come_back(struct healing *healing, unsigned changes_before)
{
    healing->return_ms = run_until(over, RETURN_LIMIT_NS, "the end of a fault");
    healing->changes = changes() - changes_before;
}

// The intermediate that feeds most other sites; never one in the root's own, nor in `but`.
static unsigned busiest(unsigned but)
{
    static unsigned elsewhere[NODES_MAX]; // children in other sites
    unsigned best = 0;
    memset(elsewhere, 0, sizeof elsewhere);
    for (unsigned i = 1; i < plan_nodes(); i++) {
        unsigned parent = gauge_parent(&nodes[i]);
        if (parent != GAUGE_NOBODY && plan_site(parent) != plan_site(i)) {
            elsewhere[parent]++;
        }
    }
    for (unsigned i = 1; i < plan_nodes(); i++) {
        bool fits = plan_feeds(i) && plan_site(i) != 0 && plan_site(i) != but;
        best = fits && elsewhere[i] > (best == 0 ? 0 : elsewhere[best]) ? i : best;
    }
    WORLD_CHECK(best != 0, "no site feeds another");
    return best;
}

static void block_site(unsigned site, uint64_t until_ns)
{
    unsigned first = plan_site_first(site);
    for (unsigned other = 0; other < plan_sites(); other++) {
        if (other != site) {
            net_block(first, plan_site_first(other), until_ns);
            net_block(plan_site_first(other), first, until_ns);
        }
    }
}

static unsigned lose_site(struct healing *healing)
{
    unsigned site = plan_site(busiest(0));
    unsigned first = plan_site_first(site);
    unsigned before = changes();
    healing->what = "a site's uplink is cut";
    mark(healing, first, plan_site_first(site + 1) - first);
    world_log("trial", "%s loses its uplink", plan_site_name(site));
    block_site(site, world_now_ns() + FAULT_NS);
    watch(healing);
    come_back(healing, before);
    return site;
}

static void lose_node(struct healing *healing, unsigned number, bool power)
{
    struct node *node = &nodes[number];
    mark(healing, number, 1);
    node_kill(node, power);
    unsigned before = changes(); // its own went with it
    watch(healing);
    node_start_after(node, 0);
    come_back(healing, before);
}

static void flap(struct flapping *flapping)
{
    unsigned below = 0;
    unsigned parent = busiest(0);
    for (unsigned i = 1; i < plan_nodes() && below == 0; i++) {
        below = gauge_parent(&nodes[i]) == parent && plan_site(i) != plan_site(parent) ? i : 0;
    }
    unsigned all = changes(), own = changes_of(&nodes[below]);
    for (flapping->cycles = 0; flapping->cycles < TRIAL_FLAPS; flapping->cycles++) {
        net_block(parent, below, world_now_ns() + FLAP_NS);
        net_block(below, parent, world_now_ns() + FLAP_NS);
        elapse_for(2 * FLAP_NS);
    }
    flapping->own = changes_of(&nodes[below]) - own;
    flapping->others = changes() - all - flapping->own;
    run_until(over, RETURN_LIMIT_NS, "the end of the flapping");
}

static void strike(struct trial *trial)
{
    load_set(1, 400 * NS_PER_MS);
    elapse_for(2 * NS_PER_S);
    unsigned site = lose_site(&trial->site);
    unsigned number = busiest(site);
    trial->power.what = "an intermediate loses power";
    lose_node(&trial->power, number, true);
    trial->process.what = "an intermediate's process ends";
    lose_node(&trial->process, busiest(plan_site(number)), false);
    flap(&trial->flapping);
}

// ---- the run -----------------------------------------------------------------------------------

void trial_run(const struct trial_setup *setup, struct trial *ret_trial)
{
    struct trial *trial = ret_trial;
    *trial = (struct trial){0};
    world_open(setup->seed, setup->verbose);
    fds_reset();
    plant(setup);
    trial->formed_ms = run_until(all_follow, FORM_LIMIT_NS, "a whole tree");
    trial->settled_ms = settle();
    load_set(10, 10 * NS_PER_MS);
    elapse_for(WARM_NS);
    gauge_start();
    elapse_for(setup->steady_ms * NS_PER_MS);
    gauge_stop();
    if (!setup->calm) {
        strike(trial);
    }
    load_set(1, NS_PER_S);
    elapse_for(NS_PER_MS / 10);
    load_set(0, 0);
    trial->equal_ms = run_until(all_equal, RETURN_LIMIT_NS, "the same index everywhere");
    trial->simulated_ms = world_now_ns() / NS_PER_MS;
    trial->events = world_events();
    trial->trace = world_trace();
}

void trial_close(void)
{
    store_model_reset(0);
    world_close();
}
