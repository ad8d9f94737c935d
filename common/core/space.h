// SPDX-License-Identifier: Apache-2.0
// The space that an instance takes and finds: measured now and then, judged against the limits of
// its configuration. What follows from the level is done elsewhere:
//   SOFT     a proxy drops values that were not read lately (proxy/hand.c)
//   HARD     ... keeps no fetched value, and its window shrinks
//   RESERVE  nothing is applied (applier.c), a root refuses writes; reads go on
// max_bytes bounds everything below the instance's directory. The hard level lies a sixteenth below
// it and counts what is still coming: memtables, the merge of what came from them (which stands on
// the disk twice for a while), the journal up to its limit. So what was kept before that level fits
// below max_bytes, whatever the store does next; after it only keys are written. The other limits
// are free disk, whoever takes it; a worse level's counts for those before it, too. A level is left
// only with some room to spare, so that it does not come back at once.
//
// A measurement walks the directory and is made every SPACE_EVERY_NS, or so seldom that it costs at
// most a fiftieth of a core; sooner where much was written since. Any thread.
#ifndef QS_COMMON_CORE_SPACE_H
#define QS_COMMON_CORE_SPACE_H

#include "common/core/instance.h"

#define SPACE_EVERY_NS (100 * NS_PER_MS)

enum space_level { SPACE_OK = 0, SPACE_SOFT = 1, SPACE_HARD = 2, SPACE_RESERVE = 3 };

struct space_limits { // 0 = none
    uint64_t max_bytes;
    option_SPACE soft, hard, reserve; // free disk
};

struct space_sample {
    uint64_t used_bytes;   // the directory
    uint64_t coming_bytes; // what store and journal will add to it soon, at most
    uint64_t free_bytes, total_bytes; // of the file system
};

struct space_state {
    enum space_level level;
    const char *reason; // the option whose limit was passed, "" at SPACE_OK
    struct space_sample sample;
    uint64_t over_bytes; // to be given up until the soft limit is left, 0 at SPACE_OK
    uint64_t room_bytes; // that can be taken until it is reached; UINT64_MAX = no such limit
    uint64_t left_bytes; // below max_bytes, for what stands on the disk twice while it is rewritten
};

// The rule, pure: what `sample` means after the level `before`.
struct space_state space_judge(const struct space_limits *limits, const struct space_sample *sample,
                               enum space_level before);
const char *space_level_text(enum space_level level); // "ok", "soft", "hard", "reserve"

// For instance.c. The first measurement follows the opening of the store.
void space_open(struct instance *instance);
void space_close(struct instance *instance);

// Measures if that is due; `now`: in any case (but one that another thread is making). A changed
// level is logged, and wakes the hand.
void space_poll(struct instance *instance, bool now);
// Bytes were written: they are as good as on the disk.
void space_grow(struct instance *instance, uint64_t bytes);
// What of a store beside the one in use is still coming to the disk; NULL: there is none. Applier.
void space_beside(struct instance *instance, struct store *store);
// Whether values of so many bytes may be kept: the hard level is not reached, nor would it be with
// them. Any thread.
bool space_takes(const struct instance *instance, uint64_t bytes);
void space_read(const struct instance *instance, struct space_state *ret_state);

#endif
