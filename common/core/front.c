// SPDX-License-Identifier: Apache-2.0
#include "common/core/front.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/front_private.h"
#include "common/shared/layout.h"

// An empty database is likely to grow: its first generation has room for this many keys.
#define FIRST_KEYS 262144
#define FOLD_BYTES_MAX (256 * MIB) // onto huge pages: half a second of whoever makes a generation

// ---- generations -------------------------------------------------------------------------------

// The place for the lines; NULL: no such memory is to be had.
static uint8_t *in_region(struct front_generation *generation, uint64_t lines)
{
    static struct log_gate gate;
    size_t bytes = SHARED_HEAD_BYTES + lines * BLOOM_LINE_BYTES;
    int error = region_create(&generation->region, REGION_READ, bytes);
    if (error != OK) {
        LOG_GATED(&gate, LOG_WARN, NULL, "a front filter is not shared: %s", error_text(error));
        return NULL;
    }
    (void)region_fold(&generation->region, 0, FOLD_BYTES_MAX);
    generation->number = random_u64() | 1;
    struct filter_page *page = generation->region.memory;
    *page = (struct filter_page){.magic = FILTER_MAGIC,
                                 .version = SHARED_VERSION,
                                 .generation = generation->number,
                                 .lines = lines};
    return (uint8_t *)generation->region.memory + SHARED_HEAD_BYTES;
}

static uint8_t *in_memory(struct front_generation *generation, uint64_t lines)
{
    generation->memory = mem_zalloc((lines + 1) * BLOOM_LINE_BYTES);
    size_t beyond = (uintptr_t)generation->memory % BLOOM_LINE_BYTES;
    return (uint8_t *)generation->memory + (BLOOM_LINE_BYTES - beyond);
}

struct front_generation *front_generation_new(uint64_t lines, uint64_t capacity, bool shared)
{
    CHECK(lines > 0 && lines <= UINT32_MAX);
    struct front_generation *generation = mem_zalloc(sizeof *generation);
    atomic_init(&generation->references, 1);
    uint8_t *at = shared ? in_region(generation, lines) : NULL;
    if (at == NULL) {
        at = in_memory(generation, lines);
    }
    generation->bloom = (struct bloom){.lines = (struct bloom_line *)at, .count = lines};
    generation->capacity = capacity;
    return generation;
}

// Before anybody else has it.
void front_generation_begin(struct front_generation *generation, uint64_t since)
{
    generation->since = since;
    if (generation->number != 0) {
        ((struct filter_page *)generation->region.memory)->since = since;
    }
}

struct front_generation *front_hold(struct front_generation *generation)
{
    if (generation != NULL) {
        atomic_fetch_add_explicit(&generation->references, 1, memory_order_relaxed);
    }
    return generation;
}

void front_release(struct front_generation *generation)
{
    if (generation == NULL) {
        return;
    }
    unsigned before = atomic_fetch_sub_explicit(&generation->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before == 1) {
        region_close(&generation->region);
        mem_free(generation->memory);
        mem_free(generation);
    }
}

int front_fd(const struct front_generation *generation)
{
    return front_number(generation) != 0 ? generation->region.fd : -1;
}

uint64_t front_number(const struct front_generation *generation)
{
    return generation != NULL ? generation->number : 0;
}

bool front_absent(const struct front_generation *generation, struct bytes key)
{
    return generation != NULL && !bloom_maybe(&generation->bloom, key);
}

bool front_absent_hash(const struct front_generation *generation, struct hash128 hash)
{
    return generation != NULL && !bloom_maybe_hash(&generation->bloom, hash);
}

void front_prefetch(const struct front_generation *generation, struct hash128 hash)
{
    if (generation != NULL) {
        bloom_prefetch(&generation->bloom, hash);
    }
}

void front_learn(struct front_generation *generation, struct bytes key)
{
    bloom_add(&generation->bloom, key);
}

// ---- the applier's -----------------------------------------------------------------------------

void front_open(struct front *front, const struct instance_options *options)
{
    *front = (struct front){.options = options};
}

void front_close(struct front *front) { front_reset(front); }

// Half as many keys again have room before the next generation is wanted.
struct front_generation *front_prepare(const struct instance_options *options, uint64_t keys)
{
    uint64_t capacity = u64_max(keys + keys / 2, FIRST_KEYS);
    uint64_t bytes = u64_min(capacity / 8 * options->filter_bits, options->filter_bytes);
    return options->filter_bits == 0
               ? NULL
               : front_generation_new(u64_max(bytes / BLOOM_LINE_BYTES, 1), capacity,
                                      options->share_memory);
}

static void look_whether_wanted(struct front *front)
{
    const struct front_generation *live = front->live;
    bool wanted = live == NULL || atomic_load(&live->keys) > live->capacity;
    atomic_store(&front->wanted, wanted && front->options->filter_bits > 0);
}

static void adopt(struct front *front, struct front_generation *generation, uint64_t covered)
{
    front_release(front->live);
    front->live = generation;
    front->covered = covered;
    look_whether_wanted(front);
}

void front_load(struct front *front, const char *directory, struct journal *journal,
                const struct journal_place *applied)
{
    CHECK(front->live == NULL);
    if (front->options->filter_bits > 0) {
        struct front_generation *generation;
        struct journal_place place;
        int error = front_read(directory, front->options, journal, &generation, &place);
        if (error == OK) {
            adopt(front, generation, place.number);
        } else if (applied->number == 0) {
            adopt(front, front_prepare(front->options, 0), 0);
        }
    }
    look_whether_wanted(front);
}

void front_add(struct front *front, const struct block *block)
{
    if (front->live == NULL && front->next == NULL) {
        return;
    }
    uint64_t number = block->header.number;
    if (front->live != NULL && number > front->covered + 1) {
        front_reset(front); // what lies between came into the store by another way
        return;
    }
    uint64_t added = 0;
    struct block_walk walk;
    struct entry entry;
    block_walk_start(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        if (entry.op != ENTRY_PUT || entry.replaced != 0) {
            continue;
        }
        if (front->live != NULL) {
            bloom_add(&front->live->bloom, entry.key);
        }
        if (front->next != NULL) {
            bloom_add(&front->next->bloom, entry.key);
        }
        added++;
    }
    // A block that is tried again, after the disk was full, was counted.
    if (front->live != NULL && number > front->covered) {
        front->covered = number;
        atomic_fetch_add(&front->live->keys, added);
        look_whether_wanted(front);
    }
}

struct front_generation *front_for_view(const struct front *front,
                                        const struct journal_place *place)
{
    bool known = front->live != NULL && place->index >= front->live->since &&
                 place->number <= front->covered;
    return known ? front_hold(front->live) : NULL;
}

void front_begin(struct front *front, struct front_generation *generation)
{
    CHECK(front->next == NULL);
    front->next = front_hold(generation);
}

void front_install(struct front *front, const struct journal_place *place, uint64_t keys)
{
    if (front->next == NULL) {
        return;
    }
    front_generation_begin(front->next, place->index);
    atomic_store(&front->next->keys, keys);
    adopt(front, front->next, place->number);
    front->next = NULL;
}

void front_abandon(struct front *front)
{
    front_release(front->next);
    front->next = NULL;
}

void front_reset(struct front *front)
{
    front_abandon(front);
    adopt(front, NULL, 0);
}

void front_metrics(const struct front *front, struct instance_metrics *metrics)
{
    const struct front_generation *live = front->live;
    uint64_t bytes = live != NULL ? live->bloom.count * BLOOM_LINE_BYTES : 0;
    uint64_t keys = live != NULL ? atomic_load(&live->keys) : 0;
    METRIC_SET(metrics, instance, filter_bytes, bytes);
    METRIC_SET(metrics, instance, filter_keys, keys);
    METRIC_SET(metrics, instance, filter_bits, keys > 0 ? bytes * 8 / keys : 0);
}
