// SPDX-License-Identifier: Apache-2.0
// The history floor rises while somebody reads below it, at the worst moment: after the look at the
// floor that came before. What was read may have been collected: the answer is "gone". The readers
// of history are wrapped by the linker, so that each raises the floor before it returns.
#include "tests/unit/instance_fixture.h"

#include "common/core/read.h"
#include "common/wire/past_items.h"
#include "replica/answer_past.h"
#include "replica/mvcc.h"
#include "replica/mvcc_walk.h"
#include "replica/past.h"
#include "replica/replica.h"

#define BLOCKS 10
#define AT 8 // the index that is asked for
#define LAST (BLOCKS * 3)

static struct instance *raised; // whose floor rises

static void raise_now(void)
{
    if (raised != NULL) {
        atomic_store(&raised->history_floor, AT + 1);
    }
}

int __real_mvcc_read(struct store *store, const struct store_snapshot *snapshot, struct bytes key,
                     uint64_t t, struct mvcc_finding *ret_finding);
int __wrap_mvcc_read(struct store *store, const struct store_snapshot *snapshot, struct bytes key,
                     uint64_t t, struct mvcc_finding *ret_finding);
int __wrap_mvcc_read(struct store *store, const struct store_snapshot *snapshot, struct bytes key,
                     uint64_t t, struct mvcc_finding *ret_finding)
{
    int error = __real_mvcc_read(store, snapshot, key, t, ret_finding);
    raise_now();
    return error;
}

int __real_mvcc_walk(struct store *store, const struct store_snapshot *snapshot, uint64_t t,
                     const struct role_range *range, role_row *row, void *argument);
int __wrap_mvcc_walk(struct store *store, const struct store_snapshot *snapshot, uint64_t t,
                     const struct role_range *range, role_row *row, void *argument);
int __wrap_mvcc_walk(struct store *store, const struct store_snapshot *snapshot, uint64_t t,
                     const struct role_range *range, role_row *row, void *argument)
{
    int error = __real_mvcc_walk(store, snapshot, t, range, row, argument);
    raise_now();
    return error;
}

struct scene {
    struct test_node node;
    struct test_instance at;
    struct model model;
    struct view *view;
};

static void scene_open(struct scene *scene)
{
    *scene = (struct scene){.at.options = test_options("zones", ROLE_REPLICA)};
    test_node_open(&scene->node);
    test_instance_open(&scene->node, &scene->at, replica_role());
    model_open(&scene->model, 9);
    for (unsigned i = 0; i < BLOCKS; i++) {
        struct block *block = model_block(&scene->model, 3);
        test_feed(&scene->at, block);
        block_release(block);
    }
    scene->view = test_view(&scene->at, LAST);
}

static void scene_close(struct scene *scene)
{
    raised = NULL;
    view_release(scene->view);
    test_node_stop(&scene->node);
    assert_int_equal(instance_close(scene->at.instance), INSTANCE_CLOSED);
    test_instance_end(&scene->at);
    model_close(&scene->model);
    test_node_close(&scene->node);
}

// Without the rise the same question is answered: it is the floor that makes it "gone".
static void each_way(struct scene *scene, void (*ask)(struct scene *scene, bool gone))
{
    for (unsigned gone = 0; gone < 2; gone++) {
        atomic_store(&scene->at.instance->history_floor, 0);
        raised = gone ? scene->at.instance : NULL;
        ask(scene, gone);
    }
}

// ---- for a proxy -------------------------------------------------------------------------------

static void ask_keys(struct scene *scene, bool gone)
{
    struct buf keys = {0};
    past_key_append(&keys, model_name(&scene->model.keys[0]));
    struct past_question question = {.at = AT, .keys = buf_bytes(&keys)};
    assert_int_equal(past_answer(scene->at.instance, scene->view, &question), OK);
    assert_int_equal(question.status, gone ? FETCH_GONE : FETCH_EXACT);
    assert_int_equal(question.items.size == 0, gone);
    past_question_free(&question);
    buf_free(&keys);
}

static void ask_range(struct scene *scene, bool gone)
{
    struct past_question question = {.at = AT, .limit = 10};
    assert_int_equal(past_answer(scene->at.instance, scene->view, &question), OK);
    assert_int_equal(question.status, gone ? FETCH_GONE : FETCH_EXACT);
    assert_int_equal(question.items.size == 0, gone);
    past_question_free(&question);
}

// ---- for a client ------------------------------------------------------------------------------

static bool any_row(void *argument, struct bytes key, int status, const struct record *record)
{
    (void)argument, (void)key, (void)status, (void)record;
    return true;
}

static void read_range(struct scene *scene, bool gone)
{
    const struct role_range all = {0};
    int error = past_rows(scene->at.instance, scene->view, AT, &all, any_row, NULL);
    assert_int_equal(error, gone ? ERR_GONE : OK);
}

struct reading {
    struct task task;
    struct read read;
    struct lookup lookup;
    sem_t done;
};

static void reading_done(struct read *read)
{
    sem_post(&CONTAINER_OF(read, struct reading, read)->done);
}

static void reading_run(struct task *task)
{
    read_start(&CONTAINER_OF(task, struct reading, task)->read);
}

static void read_keys(struct scene *scene, bool gone)
{
    bool any = false;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        struct reading reading = {.task.run = reading_run,
                                  .lookup.key = model_name(&scene->model.keys[i]),
                                  .read = {.instance = scene->at.instance,
                                           .readers = scene->node.readers,
                                           .loop = scene->node.loop,
                                           .view = view_hold(scene->view),
                                           .at = AT,
                                           .values = true,
                                           .count = 1,
                                           .done = reading_done}};
        reading.read.lookups = &reading.lookup;
        sem_init(&reading.done, 0, 0);
        atomic_store(&scene->at.instance->history_floor, 0);
        loop_post(scene->node.loop, &reading.task);
        sem_wait(&reading.done);
        sem_destroy(&reading.done);
        if (reading.lookup.past) {
            const struct model_version *then = model_at(&scene->model.keys[i], AT);
            int wanted = gone ? ERR_GONE : then != NULL ? OK : ERR_NOT_FOUND;
            assert_int_equal(reading.lookup.status, wanted);
            any = true;
        }
        read_release(&reading.read);
    }
    assert_true(any);
}

// ---- all ---------------------------------------------------------------------------------------

static void test_floor_rises_meanwhile(void **unused)
{
    (void)unused;
    struct scene scene;
    scene_open(&scene);
    each_way(&scene, ask_keys);
    each_way(&scene, ask_range);
    each_way(&scene, read_range);
    each_way(&scene, read_keys);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_floor_rises_meanwhile),
    };
    return cmocka_run_group_tests_name("floor race", tests, NULL, NULL);
}
