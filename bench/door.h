// SPDX-License-Identifier: Apache-2.0
// One way for one client to look a key up, and wait for the answer: an engine in this process,
// libqs, or Redis over its unix socket by hiredis. All copy the value out. Failures are said on
// standard error. One thread.
#ifndef QS_BENCH_DOOR_H
#define QS_BENCH_DOOR_H

#include <sys/types.h>

#include "bench/engines.h"

// Of a get: absent, or no answer; what is not negative is the size of the value.
#define DOOR_ABSENT (-1)
#define DOOR_FAILED (-2)

struct door {
    // Copies the value of a key to `to`; one that does not fit into `room` is a failure.
    ssize_t (*get)(void *of, struct bytes key, uint8_t *to, size_t room);
    void (*close)(void *of);
    void *of; // NULL: not open
};

bool door_engine(struct door *door, const struct engine_calls *calls, const char *directory,
                 const struct pairs *pairs, const uint32_t *order) MUST_CHECK;

// `maps`: looks into the memory that the daemon shares first, once it has asked the socket some
// times. `busy_us`: for so long the client looks for an answer before it sleeps.
bool door_libqs(struct door *door, const char *socket, bool maps, unsigned busy_us) MUST_CHECK;
bool door_redis(struct door *door, const char *socket, unsigned busy_us) MUST_CHECK;

void door_close(struct door *door);

#endif
