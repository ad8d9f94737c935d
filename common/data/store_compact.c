// SPDX-License-Identifier: Apache-2.0
// Compaction on request.
#include "common/data/store.h"

void store_files(struct store *store, unsigned family, struct store_files *ret_files)
{
    (void)store;
    (void)family;
    *ret_files = (struct store_files){0};
}

void store_files_free(struct store_files *files)
{
    mem_free(files->files);
    arena_free(&files->memory);
    *files = (struct store_files){0};
}

int store_compact(struct store *store, unsigned family, struct bytes lower, struct bytes upper)
{
    (void)store;
    (void)family;
    (void)lower;
    (void)upper;
    return ERR_BUSY;
}

void store_compact_cancel(struct store *store) { (void)store; }
