// SPDX-License-Identifier: Apache-2.0
// How much room a simulated disk has. What a node holds is small beside it, so pressure is what the
// faults say that others take.
#include "common/data/disk.h"
#include "tests/sim/seams.h"

#define TOTAL_BYTES (100 * GIB)

int disk_free(const char *path, uint64_t *ret_bytes)
{
    (void)path;
    *ret_bytes = disk_free_permille(world_host()->number) * (TOTAL_BYTES / 1000);
    return OK;
}

int disk_total(const char *path, uint64_t *ret_bytes)
{
    (void)path;
    *ret_bytes = TOTAL_BYTES;
    return OK;
}

int disk_used(const char *path, uint64_t *ret_bytes)
{
    (void)path;
    *ret_bytes = 0;
    return OK;
}
