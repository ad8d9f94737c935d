// SPDX-License-Identifier: Apache-2.0
// One connection to a daemon: requests out, replies in, never past a deadline. A line that failed
// once is of no more use, since what it brings next belongs to nobody. One thread at a time.
#ifndef QS_COMMON_CLIENT_LINE_H
#define QS_COMMON_CLIENT_LINE_H

#include "common/base/list.h"
#include "common/base/spin.h"
#include "common/client/answers.h"
#include "common/io/address.h"

// A history as it stands in tokens, 32 digits.
#define HISTORY_DIGITS 32

struct line {
    struct list node; // its owner's
    int fd;
    struct spin spin; // for what the daemon sends
    struct buf out;   // what is to be sent
    size_t sent;      // of it, taken by the kernel
    struct answers in;
    uint64_t session; // its owner's
    char history[HISTORY_DIGITS + 1]; // that the daemon shows on it
    uint64_t seen;                    // it has shown this index: it shows none before that any more
};

// Connects. On an error, whatever the system says or ERR_TIMEOUT, the line is closed. Replies of
// more than `reply_bytes` are refused.
int line_open(struct line *line, const struct address *address, uint64_t reply_bytes,
              uint64_t deadline_ns) MUST_CHECK;
void line_close(struct line *line);

// Appends one command to what is to be sent.
void line_add(struct line *line, size_t count, const struct bytes *words);
void line_add_text(struct line *line, const char *text); // words between blanks

// Sends all that was added and waits for so many replies. ERR_CLOSED, ERR_TIMEOUT, ERR_PROTOCOL,
// ERR_REPLY_SIZE, ERR_REQUEST_SIZE (nothing is sent). line_sent_whole then says whether the daemon
// may have the request.
int line_exchange(struct line *line, unsigned replies, uint64_t deadline_ns) MUST_CHECK;
static inline bool line_sent_whole(const struct line *line) { return line->sent == line->out.size; }

// Sends what was added and waits for one reply, and the descriptors that come with it, at most
// `max`. They are the caller's, also after an error: *ret_count is set always.
int line_exchange_fds(struct line *line, uint64_t deadline_ns, int *ret_fds, unsigned max,
                      unsigned *ret_count) MUST_CHECK;

// Of a line that streams: sends what was added, waits for one reply, and leaves those behind it.
int line_exchange_more(struct line *line, uint64_t deadline_ns) MUST_CHECK;

// Makes ready for the next exchange.
void line_reset(struct line *line);

// Whether nothing has come that nobody asked for, not even the end. A line that lay idle is asked
// before it is used: a write that is sent after the end may be lost, and nobody knows; and what
// came by itself would be taken for the answer.
bool line_is_quiet(const struct line *line);

#endif
