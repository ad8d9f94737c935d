// SPDX-License-Identifier: Apache-2.0
// `qs-bench mixed`: one writer at a root and many sessions that read at other nodes and move
// between them, every answer checked against the writer's log; beside them handles of libqs, each
// at one node. Whoever runs it may kill and start the nodes that are read; sessions then go on
// elsewhere with their tokens.
#ifndef QS_BENCH_MIXED_H
#define QS_BENCH_MIXED_H

#include "common/base/base.h"

#define MIXED_NODES_MAX 16
#define MIXED_SESSIONS_MAX 1024
#define MIXED_HANDLES_MAX 16

struct mixed_options {
    const char *root; // unix socket
    const char *nodes[MIXED_NODES_MAX];
    size_t node_count;
    uint64_t reads;     // keys looked up in all, before it ends
    uint64_t read_rate; // keys a second, at most
    uint64_t writes;    // changes a second, in batches of all kinds
    uint64_t changes;   // in a batch, at most
    uint64_t sessions;
    uint64_t handles;     // threads with a handle of libqs, by the socket alone
    uint64_t mapped;      // ... that maps what the node shares: as fast as it goes
    uint64_t keys;        // that are written again and again
    uint64_t fresh;       // that are written once, beside them
    bool root_restarts;   // the root, too, is killed and started
    uint64_t value_bytes; // longest value
    uint64_t seed;
    uint64_t limit_seconds;
};

// Prints lines of JSON: {"reads": n} ten times a second, everything in the last one. The exit
// code: 0 when all reads were made in time and none was wrong.
int mixed_run(const struct mixed_options *options);

#endif
