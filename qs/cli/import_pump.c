// SPDX-License-Identifier: Apache-2.0
// The two directions of the import's connection. Neither waits for the other: while replies are
// outstanding more is sent, up to the window, so a slow sync at the root costs no idle time.
// Replies are integers and OKs, read here by hand.
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/socket.h>

#include "common/base/mem.h"
#include "qs/cli/import.h"

#define RECEIVE_BYTES (64 * KIB)
#define OUT_SENT_BYTES MIB // sent, and not yet dropped from the buffer
#define POLL_MS 500

void import_fail(struct importing *importing, const char *format, ...)
{
    if (importing->failure != NULL) {
        return;
    }
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    importing->failure = mem_text(text);
}

void import_under_way(struct importing *importing, uint64_t bytes)
{
    CHECK(importing->window_count < IMPORT_WINDOW);
    size_t at = (importing->window_first + importing->window_count++) % IMPORT_WINDOW;
    importing->window[at] = (struct inflight){.end = importing->finished, .bytes = bytes};
    importing->window_bytes += bytes;
}

static bool window_open(const struct importing *importing)
{
    return importing->window_count == 0 || (importing->window_count < IMPORT_WINDOW &&
                                            importing->window_bytes < IMPORT_WINDOW_BYTES);
}

// The oldest command was answered.
static void answered(struct importing *importing)
{
    const struct inflight *first = &importing->window[importing->window_first];
    if (!importing->refused) {
        importing->acknowledged = first->end;
    }
    importing->window_bytes -= first->bytes;
    importing->window_first = (importing->window_first + 1) % IMPORT_WINDOW;
    importing->window_count--;
}

// The server refused a command: --resume will go on from it. What is under way behind it is still
// awaited, so that nothing is cut off in the middle.
static void refuse(struct importing *importing, struct bytes reply)
{
    if (importing->refused) {
        return;
    }
    const struct inflight *first = &importing->window[importing->window_first];
    mem_free(importing->failure); // of a line further down: this one comes first
    importing->failure = NULL;
    importing->refused = true;
    import_fail(importing, "%s %llu: %.*s",
                importing->format == IMPORT_RESP ? "command"
                : importing->batch > 0           ? "the batch up to line"
                                                 : "line",
                (unsigned long long)first->end.line, (int)u64_min(reply.size - 1, 300),
                (const char *)reply.data + 1);
}

static void take_reply(struct importing *importing, struct bytes reply)
{
    bool integer = reply.data[0] == ':';
    if (importing->window_count == 0 || (!integer && strchr("+-", reply.data[0]) == NULL)) {
        import_fail(importing, "a reply that no write has; is it qs?");
        importing->lost = true;
        return;
    }
    int64_t index;
    if (reply.data[0] == '-') {
        refuse(importing, reply);
    } else if (integer && importing->format != IMPORT_RESP &&
               parse_i64(bytes_of(reply.data + 1, reply.size - 1), &index) && index > 0) {
        importing->last_index = (uint64_t)index;
    }
    answered(importing);
}

static void take_replies(struct importing *importing)
{
    struct buf *replies = &importing->replies;
    size_t at = 0;
    while (at < replies->size && !importing->lost) {
        const uint8_t *start = replies->data + at;
        const uint8_t *end = memchr(start, '\n', replies->size - at);
        if (end == NULL) {
            break;
        }
        size_t size = (size_t)(end - start);
        if (size < 2 || end[-1] != '\r') {
            import_fail(importing, "a reply that is not RESP; is it qs?");
            importing->lost = true;
            break;
        }
        take_reply(importing, bytes_of(start, size - 1));
        at += size + 1;
    }
    buf_consume(replies, at);
}

static void lose(struct importing *importing, const char *why)
{
    import_fail(importing, "the connection was lost: %s", why);
    importing->lost = true;
}

static void receive(struct importing *importing)
{
    uint8_t *to = buf_reserve(&importing->replies, RECEIVE_BYTES);
    ssize_t got = recv(importing->cli->redis->fd, to, RECEIVE_BYTES, MSG_DONTWAIT);
    if (got > 0) {
        buf_commit(&importing->replies, (size_t)got);
        take_replies(importing);
    } else if (got == 0) {
        lose(importing, "closed by the server");
    } else if (errno != EAGAIN && errno != EINTR) {
        lose(importing, strerror(errno));
    }
}

static void transmit(struct importing *importing)
{
    struct buf *out = &importing->out;
    ssize_t sent = send(importing->cli->redis->fd, out->data + importing->out_sent,
                        out->size - importing->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        lose(importing, strerror(errno));
    }
    importing->out_sent += sent > 0 ? (size_t)sent : 0;
    if (importing->out_sent == out->size || importing->out_sent > OUT_SENT_BYTES) {
        buf_consume(out, importing->out_sent);
        importing->out_sent = 0;
    }
}

// Encodes while there is room. Returns true when it stopped for want of input.
static bool produce(struct importing *importing)
{
    while (window_open(importing) && importing->out.size - importing->out_sent < IMPORT_OUT_BYTES) {
        if (import_encode(importing)) {
            continue;
        }
        if (importing->in_end || importing->failure != NULL) {
            return false;
        }
        if (!importing->regular) {
            return true;
        }
        import_fill(importing);
    }
    return false;
}

static void turn(struct importing *importing)
{
    bool hungry = produce(importing);
    if (importing->out_sent < importing->out.size) {
        transmit(importing);
    }
    if (importing->lost || (importing->window_count == 0 && import_exhausted(importing))) {
        return;
    }
    bool pending = importing->out_sent < importing->out.size;
    bool more = !pending && !hungry && window_open(importing) && !import_exhausted(importing);
    struct pollfd polled[2] = {
        {.fd = importing->cli->redis->fd, .events = (short)(POLLIN | (pending ? POLLOUT : 0))},
        {.fd = hungry ? importing->fd : -1, .events = POLLIN},
    };
    if (poll(polled, 2, more ? 0 : POLL_MS) > 0) {
        if (polled[0].revents & (POLLIN | POLLHUP | POLLERR)) {
            receive(importing);
        }
        if (polled[1].revents != 0) {
            import_fill(importing);
        }
    }
}

void import_pump(struct importing *importing)
{
    while (!importing->lost && (importing->window_count > 0 || !import_exhausted(importing))) {
        turn(importing);
        import_tick(importing);
    }
}
