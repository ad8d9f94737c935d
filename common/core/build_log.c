// SPDX-License-Identifier: Apache-2.0
#include "common/core/build_log.h"

#include "common/core/space.h"

#define COUNT_BYTES (256 * KIB)

static void count_written(struct build *build, uint64_t bytes)
{
    build->unflushed_bytes += bytes;
    build->uncounted_bytes += bytes;
    if (build->uncounted_bytes >= COUNT_BYTES) {
        build->uncounted_bytes = 0;
        space_beside(build->instance, build->volume->store);
    }
    space_grow(build->instance, bytes);
}

int build_write(struct build *build, const struct build_row *row)
{
    uint8_t bytes[BUILD_ROW_MAX];
    size_t size = build_row_encode(row, bytes);
    uint64_t batch_bytes = store_batch_bytes(build->batch);
    int error = store_write(build->volume->store, build->batch, bytes_of(bytes, size));
    store_batch_clear(build->batch);
    if (error == OK) {
        count_written(build, batch_bytes);
    }
    return error;
}

bool build_keeps(struct instance *instance, const struct store_batch *batch, uint64_t bytes)
{
    return instance->role->fetch == NULL ||
           space_takes(instance, store_batch_bytes(batch) + bytes);
}

// The version of the row that the store holds, 0 = none.
static int held_version(struct build *build, struct bytes key, uint64_t *ret_version)
{
    struct store_value row;
    int error = store_get(build->volume->store, NULL, 0, key, STORE_ANY, &row);
    if (error == ERR_NOT_FOUND) {
        *ret_version = 0;
        return OK;
    }
    struct record record;
    if (error == OK) {
        error = build->instance->role->decode(row.data, &record);
        store_value_release(&row);
    }
    if (error == OK) {
        *ret_version = record.version;
    }
    return error;
}

static int add_entry(struct build *build, const struct entry *entry)
{
    struct instance *instance = build->instance;
    struct store *store = build->volume->store;
    struct digest *held = &build->row.held;
    uint64_t version;
    int error = held_version(build, entry->key, &version);
    if (error != OK || version >= entry->index || (version == 0 && entry->op == ENTRY_DELETE)) {
        return error; // what is there is newer, or is nothing to be deleted
    }
    if (version != 0) {
        digest_remove(held, version, entry->key);
    }
    if (entry->op == ENTRY_DELETE) {
        store_batch_delete(build->batch, store, 0, entry->key);
        return OK;
    }
    const struct record record = {.version = entry->index,
                                  .length = (uint32_t)entry->value.size,
                                  .check = record_check(entry->index, entry->value),
                                  .held = build_keeps(instance, build->batch,
                                                      entry->value.size),
                                  .value = entry->value};
    instance->role->put(instance, store, build->batch, entry->key, &record);
    digest_add(held, entry->index, entry->key);
    return OK;
}

// Each batch by itself, since the next one must see its rows. The place moves with the last: after
// a crash in between, the block is added once more, and what it wrote is not newer.
int build_log_add(struct build *build, const struct block *block)
{
    struct block_walk walk;
    struct entry entry;
    uint64_t index = 0;
    int error = OK;
    struct digest written = build->row.held;
    block_walk_start(&walk, block);
    while (error == OK && block_walk_next(&walk, &entry)) {
        if (index != 0 && entry.index != index) {
            error = build_write(build, &build->row);
            written = error == OK ? build->row.held : written;
        }
        index = entry.index;
        if (error == OK) {
            error = add_entry(build, &entry);
        }
    }
    if (error == OK) {
        struct build_row row = build->row;
        row.state = state_after(&row.state, block);
        error = build_write(build, &row);
        if (error == OK) {
            build->row = row;
            written = row.held;
        }
    }
    build->row.held = written;
    store_batch_clear(build->batch);
    return error;
}
