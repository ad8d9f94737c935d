// SPDX-License-Identifier: Apache-2.0
#include "replica/past.h"

#include "replica/mvcc_walk.h"

int past_error(const struct instance *instance, const struct view *view, uint64_t at)
{
    // The floor is that of the store in use, and a fork may have lowered it: so it is looked at
    // before the store that it is of.
    bool gone = at < atomic_load(&instance->history_floor);
    return gone || view->store != atomic_load(&instance->store) ? ERR_GONE : OK;
}

static void recall(const struct read *read, struct lookup *lookup, uint64_t *ret_bytes)
{
    struct mvcc_finding found = {0};
    int error =
        mvcc_read(read->view->store, read->view->snapshot, lookup->key, read->at, &found);
    lookup_recall(read, lookup, error, &found.record, ret_bytes);
    mvcc_release(&found);
}

static void past_work(struct read_job *job)
{
    struct read *read = CONTAINER_OF(job, struct read, job);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < read->count; i++) {
        if (read->lookups[i].past) {
            recall(read, &read->lookups[i], &bytes);
        }
    }
    int error = past_error(read->instance, read->view, read->at);
    for (unsigned i = 0; i < read->count && error != OK; i++) {
        if (read->lookups[i].past) {
            read->lookups[i].status = error;
        }
    }
}

static void past_worked(struct task *task)
{
    read_resolved(CONTAINER_OF(task, struct read, job.done));
}

void past_read(struct instance *instance, struct read *read)
{
    (void)instance;
    read_submit(read, past_work, past_worked);
}

int past_rows(struct instance *instance, const struct view *view, uint64_t at,
              const struct role_range *range, role_row *row, void *argument)
{
    int error = mvcc_walk(view->store, view->snapshot, at, range, row, argument);
    return error == OK ? past_error(instance, view, at) : error;
}
