// SPDX-License-Identifier: Apache-2.0
// The hot keys of a daemon that shares memory (docs/shared-memory.md), for those who measure what
// that memory can do: how much of it holds so many pairs, and putting them there. One thread.
#ifndef QS_BENCH_HOT_H
#define QS_BENCH_HOT_H

#include "bench/nodes.h"
#include "bench/pairs.h"

// The option hot_entry for pairs that are made, which are all of one size.
uint64_t hot_entry(const struct pairs *pairs);

// The option hot_bytes for a board on which all pairs have a place each, but for less than one in
// a hundred; within the option's bounds, and a quarter of the machine's memory.
uint64_t hot_bytes_for(const struct pairs *pairs);
uint64_t hot_bytes_within(uint64_t bytes); // ... likewise

// Pairs that a board of so many bytes has room for.
uint64_t hot_room(const struct pairs *pairs, uint64_t bytes);

// The node's instance has such a board, and may share it; lines of its configuration, owned by the
// caller.
char *hot_options(const struct pairs *pairs, uint64_t bytes, bool shares) MUST_CHECK;

// Looks pairs 0 .. count - 1 up, the last one first, each twice in a row: what a daemon takes as a
// reason to put them on its board, when somebody has mapped it already. So the first ones, which
// are asked for most where that is by Zipf's law over the numbers, find their place in any case.
// Adds the answers to *answers, all of them compared. False: a wrong one, or none; said on standard
// error.
bool hot_fill(const struct node *node, const struct pairs *pairs, uint64_t count,
              uint64_t *answers) MUST_CHECK;

// Looks all pairs up once, likewise, so that the blocks that they are in are in RocksDB's cache.
bool hot_blocks(const struct node *node, const struct pairs *pairs, uint64_t *answers) MUST_CHECK;

#endif
