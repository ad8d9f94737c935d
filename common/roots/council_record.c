// SPDX-License-Identifier: Apache-2.0
// R1 to R3 and R11: reading the record, changing it, and trying to become the one that it names. A
// read counts only if it was asked after the last change was sent: council->ticket.
#include "common/roots/council_private.h"

// ---- reading -----------------------------------------------------------------------------------

static bool is_own_history(const struct council *council)
{
    return memcmp(council->record.history, council->wanted.history, HISTORY_ID_BYTES) == 0;
}

bool council_record_current(const struct council *council)
{
    return council->record_present && is_own_history(council) &&
           council->record.generation >= council->wanted.generation;
}

void council_ask_record(struct council *council)
{
    council->read_again = false;
    if (!council->reading) {
        council_due(council, COUNCIL_READ);
    }
}

// R3. `why` is for the person who had it end a history.
static void give_up(struct council *council, const char *why)
{
    council->declined = council_forks(council) ? why : NULL;
    council_stay(council);
    council_rest(council);
}

// R11. A request that has an answer, or that can no longer succeed, as `success` tells.
static void settle(struct council *council, bool success)
{
    council->request.busy = council->request.sent = false;
    council_undue(council, COUNCIL_CHANGE);
    if (council->role == COUNCIL_TRYING && success) {
        council_elected(council);
    } else if (council->role == COUNCIL_TRYING) {
        give_up(council, "the record has changed meanwhile: look who leads, and ask again if need "
                         "be");
    } else if (success) {
        council_set_settled(council);
    }
}

// Nothing has happened to the record.
static void ask_again(struct council *council)
{
    if (council_is_late(council)) {
        give_up(council, "the record could not be changed in time, or its leader came back: look "
                         "who leads, and ask again if need be");
    } else if (council->request.sent) {
        council_due(council, COUNCIL_CHANGE);
    }
}

// R3 and R6 for one that was elected: the record names another one, of an epoch that is not lower.
static void give_way(struct council *council)
{
    bool named = leadership_equal(council->record.leadership, council->mine);
    if (council->role >= COUNCIL_ELECTED && council_foreign(council)) {
        council_rest(council); // R17
    } else if (council->role >= COUNCIL_ELECTED && council_record_current(council) && !named &&
        council->record.leadership.epoch >= council->mine.epoch) {
        council_rest(council);
    }
}

void council_record(struct council *council, uint64_t ticket, const struct root_record *record,
                    uint64_t modify_index)
{
    if (!council->reading || ticket != council->ticket) {
        return;
    }
    council->reading = false;
    council->record_known = true;
    council->record_present = record != NULL;
    council->modify_index = modify_index;
    if (record != NULL) {
        council->record = *record;
        if (is_own_history(council)) {
            council_see_generation(council, record->generation);
        }
    }
    if (council->request.busy && modify_index == council->request.modify_index) {
        ask_again(council);
    } else if (council->request.busy && modify_index != council->request.modify_index) {
        settle(council, record != NULL && root_record_equal(record, &council->request.record));
    }
    give_way(council);
    council_adopt(council);
    if (council->role == COUNCIL_LEADING && !council->request.busy &&
        council_record_current(council) &&
        leadership_equal(council->record.leadership, council->mine)) {
        council_set_settled(council);
    }
    council->fresh = true;
    council_turn(council);
    council->fresh = false;
}

void council_record_failed(struct council *council, uint64_t ticket)
{
    if (council->reading && ticket == council->ticket) {
        council->reading = false;
        council->read_again = true;
    }
}

void council_record_moved(struct council *council)
{
    bool late = council->reading; // what is under way may have been read before
    council_ask_record(council);
    council->read_again = late;
}

// ---- changing ----------------------------------------------------------------------------------

void council_request(struct council *council, const struct root_record *record,
                     uint64_t modify_index)
{
    CHECK(!council->request.busy);
    council->request.busy = true;
    council->request.sent = council->request.repeated = false;
    council->request.record = *record;
    council->request.modify_index = modify_index;
    council_due(council, COUNCIL_CHANGE);
}

void council_changed(struct council *council, uint64_t ticket, int result)
{
    if (!council->request.busy || !council->request.sent || ticket != council->request.ticket) {
        return;
    }
    if (result == OK) {
        council->record = council->request.record;
        council->record_present = true;
        council->record_known = false; // its ModifyIndex is
        council_see_generation(council, council->record.generation);
        settle(council, true);
    } else if (result == ERR_CONFLICT && !council->request.repeated) {
        council->record_known = false;
        settle(council, false);
    }
    // Refused may also be the second of two when the first has succeeded: what stands there says
    // it.
    if (result == OK || result == ERR_CONFLICT) {
        council_ask_record(council);
    } else {
        council->read_again = true;
    }
    council_turn(council);
}

// ---- trying ------------------------------------------------------------------------------------

struct leadership council_awaited_one(const struct council *council)
{
    return council_record_current(council) || council_foreign(council)
               ? council->record.leadership
               : council->promised.leadership;
}

// What was said of one that led before says nothing of the one that is awaited now.
static bool is_gone(const struct council *council)
{
    return council->leader_gone && leadership_equal(council->gone, council_awaited_one(council));
}

// R1, and not what only a read of this moment may say.
static bool has_reason(const struct council *council)
{
    if (council->role >= COUNCIL_ELECTED) {
        return council->told_epoch >= council->mine.epoch || council->forced || council->loss;
    }
    bool named = council->record_present &&
                 council->record.leadership.leader == council->setup.self;
    return council->role == COUNCIL_STANDBY &&
           (is_gone(council) || named || council->go || council->forced || council->loss ||
            council->founds);
}

void council_try(struct council *council, const struct root_record *base, uint32_t in_sync)
{
    uint64_t above = u64_max(council->wanted.leadership.epoch, council->told_epoch);
    struct root_record record = {
        .leadership = {.epoch = u64_max(above, base->leadership.epoch) + 1,
                       .leader = council->setup.self},
        .in_sync = in_sync,
        .generation = u64_max(base->generation, council->wanted.generation) + 1,
    };
    memcpy(record.history, council->wanted.history, HISTORY_ID_BYTES);
    council_want(council, record.leadership);
    council->role = COUNCIL_TRYING;
    council->mine = record.leadership;
    council_request(council, &record, council->modify_index);
    council_undue(council, COUNCIL_CHANGE); // not before the promise is on the disk
}

// Epochs up to 1 are those of a single root, and of several without a council.
static void try_to_found(struct council *council)
{
    const struct root_record nothing = {.leadership.epoch = 1};
    memcpy(council->wanted.history, council->loss_history, HISTORY_ID_BYTES);
    council->wanted.blank = false;
    council_try(council, &nothing, ROOT_BIT(council->setup.self));
    council->birth = true;
}

// A person, where the record is missing or older than what was seen: as if it named nobody, and
// all.
static void try_without_record(struct council *council)
{
    const struct root_record nothing = {0};
    council_try(council, &nothing, set_all(council->setup.roots));
}

void council_rule_try(struct council *council)
{
    if (council->role == COUNCIL_TRYING && council_settled(council) && !council->request.sent) {
        if (council_is_late(council)) {
            council_ask_record(council); // which ends it
        } else {
            council_due(council, COUNCIL_CHANGE);
        }
    }
    bool may = council->role != COUNCIL_TRYING && !council->request.busy && !council->unable &&
               council_settled(council) && !council->opening && has_reason(council) &&
               (!council->wanted.blank || council->founds);
    if (may && !council->fresh && !council->looked) {
        council->looked = true;
        council_ask_record(council);
    }
    if (!may || !council->fresh) {
        return;
    }
    bool forced = council->forced, founds = council->founds;
    council->go = council->forced = council->founds = council->birth = false;
    council->loss = council->loss && !council_made(council);
    if (council->loss) {
        council_try_with_loss(council);
    } else if (founds && !council->record_present) {
        try_to_found(council);
    } else if (council->wanted.blank) {
        return;
    } else if (council_record_current(council) &&
               set_has(council->record.in_sync, council->setup.self)) {
        council_try(council, &council->record, council->record.in_sync);
    } else if (forced && (!council->record_present ||
                          (is_own_history(council) && !council_record_current(council)))) {
        try_without_record(council);
    }
}

unsigned council_awaited(const struct council *council)
{
    return council_awaited_one(council).leader;
}

void council_found(struct council *council, const uint8_t history[HISTORY_ID_BYTES])
{
    if (council->role == COUNCIL_STANDBY && !council->loss) {
        memcpy(council->loss_history, history, HISTORY_ID_BYTES);
        council->founds = true;
        council_turn(council);
    }
}

// ---- a person ----------------------------------------------------------------------------------

const char *council_promote(struct council *council, bool answers)
{
    council->declined = NULL; // that was the request before
    if (council->role == COUNCIL_LEADING || council->role == COUNCIL_TRYING) {
        return "this root leads, or tries to";
    }
    if (council->wanted.blank) {
        return "this root began with an empty directory, and no leader has added it yet";
    }
    council->forced = !answers;
    council->looked = false;
    if (answers && council->role == COUNCIL_STANDBY) {
        council_due(council, COUNCIL_ASK);
    }
    council_turn(council);
    return NULL;
}

void council_on_go(struct council *council, unsigned root, struct leadership leadership)
{
    if (leadership.leader == root && council_follows(council, leadership)) {
        council->go = true;
        council->looked = false;
        council_turn(council);
    }
}
