// SPDX-License-Identifier: Apache-2.0
#include "bench/pairs.h"

#define NAME_BITS 60
#define NAME_MASK ((UINT64_C(1) << NAME_BITS) - 1)

// One to one on 60 bits: each step (xor of the upper half, an odd factor) can be undone.
static uint64_t shuffle(uint64_t seed, uint64_t number)
{
    uint64_t x = (number + draw_mix(seed)) & NAME_MASK;
    for (unsigned i = 0; i < 3; i++) {
        x ^= x >> (NAME_BITS / 2);
        x = (x * UINT64_C(0x9e3779b97f4a7c15)) & NAME_MASK;
    }
    return x ^ (x >> (NAME_BITS / 2));
}

static char *hex(char *to, uint64_t from, unsigned digits)
{
    for (unsigned i = digits; i > 0; i--) {
        *to++ = "0123456789abcdef"[(from >> (4 * (i - 1))) & 15];
    }
    return to;
}

void pair_key(uint64_t seed, uint64_t number, char *to)
{
    CHECK(number <= NAME_MASK);
    uint64_t name = shuffle(seed, number);
    memcpy(to, "zone:", 5);
    to = hex(to + 5, name >> 28, 8);
    memcpy(to, ":setting:", 9);
    hex(to + 9, name, 7);
}

void pair_value(uint64_t seed, uint64_t number, uint64_t generation, uint8_t *to, size_t size)
{
    CHECK(size >= PAIR_VALUE_BYTES_LEAST);
    struct draw draw = {.state = draw_mix(seed ^ draw_mix(number)) ^ draw_mix(~generation)};
    store_u64(to, number);
    for (size_t at = sizeof number; at < size; at += sizeof number) {
        uint64_t bits = draw_u64(&draw);
        memcpy(to + at, &bits, size - at < sizeof bits ? size - at : sizeof bits);
    }
}

bool pair_value_fits(uint64_t number, size_t size, struct bytes value)
{
    return value.size == size && load_u64(value.data) == number;
}
