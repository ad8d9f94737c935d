// SPDX-License-Identifier: Apache-2.0
// Followers in one process, without their links: instances of any role on one loop with a thread of
// its own, fed with blocks that the test builds, beside a naive model of what the log says.
#ifndef QS_TESTS_UNIT_INSTANCE_FIXTURE_H
#define QS_TESTS_UNIT_INSTANCE_FIXTURE_H

#include "tests/unit/support.h"

#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include "common/core/instance.h"
#include "common/core/readers.h"
#include "common/tree/tree.h"

// ---- the model: every version of every key -----------------------------------------------------

#define MODEL_KEYS 24
#define MODEL_VALUE_MAX 48

struct model_version {
    uint64_t version;
    bool put;
    size_t size;
    uint8_t value[MODEL_VALUE_MAX];
};

struct model_key {
    uint8_t data[8];
    size_t size;
    struct model_version *versions;
    size_t count;
};

struct model {
    struct model_key keys[MODEL_KEYS];
    uint64_t index;
    uint64_t seed;
    struct block_builder builder;
    struct block_header last;
};

SUPPORT struct bytes model_name(const struct model_key *key)
{
    return bytes_of(key->data, key->size);
}

SUPPORT void model_open(struct model *model, uint64_t seed)
{
    *model = (struct model){.seed = seed};
    block_genesis(&model->last, test_history);
    builder_open(&model->builder);
    // Keys that are prefixes of each other, with the bytes that the encoding treats specially.
    static const char alphabet[] = {0, 1, 2, 'a', (char)0xff};
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        struct model_key *key = &model->keys[i];
        bool known = true;
        while (known) {
            key->size = (size_t)test_between(&model->seed, 1, 4);
            for (size_t at = 0; at < key->size; at++) {
                key->data[at] = (uint8_t)alphabet[test_random(&model->seed) % sizeof alphabet];
            }
            known = false;
            for (unsigned j = 0; j < i; j++) {
                known = known || bytes_equal(model_name(&model->keys[j]), model_name(key));
            }
        }
    }
}

SUPPORT void model_close(struct model *model)
{
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        mem_free(model->keys[i].versions);
    }
    builder_close(&model->builder);
}

// The version that is the newest at index t, NULL when the key is absent there.
SUPPORT const struct model_version *model_at(const struct model_key *key, uint64_t t)
{
    const struct model_version *found = NULL;
    for (size_t i = 0; i < key->count && key->versions[i].version <= t; i++) {
        found = &key->versions[i];
    }
    return found != NULL && found->put ? found : NULL;
}

// Adds an entry to the open batch, which has the next index: a put of `size` random bytes, or a
// delete (of a key that is there).
SUPPORT void model_entry(struct model *model, struct model_key *key, bool put, size_t size)
{
    const struct model_version *before = model_at(key, UINT64_MAX);
    CHECK(put || before != NULL);
    uint64_t replaced = before != NULL ? before->version : 0;
    struct model_version version = {
        .version = model->index + 1, .put = put, .size = put ? size : 0};
    for (size_t i = 0; i < version.size; i++) {
        version.value[i] = (uint8_t)test_random(&model->seed);
    }
    builder_entry(&model->builder, put ? ENTRY_PUT : ENTRY_DELETE, model_name(key),
                  bytes_of(version.value, version.size), replaced);
    key->versions = mem_realloc(key->versions, (key->count + 1) * sizeof version);
    key->versions[key->count++] = version;
}

SUPPORT void model_batch_end(struct model *model)
{
    builder_batch_end(&model->builder);
    model->index++;
}

SUPPORT struct block *model_finish(struct model *model)
{
    struct block_stamp stamp = {.epoch = 1, .commit_index = model->index, .root_ms = 1};
    struct block *block = builder_finish(&model->builder, &model->last, stamp);
    model->last = block->header;
    return block;
}

// A block of `batches` random batches, each over different keys.
SUPPORT struct block *model_block(struct model *model, uint64_t batches)
{
    builder_reset(&model->builder, model->index + 1);
    for (uint64_t i = 0; i < batches; i++) {
        builder_batch(&model->builder);
        uint64_t first = test_random(&model->seed) % MODEL_KEYS;
        uint64_t count = test_between(&model->seed, 1, 5);
        for (uint64_t j = 0; j < count; j++) {
            struct model_key *key = &model->keys[(first + j * 5) % MODEL_KEYS];
            bool put = model_at(key, UINT64_MAX) == NULL || test_random(&model->seed) % 3 != 0;
            model_entry(model, key, put, (size_t)test_between(&model->seed, 0, MODEL_VALUE_MAX));
        }
        model_batch_end(model);
    }
    return model_finish(model);
}

// ---- the node ----------------------------------------------------------------------------------

struct test_node {
    char *directory;
    struct node_options options;
    struct store_cache *cache;
    struct readers *readers;
    struct loop *loop;
    pthread_t thread;
};

SUPPORT void *test_loop_main(void *argument)
{
    loop_run(argument);
    return NULL;
}

SUPPORT void test_node_open(struct test_node *node)
{
    *node = (struct test_node){.directory = test_mkdir()};
    node->options = (struct node_options){.node = "test-node",
                                          .cluster = "test",
                                          .data_dir = node->directory,
                                          .heartbeat = 100,
                                          .silence = 10000,
                                          .reconnect = 40};
    node->cache = store_cache_open(8 * MIB);
    assert_int_equal(readers_open(&node->readers, 2), OK);
    const char *reason = "";
    assert_int_equal(loop_open(&node->loop, IO_EPOLL, 0, &reason), OK);
    pthread_create(&node->thread, NULL, test_loop_main, node->loop);
}

SUPPORT int test_remove(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info, (void)type, (void)walk;
    return remove(path);
}

// Ends the loop once its watches are closed; instances close between this and test_node_close.
SUPPORT void test_node_stop(struct test_node *node)
{
    loop_stop(node->loop);
    pthread_join(node->thread, NULL);
}

SUPPORT void test_node_close(struct test_node *node)
{
    loop_close(node->loop);
    readers_close(node->readers);
    store_cache_close(node->cache);
    assert_int_equal(nftw(node->directory, test_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
    mem_free(node->directory);
}

struct test_task {
    struct task task;
    void (*run)(void *argument);
    void *argument;
    sem_t finished;
};

SUPPORT void test_task_run(struct task *task)
{
    struct test_task *call = CONTAINER_OF(task, struct test_task, task);
    call->run(call->argument);
    sem_post(&call->finished);
}

// Runs something on the loop and waits for it.
SUPPORT void test_on_loop(struct test_node *node, void (*run)(void *argument), void *argument)
{
    struct test_task call = {.task.run = test_task_run, .run = run, .argument = argument};
    sem_init(&call.finished, 0, 0);
    loop_post(node->loop, &call.task);
    sem_wait(&call.finished);
    sem_destroy(&call.finished);
}

// ---- instances ---------------------------------------------------------------------------------

struct test_instance {
    struct instance_options options;
    struct instance_metrics *metrics;
    struct beats *beats;
    struct instance *instance;
};

SUPPORT struct instance_options test_options(const char *name, int role)
{
    return (struct instance_options){.name = name,
                                     .role = role,
                                     .value_bytes = MIB,
                                     .batch_entries = 1000,
                                     .batch_bytes = MIB,
                                     .block_bytes = MIB,
                                     .block_entries = 1000,
                                     .sync = 0,
                                     .segment_bytes = MIB,
                                     .journal_bytes = GIB,
                                     .journal_age = 1000000,
                                     .replay_bytes = 64 * MIB,
                                     .memtable = 4 * MIB,
                                     .apply_queue = 64 * MIB,
                                     .apply_chunk = 512,
                                     .history = 7200000,
                                     .history_bytes = GIB,
                                     .filter_bits = 16,
                                     .filter_bytes = MIB,
                                     .window = 120000,
                                     .window_bytes = GIB,
                                     .fetch = 2000,
                                     .fetch_max = 4096,
                                     .fetch_burst = 64 * MIB,
                                     .fetch_requests = 64,
                                     .fetch_bytes = 128 * MIB,
                                     .replica_requests = 8,
                                     .replica_bytes = 32 * MIB,
                                     .quarantine = 10000};
}

// `at->options` is set; the rest is made when the instance is opened first.
SUPPORT struct instance_setup test_setup(struct test_node *node, struct test_instance *at,
                                         const struct role *role)
{
    if (at->metrics == NULL) {
        at->metrics = aligned_alloc(64, (sizeof *at->metrics + 63) / 64 * 64);
        memset(at->metrics, 0, sizeof *at->metrics);
        at->beats = beats_open();
    }
    return (struct instance_setup){.node = &node->options,
                                   .options = &at->options,
                                   .role = role,
                                   .cache = node->cache,
                                   .metrics = at->metrics,
                                   .beats = at->beats,
                                   .home = node->loop};
}

SUPPORT int test_instance_try(struct test_node *node, struct test_instance *at,
                              const struct role *role)
{
    struct instance_setup setup = test_setup(node, at, role);
    return instance_open(&at->instance, &setup);
}

// Comes back while it is loading.
SUPPORT void test_instance_begin(struct test_node *node, struct test_instance *at,
                                 const struct role *role)
{
    assert_int_equal(test_instance_try(node, at, role), OK);
}

// Ends when the instance serves or has stopped.
SUPPORT void test_instance_open(struct test_node *node, struct test_instance *at,
                                const struct role *role)
{
    test_instance_begin(node, at, role);
    while (instance_state(at->instance) == INSTANCE_LOADING) {
        sched_yield();
    }
    if (!journal_has_history(at->instance->journal)) {
        instance_adopt(at->instance, test_history);
        while (!journal_has_history(at->instance->journal)) {
            sched_yield();
        }
    }
}

SUPPORT void test_instance_end(struct test_instance *at)
{
    beats_close(at->beats);
    free(at->metrics);
}

// Hands over a block; the caller keeps its reference.
SUPPORT void test_feed(struct test_instance *at, struct block *block)
{
    instance_receive(at->instance, block_hold(block));
}

// Waits until `index` is visible, and returns that view; NULL when the instance stopped instead.
SUPPORT struct view *test_view(struct test_instance *at, uint64_t index)
{
    for (;;) {
        bool stopped = instance_state(at->instance) == INSTANCE_STOPPED;
        struct view *view = instance_pin(at->instance);
        if (view != NULL && view->place.index >= index) {
            return view;
        }
        view_release(view);
        if (stopped) {
            return NULL;
        }
        sched_yield();
    }
}

#endif
