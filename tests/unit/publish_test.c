// SPDX-License-Identifier: Apache-2.0
// The order around the publication of a view: the filter knows the new keys and the store holds the
// rows before, and nobody is woken before. The publication is wrapped by the linker: at that very
// moment all of it is looked at; or it is left out.
#include "tests/unit/walk_fixture.h"

#include "common/core/state.h"
#include "proxy/proxy.h"
#include "replica/replica.h"

#define BLOCKS 40
#define UNSHOWN 8

static struct scene {
    struct test_node node;
    struct test_instance at;
    struct model model;
    struct index_waiter waiter;
    sem_t woken;
    _Atomic unsigned published, kept_back;
    _Atomic bool keep_back; // views are not shown, as those that a replay does not make
    struct view *unshown[UNSHOWN];
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
    if (atomic_load(&scene.keep_back)) {
        CHECK(atomic_load(&scene.kept_back) < UNSHOWN);
        scene.unshown[atomic_load(&scene.kept_back)] = view;
        atomic_fetch_add(&scene.kept_back, 1);
        return;
    }
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

static void scene_open(const struct role *role, int kind)
{
    memset(&scene, 0, sizeof scene);
    scene.at.options = test_options("zones", kind);
    scene.at.options.keep_bytes = MIB;
    test_node_open(&scene.node);
    test_instance_open(&scene.node, &scene.at, role);
    model_open(&scene.model, 7);
}

static void scene_close(void)
{
    test_node_stop(&scene.node);
    assert_int_equal(instance_close(scene.at.instance), INSTANCE_CLOSED);
    test_instance_end(&scene.at);
    model_close(&scene.model);
    test_node_close(&scene.node);
}

static void follow(const struct role *role, int kind)
{
    scene_open(role, kind);
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
    scene_close();
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

// A walk begins when blocks are applied that no view shows. The filter that it builds was not there
// when they came, and the view that the walk reads does not hold their keys.
static void test_built_behind_the_views(void **unused)
{
    (void)unused;
    struct driver driver;
    scene_open(replica_role(), ROLE_REPLICA);
    scene.waiter = (struct index_waiter){.index = UINT64_MAX, .loop = scene.node.loop};
    instance_wait(scene.at.instance, &scene.waiter);
    driver_open(&driver, &scene.at);
    feed_random(&scene.at, &scene.model, 1);
    atomic_store(&scene.keep_back, true);
    for (unsigned i = 0; i < UNSHOWN; i++) {
        struct block *block = model_block(&scene.model, 3);
        test_feed(&scene.at, block);
        block_release(block);
    }
    while (atomic_load(&scene.kept_back) < UNSHOWN) {
        sched_yield();
    }
    driver_begin(&driver, &scene.at);
    unsigned before = atomic_load(&scene.published);
    atomic_store(&scene.keep_back, false);
    while (walk_going(scene.at.instance->walk)) {
        driver_slice(&driver, &scene.at, 3);
    }
    assert_int_equal(walk_error(scene.at.instance->walk), OK);
    while (atomic_load(&scene.published) == before) {
        sched_yield();
    }
    assert_true(instance_wait_cancel(scene.at.instance, &scene.waiter));
    for (unsigned i = 0; i < UNSHOWN; i++) {
        view_release(scene.unshown[i]);
    }
    scene_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replica),
        cmocka_unit_test(test_proxy),
        cmocka_unit_test(test_built_behind_the_views),
    };
    return cmocka_run_group_tests_name("publish", tests, NULL, NULL);
}
