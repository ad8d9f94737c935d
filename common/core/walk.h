// SPDX-License-Identifier: Apache-2.0
// A walk through the store of an instance, in key order: every row is checked, and the digest of
// all (key, version) is summed anew and compared with the one that follows from the log. It also
// builds the next generation of the front filter. One at a time; common/core/walker.c drives it.
//
// The walk never stops the applier. A slice of keys is read on the walker's thread, at the newest
// view. When the applier takes the slice it adds what the log did to those keys since that view
// (read from the journal), and from then on what each block does to keys at or below the cursor. So
// the sum is always that of the keys up to the cursor at the applied index; past the last key it
// must be the running digest.
//
//   walker                            applier
//   walk_begin: a filter generation -> a new sum, an empty cursor
//   <-------------------------------- `stepped`
//   walk_read, walk_hand -----------> takes the slice; past the last key: compares, ends
//   <-------------------------------- `stepped`
//   ... until !walk_going
//
// Between a step and its notice the walk belongs to the applier, else to the walker.
#ifndef QS_COMMON_CORE_WALK_H
#define QS_COMMON_CORE_WALK_H

#include "common/core/instance.h"

// What a walk came to. `error`: OK: the store holds at `index` exactly what the log says.
// ERR_DIVERGED: it does not. ERR_CORRUPT, ERR_IO: a row failed its check, or cannot be read.
// ERR_STOPPED: it was given up. Others: the journal could not be read; nothing is known.
struct walk_result {
    int error;
    uint64_t index;
    struct digest digest; // when OK
};

struct walk *walk_new(struct instance *instance) MUST_CHECK;
void walk_free(struct walk *walk); // no walk is going on, nobody waits

// ---- the walker's ------------------------------------------------------------------------------

// `stepped` is raised after each step: begin, hand, end. Before the first.
void walk_attach(struct walk *walk, struct notice *stepped);
void walk_begin(struct walk *walk);
// Reads at most `keys` rows, and no more after `bytes`; at least one. Returns the bytes read.
uint64_t walk_read(struct walk *walk, uint64_t keys, uint64_t bytes);
void walk_hand(struct walk *walk); // what was read
// Ends what goes on with `error`, and answers everybody who waits with it.
void walk_end(struct walk *walk, int error);
// After a step.
bool walk_going(const struct walk *walk);
int walk_error(const struct walk *walk); // what the last one came to
// Does somebody wait for a walk? Any time.
bool walk_asked(struct walk *walk);

// ---- the applier's -----------------------------------------------------------------------------

// The block was written to the store.
void walk_applied(struct walk *walk, const struct block *block);
// The store was replaced by another: what was summed is void, what was proven is not any more.
void walk_void(struct walk *walk);

#endif
