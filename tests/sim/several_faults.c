// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/several_faults.h"

#include "tests/sim/keeper_sim.h"
#include "tests/sim/seams.h"
#include "tests/sim/several_tree.h"

#define AWAY_MS 6000
#define PERSON_NS (500 * NS_PER_MS)
#define PATIENCE 4 // times that a person finds nobody leading before helping

static struct {
    struct actor calm, person;
    bool may_lose, helped;
    unsigned leaderless; // times in a row
} several;

static uint64_t until_ns(uint64_t most_ms)
{
    return world_now_ns() + chance_skewed(20, most_ms) * NS_PER_MS;
}

static void sever(unsigned a, unsigned b, uint64_t until, bool both)
{
    net_block(a, b, until);
    if (both) {
        net_block(b, a, until);
    }
}

void several_unplug(unsigned number, uint64_t until)
{
    net_unplug(number, until);
    keepers_cut(number, until);
}

// ---- roots -------------------------------------------------------------------------------------

// The one that counts most.
bool strike_leader(struct node *node)
{
    (void)node;
    unsigned number = several_leader();
    if (number == SEVERAL_NOBODY) {
        return false;
    }
    struct node *leader = several_node(number);
    static const char *const words[] = {"is killed", "loses power", "freezes", "dies in a step",
                                        "is cut off"};
    uint64_t kind = chance_below(ARRAY_LEN(words));
    world_log("fault", "the leader n%u %s", number, words[kind]);
    if (kind < 2) {
        node_kill(leader, kind == 1);
        node_start_after(leader, chance_skewed(5, AWAY_MS) * NS_PER_MS);
    } else if (kind == 2) {
        leader->host.asleep_until_ns = until_ns(AWAY_MS);
        count_add(COUNT_pauses, 1);
    } else if (kind == 3) {
        leader->power_kept = chance_permille(400);
        leader->host.deadly_steps = chance_skewed(1, 60);
    } else {
        several_unplug(number, until_ns(AWAY_MS));
        count_add(COUNT_clogs, 1);
    }
    return true;
}

// Some roots from the others, both ways or one.
bool strike_apart(struct node *node)
{
    (void)node;
    unsigned side = (unsigned)chance_between(1, (1u << several_roots()) - 2);
    bool both = chance_permille(700);
    uint64_t until = until_ns(8000);
    for (unsigned a = 0; a < several_roots(); a++) {
        for (unsigned b = 0; b < several_roots(); b++) {
            if ((side >> a & 1) == 1 && (side >> b & 1) == 0) {
                sever(a, b, until, both);
            }
        }
    }
    count_add(COUNT_roots_apart, 1);
    return true;
}

// A root from everybody, the record too.
bool strike_alone(struct node *node)
{
    if (!node_is_root(node)) {
        return false;
    }
    several_unplug(node->number, until_ns(AWAY_MS));
    count_add(COUNT_roots_apart, 1);
    return true;
}

// A root from all that are none.
bool strike_children(struct node *node)
{
    if (!node_is_root(node)) {
        return false;
    }
    uint64_t until = until_ns(AWAY_MS);
    for (unsigned i = several_roots(); i < several_nodes(); i++) {
        sever(node->number, i, until, chance_permille(700));
    }
    count_add(COUNT_clogs, 1);
    return true;
}

// ---- the record --------------------------------------------------------------------------------

// From one root, or from all.
bool strike_record_away(struct node *node)
{
    uint64_t until = until_ns(8000);
    bool all = chance_permille(300);
    for (unsigned i = 0; i < several_roots(); i++) {
        if (all || i == node->number) {
            keepers_cut(i, until);
        }
    }
    count_add(COUNT_record_away, 1);
    return all || node_is_root(node);
}

static void on_calm(struct actor *actor)
{
    (void)actor;
    keepers_weather(0, 0);
}

bool strike_record_slow(struct node *node)
{
    (void)node;
    keepers_weather((unsigned)chance_below(500), chance_skewed(1, 3000) * NS_PER_MS);
    actor_by(&several.calm, until_ns(6000));
    return true;
}

bool strike_record_lost(struct node *node)
{
    (void)node;
    if (chance_permille(300)) {
        keepers_back_up();
        return true;
    }
    if (!several.may_lose) {
        return false;
    }
    if (chance_permille(500)) {
        keepers_lose();
    } else {
        keepers_back();
    }
    return true;
}

// ---- disks -------------------------------------------------------------------------------------

// A root comes back with an empty disk, once every other one has what is committed and knows that.
bool strike_blank(struct node *node)
{
    if (!node_is_root(node) || !several_spare(node->number)) {
        return false;
    }
    if (node->phase != NODE_DOWN) {
        node_kill(node, true);
    }
    node_wipe(node);
    node_start_after(node, chance_skewed(5, AWAY_MS) * NS_PER_MS);
    count_add(COUNT_roots_blank, 1);
    return true;
}

// ---- a person ----------------------------------------------------------------------------------

bool strike_hand_over(struct node *node)
{
    bool asked = node_is_root(node) && several_promote(node->number);
    count_add(COUNT_hand_overs, asked);
    return asked;
}

// Has the store lost what some root has seen there?
static bool is_record_old(void)
{
    const struct root_record *record = keepers_record();
    return record == NULL || record->generation < several_generation();
}

// Nobody leads for long, and the store has lost its data, which no root mends without a leader.
static void look(struct actor *actor)
{
    bool stuck = several_leader() == SEVERAL_NOBODY && is_record_old();
    several.leaderless = stuck ? several.leaderless + 1 : 0;
    if (several.leaderless >= PATIENCE) {
        unsigned first = (unsigned)chance_below(several_roots());
        for (unsigned i = 0; i < several_roots(); i++) {
            unsigned number = (first + i) % several_roots();
            if (several_promote(number)) {
                count_add(COUNT_promoted, 1);
                several.leaderless = 0;
                several.helped = true;
                break;
            }
        }
    }
    actor_after(actor, PERSON_NS);
}

void several_faults_open(bool may_lose)
{
    several.may_lose = may_lose;
    several.leaderless = 0;
    actor_init(&several.calm, NULL, on_calm);
    actor_init(&several.person, NULL, look);
    actor_after(&several.person, PERSON_NS);
}

bool several_helped(void) { return several.helped; }

void several_faults_heal(void)
{
    several.helped = false;
    actor_cancel(&several.calm);
    keepers_calm();
}
