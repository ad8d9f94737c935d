// SPDX-License-Identifier: Apache-2.0
// The hand of a proxy: makes evictions happen. RocksDB rewrites by itself only what is written to,
// so while the level of space is over the soft limit the hand asks for compactions, each of a run
// of neighbouring files, whatever their level: no more than an eighth of a small cache, nor less
// than what came from memtables and is merged with any run, nor more than half of what is left
// below max_bytes. Of a few runs it takes the one in which, by a sample of its rows, most cold
// bytes lie. What is cold follows from the ages of all rows sampled lately: the oldest quarter, or
// more when more must go. It goes round the keys as a clock's hand does. (A quarter:
// tests/unit/recency_test.c has what it costs in hit rate and in rewritten bytes.)
//
// Over the soft limit it rests for a part of the time; over the hard one it does not rest. When a
// step gives nothing it waits longer and longer; over the hard limit the window then shrinks.
//
// Walker thread.
#ifndef QS_PROXY_HAND_H
#define QS_PROXY_HAND_H

#include "common/core/instance.h"
#include "proxy/ages.h"
#include "proxy/evict.h"

struct hand;

struct hand *hand_open(struct instance *instance, struct recency *recency, struct evict *evict)
    MUST_CHECK;
void hand_close(struct hand *hand);

// The role's `hand`.
uint64_t hand_step(struct instance *instance);

// A run to choose from, with a sample of its rows.
struct hand_sample {
    uint64_t run_bytes;  // of the files
    uint64_t seen_bytes; // of the rows in the sample
    struct ages ages;    // those of values that may go
};

// The most that a run takes of `total`, when `merge` bytes from memtables are merged with any run,
// and `left` are left below max_bytes: until it is done, what it replaces stands beside what it
// writes, and files of other levels go with it.
uint64_t hand_run_bytes(uint64_t total_bytes, uint64_t merge_bytes, uint64_t left_bytes);
// The part of all values that shall go so that `over` of `total` bytes do.
uint32_t hand_share(uint64_t over_bytes, uint64_t total_bytes);
// Which run promises most cold bytes; `count` when none promises any.
size_t hand_choose(const struct hand_sample *samples, size_t count, struct ages_limit limit);

#endif
