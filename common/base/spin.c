// SPDX-License-Identifier: Apache-2.0
#include "common/base/spin.h"

#include <sched.h>
#include <sys/resource.h>

#include "common/base/clock.h"

#define SLOW_NS (2 * NS_PER_US) // a yield to nobody takes less, but for interrupts
#define LOSSES 2                // one may have been to the kernel's own work
#define PAUSE_NS (100 * NS_PER_MS)

// How often the thread has lost its core though it wanted it.
static long times_taken(void)
{
    struct rusage usage = {0};
    (void)getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_nivcsw;
}

void spin_judge(struct spin *spin, long taken, uint64_t now_ns)
{
    bool lost = taken != spin->taken, late = now_ns - spin->lost_ns > PAUSE_NS;
    spin->taken = taken;
    spin->losses = lost ? (late ? 1 : spin->losses + 1) : 0;
    spin->lost_ns = lost ? now_ns : spin->lost_ns;
    if (spin->losses == LOSSES) {
        spin->losses = 0;
        spin->until_ns = now_ns + PAUSE_NS;
    }
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
    if (spin->since_ns != since_ns) { // maybe by another thread than before
        spin->since_ns = since_ns;
        spin->taken = times_taken();
        before_ns = clock_mono_ns();
    }
    (void)sched_yield();
    uint64_t after_ns = clock_mono_ns();
    if (after_ns - before_ns > SLOW_NS) {
        spin_judge(spin, times_taken(), after_ns);
    }
    return true;
}
