// SPDX-License-Identifier: Apache-2.0
#include "common/core/walker.h"

#include "common/base/clock.h"
#include "common/base/list.h"
#include "common/base/mem.h"

#define FIRST_STEP_NS NS_PER_S

struct walked {
    struct list node; // in the walker's, in the order of turns
    struct walker *walker;
    struct instance *instance;
    struct task add_task, remove_task;
    struct notice wake;
    struct notice *leaving; // set by who removes it, before the task is posted
    struct notice *removed; // set once it is out of the list: a wake may come in between
    uint64_t hand_at_ns;    // when the next step of the hand is due
};

struct walker {
    struct worker *worker;
    struct list instances; // struct walked
};

// Frees it once no wake is on its way.
static void end_if_over(struct walked *walked)
{
    if (walked->removed == NULL || atomic_load(&walked->wake.pending)) {
        return;
    }
    struct notice *removed = walked->removed;
    mem_free(walked);
    notice_raise(removed);
}

static void on_wake(struct notice *notice)
{
    struct walked *walked = CONTAINER_OF(notice, struct walked, wake);
    walked->hand_at_ns = 0;
    end_if_over(walked);
}

static void on_add(struct task *task)
{
    struct walked *walked = CONTAINER_OF(task, struct walked, add_task);
    list_append(&walked->walker->instances, &walked->node);
}

static void on_remove(struct task *task)
{
    struct walked *walked = CONTAINER_OF(task, struct walked, remove_task);
    list_remove(&walked->node);
    walked->removed = walked->leaving;
    end_if_over(walked);
}

// One step for each instance that is due. Returns when the next one is.
static uint64_t walker_turn(void *argument)
{
    struct walker *walker = argument;
    uint64_t pause_ns = WORKER_IDLE;
    LIST_FOR_EACH(node, &walker->instances) {
        struct walked *walked = CONTAINER_OF(node, struct walked, node);
        struct instance *instance = walked->instance;
        if (atomic_load(&instance->closing) || instance->role->hand == NULL) {
            continue;
        }
        uint64_t now_ns = clock_mono_ns();
        if (walked->hand_at_ns <= now_ns) {
            uint64_t wanted_ns = instance->role->hand(instance);
            now_ns = clock_mono_ns();
            walked->hand_at_ns = wanted_ns == WORKER_IDLE ? UINT64_MAX : now_ns + wanted_ns;
        }
        if (walked->hand_at_ns != UINT64_MAX) {
            uint64_t left_ns = walked->hand_at_ns > now_ns ? walked->hand_at_ns - now_ns : 0;
            pause_ns = u64_min(pause_ns, left_ns);
        }
    }
    return pause_ns;
}

int walker_open(struct walker **ret_walker)
{
    struct walker *walker = mem_zalloc(sizeof *walker);
    list_init(&walker->instances);
    int error = worker_start(&walker->worker, "qs-walker", walker_turn, walker);
    if (error != OK) {
        mem_free(walker);
        return error;
    }
    *ret_walker = walker;
    return OK;
}

void walker_close(struct walker *walker)
{
    worker_stop(walker->worker);
    worker_free(walker->worker);
    CHECK(list_empty(&walker->instances));
    mem_free(walker);
}

void walker_add(struct walker *walker, struct instance *instance)
{
    struct walked *walked = mem_zalloc(sizeof *walked);
    walked->walker = walker;
    walked->instance = instance;
    walked->add_task.run = on_add;
    walked->remove_task.run = on_remove;
    walked->hand_at_ns = clock_mono_ns() + FIRST_STEP_NS;
    list_init(&walked->node);
    notice_init(&walked->wake, worker_mailbox(walker->worker), on_wake);
    pthread_mutex_lock(&instance->lock);
    instance->walked = walked;
    pthread_mutex_unlock(&instance->lock);
    mailbox_post(worker_mailbox(walker->worker), &walked->add_task);
}

void walker_remove(struct walker *walker, struct instance *instance, struct notice *removed)
{
    pthread_mutex_lock(&instance->lock);
    struct walked *walked = instance->walked;
    instance->walked = NULL; // it is woken no more
    pthread_mutex_unlock(&instance->lock);
    CHECK(walked != NULL);
    walked->leaving = removed;
    store_compact_cancel(instance->store);
    mailbox_post(worker_mailbox(walker->worker), &walked->remove_task);
}

void instance_wake_hand(struct instance *instance)
{
    pthread_mutex_lock(&instance->lock);
    if (instance->walked != NULL) {
        notice_raise(&instance->walked->wake);
    }
    pthread_mutex_unlock(&instance->lock);
}
