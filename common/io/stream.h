// SPDX-License-Identifier: Apache-2.0
// A buffered byte stream over one socket of a loop: bounded buffers, coalesced writes,
// backpressure both ways, files sent straight from the page cache, deferred close.
//
// Writes collect in the out buffer and leave at the end of the loop's turn (or at once by
// stream_flush). While the socket is full the stream waits for it and goes on by itself.
// Received bytes are handed to on_data, which says how many it used; the rest is kept and handed
// over again with what follows. A stream has a stage: plain today; TLS takes its place later
// without the owner noticing (a plain stage sends files with sendfile, a TLS stage writes them
// from a mapping).
//
// When the other side ends, what it sent is handed over, what is pending is sent (for at most
// 5 s), and then the stream closes; an owner that still owes answers pauses, and the end shows
// after it resumes.
//
// Embedded in its owner; after stream_close the owner keeps it until on_close. Loop thread only.
#ifndef QS_COMMON_IO_STREAM_H
#define QS_COMMON_IO_STREAM_H

#include "common/base/buf.h"
#include "common/io/loop.h"

struct stream;

struct stream_ops {
    // `data` = all unconsumed bytes. Returns how many were used (0 = need more), or a negative
    // error, upon which the stream is closed. May call any stream function but must expect
    // stream_close to have marked the stream.
    ssize_t (*on_data)(struct stream *stream, struct bytes data);
    // The out buffer is empty and the socket takes more; may be NULL. Called whenever the loop
    // has sent all that was pending, and after stream_want_drained. This is where a feeder writes
    // its next frame or sends its next stretch of file.
    void (*on_drained)(struct stream *stream);
    // The other side sent its last byte, and all was handed over. True: the owner still owes
    // answers and calls stream_finish when they are written; false, or NULL: finish now.
    bool (*on_end)(struct stream *stream);
    // The last call: `error` = OK after stream_close by the owner, ERR_CLOSED when the other side
    // ended, or what went wrong. The memory is the owner's again.
    void (*on_close)(struct stream *stream, int error);
};

// What a stage does; the plain one is built in. Sending returns the bytes taken, 0 when the socket
// is full, or a negative error.
struct stream_stage {
    ssize_t (*send)(struct stream *stream, struct bytes data);
    ssize_t (*send_file)(struct stream *stream, int fd, off_t *offset, size_t size);
    // Decoded bytes into stream->in; NULL: received bytes are the owner's as they are.
    int (*received)(struct stream *stream, struct bytes data);
};

struct stream {
    struct watch watch;
    const struct stream_ops *ops;
    const struct stream_stage *stage;
    struct task flush_task;
    struct timer close_timer; // bounds a graceful close
    struct buf in;
    struct buf out;
    size_t out_sent;   // of `out`, already sent
    size_t in_limit;   // unconsumed bytes kept at most; beyond it: ERR_REQUEST_SIZE
    int close_error;
    bool flush_queued, wants_write, paused, closing, draining, in_callback;
    bool ended;         // the other side will send no more
    bool resumed;       // `in` holds bytes that were not handed over since stream_resume
    bool drained_asked; // on_drained is owed as soon as the socket takes more
    bool watch_closed;  // only the flush task keeps the memory
    uint64_t bytes_in, bytes_out;
};

// Takes over `fd` (connected, or connecting: sending waits for it) and starts receiving.
void stream_open(struct stream *stream, struct loop *loop, int fd, size_t in_limit,
                 const struct stream_ops *ops);

void stream_write(struct stream *stream, struct bytes data);
// Direct access to the out buffer, for encoders that write in place; then stream_wrote.
struct buf *stream_out(struct stream *stream);
void stream_wrote(struct stream *stream);
void stream_flush(struct stream *stream);
size_t stream_pending(const struct stream *stream); // bytes written and not sent yet

// Sends up to `size` bytes of the file from *offset, advancing it, without copying; only while
// nothing is pending in the out buffer. Returns bytes sent, 0 when the socket is full (on_drained
// comes later), or a negative error, which does not close the stream by itself (ERR_IO too when
// the file ends before `size`).
ssize_t stream_send_file(struct stream *stream, int fd, off_t *offset, size_t size) MUST_CHECK;

// Sends `data`, a few bytes, and with them descriptors, at most STREAM_FDS_MAX, which stay the
// caller's; only on a unix socket, and while nothing is pending. ERR_BUSY: something is, or the
// socket takes no more now; nothing was sent. Other errors have closed the stream.
#define STREAM_FDS_MAX 8
int stream_send_fds(struct stream *stream, struct bytes data, const int *fds,
                    unsigned count) MUST_CHECK;

// Asks for on_drained when the socket takes more (at once if it does, at the end of this turn).
void stream_want_drained(struct stream *stream);

// Stops and restarts on_data, also for the rest of the bytes that it was given; what is buffered
// is handed over on resume (in a later phase of the turn, never from inside stream_resume).
void stream_pause(struct stream *stream);
void stream_resume(struct stream *stream);

// stream_finish sends what is pending (for at most 5 s), then closes; what still arrives is
// dropped. stream_close closes now. Closing twice is harmless, the first error counts.
void stream_finish(struct stream *stream);
void stream_close(struct stream *stream, int error);
static inline bool stream_closing(const struct stream *stream) { return stream->closing; }

#endif
