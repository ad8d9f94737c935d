// SPDX-License-Identifier: Apache-2.0
// Starts that die while they replay the journal: the file REPLAYING exists as long as a replay is
// under way. One that finds it says, before each block, which one comes next; so when starts die at
// the same block again and again, the next one knows before which block to stop and serve.
//
// Applier's thread; opening before it runs.
#ifndef QS_COMMON_CORE_ATTEMPT_H
#define QS_COMMON_CORE_ATTEMPT_H

#include "common/base/error.h"

struct attempt {
    char *path; // NULL: nothing is being attempted
    const char *scope;
    bool careful;   // an earlier start died: each block is written down first
    uint64_t block; // the last one that was written down, 0 = none
    uint64_t times; // how many starts in a row came to that block and no further
};

// A replay begins behind block `applied`. Returns the block before which it shall stop, or
// UINT64_MAX. A file that cannot be read or written costs this protection only, and is logged.
uint64_t attempt_open(struct attempt *attempt, const char *directory, const char *scope,
                      uint64_t applied);
// Block `number` is applied next.
void attempt_block(struct attempt *attempt, uint64_t number);
// The data that it was about has gone.
void attempt_forget(struct attempt *attempt, const char *directory, const char *scope);
// The replay is over, well or by an orderly end. Nothing happens when there was none.
void attempt_close(struct attempt *attempt);

#endif
