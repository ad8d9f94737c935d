// SPDX-License-Identifier: Apache-2.0
// R15 to R18: a change of history. The one root that a person asks makes it, of the best log that
// can be reached; the record is changed first, so there is one. The others promise the new history,
// and by that end what they acknowledge of the old one, before they leave its log.
#include "common/roots/council_private.h"

bool council_forks(const struct council *council)
{
    return council->leaves && council->wanted.alone &&
           council->wanted.leadership.leader == council->setup.self;
}

bool council_begins(const struct council *council)
{
    return council->opening && council_forks(council);
}

bool council_foreign(const struct council *council)
{
    return council->record_present &&
           memcmp(council->record.history, council->wanted.history, HISTORY_ID_BYTES) != 0;
}

const uint8_t *council_speaks_of(const struct council *council)
{
    return council_forks(council) ? council->former : council->wanted.history;
}

// ---- R15 ---------------------------------------------------------------------------------------

// Of the record that was read now: whoever leads by it is gone, also in another history.
static bool may_begin(const struct council *council)
{
    struct leadership awaited = council_awaited_one(council);
    return awaited.leader == council->setup.self || awaited.leader == ROOT_NOBODY ||
           (council->leader_gone && leadership_equal(council->gone, awaited));
}

// The record names it alone in a history that it has begun to make, or made: that is enough.
bool council_made(const struct council *council)
{
    return council->wanted.alone && council_record_current(council) &&
           council->record.leadership.leader == council->setup.self;
}

// R11 repeats a request for as long as nothing has happened. One that ends a history is repeated
// only while the person waits for it, and its leader is gone.
bool council_is_late(const struct council *council)
{
    bool begins = council->role == COUNCIL_TRYING && council_forks(council) &&
                  !(council->record_present && !council_foreign(council));
    return begins && !(council->awaits && may_begin(council));
}

void council_try_with_loss(struct council *council)
{
    const struct root_record nothing = {0};
    if (!may_begin(council)) {
        return; // it is looked at again, until it expires
    }
    council->loss = false; // once: on what it found when it was asked for
    if (!council->leaves) {
        memcpy(council->former, council->wanted.history, HISTORY_ID_BYTES);
    }
    council->leaves = true;
    memcpy(council->wanted.history, council->loss_history, HISTORY_ID_BYTES);
    council->wanted.alone = true;
    council_try(council, council->record_present ? &council->record : &nothing,
                ROOT_BIT(council->setup.self));
}

void council_stay(struct council *council)
{
    if (council_forks(council)) {
        memcpy(council->wanted.history, council->former, HISTORY_ID_BYTES);
        council->leaves = council->wanted.alone = false;
    }
}

// All that can be reached have promised: none of them adds anything to what it told.
bool council_gathered(const struct council *council)
{
    uint32_t reached = council_others(council) & ~council->lagging;
    return (reached & ~council->granted) == 0;
}

// All of it is committed: nobody else can have it.
void council_forked(struct council *council, uint64_t block)
{
    council->leaves = false;
    council->committed = block;
}

const char *council_accept_loss(struct council *council, bool answers,
                                const uint8_t history[HISTORY_ID_BYTES])
{
    council->declined = NULL; // that was the request before
    if (council->role == COUNCIL_LEADING) {
        return "this root leads";
    }
    if (answers) {
        return "a leader answers, or Consul has its health check as passing";
    }
    if (council->wanted.alone && council->role != COUNCIL_STANDBY) {
        return NULL; // it is under way
    }
    if (council->wanted.blank) {
        return "this root began with an empty directory, or left another history, and no leader "
               "has added it yet";
    }
    memcpy(council->loss_history, history, HISTORY_ID_BYTES);
    council->loss = council->awaits = true;
    council->looked = false;
    council_turn(council);
    return NULL;
}

// Of a request that was sent the next read tells.
void council_loss_expired(struct council *council)
{
    council->awaits = false;
    if (council->loss) {
        council->loss = false;
        council->declined = "the record could not be read in time, or its leader came back: "
                            "nothing was done";
        council_turn(council);
    }
}

// ---- R16 ---------------------------------------------------------------------------------------

void council_on_fork(struct council *council, unsigned root, struct leadership leadership,
                     const uint8_t history[HISTORY_ID_BYTES])
{
    if (!council_is_other(council, root) || leadership.leader != root ||
        leadership.epoch > EPOCH_MAX || council->stopped != NULL || council_begins(council)) {
        return;
    }
    council->other = leadership;
    memcpy(council->other_history, history, HISTORY_ID_BYTES);
    council_ask_record(council);
    council_turn(council);
}

void council_adopt(struct council *council)
{
    struct leadership other = council->other;
    council->other.leader = ROOT_NOBODY;
    bool named = other.leader != ROOT_NOBODY && council->record_present &&
                 council->record.leadership.leader == other.leader &&
                 memcmp(council->record.history, council->other_history, HISTORY_ID_BYTES) == 0;
    if (!named || council_begins(council)) {
        return;
    }
    if (!council->leaves) {
        memcpy(council->former, council->wanted.history, HISTORY_ID_BYTES);
    }
    // Epochs of two histories are not compared: of the old one nothing is followed any more.
    council_want(council, other);
    council->leaves = true;
    memcpy(council->wanted.history, council->other_history, HISTORY_ID_BYTES);
    council->wanted.generation = council->record.generation;
    council->wanted.blank = true; // it has nothing of that one
    council->wanted.alone = false;
    council->told_epoch = 0;
}
