// SPDX-License-Identifier: Apache-2.0
// The record of an instance with several roots, as Consul keeps it: who leads, and which roots have
// every committed block (docs/commit.md). Written and read as JSON:
//
//   {"history": "32 hex digits", "epoch": 7, "leader": "a", "in_sync": ["a", "b"], "generation": 9}
//
// Anybody may have written what is read, so it is taken only when it is exactly that. Any thread.
#ifndef QS_COMMON_ROOTS_ROOT_RECORD_H
#define QS_COMMON_ROOTS_ROOT_RECORD_H

#include "common/base/buf.h"
#include "common/roots/roots.h"

#define ROOT_RECORD_BYTES_MAX 4096

struct root_record {
    uint8_t history[HISTORY_ID_BYTES];
    struct leadership leadership;
    uint32_t in_sync;
    uint64_t generation;
};

static inline bool root_record_equal(const struct root_record *a,
                                     const struct root_record *b)
{
    return memcmp(a->history, b->history, HISTORY_ID_BYTES) == 0 &&
           leadership_equal(a->leadership, b->leadership) && a->in_sync == b->in_sync &&
           a->generation == b->generation;
}

void root_record_encode(const struct root_record *record, const struct members *names,
                        struct buf *to);

// A leader that `names` does not hold is ROOT_NOBODY. ERR_PROTOCOL: *ret_reason says what is wrong,
// in static memory.
int root_record_decode(struct bytes text, const struct members *names,
                       struct root_record *ret_record, const char **ret_reason) MUST_CHECK;

#endif
