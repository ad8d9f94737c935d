// SPDX-License-Identifier: Apache-2.0
// How far regions of the world are from one another: round trips as they were measured and
// published (round_trips.tsv says by whom and when).
#ifndef QS_TESTS_SIM_SIZE_EARTH_H
#define QS_TESTS_SIM_SIZE_EARTH_H

#include "common/base/base.h"

// In the table's order, but the first one is where the root stands.
unsigned earth_regions(void);
const char *earth_name(unsigned region);
// Between two different ones: the mean of both directions.
uint64_t earth_round_trip_ns(unsigned a, unsigned b);

#endif
