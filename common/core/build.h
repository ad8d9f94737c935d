// SPDX-License-Identifier: Apache-2.0
// The store under construction: made from the slices of a snapshot, then from the log, while the
// store in use goes on serving; at last it takes that one's place. docs/architecture.md has the
// order of the durable steps.
//
// Rule: the first slice tells where the log must be followed from; a later slice may be read at any
// later block; then the log from the first one's block on is added, ignoring what is not newer than
// the row that is there, up to the highest block of any slice. There the store is whole, and the
// sum over the rows that it holds must be what the log says it is.
//
// Orders come from the follower's side on any loop; all else is opening's, closing's and the
// applier's.
#ifndef QS_COMMON_CORE_BUILD_H
#define QS_COMMON_CORE_BUILD_H

#include "common/core/build_row.h"
#include "common/core/instance.h"

enum build_kind {
    BUILD_LOCATE, // where does it stand?
    BUILD_ADD,    // a slice
    BUILD_DROP,   // it is of no use any more
};

// Lives until `answered` ran.
struct build_order {
    struct task task; // build.c's own
    struct instance *instance;
    enum build_kind kind;
    bool freeze; // the journal will go, once this is answered with OK (applier_freeze)
    struct bytes payload; // ADD: a slice_items message
    struct bytes from;    // ADD: the key that it was asked for by
    struct loop *loop;
    struct task answered; // posted to `loop`
    // The answer. ADD: ERR_PROTOCOL, ERR_CHECKSUM, ERR_CORRUPT, ERR_BEHIND, ERR_HISTORY: the slice
    // is no good; rows before its fault may have been kept, `next` says so. Any: ERR_BUSY (ask
    // again later), ERR_DISK_FULL, ERR_IO, ERR_STOPPED.
    int error;
    bool begun, complete;
    unsigned given_up; // builds that came to nothing, since the last that was finished
    struct block_header start; // once begun
    size_t next_size;
    uint8_t next[KEY_BYTES_MAX];
};

void build_post(struct build_order *order);

// Before the store in use is opened: takes up what an earlier run has begun, or makes a store that
// was finished the one in use.
int build_open(struct instance *instance) MUST_CHECK;
void build_close(struct instance *instance);

// The journal begins anew where the build began.
void build_journal_restarted(struct instance *instance);
// Adds what the journal has for it. Returns when it wants its next turn.
uint64_t build_turn(struct instance *instance);
// False: nothing is under construction. Else blocks after *ret_number must stay in the journal.
bool build_needs(const struct instance *instance, uint64_t *ret_number);

#endif
