// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/elapse.h"

#include "tests/sim/seams.h"

void elapse_for(uint64_t ns)
{
    uint64_t until_ns = world_now_ns() + ns;
    while (world_now_ns() < until_ns) {
        WORLD_CHECK(world_step(), "nothing happens any more");
    }
}

uint64_t elapse_until(bool (*over)(void), void (*describe)(void), uint64_t limit_ns,
                      const char *what)
{
    uint64_t begun_ns = world_now_ns();
    while (!over()) {
        if (world_now_ns() - begun_ns > limit_ns) {
            describe();
            world_fail("%s did not come within %llu s", what,
                       (unsigned long long)(limit_ns / NS_PER_S));
        }
        elapse_for(ELAPSE_LOOK_NS);
    }
    return world_now_ns() - begun_ns;
}
