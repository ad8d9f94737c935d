// SPDX-License-Identifier: Apache-2.0
// Streams: buffers and backpressure over a watch.
//
// Invariants:
// - A callback of the owner is never entered from another one of the same stream: what an owner's
//   call makes necessary is done by the flush task at the end of the turn.
// - `in` holds bytes only when on_data left some; otherwise it sees the loop's own buffer.
// - wants_write: the socket was full, and on_writable comes; nothing is sent before it.
// - After stream_close nothing but on_close is called; it waits for the watch and the flush task.
#include "common/io/stream.h"

#include <errno.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "common/io/address.h"

#define FINISH_LIMIT_NS (5 * NS_PER_S)
#define KEEP_BYTES (64 * KIB)    // an empty buffer bigger than this is given back
#define COMPACT_BYTES (64 * KIB) // sent bytes are dropped when more, and half of the buffer
#define FILE_BYTES_PER_CALL ((size_t)1 << 30) // the kernel takes less than 2 GiB at a time

static ssize_t plain_send(struct stream *stream, struct bytes data)
{
    ssize_t sent = send(stream->watch.fd, data.data, data.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) {
        return sent;
    }
    bool full = errno == EAGAIN || errno == EINTR || errno == ENOBUFS;
    return full ? 0 : address_error(errno);
}

static ssize_t plain_send_file(struct stream *stream, int fd, off_t *offset, size_t size)
{
    ssize_t sent = sendfile(stream->watch.fd, fd, offset, size);
    if (sent > 0) {
        return sent;
    }
    if (sent == 0) {
        return ERR_IO; // the file ends before what its owner says it holds
    }
    bool full = errno == EAGAIN || errno == EINTR || errno == ENOBUFS;
    return full ? 0 : address_error(errno);
}

static const struct stream_stage plain_stage = {.send = plain_send, .send_file = plain_send_file};

static void queue_flush(struct stream *stream)
{
    if (!stream->flush_queued && !stream->closing) {
        stream->flush_queued = true;
        loop_defer(stream->watch.loop, &stream->flush_task);
    }
}

static void wait_writable(struct stream *stream)
{
    stream->wants_write = true;
    loop_want_write(&stream->watch);
}

static void give_back(struct buf *buf)
{
    if (buf->size == 0 && buf->capacity > KEEP_BYTES) {
        buf_free(buf);
    }
}

// Sends what is pending as far as the socket takes it. No callback.
static void push_out(struct stream *stream)
{
    while (!stream->wants_write && stream->out_sent < stream->out.size) {
        struct bytes rest = bytes_of(stream->out.data + stream->out_sent,
                                     stream->out.size - stream->out_sent);
        ssize_t sent = stream->stage->send(stream, rest);
        if (sent < 0) {
            stream_close(stream, (int)sent);
            return;
        }
        CHECK((size_t)sent <= rest.size);
        stream->out_sent += (size_t)sent;
        stream->bytes_out += (uint64_t)sent;
        if ((size_t)sent < rest.size) {
            wait_writable(stream);
        }
    }
    if (stream->out_sent == stream->out.size) {
        buf_clear(&stream->out);
        stream->out_sent = 0;
        give_back(&stream->out);
    } else if (stream->out_sent >= COMPACT_BYTES && stream->out_sent >= stream->out.size / 2) {
        buf_consume(&stream->out, stream->out_sent);
        stream->out_sent = 0;
    }
}

// Hands bytes to the owner until it wants no more. Returns how many it used.
static size_t hand_over(struct stream *stream, struct bytes data)
{
    CHECK(!stream->in_callback);
    size_t used = 0;
    while (used < data.size && !stream->paused && !stream->draining && !stream->closing) {
        size_t size = data.size - used;
        stream->in_callback = true;
        ssize_t taken = stream->ops->on_data(stream, bytes_of(data.data + used, size));
        stream->in_callback = false;
        if (taken < 0) {
            stream_close(stream, (int)taken);
            break;
        }
        CHECK((size_t)taken <= size);
        used += (size_t)taken;
        if (taken == 0) {
            // What stays because of a pause is bounded by what one receive brings; what stays
            // because it is incomplete is bounded here.
            if (size > stream->in_limit && !stream->paused && !stream->draining) {
                stream_close(stream, ERR_REQUEST_SIZE);
            }
            break;
        }
    }
    return used;
}

static void hand_over_kept(struct stream *stream)
{
    stream->resumed = false;
    if (stream->in.size > 0) {
        buf_consume(&stream->in, hand_over(stream, buf_bytes(&stream->in)));
        give_back(&stream->in);
    }
}

// Everything that the other side sent has been handed over: what is pending leaves, then the end.
static void end_if_due(struct stream *stream)
{
    if (!stream->ended || stream->paused || stream->draining || stream->closing) {
        return;
    }
    stream->close_error = ERR_CLOSED;
    stream->in_callback = true;
    bool kept = stream->ops->on_end != NULL && stream->ops->on_end(stream);
    stream->in_callback = false;
    if (!kept) {
        stream_finish(stream);
    }
}

static void on_recv(struct watch *watch, struct bytes data)
{
    struct stream *stream = CONTAINER_OF(watch, struct stream, watch);
    stream->bytes_in += data.size;
    if (data.size == 0) {
        stream->ended = true;
        hand_over_kept(stream);
        end_if_due(stream);
        return;
    }
    if (stream->draining) {
        return;
    }
    if (stream->stage->received != NULL) {
        int error = stream->stage->received(stream, data);
        if (error != OK) {
            stream_close(stream, error);
        }
    } else if (stream->in.size == 0) {
        size_t used = hand_over(stream, data);
        if (!stream->closing && !stream->draining) {
            buf_append(&stream->in, data.data + used, data.size - used);
        }
        return;
    } else {
        buf_append_bytes(&stream->in, data);
    }
    hand_over_kept(stream);
}

static void on_recv_error(struct watch *watch, int error)
{
    stream_close(CONTAINER_OF(watch, struct stream, watch), error);
}

// Closes a draining stream that has sent everything, or tells the owner that there is room.
static void after_push(struct stream *stream, bool was_pending)
{
    if (stream->closing || stream->wants_write || stream_pending(stream) > 0) {
        return;
    }
    if (stream->draining) {
        stream_close(stream, stream->close_error);
        return;
    }
    if (was_pending || stream->drained_asked) {
        stream->drained_asked = false;
        if (stream->ops->on_drained != NULL) {
            stream->in_callback = true;
            stream->ops->on_drained(stream);
            stream->in_callback = false;
        }
    }
}

static void on_writable(struct watch *watch)
{
    struct stream *stream = CONTAINER_OF(watch, struct stream, watch);
    stream->wants_write = false;
    push_out(stream);
    after_push(stream, true);
}

// The last step: neither the loop nor the turn's tasks know the stream any more.
static void release(struct stream *stream)
{
    buf_free(&stream->in);
    buf_free(&stream->out);
    stream->ops->on_close(stream, stream->close_error);
}

static void on_closed(struct watch *watch)
{
    struct stream *stream = CONTAINER_OF(watch, struct stream, watch);
    stream->watch_closed = true;
    if (!stream->flush_queued) {
        release(stream);
    }
}

static void flush_run(struct task *task)
{
    struct stream *stream = CONTAINER_OF(task, struct stream, flush_task);
    stream->flush_queued = false;
    if (stream->closing) {
        if (stream->watch_closed) {
            release(stream);
        }
        return;
    }
    if (stream->resumed && !stream->paused) {
        hand_over_kept(stream);
        end_if_due(stream);
    }
    if (!stream->closing && !stream->wants_write) {
        bool was_pending = stream_pending(stream) > 0;
        push_out(stream);
        after_push(stream, was_pending);
    }
}

static void finish_expired(struct timer *timer)
{
    struct stream *stream = CONTAINER_OF(timer, struct stream, close_timer);
    stream_close(stream, stream->close_error == OK ? ERR_TIMEOUT : stream->close_error);
}

void stream_open(struct stream *stream, struct loop *loop, int fd, size_t in_limit,
                 const struct stream_ops *ops)
{
    static const struct watch_ops watch_ops = {
        .on_recv = on_recv,
        .on_recv_error = on_recv_error,
        .on_writable = on_writable,
        .on_closed = on_closed,
    };
    CHECK(ops->on_data != NULL && ops->on_close != NULL && in_limit > 0);
    *stream = (struct stream){.ops = ops,
                              .stage = &plain_stage,
                              .flush_task = {.run = flush_run},
                              .in_limit = in_limit};
    timer_init(&stream->close_timer, finish_expired);
    loop_watch_open(loop, &stream->watch, fd, &watch_ops);
    loop_recv_start(&stream->watch);
}

void stream_write(struct stream *stream, struct bytes data)
{
    if (!stream->closing) {
        buf_append_bytes(&stream->out, data);
        queue_flush(stream);
    }
}

struct buf *stream_out(struct stream *stream) { return &stream->out; }

void stream_wrote(struct stream *stream) { queue_flush(stream); }

void stream_flush(struct stream *stream)
{
    if (!stream->closing && stream_pending(stream) > 0) {
        push_out(stream);
        queue_flush(stream); // for on_drained, or the end of a graceful close
        stream->drained_asked = true;
    }
}

size_t stream_pending(const struct stream *stream) { return stream->out.size - stream->out_sent; }

ssize_t stream_send_file(struct stream *stream, int fd, off_t *offset, size_t size)
{
    if (stream->closing) {
        return stream->close_error != OK ? stream->close_error : ERR_CLOSED;
    }
    push_out(stream);
    if (stream->closing) {
        return stream->close_error;
    }
    stream->drained_asked = stream->drained_asked || stream->wants_write;
    if (stream->wants_write || size == 0) {
        return 0;
    }
    size = u64_min(size, FILE_BYTES_PER_CALL);
    ssize_t sent = stream->stage->send_file(stream, fd, offset, size);
    if (sent > 0) {
        stream->bytes_out += (uint64_t)sent;
    } else if (sent == 0) {
        wait_writable(stream);
    }
    return sent;
}

int stream_send_fds(struct stream *stream, struct bytes data, const int *fds, unsigned count)
{
    CHECK(count > 0 && count <= STREAM_FDS_MAX && data.size > 0);
    if (stream->closing || stream->wants_write || stream_pending(stream) > 0) {
        return ERR_BUSY;
    }
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(STREAM_FDS_MAX * sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(count * sizeof(int)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
    struct iovec piece = {.iov_base = (void *)data.data, .iov_len = data.size};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    ssize_t sent = sendmsg(stream->watch.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    // Too many references: descriptors of this user that others have not received yet.
    if (sent < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOBUFS ||
                     errno == ETOOMANYREFS)) {
        return ERR_BUSY;
    }
    if (sent != (ssize_t)data.size) {
        int error = sent < 0 ? address_error(errno) : ERR_IO;
        stream_close(stream, error);
        return error;
    }
    stream->bytes_out += (uint64_t)sent;
    return OK;
}

void stream_want_drained(struct stream *stream)
{
    stream->drained_asked = true;
    queue_flush(stream);
}

void stream_pause(struct stream *stream)
{
    if (!stream->paused && !stream->closing && !stream->draining) {
        stream->paused = true;
        loop_recv_stop(&stream->watch);
    }
}

void stream_resume(struct stream *stream)
{
    if (stream->paused && !stream->closing) {
        stream->paused = false;
        stream->resumed = true;
        queue_flush(stream);
        loop_recv_start(&stream->watch);
    }
}

void stream_finish(struct stream *stream)
{
    if (stream->closing || stream->draining) {
        return;
    }
    stream->draining = true;
    // Unread bytes would turn the close into a reset, which can destroy the last answer on its
    // way; so they are read, and dropped.
    loop_recv_start(&stream->watch);
    loop_timer_set(stream->watch.loop, &stream->close_timer, FINISH_LIMIT_NS);
    queue_flush(stream);
}

void stream_close(struct stream *stream, int error)
{
    if (stream->closing) {
        return;
    }
    stream->closing = true;
    stream->close_error = error;
    loop_timer_clear(&stream->close_timer);
    loop_watch_close(&stream->watch);
}
