// SPDX-License-Identifier: Apache-2.0
// The replay: from where the store stands to where the journal ended, at start and after a change
// of the store. Until it ends nothing is shown, or what was shown before. Applier thread.
#ifndef QS_COMMON_CORE_REPLAY_H
#define QS_COMMON_CORE_REPLAY_H

#include "common/core/applier_private.h"

// Replays for a while. Returns when to go on, as a worker's turn does; at the end it serves.
uint64_t replay_turn(struct applier *applier);
// Shows what the store holds, and takes blocks as they come.
void replay_serve(struct applier *applier);

#endif
