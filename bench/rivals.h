// SPDX-License-Identifier: Apache-2.0
// Servers that qs is measured beside, as Debian packages them, each a child of this process that
// dies with it: Redis without persistence (its fastest), alone or as the replica of another, Valkey
// with the same settings, memcached with one thread and room for everything, and one member of etcd
// with its data below a directory of the experiment. They listen on a unix socket there; Redis and
// Valkey also on the loopback address, for Redis's replicas alone, and etcd on nothing else.
// Failures are said on standard error. One thread.
#ifndef QS_BENCH_RIVALS_H
#define QS_BENCH_RIVALS_H

#include "bench/dialect.h"
#include "bench/pairs.h"

struct rival {
    const char *name;
    enum dialect dialect;
    char *socket;  // NULL: etcd
    unsigned port; // of Redis, Valkey and etcd
    pid_t process; // 0: not running
    char version[32];
};

// Start one and wait until it serves. `source`: NULL, or the Redis that it follows, and it is
// waited for until it does.
bool rival_redis(struct rival *rival, const char *name, const char *directory,
                 const struct rival *source) MUST_CHECK;
// `program`: its path, as it may be installed nowhere.
bool rival_valkey(struct rival *rival, const char *program, const char *directory) MUST_CHECK;
bool rival_memcached(struct rival *rival, const char *directory,
                     const struct pairs *pairs) MUST_CHECK;
bool rival_etcd(struct rival *rival, const char *directory) MUST_CHECK;

// Ends it, if it runs; its data is gone.
void rival_stop(struct rival *rival);

#endif
