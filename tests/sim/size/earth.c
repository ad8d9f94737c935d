// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/size/earth.h"

#include <string.h>

#define ROOT "West Europe" // Amsterdam

// Rows of the table, each a name and so many ms to each region.
static const char *const names[] = {
#define REGION(name, ...) name,
#include "round_trips.inc"
#undef REGION
};

#define REGIONS ARRAY_LEN(names)

static const uint16_t round_trips_ms[][REGIONS] = {
#define REGION(name, ...) {__VA_ARGS__},
#include "round_trips.inc"
#undef REGION
};

static unsigned row_of(unsigned region)
{
    unsigned root = 0;
    while (strcmp(names[root], ROOT) != 0) {
        root++;
        CHECK(root < REGIONS);
    }
    return (root + region) % REGIONS;
}

unsigned earth_regions(void) { return REGIONS; }

const char *earth_name(unsigned region) { return names[row_of(region)]; }

uint64_t earth_round_trip_ns(unsigned a, unsigned b)
{
    unsigned from = row_of(a), to = row_of(b);
    CHECK(from != to);
    return (round_trips_ms[from][to] + round_trips_ms[to][from]) * NS_PER_MS / 2;
}
