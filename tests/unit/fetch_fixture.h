// SPDX-License-Identifier: Apache-2.0
// A scene for tests of fetching: a proxy beside a real replica, behind doors that may play tricks,
// over sockets, in one process; and reads whose answers are compared with the log.
#ifndef QS_TESTS_UNIT_FETCH_FIXTURE_H
#define QS_TESTS_UNIT_FETCH_FIXTURE_H

#include "tests/unit/false_replica.h"

#include "common/core/read.h"
#include "proxy/fetch.h"
#include "proxy/proxy.h"
#include "replica/replica.h"

// ---- a proxy beside them -----------------------------------------------------------------------

#define DOORS 2

struct scene {
    struct test_node node;
    struct model model;
    struct test_instance replica, proxy;
    struct test_instance blank; // a third one, of a test that opens it
    struct door doors[DOORS];
    const char *addresses[DOORS + 1];
};

SUPPORT void feed(struct scene *scene, unsigned blocks, bool replica, bool proxy)
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

SUPPORT uint64_t connected(struct scene *scene)
{
    struct replica_status status[DOORS];
    size_t count = fetch_status(scene->proxy.instance, status, DOORS);
    uint64_t found = 0;
    for (size_t i = 0; i < count; i++) {
        found += status[i].connected ? 1 : 0;
    }
    return found;
}

SUPPORT bool is_usable(enum trick trick)
{
    return trick != REFUSES && trick != OTHER_HISTORY && trick != MISTAKES_US;
}

static void (*scene_tune)(struct instance_options *options); // of the next proxy; may be NULL

SUPPORT void scene_open(struct scene *scene, uint64_t fetch_ms, unsigned doors,
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
    scene->proxy.options.replicas = scene->addresses;
    if (scene_tune != NULL) {
        scene_tune(&scene->proxy.options);
    }
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

SUPPORT void closing_wake(void *argument) { sem_post(argument); }
SUPPORT void closing_seen(struct notice *notice) { (void)notice; }

SUPPORT void close_fetch(struct scene *scene)
{
    struct closing closing = {.mailbox = {.wake = closing_wake, .argument = &closing.woken}};
    sem_init(&closing.woken, 0, 0);
    notice_init(&closing.notice, &closing.mailbox, closing_seen);
    fetch_close(scene->proxy.instance, &closing.notice);
    sem_wait(&closing.woken);
    sem_destroy(&closing.woken);
}

SUPPORT void scene_close(struct scene *scene)
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
    if (scene->blank.instance != NULL) {
        instance_close(scene->blank.instance);
        test_instance_end(&scene->blank);
    }
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
    uint64_t index; // of its view
    sem_t finished;
};

SUPPORT void reading_done(struct read *read)
{
    sem_post(&CONTAINER_OF(read, struct reading, read)->finished);
}

SUPPORT void reading_run(struct task *task)
{
    read_start(&CONTAINER_OF(task, struct reading, task)->read);
}

// Starts a read of `count` keys of the model at `view`, which it takes over.
SUPPORT void reading_start_at(struct scene *scene, struct reading *reading, struct view *view,
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
    reading->index = view->place.index;
    sem_init(&reading->finished, 0, 0);
    loop_post(scene->node.loop, &reading->task);
}

SUPPORT void reading_start(struct scene *scene, struct reading *reading, struct view *view,
                          unsigned count)
{
    reading_start_at(scene, reading, view, 0, count);
}

// Waits for its end. Every key must be what the model says at the view's index, but for those
// values that were missing: these may be `missing` instead (OK: they may not).
SUPPORT unsigned reading_end(struct scene *scene, struct reading *reading, int missing)
{
    sem_wait(&reading->finished);
    sem_destroy(&reading->finished);
    assert_int_equal(reading->read.view->place.index, reading->index);
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

SUPPORT unsigned read_all(struct scene *scene, int missing)
{
    struct reading reading;
    reading_start(scene, &reading, instance_pin(scene->proxy.instance), MODEL_KEYS);
    return reading_end(scene, &reading, missing);
}

SUPPORT unsigned live_keys(const struct scene *scene)
{
    unsigned live = 0;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        live += model_at(&scene->model.keys[i], UINT64_MAX) != NULL ? 1 : 0;
    }
    return live;
}

#define COUNTED(scene, name) METRIC_GET((scene)->proxy.metrics, instance, name)

static const enum trick honest[DOORS] = {HONEST, HONEST};

#endif
