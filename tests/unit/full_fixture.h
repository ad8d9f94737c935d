// SPDX-License-Identifier: Apache-2.0
// For tests of a disk that is full in the middle of the log: a role that finds no space for one
// block while `full`.
#ifndef QS_TESTS_UNIT_FULL_FIXTURE_H
#define QS_TESTS_UNIT_FULL_FIXTURE_H

#include "replica/replica.h"
#include "tests/unit/instance_fixture.h"

#define STUCK 10 // no space for this block

static struct role role;
static _Atomic bool full;
static _Atomic unsigned refused;

SUPPORT int apply_unless_full(struct instance *instance, const struct block *block,
                              struct store_batch *batch)
{
    if (atomic_load(&full) && block->header.number == STUCK) {
        atomic_fetch_add(&refused, 1);
        return ERR_DISK_FULL;
    }
    return replica_role()->apply(instance, block, batch);
}

#endif
