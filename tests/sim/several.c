// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/several.h"

#include "tests/sim/elapse.h"
#include "tests/sim/ending.h"
#include "tests/sim/faults.h"
#include "tests/sim/harm.h"
#include "tests/sim/seams.h"
#include "tests/sim/session.h"
#include "tests/sim/several_faults.h"
#include "tests/sim/several_tree.h"
#include "tests/sim/store_model.h"

#define FORM_LIMIT_NS (30 * NS_PER_S)
#define LEADER_LIMIT_NS (10 * NS_PER_S) // after everything is whole again
#define EQUAL_LIMIT_NS (5 * NS_PER_S)   // ... and somebody leads
#define SUCCESSOR_LIMIT_NS (8 * NS_PER_S)
#define COUNTED_LIMIT_NS (15 * NS_PER_S)
#define LOST_NS (8 * NS_PER_S)
#define HAND_OVER_PERMILLE 300
#define FORK_PERMILLE 400
#define FORK_STRUCK_PERMILLE 300
#define FORK_LIMIT_NS (60 * NS_PER_S)
#define ASK_NS (500 * NS_PER_MS) // between two times that a person asks
#define END_LIMIT_NS (30 * NS_PER_S)
#define SETTLE_NS (2 * NS_PER_S)
#define STORM_MS_LEAST 5000
#define STORM_MS_MOST 20000
#define KEYS 60
#define SESSIONS 12
#define THINK_NS (250 * NS_PER_MS)
#define PULSE_NS (50 * NS_PER_MS)
#define STRICT_OPERATIONS 60
#define EVENTS_PER_S 20000

static bool somebody_leads(void) { return several_leader() != SEVERAL_NOBODY; }

static bool all_stopped(void) { return ending_stopped(several_node(0), several_nodes()); }

// ---- the loss of the leader --------------------------------------------------------------------

// Another root than the one that was lost takes writes. Waits for that, and notes for how long.
static void await_successor(struct tallies *tallies, unsigned lost)
{
    uint64_t begun_ns = world_now_ns();
    unsigned leader = lost;
    while (leader == SEVERAL_NOBODY || leader == lost) {
        uint64_t age_ns = world_now_ns() - begun_ns;
        if (age_ns > SUCCESSOR_LIMIT_NS) {
            several_describe();
            world_fail("nobody took over from n%u within %llu s", lost,
                       (unsigned long long)(SUCCESSOR_LIMIT_NS / NS_PER_S));
        }
        elapse_for(ELAPSE_LOOK_NS);
        leader = several_leader();
    }
    count_add(COUNT_take_overs, 1);
    tally_add(tallies, several_rules()->usual ? TALLY_successor_ms : TALLY_other_successor_ms,
              (world_now_ns() - begun_ns) / NS_PER_MS);
}

// As long as the others go on without it, that they do.
static void lose_leader(struct tallies *tallies)
{
    if (!several_rules()->goes_on) {
        return;
    }
    elapse_until(several_counted, several_describe, COUNTED_LIMIT_NS, "all roots in the set");
    unsigned lost = several_leader();
    uint64_t begun_ns = world_now_ns();
    harm_strike(several_node(lost), (enum harm)chance_below(HARM_TOTAL), LOST_NS, several_unplug);
    await_successor(tallies, lost);
    elapse_for(begun_ns + LOST_NS > world_now_ns() ? begun_ns + LOST_NS - world_now_ns() : 0);
    elapse_until(several_counted, several_describe, COUNTED_LIMIT_NS,
                 "the lost one in the set again");
}

// Another root is asked to lead, and does without a write that is refused for long.
static void hand_over(struct tallies *tallies)
{
    elapse_until(several_counted, several_describe, COUNTED_LIMIT_NS, "all roots in the set");
    unsigned before = several_leader();
    unsigned heir = (before + 1) % several_roots();
    uint64_t begun_ns = world_now_ns();
    several_promote(heir);
    while (several_leader() != heir) {
        if (world_now_ns() - begun_ns > LEADER_LIMIT_NS) {
            several_describe();
            world_fail("n%u did not hand over to n%u", before, heir);
        }
        elapse_for(ELAPSE_LOOK_NS);
    }
    count_add(COUNT_hand_overs, 1);
    tally_add(tallies, TALLY_hand_over_ms, (world_now_ns() - begun_ns) / NS_PER_MS);
}

// ---- phases ------------------------------------------------------------------------------------

static void form(void)
{
    elapse_until(somebody_leads, several_describe, FORM_LIMIT_NS, "the first leader");
    elapse_until(several_equal, several_describe, FORM_LIMIT_NS, "a tree");
    sessions_resume(THINK_NS);
    elapse_for(SETTLE_NS);
}

static void heal(struct tallies *tallies)
{
    world_log("fault", "all is whole again");
    for (unsigned i = 0; i < several_nodes(); i++) {
        struct node *node = several_node(i);
        host_wake(&node->host);
        node->down_ns = 0;
        if (node->phase == NODE_STOPPING) {
            actor_after(&node->keeper, 0);
        }
    }
    faults_heal();
    several_faults_heal();
    uint64_t took_ns = elapse_until(somebody_leads, several_describe, LEADER_LIMIT_NS, "a leader");
    tally_add(tallies, several_helped() ? TALLY_helped_leader_ms : TALLY_peace_leader_ms,
              took_ns / NS_PER_MS);
    sessions_stop();
    took_ns = elapse_until(several_equal, several_describe, EQUAL_LIMIT_NS,
                           "the same digest everywhere");
    tally_add(tallies, TALLY_roots_heal_ms, took_ns / NS_PER_MS);
    elapse_until(sessions_idle, several_describe, END_LIMIT_NS, "the end of every operation");
}

// ---- another history ---------------------------------------------------------------------------

static bool all_serve(void)
{
    for (unsigned i = 0; i < several_nodes(); i++) {
        if (!node_serves(several_node(i))) {
            return false;
        }
    }
    return true;
}

// A root that lags, as it was cut off while others wrote, and another one that has everything:
// together they are too few to elect one of them.
static bool two_are_left(void)
{
    const struct several_rules *rules = several_rules();
    return several_roots() == 5 && rules->promote_min > 2 && chance_permille(500);
}

static unsigned other_than(unsigned left)
{
    unsigned leader = several_leader();
    unsigned other = (left + 1) % several_roots();
    return leader == SEVERAL_NOBODY ? left : other == leader ? (left + 2) % several_roots() : other;
}

// All roots but one, or two, are gone while clients write. One of those was in the set, so it has
// whatever was shown.
static void lose_others(unsigned left)
{
    unsigned other = left;
    sessions_resume(THINK_NS / 4);
    if (two_are_left()) {
        several_unplug(left, world_now_ns() + LOST_NS);
        elapse_for(LOST_NS - chance_skewed(1, 200) * NS_PER_MS);
        other = other_than(left);
        count_add(COUNT_forks_behind, other != left);
    } else {
        elapse_for(chance_skewed(10, 1000) * NS_PER_MS);
    }
    for (unsigned i = 0; i < several_roots(); i++) {
        if (i != left && i != other) {
            node_kill(several_node(i), chance_permille(500));
        }
    }
    sessions_stop();
    world_log("loss", "n%u is left, and n%u", left, other);
}

static void person_accepts(unsigned left)
{
    struct node *node = several_node(left);
    uint64_t begun_ns = world_now_ns();
    bool struck = chance_permille(500);
    while (!several_leads_alone(left)) {
        if (world_now_ns() - begun_ns > FORK_LIMIT_NS) {
            several_describe();
            world_fail("n%u has not begun a history of its own", left);
        }
        bool asked = several_accept_loss(left);
        if (asked && !struck && chance_permille(FORK_STRUCK_PERMILLE)) {
            struck = true;
            node->power_kept = chance_permille(400);
            node->host.deadly_steps = chance_skewed(1, 200);
            count_add(COUNT_forks_struck, 1);
        }
        elapse_for(ASK_NS);
    }
    node->host.deadly_steps = 0;
}

// The others come back after all, and go on in the history that was made without them.
static void fork_history(void)
{
    elapse_until(several_counted, several_describe, COUNTED_LIMIT_NS, "all roots in the set");
    unsigned left = (unsigned)chance_below(several_roots());
    // A leader that is left loses nothing: it waits for others, with empty disks.
    left = left == several_leader() ? (left + 1) % several_roots() : left;
    lose_others(left);
    person_accepts(left);
    for (unsigned i = 0; i < several_roots(); i++) {
        if (several_node(i)->phase == NODE_DOWN) {
            node_start_after(several_node(i), chance_skewed(10, 3000) * NS_PER_MS);
        }
    }
    elapse_until(all_serve, several_describe, FORK_LIMIT_NS, "all to serve");
    elapse_until(several_counted, several_describe, FORK_LIMIT_NS,
                 "all roots in the set of the new history");
    elapse_until(sessions_idle, several_describe, END_LIMIT_NS, "the end of every operation");
    elapse_until(several_equal, several_describe, FORK_LIMIT_NS, "one history everywhere");
    // What stores that were built anew lack of the past may be asked of nobody: that is no fault.
    sessions_resume(THINK_NS / 4);
    elapse_for(2 * SETTLE_NS);
    sessions_stop();
}

static void strict_end(void)
{
    elapse_until(several_counted, several_describe, COUNTED_LIMIT_NS,
                 "all roots in the set and in the record");
    elapse_for(SETTLE_NS);
    ending_strict(STRICT_OPERATIONS, THINK_NS / 4, END_LIMIT_NS);
    elapse_until(sessions_idle, several_describe, END_LIMIT_NS, "the end of every operation");
    if (chance_permille(FORK_PERMILLE)) {
        fork_history();
    }
    elapse_until(sessions_idle, several_describe, END_LIMIT_NS, "the end of every operation");
    elapse_until(several_equal, several_describe, EQUAL_LIMIT_NS,
                 "the same digest everywhere at the end");
    ending_stop(several_node(0), several_nodes());
    elapse_until(all_stopped, several_describe, END_LIMIT_NS, "a graceful end");
}

static void open_all(void)
{
    static const struct store_model_odds odds = {.flush = 500};
    struct sessions_setup setup = {.count = SESSIONS,
                                   .think_ns = THINK_NS,
                                   .pulse_ns = PULSE_NS,
                                   .writes_permille = 400,
                                   .value_max = 300};
    several_open();
    setup.roots = several_roots();
    store_model_reset(chance_u64());
    store_model_odds(&odds);
    model_open(KEYS);
    sessions_open(several_node(0), several_nodes(), &setup);
    sessions_stop();
    faults_open(several_node(0), several_nodes(), 0);
    several_faults_open(several_rules()->may_lose);
}

void several_seed(uint64_t seed, bool verbose, struct tallies *tallies,
                  struct run_result *ret_result, uint64_t counts[COUNT_TOTAL])
{
    world_open(seed, verbose);
    fds_reset();
    open_all();
    form();
    lose_leader(tallies);
    if (chance_permille(HAND_OVER_PERMILLE)) {
        hand_over(tallies);
    }
    uint64_t storm_ms = chance_between(STORM_MS_LEAST, STORM_MS_MOST);
    faults_begin(chance_permille(500) ? FAULTS_SEVERAL : FAULTS_ROOTS,
                 storm_ms * NS_PER_MS / chance_between(5, 80));
    elapse_for(storm_ms * NS_PER_MS);
    heal(tallies);
    strict_end();
    // A thread that does not come to rest costs its machine all of a core.
    uint64_t most = world_now_ns() / NS_PER_S * EVENTS_PER_S;
    WORLD_CHECK(world_events() < most, "%llu events, of so much a thread must be spinning",
                (unsigned long long)world_events());
    store_model_reset(0);
    ending_close(ret_result, counts);
}
