// SPDX-License-Identifier: Apache-2.0
// A reader's side of shared memory: what a daemon has given, mapped, and looks into it. A look
// makes no system call while the daemon lives, waits for nobody, and writes nothing but the mark of
// a slot that it used.
// docs/shared-memory.md says why what it answers is exact.
#ifndef QS_COMMON_SHARED_LOOK_H
#define QS_COMMON_SHARED_LOOK_H

#include "common/base/bloom.h"
#include "common/shared/hot.h"
#include "common/shared/region.h"

// The descriptors in the order in which they are given; the filter may be missing.
enum look_fd { LOOK_INCARNATION, LOOK_BOARD, LOOK_MARKS, LOOK_FILTER, LOOK_FDS };

struct look {
    struct region regions[LOOK_FDS];
    const struct board_page *page;
    struct hot_table hot;
    _Atomic uint8_t *marks;
    const struct filter_page *filter; // NULL: none
    struct bloom bloom;
    bool stays; // goes on without a daemon, until another one begins
    int file;   // the incarnation's, of one that stays; -1: none
};

// Maps what was given. The descriptors stay the caller's. ERR_PROTOCOL: it is nothing that this
// version understands, or does not belong together; ERR_MEMORY, ERR_IO.
int look_open(struct look *look, const int *fds, unsigned count, bool stays) MUST_CHECK;
void look_close(struct look *look); // no look is under way

// What the key is at the visible index, if that is `least` or later. OK, ERR_NOT_FOUND (with
// ret_answer->index), ERR_INCOMPLETE: the memory does not say. Any number of threads.
int look_up(const struct look *look, struct bytes key, uint64_t least,
            struct look_answer *ret_answer) MUST_CHECK;

// Its parts, for several keys at one index: the visible index first; then any number of keys at
// that index or at one before it; and last whether all of that counts. look_key answers as look_up
// does.
uint64_t look_visible(const struct look *look);
int look_key(const struct look *look, struct bytes key, uint64_t index,
             struct look_answer *ret_answer) MUST_CHECK;
bool look_counts(const struct look *look) MUST_CHECK;

// Should a daemon be asked for new descriptors?
enum look_state {
    LOOK_CURRENT,
    LOOK_OUTGROWN, // there is another filter
    LOOK_LEFT,     // its daemon is gone; it is answered from as long as there is no other
    LOOK_OVER,     // nothing of it is answered any more
};
enum look_state look_state(const struct look *look);

#endif
