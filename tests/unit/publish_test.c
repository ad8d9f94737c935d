// SPDX-License-Identifier: Apache-2.0
// The order around the publication of a view: the filter knows the new keys and the store holds the
// rows before, and nobody is woken before. The publication is wrapped by the linker: at that very
// moment all of it is looked at.
#include "tests/unit/instance_fixture.h"

#include "common/core/state.h"
#include "proxy/proxy.h"
#include "replica/replica.h"

#define BLOCKS 40

static struct scene {
    struct test_node node;
    struct test_instance at;
    struct model model;
    struct index_waiter waiter;
    sem_t woken;
    _Atomic unsigned published;
} scene;

static bool is_waiting(void)
{
    pthread_mutex_lock(&scene.at.instance->lock);
    bool waiting = scene.waiter.waiting;
    pthread_mutex_unlock(&scene.at.instance->lock);
    return waiting;
}

// CHECKs: an assertion would end the wrong thread.
static void look(const struct view *view)
{
    struct store_value row;
    struct state state;
    CHECK(store_state(view->store, STORE_ANY, &row) == OK);
    CHECK(state_decode(&state, row.data) == OK);
    store_value_release(&row);
    CHECK(state.place.number == view->place.number && state.place.index == view->place.index);
    CHECK(digest_equal(&state.digest, &view->digest));
    CHECK(view->front != NULL);
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        struct bytes key = model_name(&scene.model.keys[i]);
        const struct model_version *version =
            model_at(&scene.model.keys[i], view->place.index);
        struct store_value pin = {0};
        int error = store_get(view->store, view->snapshot, 0, key, STORE_ANY, &pin);
        struct record record = {0};
        CHECK(error == (version != NULL ? OK : ERR_NOT_FOUND));
        CHECK(version == NULL || !front_absent(view->front, key));
        CHECK(version == NULL || scene.at.instance->role->decode(pin.data, &record) == OK);
        CHECK(version == NULL || record.version == version->version);
        store_value_release(&pin);
    }
    CHECK(is_waiting());
}

void __real_views_publish(struct views *views, struct view *view);
void __wrap_views_publish(struct views *views, struct view *view);
void __wrap_views_publish(struct views *views, struct view *view)
{
    if (view->place.index > 0) {
        look(view);
        atomic_fetch_add(&scene.published, 1);
    }
    __real_views_publish(views, view);
}

static void on_woken(struct task *task)
{
    (void)task;
    sem_post(&scene.woken);
}

static void follow(const struct role *role, int kind)
{
    memset(&scene, 0, sizeof scene);
    scene.at.options = test_options("zones", kind);
    scene.at.options.keep_bytes = MIB;
    test_node_open(&scene.node);
    test_instance_open(&scene.node, &scene.at, role);
    model_open(&scene.model, 7);
    for (unsigned i = 1; i <= BLOCKS; i++) {
        struct block *block = model_block(&scene.model, 3);
        scene.waiter = (struct index_waiter){.index = block_end(&block->header),
                                             .loop = scene.node.loop,
                                             .task.run = on_woken};
        sem_init(&scene.woken, 0, 0);
        instance_wait(scene.at.instance, &scene.waiter);
        test_feed(&scene.at, block);
        sem_wait(&scene.woken);
        sem_destroy(&scene.woken);
        block_release(block);
    }
    assert_int_equal(atomic_load(&scene.published), BLOCKS);
    test_node_stop(&scene.node);
    assert_int_equal(instance_close(scene.at.instance), INSTANCE_CLOSED);
    test_instance_end(&scene.at);
    model_close(&scene.model);
    test_node_close(&scene.node);
}

static void test_replica(void **unused)
{
    (void)unused;
    follow(replica_role(), ROLE_REPLICA);
}

static void test_proxy(void **unused)
{
    (void)unused;
    follow(proxy_role(), ROLE_PROXY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replica),
        cmocka_unit_test(test_proxy),
    };
    return cmocka_run_group_tests_name("publish", tests, NULL, NULL);
}
