// SPDX-License-Identifier: Apache-2.0
// Applying in two passes over a block: first the history rows, which may be written ahead in
// chunks since no reader looks at them while the default rows are the old ones; then one default
// row for each key. A crash between the two leaves rows that the replay writes again, the same.
#include "replica/replica.h"

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/instance.h"
#include "replica/collect.h"
#include "replica/latest.h"
#include "replica/mvcc.h"
#include "replica/past.h"
#include "replica/record.h"


#define NO_VIEW_NS NS_PER_S

struct replica {
    struct latest_table latest; // applier thread
    uint64_t rows;              // history rows of the block being applied; likewise
    struct history history;
    struct collector collector; // walker thread
};

static int replica_open(struct instance *instance)
{
    struct replica *replica = mem_zalloc(sizeof *replica);
    int error = history_open(&replica->history, instance);
    if (error != OK) {
        mem_free(replica);
        return error;
    }
    collector_open(&replica->collector, &replica->history);
    latest_open(&replica->latest);
    instance->role_state = replica;
    return OK;
}

static void replica_close(struct instance *instance)
{
    struct replica *replica = instance->role_state;
    latest_close(&replica->latest);
    collector_close(&replica->collector);
    history_close(&replica->history);
    mem_free(replica);
    instance->role_state = NULL;
}

static int diverged(struct instance *instance, const struct entry *entry, uint64_t found)
{
    struct buf key = {0};
    buf_append_printable(&key, entry->key);
    log_line(LOG_ERROR, instance->name,
             "diverged at index %llu: key \"%.*s\" replaces version %llu in the log, here it has "
             "version %llu",
             (unsigned long long)entry->index, (int)key.size, (const char *)key.data,
             (unsigned long long)entry->replaced, (unsigned long long)found);
    buf_free(&key);
    return ERR_DIVERGED;
}

static void put_history(struct instance *instance, struct store_batch *batch,
                        const struct entry *entry, const struct bytes row[2])
{
    uint8_t key[MVCC_KEY_MAX];
    size_t size = mvcc_key(key, entry->key, entry->index - 1);
    const struct bytes parts[2] = {bytes_of(key, size), bytes_of(NULL, 0)};
    store_batch_put_parts(batch, instance->store, REPLICA_MVCC, parts, row);
    ((struct replica *)instance->role_state)->rows++;
}

// What the entry replaces was written by an earlier batch of the same block: it is taken from
// there.
static int keep_from_block(struct instance *instance, struct store_batch *batch,
                           const struct entry *entry, const struct latest *latest)
{
    uint64_t found = latest->put ? latest->version : 0;
    if (found != entry->replaced) {
        return diverged(instance, entry, found);
    }
    if (found != 0) {
        uint8_t head[REPLICA_RECORD_HEAD_MAX];
        size_t size = replica_record_head(head, found, latest->value);
        put_history(instance, batch, entry,
                    (const struct bytes[2]){bytes_of(head, size), latest->value});
    }
    return OK;
}

// What the entry replaces stands in the store: its row becomes history as it is, with its check,
// so that a value that rotted is found by whoever reads it and not spread as sound.
static int keep_from_store(struct instance *instance, struct store_batch *batch,
                           const struct entry *entry)
{
    struct store_value row = {0};
    int error = store_get(instance->store, NULL, REPLICA_DEFAULT, entry->key, STORE_ANY, &row);
    if (error == ERR_NOT_FOUND) {
        return diverged(instance, entry, 0);
    }
    if (error != OK) {
        return error;
    }
    uint64_t found = 0;
    error = replica_record_version(row.data, &found);
    if (error == OK && found != entry->replaced) {
        error = diverged(instance, entry, found);
    }
    if (error == OK) {
        put_history(instance, batch, entry,
                    (const struct bytes[2]){row.data, bytes_of(NULL, 0)});
    }
    store_value_release(&row);
    return error;
}

static int apply_entry(struct instance *instance, struct store_batch *batch,
                       struct latest_table *table, const struct entry *entry)
{
    struct latest *latest = latest_find(table, entry->key);
    int error = OK;
    if (entry->op == ENTRY_DELETE && entry->replaced == 0) {
        // The log never holds a delete of an absent key.
        return diverged(instance, entry, latest != NULL ? latest->version : 0);
    } else if (latest != NULL) {
        error = keep_from_block(instance, batch, entry, latest);
    } else if (entry->replaced != 0) {
        error = keep_from_store(instance, batch, entry);
    }
    if (error != OK) {
        return error;
    }
    if (latest == NULL) {
        latest = latest_add(table, entry->key);
        latest->was_present = entry->replaced != 0;
    }
    latest->value = entry->value;
    latest->version = entry->index;
    latest->put = entry->op == ENTRY_PUT;
    return OK;
}

static void put_default_rows(struct instance *instance, struct store_batch *batch,
                             const struct latest_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct latest *latest = &table->rows[i];
        if (latest->put) {
            uint8_t head[REPLICA_RECORD_HEAD_MAX];
            size_t size = replica_record_head(head, latest->version, latest->value);
            const struct bytes key[2] = {latest->key, bytes_of(NULL, 0)};
            const struct bytes row[2] = {bytes_of(head, size), latest->value};
            store_batch_put_parts(batch, instance->store, REPLICA_DEFAULT, key, row);
        } else if (latest->was_present) {
            store_batch_delete(batch, instance->store, REPLICA_DEFAULT, latest->key);
        }
    }
}

static int replica_apply(struct instance *instance, const struct block *block,
                         struct store_batch *batch)
{
    struct replica *replica = instance->role_state;
    latest_reset(&replica->latest, block->header.entries);
    replica->rows = 0;
    struct block_walk walk;
    block_walk_start(&walk, block);
    struct entry entry;
    while (block_walk_next(&walk, &entry)) {
        int error = apply_entry(instance, batch, &replica->latest, &entry);
        if (error == OK && store_batch_bytes(batch) >= instance->options->apply_chunk) {
            error = instance_write_ahead(instance, batch);
        }
        if (error != OK) {
            return error;
        }
    }
    put_default_rows(instance, batch, &replica->latest);
    return OK;
}

static void replica_put(struct instance *instance, struct store *store, struct store_batch *batch,
                        struct bytes key, const struct record *record)
{
    (void)instance;
    CHECK(record->held);
    uint8_t head[REPLICA_RECORD_HEAD_MAX];
    size_t size = replica_record_head(head, record->version, record->value);
    const struct bytes keys[2] = {key, bytes_of(NULL, 0)};
    const struct bytes row[2] = {bytes_of(head, size), record->value};
    store_batch_put_parts(batch, store, REPLICA_DEFAULT, keys, row);
}

static void replica_replaced(struct instance *instance, uint64_t index)
{
    struct replica *replica = instance->role_state;
    (void)index; // it is the instance's floor already
    history_restart(&replica->history);
}

static void replica_published(struct instance *instance)
{
    struct replica *replica = instance->role_state;
    struct view *view = instance_pin(instance);
    if (view != NULL) {
        history_applied(&replica->history, view->place.index, replica->rows);
        view_release(view);
    }
}

static uint64_t replica_hand(struct instance *instance)
{
    struct replica *replica = instance->role_state;
    return history_age(&replica->history) ? collector_step(&replica->collector) : NO_VIEW_NS;
}

static const struct store_filter *replica_filter(struct instance *instance, unsigned family)
{
    struct replica *replica = instance->role_state;
    return family == REPLICA_MVCC ? &replica->history.filter : NULL;
}

const struct role *replica_role(void)
{
    static const struct role role = {
        .families = {[REPLICA_DEFAULT] = "default", [REPLICA_MVCC] = "mvcc"},
        .family_count = 2,
        .open = replica_open,
        .close = replica_close,
        .decode = replica_record_decode,
        .apply = replica_apply,
        .put = replica_put,
        .replaced = replica_replaced,
        .published = replica_published,
        .filter = replica_filter,
        .hand = replica_hand,
        .past = past_read,
        .past_rows = past_rows,
    };
    return &role;
}
