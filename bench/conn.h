// SPDX-License-Identifier: Apache-2.0
// A client's connection over a unix socket that never blocks by itself: requests are queued and
// flushed, replies taken as they come (RESP2, parsed by hiredis). A connection that failed stays
// failed until it is closed. Zero-initialised = closed. One thread.
#ifndef QS_BENCH_CONN_H
#define QS_BENCH_CONN_H

#include <hiredis/hiredis.h>

#include "common/base/buf.h"

struct conn {
    bool open;
    int fd;
    redisReader *reader;
    struct buf out; // requests not yet handed to the kernel
};

bool conn_open(struct conn *conn, const char *socket) MUST_CHECK;
void conn_close(struct conn *conn);

// Queues one request.
void conn_send(struct conn *conn, size_t count, const struct bytes *words);

// Hands what is queued to the kernel / reads what has come; false: the connection is lost.
bool conn_flush(struct conn *conn) MUST_CHECK;
bool conn_fill(struct conn *conn) MUST_CHECK;

// The next reply in *ret_reply, NULL when none is complete yet; false: not RESP.
bool conn_take(struct conn *conn, redisReply **ret_reply) MUST_CHECK;

static inline bool conn_unsent(const struct conn *conn) { return conn->out.size > 0; }

// One request and its reply, waiting at most that long; NULL: lost, or no answer in time.
redisReply *conn_call(struct conn *conn, uint64_t limit_ns, size_t count,
                      const struct bytes *words) MUST_CHECK;

// The same on a connection of its own, words separated by blanks. NULL: as above.
redisReply *conn_ask(const char *socket, uint64_t limit_ns, const char *words) MUST_CHECK;

#endif
