// SPDX-License-Identifier: Apache-2.0
// A world for councils, from one seed: roots with journals whose unsynced end is lost in a crash,
// promises that are being written when it comes, messages late, twice, in any order or never, a
// store with check-and-set whose requests land whenever they like, also after their sender has died
// or taken them for failed, and which may lose its data or go back. A pause and a partition are
// both steps that do not come for a while.
//
// Blocks carry nothing but a number and who wrote them upon which one, so equal blocks have equal
// logs below them, as equal chains do. Every step is checked (council_check.h).
#ifndef QS_TESTS_UNIT_COUNCIL_WORLD_H
#define QS_TESTS_UNIT_COUNCIL_WORLD_H

#include "common/roots/council.h"
#include "tests/unit/support.h"

#define WORLD_ROOTS 5
#define WORLD_LOG 200       // block numbers
#define WORLD_BLOCKS 4000   // ever written
#define WORLD_MESSAGES 256  // under way
#define WORLD_LEADERSHIPS 256

enum world_count {
    SOMETIMES_TRY, SOMETIMES_ELECTED_BY_ANSWER, SOMETIMES_ELECTED_BY_READ, SOMETIMES_LOST,
    SOMETIMES_GAVE_WAY, SOMETIMES_REFUSED, SOMETIMES_FETCH, SOMETIMES_FETCH_FAILED,
    SOMETIMES_OPENED, SOMETIMES_COMMIT, SOMETIMES_LEARNED, SOMETIMES_CUT, SOMETIMES_DROP,
    SOMETIMES_ADD, SOMETIMES_REPEATED, SOMETIMES_UNANSWERED, SOMETIMES_LATE_LANDING,
    SOMETIMES_REWRITTEN, SOMETIMES_SAME_EPOCH, SOMETIMES_HIGHER_TOLD, SOMETIMES_BLANK,
    SOMETIMES_BLANK_CLEARED, SOMETIMES_ASKED, SOMETIMES_GO, SOMETIMES_FORCED, SOMETIMES_SMALL,
    SOMETIMES_TAIL_LOST, SOMETIMES_PROMISE_LOST, SOMETIMES_STORE_LOST, SOMETIMES_STORE_BACK,
    SOMETIMES_COUNTS
};

enum world_step {
    STEP_MESSAGE, STEP_TAKE, STEP_SYNC, STEP_PROMISE, STEP_CUT, STEP_FETCH, STEP_WRITE, STEP_TICK,
    STEP_GIVE_UP, STEP_CRASH, STEP_START, STEP_PERSON, STEP_MOVED, STEP_STORE, STEP_DISK, STEP_KINDS
};

// Written by `leadership` upon `below`.
struct world_block {
    unsigned below;
    uint64_t number;
    struct leadership leadership;
};

struct world_message {
    struct council_action action; // what the sender did
    unsigned from, to;
    unsigned life;    // of the sender, for requests to the store
    bool answer;      // of the store
    int result;
    bool present;
    struct root_record record;
    uint64_t modify_index;
};

struct world_root {
    struct council council;
    bool up;
    unsigned life;
    // On the disk.
    unsigned log[WORLD_LOG + 1]; // numbers of world_blocks
    uint64_t synced;
    struct promise promise;
    uint64_t committed;
    // In memory.
    uint64_t appended;
    bool promising, cutting;
    struct promise next;
    uint64_t cut_from;
    struct leadership follows; // nobody: takes no blocks
    bool joined;
    unsigned donor;
    uint64_t fetch_end;
    bool fetching; // after the common block is known
    enum council_role role;
    enum council_writes writes;
    bool open_due;
};

struct world_store {
    bool present, had;
    struct root_record record, old;
    uint64_t modify_index, old_index, last_index;
};

struct world {
    uint64_t random;
    unsigned roots, in_sync_min, promote_min, losses, disks;
    unsigned weight[STEP_KINDS], belief; // one tick of `belief` takes the leader for gone
    uint32_t away;
    bool healed;
    struct world_root root[WORLD_ROOTS];
    struct world_store store;
    struct world_block block[WORLD_BLOCKS];
    unsigned blocks;
    struct world_message message[WORLD_MESSAGES];
    unsigned messages;
    // Every leadership that has opened: the last block it wrote.
    struct leadership opened[WORLD_LEADERSHIPS];
    unsigned tip[WORLD_LEADERSHIPS], openings;
    // What was ever committed, and in which epoch.
    unsigned truth[WORLD_LOG + 1];
    uint64_t truth_epoch[WORLD_LOG + 1], truths;
    const char *broken; // what was found
    uint64_t count[SOMETIMES_COUNTS];
};

SUPPORT uint64_t world_chance(struct world *world, uint64_t one_in)
{
    return test_random(&world->random) % one_in == 0;
}

SUPPORT unsigned world_any(struct world *world, unsigned below)
{
    return (unsigned)(test_random(&world->random) % below);
}

SUPPORT void world_break(struct world *world, const char *what)
{
    world->broken = world->broken == NULL ? what : world->broken;
}

// ---- logs --------------------------------------------------------------------------------------

SUPPORT unsigned world_write(struct world *world, unsigned below, struct leadership leadership)
{
    assert_true(world->blocks < WORLD_BLOCKS);
    world->block[world->blocks] = (struct world_block){
        .below = below,
        .number = world->block[below].number + 1,
        .leadership = leadership,
    };
    return world->blocks++;
}

// The block with that number below `tip`, or at it.
SUPPORT unsigned world_below(const struct world *world, unsigned tip, uint64_t number)
{
    while (world->block[tip].number > number) {
        tip = world->block[tip].below;
    }
    return tip;
}

// The last number that the log of `root` has in common with that which ends at `tip`.
SUPPORT uint64_t world_common(const struct world *world, const struct world_root *root,
                              unsigned tip)
{
    uint64_t number = u64_min(root->appended, world->block[tip].number);
    while (root->log[number] != world_below(world, tip, number)) {
        number--;
    }
    return number;
}

SUPPORT struct log_end world_end(const struct world *world, const struct world_root *root)
{
    unsigned last = root->log[root->synced];
    return (struct log_end){
        .epoch = world->block[last].leadership.epoch,
        .block = root->synced,
        .index = root->synced,
        .chain = {.low = last},
    };
}

// ROOT_NOBODY when it has never opened.
SUPPORT unsigned world_opening(const struct world *world, struct leadership leadership)
{
    for (unsigned i = 0; i < world->openings; i++) {
        if (leadership_equal(world->opened[i], leadership)) {
            return i;
        }
    }
    return WORLD_LEADERSHIPS;
}

// ---- what must never be ------------------------------------------------------------------------

// Root `of` counts blocks up to `number` as committed, by word of `leadership`.
SUPPORT void world_commit(struct world *world, unsigned of, uint64_t number,
                          struct leadership leadership)
{
    struct world_root *root = &world->root[of];
    if (number > root->synced) {
        world_break(world, "committed, and not on the disk");
        return;
    }
    for (uint64_t i = 1; i <= number; i++) {
        if (world->truth[i] != 0 && world->truth[i] != root->log[i]) {
            world_break(world, "two blocks committed at one number");
        }
        if (world->truth[i] != 0) {
            continue;
        }
        for (unsigned other = 0; other < world->openings; other++) {
            if (world->opened[other].epoch > leadership.epoch &&
                world_below(world, world->tip[other], i) != root->log[i]) {
                world_break(world, "committed, and a later leader lacks it");
            }
        }
        world->truth[i] = root->log[i];
        world->truth_epoch[i] = leadership.epoch;
        world->truths = u64_max(world->truths, i);
    }
    root->committed = u64_max(root->committed, number);
}

SUPPORT void world_check_leader(struct world *world, const struct world_root *root,
                                struct leadership leadership)
{
    for (uint64_t i = 1; i <= world->truths; i++) {
        if (world->truth_epoch[i] < leadership.epoch &&
            (i > root->appended || root->log[i] != world->truth[i])) {
            world_break(world, "a leader lacks what is committed");
        }
    }
}

SUPPORT void world_check_cut(struct world *world, const struct world_root *root, uint64_t from)
{
    if (from <= root->committed) {
        world_break(world, "what was shown is cut");
    }
    for (uint64_t i = from; i <= root->synced && i <= world->truths; i++) {
        // One that still follows a deposed leader may: nobody counts it.
        if (world->truth[i] == root->log[i] &&
            world->truth_epoch[i] <= root->council.cut_for.epoch) {
            world_break(world, "what is committed is cut");
        }
    }
}

#endif
