// SPDX-License-Identifier: Apache-2.0
// One queue for all threads, under one lock: jobs are long compared with it. A job belongs to the
// pool from readers_submit until its `done` is posted; the pool touches nothing of it afterwards.
#include "common/core/readers.h"

#include <pthread.h>
#include <stdio.h>

#include "common/base/mem.h"

struct readers {
    pthread_mutex_t lock; // guards queue and stopping
    pthread_cond_t more;
    struct list queue;
    bool stopping;
    unsigned threads;
    pthread_t ids[];
};

// The next job; NULL when the queue is empty and the pool is to end.
static struct read_job *take(struct readers *readers)
{
    pthread_mutex_lock(&readers->lock);
    while (list_empty(&readers->queue) && !readers->stopping) {
        pthread_cond_wait(&readers->more, &readers->lock);
    }
    struct list *node = list_take(&readers->queue);
    pthread_mutex_unlock(&readers->lock);
    return node != NULL ? CONTAINER_OF(node, struct read_job, node) : NULL;
}

static void *reader_main(void *argument)
{
    struct readers *readers = argument;
    struct read_job *job = take(readers);
    while (job != NULL) {
        job->work(job);
        loop_post(job->loop, &job->done);
        job = take(readers);
    }
    return NULL;
}

int readers_open(struct readers **ret_readers, unsigned threads)
{
    CHECK(threads > 0);
    struct readers *readers = mem_zalloc(sizeof *readers + threads * sizeof readers->ids[0]);
    pthread_mutex_init(&readers->lock, NULL);
    pthread_cond_init(&readers->more, NULL);
    list_init(&readers->queue);
    for (unsigned i = 0; i < threads; i++) {
        if (pthread_create(&readers->ids[i], NULL, reader_main, readers) != 0) {
            readers_close(readers);
            return ERR_IO;
        }
        readers->threads++;
        char name[16];
        snprintf(name, sizeof name, "reader %u", i % 1000);
        pthread_setname_np(readers->ids[i], name);
    }
    *ret_readers = readers;
    return OK;
}

void readers_close(struct readers *readers)
{
    pthread_mutex_lock(&readers->lock);
    readers->stopping = true;
    pthread_cond_broadcast(&readers->more);
    pthread_mutex_unlock(&readers->lock);
    for (unsigned i = 0; i < readers->threads; i++) {
        pthread_join(readers->ids[i], NULL);
    }
    CHECK(list_empty(&readers->queue));
    pthread_cond_destroy(&readers->more);
    pthread_mutex_destroy(&readers->lock);
    mem_free(readers);
}

void readers_submit(struct readers *readers, struct read_job *job)
{
    pthread_mutex_lock(&readers->lock);
    CHECK(!readers->stopping);
    list_append(&readers->queue, &job->node);
    pthread_cond_signal(&readers->more);
    pthread_mutex_unlock(&readers->lock);
}
