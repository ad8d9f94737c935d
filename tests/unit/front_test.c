// SPDX-License-Identifier: Apache-2.0
// The front filter of an instance: never a wrong absence, at any view, across generations, restarts
// and damaged files; and where it cannot know, it says nothing.
#include "tests/unit/walk_fixture.h"

#include "common/core/read.h"
#include "replica/replica.h"

#define HEAD_BYTES 128

struct scene {
    struct test_node node;
    struct test_instance at;
    struct model model;
    struct driver driver;
    char *directory; // of the instance
};

static void scene_start(struct scene *scene)
{
    test_instance_open(&scene->node, &scene->at, replica_role());
    driver_open(&scene->driver, &scene->at);
}

static void scene_stop(struct scene *scene)
{
    assert_int_equal(instance_close(scene->at.instance), INSTANCE_CLOSED);
}

static void scene_open(struct scene *scene, uint64_t seed)
{
    *scene = (struct scene){0};
    test_node_open(&scene->node);
    scene->at.options = test_options("front", ROLE_REPLICA);
    scene->directory = mem_format("%s/front", scene->node.directory);
    model_open(&scene->model, seed);
    scene_start(scene);
}

static void scene_close(struct scene *scene)
{
    scene_stop(scene);
    test_node_stop(&scene->node);
    test_instance_end(&scene->at);
    test_node_close(&scene->node);
    model_close(&scene->model);
    mem_free(scene->directory);
}

static bool has_filter(struct scene *scene)
{
    struct view *view = test_view(&scene->at, scene->model.index);
    bool has = view->front != NULL;
    view_release(view);
    return has;
}

// Every key that the view holds may be there, as far as its filter is concerned.
static void expect_no_loss(struct scene *scene, const struct view *view)
{
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_key *key = &scene->model.keys[i];
        if (model_at(key, view->place.index) != NULL) {
            assert_false(front_absent(view->front, model_name(key)));
        }
    }
}

static void expect_filter(struct scene *scene)
{
    struct view *view = test_view(&scene->at, scene->model.index);
    assert_non_null(view->front);
    expect_no_loss(scene, view);
    // And it is of use: of a thousand absent keys at most a few look present.
    unsigned found = 0;
    for (uint64_t i = 0; i < 1000; i++) {
        uint64_t name = test_random(&scene->model.seed);
        found += front_absent(view->front, bytes_of(&name, sizeof name)) ? 0 : 1;
    }
    assert_true(found < 10);
    view_release(view);
}

// ---- views and generations ---------------------------------------------------------------------

#define PINNED 16

// Views of many ages, held over blocks and walks: each keeps what it was given.
static void test_views(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 1);
    struct view *pinned[PINNED] = {0};
    for (unsigned round = 0; round < 300; round++) {
        feed_random(&scene.at, &scene.model, 1 + test_random(&scene.model.seed) % 3);
        if (test_random(&scene.model.seed) % 4 == 0) {
            assert_int_equal(driver_walk(&scene.driver, &scene.at, 5), OK);
        }
        struct view **slot = &pinned[test_random(&scene.model.seed) % PINNED];
        view_release(*slot);
        *slot = test_view(&scene.at, scene.model.index);
        for (unsigned i = 0; i < PINNED; i++) {
            if (pinned[i] != NULL) {
                assert_non_null(pinned[i]->front);
                expect_no_loss(&scene, pinned[i]);
            }
        }
    }
    for (unsigned i = 0; i < PINNED; i++) {
        view_release(pinned[i]);
    }
    scene_close(&scene);
}

static struct model_key *present_key(struct model *model)
{
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        if (model_at(&model->keys[i], UINT64_MAX) != NULL) {
            return &model->keys[i];
        }
    }
    return NULL;
}

static void feed_one(struct scene *scene, struct model_key *key, bool put)
{
    struct model *model = &scene->model;
    builder_reset(&model->builder, model->index + 1);
    builder_batch(&model->builder);
    model_entry(model, key, put, 5);
    model_batch_end(model);
    struct block *block = model_finish(model);
    test_feed(&scene->at, block);
    block_release(block);
    view_release(test_view(&scene->at, model->index));
}

// A view from before a delete must find the key, though the generation that a walk built after it
// has never heard of it; and the newer views must make use of that.
static void test_deleted(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 2);
    feed_random(&scene.at, &scene.model, 5);
    struct model_key *key = present_key(&scene.model);
    struct view *before = test_view(&scene.at, scene.model.index);
    feed_one(&scene, key, false);
    struct view *between = test_view(&scene.at, scene.model.index);
    assert_int_equal(driver_walk(&scene.driver, &scene.at, 5), OK);
    struct view *after = instance_pin(scene.at.instance);
    while (after == between) { // the same index again, with the new generation
        view_release(after);
        sched_yield();
        after = instance_pin(scene.at.instance);
    }
    assert_false(front_absent(before->front, model_name(key)));
    assert_ptr_equal(before->front, between->front);
    assert_ptr_not_equal(after->front, before->front);
    assert_true(front_absent(after->front, model_name(key)));
    // It comes back while the old views are still held.
    feed_one(&scene, key, true);
    struct view *again = test_view(&scene.at, scene.model.index);
    assert_false(front_absent(again->front, model_name(key)));
    view_release(again);
    view_release(after);
    view_release(between);
    view_release(before);
    scene_close(&scene);
}

// A key that comes back behind the cursor of the walk that builds the generation, or before it.
static void test_built_meanwhile(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 3);
    feed_random(&scene.at, &scene.model, 10);
    for (unsigned round = 0; round < 100; round++) {
        struct walk *walk = scene.at.instance->walk;
        driver_begin(&scene.driver, &scene.at);
        while (walk_going(walk)) {
            struct model_key *key =
                &scene.model.keys[test_random(&scene.model.seed) % MODEL_KEYS];
            bool there = model_at(key, UINT64_MAX) != NULL;
            walk_read(walk, 1 + test_random(&scene.model.seed) % 3, UINT64_MAX);
            feed_one(&scene, key, !there);
            if (there || test_random(&scene.model.seed) % 2 == 0) {
                feed_one(&scene, key, there);
            }
            walk_hand(walk);
            driver_wait(&scene.driver);
        }
        assert_int_equal(walk_error(walk), OK);
        feed_random(&scene.at, &scene.model, 1);
        expect_filter(&scene);
    }
    scene_close(&scene);
}

// ---- reading -----------------------------------------------------------------------------------

struct reading {
    struct scene *scene;
    struct read read;
    struct lookup lookups[2];
    sem_t done;
};

static void reading_done(struct read *read)
{
    sem_post(&CONTAINER_OF(read, struct reading, read)->done);
}

static void reading_start(void *argument)
{
    struct reading *reading = argument;
    read_start(&reading->read);
}

static void reading_end(void *argument) { read_release(&((struct reading *)argument)->read); }

// Absent keys are answered by the filter, others by the store, and what came of it is counted.
static void test_reads(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 11);
    feed_random(&scene.at, &scene.model, 5);
    struct model_key *key = present_key(&scene.model);
    struct reading reading = {.scene = &scene};
    sem_init(&reading.done, 0, 0);
    for (unsigned i = 0; i < 100; i++) {
        uint64_t absent = test_random(&scene.model.seed);
        reading.lookups[0] = (struct lookup){.key = bytes_of(&absent, sizeof absent)};
        reading.lookups[1] = (struct lookup){.key = model_name(key)};
        reading.read = (struct read){.instance = scene.at.instance,
                                     .readers = scene.node.readers,
                                     .loop = scene.node.loop,
                                     .view = test_view(&scene.at, scene.model.index),
                                     .lookups = reading.lookups,
                                     .count = 2,
                                     .values = true,
                                     .done = reading_done};
        test_on_loop(&scene.node, reading_start, &reading);
        sem_wait(&reading.done);
        assert_int_equal(reading.lookups[0].status, ERR_NOT_FOUND);
        assert_int_equal(reading.lookups[1].status, OK);
        assert_false(reading.lookups[1].filtered);
        test_on_loop(&scene.node, reading_end, &reading);
    }
    uint64_t filtered = METRIC_GET(scene.at.metrics, instance, reads_filtered);
    assert_int_equal(METRIC_GET(scene.at.metrics, instance, reads_absent), 100);
    assert_in_range(filtered, 95, 100);
    assert_int_equal(METRIC_GET(scene.at.metrics, instance, reads_unfiltered), 100 - filtered);
    scene_close(&scene);
}

// What a generation that went live at an index must not be asked: views below it; and none is asked
// about what it was not told of.
static void test_since(void **state)
{
    (void)state;
    struct instance_options options = test_options("front", ROLE_REPLICA);
    struct front front;
    front_open(&front, &options);
    struct front_generation *building = front_prepare(&options, 10);
    assert_non_null(building);
    front_begin(&front, building);
    struct journal_place place = {.number = 7, .index = 70};
    assert_null(front_for_view(&front, &place));
    front_install(&front, &place, 10);
    for (unsigned number = 6; number <= 8; number++) {
        for (unsigned index = 69; index <= 71; index++) {
            struct front_generation *given = front_for_view(
                &front, &(struct journal_place){.number = number, .index = index});
            assert_ptr_equal(given, number <= 7 && index >= 70 ? building : NULL);
            front_release(given);
        }
    }
    front_release(building);
    front_close(&front);
}

static void test_configured(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 4);
    feed_random(&scene.at, &scene.model, 3);
    scene_stop(&scene);
    scene.at.options.filter_bits = 0;
    scene_start(&scene);
    assert_false(has_filter(&scene));
    assert_int_equal(driver_walk(&scene.driver, &scene.at, 5), OK);
    feed_random(&scene.at, &scene.model, 3);
    assert_false(has_filter(&scene));
    assert_false(instance_front_wanted(scene.at.instance));
    scene_close(&scene);
}

// ---- the file ----------------------------------------------------------------------------------

static void test_restart(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 5);
    for (unsigned round = 0; round < 10; round++) {
        feed_random(&scene.at, &scene.model, 5);
        expect_filter(&scene);
        scene_stop(&scene);
        scene_start(&scene);
        expect_filter(&scene);
        assert_false(instance_front_wanted(scene.at.instance));
    }
    scene_close(&scene);
}

// A generation that a walk built where nothing was written since is saved all the same.
static void test_saved_idle(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 12);
    feed_random(&scene.at, &scene.model, 5);
    instance_save_front(scene.at.instance);
    struct bytes first = test_read_file(scene.directory, "front");
    assert_int_equal(driver_walk(&scene.driver, &scene.at, 5), OK);
    scene_stop(&scene);
    struct bytes second = test_read_file(scene.directory, "front");
    assert_int_equal(load_u64(first.data + 32), 0); // `since`
    assert_int_equal(load_u64(second.data + 32), scene.model.index);
    mem_free((void *)first.data);
    mem_free((void *)second.data);
    scene_start(&scene);
    expect_filter(&scene);
    scene_close(&scene);
}

static uint64_t file_number(const struct scene *scene)
{
    char *path = mem_format("%s/front", scene->directory);
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    mem_free(path);
    return info.st_ino;
}

// A file that is up to date is not written again.
static void test_saved_once(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 6);
    feed_random(&scene.at, &scene.model, 20);
    view_release(test_view(&scene.at, scene.model.index));
    scene_stop(&scene);
    uint64_t saved = file_number(&scene);
    scene_start(&scene);
    assert_true(has_filter(&scene));
    scene_stop(&scene);
    assert_int_equal(file_number(&scene), saved);
    scene_start(&scene);
    feed_random(&scene.at, &scene.model, 1);
    view_release(test_view(&scene.at, scene.model.index));
    scene_stop(&scene);
    assert_int_not_equal(file_number(&scene), saved);
    scene_start(&scene);
    expect_filter(&scene);
    scene_close(&scene);
}

// A crash leaves the file as it was saved last: the log from there on is added at the next start.
static void test_replayed(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 6);
    for (unsigned round = 0; round < 10; round++) {
        feed_random(&scene.at, &scene.model, 1);
        instance_save_front(scene.at.instance);
        struct bytes old = test_read_file(scene.directory, "front");
        feed_random(&scene.at, &scene.model, 1 + round * 3);
        scene_stop(&scene);
        test_write_file(scene.directory, "front", old);
        mem_free((void *)old.data);
        scene_start(&scene);
        expect_filter(&scene);
    }
    scene_close(&scene);
}

// Starts with the given file in place of the one that was saved (no data: without one). Returns
// whether there is a filter.
static bool starts_with(struct scene *scene, struct bytes file)
{
    scene_stop(scene);
    test_write_file(scene->directory, "front", file);
    if (file.data == NULL) {
        char *path = mem_format("%s/front", scene->directory);
        assert_int_equal(unlink(path), 0);
        mem_free(path);
    }
    scene_start(scene);
    bool has = has_filter(scene);
    assert_int_equal(instance_front_wanted(scene->at.instance), !has);
    return has;
}

static void test_damaged(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 7);
    feed_random(&scene.at, &scene.model, 5);
    instance_save_front(scene.at.instance);
    struct bytes sound = test_read_file(scene.directory, "front");
    assert_true(sound.size > HEAD_BYTES);
    assert_true(starts_with(&scene, sound));
    uint8_t *bad = mem_copy(sound.data, sound.size);
    for (unsigned i = 0; i < HEAD_BYTES + 16; i++) {
        size_t at = i < HEAD_BYTES ? i : test_random(&scene.model.seed) % sound.size;
        uint8_t bit = (uint8_t)(1u << (i % 8));
        bad[at] ^= bit;
        assert_false(starts_with(&scene, bytes_of(bad, sound.size)));
        bad[at] ^= bit;
    }
    static const size_t cuts[] = {0, 1, HEAD_BYTES - 1, HEAD_BYTES, HEAD_BYTES + 64};
    for (unsigned i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        assert_false(starts_with(&scene, bytes_of(sound.data, cuts[i])));
    }
    assert_false(starts_with(&scene, bytes_of(sound.data, sound.size - 1)));
    assert_false(starts_with(&scene, bytes_of(NULL, 0)));
    // A walk builds another, and the keys that come meanwhile are in it.
    assert_int_equal(driver_walk(&scene.driver, &scene.at, 5), OK);
    feed_random(&scene.at, &scene.model, 2);
    expect_filter(&scene);
    assert_false(instance_front_wanted(scene.at.instance));
    mem_free(bad);
    mem_free((void *)sound.data);
    scene_close(&scene);
}

// Sound files that do not belong here: of another history, from a place that the journal has
// otherwise or does not have, larger than allowed.
static void test_foreign(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 8);
    feed_random(&scene.at, &scene.model, 5);
    struct view *view = test_view(&scene.at, scene.model.index);
    static const uint8_t other[HISTORY_ID_BYTES] = "another history";
    struct journal_place places[4] = {view->place, view->place, view->place, view->place};
    places[1].chain.low ^= 1;
    places[2].number += 5;
    places[3].index += 1;
    for (unsigned i = 0; i < 4; i++) {
        char *elsewhere = test_mkdir();
        front_save(elsewhere, "test", view->front, &places[i], i == 0 ? other : test_history);
        struct bytes file = test_read_file(elsewhere, "front");
        test_rmdir(elsewhere);
        view_release(view);
        assert_false(starts_with(&scene, file));
        mem_free((void *)file.data);
        assert_int_equal(driver_walk(&scene.driver, &scene.at, 5), OK);
        feed_random(&scene.at, &scene.model, 1);
        view = test_view(&scene.at, scene.model.index);
        assert_non_null(view->front);
    }
    view_release(view);
    scene_stop(&scene);
    scene.at.options.filter_bytes = 64 * KIB;
    scene_start(&scene);
    assert_false(has_filter(&scene));
    scene_close(&scene);
}

// The file is older than the store, and a block between them cannot be read any more.
static void test_gap(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 10);
    feed_random(&scene.at, &scene.model, 5);
    instance_save_front(scene.at.instance);
    struct bytes old = test_read_file(scene.directory, "front");
    feed_random(&scene.at, &scene.model, 5);
    scene_stop(&scene);
    char *journal = mem_format("%s/journal", scene.directory);
    struct test_files *files = test_load(journal);
    assert_int_equal(files->count, 1);
    test_flip(journal, files->names[0], files->contents[0].size - 20, 3); // in the last block
    scene_start(&scene);
    assert_true(has_filter(&scene)); // nothing was missing
    assert_false(starts_with(&scene, old));
    test_files_free(files);
    mem_free(journal);
    mem_free((void *)old.data);
    scene_close(&scene);
}

// One block came into the store by another way: the filter is of no use from there on.
static void test_block_left_out(void **state)
{
    (void)state;
    char *directory = test_mkdir();
    struct instance_options options = test_options("zones", ROLE_REPLICA);
    struct model model;
    struct front front;
    model_open(&model, 12);
    front_open(&front, &options);
    front_load(&front, directory, NULL, &(struct journal_place){0});
    for (uint64_t number = 1; number <= 3; number++) {
        struct block *block = model_block(&model, 2);
        const struct journal_place place = {.number = number, .index = block_end(&block->header)};
        if (number != 2) {
            front_add(&front, block);
        }
        struct front_generation *shown = front_for_view(&front, &place);
        assert_true((shown != NULL) == (number == 1));
        front_release(shown);
        block_release(block);
    }
    assert_true(atomic_load(&front.wanted));
    front_close(&front);
    model_close(&model);
    test_rmdir(directory);
}

// The journal was trimmed beyond the place of the file: what lies between is not to be had.
static void test_trimmed(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 9);
    scene_stop(&scene);
    scene.at.options.segment_bytes = 4096;
    scene.at.options.journal_bytes = 4096;
    scene_start(&scene);
    feed_random(&scene.at, &scene.model, 1);
    instance_save_front(scene.at.instance);
    struct bytes old = test_read_file(scene.directory, "front");
    feed_random(&scene.at, &scene.model, 100);
    struct view *view = test_view(&scene.at, scene.model.index);
    uint64_t number = view->place.number;
    view_release(view);
    assert_int_equal(store_flush(scene.at.instance->store), OK);
    journal_trim(scene.at.instance->journal, number); // nothing else happens to it now
    assert_true(journal_oldest(scene.at.instance->journal).number > 0);
    assert_false(starts_with(&scene, old));
    mem_free((void *)old.data);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_views),   cmocka_unit_test(test_deleted),
        cmocka_unit_test(test_built_meanwhile), cmocka_unit_test(test_configured),
        cmocka_unit_test(test_restart), cmocka_unit_test(test_replayed),
        cmocka_unit_test(test_damaged), cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_trimmed), cmocka_unit_test(test_gap),
        cmocka_unit_test(test_block_left_out),
        cmocka_unit_test(test_reads),   cmocka_unit_test(test_since),
        cmocka_unit_test(test_saved_idle),
        cmocka_unit_test(test_saved_once),
    };
    return cmocka_run_group_tests_name("front", tests, NULL, NULL);
}
