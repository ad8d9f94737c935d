// SPDX-License-Identifier: Apache-2.0
// The daemon: everything one qsd process holds, opened and closed in the order of one table.
#ifndef QS_QS_DAEMON_H
#define QS_QS_DAEMON_H

#include "common/core/read.h"
#include "common/core/walker.h"
#include "common/tree/tree.h"
#include "qs/config.h"

#define LOOPS_MAX 64

struct chair;

struct daemon_instance {
    struct instance *instance;
    struct instance_metrics metrics;
    struct fanout *fanout;
    struct beats *beats;
    void *sequencer; // at a root
    struct chair *chair; // of several roots that find each other through Consul, else NULL
};

struct daemon {
    const struct config *config;
    struct node_metrics metrics;
    struct loop *loops[LOOPS_MAX];
    pthread_t threads[LOOPS_MAX];
    unsigned loop_count, thread_count;
    struct readers *readers;
    struct readers *donors; // one thread, so that no client's read waits behind a snapshot's
    struct store_cache *cache;
    struct walker *walker;
    struct daemon_instance *instances; // in the order of the file
    unsigned instance_count;
    struct peers *peers;
    struct clients *clients; // qs/clients.c
    struct http *http;       // qs/http.c
    struct discover *discover; // qs/discover.c
    uint64_t started_ns, started_wall_ms;
    char run_id[41];
    bool left_open; // a store that could not be closed: the process must end by _exit
    bool unflushed; // ... and the next start has to replay for it
};

// By number or by name; NULL when there is none.
struct daemon_instance *daemon_find(struct daemon *daemon, struct bytes name);
struct daemon_instance *daemon_number(struct daemon *daemon, uint64_t number);

// Opens everything, serves until SIGTERM or SIGINT, closes everything. Returns an exit code.
int daemon_run(const struct config *config);

#endif
