// SPDX-License-Identifier: Apache-2.0
// A proxy's misses: a proxy beside a real replica and replicas that play tricks, over sockets, in
// one process. Whatever they do, what a read gets is what the log says at its view, or an error.
#include "tests/unit/false_replica.h"

#include "common/core/read.h"
#include "proxy/fetch.h"
#include "proxy/fill.h"
#include "proxy/proxy.h"
#include "replica/replica.h"

// ---- a proxy beside them -----------------------------------------------------------------------

#define DOORS 2

struct scene {
    struct test_node node;
    struct model model;
    struct test_instance replica, proxy;
    struct door doors[DOORS];
    const char *addresses[DOORS + 1];
};

static void feed(struct scene *scene, unsigned blocks, bool replica, bool proxy)
{
    for (unsigned i = 0; i < blocks; i++) {
        struct block *block = model_block(&scene->model, 3);
        if (replica) {
            test_feed(&scene->replica, block);
        }
        if (proxy) {
            test_feed(&scene->proxy, block);
        }
        block_release(block);
    }
    view_release(replica ? test_view(&scene->replica, scene->model.index) : NULL);
    view_release(proxy ? test_view(&scene->proxy, scene->model.index) : NULL);
}

static uint64_t connected(struct scene *scene)
{
    struct replica_status status[DOORS];
    size_t count = fetch_status(scene->proxy.instance, status, DOORS);
    uint64_t found = 0;
    for (size_t i = 0; i < count; i++) {
        found += status[i].connected ? 1 : 0;
    }
    return found;
}

static bool is_usable(enum trick trick) { return trick != REFUSES && trick != OTHER_HISTORY; }

static uint64_t scene_limit = 4096; // fetch_max of the next scene

static void scene_open(struct scene *scene, uint64_t fetch_ms, unsigned doors,
                       const enum trick tricks[DOORS])
{
    memset(scene, 0, sizeof *scene);
    test_node_open(&scene->node);
    model_open(&scene->model, 11);
    scene->replica.options = test_options("same", ROLE_REPLICA);
    char *other = mem_format("%s/proxy", scene->node.directory);
    assert_int_equal(mkdir(other, 0700), 0);
    test_instance_open(&scene->node, &scene->replica, replica_role());
    for (unsigned i = 0; i < doors; i++) {
        char name[16];
        snprintf(name, sizeof name, "door%u", i);
        door_open(&scene->node, &scene->replica, &scene->doors[i], name, tricks[i]);
        scene->addresses[i] = scene->doors[i].text;
    }
    // Of one name with the replica, as on another node: in a directory of its own.
    scene->proxy.options = test_options("same", ROLE_PROXY);
    scene->proxy.options.keep_bytes = 0;
    scene->proxy.options.fetch = fetch_ms;
    scene->proxy.options.fetch_max = scene_limit;
    scene->proxy.options.replicas = scene->addresses;
    scene->node.options.data_dir = other;
    test_instance_open(&scene->node, &scene->proxy, proxy_role());
    scene->node.options.data_dir = scene->node.directory;
    mem_free(other);
    assert_int_equal(fetch_open(scene->proxy.instance), OK);
    unsigned usable = 0;
    for (unsigned i = 0; i < doors; i++) {
        usable += is_usable(tricks[i]) ? 1 : 0;
    }
    while (connected(scene) < usable) {
        sched_yield();
    }
}

struct closing {
    struct mailbox mailbox;
    struct notice notice;
    sem_t woken;
};

static void closing_wake(void *argument) { sem_post(argument); }
static void closing_seen(struct notice *notice) { (void)notice; }

static void close_fetch(struct scene *scene)
{
    struct closing closing = {.mailbox = {.wake = closing_wake, .argument = &closing.woken}};
    sem_init(&closing.woken, 0, 0);
    notice_init(&closing.notice, &closing.mailbox, closing_seen);
    fetch_close(scene->proxy.instance, &closing.notice);
    sem_wait(&closing.woken);
    sem_destroy(&closing.woken);
}

static void scene_close(struct scene *scene)
{
    close_fetch(scene);
    for (unsigned i = 0; i < DOORS; i++) {
        if (scene->doors[i].node != NULL) {
            test_on_loop(&scene->node, door_stop, &scene->doors[i]);
        }
    }
    test_node_stop(&scene->node);
    instance_close(scene->proxy.instance);
    instance_close(scene->replica.instance);
    test_instance_end(&scene->proxy);
    test_instance_end(&scene->replica);
    model_close(&scene->model);
    test_node_close(&scene->node);
}

// ---- reads -------------------------------------------------------------------------------------

struct reading {
    struct task task;
    struct read read;
    struct lookup lookups[MODEL_KEYS];
    unsigned first; // of the model's keys
    sem_t finished;
};

static void reading_done(struct read *read)
{
    sem_post(&CONTAINER_OF(read, struct reading, read)->finished);
}

static void reading_run(struct task *task)
{
    read_start(&CONTAINER_OF(task, struct reading, task)->read);
}

// Starts a read of `count` keys of the model at `view`, which it takes over.
static void reading_start_at(struct scene *scene, struct reading *reading, struct view *view,
                             unsigned first, unsigned count)
{
    *reading = (struct reading){.task.run = reading_run,
                                .read = {.instance = scene->proxy.instance,
                                         .readers = scene->node.readers,
                                         .loop = scene->node.loop,
                                         .view = view,
                                         .lookups = reading->lookups,
                                         .count = count,
                                         .values = true,
                                         .done = reading_done}};
    for (unsigned i = 0; i < count; i++) {
        reading->lookups[i].key = model_name(&scene->model.keys[first + i]);
    }
    reading->first = first;
    sem_init(&reading->finished, 0, 0);
    loop_post(scene->node.loop, &reading->task);
}

static void reading_start(struct scene *scene, struct reading *reading, struct view *view,
                          unsigned count)
{
    reading_start_at(scene, reading, view, 0, count);
}

// Waits for its end. Every key must be what the model says at the view's index, but for those
// values that were missing: these may be `missing` instead (OK: they may not).
static unsigned reading_end(struct scene *scene, struct reading *reading, int missing)
{
    sem_wait(&reading->finished);
    sem_destroy(&reading->finished);
    unsigned given = 0;
    for (unsigned i = 0; i < reading->read.count; i++) {
        const struct lookup *lookup = &reading->lookups[i];
        const struct model_version *expected =
            model_at(&scene->model.keys[reading->first + i], reading->read.view->place.index);
        if (expected == NULL) {
            assert_int_equal(lookup->status, ERR_NOT_FOUND);
        } else if (missing != OK && lookup->status != OK) {
            assert_int_equal(lookup->status, missing);
        } else {
            assert_int_equal(lookup->status, OK);
            assert_int_equal(lookup->record.version, expected->version);
            assert_true(bytes_equal(lookup->record.value,
                                    bytes_of(expected->value, expected->size)));
            given++;
        }
    }
    read_release(&reading->read);
    return given;
}

static unsigned read_all(struct scene *scene, int missing)
{
    struct reading reading;
    reading_start(scene, &reading, instance_pin(scene->proxy.instance), MODEL_KEYS);
    return reading_end(scene, &reading, missing);
}

static unsigned live_keys(const struct scene *scene)
{
    unsigned live = 0;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        live += model_at(&scene->model.keys[i], UINT64_MAX) != NULL ? 1 : 0;
    }
    return live;
}

#define COUNTED(scene, name) METRIC_GET((scene)->proxy.metrics, instance, name)

// ---- tests -------------------------------------------------------------------------------------

static const enum trick honest[DOORS] = {HONEST, HONEST};

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
        scene_close(&scene);
    }
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

// One read may miss more than fetch_max: it fetches in slices.
static void test_slices(void **state)
{
    (void)state;
    for (uint64_t limit = 1; limit <= 16; limit *= 2) {
        struct scene scene;
        scene_limit = limit;
        scene_open(&scene, 5000, 2, honest);
        scene_limit = 4096;
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
    scene_limit = 8;
    scene_open(&scene, 5000, 1, tricks);
    scene_limit = 4096;
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
    scene_limit = 1;
    scene_open(&scene, 300, 1, tricks);
    scene_limit = 4096;
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
    filling->status = fill_row(instance, batch, filling->key, &filling->record);
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
        cmocka_unit_test(test_nobody_helps),
        cmocka_unit_test(test_replica_catches_up),
        cmocka_unit_test(test_replica_lost_and_back),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_failed_slice),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_stale_fills),
        cmocka_unit_test(test_lie_of_the_right_length),
        cmocka_unit_test(test_fills_are_bounded),
    };
    return cmocka_run_group_tests_name("fetch", tests, NULL, NULL);
}
