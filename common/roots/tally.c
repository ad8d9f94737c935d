// SPDX-License-Identifier: Apache-2.0
#include "common/roots/tally.h"

unsigned tally_in_sync_min(unsigned roots) { return roots == 2 ? 1 : roots / 2 + 1; }

unsigned tally_promote_min(unsigned roots, unsigned in_sync_min)
{
    return roots + 1 - in_sync_min;
}

void tally_begin(struct tally *tally, uint64_t epoch, uint64_t opened, unsigned least,
                 uint32_t counted)
{
    CHECK(opened > 0);
    *tally =
        (struct tally){.epoch = epoch, .opened = opened, .least = least, .counted = counted};
}

void tally_end(struct tally *tally) { *tally = (struct tally){0}; }

void tally_count(struct tally *tally, uint32_t counted) { tally->counted = counted; }

void tally_acknowledge(struct tally *tally, unsigned root, uint64_t block)
{
    CHECK(root < ROOTS_MAX);
    if (block > tally->acknowledged[root]) {
        tally->acknowledged[root] = block;
    }
}

uint64_t tally_committed(const struct tally *tally)
{
    uint64_t committed = UINT64_MAX;
    unsigned members = 0;
    for (unsigned i = 0; i < ROOTS_MAX; i++) {
        if ((tally->counted & (1u << i)) != 0) {
            committed = u64_min(committed, tally->acknowledged[i]);
            members++;
        }
    }
    bool enough = members > 0 && members >= tally->least;
    return tally->opened > 0 && enough && committed >= tally->opened ? committed : 0;
}
