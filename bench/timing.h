// SPDX-License-Identifier: Apache-2.0
// Look-ups through one door, one after another, timed in two ways, as a look at the clock takes
// about as long as a look into memory:
//   mean          of batches of TIMING_BATCH look-ups between two looks at the clock, so that the
//                 clock's share is some half a nanosecond
//   percentiles   of single look-ups, with the two looks at the clock in them
// Half of the time goes to each; keys are made before a batch and every answer is compared behind
// it, byte by byte, outside of the time. One thread.
#ifndef QS_BENCH_TIMING_H
#define QS_BENCH_TIMING_H

#include "bench/door.h"
#include "bench/drive.h"
#include "bench/histogram.h"

#define TIMING_BATCH 64

struct timing_options {
    const char *name;             // of the door, for messages
    const struct drive_options *load; // what, pairs (made ones), zipf, seed, duration_ns count
    bool changing;                // values of any generation are right: somebody writes
};

struct timing {
    uint64_t count;   // look-ups, all of them compared
    uint64_t faults;  // wrong answers, and none: after one the run is over
    uint64_t batched; // those that were timed in batches
    uint64_t batched_ns;
    struct histogram latency; // of those that were timed one by one
};

// Adds to a timing that begins as zero. False: a fault, said on standard error.
bool timing_run(const struct door *door, const struct timing_options *options,
                struct timing *timing) MUST_CHECK;

static inline double timing_mean_ns(const struct timing *timing)
{
    return timing->batched > 0 ? (double)timing->batched_ns / (double)timing->batched : 0;
}

// What two looks at the clock with nothing between them take, the median.
uint64_t timing_clock_ns(void);

#endif
