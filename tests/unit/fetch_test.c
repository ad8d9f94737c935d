// SPDX-License-Identifier: Apache-2.0
// A proxy's misses: whatever replicas do, what a read gets is what the log says at its view, or an
// error; and what came is kept only where it still belongs.
#include "tests/unit/fetch_fixture.h"

#include "proxy/fill.h"

static void test_misses_then_held(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 5000, 2, honest);
    feed(&scene, 20, true, true);
    unsigned live = live_keys(&scene);
    assert_int_equal(read_all(&scene, OK), live);
    assert_int_equal(COUNTED(&scene, fetch_misses), live);
    assert_int_equal(COUNTED(&scene, fetch_sent), live);
    // Once kept, and shown by a new view, nothing is asked again.
    while (COUNTED(&scene, fills) < live) {
        sched_yield();
    }
    uint64_t misses = COUNTED(&scene, fetch_misses);
    do {
        misses = COUNTED(&scene, fetch_misses);
        assert_int_equal(read_all(&scene, OK), live);
    } while (COUNTED(&scene, fetch_misses) != misses);
    assert_int_equal(METRIC_GET(scene.replica.metrics, instance, served),
                     COUNTED(&scene, fetch_sent));
    scene_close(&scene);
}

// Views that the replica has long left, and new ones at once: exact versions from its history.
static void test_old_views(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 5000, 2, honest);
    struct view *views[12];
    for (unsigned i = 0; i < ARRAY_LEN(views); i++) {
        feed(&scene, 2, true, true);
        views[i] = instance_pin(scene.proxy.instance);
    }
    struct reading readings[ARRAY_LEN(views)];
    for (unsigned i = 0; i < ARRAY_LEN(views); i++) {
        reading_start(&scene, &readings[i], views[i], MODEL_KEYS);
    }
    for (unsigned i = 0; i < ARRAY_LEN(views); i++) {
        reading_end(&scene, &readings[i], OK);
    }
    scene_close(&scene);
}

static void test_single_flight(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {KEEPS_SILENT, KEEPS_SILENT};
    scene_open(&scene, 300, 1, tricks);
    feed(&scene, 20, true, true);
    unsigned live = live_keys(&scene);
    enum { READS = 50 };
    static struct reading readings[READS];
    for (unsigned i = 0; i < READS; i++) {
        reading_start(&scene, &readings[i], instance_pin(scene.proxy.instance), MODEL_KEYS);
    }
    for (unsigned i = 0; i < READS; i++) {
        assert_int_equal(reading_end(&scene, &readings[i], ERR_UNAVAILABLE), 0);
    }
    assert_int_equal(COUNTED(&scene, fetch_misses), READS * live);
    assert_int_equal(COUNTED(&scene, fetch_joined), (READS - 1) * live);
    assert_int_equal(atomic_load(&scene.doors[0].asked), live);
    assert_int_equal(COUNTED(&scene, fetch_failed), READS * live);
    scene_close(&scene);
}

// The first of two replicas does not help; the second does.
static void test_next_replica(void **state)
{
    (void)state;
    const enum trick cases[] = {SAYS_BEHIND, SAYS_NEVER, SAYS_GONE, LIES,
                                KEEPS_SILENT, HANGS_UP,  REFUSES,   OTHER_HISTORY};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene scene;
        // The one asked first is number 1.
        const enum trick tricks[DOORS] = {HONEST, cases[i]};
        scene_open(&scene, cases[i] == KEEPS_SILENT ? 300 : 5000, 2, tricks);
        feed(&scene, 20, true, true);
        unsigned live = live_keys(&scene);
        assert_int_equal(read_all(&scene, OK), live);
        assert_int_equal(atomic_load(&scene.doors[1].asked), is_usable(cases[i]) ? live : 0);
        assert_int_equal(COUNTED(&scene, fetch_bad), cases[i] == LIES ? live : 0);
        assert_int_equal(COUNTED(&scene, fetch_never), cases[i] == SAYS_NEVER ? live : 0);
        assert_int_equal(COUNTED(&scene, fetch_gone), cases[i] == SAYS_GONE ? live : 0);
        assert_int_equal(COUNTED(&scene, fetch_behind), cases[i] == SAYS_BEHIND ? live : 0);
        assert_int_equal(COUNTED(&scene, fetch_failed), 0);
        scene_close(&scene);
    }
}

// Lists only the given doors from now on.
static void list_doors(struct scene *scene, const char *first, const char *second)
{
    struct endpoints *list;
    const char *bad, *reason;
    const char *const texts[] = {first, second, NULL};
    assert_int_equal(endpoints_parse(texts, &list, &bad, &reason), OK);
    endpoint_feed_publish(&scene->proxy.instance->replicas, list);
}

static void await_connected(struct scene *scene, uint64_t count)
{
    struct replica_status status[DOORS];
    while (connected(scene) != count ||
           fetch_status(scene->proxy.instance, status, DOORS) != count) {
        sched_yield();
    }
}

// Replicas come and go with the list: one that left it is asked nothing more.
static void test_changing_list(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {HONEST, SAYS_NEVER};
    scene_open(&scene, 5000, 2, tricks);
    list_doors(&scene, scene.addresses[0], NULL);
    await_connected(&scene, 1);
    feed(&scene, 20, true, true);
    assert_int_equal(read_all(&scene, OK), live_keys(&scene));
    assert_int_equal(atomic_load(&scene.doors[1].asked), 0);
    // Another one takes the free number; then the first one goes.
    list_doors(&scene, scene.addresses[0], scene.addresses[1]);
    await_connected(&scene, 2);
    list_doors(&scene, scene.addresses[1], NULL);
    await_connected(&scene, 1);
    feed(&scene, 20, true, true);
    (void)read_all(&scene, ERR_DIVERGED);
    assert_true(atomic_load(&scene.doors[1].asked) > 0);
    // With nobody listed a miss is told at once; and the next list is used.
    list_doors(&scene, NULL, NULL);
    await_connected(&scene, 0);
    (void)read_all(&scene, ERR_UNAVAILABLE);
    list_doors(&scene, scene.addresses[0], NULL);
    await_connected(&scene, 1);
    assert_int_equal(read_all(&scene, OK), live_keys(&scene));
    scene_close(&scene);
}

// A replica that leaves the list while it owes an answer is left when that has come.
static void test_leaving_with_work(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {KEEPS_SILENT, HONEST};
    scene_open(&scene, 400, 1, tricks);
    feed(&scene, 20, true, true);
    struct reading reading;
    reading_start(&scene, &reading, instance_pin(scene.proxy.instance), MODEL_KEYS);
    while (atomic_load(&scene.doors[0].asked) == 0) {
        sched_yield();
    }
    list_doors(&scene, NULL, NULL);
    (void)reading_end(&scene, &reading, ERR_UNAVAILABLE);
    await_connected(&scene, 0);
    scene_close(&scene);
}

// One that is listed again before its answers have come is asked again, by the same link.
static void test_leaving_and_staying(void **state)
{
    (void)state;
    enum { HALF = MODEL_KEYS / 2 };
    struct scene scene;
    const enum trick tricks[DOORS] = {KEEPS_SILENT, HONEST};
    scene_open(&scene, 6000, 2, tricks);
    list_doors(&scene, scene.addresses[0], NULL);
    await_connected(&scene, 1);
    feed(&scene, 20, true, true);
    struct reading silent, again;
    reading_start_at(&scene, &silent, instance_pin(scene.proxy.instance), 0, HALF);
    while (atomic_load(&scene.doors[0].asked) == 0) {
        sched_yield();
    }
    atomic_store(&scene.doors[0].trick, SAYS_GONE);
    list_doors(&scene, NULL, NULL);
    while (COUNTED(&scene, replicas_connected) != 0) {
        sched_yield();
    }
    list_doors(&scene, scene.addresses[0], NULL);
    while (COUNTED(&scene, replicas_connected) != 1) {
        sched_yield();
    }
    reading_start_at(&scene, &again, instance_pin(scene.proxy.instance), HALF, HALF);
    (void)reading_end(&scene, &again, ERR_GONE);
    assert_int_equal(atomic_load(&scene.doors[0].greeted), 1);
    // What it never answers is asked of another one.
    list_doors(&scene, scene.addresses[0], scene.addresses[1]);
    assert_true(reading_end(&scene, &silent, OK) > 0);
    scene_close(&scene);
}

struct forking {
    struct task task;
    struct instance *instance;
    sem_t finished;
};

// On the applier: what is shown becomes that of another history, with the very same rows.
static void fork_history(struct task *task)
{
    struct forking *forking = CONTAINER_OF(task, struct forking, task);
    struct view *shown = instance_pin(forking->instance);
    struct view *view = mem_zalloc(sizeof *view);
    atomic_init(&view->references, 1);
    view->volume = volume_hold(shown->volume);
    view->store = shown->store;
    view->snapshot = store_snapshot(shown->store);
    view->place = shown->place;
    view->digest = shown->digest;
    view->window_floor = shown->window_floor;
    memcpy(view->history, other_history, HISTORY_ID_BYTES);
    view_release(shown);
    views_publish(&forking->instance->views, view);
    sem_post(&forking->finished);
}

// A version of one history is none of another: nobody joins a flight across the change, nobody is
// asked for the one by a link of the other, and who waits at the old view is told.
static void test_fork(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 60000, 1, (const enum trick[DOORS]){KEEPS_SILENT});
    feed(&scene, 20, true, true);
    unsigned live = live_keys(&scene);
    struct view *old = instance_pin(scene.proxy.instance);
    struct reading before, meanwhile, after;
    reading_start(&scene, &before, view_hold(old), MODEL_KEYS);
    while (atomic_load(&scene.doors[0].asked) < live) {
        sched_yield();
    }
    atomic_store(&scene.doors[0].trick, OTHER_GONE);
    struct forking forking = {.task.run = fork_history, .instance = scene.proxy.instance};
    sem_init(&forking.finished, 0, 0);
    mailbox_post(instance_applier(scene.proxy.instance), &forking.task);
    sem_wait(&forking.finished);
    sem_destroy(&forking.finished);
    reading_start(&scene, &after, instance_pin(scene.proxy.instance), MODEL_KEYS);
    reading_start(&scene, &meanwhile, old, MODEL_KEYS);
    assert_int_equal(reading_end(&scene, &before, ERR_UNAVAILABLE), 0);
    assert_int_equal(reading_end(&scene, &meanwhile, ERR_UNAVAILABLE), 0);
    assert_int_equal(reading_end(&scene, &after, ERR_GONE), 0);
    assert_int_equal(COUNTED(&scene, fetch_joined), 0);
    assert_int_equal(COUNTED(&scene, fetch_timeouts), 0);
    assert_int_equal(atomic_load(&scene.doors[0].greeted), 2);
    assert_int_equal(atomic_load(&scene.doors[0].asked), 2 * live);
    scene_close(&scene);
}

static void test_nobody_helps(void **state)
{
    (void)state;
    const struct {
        enum trick trick;
        int status;
    } cases[] = {{SAYS_NEVER, ERR_DIVERGED}, {SAYS_GONE, ERR_GONE}, {SAYS_BEHIND, ERR_UNAVAILABLE},
                 {LIES, ERR_UNAVAILABLE},    {HANGS_UP, ERR_UNAVAILABLE}};
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        struct scene scene;
        const enum trick tricks[DOORS] = {cases[i].trick, cases[i].trick};
        scene_open(&scene, 100, 2, tricks);
        feed(&scene, 20, true, true);
        assert_int_equal(read_all(&scene, cases[i].status), 0);
        assert_int_equal(COUNTED(&scene, fetch_failed), live_keys(&scene));
        assert_int_equal(COUNTED(&scene, fills), 0);
        // A newer view could not help either: a read answers at the one that it began with.
        struct view *old = instance_pin(scene.proxy.instance);
        struct reading reading;
        feed(&scene, 5, true, true);
        reading_start(&scene, &reading, old, MODEL_KEYS);
        assert_int_equal(reading_end(&scene, &reading, cases[i].status), 0);
        scene_close(&scene);
    }
}

// Both sides compare histories, and each is enough: here it is the replica alone that can tell.
static void test_replica_refuses_strangers(void **state)
{
    (void)state;
    struct scene scene;
    struct replica_status status[DOORS] = {{.state = ""}};
    scene_open(&scene, 100, 1, (const enum trick[DOORS]){MISTAKES_US});
    while (strcmp(status[0].state, "refused") != 0) {
        fetch_status(scene.proxy.instance, status, 1);
        assert_false(status[0].connected);
        sched_yield();
    }
    scene_close(&scene);
}

// One that has just begun has no history for a moment: that is no refusal, after which it would be
// tried again seldom.
static void test_replica_begins(void **state)
{
    (void)state;
    struct scene scene;
    struct replica_status status[DOORS] = {{.state = ""}};
    scene_open(&scene, 100, 1, (const enum trick[DOORS]){REFUSES});
    char *directory = mem_format("%s/blank", scene.node.directory);
    assert_int_equal(mkdir(directory, 0700), 0);
    scene.node.options.data_dir = directory;
    scene.blank.options = test_options("same", ROLE_REPLICA);
    test_instance_begin(&scene.node, &scene.blank, replica_role());
    scene.node.options.data_dir = scene.node.directory;
    while (strcmp(status[0].state, "refused") != 0) {
        fetch_status(scene.proxy.instance, status, 1);
        sched_yield();
    }
    scene.doors[0].replica = &scene.blank;
    atomic_store(&scene.doors[0].trick, HONEST);
    while (strcmp(status[0].state, "away") != 0) {
        fetch_status(scene.proxy.instance, status, 1);
        assert_false(status[0].connected);
        sched_yield();
    }
    instance_adopt(scene.blank.instance, test_history);
    while (connected(&scene) == 0) {
        sched_yield();
    }
    scene_close(&scene);
    mem_free(directory);
}

// A replica that is behind is asked again until it has what the proxy shows.
static void test_replica_catches_up(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 10000, 1, honest);
    feed(&scene, 10, true, true);
    struct block *late[5];
    for (unsigned i = 0; i < ARRAY_LEN(late); i++) {
        late[i] = model_block(&scene.model, 3);
        test_feed(&scene.proxy, late[i]);
    }
    struct reading reading;
    reading_start(&scene, &reading, test_view(&scene.proxy, scene.model.index), MODEL_KEYS);
    while (COUNTED(&scene, fetch_behind) == 0) {
        sched_yield();
    }
    for (unsigned i = 0; i < ARRAY_LEN(late); i++) {
        test_feed(&scene.replica, late[i]);
        block_release(late[i]);
    }
    assert_int_equal(reading_end(&scene, &reading, OK), live_keys(&scene));
    scene_close(&scene);
}

static void test_replica_lost_and_back(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {SAYS_BEHIND, SAYS_BEHIND};
    scene_open(&scene, 60, 1, tricks);
    feed(&scene, 20, true, true);
    test_on_loop(&scene.node, door_stop, &scene.doors[0]);
    while (connected(&scene) > 0) {
        sched_yield();
    }
    // In time by the deadline first, then at once.
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(read_all(&scene, ERR_UNAVAILABLE), 0);
    }
    door_open(&scene.node, &scene.replica, &scene.doors[0], "door0", HONEST);
    while (connected(&scene) == 0) {
        sched_yield();
    }
    assert_int_equal(read_all(&scene, OK), live_keys(&scene));
    scene_close(&scene);
}

// ---- fills -------------------------------------------------------------------------------------

struct filling {
    struct task task;
    struct scene *scene;
    struct bytes key;
    struct record record;
    int status;
    sem_t finished;
};

static void on_fill(struct task *task)
{
    struct filling *filling = CONTAINER_OF(task, struct filling, task);
    struct instance *instance = filling->scene->proxy.instance;
    struct store_batch *batch = store_batch_new();
    filling->status = fill_row(instance, batch, filling->key, &filling->record, 0);
    store_batch_free(batch);
    sem_post(&filling->finished);
}

// Fills the value as one of a version that is older by `older`, with its own check.
static int try_fill(struct scene *scene, const struct model_key *key,
                    const struct model_version *version, uint64_t older)
{
    struct bytes value = bytes_of(version->value, version->size);
    struct filling filling = {.task.run = on_fill,
                              .scene = scene,
                              .key = model_name(key),
                              .record = {.version = version->version - older,
                                         .length = (uint32_t)value.size,
                                         .check = record_check(version->version, value),
                                         .held = true,
                                         .value = value}};
    sem_init(&filling.finished, 0, 0);
    mailbox_post(instance_applier(scene->proxy.instance), &filling.task);
    sem_wait(&filling.finished);
    sem_destroy(&filling.finished);
    return filling.status;
}

// A value that comes late never wins over a newer version, nor revives a deleted key.
static void test_stale_fills(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 1000, 0, honest);
    feed(&scene, 60, false, true);
    unsigned fresh = 0, stale = 0, dead = 0;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_key *key = &scene.model.keys[i];
        for (size_t j = 0; j < key->count; j++) {
            bool newest = j + 1 == key->count;
            if (key->versions[j].put) {
                // A check is 32 bits: where it agrees by chance, the version still decides.
                assert_int_equal(try_fill(&scene, key, &key->versions[j], 1), ERR_NOT_FOUND);
                assert_int_equal(try_fill(&scene, key, &key->versions[j], 0),
                                 newest ? OK : ERR_NOT_FOUND);
                fresh += newest ? 1 : 0;
                stale += newest ? 0 : 1;
                dead += !key->versions[key->count - 1].put ? 1 : 0;
            }
        }
    }
    assert_true(fresh > 0 && stale > 0 && dead > 0);
    scene_close(&scene);
}

// A lie of the right length is told by the check alone.
static void test_lie_of_the_right_length(void **state)
{
    (void)state;
    struct scene scene;
    const enum trick tricks[DOORS] = {LIES, LIES};
    scene_open(&scene, 100, 1, tricks);
    builder_reset(&scene.model.builder, 1);
    builder_batch(&scene.model.builder);
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        model_entry(&scene.model, &scene.model.keys[i], true, strlen("a lie"));
    }
    model_batch_end(&scene.model);
    struct block *block = model_finish(&scene.model);
    test_feed(&scene.proxy, block);
    block_release(block);
    view_release(test_view(&scene.proxy, 1));
    assert_int_equal(read_all(&scene, ERR_UNAVAILABLE), 0);
    assert_true(COUNTED(&scene, fetch_bad) >= MODEL_KEYS);
    assert_int_equal(COUNTED(&scene, fills), 0);
    scene_close(&scene);
}

struct pause {
    struct task task;
    sem_t begun, end;
};

static void on_pause(struct task *task)
{
    struct pause *pause = CONTAINER_OF(task, struct pause, task);
    sem_post(&pause->begun);
    sem_wait(&pause->end);
    sem_post(&pause->begun);
}

// Values that wait for a busy applier are bounded; what finds no room is not kept.
static void test_fills_are_bounded(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 1000, 0, honest);
    struct pause pause = {.task.run = on_pause};
    sem_init(&pause.begun, 0, 0);
    sem_init(&pause.end, 0, 0);
    mailbox_post(instance_applier(scene.proxy.instance), &pause.task);
    sem_wait(&pause.begun);
    struct fills fills;
    fills_open(&fills, scene.proxy.instance);
    uint8_t *value = mem_zalloc(MIB);
    const struct record record = {
        .version = 1, .length = MIB, .held = true, .value = bytes_of(value, MIB)};
    for (uint64_t i = 0; i < 2 * FILL_WAITING_MAX / MIB; i++) {
        fills_add(&fills, bytes_text("key"), &record);
        assert_true(atomic_load(&fills.waiting_bytes) <= FILL_WAITING_MAX);
    }
    assert_true(atomic_load(&fills.waiting_bytes) > FILL_WAITING_MAX / 2);
    fills_post(&fills);
    sem_post(&pause.end);
    sem_wait(&pause.begun);
    while (atomic_load(&fills.waiting_bytes) > 0) {
        sched_yield();
    }
    fills_close(&fills);
    mem_free(value);
    sem_destroy(&pause.begun);
    sem_destroy(&pause.end);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_misses_then_held),
        cmocka_unit_test(test_old_views),
        cmocka_unit_test(test_single_flight),
        cmocka_unit_test(test_next_replica),
        cmocka_unit_test(test_changing_list),
        cmocka_unit_test(test_leaving_with_work),
        cmocka_unit_test(test_leaving_and_staying),
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_nobody_helps),
        cmocka_unit_test(test_replica_refuses_strangers),
        cmocka_unit_test(test_replica_begins),
        cmocka_unit_test(test_replica_catches_up),
        cmocka_unit_test(test_replica_lost_and_back),
        cmocka_unit_test(test_stale_fills),
        cmocka_unit_test(test_lie_of_the_right_length),
        cmocka_unit_test(test_fills_are_bounded),
    };
    return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
