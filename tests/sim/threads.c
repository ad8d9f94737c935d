// SPDX-License-Identifier: Apache-2.0
// In place of common/base/worker.c and common/core/readers.c: workers and readers are actors that
// run when something was posted to them, after a delay that the seed chooses.
#include "common/base/mem.h"
#include "common/base/task.h"
#include "common/core/readers.h"
#include "tests/sim/seams.h"

#define READ_MAX_NS (20 * NS_PER_MS)

struct worker {
    struct mailbox mailbox;
    struct actor actor;
    uint64_t (*turn)(void *argument);
    void *argument;
    bool stopped;
};

static void worker_wake(void *argument)
{
    struct worker *worker = argument;
    if (!worker->stopped) {
        actor_after(&worker->actor, chance_skewed(500, WAKE_MAX_NS));
    }
}

static void run_posted(struct worker *worker)
{
    struct task *next;
    for (struct task *task = mailbox_take(&worker->mailbox); task != NULL; task = next) {
        next = task->next;
        task->run(task);
    }
}

static void worker_run(struct actor *actor)
{
    struct worker *worker = CONTAINER_OF(actor, struct worker, actor);
    run_posted(worker);
    uint64_t pause_ns = worker->turn != NULL ? worker->turn(worker->argument) : WORKER_IDLE;
    if (!mailbox_empty(&worker->mailbox)) {
        pause_ns = 0;
    }
    if (pause_ns != WORKER_IDLE && !worker->stopped) {
        actor_after(&worker->actor, host_to_world_ns(actor->host, pause_ns) + 1000);
    }
}

int worker_start(struct worker **ret_worker, const char *name, uint64_t (*turn)(void *),
                 void *argument)
{
    (void)name;
    struct worker *worker = mem_zalloc(sizeof *worker);
    worker->mailbox = (struct mailbox){.wake = worker_wake, .argument = worker};
    worker->turn = turn;
    worker->argument = argument;
    actor_init(&worker->actor, world_host(), worker_run);
    actor_after(&worker->actor, chance_skewed(1000, WAKE_MAX_NS));
    *ret_worker = worker;
    return OK;
}

struct mailbox *worker_mailbox(struct worker *worker) { return &worker->mailbox; }

void worker_stop(struct worker *worker)
{
    actor_cancel(&worker->actor);
    worker->stopped = true;
    while (!mailbox_empty(&worker->mailbox)) {
        run_posted(worker);
        if (worker->turn != NULL) {
            (void)worker->turn(worker->argument);
        }
    }
}

void worker_free(struct worker *worker)
{
    if (worker != NULL) {
        run_posted(worker);
        mem_free(worker);
    }
}

// ---- readers -----------------------------------------------------------------------------------

struct readers {
    struct list queue;
    struct actor actor;
};

static void readers_run(struct actor *actor)
{
    struct readers *readers = CONTAINER_OF(actor, struct readers, actor);
    // Several threads: jobs end in any order.
    uint64_t skip = chance_below(3);
    struct list *node = readers->queue.next;
    while (skip-- > 0 && node->next != &readers->queue) {
        node = node->next;
    }
    list_remove(node);
    struct read_job *job = CONTAINER_OF(node, struct read_job, node);
    count_add(COUNT_pooled, 1);
    job->work(job);
    loop_post(job->loop, &job->done);
    if (!list_empty(&readers->queue)) {
        actor_after(actor, chance_skewed(1000, READ_MAX_NS));
    }
}

int readers_open(struct readers **ret_readers, unsigned threads)
{
    CHECK(threads > 0);
    struct readers *readers = mem_zalloc(sizeof *readers);
    list_init(&readers->queue);
    actor_init(&readers->actor, world_host(), readers_run);
    *ret_readers = readers;
    return OK;
}

void readers_close(struct readers *readers)
{
    CHECK(list_empty(&readers->queue));
    actor_cancel(&readers->actor);
    mem_free(readers);
}

void readers_submit(struct readers *readers, struct read_job *job)
{
    list_append(&readers->queue, &job->node);
    actor_after(&readers->actor, chance_skewed(1000, READ_MAX_NS));
}
