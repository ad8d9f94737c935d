// SPDX-License-Identifier: Apache-2.0
// Look-ups at a fixed rate, whether answers come or not (an open loop): each has the moment when it
// is due, and its latency counts from there, so a stall is felt by everything due meanwhile. One
// look-up is one GET; connections are taken in turn. Every answer is compared with the data.
// One thread.
#ifndef QS_BENCH_LOAD_H
#define QS_BENCH_LOAD_H

#include "bench/histogram.h"
#include "bench/lookups.h"
#include "bench/pairs.h"
#include "common/base/bytes.h"

#define LOAD_CONNECTIONS_MAX 256

struct load_options {
    const char *socket;
    unsigned connections;
    uint64_t rate; // look-ups a second
    uint64_t duration_ns;
    const struct pairs *pairs;
};

struct load_result {
    struct histogram all, absent, present;
    uint64_t firsts; // look-ups of keys that have joined the working set, each for the first time
    uint64_t wrong;  // a value for an absent key, none or another one for a present key
    uint64_t errors; // error replies
    uint64_t lost;   // not answered 10 s after the last one was due
    char fault[128]; // the first that was wrong, an error or lost; "" otherwise
};

// Adds to the result. False: no connection.
bool load_run(struct lookups *lookups, const struct load_options *options,
              struct load_result *result) MUST_CHECK;

// Asks for present keys [first, first + count) one after another on one connection, each when the
// one before has been answered.
bool load_each(const struct load_options *options, uint64_t first, uint64_t count,
               struct histogram *histogram, struct load_result *result) MUST_CHECK;

// Asks for present keys [0, count) by MGET, so that a proxy holds them and caches are warm.
bool load_warm(const struct load_options *options, uint64_t count,
               struct load_result *result) MUST_CHECK;

#endif
