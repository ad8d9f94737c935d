// SPDX-License-Identifier: Apache-2.0
// The picture of `qs-bench roles`: p99.9 of each run, replica and proxy as two lines, one panel a
// cell, one column a rate of writes, all on one logarithmic scale.
#ifndef QS_BENCH_PICTURE_H
#define QS_BENCH_PICTURE_H

#include "bench/roles.h"

// Writes options.out/roles.svg. False: it could not, said on standard error.
bool picture_write(const struct roles *roles) MUST_CHECK;

#endif
