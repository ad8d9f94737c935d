// SPDX-License-Identifier: Apache-2.0
// The real threads behind common/base/task.h's worker.
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/base/error.h"
#include "common/base/mem.h"
#include "common/base/task.h"

struct worker {
    struct mailbox mailbox;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    bool awake;    // under lock: something was posted since the last wait
    bool stopping; // under lock
    uint64_t (*turn)(void *argument);
    void *argument;
    char name[16];
};

static void worker_wake(void *argument)
{
    struct worker *worker = argument;
    pthread_mutex_lock(&worker->lock);
    worker->awake = true;
    pthread_cond_signal(&worker->woken);
    pthread_mutex_unlock(&worker->lock);
}

static struct timespec deadline_after(uint64_t ns)
{
    uint64_t at = clock_mono_ns() + ns;
    return (struct timespec){.tv_sec = (time_t)(at / NS_PER_S), .tv_nsec = (long)(at % NS_PER_S)};
}

// Waits for a post, the stop, or `ns`. Returns false when the worker shall end.
static bool worker_wait(struct worker *worker, uint64_t ns)
{
    pthread_mutex_lock(&worker->lock);
    bool bounded = ns < 3600 * NS_PER_S;
    struct timespec deadline = deadline_after(bounded ? ns : 0);
    int code = 0;
    while (!worker->awake && !worker->stopping && code == 0 && ns > 0) {
        code = bounded ? pthread_cond_timedwait(&worker->woken, &worker->lock, &deadline)
                       : pthread_cond_wait(&worker->woken, &worker->lock);
    }
    bool go_on = worker->awake || !worker->stopping;
    worker->awake = false;
    pthread_mutex_unlock(&worker->lock);
    return go_on || !mailbox_empty(&worker->mailbox);
}

static void run_posted(struct worker *worker)
{
    struct task *next;
    for (struct task *task = mailbox_take(&worker->mailbox); task != NULL; task = next) {
        next = task->next;
        task->run(task);
    }
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    pthread_setname_np(pthread_self(), worker->name);
    uint64_t pause = 0;
    while (worker_wait(worker, pause)) {
        run_posted(worker);
        pause = worker->turn != NULL ? worker->turn(worker->argument) : WORKER_IDLE;
    }
    return NULL;
}

int worker_start(struct worker **ret_worker, const char *name, uint64_t (*turn)(void *),
                 void *argument)
{
    struct worker *worker = mem_zalloc(sizeof *worker);
    worker->mailbox = (struct mailbox){.wake = worker_wake, .argument = worker};
    worker->turn = turn;
    worker->argument = argument;
    snprintf(worker->name, sizeof worker->name, "%s", name);
    pthread_mutex_init(&worker->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&worker->woken, &attributes);
    pthread_condattr_destroy(&attributes);
    int code = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (code != 0) {
        mem_free(worker);
        return error_from_errno(code);
    }
    *ret_worker = worker;
    return OK;
}

struct mailbox *worker_mailbox(struct worker *worker) { return &worker->mailbox; }

void worker_stop(struct worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    worker->stopping = true;
    pthread_cond_signal(&worker->woken);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
}

void worker_free(struct worker *worker)
{
    if (worker == NULL) {
        return;
    }
    run_posted(worker);
    pthread_cond_destroy(&worker->woken);
    pthread_mutex_destroy(&worker->lock);
    mem_free(worker);
}
