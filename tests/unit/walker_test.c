// SPDX-License-Identifier: Apache-2.0
// The walker's thread: walks on request, joined, by interval and for the filter's sake, of several
// instances at once, while they are written to; and what becomes of them when an instance goes.
#include <sys/resource.h>

#include "tests/unit/walk_fixture.h"

#include "common/base/clock.h"
#include "common/core/walker.h"
#include "proxy/proxy.h"
#include "replica/replica.h"

#define FIRST_KEYS 262144
#define FIRST_FILTER_BYTES (512 * KIB) // for so many, at 16 bits each
#define MANY_KEYS 20000                // more than one slice
#define BLOCK_KEYS 2000

struct scene {
    struct test_node node;
    struct test_instance at;
    struct model model;
    struct walker *walker;
};

static void scene_open(struct scene *scene, uint64_t walk_every, uint64_t walk_rate)
{
    *scene = (struct scene){0};
    test_node_open(&scene->node);
    scene->at.options = test_options("walked", ROLE_REPLICA);
    scene->at.options.filter_bytes = 16 * MIB;
    scene->at.options.walk_every = walk_every;
    scene->at.options.walk_rate = walk_rate;
    model_open(&scene->model, 1);
    test_instance_open(&scene->node, &scene->at, replica_role());
    assert_int_equal(walker_open(&scene->walker), OK);
    walker_add(scene->walker, scene->at.instance);
}

struct removal {
    struct notice removed;
    struct mailbox mailbox;
    sem_t woken;
};

static void removal_wake(void *argument) { sem_post(&((struct removal *)argument)->woken); }

static void removal_seen(struct notice *notice) { (void)notice; }

static void remove_walked(struct walker *walker, struct instance *instance)
{
    struct removal removal = {.mailbox = {.wake = removal_wake, .argument = &removal}};
    sem_init(&removal.woken, 0, 0);
    notice_init(&removal.removed, &removal.mailbox, removal_seen);
    walker_remove(walker, instance, &removal.removed);
    sem_wait(&removal.woken);
}

static void scene_close(struct scene *scene)
{
    walker_close(scene->walker);
    test_node_stop(&scene->node);
    assert_int_equal(instance_close(scene->at.instance), INSTANCE_CLOSED);
    test_instance_end(&scene->at);
    test_node_close(&scene->node);
    model_close(&scene->model);
}

// ---- who asks ----------------------------------------------------------------------------------

struct asker {
    struct walk_waiter waiter;
    sem_t answered;
};

static void on_answer(struct task *task)
{
    struct asker *asker = CONTAINER_OF(task, struct asker, waiter.task);
    sem_post(&asker->answered);
}

static void ask(struct scene *scene, struct asker *asker)
{
    *asker = (struct asker){.waiter = {.loop = scene->node.loop, .task.run = on_answer}};
    sem_init(&asker->answered, 0, 0);
    list_init(&asker->waiter.node);
    instance_walk(scene->at.instance, &asker->waiter);
}

static struct digest digest_at(const struct model *model, uint64_t index)
{
    struct digest digest = {0};
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_version *version = model_at(&model->keys[i], index);
        if (version != NULL) {
            digest_add(&digest, version->version, model_name(&model->keys[i]));
        }
    }
    return digest;
}

static void test_asked(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 0, 0);
    for (unsigned i = 0; i < 200; i++) {
        struct asker askers[2];
        ask(&scene, &askers[0]);
        feed_random(&scene.at, &scene.model, 3);
        ask(&scene, &askers[1]);
        feed_random(&scene.at, &scene.model, 3);
        for (unsigned each = 0; each < 2; each++) {
            sem_wait(&askers[each].answered);
            const struct walk_waiter *waiter = &askers[each].waiter;
            assert_int_equal(waiter->error, OK);
            struct digest expected = digest_at(&scene.model, waiter->index);
            assert_true(digest_equal(&waiter->digest, &expected));
            // What it says is visible by then.
            view_release(test_view(&scene.at, waiter->index));
        }
    }
    assert_int_equal(METRIC_GET(scene.at.metrics, instance, walk_mismatches), 0);
    assert_in_range(METRIC_GET(scene.at.metrics, instance, walks), 200, 400);
    remove_walked(scene.walker, scene.at.instance);
    scene_close(&scene);
}

// A bad row that a read met asks for a walk, where none is due otherwise.
static void test_doubted(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 0, 0);
    feed_random(&scene.at, &scene.model, 3);
    struct asker asker;
    ask(&scene, &asker);
    sem_wait(&asker.answered);
    struct view *view = test_view(&scene.at, asker.waiter.index);
    uint64_t before = METRIC_GET(scene.at.metrics, instance, walks);
    instance_doubt_store(scene.at.instance, view);
    while (METRIC_GET(scene.at.metrics, instance, walks) == before) {
        sched_yield();
    }
    assert_false(atomic_load(&scene.at.instance->doubted));
    view_release(view);
    remove_walked(scene.walker, scene.at.instance);
    scene_close(&scene);
}

// ---- many keys ---------------------------------------------------------------------------------

static struct bytes many_name(uint64_t number, uint8_t to[8])
{
    store_u64_be(to, number);
    return bytes_of(to, 8);
}

// A block that puts the keys numbered [first, first + count).
static void feed_many(struct scene *scene, uint64_t first, uint64_t count)
{
    struct model *model = &scene->model;
    builder_reset(&model->builder, model->index + 1);
    for (uint64_t i = first; i < first + count; i++) {
        uint8_t name[8];
        if ((i - first) % BATCH_ENTRIES_MAX == 0) {
            if (i > first) {
                model_batch_end(model);
            }
            builder_batch(&model->builder);
        }
        builder_entry(&model->builder, ENTRY_PUT, many_name(i, name), bytes_text("value"), 0);
    }
    model_batch_end(model);
    struct block *block = model_finish(model);
    test_feed(&scene->at, block);
    block_release(block);
    view_release(test_view(&scene->at, model->index));
}

// Walks that were asked for and not ended are answered when the instance goes, and so is who asks
// afterwards.
static void test_removed(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 0, 1); // one slice, then hours until the next
    feed_many(&scene, 0, MANY_KEYS);
    struct asker asker;
    ask(&scene, &asker);
    while (METRIC_GET(scene.at.metrics, instance, walk_keys) == 0) {
        sched_yield();
    }
    struct asker cancelled;
    ask(&scene, &cancelled);
    assert_true(instance_walk_cancel(scene.at.instance, &cancelled.waiter));
    remove_walked(scene.walker, scene.at.instance);
    sem_wait(&asker.answered);
    assert_int_equal(asker.waiter.error, ERR_STOPPED);
    assert_false(instance_walk_cancel(scene.at.instance, &asker.waiter));
    ask(&scene, &asker);
    sem_wait(&asker.answered);
    assert_int_equal(asker.waiter.error, ERR_STOPPED);
    assert_int_equal(METRIC_GET(scene.at.metrics, instance, walks), 0);
    assert_int_not_equal(sem_trywait(&cancelled.answered), 0);
    scene_close(&scene);
}

// An instance that goes while a step of its walk is just at the applier, or on its way back.
static void test_removed_at_any_time(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 0, 0);
    feed_many(&scene, 0, MANY_KEYS);
    unsigned stopped = 0;
    for (unsigned round = 0; round < 300; round++) {
        struct asker asker;
        ask(&scene, &asker);
        uint64_t before = METRIC_GET(scene.at.metrics, instance, walk_keys);
        while (round % 3 == 0 && METRIC_GET(scene.at.metrics, instance, walk_keys) == before) {
            sched_yield();
        }
        remove_walked(scene.walker, scene.at.instance);
        sem_wait(&asker.answered);
        assert_true(asker.waiter.error == ERR_STOPPED || asker.waiter.error == OK);
        stopped += asker.waiter.error == ERR_STOPPED ? 1 : 0;
        walker_add(scene.walker, scene.at.instance);
    }
    assert_true(stopped > 0);
    remove_walked(scene.walker, scene.at.instance);
    scene_close(&scene);
}

static void test_interval(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 1, 0);
    while (METRIC_GET(scene.at.metrics, instance, walks) < 5) {
        feed_random(&scene.at, &scene.model, 1);
    }
    assert_int_equal(METRIC_GET(scene.at.metrics, instance, walk_mismatches), 0);
    remove_walked(scene.walker, scene.at.instance);
    scene_close(&scene);
}

static uint64_t used_ns(void)
{
    struct rusage usage;
    assert_int_equal(getrusage(RUSAGE_SELF, &usage), 0);
    return (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * NS_PER_S +
           (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static struct view *swap_view(struct views *views, struct view *view)
{
    pthread_mutex_lock(&views->lock);
    struct view *before = views->current;
    views->current = view;
    pthread_mutex_unlock(&views->lock);
    return before;
}

// While an instance loads, which may last, a walk that is due waits for it without turning round.
static void test_loading(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 1, 0);
    feed_random(&scene.at, &scene.model, 1);
    view_release(test_view(&scene.at, scene.model.index));
    remove_walked(scene.walker, scene.at.instance);
    struct view *hidden = swap_view(&scene.at.instance->views, NULL);
    walker_add(scene.walker, scene.at.instance);
    uint64_t before_ns = used_ns();
    clock_sleep_ns(100 * NS_PER_MS);
    assert_in_range(used_ns() - before_ns, 0, 20 * NS_PER_MS);
    assert_null(swap_view(&scene.at.instance->views, hidden));
    uint64_t walks = METRIC_GET(scene.at.metrics, instance, walks);
    while (METRIC_GET(scene.at.metrics, instance, walks) == walks) {
        sched_yield();
    }
    remove_walked(scene.walker, scene.at.instance);
    scene_close(&scene);
}

// The store is said to be another one while a walk goes on: nobody is answered from that walk.
static void replace_run(struct task *task)
{
    struct tampering *tampering = CONTAINER_OF(task, struct tampering, task);
    instance_store_replaced(tampering->instance);
    sem_post(&tampering->done);
}

static void test_replaced(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 0, 4 * MIB); // slices of about 100 KiB: a few hundredths of a second apart
    feed_many(&scene, 0, MANY_KEYS);
    struct asker asker;
    ask(&scene, &asker);
    while (METRIC_GET(scene.at.metrics, instance, walk_keys) == 0) {
        sched_yield();
    }
    struct tampering replaced = {.task.run = replace_run, .instance = scene.at.instance};
    sem_init(&replaced.done, 0, 0);
    mailbox_post(instance_applier(scene.at.instance), &replaced.task);
    sem_wait(&replaced.done);
    sem_wait(&asker.answered);
    assert_int_equal(asker.waiter.error, OK);
    // The first slices of the void walk come on top.
    assert_true(METRIC_GET(scene.at.metrics, instance, walk_keys) > MANY_KEYS);
    assert_int_equal(METRIC_GET(scene.at.metrics, instance, walks), 1);
    // The filter was dropped with the store, and a walk has built another.
    struct view *view = test_view(&scene.at, scene.model.index);
    while (view->front == NULL) {
        view_release(view);
        sched_yield();
        view = test_view(&scene.at, scene.model.index);
    }
    uint8_t name[8];
    for (uint64_t i = 0; i < MANY_KEYS; i++) {
        assert_false(front_absent(view->front, many_name(i, name)));
    }
    view_release(view);
    remove_walked(scene.walker, scene.at.instance);
    scene_close(&scene);
}

// An empty database's filter is small. When it is outgrown, a walk builds a larger one by itself.
static void test_outgrown(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 0, 0);
    struct view *view = test_view(&scene.at, 0);
    assert_non_null(view->front);
    view_release(view);
    uint64_t keys = 0;
    while (METRIC_GET(scene.at.metrics, instance, filter_bytes) <= FIRST_FILTER_BYTES) {
        feed_many(&scene, keys, BLOCK_KEYS);
        keys += BLOCK_KEYS;
        assert_true(keys < 10 * FIRST_KEYS);
    }
    assert_true(keys > FIRST_KEYS);
    // More came while it was built: it may have been outgrown again.
    while (instance_front_wanted(scene.at.instance)) {
        sched_yield();
    }
    struct asker asker;
    ask(&scene, &asker);
    sem_wait(&asker.answered); // one more, whose view is the next
    feed_many(&scene, keys, 1);
    keys++;
    view = test_view(&scene.at, scene.model.index);
    uint8_t name[8];
    for (uint64_t i = 0; i < keys; i++) {
        assert_false(front_absent(view->front, many_name(i, name)));
    }
    uint64_t found = 0;
    for (uint64_t i = keys; i < 2 * keys; i++) {
        found += front_absent(view->front, many_name(i, name)) ? 0 : 1;
    }
    assert_true(found < keys / 200);
    view_release(view);
    remove_walked(scene.walker, scene.at.instance);
    scene_close(&scene);
}

// Two instances take turns; one is removed while the other's walk goes on.
static void test_two(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 0, 0);
    struct test_instance other = {.options = test_options("other", ROLE_PROXY)};
    struct model model;
    model_open(&model, 2);
    test_instance_open(&scene.node, &other, proxy_role());
    walker_add(scene.walker, other.instance);
    for (unsigned i = 0; i < 20; i++) {
        struct asker first, second;
        feed_random(&other, &model, 2);
        feed_random(&scene.at, &scene.model, 2);
        ask(&scene, &first);
        second = (struct asker){.waiter = {.loop = scene.node.loop, .task.run = on_answer}};
        sem_init(&second.answered, 0, 0);
        list_init(&second.waiter.node);
        instance_walk(other.instance, &second.waiter);
        sem_wait(&second.answered);
        sem_wait(&first.answered);
        assert_int_equal(first.waiter.error, OK);
        assert_int_equal(second.waiter.error, OK);
    }
    remove_walked(scene.walker, other.instance);
    struct asker last;
    ask(&scene, &last);
    sem_wait(&last.answered);
    assert_int_equal(last.waiter.error, OK);
    remove_walked(scene.walker, scene.at.instance);
    walker_close(scene.walker);
    test_node_stop(&scene.node);
    assert_int_equal(instance_close(other.instance), INSTANCE_CLOSED);
    test_instance_end(&other);
    model_close(&model);
    assert_int_equal(instance_close(scene.at.instance), INSTANCE_CLOSED);
    test_instance_end(&scene.at);
    test_node_close(&scene.node);
    model_close(&scene.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_asked),    cmocka_unit_test(test_removed),
        cmocka_unit_test(test_interval), cmocka_unit_test(test_loading),
        cmocka_unit_test(test_replaced), cmocka_unit_test(test_doubted),
        cmocka_unit_test(test_outgrown), cmocka_unit_test(test_two),
        cmocka_unit_test(test_removed_at_any_time),
    };
    return cmocka_run_group_tests_name("walker", tests, NULL, NULL);
}
