// SPDX-License-Identifier: Apache-2.0
// How much room a simulated disk has: plenty, or none. What a node holds is small beside it.
#include "common/data/disk.h"
#include "tests/sim/seams.h"

int disk_free(const char *path, uint64_t *ret_bytes)
{
    (void)path;
    *ret_bytes = disk_is_full(world_host()->number) ? 0 : 100 * GIB;
    return OK;
}

int disk_total(const char *path, uint64_t *ret_bytes)
{
    (void)path;
    *ret_bytes = 200 * GIB;
    return OK;
}

int disk_used(const char *path, uint64_t *ret_bytes)
{
    (void)path;
    *ret_bytes = 0;
    return OK;
}
