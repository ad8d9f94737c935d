// SPDX-License-Identifier: Apache-2.0
#include "bench/histogram.h"

#define STEPS 32 // buckets an octave
#define STEP_BITS 5

// Values below 64 have a bucket each; from there every octave has 32.
static size_t bucket_of(uint64_t ns)
{
    if (ns < 2 * STEPS) {
        return (size_t)ns;
    }
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - STEP_BITS;
    return (size_t)shift * STEPS + (size_t)(ns >> shift);
}

// The middle of a bucket.
static uint64_t value_of(size_t bucket)
{
    if (bucket < 2 * STEPS) {
        return bucket;
    }
    unsigned shift = (unsigned)(bucket / STEPS) - 1;
    uint64_t first = (uint64_t)(bucket - (size_t)shift * STEPS) << shift;
    return first + ((UINT64_C(1) << shift) >> 1);
}

void histogram_add(struct histogram *histogram, uint64_t ns)
{
    size_t bucket = bucket_of(ns);
    CHECK(bucket < HISTOGRAM_BUCKETS);
    histogram->buckets[bucket]++;
    histogram->count++;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        to->buckets[i] += from->buckets[i];
    }
    to->count += from->count;
}

uint64_t histogram_ns(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)histogram->count + 0.999999);
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += histogram->buckets[i];
        if (seen > 0 && seen >= wanted) {
            return value_of(i);
        }
    }
    return 0;
}
