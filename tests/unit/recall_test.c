// SPDX-License-Identifier: Apache-2.0
// A proxy's reads as of an earlier index: whatever replicas do, what a read gets is what the log
// says at that index, or the error that fits; what the proxy can tell by itself needs nobody.
#include "tests/unit/fetch_fixture.h"

#include "proxy/pool.h"

#define BLOCKS 15
#define LAST (3 * BLOCKS)

// All values are held, so that only the past is asked for.
static void hold_all(struct instance_options *options) { options->keep_bytes = MIB; }
static void hold_all_but_few(struct instance_options *options)
{
    hold_all(options);
    options->fetch_max = 2;
}

static void hold_all_and_ask_little(struct instance_options *options)
{
    hold_all(options);
    options->fetch_rate = 1;
    options->fetch_burst = 1024;
}

static void past_scene_open(struct scene *scene, uint64_t fetch_ms, unsigned doors,
                            enum trick first, enum trick second)
{
    const enum trick tricks[DOORS] = {first, second};
    if (scene_tune == NULL) {
        scene_tune = hold_all;
    }
    scene_open(scene, fetch_ms, doors, tricks);
    scene_tune = NULL;
    feed(scene, BLOCKS, true, true);
}

static void start_at(struct scene *scene, struct reading *reading, uint64_t t)
{
    *reading = (struct reading){.task.run = reading_run,
                                .read = {.instance = scene->proxy.instance,
                                         .readers = scene->node.readers,
                                         .loop = scene->node.loop,
                                         .view = instance_pin(scene->proxy.instance),
                                         .lookups = reading->lookups,
                                         .count = MODEL_KEYS,
                                         .at = t,
                                         .values = true,
                                         .done = reading_done}};
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        reading->lookups[i].key = model_name(&scene->model.keys[i]);
    }
    sem_init(&reading->finished, 0, 0);
    loop_post(scene->node.loop, &reading->task);
}

// Keys that have changed since t get `missing`, unless that is OK; all others are told right.
// Returns how many there are.
static unsigned end_at(struct scene *scene, struct reading *reading, uint64_t t, int missing)
{
    sem_wait(&reading->finished);
    sem_destroy(&reading->finished);
    unsigned passed = 0;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct lookup *lookup = &reading->lookups[i];
        const struct model_version *expected = model_at(&scene->model.keys[i], t);
        const struct model_version *now = model_at(&scene->model.keys[i], LAST);
        bool told = now != NULL && now->version <= t;
        passed += told ? 0 : 1;
        if (!told && missing != OK) {
            assert_int_equal(lookup->status, missing);
        } else if (expected == NULL) {
            assert_int_equal(lookup->status, ERR_NOT_FOUND);
        } else {
            assert_int_equal(lookup->status, OK);
            assert_int_equal(lookup->record.version, expected->version);
            assert_true(bytes_equal(lookup->record.value,
                                    bytes_of(expected->value, expected->size)));
        }
    }
    read_release(&reading->read);
    return passed;
}

static unsigned read_at(struct scene *scene, uint64_t t, int missing)
{
    struct reading reading;
    start_at(scene, &reading, t);
    return end_at(scene, &reading, t, missing);
}

// ---- ranges ------------------------------------------------------------------------------------

struct ranging {
    struct task task;
    struct range_read range;
    sem_t finished;
};

static void ranging_run(struct task *task)
{
    range_start(&CONTAINER_OF(task, struct ranging, task)->range);
}

static void ranging_done(struct range_read *range)
{
    sem_post(&CONTAINER_OF(range, struct ranging, range)->finished);
}

static const struct model_key *least_above(const struct scene *scene, struct bytes above,
                                           uint64_t t)
{
    const struct model_key *least = NULL;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_key *key = &scene->model.keys[i];
        bool fits = model_at(key, t) != NULL && bytes_compare(model_name(key), above) > 0;
        if (fits && (least == NULL || bytes_compare(model_name(key), model_name(least)) < 0)) {
            least = key;
        }
    }
    return least;
}

static void range_at(struct scene *scene, uint64_t t, uint64_t limit, int status)
{
    struct ranging ranging = {.task.run = ranging_run,
                              .range = {.read = {.instance = scene->proxy.instance,
                                                 .readers = scene->node.readers,
                                                 .loop = scene->node.loop,
                                                 .view = instance_pin(scene->proxy.instance),
                                                 .at = t,
                                                 .values = true},
                                        .limit = limit,
                                        .done = ranging_done}};
    sem_init(&ranging.finished, 0, 0);
    loop_post(scene->node.loop, &ranging.task);
    sem_wait(&ranging.finished);
    sem_destroy(&ranging.finished);
    struct range_read *range = &ranging.range;
    assert_int_equal(range->status, status);
    struct bytes above = bytes_of(NULL, 0);
    for (unsigned i = 0; i < range->read.count && status == OK; i++) {
        const struct lookup *lookup = &range->read.lookups[i];
        const struct model_key *key = least_above(scene, above, t);
        assert_non_null(key);
        above = model_name(key);
        const struct model_version *expected = model_at(key, t);
        assert_true(bytes_equal(lookup->key, above));
        assert_int_equal(lookup->record.version, expected->version);
        assert_true(
            bytes_equal(lookup->record.value, bytes_of(expected->value, expected->size)));
    }
    if (status == OK) {
        const struct model_key *next = least_above(scene, above, t);
        assert_true(range->read.count == limit || next == NULL);
        assert_int_equal(range->more, next != NULL);
        assert_true(next == NULL || bytes_equal(range->next, model_name(next)));
    }
    range_release(range);
}

// ---- tests -------------------------------------------------------------------------------------

static void test_every_index(void **state)
{
    (void)state;
    struct scene scene;
    past_scene_open(&scene, 5000, 2, HONEST, HONEST);
    for (uint64_t t = 1; t <= LAST; t++) {
        unsigned passed = read_at(&scene, t, OK);
        assert_true(t == LAST || passed > 0);
        range_at(&scene, t, 1 + t % 5, OK);
        range_at(&scene, t, 1000, OK);
    }
    read_at(&scene, LAST, OK);
    struct reading above;
    start_at(&scene, &above, LAST + 1);
    sem_wait(&above.finished);
    assert_int_equal(above.lookups[0].status, ERR_BEHIND);
    read_release(&above.read);
    range_at(&scene, LAST + 1, 10, ERR_BEHIND);
    assert_int_equal(COUNTED(&scene, recalls_failed), 0);
    assert_int_equal(COUNTED(&scene, fetch_misses), 0);
    scene_close(&scene);
}

static void test_next_replica(void **state)
{
    (void)state;
    const enum trick cases[] = {SAYS_BEHIND, SAYS_NEVER,   SAYS_GONE, LIES,
                                HANGS_UP,    KEEPS_SILENT, REFUSES,   OTHER_HISTORY,
                                SAYS_TOO_NEW};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene scene;
        past_scene_open(&scene, cases[i] == KEEPS_SILENT ? 1000 : 5000, 2, HONEST, cases[i]);
        for (uint64_t t = 5; t < LAST; t += 10) {
            read_at(&scene, t, OK);
            range_at(&scene, t, 1000, OK);
        }
        assert_int_equal(COUNTED(&scene, recalls_failed), 0);
        if (is_usable(cases[i])) {
            assert_true(atomic_load(&scene.doors[1].messages) > 0);
        }
        bool lies = cases[i] == LIES || cases[i] == SAYS_TOO_NEW;
        assert_true((COUNTED(&scene, fetch_bad) > 0) == lies);
        scene_close(&scene);
    }
}

static void test_nobody_helps(void **state)
{
    (void)state;
    const struct {
        enum trick first, second;
        int status;
    } cases[] = {
        {SAYS_GONE, SAYS_GONE, ERR_GONE},
        {SAYS_BEHIND, SAYS_BEHIND, ERR_BEHIND},
        {SAYS_GONE, SAYS_BEHIND, ERR_BEHIND},
        {SAYS_GONE, KEEPS_SILENT, ERR_UNAVAILABLE},
        {SAYS_NEVER, SAYS_NEVER, ERR_UNAVAILABLE},
        {LIES, LIES, ERR_UNAVAILABLE},
        {SAYS_TOO_NEW, SAYS_TOO_NEW, ERR_UNAVAILABLE},
        {KEEPS_SILENT, KEEPS_SILENT, ERR_UNAVAILABLE},
        {HANGS_UP, HANGS_UP, ERR_UNAVAILABLE},
        {REFUSES, REFUSES, ERR_UNAVAILABLE},
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene scene;
        bool at_once = cases[i].status == ERR_GONE; // it shall not wait for its limit
        past_scene_open(&scene, at_once ? 3600000 : 150, 2, cases[i].first, cases[i].second);
        assert_true(read_at(&scene, 9, cases[i].status) > 0);
        range_at(&scene, 9, 10, cases[i].status);
        assert_int_equal(COUNTED(&scene, recalls_failed), 2);
        scene_close(&scene);
    }
}

// Who reads a damaged row of the past again and again must not take the replica from all others;
// one that lies is left alone.
static void test_damaged_row(void **state)
{
    (void)state;
    const enum trick cases[] = {SAYS_DAMAGED, LIES};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene scene;
        past_scene_open(&scene, 150, 2, cases[i], cases[i]);
        for (unsigned times = 0; times < 3 * POOL_ERRORS; times++) {
            read_at(&scene, 9, ERR_UNAVAILABLE);
        }
        assert_true((COUNTED(&scene, fetch_quarantines) > 0) == (cases[i] == LIES));
        scene_close(&scene);
    }
}

// Closing ends what is under way, and refuses what comes later.
static void test_closing(void **state)
{
    (void)state;
    struct scene scene;
    past_scene_open(&scene, 3600000, 1, KEEPS_SILENT, KEEPS_SILENT);
    struct reading readings[3];
    for (unsigned i = 0; i < ARRAY_LEN(readings); i++) {
        start_at(&scene, &readings[i], 9 + i);
    }
    while (COUNTED(&scene, recalls) < ARRAY_LEN(readings)) {
        sched_yield();
    }
    close_fetch(&scene);
    for (unsigned i = 0; i < ARRAY_LEN(readings); i++) {
        end_at(&scene, &readings[i], 9 + i, ERR_UNAVAILABLE);
    }
    read_at(&scene, 9, ERR_UNAVAILABLE);
    scene_close(&scene);
}

static void test_too_many(void **state)
{
    (void)state;
    struct scene scene;
    scene_tune = hold_all_but_few;
    past_scene_open(&scene, 3600000, 1, KEEPS_SILENT, KEEPS_SILENT);
    struct reading readings[2];
    for (unsigned i = 0; i < ARRAY_LEN(readings); i++) {
        start_at(&scene, &readings[i], 9);
    }
    while (COUNTED(&scene, recalls) < ARRAY_LEN(readings)) {
        sched_yield();
    }
    read_at(&scene, 9, ERR_BUSY);
    assert_int_equal(COUNTED(&scene, recalls_under_way), ARRAY_LEN(readings));
    close_fetch(&scene);
    assert_int_equal(COUNTED(&scene, recalls_under_way), 0);
    for (unsigned i = 0; i < ARRAY_LEN(readings); i++) {
        end_at(&scene, &readings[i], 9, ERR_UNAVAILABLE);
    }
    scene_close(&scene);
}

// False: some of it was told to be unavailable.
static bool try_at(struct scene *scene, uint64_t t)
{
    struct reading reading;
    start_at(scene, &reading, t);
    sem_wait(&reading.finished);
    sem_destroy(&reading.finished);
    bool available = true;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        available = available && reading.lookups[i].status != ERR_UNAVAILABLE;
    }
    read_release(&reading.read);
    return available;
}

// What is passed on counts as much as what is fetched: once answers have emptied the bucket,
// nothing more is asked.
static void test_budget(void **state)
{
    (void)state;
    struct scene scene;
    scene_tune = hold_all_and_ask_little;
    past_scene_open(&scene, 200, 1, HONEST, HONEST);
    unsigned answers = 0;
    while (answers <= 1024 && try_at(&scene, 9)) {
        answers++;
    }
    assert_in_range(answers, 1, 1024);
    assert_int_equal(COUNTED(&scene, recalls_sent), answers);
    read_at(&scene, 10, ERR_UNAVAILABLE);
    assert_int_equal(COUNTED(&scene, recalls_sent), answers);
    assert_int_equal(COUNTED(&scene, fetch_requests_under_way), 0);
    assert_int_equal(COUNTED(&scene, fetch_bytes_under_way), 0);
    scene_close(&scene);
}

// An answer that does not come is not free either.
static void test_budget_of_silence(void **state)
{
    (void)state;
    struct scene scene;
    scene_tune = hold_all_and_ask_little;
    past_scene_open(&scene, 200, 1, KEEPS_SILENT, KEEPS_SILENT);
    read_at(&scene, 9, ERR_UNAVAILABLE);
    read_at(&scene, 10, ERR_UNAVAILABLE);
    assert_int_equal(COUNTED(&scene, recalls_sent), 1);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_index),  cmocka_unit_test(test_next_replica),
        cmocka_unit_test(test_nobody_helps), cmocka_unit_test(test_damaged_row),
        cmocka_unit_test(test_closing),
        cmocka_unit_test(test_too_many),     cmocka_unit_test(test_budget),
        cmocka_unit_test(test_budget_of_silence),
    };
    return cmocka_run_group_tests_name("recall", tests, NULL, NULL);
}
