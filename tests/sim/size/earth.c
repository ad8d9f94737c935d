// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/size/earth.h"

#include <math.h>

#define RADIUS_KM 6371.0
#define RADIANS (3.14159265358979323846 / 180)
#define FIBRE_NS_PER_KM 5000.0

struct city {
    const char *name;
    double latitude, longitude;
};

static const struct city cities[] = {
#define CITY(name, latitude, longitude) {name, latitude, longitude},
#include "tests/sim/size/cities.inc"
};

unsigned earth_cities(void) { return ARRAY_LEN(cities); }

const char *earth_name(unsigned city) { return cities[city].name; }

// Haversines.
static double distance_km(const struct city *a, const struct city *b)
{
    double north = sin((b->latitude - a->latitude) * RADIANS / 2);
    double east = sin((b->longitude - a->longitude) * RADIANS / 2);
    double chord = north * north +
                   cos(a->latitude * RADIANS) * cos(b->latitude * RADIANS) * east * east;
    return 2 * RADIUS_KM * asin(sqrt(chord));
}

static double route_km(double distance)
{
    return distance < 1000 ? 1.5 * distance : distance <= 1200 ? 1500 : 1.25 * distance;
}

uint64_t earth_round_trip_ns(unsigned a, unsigned b)
{
    return (uint64_t)(2 * FIBRE_NS_PER_KM * route_km(distance_km(&cities[a], &cities[b])));
}
