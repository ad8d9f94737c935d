// SPDX-License-Identifier: Apache-2.0
// A client of etcd 3.4 by its JSON gateway: HTTP requests with JSON bodies, keys and values in
// base64; one connection, one request at a time. A watch is an answer without end. What goes wrong
// (etcd says so, or an answer is none of its) is kept as text, and the client is of no use from
// then on. One thread for each client.
#ifndef QS_BENCH_ETCD_H
#define QS_BENCH_ETCD_H

#include "common/base/buf.h"

// A pair that an answer holds; both are gone when this returns.
typedef void etcd_pair(void *of, struct bytes key, struct bytes value);

// What the gateway sends, in pieces that may end anywhere.
struct etcd_answers {
    etcd_pair *pair;
    void *of;
    struct buf rest;       // of an answer whose end has not come
    struct buf key, value; // of the pair that is read just now
    uint64_t count;        // whole answers
    bool watching;         // the watch has begun
    char fault[192];       // "": none
};

// Takes the answers that are complete: each ends with a line feed. False: one of them is a fault.
bool etcd_answers_add(struct etcd_answers *answers, struct bytes piece) MUST_CHECK;
// Nothing more comes: what is left is an answer, too.
bool etcd_answers_end(struct etcd_answers *answers) MUST_CHECK;
void etcd_answers_free(struct etcd_answers *answers);

struct etcd;

// `port`: of the loopback address; `pair`: NULL, or called with `of` for each pair that is found or
// told of. Nothing is sent yet.
struct etcd *etcd_open(unsigned port, etcd_pair *pair, void *of) MUST_CHECK;
void etcd_close(struct etcd *etcd);

// Each waits for the answer, ten seconds at most.
bool etcd_put(struct etcd *etcd, struct bytes key, struct bytes value) MUST_CHECK;
// The pairs from the key `first` to before the key `end`.
bool etcd_range(struct etcd *etcd, struct bytes first, struct bytes end) MUST_CHECK;

// Begins to watch the same range, and waits until it has begun; from then on the client does
// nothing else. etcd_wait takes what is told, and waits for it `wait_ms` at most.
bool etcd_watch(struct etcd *etcd, struct bytes first, struct bytes end) MUST_CHECK;
bool etcd_wait(struct etcd *etcd, unsigned wait_ms) MUST_CHECK;

// Why the last call returned false.
const char *etcd_fault(const struct etcd *etcd);

#endif
