// SPDX-License-Identifier: Apache-2.0
#include "proxy/proxy.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/core/space.h"
#include "proxy/evict.h"
#include "proxy/fetch.h"
#include "proxy/hand.h"
#include "proxy/recall.h"
#include "proxy/stub.h"

#define MISSED_SHARE 4 // of recency_bytes, beside it: what is missed is less than what is read

static void on_tighten(struct task *task);

static int proxy_open(struct instance *instance)
{
    struct proxy *proxy = mem_zalloc(sizeof *proxy);
    instance->role_state = proxy;
    proxy->instance = instance;
    proxy->tighten.run = on_tighten;
    proxy->recency = recency_open(instance->options->recency_bytes);
    proxy->missed = recency_open(instance->options->recency_bytes / MISSED_SHARE);
    proxy->evict = evict_open(proxy->recency, instance->metrics);
    proxy->hand = hand_open(instance, proxy->recency, proxy->evict);
    proxy->fetcher = fetcher_new(instance);
    return OK;
}

static void proxy_close(struct instance *instance)
{
    struct proxy *proxy = instance->role_state;
    fetcher_free(proxy->fetcher);
    hand_close(proxy->hand);
    evict_close(proxy->evict);
    recency_close(proxy->recency);
    recency_close(proxy->missed);
    mem_free(proxy);
    instance->role_state = NULL;
}

static const struct store_filter *proxy_filter(struct instance *instance, unsigned family)
{
    struct proxy *proxy = instance->role_state;
    return family == 0 ? evict_filter(proxy->evict) : NULL;
}

static void proxy_touch(struct instance *instance, struct bytes key, uint64_t bytes)
{
    struct proxy *proxy = instance->role_state;
    recency_touch(proxy->recency, key, bytes);
}

uint16_t proxy_period(const struct instance *instance)
{
    const struct proxy *proxy = instance->role_state;
    return recency_period(proxy->recency);
}

// ---- the window --------------------------------------------------------------------------------

static void begin_window(struct instance *instance, uint64_t index)
{
    struct proxy *proxy = instance->role_state;
    if (!proxy->window_begun) {
        proxy->window_begun = true;
        window_open(&proxy->window, instance->options->window * NS_PER_MS,
                    instance->options->window_bytes, index);
    }
}

static void move_window(struct proxy *proxy)
{
    struct instance *instance = proxy->instance;
    uint64_t floor = window_advance(&proxy->window, clock_mono_ns());
    CHECK(floor >= atomic_load(&instance->window_floor));
    atomic_store(&instance->window_floor, floor);
}

// Passes of the evictor rest on the floor that the newest view shows, and W moves only after that:
// so a view never claims more than the rows it shows hold. After a change of stores the newest view
// is of the one before for a while, and says nothing of this one.
static void proxy_published(struct instance *instance)
{
    struct proxy *proxy = instance->role_state;
    struct view *view = instance_pin(instance);
    bool current = view == NULL || view->store == atomic_load(&instance->store);
    if (view != NULL && current) {
        begin_window(instance, view->place.index);
        evict_show(proxy->evict, view->window_floor);
    }
    view_release(view);
    if (current && proxy->window_begun) {
        move_window(proxy);
    }
}

// Applier thread.
static void on_tighten(struct task *task)
{
    struct proxy *proxy = CONTAINER_OF(task, struct proxy, tighten);
    struct instance *instance = proxy->instance;
    atomic_store(&proxy->tightening, false);
    if (!proxy->window_begun) {
        return;
    }
    window_limit(&proxy->window, instance->options->window_bytes >> atomic_load(&proxy->halvings));
    if (atomic_load(&instance->space_level) >= SPACE_HARD) {
        window_raise(&proxy->window,
                     u64_min(fetch_lowest_visible(instance), proxy->window.newest));
    }
    proxy_published(instance);
    if (evict_floor(proxy->evict) < atomic_load(&instance->window_floor)) {
        instance_republish(instance); // the newest view does not show it yet
    }
}

void proxy_tighten(struct instance *instance, unsigned halvings)
{
    struct proxy *proxy = instance->role_state;
    atomic_store(&proxy->halvings, halvings);
    if (!atomic_exchange(&proxy->tightening, true)) {
        mailbox_post(instance_applier(instance), &proxy->tighten);
    }
}

// ---- applying ----------------------------------------------------------------------------------

static void proxy_put(struct instance *instance, struct store *store, struct store_batch *batch,
                      struct bytes key, const struct record *record)
{
    struct record kept = *record;
    kept.held = record->held && record->length <= instance->options->keep_bytes;
    uint8_t head[STUB_HEAD_MAX];
    size_t size = stub_head(head, &kept, proxy_period(instance));
    const struct bytes keys[2] = {key, bytes_of(NULL, 0)};
    const struct bytes row[2] = {bytes_of(head, size),
                                 kept.held ? record->value : bytes_of(NULL, 0)};
    store_batch_put_parts(batch, store, 0, keys, row);
}

static void put_row(struct instance *instance, struct store_batch *batch,
                    const struct entry *entry, bool keep)
{
    const struct record record = {.version = entry->index,
                                  .length = (uint32_t)entry->value.size,
                                  .check = record_check(entry->index, entry->value),
                                  .held = keep,
                                  .value = entry->value};
    proxy_put(instance, instance->store, batch, entry->key, &record);
}

// Nothing is claimed of the new store but what will arrive: of another history it may stand lower
// than what was given up of the one before.
static void proxy_replaced(struct instance *instance, uint64_t index)
{
    struct proxy *proxy = instance->role_state;
    proxy->window_begun = false;
    atomic_store(&instance->window_floor, index);
    evict_show(proxy->evict, index);
}

static int proxy_apply(struct instance *instance, const struct block *block,
                       struct store_batch *batch)
{
    struct proxy *proxy = instance->role_state;
    uint64_t bytes = 0, refused = 0;
    bool keep = space_takes(instance, block->raw.size + block->stored.size);
    struct block_walk walk;
    struct entry entry;
    block_walk_start(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        if (entry.op == ENTRY_PUT) {
            put_row(instance, batch, &entry, keep);
            bytes += entry.value.size;
            refused += keep ? 0 : 1;
        } else {
            store_batch_delete(batch, instance->store, 0, entry.key);
        }
    }
    begin_window(instance, block->header.first_index - 1);
    // A block that is tried again, after the disk was full, is in the window already.
    if (block_end(&block->header) > proxy->window.newest) {
        window_add(&proxy->window, block_end(&block->header), bytes, clock_mono_ns());
    }
    if (!keep) {
        METRIC_ADD(instance->metrics, instance, values_refused, refused);
        window_raise(&proxy->window, block_end(&block->header));
        move_window(proxy); // the view of this very block must not promise them
    }
    return OK;
}

const struct role *proxy_role(void)
{
    static const struct role role = {
        .families = {"default"},
        .family_count = 1,
        .open = proxy_open,
        .close = proxy_close,
        .filter = proxy_filter,
        .decode = stub_decode,
        .apply = proxy_apply,
        .put = proxy_put,
        .replaced = proxy_replaced,
        .published = proxy_published,
        .hand = hand_step,
        .touch = proxy_touch,
        .fetch = fetch_read,
        .past = recall_read,
        .past_range = recall_range,
    };
    return &role;
}
