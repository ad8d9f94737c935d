// SPDX-License-Identifier: Apache-2.0
// What the councils of a world do, done: actions at once where nothing can come between, else as
// steps that come later (council_steps.h); messages into the air; requests into the store.
#ifndef QS_TESTS_UNIT_COUNCIL_DRIVE_H
#define QS_TESTS_UNIT_COUNCIL_DRIVE_H

#include "tests/unit/council_world.h"

// ---- the air -----------------------------------------------------------------------------------

SUPPORT void world_send(struct world *world, const struct world_message *message)
{
    if (world->messages == WORLD_MESSAGES) { // the oldest is lost
        world->messages--;
        memmove(world->message, world->message + 1, world->messages * sizeof *message);
    }
    world->message[world->messages++] = *message;
}

SUPPORT void world_count_action(struct world *world, const struct world_root *root,
                                const struct council_action *action)
{
    const struct council *council = &root->council;
    bool refused = action->act == COUNCIL_ANSWER && !action->granted;
    world->count[SOMETIMES_REFUSED] += refused;
    world->count[SOMETIMES_FETCH] += action->act == COUNCIL_FETCH;
    world->count[SOMETIMES_ASKED] += action->act == COUNCIL_ASK;
    world->count[SOMETIMES_GO] += action->act == COUNCIL_GO;
    if (action->act == COUNCIL_CHANGE) {
        uint32_t set = action->record.in_sync;
        bool leads = council->role == COUNCIL_LEADING;
        world->count[SOMETIMES_TRY] += council->role == COUNCIL_TRYING;
        world->count[SOMETIMES_REPEATED] += council->request.repeated;
        world->count[SOMETIMES_DROP] += leads && (council->members & ~set) != 0;
        world->count[SOMETIMES_ADD] += leads && (set & ~council->members) != 0;
        world->count[SOMETIMES_REWRITTEN] += leads && set == council->members;
    }
}

SUPPORT bool world_is_away(const struct world *world, const struct world_message *message)
{
    if (message->to == ROOT_NOBODY) { // the store
        return message->answer && set_has(world->away, message->from);
    }
    return set_has(world->away, message->from) || set_has(world->away, message->to);
}

// ---- actions -----------------------------------------------------------------------------------

SUPPORT void world_open_epoch(struct world *world, unsigned of, const struct council_action *action)
{
    struct world_root *root = &world->root[of];
    root->open_due = false;
    if (root->appended == WORLD_LOG || world->openings == WORLD_LEADERSHIPS) {
        return;
    }
    assert_int_equal(root->appended, root->synced);
    world_check_leader(world, root, action->leadership);
    unsigned block = world_write(world, root->log[root->appended], action->leadership);
    root->log[++root->appended] = block;
    for (unsigned i = 0; i < world->openings; i++) {
        bool same = world->opened[i].epoch == action->leadership.epoch;
        world->count[SOMETIMES_SAME_EPOCH] += same;
    }
    world->opened[world->openings] = action->leadership;
    world->tip[world->openings++] = block;
    world->count[SOMETIMES_OPENED]++;
    struct log_end end = world_end(world, root);
    council_journal(&root->council, &end, root->appended);
    council_opened(&root->council, action->leadership, root->appended);
}

SUPPORT void world_role(struct world *world, struct world_root *root,
                        const struct council_action *action)
{
    if (root->role == COUNCIL_TRYING && action->role == COUNCIL_STANDBY) {
        world->count[SOMETIMES_LOST]++;
    }
    world->count[SOMETIMES_SMALL] += action->writes == COUNCIL_WRITES_SMALL;
    root->role = action->role;
    root->writes = action->writes;
    if (action->role != COUNCIL_ELECTED) {
        root->donor = ROOT_NOBODY;
    }
}

SUPPORT void world_do_commit(struct world *world, unsigned of, uint64_t block)
{
    struct world_root *root = &world->root[of];
    const struct council *council = &root->council;
    bool leads = council->role == COUNCIL_LEADING;
    world->count[leads ? SOMETIMES_COMMIT : SOMETIMES_LEARNED]++;
    world_commit(world, of, block, leads ? council->mine : council->promised.leadership);
}

// Those of the own node; false when it is a message.
SUPPORT bool world_do_here(struct world *world, unsigned of, const struct council_action *action)
{
    struct world_root *root = &world->root[of];
    switch (action->act) {
    case COUNCIL_STOP:
        world_break(world, action->text);
        return true;
    case COUNCIL_ROLE:
        world_role(world, root, action);
        return true;
    case COUNCIL_FOLLOW:
        root->follows = action->leadership;
        root->joined = false;
        return true;
    case COUNCIL_PROMISE:
        root->promising = true;
        root->next = action->promise;
        return true;
    case COUNCIL_CUT:
        world_check_cut(world, root, action->block);
        root->cutting = true;
        root->cut_from = action->block;
        return true;
    case COUNCIL_FETCH:
        root->donor = action->root;
        root->fetch_end = action->end.block;
        root->fetching = false;
        return true;
    case COUNCIL_OPEN:
        world_open_epoch(world, of, action);
        return true;
    case COUNCIL_COMMIT:
        world_do_commit(world, of, action->block);
        return true;
    case COUNCIL_COUNTED:
        return true;
    default:
        return false;
    }
}

// Everything that is due at one root.
SUPPORT void world_drain(struct world *world, unsigned of)
{
    struct world_root *root = &world->root[of];
    struct council_action action;
    unsigned done = 0;
    while (world->broken == NULL && council_next(&root->council, &action)) {
        if (done++ > 100) {
            world_break(world, "what is due has no end");
        }
        world_count_action(world, root, &action);
        if (world_do_here(world, of, &action)) {
            continue;
        }
        struct world_message message = {.action = action, .from = of, .to = action.root};
        message.life = root->life;
        world_send(world, &message);
    }
}

// ---- the store ---------------------------------------------------------------------------------

SUPPORT void world_store_write(struct world *world, const struct world_message *message)
{
    struct world_store *store = &world->store;
    store->present = true;
    store->record = message->action.record;
    store->modify_index = ++store->last_index;
    const struct world_root *sender = &world->root[message->from];
    bool late = !sender->up || sender->life != message->life ||
                sender->council.request.ticket != message->action.ticket;
    world->count[SOMETIMES_LATE_LANDING] += late;
}

// A request has arrived; its answer sets out.
SUPPORT void world_store_take(struct world *world, struct world_message message)
{
    struct world_store *store = &world->store;
    uint64_t index = store->present ? store->modify_index : 0;
    message.answer = true;
    message.result = OK;
    if (message.action.act == COUNCIL_CHANGE) {
        if (index == message.action.modify_index) {
            world_store_write(world, &message);
        } else {
            message.result = ERR_CONFLICT;
        }
    }
    message.present = store->present;
    message.record = store->record;
    message.modify_index = store->present ? store->modify_index : 0;
    world_send(world, &message);
}

SUPPORT void world_store_answer(struct world *world, const struct world_message *message)
{
    struct world_root *root = &world->root[message->from];
    if (!root->up || root->life != message->life) {
        return;
    }
    enum council_role before = root->council.role;
    if (message->action.act == COUNCIL_CHANGE) {
        council_changed(&root->council, message->action.ticket, message->result);
        if (before == COUNCIL_TRYING && root->council.role == COUNCIL_ELECTED) {
            world->count[SOMETIMES_ELECTED_BY_ANSWER]++;
        }
    } else {
        council_record(&root->council, message->action.ticket,
                       message->present ? &message->record : NULL, message->modify_index);
        if (before == COUNCIL_TRYING && root->council.role == COUNCIL_ELECTED) {
            world->count[SOMETIMES_ELECTED_BY_READ]++;
        }
        if (before >= COUNCIL_ELECTED && root->council.role == COUNCIL_STANDBY) {
            world->count[SOMETIMES_GAVE_WAY]++;
        }
        world->count[SOMETIMES_HIGHER_TOLD] +=
            before >= COUNCIL_ELECTED && root->council.role == COUNCIL_TRYING;
    }
    world_drain(world, message->from);
}

// ---- messages ----------------------------------------------------------------------------------

// What a leader does before it believes an acknowledgement: the chain at that number is its own.
SUPPORT bool world_chain_fits(const struct world_root *root, const struct log_end *end)
{
    return end->block <= root->appended && root->log[end->block] == end->chain.low;
}

SUPPORT void world_hear(struct world *world, const struct world_message *message)
{
    const struct council_action *action = &message->action;
    struct world_root *root = &world->root[message->to];
    struct council *council = &root->council;
    unsigned from = message->from;
    switch (action->act) {
    case COUNCIL_CLAIM:
        council_on_claim(council, from, action->leadership);
        break;
    case COUNCIL_ANSWER:
        council_on_answer(council, from, action->granted, &action->promise, &action->end);
        break;
    case COUNCIL_LEAD:
        council_on_lead(council, from, action->leadership, action->block,
                        action->promise.generation, action->member);
        break;
    case COUNCIL_ACKNOWLEDGE:
        if (world_chain_fits(root, &action->end)) {
            council_on_acknowledge(council, from, action->leadership, action->end.block);
        }
        break;
    case COUNCIL_ASK:
        council_on_ask(council, from);
        break;
    case COUNCIL_GO:
        council_on_go(council, from, action->leadership);
        break;
    default:
        world_break(world, "no message");
    }
    world_drain(world, message->to);
}

SUPPORT void world_deliver(struct world *world, unsigned at)
{
    struct world_message message = world->message[at];
    world->messages--;
    memmove(world->message + at, world->message + at + 1,
            (world->messages - at) * sizeof message);
    bool store = message.action.act == COUNCIL_READ || message.action.act == COUNCIL_CHANGE;
    if (message.answer) {
        world_store_answer(world, &message);
    } else if (store) {
        world_store_take(world, message);
    } else if (world->root[message.to].up) {
        world_hear(world, &message);
    }
}

#endif
