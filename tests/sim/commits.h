// SPDX-License-Identifier: Apache-2.0
// What anybody took for committed, block by block, and what clients were told was not done: of one
// number of one history there is one block, whoever says so, and a write that was refused is in no
// log (docs/commit.md).
#ifndef QS_TESTS_SIM_COMMITS_H
#define QS_TESTS_SIM_COMMITS_H

#include "common/data/block.h"
#include "tests/sim/model.h"

void commits_open(void);

// The running node has taken this block of a history for committed, by its file or by applying it.
void commits_know(const uint8_t history[HISTORY_ID_BYTES], uint64_t number, struct hash128 chain);
// The highest number that any root has written down as committed, in the history that began last.
uint64_t commits_last(void);

// A client was told that nothing was done.
void commits_refused(const struct write *write);
// The log holds this value: no write that was refused has put it.
void commits_check(struct bytes value, uint64_t index);

#endif
