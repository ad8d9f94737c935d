// SPDX-License-Identifier: Apache-2.0
// How many bytes of values are how old (proxy/recency.h says what an age is), and from which age on
// values go so that a given part of the bytes does. Pure.
#ifndef QS_PROXY_AGES_H
#define QS_PROXY_AGES_H

#include "common/base/base.h"

#define AGES 32        // the last one stands for all that are older
#define SHARE_ALL 65536 // shares are in these parts

struct ages {
    uint64_t bytes[AGES];
};

// What goes: all that is older than `age`, and of that age itself `share`.
struct ages_limit {
    unsigned age;
    uint32_t share;
};

void ages_add(struct ages *ages, unsigned age, uint64_t bytes);
uint64_t ages_sum(const struct ages *ages);

// Takes `other` in, and makes what was there before count `keep` times SHARE_ALL.
void ages_blend(struct ages *ages, uint32_t keep, const struct ages *other);
void ages_turn(struct ages *ages); // a period has passed: everything is one older

// The limit for which `share` of the bytes goes.
struct ages_limit ages_limit(const struct ages *ages, uint32_t share);
// The bytes that go by `limit`.
uint64_t ages_cold(const struct ages *ages, struct ages_limit limit);

// Whether a value goes; `chance` is any number of the row's that does not depend on its age.
static inline bool ages_goes(struct ages_limit limit, unsigned age, uint64_t chance)
{
    age = age < AGES ? age : AGES - 1;
    return age > limit.age || (age == limit.age && chance % SHARE_ALL < limit.share);
}

#endif
