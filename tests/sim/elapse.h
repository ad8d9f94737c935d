// SPDX-License-Identifier: Apache-2.0
// Letting simulated time pass: for so long, or until something is so.
#ifndef QS_TESTS_SIM_ELAPSE_H
#define QS_TESTS_SIM_ELAPSE_H

#include "tests/sim/world.h"

#define ELAPSE_LOOK_NS (10 * NS_PER_MS) // how often is looked

void elapse_for(uint64_t ns);
// Returns for how long it ran; after the limit the seed fails, with what `describe` says of it.
uint64_t elapse_until(bool (*over)(void), void (*describe)(void), uint64_t limit_ns,
                      const char *what);

#endif
