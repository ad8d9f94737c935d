// SPDX-License-Identifier: Apache-2.0
// Between the parts of a council, each of which owns some rules: council.c the facts and what is
// due, council_promise.c R6, council_record.c R1 to R3, R11, council_ballot.c R4, council_set.c R5,
// R9, R10, R12 and the hand-over, council_follow.c R7, R8, council_fork.c R15 to R18.
//
// A fact is noted, then council_turn looks at each rule: a rule asks whether it applies now, and
// if so does one step. It must find nothing to do the second time, for nothing else ends the turn.
#ifndef QS_COMMON_ROOTS_COUNCIL_PRIVATE_H
#define QS_COMMON_ROOTS_COUNCIL_PRIVATE_H

#include "common/roots/council.h"

#define ACT_BIT(act) ((uint32_t)1 << (act))

static inline void council_due(struct council *council, enum council_act act)
{
    council->due |= ACT_BIT(act);
}

static inline void council_undue(struct council *council, enum council_act act)
{
    council->due &= ~ACT_BIT(act);
}

static inline uint32_t council_others(const struct council *council)
{
    return set_all(council->setup.roots) & ~ROOT_BIT(council->setup.self);
}

static inline bool council_is_other(const struct council *council, unsigned root)
{
    return root < council->setup.roots && root != council->setup.self;
}

// The promise that is meant is also the one on the disk.
static inline bool council_settled(const struct council *council)
{
    return leadership_equal(council->promised.leadership, council->wanted.leadership) &&
           memcmp(council->promised.history, council->wanted.history, HISTORY_ID_BYTES) == 0;
}

static inline bool council_follows(const struct council *council, struct leadership leadership)
{
    return council->role == COUNCIL_STANDBY && council_settled(council) &&
           leadership_equal(council->promised.leadership, leadership);
}

void council_turn(struct council *council);
void council_stop(struct council *council, const char *text);

// R6. Whatever this root was, it is a standby: of nobody, unless it has promised.
void council_rest(struct council *council);
void council_want(struct council *council, struct leadership leadership);
void council_see_generation(struct council *council, uint64_t generation);
// May the answer to the claim of `root` be given?
bool council_may_answer(const struct council *council, unsigned root);

// R1 to R3, R11.
bool council_record_current(const struct council *council); // of this history, none newer is known
struct leadership council_awaited_one(const struct council *council);
void council_ask_record(struct council *council);
void council_request(struct council *council, const struct root_record *record,
                     uint64_t modify_index);
void council_rule_try(struct council *council);
void council_try(struct council *council, const struct root_record *base, uint32_t in_sync);

// R4.
void council_elected(struct council *council);
void council_rule_open(struct council *council);

// R5, R9, R10, R12.
void council_set_settled(struct council *council); // the record says what it says
void council_rule_commit(struct council *council);
void council_rule_set(struct council *council);
void council_rule_hand(struct council *council);
enum council_writes council_writes(const struct council *council);

// R7, R8.
void council_rule_follow(struct council *council);

// R15 to R18. It makes the history that it promised, of the log that is here.
bool council_forks(const struct council *council);
bool council_begins(const struct council *council); // its journal may be the new one's by now
bool council_made(const struct council *council);
bool council_foreign(const struct council *council); // the record is of another history
void council_try_with_loss(struct council *council);
bool council_is_late(const struct council *council); // what began that way must not be done now
void council_stay(struct council *council); // it forks no more: the promise is of the log's history
bool council_gathered(const struct council *council);
void council_adopt(struct council *council); // what was told of, if the record read now says so
void council_forked(struct council *council, uint64_t block);

#endif
