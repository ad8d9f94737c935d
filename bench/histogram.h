// SPDX-License-Identifier: Apache-2.0
// Latencies in nanoseconds, counted in buckets whose width is 1/32 of their value at most (after
// HdrHistogram): any percentile within 3 %, at a fixed size. Zero-initialised = empty. One thread.
#ifndef QS_BENCH_HISTOGRAM_H
#define QS_BENCH_HISTOGRAM_H

#include "common/base/base.h"

#define HISTOGRAM_BUCKETS (60 * 32)

struct histogram {
    uint64_t count;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t ns);
void histogram_merge(struct histogram *to, const struct histogram *from);

// The smallest value that at least `share` (0.999) of all values do not exceed; 0 when empty.
uint64_t histogram_ns(const struct histogram *histogram, double share);

#endif
