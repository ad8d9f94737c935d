// SPDX-License-Identifier: Apache-2.0
// R6: whom a root follows. One promise is written at a time; what was claimed meanwhile is written
// after it. From the moment that another one is wanted nothing of the former is acknowledged.
#include "common/roots/council_private.h"

void council_rest(struct council *council)
{
    const uint32_t acts = ACT_BIT(COUNCIL_FETCH) | ACT_BIT(COUNCIL_OPEN) | ACT_BIT(COUNCIL_ASK) |
                          ACT_BIT(COUNCIL_GO) | ACT_BIT(COUNCIL_ACKNOWLEDGE);
    council->role = COUNCIL_STANDBY;
    council->mine = (struct leadership){.leader = ROOT_NOBODY};
    council->granted = council->blank = council->absent = council->members = 0;
    if (council->counted != 0) {
        council->counted = 0;
        council_due(council, COUNCIL_COUNTED);
    }
    council->donor = council->heir = ROOT_NOBODY;
    council->opening = council->joined = council->heard = council->go = false;
    council->leader_commit = 0;
    // What it asked of the record may happen yet, and then names a leadership that nobody takes up.
    council->request.busy = council->request.sent = false;
    council_undue(council, COUNCIL_CHANGE);
    council->due &= ~acts;
    council->due_claim = council->due_lead = 0;
    if ((council->due & ACT_BIT(COUNCIL_CUT)) != 0) { // nobody has begun it
        council_undue(council, COUNCIL_CUT);
        council->cutting = false;
    }
    council_due(council, COUNCIL_FOLLOW);
}

void council_want(struct council *council, struct leadership leadership)
{
    council_rest(council);
    council->wanted.leadership = leadership;
}

void council_see_generation(struct council *council, uint64_t generation)
{
    if (generation <= EPOCH_MAX) {
        council->wanted.generation = u64_max(council->wanted.generation, generation);
    }
}

void council_promised(struct council *council)
{
    CHECK(council->is_writing);
    struct promise before = council->promised;
    council->promised = council->writing;
    council->is_writing = false;
    if (!leadership_equal(before.leadership, council->promised.leadership) ||
        memcmp(before.history, council->promised.history, HISTORY_ID_BYTES) != 0) {
        council_due(council, COUNCIL_FOLLOW);
    }
    council_turn(council);
}

// A refusal may go at once; a grant rests on the disk, and tells the end of a log that stays.
bool council_may_answer(const struct council *council, unsigned root)
{
    return !leadership_equal(council->claimed[root], council->wanted.leadership) ||
           (council_settled(council) && !council->cutting);
}

void council_on_claim(struct council *council, unsigned root, struct leadership leadership)
{
    if (!council_is_other(council, root) || leadership.leader != root ||
        leadership.epoch > EPOCH_MAX || council_begins(council)) {
        return; // what begins is there in a moment, or is given up; it will be claimed again
    }
    if (leadership_follows(leadership, council->wanted.leadership) &&
        !leadership_equal(leadership, council->wanted.leadership)) {
        council_stay(council);
        council_want(council, leadership);
    }
    council->claimed[root] = leadership;
    council->due_answer |= ROOT_BIT(root);
    council_turn(council);
}

void council_connected(struct council *council, unsigned root)
{
    council->lagging &= ~ROOT_BIT(root); // until the next tick says otherwise
    if (council_is_other(council, root) && council->role >= COUNCIL_ELECTED) {
        council->granted &= ~ROOT_BIT(root);
        council->due_lead &= ~ROOT_BIT(root);
        council->due_claim |= ROOT_BIT(root);
        council_fetch_failed(council, root);
        council_turn(council);
    }
}

// A refusal tells of a promise that is not below the own leadership: R1 tries above it. Not above
// the heir's own, as long as the hand-over may succeed: that is how it begins.
static void note_refusal(struct council *council, unsigned root, const struct promise *promise)
{
    struct leadership told = promise->leadership;
    if (root == council->heir && told.leader == root) {
        return;
    }
    if (told.epoch >= council->mine.epoch && !leadership_equal(told, council->mine) &&
        told.epoch <= EPOCH_MAX) {
        council->told_epoch = u64_max(council->told_epoch, told.epoch);
    }
}

void council_on_answer(struct council *council, unsigned root, bool granted,
                       const struct promise *promise, const struct log_end *end)
{
    if (!council_is_other(council, root) || council->role < COUNCIL_ELECTED) {
        return;
    }
    if (!granted) {
        note_refusal(council, root, promise);
    } else if (leadership_equal(promise->leadership, council->mine)) {
        if (!set_has(council->granted, root)) {
            council->due_lead |= council->role == COUNCIL_LEADING ? ROOT_BIT(root) : 0;
        }
        council->granted |= ROOT_BIT(root);
        council->absent &= ~ROOT_BIT(root);
        if (council->donor == root && council->ends[root].block != end->block) {
            council->donor = ROOT_NOBODY; // there is more to fetch by now, or nothing
            council_undue(council, COUNCIL_FETCH);
        }
        council->ends[root] = *end;
        council->blank &= ~ROOT_BIT(root);
        if (promise->blank) { // what it had acknowledged is gone
            council->blank |= ROOT_BIT(root);
            council->acknowledged[root] = 0;
        }
    }
    council_turn(council);
}
