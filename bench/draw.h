// SPDX-License-Identifier: Apache-2.0
// Numbers that look random and are the same for the same seed: a load can be replayed exactly.
// Zipf's law after Gray et al., "Quickly generating billion-record synthetic databases" (1994).
// One thread a struct.
#ifndef QS_BENCH_DRAW_H
#define QS_BENCH_DRAW_H

#include "common/base/base.h"

// splitmix64: any two seeds give unrelated sequences.
struct draw {
    uint64_t state;
};

static inline uint64_t draw_mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t draw_u64(struct draw *draw)
{
    return draw_mix(draw->state += UINT64_C(0x9e3779b97f4a7c15));
}

// In [0, count); count > 0.
static inline uint64_t draw_below(struct draw *draw, uint64_t count)
{
    return (uint64_t)(((unsigned __int128)draw_u64(draw) * count) >> 64);
}

// In [0, 1).
static inline double draw_unit(struct draw *draw)
{
    return (double)(draw_u64(draw) >> 11) * 0x1.0p-53;
}

// Ranks 0 .. count - 1, rank 0 the most frequent; exponent 0.99 as in YCSB.
struct zipf {
    uint64_t count;
    double alpha, zeta, eta;
};

void zipf_open(struct zipf *zipf, uint64_t count);
uint64_t zipf_draw(const struct zipf *zipf, struct draw *draw);

#endif
