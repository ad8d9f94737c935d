// SPDX-License-Identifier: Apache-2.0
// What fetching does with much to fetch and with replicas that fail: slices, hedges, quarantine,
// budget, and how far a proxy gives up its window. The rules alone are in pool_test.c.
#include "tests/unit/fetch_fixture.h"

#include "common/core/space.h"
#include "proxy/fetcher.h"

// ---- slices ------------------------------------------------------------------------------------

static void tune_one(struct instance_options *options) { options->fetch_max = 1; }
static void tune_two(struct instance_options *options) { options->fetch_max = 8; }
static void tune_three(struct instance_options *options) { options->fetch_max = 13; }

// One read may miss more than fetch_max: it fetches in slices.
static void test_slices(void **state)
{
    (void)state;
    void (*const tunes[])(struct instance_options *) = {tune_one, tune_two, tune_three};
    for (unsigned i = 0; i < ARRAY_LEN(tunes); i++) {
        struct scene scene;
        scene_tune = tunes[i];
        scene_open(&scene, 5000, 2, honest);
        scene_tune = NULL;
        feed(&scene, 20, true, true);
        assert_int_equal(read_all(&scene, OK), live_keys(&scene));
        assert_int_equal(COUNTED(&scene, fetch_sent), live_keys(&scene));
        scene_close(&scene);
    }
}

// A read whose first slice fails asks for nothing more.
static void test_failed_slice(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {SAYS_GONE, SAYS_GONE};
    scene_tune = tune_two;
    scene_open(&scene, 5000, 1, tricks);
    scene_tune = NULL;
    feed(&scene, 20, true, true);
    assert_true(live_keys(&scene) > 2);
    assert_int_equal(read_all(&scene, ERR_GONE), 0);
    assert_int_equal(COUNTED(&scene, fetch_sent), 2);
    assert_int_equal(COUNTED(&scene, fetch_failed), live_keys(&scene));
    scene_close(&scene);
}

// Beyond fetch_max values under way a new read is refused, and said to be.
static void test_busy(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {KEEPS_SILENT, KEEPS_SILENT};
    scene_tune = tune_one;
    scene_open(&scene, 300, 1, tricks);
    scene_tune = NULL;
    feed(&scene, 20, true, true);
    unsigned one = 0;
    while (model_at(&scene.model.keys[one], UINT64_MAX) == NULL) {
        one++;
    }
    struct reading first, second;
    reading_start(&scene, &first, instance_pin(scene.proxy.instance), one + 1);
    while (atomic_load(&scene.doors[0].asked) == 0) {
        sched_yield();
    }
    reading_start_at(&scene, &second, instance_pin(scene.proxy.instance), one + 1,
                     MODEL_KEYS - one - 1);
    assert_int_equal(reading_end(&scene, &second, ERR_BUSY), 0);
    assert_int_equal(reading_end(&scene, &first, ERR_UNAVAILABLE), 0);
    assert_int_equal(COUNTED(&scene, fetch_failed), 1);
    scene_close(&scene);
}

// ---- hedges, quarantine, budget ----------------------------------------------------------------

static void tune_hedge(struct instance_options *options) { options->hedge = 5; }

// The first does not answer; long before that counts as an error the second has. The first's own
// answer comes when nobody waits any more, and is dropped, lies and all.
static void test_hedge(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {HONEST, HOLDS_BACK};
    scene_tune = tune_hedge;
    scene_open(&scene, 60000, 2, tricks);
    scene_tune = NULL;
    feed(&scene, 20, true, true);
    unsigned live = live_keys(&scene);
    assert_int_equal(read_all(&scene, OK), live);
    assert_int_equal(COUNTED(&scene, fetch_sent), 2 * live);
    assert_int_equal(COUNTED(&scene, fetch_hedged), live);
    assert_int_equal(COUNTED(&scene, fetch_hedges_won), live);
    test_on_loop(&scene.node, door_release, &scene.doors[1]);
    while (COUNTED(&scene, fetch_wasted) < live) {
        sched_yield();
    }
    assert_int_equal(COUNTED(&scene, fetch_bad), 0);
    assert_int_equal(COUNTED(&scene, fetch_timeouts), 0);
    scene_close(&scene);
}

// A refusal of one does not end what the other is still asked for.
static void test_hedge_refused(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {SAYS_NEVER, HOLDS_BACK};
    scene_tune = tune_hedge;
    scene_open(&scene, 60000, 2, tricks);
    scene_tune = NULL;
    feed(&scene, 20, true, true);
    struct reading reading;
    reading_start(&scene, &reading, instance_pin(scene.proxy.instance), MODEL_KEYS);
    while (COUNTED(&scene, fetch_never) < live_keys(&scene)) {
        sched_yield();
    }
    assert_int_equal(COUNTED(&scene, fetch_failed), 0);
    // The first hangs up now: one said never and one nothing, which is no divergence.
    atomic_store(&scene.doors[0].trick, HONEST);
    test_on_loop(&scene.node, door_stop, &scene.doors[0]);
    test_on_loop(&scene.node, door_stop, &scene.doors[1]);
    door_open(&scene.node, &scene.replica, &scene.doors[0], "door0", HONEST);
    assert_int_equal(reading_end(&scene, &reading, OK), live_keys(&scene));
    scene_close(&scene);
}

static bool stands(struct scene *scene, unsigned door, const char *text)
{
    struct replica_status status[DOORS];
    assert_int_equal(fetch_status(scene->proxy.instance, status, DOORS), DOORS);
    return strcmp(status[door].state, text) == 0;
}

// Two missing values for each read, so that both replicas are asked.
static void test_quarantine(void **state)
{
    (void)state;
    const enum trick cases[] = {LIES, HANGS_UP};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene scene;
        const enum trick tricks[DOORS] = {HONEST, cases[i]};
        scene_open(&scene, 60000, 2, tricks);
        while (COUNTED(&scene, fetch_quarantines) == 0) {
            feed(&scene, 1, true, true);
            read_all(&scene, OK);
        }
        // A probe finds it well again.
        atomic_store(&scene.doors[1].trick, SAYS_BEHIND);
        while (!stands(&scene, 1, "ready")) {
            feed(&scene, 1, true, true);
            read_all(&scene, OK);
        }
        assert_true(COUNTED(&scene, fetch_probes) >= 1);
        assert_true(stands(&scene, 0, "ready"));
        scene_close(&scene);
    }
}

// One that never answers is left, and tried again.
static void test_silent_ones_are_left(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {KEEPS_SILENT, KEEPS_SILENT};
    scene_open(&scene, 30, 2, tricks);
    feed(&scene, 20, true, true);
    while (atomic_load(&scene.doors[0].greeted) < 3 || atomic_load(&scene.doors[1].greeted) < 3) {
        assert_int_equal(read_all(&scene, ERR_UNAVAILABLE), 0);
    }
    scene_close(&scene);
}

// One that was behind is asked again though the other, asked after it, never answers.
static void test_behind_and_silent(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {KEEPS_SILENT, SAYS_BEHIND};
    scene_open(&scene, 15000, 2, tricks); // a third of that goes by until the other one is late
    feed(&scene, 20, true, true);
    struct reading reading;
    reading_start(&scene, &reading, instance_pin(scene.proxy.instance), MODEL_KEYS);
    unsigned live = live_keys(&scene);
    while (COUNTED(&scene, fetch_behind) < live || atomic_load(&scene.doors[0].asked) < live) {
        sched_yield();
    }
    test_on_loop(&scene.node, door_stop, &scene.doors[1]);
    door_open(&scene.node, &scene.replica, &scene.doors[1], "door1", HONEST);
    assert_int_equal(reading_end(&scene, &reading, OK), live);
    scene_close(&scene);
}

static void one_request(struct instance_options *options)
{
    options->replica_requests = 1;
    options->fetch_max = 1;
}

static unsigned live_key(const struct scene *scene, unsigned from)
{
    while (model_at(&scene->model.keys[from], UINT64_MAX) == NULL) {
        from++;
    }
    return from;
}

// A read whose first slice fails only because the replica that it waited for went away ends too.
static void test_slice_fails_by_a_loss(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {SAYS_GONE, KEEPS_SILENT};
    scene_tune = one_request;
    scene_open(&scene, 600, 2, tricks);
    scene_tune = NULL;
    feed(&scene, 20, true, true);
    // The silent one is busy from now on, for much longer than this read waits.
    struct reading reading;
    unsigned first = live_key(&scene, 0);
    reading_start_at(&scene, &reading, instance_pin(scene.proxy.instance), first, 1);
    reading_end(&scene, &reading, ERR_UNAVAILABLE);
    uint64_t gone = COUNTED(&scene, fetch_gone);
    reading_start_at(&scene, &reading, instance_pin(scene.proxy.instance), first + 1,
                     MODEL_KEYS - first - 1);
    while (COUNTED(&scene, fetch_gone) == gone) {
        sched_yield();
    }
    test_on_loop(&scene.node, door_stop, &scene.doors[1]);
    assert_int_equal(reading_end(&scene, &reading, ERR_GONE), 0);
    scene_close(&scene);
}

static void tune_budget(struct instance_options *options)
{
    options->fetch_rate = 100000;
    options->fetch_burst = 1024;
    options->fetch_requests = 1;
    options->fetch_bytes = 100;
}

// Beyond the budget misses wait their turn, and all come.
static void test_waits_for_the_budget(void **state)
{
    (void)state;
    struct scene scene;
    scene_tune = tune_budget;
    scene_open(&scene, 60000, 2, honest);
    scene_tune = NULL;
    feed(&scene, 20, true, true);
    struct reading readings[12];
    for (unsigned i = 0; i < ARRAY_LEN(readings); i++) {
        struct view *view = instance_pin(scene.proxy.instance);
        reading_start_at(&scene, &readings[i], view, 2 * i, 2);
    }
    unsigned given = 0;
    for (unsigned i = 0; i < ARRAY_LEN(readings); i++) {
        given += reading_end(&scene, &readings[i], OK);
    }
    assert_int_equal(given, live_keys(&scene));
    assert_true(COUNTED(&scene, fetch_waited) > 0);
    assert_int_equal(fetch_lowest_visible(scene.proxy.instance), scene.model.index);
    scene_close(&scene);
}

struct under_way {
    struct scene *scene;
    uint64_t requests;
};

static void count_requests(void *argument)
{
    struct under_way *counting = argument;
    const struct proxy *proxy = counting->scene->proxy.instance->role_state;
    counting->requests = proxy->fetcher->budget.requests;
}

// A request that is not answered in time gives its place among those under way to others.
static void test_late_one_gives_way(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {KEEPS_SILENT};
    scene_open(&scene, 300, 1, tricks);
    feed(&scene, 20, true, true);
    struct reading reading;
    unsigned first = live_key(&scene, 0);
    reading_start_at(&scene, &reading, instance_pin(scene.proxy.instance), first, 1);
    assert_int_equal(reading_end(&scene, &reading, ERR_UNAVAILABLE), 0);
    while (COUNTED(&scene, fetch_timeouts) == 0) {
        sched_yield();
    }
    struct under_way counting = {.scene = &scene, .requests = UINT64_MAX};
    test_on_loop(&scene.node, count_requests, &counting);
    assert_int_equal(counting.requests, 0);
    scene_close(&scene);
}

static void tighten(void *argument)
{
    struct instance *instance = argument;
    atomic_store(&instance->space_level, SPACE_HARD);
    proxy_tighten(instance, 0);
}

static void nothing(void *argument) { (void)argument; }

static void on_applier(struct instance *instance, void (*run)(void *argument))
{
    struct test_task call = {.task.run = test_task_run, .run = run, .argument = instance};
    sem_init(&call.finished, 0, 0);
    mailbox_post(instance_applier(instance), &call.task);
    sem_wait(&call.finished);
    sem_destroy(&call.finished);
}

// Above the hard limit the window is given up as far as a replica has come, and no further: what is
// newer could not be fetched.
static void test_window_given_up(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 60000, 1, honest);
    feed(&scene, 20, true, true);
    assert_int_equal(read_all(&scene, OK), live_keys(&scene));
    uint64_t reported = scene.model.index;
    assert_int_equal(fetch_lowest_visible(scene.proxy.instance), reported);
    feed(&scene, 20, false, true);
    assert_int_equal(atomic_load(&scene.proxy.instance->window_floor), 0);
    on_applier(scene.proxy.instance, tighten);
    on_applier(scene.proxy.instance, nothing); // behind what the first has posted
    assert_int_equal(atomic_load(&scene.proxy.instance->window_floor), reported);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_late_one_gives_way),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_failed_slice),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_hedge),
        cmocka_unit_test(test_hedge_refused),
        cmocka_unit_test(test_quarantine),
        cmocka_unit_test(test_silent_ones_are_left),
        cmocka_unit_test(test_waits_for_the_budget),
        cmocka_unit_test(test_behind_and_silent),
        cmocka_unit_test(test_slice_fails_by_a_loss),
        cmocka_unit_test(test_window_given_up),
    };
    return cmocka_run_group_tests_name("fetch_load", tests, NULL, NULL);
}
