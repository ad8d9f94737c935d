// SPDX-License-Identifier: Apache-2.0
#include "proxy/fill.h"

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/space.h"
#include "proxy/proxy.h"
#include "proxy/recency.h"
#include "proxy/stub.h"

#define ITEMS_MAX 128
#define ITEM_OVERHEAD 64

struct fill_item {
    struct bytes key; // in the batch's arena, as is record.value
    struct record record;
};

struct fill_batch {
    struct task task;
    struct fills *fills;
    struct arena arena;
    uint64_t bytes;
    unsigned count;
    struct fill_item items[ITEMS_MAX];
};

void fills_open(struct fills *fills, struct instance *instance)
{
    *fills = (struct fills){.instance = instance};
}

static void batch_free(struct fill_batch *batch)
{
    uint64_t before = atomic_fetch_sub(&batch->fills->waiting_bytes, batch->bytes);
    CHECK(before >= batch->bytes);
    arena_free(&batch->arena);
    mem_free(batch);
}

void fills_close(struct fills *fills)
{
    if (fills->open != NULL) {
        batch_free(fills->open);
        fills->open = NULL;
    }
    CHECK(atomic_load(&fills->waiting_bytes) == 0);
}

int fill_row(struct instance *instance, struct store_batch *batch, struct bytes key,
             const struct record *record, uint16_t period)
{
    struct store_value row = {0};
    int error = store_get(instance->store, NULL, 0, key, STORE_ANY, &row);
    if (error != OK) {
        return error;
    }
    struct record current;
    error = stub_decode(row.data, &current);
    store_value_release(&row);
    if (error != OK) {
        return error;
    }
    if (current.held || current.version != record->version || current.length != record->length ||
        current.check != record->check) {
        return ERR_NOT_FOUND;
    }
    uint8_t head[STUB_HEAD_MAX];
    size_t size = stub_head(head, record, period);
    const struct bytes keys[2] = {key, bytes_of(NULL, 0)};
    const struct bytes values[2] = {bytes_of(head, size), record->value};
    store_batch_put_parts(batch, instance->store, 0, keys, values);
    return OK;
}

static bool has_space(struct instance *instance, uint64_t bytes, unsigned count)
{
    bool has = space_takes(instance, bytes);
    METRIC_ADD(instance->metrics, instance, fills_refused_space, has ? 0 : count);
    return has;
}

// While something must go for whatever comes, only what was missed before, not so long ago that it
// would have been dropped again: or values that are read once would drive out those that are read
// often, and the hand could not keep up with them.
static bool is_worth(struct instance *instance, struct bytes key, uint64_t bytes)
{
    struct proxy *proxy = instance->role_state;
    bool worth = recency_again(proxy->missed, key, bytes) ||
                 atomic_load(&instance->space_level) < SPACE_SOFT;
    METRIC_ADD(instance->metrics, instance, fills_refused_once, worth ? 0 : 1);
    return worth;
}

// On the applier's thread.
static void batch_run(struct task *task)
{
    struct fill_batch *batch = CONTAINER_OF(task, struct fill_batch, task);
    struct instance *instance = batch->fills->instance;
    space_poll(instance, false);
    if (!has_space(instance, batch->bytes, batch->count)) {
        batch_free(batch);
        return;
    }
    struct store_batch *rows = store_batch_new();
    uint16_t period = proxy_period(instance);
    unsigned stale = 0;
    int error = OK;
    for (unsigned i = 0; i < batch->count && error == OK; i++) {
        error = fill_row(instance, rows, batch->items[i].key, &batch->items[i].record, period);
        if (error == ERR_NOT_FOUND) {
            stale++;
            error = OK;
        }
    }
    unsigned kept = batch->count - stale;
    if (error == OK && kept > 0) {
        error = instance_write_fill(instance, rows);
    }
    store_batch_free(rows);
    space_grow(instance, batch->bytes);
    METRIC_ADD(instance->metrics, instance, fills_stale, stale);
    if (error == OK) {
        METRIC_ADD(instance->metrics, instance, fills, kept);
    } else {
        static struct log_gate gate;
        LOG_GATED(&gate, LOG_WARN, instance->name, "fetched values could not be kept: %s",
                  error_text(error));
    }
    batch_free(batch);
}

void fills_add(struct fills *fills, struct bytes key, const struct record *record)
{
    uint64_t bytes = key.size + record->value.size + ITEM_OVERHEAD;
    struct instance *instance = fills->instance;
    if (!is_worth(instance, key, record->value.size) || !has_space(instance, bytes, 1)) {
        return;
    }
    if (atomic_load(&fills->waiting_bytes) + bytes > FILL_WAITING_MAX) {
        METRIC_ADD(instance->metrics, instance, fills_refused_queue, 1);
        return;
    }
    if (fills->open != NULL && fills->open->count == ITEMS_MAX) {
        fills_post(fills);
    }
    struct fill_batch *batch = fills->open;
    if (batch == NULL) {
        batch = mem_zalloc(sizeof *batch);
        batch->fills = fills;
        batch->task.run = batch_run;
        fills->open = batch;
    }
    atomic_fetch_add(&fills->waiting_bytes, bytes);
    batch->bytes += bytes;
    struct fill_item *item = &batch->items[batch->count++];
    item->key = arena_copy(&batch->arena, key);
    item->record = *record;
    item->record.held = true;
    item->record.value = arena_copy(&batch->arena, record->value);
}

void fills_post(struct fills *fills)
{
    struct fill_batch *batch = fills->open;
    if (batch != NULL) {
        fills->open = NULL;
        mailbox_post(instance_applier(fills->instance), &batch->task);
    }
}
