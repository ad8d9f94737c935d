// SPDX-License-Identifier: Apache-2.0
// Writes at the root: the whole data once, as fast as it takes them; or, on a thread of its own,
// new values of random keys at a fixed rate while look-ups are measured, or writes of all kinds.
#ifndef QS_BENCH_WRITES_H
#define QS_BENCH_WRITES_H

#include <pthread.h>
#include <stdatomic.h>

#include "bench/pairs.h"

struct writes_options {
    const char *socket;
    const struct pairs *pairs;
    uint64_t count; // numbers
    // Of writes_all: the first of them; the generation of values; whether they are deleted instead.
    uint64_t first, generation;
    bool ends;
    uint64_t rate; // a second
    // In turn a new value, a key that was not there (of a number from `fresh` on, one more each
    // time), and the end of such a one. Else new values alone.
    bool churn;
    uint64_t fresh;
};

// Writes or deletes pairs first .. first + count - 1. False: an error or a lost connection, said on
// standard error.
bool writes_all(const struct writes_options *options) MUST_CHECK;

struct writes {
    struct writes_options options;
    pthread_t thread;
    atomic_bool stop;
    uint64_t done;    // acknowledged
    uint64_t took_ns; // from start to stop
    bool failed;
};

// With rate 0 both do nothing.
void writes_start(struct writes *writes, const struct writes_options *options);

// Ends the thread; *ret_rate = writes acknowledged a second. False: an error, said on standard
// error.
bool writes_stop(struct writes *writes, double *ret_rate) MUST_CHECK;

#endif
