// SPDX-License-Identifier: Apache-2.0
#include "common/roots/council_private.h"

// ---- life --------------------------------------------------------------------------------------

void council_open(struct council *council, const struct council_setup *setup,
                  const struct promise *promise, const struct log_end *end, uint64_t committed)
{
    CHECK(setup->roots <= ROOTS_MAX && setup->self < setup->roots);
    CHECK(setup->in_sync_min >= 1 && setup->in_sync_min <= setup->roots);
    CHECK(setup->promote_min >= 1 && setup->promote_min <= setup->roots);
    CHECK(committed <= end->block);
    *council = (struct council){
        .setup = *setup,
        .promised = *promise,
        .wanted = *promise,
        .end = *end,
        .appended = end->block,
        .committed = committed,
        .mine.leader = ROOT_NOBODY,
        .donor = ROOT_NOBODY,
        .heir = ROOT_NOBODY,
        .other.leader = ROOT_NOBODY,
        .told_role = COUNCIL_LEADING, // so that the first one is told
        .leaves = setup->leaves,
        .ticket = setup->ticket,
    };
    memcpy(council->former, setup->log, HISTORY_ID_BYTES);
    council_due(council, COUNCIL_FOLLOW);
    council_ask_record(council);
    council_turn(council);
}

void council_stop(struct council *council, const char *text)
{
    council_rest(council);
    if (council->stopped == NULL) {
        council->stopped = text;
        council_due(council, COUNCIL_STOP);
    }
}

static void rule_role(struct council *council)
{
    struct leadership leadership = council->role == COUNCIL_STANDBY ? council->promised.leadership
                                                                    : council->mine;
    enum council_writes writes = council_writes(council);
    if (council->told_role != council->role || council->told_writes != writes ||
        !leadership_equal(council->told_leadership, leadership)) {
        council->told_role = council->role;
        council->told_writes = writes;
        council->told_leadership = leadership;
        council_due(council, COUNCIL_ROLE);
    }
}

void council_turn(struct council *council)
{
    if (council->stopped == NULL) {
        council_rule_follow(council);
        council_rule_try(council);
        council_rule_open(council);
        council_rule_set(council);
        council_rule_commit(council);
        council_rule_hand(council);
    }
    if (!promise_equal(&council->wanted, &council->promised) && !council->is_writing) {
        council_due(council, COUNCIL_PROMISE);
    }
    rule_role(council);
    if (council->stopped != NULL) {
        council->due &= ACT_BIT(COUNCIL_STOP) | ACT_BIT(COUNCIL_ROLE) | ACT_BIT(COUNCIL_FOLLOW);
        council->due_answer = council->due_claim = council->due_lead = 0;
    }
}

// ---- facts -------------------------------------------------------------------------------------

void council_tick(struct council *council, bool leader_gone, uint32_t lagging)
{
    council->leader_gone = leader_gone;
    council->gone = council_awaited_one(council);
    council->lagging = lagging;
    council->looked = false;
    if (council->read_again) {
        council_ask_record(council);
    }
    if (council->role >= COUNCIL_ELECTED) {
        council->due_claim |= council_others(council) & ~council->granted;
    }
    if (council->role == COUNCIL_LEADING) {
        council->due_lead |= council_others(council) & council->granted;
    }
    council_turn(council);
}

void council_journal(struct council *council, const struct log_end *synced, uint64_t appended)
{
    CHECK(synced->block <= appended);
    CHECK(synced->block >= council->committed || council->birth); // numbers begin anew
    council->end = *synced;
    council->appended = appended;
    council_turn(council);
}

void council_history(struct council *council, const uint8_t history[HISTORY_ID_BYTES])
{
    memcpy(council->wanted.history, history, HISTORY_ID_BYTES);
    council->leaves = false;
    council_turn(council);
}

// ---- what is due -------------------------------------------------------------------------------

static bool take(struct council *council, enum council_act act)
{
    bool is_due = (council->due & ACT_BIT(act)) != 0;
    council_undue(council, act);
    return is_due;
}

// The first root of `set`, which it leaves; ROOT_NOBODY when there is none.
static unsigned take_root(uint32_t *set)
{
    if (*set == 0) {
        return ROOT_NOBODY;
    }
    unsigned root = (unsigned)__builtin_ctz(*set);
    *set &= ~ROOT_BIT(root);
    return root;
}

static bool next_here(struct council *council, struct council_action *action)
{
    action->promise = council->wanted;
    if (take(council, action->act = COUNCIL_STOP)) {
        action->text = council->stopped;
    } else if (take(council, action->act = COUNCIL_ROLE)) {
        action->leadership = council->told_leadership;
        action->role = council->told_role;
        action->writes = council->told_writes;
    } else if (take(council, action->act = COUNCIL_FOLLOW)) {
        bool follows = council_follows(council, council->promised.leadership) &&
                       council->promised.leadership.leader != council->setup.self;
        action->leadership = council->promised.leadership;
        action->root = follows ? action->leadership.leader : ROOT_NOBODY;
        action->leadership.leader = council->heard ? action->root : ROOT_NOBODY;
    } else if (take(council, action->act = COUNCIL_PROMISE)) {
        council->is_writing = true;
        council->writing = council->wanted;
    } else if (take(council, action->act = COUNCIL_READ)) {
        council->reading = true;
        action->ticket = ++council->ticket;
    } else if (take(council, action->act = COUNCIL_CHANGE)) {
        // A read that is under way may show what was there before.
        action->ticket = council->request.ticket = ++council->ticket;
        council->reading = false;
        council->request.repeated = council->request.sent;
        council->request.sent = true;
        action->record = council->request.record;
        action->modify_index = council->request.modify_index;
    } else {
        return false;
    }
    return true;
}

static bool next_of_log(struct council *council, struct council_action *action)
{
    action->leadership = council->mine;
    if (take(council, action->act = COUNCIL_CUT)) {
        action->block = council->cut_from;
    } else if (take(council, action->act = COUNCIL_FETCH)) {
        action->root = council->donor;
        action->end = council->ends[council->donor];
    } else if (take(council, action->act = COUNCIL_OPEN)) {
        action->birth = council->birth;
        action->forks = council_forks(council);
    } else if (take(council, action->act = COUNCIL_COUNTED)) {
        action->set = council->counted;
    } else if (take(council, action->act = COUNCIL_COMMIT)) {
        action->block = council->committed;
    } else {
        return false;
    }
    return true;
}

static uint32_t answerable(const struct council *council)
{
    uint32_t set = 0;
    for (unsigned root = 0; root < council->setup.roots; root++) {
        set |= set_has(council->due_answer, root) && council_may_answer(council, root)
                   ? ROOT_BIT(root)
                   : 0;
    }
    return set;
}

static bool next_message(struct council *council, struct council_action *action)
{
    uint32_t answers = answerable(council);
    action->leadership = council->mine;
    action->end = council->end;
    action->block = council->committed;
    if (answers != 0) {
        action->act = COUNCIL_ANSWER;
        action->root = take_root(&answers);
        council->due_answer &= ~ROOT_BIT(action->root);
        action->granted = leadership_equal(council->claimed[action->root],
                                           council->wanted.leadership);
    } else if (take(council, action->act = COUNCIL_ACKNOWLEDGE)) {
        action->leadership = council->promised.leadership;
        action->root = action->leadership.leader;
        council->told_block = council->end.block;
    } else if ((action->root = take_root(&council->due_claim)) != ROOT_NOBODY) {
        action->act = COUNCIL_CLAIM;
    } else if ((action->root = take_root(&council->due_lead)) != ROOT_NOBODY) {
        action->act = COUNCIL_LEAD;
        action->member = set_has(council->members & ~council->blank, action->root);
    } else if (take(council, action->act = COUNCIL_ASK)) {
        action->root = council->promised.leadership.leader;
    } else if (take(council, action->act = COUNCIL_GO)) {
        action->root = council->heir;
    } else {
        return false;
    }
    return true;
}

bool council_next(struct council *council, struct council_action *ret_action)
{
    struct council_action action = {.root = ROOT_NOBODY};
    if (!next_here(council, &action) && !next_of_log(council, &action) &&
        !next_message(council, &action)) {
        return false;
    }
    *ret_action = action;
    return true;
}
