// SPDX-License-Identifier: Apache-2.0
// How far cities are from one another, as light in fibre goes: no measurements, but the distance
// over the sphere, the route length that ITU-T plans with for it (G.826, also Y.1541: 1.5 times
// below 1,000 km, 1,500 km up to 1,200 km, 1.25 times beyond), and 5 us a kilometre (G.114).
#ifndef QS_TESTS_SIM_SIZE_EARTH_H
#define QS_TESTS_SIM_SIZE_EARTH_H

#include "common/base/base.h"

unsigned earth_cities(void);
const char *earth_name(unsigned city);
uint64_t earth_round_trip_ns(unsigned a, unsigned b); // 0 within a city

#endif
