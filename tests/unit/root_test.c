// SPDX-License-Identifier: Apache-2.0
// A whole root instance in process: transactions through the sequencer, journal, store and views;
// indexes, replaced versions, net effects, and what a restart brings back.
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <pthread.h>
#include <semaphore.h>

#include "common/base/mem.h"
#include "common/tree/tree.h"
#include "replica/replica.h"
#include "replica/sequencer.h"

struct fixture {
    char directory[64];
    struct node_options node;
    struct instance_options options;
    struct instance_metrics *metrics;
    struct beats *beats;
    void *sequencer;
    struct store_cache *cache;
    struct loop *loop;
    pthread_t thread;
    struct instance *instance;
};

static void *run_loop(void *argument)
{
    loop_run(argument);
    return NULL;
}

// ---- a transaction written as a little program --------------------------------------------------

enum step_kind { STEP_PUT, STEP_DELETE, STEP_GET, STEP_INDEX };

struct step {
    enum step_kind kind;
    const char *key, *value;
    // Out.
    int status;
    uint64_t index;
    char got[32];
};

struct program {
    struct transaction transaction;
    struct step *steps;
    size_t count;
    unsigned evaluations;
    sem_t finished;
};

static void run_step(struct txn *txn, struct step *step)
{
    struct txn_value value = {0};
    bool existed = false;
    switch (step->kind) {
    case STEP_PUT:
        step->status = txn_put(txn, bytes_text(step->key), bytes_text(step->value));
        step->index = txn_index(txn);
        break;
    case STEP_DELETE:
        step->status = txn_delete(txn, bytes_text(step->key), &existed);
        step->status = step->status == OK && !existed ? ERR_NOT_FOUND : step->status;
        step->index = txn_index(txn);
        break;
    case STEP_GET:
        step->status = txn_get(txn, bytes_text(step->key), true, &value);
        snprintf(step->got, sizeof step->got, "%.*s", (int)value.value.size,
                 value.value.data != NULL ? (const char *)value.value.data : "");
        step->index = value.version;
        break;
    case STEP_INDEX:
        step->index = txn_index(txn);
        break;
    }
}

static int evaluate(struct transaction *transaction, struct txn *txn)
{
    struct program *program = CONTAINER_OF(transaction, struct program, transaction);
    program->evaluations++;
    for (size_t i = 0; i < program->count; i++) {
        run_step(txn, &program->steps[i]);
    }
    return OK;
}

static void on_done(struct task *task)
{
    struct transaction *transaction = CONTAINER_OF(task, struct transaction, done);
    sem_post(&CONTAINER_OF(transaction, struct program, transaction)->finished);
}

static void submit(struct fixture *fixture, struct program *program)
{
    program->transaction = (struct transaction){
        .done.run = on_done, .loop = fixture->loop, .bytes = 100, .evaluate = evaluate};
    list_init(&program->transaction.node);
    sem_init(&program->finished, 0, 0);
    assert_int_equal(sequencer_submit(fixture->instance, &program->transaction), OK);
}

static uint64_t run(struct fixture *fixture, struct step *steps, size_t count)
{
    struct program program = {.steps = steps, .count = count};
    submit(fixture, &program);
    sem_wait(&program.finished);
    sem_destroy(&program.finished);
    assert_int_equal(program.transaction.status, OK);
    return program.transaction.index;
}

#define RUN(fixture, ...)                                                                          \
    run((fixture), (struct step[]){__VA_ARGS__},                                                   \
        sizeof((struct step[]){__VA_ARGS__}) / sizeof(struct step))

// ---- opening and closing ------------------------------------------------------------------------

static void open_instance(struct fixture *fixture)
{
    fixture->sequencer = sequencer_open();
    struct instance_setup setup = {
        .node = &fixture->node,
        .options = &fixture->options,
        .role = replica_role(),
        .cache = fixture->cache,
        .metrics = fixture->metrics,
        .beats = fixture->beats,
        .sequencer = fixture->sequencer,
        .home = fixture->loop,
        .sequence = sequencer_turn,
        .answer = sequencer_answer,
    };
    assert_int_equal(instance_open(&fixture->instance, &setup), OK);
    while (instance_state(fixture->instance) == INSTANCE_LOADING) {
        usleep(1000);
    }
}

static void close_instance(struct fixture *fixture)
{
    instance_close(fixture->instance);
    sequencer_close(fixture->sequencer);
}

static int set_up(void **state)
{
    struct fixture *fixture = calloc(1, sizeof *fixture);
    snprintf(fixture->directory, sizeof fixture->directory, "/tmp/qs-root-XXXXXX");
    assert_non_null(mkdtemp(fixture->directory));
    fixture->node = (struct node_options){
        .node = "n1", .cluster = "c", .data_dir = fixture->directory, .heartbeat = 500};
    fixture->options = (struct instance_options){
        .name = "i", .role = ROLE_ROOT, .value_bytes = MIB, .batch_entries = 100,
        .batch_bytes = MIB, .block_bytes = MIB, .block_entries = 1000,
        .segment_bytes = 64 * KIB, .journal_bytes = GIB,
        .journal_age = 1000000, .replay_bytes = 64 * MIB, .memtable = 4 * MIB,
        .apply_queue = 8 * MIB, .apply_chunk = MIB, .submit_queue = 8 * MIB};
    fixture->metrics = aligned_alloc(64, sizeof *fixture->metrics);
    memset(fixture->metrics, 0, sizeof *fixture->metrics);
    fixture->beats = beats_open();
    fixture->cache = store_cache_open(8 * MIB);
    const char *reason = NULL;
    assert_int_equal(loop_open(&fixture->loop, IO_EPOLL, 0, &reason), OK);
    pthread_create(&fixture->thread, NULL, run_loop, fixture->loop);
    open_instance(fixture);
    *state = fixture;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    close_instance(fixture);
    loop_stop(fixture->loop);
    pthread_join(fixture->thread, NULL);
    loop_close(fixture->loop);
    beats_close(fixture->beats);
    store_cache_close(fixture->cache);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", fixture->directory);
    assert_int_equal(system(command), 0);
    free(fixture->metrics);
    free(fixture);
    return 0;
}

// ---- tests
// ---------------------------------------------------------------------------------------

static void test_indexes(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(RUN(f, {STEP_PUT, "a", "1"}), 1);
    assert_int_equal(RUN(f, {STEP_PUT, "a", "2"}), 2);
    assert_int_equal(RUN(f, {STEP_PUT, "b", "1"}, {STEP_PUT, "c", "1"}), 3);
    // What changes nothing takes no index and answers the current one.
    assert_int_equal(RUN(f, {STEP_DELETE, "absent", ""}), 3);
    assert_int_equal(RUN(f, {STEP_PUT, "new", "1"}, {STEP_DELETE, "new", ""}), 3);
    assert_int_equal(RUN(f, {STEP_GET, "a", ""}), 3);
    assert_int_equal(RUN(f, {STEP_DELETE, "a", ""}, {STEP_PUT, "a", "3"}), 4);
    assert_int_equal(RUN(f, {STEP_DELETE, "a", ""}), 5);
    struct view *view = instance_pin(f->instance);
    assert_int_equal(view->place.index, 5);
    assert_int_equal(view->digest.keys, 2);
    view_release(view);
}

static void test_own_writes(void **state)
{
    struct fixture *f = *state;
    RUN(f, {STEP_PUT, "a", "old"});
    struct step steps[] = {
        {STEP_GET, "a", ""},  {STEP_PUT, "a", "new"}, {STEP_GET, "a", ""},
        {STEP_DELETE, "a", ""}, {STEP_GET, "a", ""},  {STEP_DELETE, "a", ""},
        {STEP_PUT, "a", "last"}, {STEP_GET, "a", ""},
    };
    assert_int_equal(run(f, steps, ARRAY_LEN(steps)), 2);
    assert_string_equal(steps[0].got, "old");
    assert_int_equal(steps[0].index, 1);
    assert_string_equal(steps[2].got, "new");
    assert_int_equal(steps[4].status, ERR_NOT_FOUND);
    assert_int_equal(steps[5].status, ERR_NOT_FOUND);
    assert_string_equal(steps[7].got, "last");
}

// An index that was promised and then not taken is corrected by a second evaluation.
static void test_promise(void **state)
{
    struct fixture *f = *state;
    RUN(f, {STEP_PUT, "x", "1"});
    struct step steps[] = {{STEP_PUT, "y", "1"}, {STEP_DELETE, "y", ""}, {STEP_INDEX, "", ""}};
    assert_int_equal(run(f, steps, ARRAY_LEN(steps)), 1);
    assert_int_equal(steps[0].index, 1);
    assert_int_equal(steps[2].index, 1);
}

static void test_limits(void **state)
{
    struct fixture *f = *state;
    static struct step steps[101];
    static char names[101][8];
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        snprintf(names[i], sizeof names[i], "k%zu", i);
        steps[i] = (struct step){STEP_PUT, names[i], "v"};
    }
    struct program program = {.steps = steps, .count = ARRAY_LEN(steps)};
    submit(f, &program);
    sem_wait(&program.finished);
    assert_int_equal(program.transaction.status, ERR_BATCH_SIZE);
    sem_destroy(&program.finished);
    assert_int_equal(RUN(f, {STEP_GET, "k0", ""}), 0); // nothing of it was written
}

// Many transactions in flight at once: each sees all before it, though none is visible yet.
static void test_pipeline(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 3000 };
    static struct program programs[COUNT];
    static struct step steps[COUNT][2];
    static char values[COUNT][16];
    for (size_t i = 0; i < COUNT; i++) {
        snprintf(values[i], sizeof values[i], "%zu", i);
        steps[i][0] = (struct step){STEP_GET, "counter", ""};
        steps[i][1] = (struct step){STEP_PUT, "counter", values[i]};
        programs[i] = (struct program){.steps = steps[i], .count = 2};
        submit(f, &programs[i]);
    }
    for (size_t i = 0; i < COUNT; i++) {
        sem_wait(&programs[i].finished);
        sem_destroy(&programs[i].finished);
        assert_int_equal(programs[i].transaction.status, OK);
        assert_int_equal(programs[i].transaction.index, i + 1);
        assert_string_equal(steps[i][0].got, i == 0 ? "" : values[i - 1]);
        assert_int_equal(steps[i][0].index, i);
    }
}

static void test_restart(void **state)
{
    struct fixture *f = *state;
    for (unsigned i = 0; i < 500; i++) {
        char key[16];
        snprintf(key, sizeof key, "k%u", i % 300);
        RUN(f, {STEP_PUT, key, "value"}, {STEP_DELETE, "k7", ""});
    }
    struct view *before = instance_pin(f->instance);
    struct journal_place place = before->place;
    struct digest digest = before->digest;
    view_release(before);
    close_instance(f);
    open_instance(f);
    struct view *after = instance_pin(f->instance);
    assert_int_equal(after->place.index, place.index);
    assert_int_equal(after->place.number, place.number);
    assert_true(hash128_equal(after->place.chain, place.chain));
    assert_true(hash128_equal(after->digest.sum, digest.sum));
    assert_int_equal(after->digest.keys, 299);
    view_release(after);
    assert_int_equal(RUN(f, {STEP_PUT, "more", "1"}), place.index + 1);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_indexes), TEST(test_own_writes), TEST(test_promise),
        TEST(test_limits),  TEST(test_pipeline),   TEST(test_restart),
    };
    return cmocka_run_group_tests_name("root", tests, NULL, NULL);
}
