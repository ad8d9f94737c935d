// SPDX-License-Identifier: Apache-2.0
#include "common/base/spin.h"

#include <sched.h>

#include "common/base/clock.h"

#define AWAY_NS (20 * NS_PER_US)  // a yield to nobody takes less than one, and an interrupt a few
#define PAUSE_NS (50 * NS_PER_MS)

bool spin_again(struct spin *spin, uint64_t since_ns)
{
    if (spin->for_ns == 0) {
        return false;
    }
    uint64_t before_ns = clock_mono_ns();
    if (before_ns - since_ns >= spin->for_ns || before_ns < spin->until_ns) {
        return false;
    }
    (void)sched_yield();
    uint64_t after_ns = clock_mono_ns();
    if (after_ns - before_ns > AWAY_NS) {
        spin->until_ns = after_ns + PAUSE_NS;
    }
    return true;
}
