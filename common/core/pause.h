// SPDX-License-Identifier: Apache-2.0
// A start cannot know what was shown before it, so it shows nothing before it has applied all that
// the journal has. With a full disk it cannot apply; but where applying waited for space already,
// nothing behind that place was shown. The file PAUSED tells the next start. It is there, synced,
// from when what is shown is on disk until something more is shown. The applier's thread.
#ifndef QS_COMMON_CORE_PAUSE_H
#define QS_COMMON_CORE_PAUSE_H

#include "common/base/error.h"
#include "common/base/log.h"
#include "common/core/instance.h"

struct pause {
    bool kept;      // the file exists
    uint64_t block; // the last one that may have been shown
    struct log_gate gate;
};

// Before the first view.
void pause_open(struct pause *pause, const struct instance *instance);
// Applying waits behind `block`, and nothing behind it is shown, which is flushed here. A file that
// cannot be written costs no more than the next start's patience, and is logged.
void pause_begin(struct pause *pause, struct instance *instance, uint64_t block);
// Block `block` will be shown: then the file must not come back. ERR_IO: logged.
int pause_end(struct pause *pause, struct instance *instance, uint64_t block) MUST_CHECK;
// A replay can apply nothing behind `block`. True: no view ever showed more.
bool pause_covers(const struct pause *pause, uint64_t block) MUST_CHECK;

#endif
