// SPDX-License-Identifier: Apache-2.0
// The only source of time and of randomness. The simulator links another file in its place.
// Any thread.
#ifndef QS_COMMON_BASE_CLOCK_H
#define QS_COMMON_BASE_CLOCK_H

#include "common/base/base.h"

// Monotonic nanoseconds: timers, ages, residence times.
uint64_t clock_mono_ns(void);

// Wall clock, milliseconds since 1970: shown to people, never compared.
uint64_t clock_wall_ms(void);

// Sleeps; only for threads that own no loop and no worker (tools).
void clock_sleep_ns(uint64_t ns);

// Random bits from the kernel; for identities, jitter and load spread.
void random_fill(void *to, size_t size);
uint64_t random_u64(void);

// A delay in [ms / 2, ms], so that many nodes do not act at once.
uint64_t random_jitter_ms(uint64_t ms);

#endif
