// SPDX-License-Identifier: Apache-2.0
#include "common/base/task.h"

void mailbox_post(struct mailbox *mailbox, struct task *task)
{
    CHECK(task->run != NULL);
    struct task *newest = atomic_load_explicit(&mailbox->newest, memory_order_relaxed);
    do {
        task->next = newest;
    } while (!atomic_compare_exchange_weak_explicit(&mailbox->newest, &newest, task,
                                                    memory_order_acq_rel, memory_order_relaxed));
    if (newest == NULL) {
        mailbox->wake(mailbox->argument);
    }
}

struct task *mailbox_take(struct mailbox *mailbox)
{
    struct task *newest = atomic_exchange_explicit(&mailbox->newest, NULL, memory_order_acq_rel);
    struct task *oldest = NULL;
    while (newest != NULL) {
        struct task *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    return oldest;
}

static void notice_run(struct task *task)
{
    struct notice *notice = CONTAINER_OF(task, struct notice, task);
    atomic_store(&notice->pending, false);
    notice->seen(notice);
}

void notice_init(struct notice *notice, struct mailbox *mailbox, void (*seen)(struct notice *))
{
    notice->task = (struct task){.run = notice_run};
    notice->mailbox = mailbox;
    notice->seen = seen;
    atomic_init(&notice->pending, false);
}

void notice_raise(struct notice *notice)
{
    if (!atomic_exchange(&notice->pending, true)) {
        mailbox_post(notice->mailbox, &notice->task);
    }
}
