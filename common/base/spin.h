// SPDX-License-Identifier: Apache-2.0
// Looking for something again and again, in place of sleeping until it comes: a core for latency.
// It pays as long as nobody else wants the core. Who yields to another is put behind it for a slice
// of milliseconds, where who slept would be put in front of it when woken: so once the core has
// gone to somebody else, nothing is looked for that way for a while. For one thread at a time.
#ifndef QS_COMMON_BASE_SPIN_H
#define QS_COMMON_BASE_SPIN_H

#include "common/base/base.h"

struct spin {
    uint64_t for_ns;   // 0: it is never looked for
    uint64_t until_ns; // before that others want the core
    uint64_t since_ns; // the wait that it is about
    long taken;        // how often the thread had lost its core
    unsigned losses;   // in a row
    uint64_t lost_ns;  // the last one
};

// Whether to look once more for what is waited for since `since_ns` (clock_mono_ns). Lets others
// have the core first.
bool spin_again(struct spin *spin, uint64_t since_ns);

// After a yield that was slow, at `now_ns`: whether it was one to somebody else, as the thread has
// lost its core once more (`taken` in all); an interrupt takes as long. Two such in a row, 0.1 s
// apart at most, end the looking for 0.1 s. Apart for its tests.
void spin_judge(struct spin *spin, long taken, uint64_t now_ns);

#endif
