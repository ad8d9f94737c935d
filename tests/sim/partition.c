// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/partition.h"

#include <string.h>

#include "tests/sim/elapse.h"
#include "tests/sim/ending.h"
#include "tests/sim/faults.h"
#include "tests/sim/grid.h"
#include "tests/sim/harm.h"
#include "tests/sim/seams.h"
#include "tests/sim/session.h"
#include "tests/sim/store_model.h"

#define FORM_LIMIT_NS (30 * NS_PER_S)
#define SETTLE_NS (2 * NS_PER_S)
#define PEACE_NS (3 * NS_PER_S)      // between a node's return and the first partition
#define LOST_NS (10 * NS_PER_S)      // a node is away
#define CHILD_LIMIT_NS (3 * NS_PER_S) // on machines that keep up
#define HEAL_LIMIT_NS (5 * NS_PER_S)
#define BEGIN_MS 8000                // partitions begin until then, at the latest all end
#define LEAST_MS 200                 // they last, as many shorter as longer than a second ...
#define DOUBLINGS 6                  // ... up to so many times twice that
#define FLAP_NS (60 * NS_PER_S)
#define FLAP_PERMILLE 100 // of the seeds, as it takes long
#define BUSY_PERMILLE 300 // of the seeds: nodes stand still again and again ...
#define BUSY_EVERY_NS (20 * NS_PER_MS)
#define BUSY_MS 700 // ... up to so long
#define KEYS 60
#define SESSIONS 14
#define THINK_NS (400 * NS_PER_MS)
#define PULSE_NS (100 * NS_PER_MS)
#define STRICT_OPERATIONS 60

static bool all_equal(void)
{
    for (unsigned i = 0; i < GRID_NODES; i++) {
        if (!node_serves(grid_node(i)) || grid_node(i)->visible != model_index()) {
            return false;
        }
    }
    return model_index() > 0;
}

static bool all_stopped(void) { return ending_stopped(grid_node(0), GRID_NODES); }

// ---- machines that have much to do -------------------------------------------------------------

static struct actor busy;

// Some node does not run for a moment.
static void keep_busy(struct actor *actor)
{
    struct node *node = grid_node((unsigned)chance_below(GRID_NODES));
    uint64_t until_ns = world_now_ns() + chance_skewed(1, BUSY_MS) * NS_PER_MS;
    node->host.asleep_until_ns = u64_max(node->host.asleep_until_ns, until_ns);
    actor_after(actor, chance_below(2 * BUSY_EVERY_NS));
}

// ---- the loss of one ---------------------------------------------------------------------------

// Some node below the root that feeds another; GRID_NOBODY: there is none.
static unsigned some_feeder(void)
{
    unsigned begin = (unsigned)chance_below(GRID_NODES);
    for (unsigned i = 0; i < GRID_NODES; i++) {
        unsigned number = (begin + i) % GRID_NODES;
        for (unsigned child = 1; child < GRID_NODES && number != 0; child++) {
            if (grid_parent(child) == number) {
                return number;
            }
        }
    }
    return GRID_NOBODY;
}

struct loss {
    unsigned lost;
    enum tally kind; // of the children's times
    uint64_t begun_ns, index;
    bool child[GRID_NODES], waits[GRID_NODES];
};

static struct loss begin_loss(unsigned lost)
{
    struct loss loss = {.lost = lost, .begun_ns = world_now_ns(), .index = model_index()};
    loss.kind = busy.place != 0  ? TALLY_busy_child_ms
                : grid_crowded() ? TALLY_crowded_child_ms
                                 : TALLY_lost_child_ms;
    for (unsigned i = 1; i < GRID_NODES; i++) {
        loss.child[i] = grid_parent(i) == lost;
        loss.waits[i] = i != lost;
    }
    harm_strike(grid_node(lost), (enum harm)chance_below(HARM_SYNC), LOST_NS, net_unplug);
    return loss;
}

static bool has_news(const struct loss *loss, unsigned number)
{
    unsigned parent = grid_parent(number);
    return parent != GRID_NOBODY && parent != loss->lost &&
           grid_node(number)->visible > loss->index;
}

static void look_at_loss(struct loss *loss, struct tallies *tallies, bool last)
{
    uint64_t age_ns = world_now_ns() - loss->begun_ns;
    for (unsigned i = 1; i < GRID_NODES; i++) {
        if (loss->waits[i] && (last || has_news(loss, i))) {
            loss->waits[i] = false;
            tally_add(tallies, loss->child[i] ? loss->kind : TALLY_lost_other_ms,
                      age_ns / NS_PER_MS);
        }
        bool strict = loss->child[i] && loss->kind != TALLY_busy_child_ms;
        if (loss->waits[i] && strict && age_ns > CHILD_LIMIT_NS) {
            grid_describe();
            world_fail("n%u has no news %llu ms after the loss of its parent n%u", i,
                       (unsigned long long)(age_ns / NS_PER_MS), loss->lost);
        }
    }
}

// Loses a node and notes for each other one when it has news again from somebody else; at the
// latest when the node returns.
static void lose_one(struct tallies *tallies)
{
    unsigned lost = some_feeder();
    if (lost == GRID_NOBODY) {
        return;
    }
    struct loss loss = begin_loss(lost);
    while (world_now_ns() - loss.begun_ns < LOST_NS) {
        look_at_loss(&loss, tallies, false);
        elapse_for(ELAPSE_LOOK_NS);
    }
    look_at_loss(&loss, tallies, true);
    elapse_for(PEACE_NS);
}

// ---- partitions --------------------------------------------------------------------------------

enum reach { REACH_UPLINK, REACH_OUTWARD, REACH_INWARD, REACH_BETWEEN, REACH_ONE_WAY, REACH_HALVES,
             REACH_TOTAL };

static const char *const reaches[] = {"uplink",  "outward", "inward",
                                      "between", "one way", "halves"};

struct cut {
    struct actor actor; // flaps, or begins
    enum reach reach;
    unsigned a, b;      // sites; of halves, a set
    uint64_t until_ns;
    bool flaps, on;
};

#define CUTS_MAX 12
static struct cut cuts[CUTS_MAX];

static bool strikes(const struct cut *cut, unsigned from, unsigned to)
{
    switch (cut->reach) {
    case REACH_UPLINK:
        return from == cut->a || to == cut->a;
    case REACH_OUTWARD:
        return from == cut->a;
    case REACH_INWARD:
        return to == cut->a;
    case REACH_BETWEEN:
        return (from == cut->a && to == cut->b) || (from == cut->b && to == cut->a);
    case REACH_ONE_WAY:
        return from == cut->a && to == cut->b;
    default:
        return (cut->a >> from & 1) != (cut->a >> to & 1);
    }
}

static void sever(const struct cut *cut, uint64_t until_ns)
{
    for (unsigned from = 0; from < GRID_NODES; from++) {
        for (unsigned to = 0; to < GRID_NODES; to++) {
            unsigned a = grid_site(from), b = grid_site(to);
            if (a != b && strikes(cut, a, b)) {
                net_block(from, to, until_ns);
            }
        }
    }
}

static void turn_cut(struct actor *actor)
{
    struct cut *cut = CONTAINER_OF(actor, struct cut, actor);
    uint64_t now_ns = world_now_ns();
    if (now_ns >= cut->until_ns) {
        return;
    }
    uint64_t next_ns = cut->until_ns;
    if (cut->flaps) {
        next_ns = u64_min(next_ns, now_ns + chance_skewed(50, 3000) * NS_PER_MS);
    }
    cut->on = !cut->on;
    if (cut->on) {
        world_log("cut", "%s %u %u for %llu ms", reaches[cut->reach], cut->a, cut->b,
                  (unsigned long long)((next_ns - now_ns) / NS_PER_MS));
        sever(cut, next_ns);
        count_add(COUNT_cuts, 1);
    }
    actor_by(actor, next_ns);
}

static void choose_cut(struct cut *cut)
{
    *cut = (struct cut){.reach = (enum reach)chance_below(REACH_TOTAL),
                        .a = (unsigned)chance_below(GRID_SITES),
                        .flaps = chance_permille(250)};
    cut->b = (cut->a + (unsigned)chance_between(1, GRID_SITES - 1)) % GRID_SITES;
    if (cut->reach == REACH_HALVES) {
        cut->a = (unsigned)chance_between(1, (1u << GRID_SITES) - 2);
    }
    actor_init(&cut->actor, NULL, turn_cut);
}

// Lets everything be torn apart for a while.
static void tear(struct tallies *tallies)
{
    unsigned before = grid_changes();
    unsigned count = (unsigned)chance_between(3, CUTS_MAX);
    for (unsigned i = 0; i < count; i++) {
        choose_cut(&cuts[i]);
        uint64_t begin_ns = world_now_ns() + chance_below(BEGIN_MS) * NS_PER_MS;
        cuts[i].until_ns =
            begin_ns + chance_between(LEAST_MS, LEAST_MS << chance_below(DOUBLINGS)) * NS_PER_MS;
        actor_by(&cuts[i].actor, begin_ns);
    }
    elapse_for(chance_between(BEGIN_MS / 4, BEGIN_MS) * NS_PER_MS);
    tally_add(tallies, TALLY_split_changes, grid_changes() - before);
}

static void heal(struct tallies *tallies)
{
    world_log("cut", "all is whole again");
    for (unsigned i = 0; i < CUTS_MAX; i++) {
        actor_cancel(&cuts[i].actor);
    }
    net_heal();
    sessions_stop();
    uint64_t took_ns = elapse_until(all_equal, grid_describe, HEAL_LIMIT_NS,
                                    "the same digest everywhere");
    tally_add(tallies, TALLY_heal_ms, took_ns / NS_PER_MS);
    elapse_until(sessions_idle, grid_describe, FORM_LIMIT_NS, "the end of every operation");
}

// ---- a link that flaps -------------------------------------------------------------------------

static void flap(struct tallies *tallies)
{
    unsigned before[GRID_NODES];
    unsigned most = 0, sum = grid_changes();
    for (unsigned i = 0; i < GRID_NODES; i++) {
        before[i] = (unsigned)METRIC_GET(&grid_node(i)->metrics, instance, parent_changes);
    }
    choose_cut(&cuts[0]);
    cuts[0].flaps = true;
    cuts[0].until_ns = world_now_ns() + FLAP_NS;
    sessions_resume(THINK_NS);
    actor_after(&cuts[0].actor, 0);
    elapse_for(FLAP_NS);
    for (unsigned i = 0; i < GRID_NODES; i++) {
        unsigned now = (unsigned)METRIC_GET(&grid_node(i)->metrics, instance, parent_changes);
        most = now - before[i] > most ? now - before[i] : most;
    }
    tally_add(tallies, TALLY_flap_changes, grid_changes() - sum);
    tally_add(tallies, TALLY_flap_node_changes, most);
    heal(tallies);
}

// ---- a seed ------------------------------------------------------------------------------------

static void open_all(void)
{
    static const struct store_model_odds odds = {.flush = 500};
    static const struct sessions_setup setup = {.count = SESSIONS,
                                                .think_ns = THINK_NS,
                                                .pulse_ns = PULSE_NS,
                                                .writes_permille = 300,
                                                .value_max = 300};
    grid_open();
    store_model_reset(chance_u64());
    store_model_odds(&odds);
    model_open(KEYS);
    sessions_open(grid_node(0), GRID_NODES, &setup);
    faults_open(grid_node(0), GRID_NODES, 0);
}

static void strict_end(void)
{
    elapse_for(SETTLE_NS);
    ending_strict(STRICT_OPERATIONS, THINK_NS / 4, FORM_LIMIT_NS);
    elapse_until(sessions_idle, grid_describe, FORM_LIMIT_NS, "the end of every operation");
    ending_stop(grid_node(0), GRID_NODES);
    elapse_until(all_stopped, grid_describe, FORM_LIMIT_NS, "a graceful end");
}

void partition_seed(uint64_t seed, bool verbose, struct tallies *tallies,
                    struct run_result *ret_result, uint64_t counts[COUNT_TOTAL])
{
    world_open(seed, verbose);
    fds_reset();
    memset(cuts, 0, sizeof cuts);
    open_all();
    actor_init(&busy, NULL, keep_busy);
    if (chance_permille(BUSY_PERMILLE)) {
        actor_after(&busy, 0);
    }
    elapse_for(SETTLE_NS);
    sessions_stop();
    elapse_until(all_equal, grid_describe, FORM_LIMIT_NS, "a tree");
    sessions_resume(THINK_NS);
    elapse_for(SETTLE_NS);
    lose_one(tallies);
    tear(tallies);
    heal(tallies);
    if (chance_permille(FLAP_PERMILLE)) {
        flap(tallies);
    }
    strict_end();
    store_model_reset(0);
    ending_close(ret_result, counts);
}
