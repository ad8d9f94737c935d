// SPDX-License-Identifier: Apache-2.0
// Driving a walk by hand, in the walker's place, so that blocks come exactly between its steps.
#ifndef QS_TESTS_UNIT_WALK_FIXTURE_H
#define QS_TESTS_UNIT_WALK_FIXTURE_H

#include "tests/unit/instance_fixture.h"

#include "common/core/walk.h"

struct driver {
    struct mailbox mailbox;
    sem_t woken;
    struct notice stepped;
    unsigned steps; // that were done
};

SUPPORT void driver_wake(void *argument) { sem_post(&((struct driver *)argument)->woken); }

SUPPORT void driver_stepped(struct notice *notice)
{
    CONTAINER_OF(notice, struct driver, stepped)->steps++;
}

SUPPORT void driver_open(struct driver *driver, struct test_instance *at)
{
    *driver = (struct driver){.mailbox = {.wake = driver_wake, .argument = driver}};
    sem_init(&driver->woken, 0, 0);
    notice_init(&driver->stepped, &driver->mailbox, driver_stepped);
    walk_attach(at->instance->walk, &driver->stepped);
}

// Waits for the step that was posted.
SUPPORT void driver_wait(struct driver *driver)
{
    for (unsigned before = driver->steps; driver->steps == before;) {
        sem_wait(&driver->woken);
        struct task *task = mailbox_take(&driver->mailbox);
        while (task != NULL) {
            struct task *next = task->next;
            task->run(task);
            task = next;
        }
    }
}

SUPPORT void driver_begin(struct driver *driver, struct test_instance *at)
{
    walk_begin(at->instance->walk);
    driver_wait(driver);
    assert_true(walk_going(at->instance->walk));
}

// A slice with nothing between reading and taking it.
SUPPORT void driver_slice(struct driver *driver, struct test_instance *at, uint64_t keys)
{
    walk_read(at->instance->walk, keys, UINT64_MAX);
    walk_hand(at->instance->walk);
    driver_wait(driver);
}

// A whole walk while nothing is written. Returns what it came to.
SUPPORT int driver_walk(struct driver *driver, struct test_instance *at, uint64_t keys)
{
    driver_begin(driver, at);
    while (walk_going(at->instance->walk)) {
        driver_slice(driver, at, keys);
    }
    return walk_error(at->instance->walk);
}

// `count` random blocks, visible when it returns.
SUPPORT void feed_random(struct test_instance *at, struct model *model, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        struct block *block = model_block(model, 1 + test_random(&model->seed) % 3);
        test_feed(at, block);
        block_release(block);
    }
    if (count > 0) {
        view_release(test_view(at, model->index));
    }
}

// ---- behind the back of the log ----------------------------------------------------------------

struct tampering {
    struct task task;
    struct instance *instance;
    struct bytes key;
    const struct bytes *row;
    sem_t done;
};

SUPPORT void tamper_run(struct task *task)
{
    struct tampering *tampering = CONTAINER_OF(task, struct tampering, task);
    struct instance *instance = tampering->instance;
    struct store_batch *batch = store_batch_new();
    if (tampering->row != NULL) {
        store_batch_put(batch, instance->store, 0, tampering->key, *tampering->row);
    } else {
        store_batch_delete(batch, instance->store, 0, tampering->key);
    }
    assert_int_equal(instance_write_fill(instance, batch), OK);
    store_batch_free(batch);
    sem_post(&tampering->done);
}

// Writes a row (NULL: deletes it) that no block speaks of, and waits until views show it.
SUPPORT void tamper(struct test_instance *at, struct bytes key, const struct bytes *row)
{
    struct tampering tampering = {
        .task.run = tamper_run, .instance = at->instance, .key = key, .row = row};
    sem_init(&tampering.done, 0, 0);
    struct view *before = instance_pin(at->instance);
    mailbox_post(instance_applier(at->instance), &tampering.task);
    sem_wait(&tampering.done);
    struct view *view = instance_pin(at->instance);
    while (view == before) {
        view_release(view);
        sched_yield();
        view = instance_pin(at->instance);
    }
    view_release(view);
    view_release(before);
}

// A copy of the newest row of a key, from mem_alloc.
SUPPORT struct bytes row_of(struct test_instance *at, struct bytes key)
{
    struct store_value row;
    assert_int_equal(store_get(at->instance->store, NULL, 0, key, STORE_ANY, &row), OK);
    struct bytes copy = bytes_of(mem_copy(row.data.data, row.data.size), row.data.size);
    store_value_release(&row);
    return copy;
}

#endif
