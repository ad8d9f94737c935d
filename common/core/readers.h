// SPDX-License-Identifier: Apache-2.0
// Threads for reads that may block on the disk. A job runs on one of them and then comes back to
// the loop that sent it.
#ifndef QS_COMMON_CORE_READERS_H
#define QS_COMMON_CORE_READERS_H

#include "common/io/loop.h"

struct readers;

struct read_job {
    struct list node;
    void (*work)(struct read_job *job); // on a reader thread
    struct loop *loop;
    struct task done; // then on the loop; set done.run
};

int readers_open(struct readers **ret_readers, unsigned threads) MUST_CHECK;
void readers_close(struct readers *readers); // finishes what is queued
void readers_submit(struct readers *readers, struct read_job *job); // any thread

#endif
