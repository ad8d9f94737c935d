// SPDX-License-Identifier: Apache-2.0
#include "common/core/tail.h"

#include "common/base/mem.h"

static uint64_t memory_of(const struct block *block)
{
    return block->stored.size + block->raw.size;
}

static struct block *oldest(const struct tail *tail) { return tail->blocks[tail->first]; }

static struct block *newest(const struct tail *tail)
{
    return tail->blocks[tail->first + tail->count - 1];
}

void tail_close(struct tail *tail)
{
    (void)tail_drop(tail, 0);
    mem_free(tail->blocks);
    *tail = (struct tail){0};
}

void tail_add(struct tail *tail, struct block *block)
{
    CHECK(tail->count == 0 || block->header.number == newest(tail)->header.number + 1);
    if (tail->first + tail->count == tail->capacity) {
        if (tail->first > tail->count) {
            memmove(tail->blocks, tail->blocks + tail->first, tail->count * sizeof *tail->blocks);
            tail->first = 0;
        } else {
            tail->capacity = tail->capacity == 0 ? 64 : tail->capacity * 2;
            tail->blocks = mem_realloc(tail->blocks, tail->capacity * sizeof *tail->blocks);
        }
    }
    tail->blocks[tail->first + tail->count++] = block;
    tail->bytes += memory_of(block);
}

const struct block *tail_find(const struct tail *tail, uint64_t number)
{
    if (tail->count == 0 || number < oldest(tail)->header.number ||
        number > newest(tail)->header.number) {
        return NULL;
    }
    return tail->blocks[tail->first + (number - oldest(tail)->header.number)];
}

struct block *tail_take(struct tail *tail, uint64_t last)
{
    if (tail->count == 0 || oldest(tail)->header.number > last) {
        return NULL;
    }
    struct block *block = oldest(tail);
    tail->first++;
    tail->count--;
    tail->bytes -= memory_of(block);
    return block;
}

size_t tail_drop(struct tail *tail, uint64_t number)
{
    size_t dropped = 0;
    while (tail->count > 0 && newest(tail)->header.number >= number) {
        tail->bytes -= memory_of(newest(tail));
        block_release(newest(tail));
        tail->count--;
        dropped++;
    }
    return dropped;
}
