// SPDX-License-Identifier: Apache-2.0
// The state row: what a store says about itself, written with every batch in every family. It
// names the block up to which everything is applied and what follows from the log there. Pure.
#ifndef QS_COMMON_CORE_STATE_H
#define QS_COMMON_CORE_STATE_H

#include "common/data/digest.h"
#include "common/data/journal.h"

#define STATE_ROW_BYTES 105

struct state {
    struct journal_place place;
    uint64_t epoch;
    struct digest digest;
    uint8_t history[HISTORY_ID_BYTES];
    uint64_t history_floor; // a replica's history begins after this index
};

void state_encode(const struct state *state, uint8_t to[STATE_ROW_BYTES]);
int state_decode(struct state *ret_state, struct bytes row) MUST_CHECK; // ERR_CORRUPT

// What follows from the log: the state at the end of `block`, which comes next after `before`.
struct state state_after(const struct state *before, const struct block *block) MUST_CHECK;

#endif
