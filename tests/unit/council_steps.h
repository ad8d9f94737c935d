// SPDX-License-Identifier: Apache-2.0
// The steps of a world's roots that come when they come: syncs, blocks taken, promises written,
// crashes, people; and what befalls the store.
#ifndef QS_TESTS_UNIT_COUNCIL_STEPS_H
#define QS_TESTS_UNIT_COUNCIL_STEPS_H

#include "tests/unit/council_drive.h"

// ---- a journal ---------------------------------------------------------------------------------

SUPPORT void world_tell_journal(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    struct log_end end = world_end(world, root);
    council_journal(&root->council, &end, root->appended);
    world_drain(world, of);
}

SUPPORT void world_sync(struct world *world, unsigned of)
{
    world->root[of].synced = world->root[of].appended;
    world_tell_journal(world, of);
}

SUPPORT void world_keep(struct world_root *root, uint64_t blocks)
{
    root->appended = blocks;
    root->synced = u64_min(root->synced, blocks);
}

SUPPORT void world_finish_cut(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    root->cutting = false;
    world->count[SOMETIMES_CUT]++;
    if (root->appended >= root->cut_from) {
        world_keep(root, root->cut_from - 1);
    }
    struct log_end end = world_end(world, root);
    council_journal(&root->council, &end, root->appended);
    council_cut(&root->council);
    world_drain(world, of);
}

SUPPORT void world_finish_promise(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    root->promising = false;
    world->count[SOMETIMES_BLANK_CLEARED] += root->promise.blank && !root->next.blank;
    root->promise = root->next;
    council_promised(&root->council);
    world_drain(world, of);
}

SUPPORT void world_append(struct world *world, unsigned of, unsigned tip, uint64_t end)
{
    struct world_root *root = &world->root[of];
    uint64_t last = u64_min(end, root->appended + 1 + world_any(world, 3));
    while (root->appended < last) {
        uint64_t number = root->appended + 1;
        root->log[number] = world_below(world, tip, number);
        root->appended = number;
    }
    world_tell_journal(world, of);
}

// Where the log of the leadership ends that a root follows. What it ever wrote may still come; and
// before it wrote anything a root has the log that it had.
SUPPORT bool world_source(const struct world *world, struct leadership leadership,
                          unsigned *ret_tip)
{
    if (leadership.leader >= world->roots) {
        return false;
    }
    const struct world_root *leader = &world->root[leadership.leader];
    unsigned at = world_opening(world, leadership);
    if (at == WORLD_LEADERSHIPS &&
        (!leader->up || !leadership_equal(leader->council.mine, leadership))) {
        return false;
    }
    *ret_tip = at == WORLD_LEADERSHIPS ? leader->log[leader->appended] : world->tip[at];
    return true;
}

SUPPORT void world_take(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    unsigned tip;
    if (root->cutting || !world_source(world, root->follows, &tip)) {
        return;
    }
    uint64_t common = world_common(world, root, tip);
    if (!root->joined) {
        root->joined = common == root->appended; // else after the cut
        council_common(&root->council, root->follows.leader, common);
        world_drain(world, of);
    } else if (root->appended < world->block[tip].number) {
        assert_int_equal(common, root->appended);
        world_append(world, of, tip, world->block[tip].number);
    }
}

// Blocks of the root whose log is taken over, which it serves as long as it has promised nobody
// else.
SUPPORT void world_fetch(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    const struct world_root *donor = &world->root[root->donor];
    if (root->cutting || root->appended != root->synced) {
        return;
    }
    bool serves = donor->up && donor->synced >= root->fetch_end &&
                  leadership_equal(donor->promise.leadership, root->council.mine);
    if (!serves || (!world->healed && world_chance(world, 20))) {
        world->count[SOMETIMES_FETCH_FAILED]++;
        unsigned from = root->donor;
        root->donor = ROOT_NOBODY;
        council_fetch_failed(&root->council, from);
        world_drain(world, of);
        return;
    }
    unsigned tip = donor->log[root->fetch_end];
    uint64_t common = world_common(world, root, tip);
    if (common < root->appended) {
        council_common(&root->council, root->donor, common);
        world_drain(world, of);
    } else if (common < root->fetch_end) {
        world_append(world, of, tip, root->fetch_end);
    }
}

SUPPORT void world_write_batch(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    unsigned at = world_opening(world, root->council.mine);
    if (root->writes != COUNCIL_WRITES_TAKEN || root->appended != root->synced ||
        root->appended == WORLD_LOG || root->committed < root->council.first) {
        return;
    }
    unsigned block = world_write(world, root->log[root->appended], root->council.mine);
    root->log[++root->appended] = block;
    world->tip[at] = block;
    world_tell_journal(world, of);
}

// ---- processes ---------------------------------------------------------------------------------

SUPPORT void world_start(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    struct council_setup setup = {
        .roots = world->roots,
        .self = of,
        .in_sync_min = world->in_sync_min,
        .promote_min = world->promote_min,
    };
    struct log_end end = world_end(world, root);
    root->up = true;
    root->appended = root->synced;
    root->promising = root->cutting = root->joined = root->fetching = false;
    root->follows.leader = root->donor = ROOT_NOBODY;
    root->role = COUNCIL_STANDBY;
    root->writes = COUNCIL_WRITES_ELSEWHERE;
    council_open(&root->council, &setup, &root->promise, &end, root->committed);
    world_drain(world, of);
}

SUPPORT void world_crash(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    root->up = false;
    root->life++;
    if (root->synced < root->appended) {
        world->count[SOMETIMES_TAIL_LOST]++;
        root->synced += world_any(world, (unsigned)(root->appended - root->synced) + 1);
    }
    if (root->promising && world_chance(world, 2)) {
        root->promise = root->next;
    } else if (root->promising) {
        world->count[SOMETIMES_PROMISE_LOST]++;
    }
    world_keep(root, root->synced);
}

// Its disk is replaced. One at a time: two would be more than in_sync_min = 2 can bear.
SUPPORT void world_lose_disk(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    uint32_t has = world->store.present ? world->store.record.in_sync : 0;
    for (unsigned i = 0; i < world->roots; i++) {
        if (world->root[i].promise.blank) {
            return;
        }
    }
    if (world->disks == 0 || set_size(has) < 2) {
        return;
    }
    world->disks--;
    world->count[SOMETIMES_BLANK]++;
    world_crash(world, of);
    world_keep(root, 0);
    root->committed = 0;
    struct promise blank = {.leadership.leader = ROOT_NOBODY, .blank = true};
    memcpy(blank.history, root->promise.history, HISTORY_ID_BYTES);
    root->promise = blank;
    // Connections end with their process, and with them what it has said and was told.
    for (unsigned i = 0; i < world->roots; i++) {
        if (world->root[i].up) {
            council_connected(&world->root[i].council, of);
            world_drain(world, i);
        }
    }
    for (unsigned i = 0; i < world->messages; i++) {
        struct world_message *message = &world->message[i];
        bool store = message->action.act == COUNCIL_READ || message->action.act == COUNCIL_CHANGE;
        if (!store && (message->from == of || message->to == of)) {
            message->action.act = COUNCIL_ASK;
            message->from = message->to = of; // to nobody else
        }
    }
}

// ---- the store ---------------------------------------------------------------------------------

SUPPORT void world_harm_store(struct world *world)
{
    struct world_store *store = &world->store;
    if (world->losses == 0) {
        return;
    }
    if (world_chance(world, 2)) {
        store->had = store->present;
        store->old = store->record;
        store->old_index = store->modify_index;
        return;
    }
    world->losses--;
    bool back = store->had && world_chance(world, 2);
    world->count[back ? SOMETIMES_STORE_BACK : SOMETIMES_STORE_LOST]++;
    store->present = back;
    store->record = store->old;
    store->modify_index = store->old_index;
    if (world_chance(world, 2)) { // and counts again what it had counted
        store->last_index = back ? store->old_index : 0;
    }
}

#endif
