// SPDX-License-Identifier: Apache-2.0
// One run of `peers --section hops`: writes with dense numbers, due at a fixed rate, and what a
// reader is told of them. Written by one thread or several, told by another: they share what does
// not change, `dealt` and `failed`.
#ifndef QS_BENCH_HOP_H
#define QS_BENCH_HOP_H

#include <stdatomic.h>

#include "bench/histogram.h"
#include "common/base/bytes.h"

#define HOP_FIRST "hop:" // of every key
#define HOP_END "hop;"   // behind every key
#define HOP_KEY_BYTES 24
#define HOP_VALUE_BYTES 290

struct hop_run {
    uint64_t first, count;   // numbers of the writes; the n-th is `first` + n
    uint64_t rate, began_ns; // a second
    _Atomic uint64_t dealt;  // of a side with several writers: so many are under way or written
    uint64_t told, told_ns;  // so many; when the last one was
    uint64_t faults;
    bool *seen; // NULL, or by n, of a side that tells in no order
    struct histogram latency;
    atomic_bool failed; // to write
};

// The key and value of a number; the key's length.
size_t hop_key(uint64_t number, char *to);
struct bytes hop_value(uint64_t number, uint8_t *to);

// When the n-th write is due.
uint64_t hop_due_ns(const struct hop_run *run, uint64_t n);

// A key that was shown at `now`: the next one, or it is wrong.
void hop_tell(struct hop_run *run, struct bytes key, uint64_t now);

// A pair that was shown at `now`: any of the run's with its value, not told of before, or it is
// wrong.
void hop_tell_pair(struct hop_run *run, struct bytes key, struct bytes value, uint64_t now);

// A rate at which a server that can do `most` a second is not hurried: half of it at most, and 1, 2
// or 5 times a power of ten; 0: there is none.
uint64_t hop_rate(uint64_t most);

#endif
