// SPDX-License-Identifier: Apache-2.0
#include "common/base/spin.h"

#include <sched.h>
#include <sys/resource.h>

#include "common/base/clock.h"

#define SLOW_NS (2 * NS_PER_US) // a yield to nobody takes less, but for interrupts
#define LOSSES 2 // one may have been to the kernel's own work
#define PAUSE_NS (100 * NS_PER_MS)

// Whether somebody else has had the core, though this thread wanted it, since that was asked last.
static bool was_taken(struct spin *spin)
{
    struct rusage usage;
    long before = spin->taken;
    if (getrusage(RUSAGE_THREAD, &usage) == 0) {
        spin->taken = usage.ru_nivcsw;
    }
    return spin->taken != before;
}

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
    if (after_ns - before_ns > SLOW_NS) {
        spin->losses = was_taken(spin) ? spin->losses + 1 : 0;
    }
    if (spin->losses == LOSSES) {
        spin->losses = 0;
        spin->until_ns = after_ns + PAUSE_NS;
    }
    return true;
}
