// SPDX-License-Identifier: Apache-2.0
#include "proxy/ages.h"

// A part of `bytes`, which may be large.
static uint64_t share_of(uint64_t bytes, uint32_t share)
{
    return (uint64_t)((unsigned __int128)bytes * share / SHARE_ALL);
}

void ages_add(struct ages *ages, unsigned age, uint64_t bytes)
{
    ages->bytes[age < AGES ? age : AGES - 1] += bytes;
}

uint64_t ages_sum(const struct ages *ages)
{
    uint64_t sum = 0;
    for (unsigned age = 0; age < AGES; age++) {
        sum += ages->bytes[age];
    }
    return sum;
}

void ages_blend(struct ages *ages, uint32_t keep, const struct ages *other)
{
    for (unsigned age = 0; age < AGES; age++) {
        ages->bytes[age] = share_of(ages->bytes[age], keep) + other->bytes[age];
    }
}

void ages_turn(struct ages *ages)
{
    ages->bytes[AGES - 1] += ages->bytes[AGES - 2];
    for (unsigned age = AGES - 2; age > 0; age--) {
        ages->bytes[age] = ages->bytes[age - 1];
    }
    ages->bytes[0] = 0;
}

struct ages_limit ages_limit(const struct ages *ages, uint32_t share)
{
    CHECK(share <= SHARE_ALL);
    uint64_t wanted = share_of(ages_sum(ages), share);
    unsigned age = AGES - 1;
    while (age > 0 && ages->bytes[age] <= wanted) {
        wanted -= ages->bytes[age];
        age--;
    }
    uint64_t here = ages->bytes[age];
    uint64_t part = here == 0 ? SHARE_ALL
                              : (uint64_t)((unsigned __int128)wanted * SHARE_ALL / here);
    return (struct ages_limit){.age = age, .share = (uint32_t)u64_min(part, SHARE_ALL)};
}

uint64_t ages_cold(const struct ages *ages, struct ages_limit limit)
{
    uint64_t cold = share_of(ages->bytes[limit.age], limit.share);
    for (unsigned age = limit.age + 1; age < AGES; age++) {
        cold += ages->bytes[age];
    }
    return cold;
}
