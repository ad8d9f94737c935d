// SPDX-License-Identifier: Apache-2.0
#include "common/base/mem.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

// Chunks grow with the arena, so that one small request does not hold a whole page.
#define ARENA_FIRST_BYTES 480
#define ARENA_CHUNK_BYTES 4000
#define OWN_MAPPING_BYTES (8 * 1024 * 1024)
#define KEPT_FREE_BYTES (64 * 1024 * 1024)

struct arena_chunk {
    struct arena_chunk *next;
    size_t size;
    uint64_t data[];
};

void mem_open(void)
{
    mallopt(M_MMAP_THRESHOLD, OWN_MAPPING_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEPT_FREE_BYTES);
}

static NORETURN void out_of_memory(size_t size)
{
    fprintf(stderr, "qs: out of memory (%zu bytes wanted)\n", size);
    abort();
}

void *mem_alloc(size_t size)
{
    void *memory = malloc(size == 0 ? 1 : size);
    if (memory == NULL) {
        out_of_memory(size);
    }
    return memory;
}

void *mem_zalloc(size_t size)
{
    void *memory = calloc(1, size == 0 ? 1 : size);
    if (memory == NULL) {
        out_of_memory(size);
    }
    return memory;
}

void *mem_realloc(void *memory, size_t size)
{
    void *moved = realloc(memory, size == 0 ? 1 : size);
    if (moved == NULL) {
        out_of_memory(size);
    }
    return moved;
}

void mem_free(void *memory) { free(memory); }

void *mem_copy(const void *data, size_t size)
{
    void *copy = mem_alloc(size);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}

char *mem_text(const char *text) { return mem_copy(text, strlen(text) + 1); }

char *mem_format(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    char *text = NULL;
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    if (length < 0) {
        out_of_memory(0);
    }
    return text;
}

void *arena_alloc(struct arena *arena, size_t size)
{
    size_t rounded = (size + 7) & ~(size_t)7;
    if (arena->chunks == NULL || arena->chunks->size - arena->used < rounded) {
        size_t chunk_size = arena->total + ARENA_FIRST_BYTES;
        chunk_size = chunk_size > ARENA_CHUNK_BYTES ? ARENA_CHUNK_BYTES : chunk_size;
        chunk_size = rounded > chunk_size / 4 ? rounded : chunk_size;
        struct arena_chunk *chunk = mem_alloc(sizeof *chunk + chunk_size);
        chunk->next = arena->chunks;
        chunk->size = chunk_size;
        arena->chunks = chunk;
        arena->used = 0;
        arena->total += sizeof *chunk + chunk_size;
    }
    uint8_t *memory = (uint8_t *)arena->chunks->data + arena->used;
    arena->used += rounded;
    return memory;
}

struct bytes arena_copy(struct arena *arena, struct bytes from)
{
    uint8_t *copy = arena_alloc(arena, from.size);
    if (from.size > 0) {
        memcpy(copy, from.data, from.size);
    }
    return bytes_of(copy, from.size);
}

void arena_free(struct arena *arena)
{
    while (arena->chunks != NULL) {
        struct arena_chunk *chunk = arena->chunks;
        arena->chunks = chunk->next;
        mem_free(chunk);
    }
    *arena = (struct arena){0};
}
