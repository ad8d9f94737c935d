// SPDX-License-Identifier: Apache-2.0
#include "common/base/clock.h"

#include <sys/random.h>
#include <time.h>

uint64_t clock_mono_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

uint64_t clock_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / NS_PER_MS;
}

void clock_sleep_ns(uint64_t ns)
{
    struct timespec pause = {.tv_sec = (time_t)(ns / NS_PER_S), .tv_nsec = (long)(ns % NS_PER_S)};
    nanosleep(&pause, NULL);
}

void random_fill(void *to, size_t size)
{
    uint8_t *at = to;
    while (size > 0) {
        ssize_t filled = getrandom(at, size, 0);
        if (filled > 0) {
            at += filled;
            size -= (size_t)filled;
        }
    }
}

uint64_t random_u64(void)
{
    uint64_t bits;
    random_fill(&bits, sizeof bits);
    return bits;
}

uint64_t random_jitter_ms(uint64_t ms)
{
    return ms / 2 + (ms < 2 ? 0 : random_u64() % (ms / 2 + 1));
}
