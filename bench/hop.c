// SPDX-License-Identifier: Apache-2.0
#include "bench/hop.h"

#include <stdio.h>
#include <stdlib.h>

#include "bench/draw.h"
#include "common/base/clock.h"

#define HEX_DIGITS 16

size_t hop_key(uint64_t number, char *to)
{
    return (size_t)snprintf(to, HOP_KEY_BYTES, HOP_FIRST "%016llx", (unsigned long long)number);
}

struct bytes hop_value(uint64_t number, uint8_t *to)
{
    struct draw draw = {.state = draw_mix(number)};
    for (size_t at = 0; at < HOP_VALUE_BYTES; at++) {
        to[at] = (uint8_t)draw_u64(&draw);
    }
    return bytes_of(to, HOP_VALUE_BYTES);
}

uint64_t hop_due_ns(const struct hop_run *run, uint64_t n)
{
    return run->began_ns + n * NS_PER_S / run->rate;
}

static void count(struct hop_run *run, uint64_t n, uint64_t now)
{
    uint64_t due = hop_due_ns(run, n);
    histogram_add(&run->latency, now > due ? now - due : 0);
    run->told++;
    run->told_ns = now;
}

void hop_tell(struct hop_run *run, struct bytes key, uint64_t now)
{
    char right[HOP_KEY_BYTES];
    size_t size = hop_key(run->first + run->told, right);
    if (!bytes_equal(key, bytes_of(right, size))) {
        run->faults++;
    }
    count(run, run->told, now);
}

// False: it is no key of the run.
static bool find(const struct hop_run *run, struct bytes key, uint64_t *ret_n)
{
    char text[HOP_KEY_BYTES] = "", right[HOP_KEY_BYTES];
    if (key.size != strlen(HOP_FIRST) + HEX_DIGITS) {
        return false;
    }
    memcpy(text, key.data, key.size);
    uint64_t number = strtoull(text + strlen(HOP_FIRST), NULL, 16);
    *ret_n = number - run->first;
    return number >= run->first && *ret_n < run->count &&
           bytes_equal(key, bytes_of(right, hop_key(number, right)));
}

void hop_tell_pair(struct hop_run *run, struct bytes key, struct bytes value, uint64_t now)
{
    uint8_t right[HOP_VALUE_BYTES];
    uint64_t n;
    if (!find(run, key, &n) || run->seen[n]) {
        run->faults++;
        return;
    }
    run->faults += !bytes_equal(value, hop_value(run->first + n, right));
    run->seen[n] = true;
    count(run, n, now);
}

uint64_t hop_rate(uint64_t most)
{
    static const uint64_t steps[] = {5, 2, 1};
    for (uint64_t power = 1000000; power > 0; power /= 10) {
        for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
            if (steps[i] * power <= most / 2) {
                return steps[i] * power;
            }
        }
    }
    return 0;
}
