// SPDX-License-Identifier: Apache-2.0
// A replica with a table of hot keys, fed from a model that knows what every answer must be.
#ifndef QS_TESTS_UNIT_DISPLAY_FIXTURE_H
#define QS_TESTS_UNIT_DISPLAY_FIXTURE_H

#include "tests/unit/walk_fixture.h"

#include "common/core/display.h"
#include "common/shared/board.h"
#include "replica/record.h"
#include "replica/replica.h"

#define HOT_BYTES 65536

struct scene {
    struct test_node node;
    struct test_instance at;
    struct model model; // all of it is known before readers begin
    struct driver driver;
    _Atomic bool over;
    _Atomic uint64_t absent, values, maps, own;
};

static inline void scene_open_as(struct scene *scene, uint64_t seed, const struct role *role)
{
    *scene = (struct scene){0};
    test_node_open(&scene->node);
    scene->at.options = test_options("shared", ROLE_REPLICA);
    scene->at.options.share_memory = 1;
    scene->at.options.hot_bytes = HOT_BYTES;
    model_open(&scene->model, seed);
    test_instance_open(&scene->node, &scene->at, role);
    driver_open(&scene->driver, &scene->at);
}

static inline void scene_open(struct scene *scene, uint64_t seed)
{
    scene_open_as(scene, seed, replica_role());
}

static inline void scene_close(struct scene *scene)
{
    assert_int_equal(instance_close(scene->at.instance), INSTANCE_CLOSED);
    test_node_stop(&scene->node);
    test_instance_end(&scene->at);
    test_node_close(&scene->node);
    model_close(&scene->model);
}

// As model_at, for keys with thousands of versions.
static inline const struct model_version *version_at(const struct model_key *key, uint64_t index)
{
    size_t low = 0, high = key->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (key->versions[middle].version <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    const struct model_version *found = low > 0 ? &key->versions[low - 1] : NULL;
    return found != NULL && found->put ? found : NULL;
}

// What a read at this view brings about.
static inline void note(struct scene *scene, const struct view *view, struct bytes key)
{
    struct store_value row = {0};
    struct record record;
    int code = store_get(view->store, view->snapshot, 0, key, STORE_ANY, &row);
    CHECK(code == ERR_NOT_FOUND || code == OK);
    CHECK(code != OK || replica_record_decode(row.data, &record) == OK);
    if (code == OK || !front_absent(view->front, key)) {
        display_note(scene->at.instance->display, view, key, code == OK ? &record : NULL);
    }
    store_value_release(&row);
}

static inline struct model_key *present_key(struct model *model)
{
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        if (model_at(&model->keys[i], UINT64_MAX) != NULL) {
            return &model->keys[i];
        }
    }
    return NULL;
}

static inline struct block *one_entry(struct model *model, struct model_key *key, bool put)
{
    builder_reset(&model->builder, model->index + 1);
    builder_batch(&model->builder);
    model_entry(model, key, put, 5);
    model_batch_end(model);
    return model_finish(model);
}

// The first view in which the key has another value, a short one.
static inline struct view *change(struct scene *scene, struct model_key *key)
{
    struct block *block = one_entry(&scene->model, key, true);
    test_feed(&scene->at, block);
    block_release(block);
    return test_view(&scene->at, scene->model.index);
}

static inline int look_at(const struct view *view, const struct model_key *key,
                          uint64_t *ret_version)
{
    struct look_answer room;
    struct record record = {0};
    int code = display_look(view, hash128(model_name(key), 0), model_name(key), &record, &room);
    *ret_version = record.version;
    return code;
}

#endif
