// SPDX-License-Identifier: Apache-2.0
// Daemons on this machine below a temporary directory, each from a configuration that is written in
// one place (node_config in nodes.c), and what they say about themselves: a root; a replica, a
// middle one and a leaf in a chain below it; a proxy. They die with this process. Failures are said
// on standard error. One thread.
#ifndef QS_BENCH_NODES_H
#define QS_BENCH_NODES_H

#include "common/base/bytes.h"

enum { NODE_ROOT, NODE_REPLICA, NODE_PROXY, NODE_MIDDLE, NODE_LEAF, NODE_COUNT };

struct node {
    const char *name; // "root", "replica", "proxy", "middle", "leaf"
    char *directory;  // configuration, log, socket, data
    char *socket;
    unsigned peer_port, admin_port;
    pid_t process; // 0: not running
    uint64_t start_ns; // from the last start to its first answer
};

struct nodes {
    char *directory;
    const char *io;    // the daemons' option
    const char *cache; // `cache { max_bytes }` of the proxy; NULL: none
    const char *more;  // further options of every daemon, lines with their ends; NULL: none
    const char *own[NODE_COUNT]; // likewise, of a node's instance
    int source;        // the node that the proxy fetches from; NODE_REPLICA unless set
    struct node node[NODE_COUNT];
};

// `directory`: below it, NULL = below a temporary one. Nodes that are there already keep their
// data.
bool nodes_open(struct nodes *nodes, const char *directory, const char *io,
                const char *cache) MUST_CHECK;

// Ends what runs; the directory goes unless it is to be kept. False: a node did not end in order.
bool nodes_close(struct nodes *nodes, bool keep) MUST_CHECK;

// Starts a node and waits until it serves. `keys_only`: a proxy that keeps no value that arrives.
bool node_start(struct nodes *nodes, int which, bool keys_only) MUST_CHECK;

// Ends it in order: its store is flushed.
bool node_stop(struct nodes *nodes, int which) MUST_CHECK;

// Ends it by kill -9: nothing is flushed.
void node_kill(struct nodes *nodes, int which);

// Removes what a node that does not run has on disk, so that it builds its store anew.
bool node_clear(struct nodes *nodes, int which) MUST_CHECK;

// Waits until every node shows what the root shows.
bool nodes_settle(struct nodes *nodes) MUST_CHECK;

// The samples of one scrape as text, owned by the caller; NULL: no answer.
char *node_metrics(const struct node *node) MUST_CHECK;

// A metric's value by its bare name (without qs_), 0 when there is none of that name.
double metrics_value(const char *metrics, const char *name);

// One metric of a node; 0 when it cannot be asked.
double node_metric(const struct node *node, const char *name);

// Waits until so many looks in a row, four a second, found a metric the same; two minutes at most.
// A store's size shows a compaction only when it ends: it needs NODE_STORE_LOOKS.
#define NODE_STORE_LOOKS 8
void node_wait_still(const struct node *node, const char *metric, unsigned looks);

uint64_t node_resident_bytes(pid_t process);

// A line of the kernel's status of a process, "RssAnon", "RssShmem", "RssFile": in bytes.
double node_status_bytes(pid_t process, const char *name);

// A port of the loopback address that nobody has just now; 0: there is none.
unsigned nodes_free_port(void);

// Bytes that files below `part` of the node's instance take on disk ("" = all of it).
uint64_t node_disk_bytes(const struct node *node, const char *part);

#endif
