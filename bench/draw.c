// SPDX-License-Identifier: Apache-2.0
#include "bench/draw.h"

#include <math.h>

#define EXPONENT 0.99

static double zeta(uint64_t count)
{
    double sum = 0;
    for (uint64_t i = 1; i <= count; i++) {
        sum += pow(1.0 / (double)i, EXPONENT);
    }
    return sum;
}

void zipf_open(struct zipf *zipf, uint64_t count)
{
    CHECK(count >= 2);
    zipf->count = count;
    zipf->alpha = 1 / (1 - EXPONENT);
    zipf->zeta = zeta(count);
    zipf->eta = (1 - pow(2.0 / (double)count, 1 - EXPONENT)) / (1 - zeta(2) / zipf->zeta);
}

uint64_t zipf_draw(const struct zipf *zipf, struct draw *draw)
{
    double unit = draw_unit(draw);
    double place = unit * zipf->zeta;
    if (place < 1) {
        return 0;
    }
    if (place < 1 + pow(0.5, EXPONENT)) {
        return 1;
    }
    double rank = (double)zipf->count * pow(zipf->eta * unit - zipf->eta + 1, zipf->alpha);
    return u64_min((uint64_t)rank, zipf->count - 1);
}
