// SPDX-License-Identifier: Apache-2.0
#include "bench/floor.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/core/record.h"
#include "common/data/store.h"
#include "proxy/stub.h"
#include "replica/mvcc.h"
#include "replica/record.h"

#define MEMTABLE_BYTES (32 * MIB)
#define CACHE_BYTES (256 * MIB) // the daemons' default

_Static_assert(STUB_HEAD_MAX >= REPLICA_RECORD_HEAD_MAX, "room for either head");

struct entry_sizes {
    size_t key, value;
};

struct floor {
    enum floor_role role;
    struct store *store;
    struct store_cache *cache;
    struct store_batch *batch;
    uint64_t index; // of the last write
    struct buf text; // keys and values of the next one
    struct entry_sizes *sizes;
};

struct floor *floor_open(enum floor_role role, const char *directory)
{
    struct floor *floor = mem_zalloc(sizeof *floor);
    floor->role = role;
    floor->cache = store_cache_open(CACHE_BYTES);
    struct store_options options = {
        .directory = directory,
        .scope = "floor",
        .families = {"default", "mvcc"},
        .family_count = role == FLOOR_REPLICA ? 2 : 1,
        .cache = floor->cache,
        .memtable_bytes = MEMTABLE_BYTES,
    };
    int error = store_open(&floor->store, &options);
    if (error != OK) {
        fprintf(stderr, "qs-bench: %s: %s\n", directory, error_text(error));
        store_cache_close(floor->cache);
        mem_free(floor);
        return NULL;
    }
    floor->batch = store_batch_new();
    return floor;
}

void floor_close(struct floor *floor)
{
    store_batch_free(floor->batch);
    if (store_close(floor->store)) {
        store_cache_close(floor->cache);
    }
    buf_free(&floor->text);
    mem_free(floor);
}

// ---- one entry ----------------------------------------------------------------------------------

static void put(struct floor *floor, struct bytes key, struct bytes value)
{
    uint8_t head[STUB_HEAD_MAX];
    const struct record record = {.version = floor->index,
                                  .length = (uint32_t)value.size,
                                  .check = record_check(floor->index, value),
                                  .held = true,
                                  .value = value};
    size_t size = floor->role == FLOOR_PROXY ? stub_head(head, &record, 0)
                                             : replica_record_head(head, floor->index, value);
    const struct bytes keys[2] = {key, bytes_of(NULL, 0)};
    const struct bytes row[2] = {bytes_of(head, size), value};
    store_batch_put_parts(floor->batch, floor->store, REPLICA_DEFAULT, keys, row);
}

static int keep(struct floor *floor, struct bytes key)
{
    struct store_value row = {0};
    int error = store_get(floor->store, NULL, REPLICA_DEFAULT, key, STORE_ANY, &row);
    if (error == OK) {
        uint8_t name[MVCC_KEY_MAX];
        size_t size = mvcc_key(name, key, floor->index - 1);
        store_batch_put(floor->batch, floor->store, REPLICA_MVCC, bytes_of(name, size), row.data);
    }
    store_value_release(&row);
    return error;
}

static int do_entry(struct floor *floor, enum floor_kind kind, struct bytes key,
                    struct bytes value)
{
    if (floor->role == FLOOR_REPLICA && kind != FLOOR_INSERT) {
        int error = keep(floor, key);
        if (error != OK) {
            return error;
        }
    }
    if (kind == FLOOR_DELETE) {
        store_batch_delete(floor->batch, floor->store, REPLICA_DEFAULT, key);
    } else {
        put(floor, key, value);
    }
    return OK;
}

// ---- a write ------------------------------------------------------------------------------------

// Keys and values of the entries from `first` on, in `text`.
static void make_pairs(struct floor *floor, const struct pairs *pairs, uint64_t first,
                       uint64_t count)
{
    struct buf *text = &floor->text;
    buf_clear(text);
    for (uint64_t i = 0; i < count; i++) {
        struct entry_sizes *sizes = &floor->sizes[i];
        char *key = (char *)buf_reserve(text, PAIR_KEY_BYTES_MAX);
        sizes->key = pair_key(pairs, first + i, key);
        buf_commit(text, sizes->key);
        uint8_t *value = buf_reserve(text, PAIR_VALUE_BYTES_MAX);
        sizes->value = pair_value(pairs, (first + i) % pairs->count, floor->index, value);
        buf_commit(text, sizes->value);
    }
}

static int write_some(struct floor *floor, enum floor_kind kind, uint64_t count)
{
    const uint8_t *at = floor->text.data;
    int error = OK;
    store_batch_clear(floor->batch);
    for (uint64_t i = 0; error == OK && i < count; i++) {
        const struct entry_sizes *sizes = &floor->sizes[i];
        error = do_entry(floor, kind, bytes_of(at, sizes->key),
                         bytes_of(at + sizes->key, sizes->value));
        at += sizes->key + sizes->value;
    }
    return error != OK ? error : store_write(floor->store, floor->batch,
                                             bytes_of(&floor->index, sizeof floor->index));
}

bool floor_run(struct floor *floor, const struct floor_work *work, uint64_t *ret_ns)
{
    CHECK(work->batch > 0);
    floor->sizes = mem_alloc(work->batch * sizeof *floor->sizes);
    int error = OK;
    *ret_ns = 0;
    for (uint64_t done = 0; error == OK && done < work->count;) {
        uint64_t some = u64_min(work->batch, work->count - done);
        floor->index++;
        make_pairs(floor, work->pairs, work->first + done, some);
        uint64_t began = clock_mono_ns();
        error = write_some(floor, work->kind, some);
        *ret_ns += clock_mono_ns() - began;
        done += some;
    }
    if (error != OK) {
        fprintf(stderr, "qs-bench: floor: %s\n", error_text(error));
    }
    mem_free(floor->sizes);
    return error == OK;
}
