// SPDX-License-Identifier: Apache-2.0
// What a proxy's view promises: every value newer than its window floor is held by the rows that it
// shows. Above the hard limit none is kept, and the evictor takes what it is let: neither may be
// more than the newest view has given up.
#include "tests/unit/instance_fixture.h"

#include "common/core/readers.h"
#include "proxy/evict.h"
#include "proxy/proxy.h"
#include "proxy/stub.h"

#define NO_DISK_BYTES ((uint64_t)1 << 60) // no disk has as much free

static void check_promise(const struct view *view, const struct model *model)
{
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_version *version = model_at(&model->keys[i], view->place.index);
        struct store_value row = {0};
        if (version == NULL || version->version <= view->window_floor) {
            continue;
        }
        struct record record;
        assert_int_equal(store_get(view->store, view->snapshot, 0, model_name(&model->keys[i]),
                                   STORE_ANY, &row),
                         OK);
        assert_int_equal(stub_decode(row.data, &record), OK);
        assert_true(record.held);
        store_value_release(&row);
    }
}

static void proxy_of(struct test_node *node, struct test_instance *at)
{
    test_node_open(node);
    at->options.keep_bytes = MIB;
    test_instance_open(node, at, proxy_role());
}

static void close_all(struct test_node *node, struct test_instance *at, struct model *model)
{
    test_node_stop(node);
    assert_int_equal(instance_close(at->instance), INSTANCE_CLOSED);
    test_instance_end(at);
    model_close(model);
    test_node_close(node);
}

// Whatever the level, the view of each block promises no more than is there.
static void test_refused_values(void **unused)
{
    (void)unused;
    for (unsigned hard = 0; hard < 2; hard++) {
        struct test_node node;
        struct test_instance at = {.options = test_options("zones", ROLE_PROXY)};
        struct model model;
        at.options.cache.hard_limit = hard ? NO_DISK_BYTES : 0;
        proxy_of(&node, &at);
        model_open(&model, 5);
        for (unsigned i = 0; i < 20; i++) {
            struct block *block = model_block(&model, 3);
            test_feed(&at, block);
            struct view *view = test_view(&at, block_end(&block->header));
            assert_int_equal(METRIC_GET(at.metrics, instance, values_refused) > 0, hard);
            assert_int_equal(view->window_floor >= view->place.index, hard);
            check_promise(view, &model);
            view_release(view);
            block_release(block);
        }
        close_all(&node, &at, &model);
    }
}

struct again {
    struct task task;
    struct instance *instance;
    uint64_t taken, shown; // by the evictor, by the newest view
    sem_t done;
};

// The applier's own turns do the same where nothing is written: no new view comes in between.
static void publish_again(struct task *task)
{
    struct again *again = CONTAINER_OF(task, struct again, task);
    const struct proxy *proxy = again->instance->role_state;
    for (unsigned i = 0; i < 3; i++) {
        again->instance->role->published(again->instance);
    }
    struct view *view = instance_pin(again->instance);
    again->taken = evict_floor(proxy->evict);
    again->shown = view->window_floor;
    view_release(view);
    sem_post(&again->done);
}

// With a window of no length its floor is always ahead of the views.
static void test_evictor_waits_for_the_view(void **unused)
{
    (void)unused;
    struct test_node node;
    struct test_instance at = {.options = test_options("zones", ROLE_PROXY)};
    struct model model;
    at.options.window = 0;
    proxy_of(&node, &at);
    model_open(&model, 6);
    bool moved = false;
    for (unsigned i = 0; i < 10; i++) {
        struct block *block = model_block(&model, 3);
        test_feed(&at, block);
        view_release(test_view(&at, block_end(&block->header)));
        block_release(block);
        struct again again = {.task.run = publish_again, .instance = at.instance};
        sem_init(&again.done, 0, 0);
        mailbox_post(instance_applier(at.instance), &again.task);
        sem_wait(&again.done);
        sem_destroy(&again.done);
        assert_true(again.taken <= again.shown);
        moved = moved || again.taken > 0;
    }
    assert_true(moved);
    close_all(&node, &at, &model);
}

struct change {
    struct task task;
    struct instance *instance;
    struct store *store; // the other one
    uint64_t index;      // where it stands
    uint64_t floor, taken;
    sem_t done;
};

// What comes between the change and the first view of the new store: turns without a block.
static void change_store(struct task *task)
{
    struct change *change = CONTAINER_OF(task, struct change, task);
    struct instance *instance = change->instance;
    const struct proxy *proxy = instance->role_state;
    struct store *before = atomic_exchange(&instance->store, change->store);
    instance->role->replaced(instance, change->index);
    instance->role->published(instance);
    change->floor = atomic_load(&instance->window_floor);
    change->taken = evict_floor(proxy->evict);
    atomic_store(&instance->store, before);
    sem_post(&change->done);
}

// A store taken into use, which stands before or behind what is shown: until it is shown itself,
// its floor is its index, and the evictor takes nothing newer.
static void test_change_of_stores(void **unused)
{
    (void)unused;
    struct test_node node;
    struct test_instance at = {.options = test_options("zones", ROLE_PROXY)};
    struct model model;
    struct volume *other;
    at.options.window = 0;
    proxy_of(&node, &at);
    model_open(&model, 7);
    for (unsigned i = 0; i < 10; i++) {
        struct block *block = model_block(&model, 3);
        test_feed(&at, block);
        view_release(test_view(&at, block_end(&block->header)));
        block_release(block);
    }
    assert_int_equal(instance_open_volume(at.instance, 7, &other), OK);
    static const int64_t steps[] = {100, 0, -25};
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        uint64_t index = (uint64_t)((int64_t)model.index + steps[i]);
        struct change change = {.task.run = change_store,
                                .instance = at.instance,
                                .store = other->store,
                                .index = index};
        sem_init(&change.done, 0, 0);
        mailbox_post(instance_applier(at.instance), &change.task);
        sem_wait(&change.done);
        sem_destroy(&change.done);
        assert_int_equal(change.floor, index);
        assert_true(change.taken <= index);
    }
    assert_true(volume_close(other));
    close_all(&node, &at, &model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_values),
        cmocka_unit_test(test_evictor_waits_for_the_view),
        cmocka_unit_test(test_change_of_stores),
    };
    return cmocka_run_group_tests_name("promise", tests, NULL, NULL);
}
