// SPDX-License-Identifier: Apache-2.0
// A number is a count and, in its low 20 bits, the slot: so finding one needs no search. The count
// begins at a random place, so that a cursor from before a restart is unknown, not mistaken.
#include "qs/cursors.h"

#include <pthread.h>

#include "common/base/clock.h"
#include "common/base/list.h"

#define SLOT_BITS 20
#define SLOT_MASK (CURSORS_MAX - 1)
#define SLOTS_FIRST 16

struct place {
    uint64_t number; // 0 = none
    uint8_t *key;
    size_t size;
};

struct slot {
    struct list node; // in `used`, the one unused for longest first
    const void *owner;
    unsigned index;
    struct place now;
    struct place before; // the page that led to `now`
};

struct cursors {
    pthread_mutex_t lock; // guards everything
    struct slot **slots;  // made one by one
    unsigned count, capacity, max;
    struct list used;
    uint64_t next;
};

struct cursors *cursors_open(unsigned max)
{
    CHECK(max > 0 && max <= CURSORS_MAX);
    struct cursors *cursors = mem_zalloc(sizeof *cursors);
    pthread_mutex_init(&cursors->lock, NULL);
    list_init(&cursors->used);
    cursors->max = max;
    cursors->next = (random_u64() & UINT32_MAX) + 1;
    return cursors;
}

void cursors_close(struct cursors *cursors)
{
    for (unsigned i = 0; i < cursors->count; i++) {
        mem_free(cursors->slots[i]->now.key);
        mem_free(cursors->slots[i]->before.key);
        mem_free(cursors->slots[i]);
    }
    mem_free(cursors->slots);
    pthread_mutex_destroy(&cursors->lock);
    mem_free(cursors);
}

// The slot that holds the number now or held it one page ago. Under the lock.
static struct slot *find(struct cursors *cursors, uint64_t number, const void *owner)
{
    uint64_t index = number & SLOT_MASK;
    if (number == 0 || index >= cursors->count) {
        return NULL;
    }
    struct slot *slot = cursors->slots[index];
    bool known = slot->now.number == number || slot->before.number == number;
    return known && slot->owner == owner ? slot : NULL;
}

static void touch(struct cursors *cursors, struct slot *slot)
{
    list_remove(&slot->node);
    list_append(&cursors->used, &slot->node);
}

static void place_set(struct place *place, uint64_t number, struct bytes key)
{
    mem_free(place->key);
    *place = (struct place){number, mem_copy(key.data, key.size), key.size};
}

static struct slot *take_slot(struct cursors *cursors, const void *owner)
{
    if (cursors->count == cursors->max) {
        struct slot *oldest = CONTAINER_OF(cursors->used.next, struct slot, node);
        place_set(&oldest->before, 0, bytes_of(NULL, 0));
        oldest->owner = owner;
        return oldest;
    }
    if (cursors->count == cursors->capacity) {
        cursors->capacity = cursors->capacity == 0 ? SLOTS_FIRST : cursors->capacity * 2;
        size_t size = cursors->capacity * sizeof(struct slot *);
        cursors->slots = mem_realloc(cursors->slots, size);
    }
    struct slot *slot = mem_zalloc(sizeof *slot);
    list_init(&slot->node);
    slot->owner = owner;
    slot->index = cursors->count;
    cursors->slots[cursors->count++] = slot;
    return slot;
}

bool cursor_find(struct cursors *cursors, uint64_t number, const void *owner, struct arena *arena,
                 struct bytes *ret_key)
{
    pthread_mutex_lock(&cursors->lock);
    struct slot *slot = find(cursors, number, owner);
    if (slot != NULL) {
        const struct place *place = slot->now.number == number ? &slot->now : &slot->before;
        *ret_key = arena_copy(arena, bytes_of(place->key, place->size));
        touch(cursors, slot);
    }
    pthread_mutex_unlock(&cursors->lock);
    return slot != NULL;
}

uint64_t cursor_add(struct cursors *cursors, uint64_t from, const void *owner, struct bytes key)
{
    pthread_mutex_lock(&cursors->lock);
    struct slot *slot = find(cursors, from, owner);
    if (slot == NULL) {
        slot = take_slot(cursors, owner);
    } else if (slot->now.number == from) {
        mem_free(slot->before.key);
        slot->before = slot->now;
        slot->now = (struct place){0};
    }
    uint64_t number = (cursors->next++ << SLOT_BITS | slot->index) & INT64_MAX;
    place_set(&slot->now, number, key);
    touch(cursors, slot);
    pthread_mutex_unlock(&cursors->lock);
    return number;
}
