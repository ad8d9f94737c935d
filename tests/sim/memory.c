// SPDX-License-Identifier: Apache-2.0
// In place of common/base/mem.c: the same code over an allocator that knows whose each piece of
// memory is, so that a process can die without running a line of its own.
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/mem.h"
#include "tests/sim/world.h"

struct piece {
    struct list node;
    size_t size;
    size_t guard; // keeps what follows aligned, and tells a foreign pointer
};

#define GUARD 0x51534d454d4f5259ull

// Small pieces come and go all the time: they are kept by size. A sanitizer wants to see each go.
#define GRAIN 32
#ifdef __SANITIZE_ADDRESS__
#define GRAINS_MAX 0
#else
#define GRAINS_MAX 32
#endif

static struct list *kept[GRAINS_MAX + 1]; // by grains, linked by `next`

static size_t grains_of(size_t size) { return (sizeof(struct piece) + size + GRAIN - 1) / GRAIN; }

static struct piece *piece_get(size_t size, bool zero)
{
    size_t grains = grains_of(size);
    struct list *first = grains <= GRAINS_MAX ? kept[grains] : NULL;
    if (first == NULL) {
        return zero ? calloc(grains, GRAIN) : malloc(grains * GRAIN);
    }
    kept[grains] = first->next;
    return zero ? memset(first, 0, grains * GRAIN) : (void *)first;
}

static void piece_put(struct piece *piece)
{
    size_t grains = grains_of(piece->size);
    piece->guard = 0;
    if (grains > GRAINS_MAX) {
        free(piece);
        return;
    }
    piece->node.next = kept[grains];
    kept[grains] = &piece->node;
}

static void *piece_new(size_t size, bool zero, struct list *owner)
{
    struct piece *piece = piece_get(size, zero);
    if (piece == NULL) {
        return NULL;
    }
    piece->size = size;
    piece->guard = GUARD;
    list_append(owner, &piece->node);
    return piece + 1;
}

static struct list *owner_now(void)
{
    struct host *host = world_host();
    return host != NULL ? &host->memory : world_memory();
}

static struct piece *piece_of(void *memory)
{
    struct piece *piece = (struct piece *)memory - 1;
    CHECK(piece->guard == GUARD);
    return piece;
}

static void host_free(void *memory)
{
    if (memory == NULL) {
        return;
    }
    struct piece *piece = piece_of(memory);
    list_remove(&piece->node);
    piece_put(piece);
}

static void *moved(void *memory, size_t size, struct list *owner)
{
    if (memory == NULL) {
        return piece_new(size, false, owner);
    }
    struct piece *piece = piece_of(memory);
    if (grains_of(size) != grains_of(piece->size)) {
        void *other = piece_new(size, false, owner);
        memcpy(other, memory, size < piece->size ? size : piece->size);
        host_free(memory);
        return other;
    }
    list_remove(&piece->node);
    list_append(owner, &piece->node);
    piece->size = size;
    return memory;
}

static void *host_alloc(size_t size) { return piece_new(size, false, owner_now()); }
static void *host_zalloc(size_t count, size_t size)
{
    return piece_new(count * size, true, owner_now());
}
static void *host_realloc(void *memory, size_t size) { return moved(memory, size, owner_now()); }

static int host_format(char **ret_text, const char *format, va_list arguments)
{
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    *ret_text = host_alloc((size_t)length + 1);
    return vsnprintf(*ret_text, (size_t)length + 1, format, arguments);
}

void memory_drop(struct list *memory)
{
    struct list *node;
    while ((node = list_take(memory)) != NULL) {
        piece_put(CONTAINER_OF(node, struct piece, node));
    }
}

size_t memory_count(const struct list *memory)
{
    size_t count = 0;
    LIST_FOR_EACH(node, memory) {
        count++;
    }
    return count;
}

void *world_alloc(size_t size) { return piece_new(size, false, world_memory()); }
void *world_zalloc(size_t size) { return piece_new(size, true, world_memory()); }
void *world_copy(const void *data, size_t size)
{
    void *copy = world_alloc(size);
    if (size > 0) {
        memcpy(copy, data, size);
    }
    return copy;
}
char *world_text(const char *text) { return world_copy(text, strlen(text) + 1); }
void *world_realloc(void *memory, size_t size) { return moved(memory, size, world_memory()); }

#define malloc host_alloc
#define calloc host_zalloc
#define realloc host_realloc
#define free host_free
#define vasprintf host_format
#include "common/base/mem.c"
