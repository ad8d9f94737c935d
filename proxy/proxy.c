// SPDX-License-Identifier: Apache-2.0
#include "proxy/proxy.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/core/instance.h"
#include "proxy/fetch.h"
#include "proxy/stub.h"

static int proxy_open(struct instance *instance)
{
    struct proxy *proxy = mem_zalloc(sizeof *proxy);
    instance->role_state = proxy;
    proxy->fetcher = fetcher_new(instance);
    return OK;
}

static void proxy_close(struct instance *instance)
{
    struct proxy *proxy = instance->role_state;
    fetcher_free(proxy->fetcher);
    mem_free(proxy);
    instance->role_state = NULL;
}

static void begin_window(struct instance *instance, uint64_t index)
{
    struct proxy *proxy = instance->role_state;
    if (!proxy->window_begun) {
        proxy->window_begun = true;
        window_open(&proxy->window, instance->options->window * NS_PER_MS,
                    instance->options->window_bytes, index);
    }
}

static void proxy_put(struct instance *instance, struct store *store, struct store_batch *batch,
                      struct bytes key, const struct record *record)
{
    struct record kept = *record;
    kept.held = record->held && record->length <= instance->options->keep_bytes;
    uint8_t head[STUB_HEAD_MAX];
    size_t size = stub_head(head, &kept, 0);
    const struct bytes keys[2] = {key, bytes_of(NULL, 0)};
    const struct bytes row[2] = {bytes_of(head, size),
                                 kept.held ? record->value : bytes_of(NULL, 0)};
    store_batch_put_parts(batch, store, 0, keys, row);
}

static void put_row(struct instance *instance, struct store_batch *batch,
                    const struct entry *entry)
{
    const struct record record = {.version = entry->index,
                                  .length = (uint32_t)entry->value.size,
                                  .check = record_check(entry->index, entry->value),
                                  .held = true,
                                  .value = entry->value};
    proxy_put(instance, instance->store, batch, entry->key, &record);
}

// Nothing is claimed of the new store but what will arrive.
static void proxy_replaced(struct instance *instance, uint64_t index)
{
    struct proxy *proxy = instance->role_state;
    proxy->window_begun = false;
    atomic_store(&instance->window_floor, index);
}

static int proxy_apply(struct instance *instance, const struct block *block,
                       struct store_batch *batch)
{
    struct proxy *proxy = instance->role_state;
    uint64_t bytes = 0;
    struct block_walk walk;
    struct entry entry;
    block_walk_start(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        if (entry.op == ENTRY_PUT) {
            put_row(instance, batch, &entry);
            bytes += entry.value.size;
        } else {
            store_batch_delete(batch, instance->store, 0, entry.key);
        }
    }
    begin_window(instance, block->header.first_index - 1);
    // A block that is tried again, after the disk was full, is in the window already.
    if (block_end(&block->header) > proxy->window.newest) {
        window_add(&proxy->window, block_end(&block->header), bytes, clock_mono_ns());
    }
    return OK;
}

// W moves after the view was published, so a view never claims more than the rows it shows hold.
static void proxy_published(struct instance *instance)
{
    struct proxy *proxy = instance->role_state;
    struct view *view = instance_pin(instance);
    if (view != NULL) {
        begin_window(instance, view->place.index);
        view_release(view);
    }
    if (proxy->window_begun) {
        atomic_store(&instance->window_floor, window_advance(&proxy->window, clock_mono_ns()));
    }
}

const struct role *proxy_role(void)
{
    static const struct role role = {
        .families = {"default"},
        .family_count = 1,
        .open = proxy_open,
        .close = proxy_close,
        .decode = stub_decode,
        .apply = proxy_apply,
        .put = proxy_put,
        .replaced = proxy_replaced,
        .published = proxy_published,
        .fetch = fetch_read,
    };
    return &role;
}
