// SPDX-License-Identifier: Apache-2.0
// Children of a source, as its replicas would be, that read all they are sent, count it and keep
// nothing: so that the source alone is measured. They greet in the source's own protocol (of qs:
// empty nodes that follow from the first block; of Redis: replicas without data) and give a sign of
// life now and then. A thread of its own for all of them.
#ifndef QS_BENCH_DRAINS_H
#define QS_BENCH_DRAINS_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/buf.h"

#define DRAINS_MAX 64

struct drains {
    struct drain {
        int fd;
        atomic_uint_fast64_t bytes; // received
    } drain[DRAINS_MAX];
    unsigned count;
    struct buf sign; // of life
    pthread_t thread;
    atomic_bool stop, lost;
};

// Connect so many to a port of the loopback address, and begin to read. False: somebody could not,
// said on standard error; close them nevertheless.
bool drains_open_qs(struct drains *drains, unsigned count, unsigned port) MUST_CHECK;
bool drains_open_redis(struct drains *drains, unsigned count, unsigned port) MUST_CHECK;

// Waits until hardly anything comes any more. False: a source has ended a connection, or goes on
// and on; said on standard error.
bool drains_settle(struct drains *drains) MUST_CHECK;

// What child `which` has received so far.
uint64_t drains_bytes(const struct drains *drains, unsigned which);

void drains_close(struct drains *drains);

#endif
