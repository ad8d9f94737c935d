// SPDX-License-Identifier: Apache-2.0
// Walks: whatever is written between and within their slices, the sum is the running digest, which
// is that of a naive model; and a store that is not what the log says is found by one walk, on
// either role.
#include "tests/unit/walk_fixture.h"

#include "proxy/proxy.h"
#include "proxy/stub.h"
#include "replica/record.h"
#include "replica/replica.h"

#define SCHEDULES 3000
#define SCHEDULES_A_STORE 250

struct kind {
    int role;
    const struct role *(*functions)(void);
};

static const struct kind kinds[] = {{ROLE_REPLICA, replica_role}, {ROLE_PROXY, proxy_role}};
#define KINDS (sizeof kinds / sizeof kinds[0])

struct scene {
    struct test_node node;
    struct test_instance at;
    struct model model;
    struct driver driver;
};

static void scene_open(struct scene *scene, const struct kind *kind, uint64_t seed)
{
    *scene = (struct scene){0};
    test_node_open(&scene->node);
    scene->at.options = test_options("walked", kind->role);
    scene->at.options.keep_bytes = MIB;
    model_open(&scene->model, seed);
    test_instance_open(&scene->node, &scene->at, kind->functions());
    driver_open(&scene->driver, &scene->at);
}

static void scene_close(struct scene *scene)
{
    test_node_stop(&scene->node);
    assert_int_equal(instance_close(scene->at.instance), INSTANCE_CLOSED);
    test_instance_end(&scene->at);
    test_node_close(&scene->node);
    model_close(&scene->model);
}

static struct digest model_digest(const struct model *model)
{
    struct digest digest = {0};
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_version *version = model_at(&model->keys[i], UINT64_MAX);
        if (version != NULL) {
            digest_add(&digest, version->version, model_name(&model->keys[i]));
        }
    }
    return digest;
}

// No key of the model may look absent in the view, none of its keys be missed by its filter.
static void expect_filter(struct scene *scene)
{
    struct view *view = test_view(&scene->at, scene->model.index);
    assert_non_null(view->front);
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_key *key = &scene->model.keys[i];
        if (model_at(key, view->place.index) != NULL) {
            assert_false(front_absent(view->front, model_name(key)));
        }
    }
    view_release(view);
}

static void run_schedule(struct scene *scene)
{
    struct instance *instance = scene->at.instance;
    uint64_t *seed = &scene->model.seed;
    driver_begin(&scene->driver, &scene->at);
    while (walk_going(instance->walk)) {
        feed_random(&scene->at, &scene->model, test_random(seed) % 3);
        walk_read(instance->walk, 1 + test_random(seed) % 8, UINT64_MAX);
        feed_random(&scene->at, &scene->model, test_random(seed) % 3);
        walk_hand(instance->walk);
        driver_wait(&scene->driver);
    }
    assert_int_equal(walk_error(instance->walk), OK);
    assert_int_equal(atomic_load(&instance->soundness), STORE_PROVEN);
    assert_int_equal(METRIC_GET(scene->at.metrics, instance, walked_index), scene->model.index);
    struct digest expected = model_digest(&scene->model);
    struct view *view = test_view(&scene->at, scene->model.index);
    assert_true(digest_equal(&view->digest, &expected));
    view_release(view);
    expect_filter(scene);
}

static void test_schedules(void **state)
{
    (void)state;
    for (unsigned i = 0; i < SCHEDULES / SCHEDULES_A_STORE; i++) {
        struct scene scene;
        scene_open(&scene, &kinds[i % KINDS], i + 1);
        for (unsigned schedule = 0; schedule < SCHEDULES_A_STORE; schedule++) {
            run_schedule(&scene);
        }
        assert_int_equal(METRIC_GET(scene.at.metrics, instance, walk_mismatches), 0);
        scene_close(&scene);
    }
}

// ---- what a walk must find ---------------------------------------------------------------------

struct fault {
    const char *what;
    int expected;
    void (*make)(struct scene *scene, struct bytes key);
};

static void drop_key(struct scene *scene, struct bytes key) { tamper(&scene->at, key, NULL); }

static void invent_key(struct scene *scene, struct bytes key)
{
    struct bytes row = row_of(&scene->at, key);
    tamper(&scene->at, bytes_text("a key of nobody's"), &row);
    mem_free((void *)row.data);
}

// The newest update of the key is missing: its row is the one before.
static void lose_update(struct scene *scene, struct bytes key)
{
    struct bytes before = row_of(&scene->at, key);
    struct model *model = &scene->model;
    struct model_key *of = NULL;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        of = bytes_equal(model_name(&model->keys[i]), key) ? &model->keys[i] : of;
    }
    builder_reset(&model->builder, model->index + 1);
    builder_batch(&model->builder);
    model_entry(model, of, true, 5);
    model_batch_end(model);
    struct block *block = model_finish(model);
    test_feed(&scene->at, block);
    block_release(block);
    view_release(test_view(&scene->at, model->index));
    tamper(&scene->at, key, &before);
    mem_free((void *)before.data);
}

// The same value with a sound check, under another version.
static void change_version(struct scene *scene, struct bytes key)
{
    struct instance *instance = scene->at.instance;
    struct bytes row = row_of(&scene->at, key);
    struct record record;
    assert_int_equal(instance->role->decode(row, &record), OK);
    record.version++;
    record.check = record_check(record.version, record.value);
    uint8_t changed[64 + MODEL_VALUE_MAX];
    size_t size = instance->options->role == ROLE_PROXY
                      ? stub_head(changed, &record, 0)
                      : replica_record_head(changed, record.version, record.value);
    if (record.value.size > 0) {
        memcpy(changed + size, record.value.data, record.value.size);
    }
    tamper(&scene->at, key, &(struct bytes){.data = changed, .size = size + record.value.size});
    mem_free((void *)row.data);
}

static void flip_value(struct scene *scene, struct bytes key)
{
    struct bytes row = row_of(&scene->at, key);
    ((uint8_t *)row.data)[row.size - 1] ^= 0x10;
    tamper(&scene->at, key, &row);
    mem_free((void *)row.data);
}

static const struct fault faults[] = {
    {"a key dropped", ERR_DIVERGED, drop_key},
    {"a key from nowhere", ERR_DIVERGED, invent_key},
    {"an update not applied", ERR_DIVERGED, lose_update},
    {"a version changed", ERR_DIVERGED, change_version},
    {"a value's byte flipped", ERR_CORRUPT, flip_value},
};

// A key that is there, with a value.
static struct bytes victim(struct scene *scene)
{
    for (;;) {
        struct model_key *key = &scene->model.keys[test_random(&scene->model.seed) % MODEL_KEYS];
        const struct model_version *version = model_at(key, UINT64_MAX);
        if (version != NULL && version->size > 0) {
            return model_name(key);
        }
        feed_random(&scene->at, &scene->model, 1);
    }
}

static void find_fault(const struct kind *kind, const struct fault *fault, uint64_t seed)
{
    struct scene scene;
    scene_open(&scene, kind, seed);
    feed_random(&scene.at, &scene.model, 20);
    uint64_t keys = 1 + seed % 7;
    assert_int_equal(driver_walk(&scene.driver, &scene.at, keys), OK);
    fault->make(&scene, victim(&scene));
    assert_false(atomic_load(&scene.at.instance->suspect));
    assert_int_equal(driver_walk(&scene.driver, &scene.at, keys), fault->expected);
    assert_int_equal(atomic_load(&scene.at.instance->soundness), STORE_UNSOUND);
    assert_true(atomic_load(&scene.at.instance->suspect));
    uint64_t mismatches = METRIC_GET(scene.at.metrics, instance, walk_mismatches);
    uint64_t failures = METRIC_GET(scene.at.metrics, instance, walk_failures);
    assert_int_equal(mismatches, fault->expected == ERR_DIVERGED ? 1 : 0);
    assert_int_equal(failures, fault->expected == ERR_CORRUPT ? 1 : 0);
    scene_close(&scene);
}

static void test_faults(void **state)
{
    (void)state;
    for (unsigned i = 0; i < KINDS; i++) {
        for (unsigned fault = 0; fault < sizeof faults / sizeof faults[0]; fault++) {
            for (uint64_t seed = 1; seed <= 5; seed++) {
                find_fault(&kinds[i], &faults[fault], seed * 100 + fault);
            }
        }
    }
}

// While an instance changes to another store, views are still of the one before: what a walk would
// read there says nothing of the one in use.
static void test_change_of_stores(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, &kinds[0], 1);
    feed_random(&scene.at, &scene.model, 5);
    struct instance *instance = scene.at.instance;
    struct volume *next;
    assert_int_equal(instance_open_volume(instance, 7, &next), OK);
    struct store *before = atomic_exchange(&instance->store, next->store);
    driver_begin(&scene.driver, &scene.at);
    driver_slice(&scene.driver, &scene.at, UINT64_MAX);
    assert_false(walk_going(instance->walk));
    assert_int_equal(walk_error(instance->walk), ERR_STOPPED);
    assert_int_equal(atomic_load(&instance->soundness), STORE_UNPROVEN);
    atomic_store(&instance->store, before);
    assert_true(volume_close(next));
    assert_int_equal(driver_walk(&scene.driver, &scene.at, 3), OK);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedules),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_change_of_stores),
    };
    return cmocka_run_group_tests_name("walk", tests, NULL, NULL);
}
