// SPDX-License-Identifier: Apache-2.0
// A session of many threads with one daemon: its lines, and the newest state that it has seen.
//
// Of lines there are at most `connections`; a thread has one for one exchange, and waits when all
// are taken. What was seen is noted when a line is given back, before the call returns: so a call
// that begins later, on whatever line, knows what it must not fall behind. A line is of one
// history, which it learns when it is opened; a line of another history than the session's is
// refused there. Locks: one mutex, held for a few instructions, never while anything waits for the
// network.
#ifndef QS_COMMON_CLIENT_HANDLE_H
#define QS_COMMON_CLIENT_HANDLE_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/client/door.h"
#include "common/client/line.h"

struct qs {
    struct address address;
    char *where;    // the address, for people
    char *instance; // NULL: the one that is served there
    uint64_t timeout_ns, busy_ns, reply_bytes;
    unsigned connections;
    struct door *door; // NULL: none

    pthread_mutex_t lock;
    pthread_cond_t freed;
    struct list idle;
    unsigned open;                    // lines, idle ones and those in use
    char history[HISTORY_DIGITS + 1]; // "": none seen yet
    uint64_t session;                 // counts qs_forget
    _Atomic uint64_t seen;            // the newest index; above it, the session's lowest bits
    _Atomic uint64_t lines;           // that handle_take has opened so far
};

// A line for one exchange: idle and sound, or newly opened. *ret_newest is the index that must not
// be fallen behind. Errors are told by `fault`.
int handle_take(struct qs *qs, uint64_t deadline_ns, struct line **ret_line,
                uint64_t *ret_newest) MUST_CHECK;

// Gives it back after an exchange that has shown or written `index` (0: nothing). One that is not
// `usable` is closed.
void handle_give(struct qs *qs, struct line *line, bool usable, uint64_t index);

// A line of its own, which counts for nothing; closed by line_close and mem_free.
int handle_open_line(struct qs *qs, uint64_t deadline_ns, struct line **ret_line) MUST_CHECK;

// What has been seen: the newest index, and in which session. Without a lock.
struct seen {
    uint64_t session, index;
};
struct seen handle_seen(const struct qs *qs);

// Something that belongs to this session (of which the lowest bits count) has shown `index`. If
// that session is over it is nothing to the next one. Without a lock.
void handle_saw(struct qs *qs, uint64_t session, uint64_t index);

#endif
