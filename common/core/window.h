// SPDX-License-Identifier: Apache-2.0
// A sliding window of indexes, (W, visible]. W only rises: to the least index for which everything
// newer was applied less than `age_ns` ago and sums to at most `limit_bytes`. Kept in memory, begun
// anew at each start (what is replayed counts as applied then). Two are in use:
//   a proxy's    the indexes whose values are kept whatever the memory of accesses says, so that
//                what is new is there before any replica is asked;
//   a replica's  its history (replica/history.h), W being the floor; "bytes" are rows there.
//
// Blocks are gathered into spans of at most 1/1024 of the age and of the bytes, and W moves over
// whole spans: a bounded ring describes any load; a value may stay 1/1024 of the age longer, or
// leave 1/1024 of the bytes sooner, than asked. Not thread safe. Pure.
#ifndef QS_COMMON_CORE_WINDOW_H
#define QS_COMMON_CORE_WINDOW_H

#include "common/base/base.h"

// A span is begun only where the one before is 1/1024 of the age old, or the two together exceed
// 1/1024 of the bytes: at most 1,025 + 2,049 spans are ever inside the limits.
#define WINDOW_SPANS 4096

struct window_span {
    uint64_t end;      // index at the end of its last block
    uint64_t bytes;    // values put
    uint64_t begun_ns; // its first block was applied
    uint64_t ended_ns; // its last block was applied
};

struct window {
    uint64_t age_ns;
    uint64_t limit_bytes;
    uint64_t floor;  // W
    uint64_t newest; // index at the end of the newest block
    uint64_t bytes;  // of all spans
    unsigned first;  // oldest span
    unsigned count;
    struct window_span spans[WINDOW_SPANS];
};

// An empty window at `index`: W = newest = index.
void window_open(struct window *window, uint64_t age_ns, uint64_t limit_bytes, uint64_t index);

// A block ending at `index` (not below the newest) with `bytes` of values was applied at `now_ns`.
void window_add(struct window *window, uint64_t index, uint64_t bytes, uint64_t now_ns);

// From now on at most this many bytes are promised.
void window_limit(struct window *window, uint64_t limit_bytes);

// Raises W as far as age and bytes allow at `now_ns`, and returns it.
uint64_t window_advance(struct window *window, uint64_t now_ns);

// Raises W to at least `index`, whatever age and bytes allow: what it gives up is gone.
void window_raise(struct window *window, uint64_t index);

#endif
