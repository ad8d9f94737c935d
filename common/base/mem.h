// SPDX-License-Identifier: Apache-2.0
// The only file that calls malloc. Memory for bounded bookkeeping never returns NULL: running out
// of it is fatal and said so. Sizes that a client or a peer chooses are checked against their
// named limit before they come here.
#ifndef QS_COMMON_BASE_MEM_H
#define QS_COMMON_BASE_MEM_H

#include "common/base/base.h"
#include "common/base/bytes.h"

// Tunes the allocator for a daemon: blocks of a megabyte come and go all the time, and giving each
// back to the kernel costs more than all the rest (every page is cleared again). Call before
// threads start.
void mem_open(void);

// Uninitialised / zeroed memory of `size` bytes (0 is allowed). Freed by mem_free. Any thread.
void *mem_alloc(size_t size) MUST_CHECK;
void *mem_zalloc(size_t size) MUST_CHECK;
void *mem_realloc(void *memory, size_t size) MUST_CHECK;
void mem_free(void *memory);

// A copy that the caller owns; text gets its terminating zero.
void *mem_copy(const void *data, size_t size) MUST_CHECK;
char *mem_text(const char *text) MUST_CHECK;
char *mem_format(const char *format, ...) MUST_CHECK PRINTF_LIKE(1, 2);

// Arena: many small allocations of one lifetime (a request, a block), freed in one go.
// Zero-initialised = empty. Not thread safe.
struct arena {
    struct arena_chunk *chunks;
    size_t used;  // in the newest chunk
    size_t total; // bytes held from the system
};

void *arena_alloc(struct arena *arena, size_t size) MUST_CHECK; // aligned to 8
struct bytes arena_copy(struct arena *arena, struct bytes from) MUST_CHECK;
void arena_free(struct arena *arena);

#endif
