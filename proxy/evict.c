// SPDX-License-Identifier: Apache-2.0
#include "proxy/evict.h"

#include <pthread.h>

#include "common/base/buf.h"
#include "common/base/hash.h"
#include "common/base/mem.h"

// Outside of the range that was asked for: read neither in this period nor in the last one.
#define CERTAIN_AGE 2

struct evict {
    const struct recency *recency;
    struct instance_metrics *metrics;
    struct store_filter filter;
    pthread_mutex_t lock; // guards `order` and `keys`
    struct evict_order order;
    struct arena keys; // of the order
    _Atomic uint64_t floor;
    _Atomic uint64_t dropped_bytes;
};

struct pass {
    struct evict *evict;
    struct evict_order order;
    struct arena keys;
    uint64_t floor;
    uint64_t values, bytes; // dropped
    struct buf row;         // the newest changed row
};

// ---- the rule ----------------------------------------------------------------------------------

static bool in_range(const struct evict_order *order, struct bytes key)
{
    return order->ranged && bytes_compare(key, order->lower) >= 0 &&
           (order->upper.size == 0 || bytes_compare(key, order->upper) <= 0);
}

bool evict_goes(const struct evict_order *order, struct bytes key, const struct stub *stub,
                uint64_t floor, unsigned age)
{
    // A value without bytes takes none.
    if (!order->active || !stub->record.held || stub->record.length == 0 ||
        stub->record.version > floor) {
        return false;
    }
    if (in_range(order, key)) {
        return ages_goes(order->limit, age, hash64(key, order->salt));
    }
    return age >= CERTAIN_AGE && age > order->limit.age;
}

// ---- passes ------------------------------------------------------------------------------------

static void copy_order(struct evict_order *to, struct arena *keys, const struct evict_order *from)
{
    *to = *from;
    to->lower = arena_copy(keys, from->lower);
    to->upper = arena_copy(keys, from->upper);
}

static void *pass_begin(void *argument)
{
    struct evict *evict = argument;
    struct pass *pass = mem_zalloc(sizeof *pass);
    pass->evict = evict;
    pass->floor = atomic_load(&evict->floor);
    pthread_mutex_lock(&evict->lock);
    copy_order(&pass->order, &pass->keys, &evict->order);
    pthread_mutex_unlock(&evict->lock);
    return pass;
}

static enum store_verdict pass_judge(void *argument, struct bytes key, struct bytes value,
                                     struct bytes *ret_value)
{
    struct pass *pass = argument;
    struct evict *evict = pass->evict;
    struct stub stub;
    if (stub_parse(value, &stub) != OK || !stub.record.held) {
        return STORE_KEEP; // what is malformed is a reader's to find
    }
    uint16_t period = recency_period(evict->recency);
    unsigned age = recency_age(evict->recency, key, stub.period);
    buf_clear(&pass->row);
    if (evict_goes(&pass->order, key, &stub, pass->floor, age)) {
        struct record bare = stub.record;
        bare.held = false;
        buf_commit(&pass->row,
                   stub_head(buf_reserve(&pass->row, STUB_HEAD_MAX), &bare, stub.period));
        pass->values++;
        pass->bytes += stub.record.length;
    } else if ((uint16_t)(period - age) != stub.period) {
        buf_append_bytes(&pass->row, value);
        store_u16(pass->row.data + stub.head_bytes - sizeof(uint16_t), (uint16_t)(period - age));
    } else {
        return STORE_KEEP;
    }
    *ret_value = buf_bytes(&pass->row);
    return STORE_CHANGE;
}

static void pass_end(void *argument)
{
    struct pass *pass = argument;
    struct evict *evict = pass->evict;
    METRIC_ADD(evict->metrics, instance, values_evicted, pass->values);
    METRIC_ADD(evict->metrics, instance, evicted_bytes, pass->bytes);
    atomic_fetch_add(&evict->dropped_bytes, pass->bytes);
    arena_free(&pass->keys);
    buf_free(&pass->row);
    mem_free(pass);
}

// ---- the rest ----------------------------------------------------------------------------------

struct evict *evict_open(const struct recency *recency, struct instance_metrics *metrics)
{
    struct evict *evict = mem_zalloc(sizeof *evict);
    evict->recency = recency;
    evict->metrics = metrics;
    evict->filter = (struct store_filter){
        .begin = pass_begin, .judge = pass_judge, .end = pass_end, .argument = evict};
    pthread_mutex_init(&evict->lock, NULL);
    return evict;
}

void evict_close(struct evict *evict)
{
    arena_free(&evict->keys);
    pthread_mutex_destroy(&evict->lock);
    mem_free(evict);
}

const struct store_filter *evict_filter(struct evict *evict) { return &evict->filter; }

void evict_set(struct evict *evict, const struct evict_order *order)
{
    struct arena keys = {0}, before;
    struct evict_order copy;
    copy_order(&copy, &keys, order);
    pthread_mutex_lock(&evict->lock);
    before = evict->keys;
    evict->order = copy;
    evict->keys = keys;
    pthread_mutex_unlock(&evict->lock);
    arena_free(&before);
}

void evict_show(struct evict *evict, uint64_t floor) { atomic_store(&evict->floor, floor); }

uint64_t evict_floor(const struct evict *evict) { return atomic_load(&evict->floor); }

uint64_t evict_dropped(const struct evict *evict) { return atomic_load(&evict->dropped_bytes); }
