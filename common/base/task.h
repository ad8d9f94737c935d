// SPDX-License-Identifier: Apache-2.0
// How threads hand work to each other: a task is embedded in its owner and posted to a mailbox; a
// mailbox belongs to one thread (a loop or a worker), which runs tasks in the order of posting.
// Nothing else crosses threads without a lock of its own.
#ifndef QS_COMMON_BASE_TASK_H
#define QS_COMMON_BASE_TASK_H

#include <stdatomic.h>

#include "common/base/base.h"

struct task {
    struct task *next;
    void (*run)(struct task *task); // on the mailbox's thread
};

struct mailbox {
    _Atomic(struct task *) newest;
    void (*wake)(void *argument); // any thread; called when the mailbox was empty
    void *argument;
};

// Hands over `task`, which must be in no mailbox. Any thread; wait-free but for the wake.
void mailbox_post(struct mailbox *mailbox, struct task *task);

// Takes all posted tasks, oldest first, linked by `next`; NULL when there is none. Owner only.
struct task *mailbox_take(struct mailbox *mailbox);

static inline bool mailbox_empty(struct mailbox *mailbox)
{
    return atomic_load_explicit(&mailbox->newest, memory_order_acquire) == NULL;
}

// A notice is a task that may be raised any number of times before it runs, and then runs once:
// "something changed, look again". Its owner must stop the raisers before it frees it, and wait
// until it is not pending.
struct notice {
    struct task task;
    struct mailbox *mailbox; // of the thread that looks
    void (*seen)(struct notice *notice);
    _Atomic bool pending;
};

void notice_init(struct notice *notice, struct mailbox *mailbox, void (*seen)(struct notice *));
void notice_raise(struct notice *notice); // any thread

// A thread with a mailbox. After all posted tasks have run, `turn` is called: it does what the
// tasks prepared and returns how many nanoseconds may pass until it must be called again even if
// nothing is posted (0 = at once, WORKER_IDLE = never). The simulator links another file.
struct worker;
#define WORKER_IDLE UINT64_MAX

// `name` is at most 15 characters. `turn` may be NULL.
int worker_start(struct worker **ret_worker, const char *name, uint64_t (*turn)(void *argument),
                 void *argument) MUST_CHECK;

struct mailbox *worker_mailbox(struct worker *worker);

// Runs what is posted and joins the thread. Posting stays harmless. Not from the worker itself.
void worker_stop(struct worker *worker);
// Runs what was posted since the stop, on this thread, and frees the worker. NULL is allowed.
void worker_free(struct worker *worker);

#endif
