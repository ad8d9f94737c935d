// SPDX-License-Identifier: Apache-2.0
#include "common/client/line.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/wire/resp.h"

#define RECEIVE_BYTES (16 * KIB)
#define RECEIVE_BYTES_MAX MIB
#define KEPT_BYTES (256 * KIB)
#define WORDS_MAX 8
#define FDS_MAX 8
#define FDS_REPLY_BYTES 512
// No daemon takes more (its option request_bytes).
#define REQUEST_BYTES_MAX GIB

// ERR_TIMEOUT when none of `events`, nor an error, came before the deadline.
static int wait_until(struct line *line, short events, uint64_t deadline_ns)
{
    uint64_t since_ns = clock_mono_ns();
    for (;;) {
        bool looks = spin_again(&line->spin, since_ns);
        uint64_t now = clock_mono_ns();
        uint64_t left_ms = now < deadline_ns ? (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS : 0;
        struct pollfd waiting = {.fd = line->fd, .events = events};
        int count = poll(&waiting, 1, looks ? 0 : (int)u64_min(left_ms, INT32_MAX));
        if (count > 0) {
            return OK;
        }
        if (count < 0 && errno != EINTR) {
            return ERR_IO;
        }
        if (left_ms == 0) {
            return ERR_TIMEOUT;
        }
    }
}

int line_open(struct line *line, const struct address *address, uint64_t reply_bytes,
              uint64_t deadline_ns)
{
    *line = (struct line){.fd = -1};
    list_init(&line->node);
    line->in.data.limit = reply_bytes;
    line->out.limit = REQUEST_BYTES_MAX;
    int error = address_connect(address, &line->fd);
    if (error != OK) {
        return error;
    }
    error = wait_until(line, POLLOUT, deadline_ns);
    if (error == OK) {
        error = address_connected(line->fd);
    }
    if (error != OK) {
        line_close(line);
    }
    return error;
}

void line_close(struct line *line)
{
    if (line->fd >= 0) {
        close(line->fd);
    }
    buf_free(&line->out);
    answers_free(&line->in);
    line->fd = -1;
}

void line_add(struct line *line, size_t count, const struct bytes *words)
{
    reply_array(&line->out, count); // a request is an array of bulks, like any other
    for (size_t i = 0; i < count; i++) {
        reply_bulk(&line->out, words[i]);
    }
}

void line_add_text(struct line *line, const char *text)
{
    struct bytes words[WORDS_MAX];
    size_t count = bytes_words(text, words, WORDS_MAX);
    line_add(line, count, words);
}

void line_reset(struct line *line)
{
    if (line->out.capacity > KEPT_BYTES) {
        buf_free(&line->out);
    }
    buf_clear(&line->out);
    line->sent = 0;
    answers_clear(&line->in);
}

bool line_is_quiet(const struct line *line)
{
    char byte;
    return recv(line->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           (errno == EAGAIN || errno == EWOULDBLOCK);
}

// A daemon that refuses a request may say so and close before it has all of it: then sending fails,
// and what it said is still to be read.
static int send_all(struct line *line, uint64_t deadline_ns)
{
    if (line->out.error != OK) {
        return ERR_REQUEST_SIZE;
    }
    while (!line_sent_whole(line)) {
        ssize_t size = send(line->fd, line->out.data + line->sent, line->out.size - line->sent,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (size >= 0) {
            line->sent += (size_t)size;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            int error = wait_until(line, POLLOUT, deadline_ns);
            if (error != OK) {
                return error;
            }
        } else if (errno != EINTR) {
            return OK;
        }
    }
    return OK;
}

static int receive(struct line *line, unsigned replies, uint64_t deadline_ns)
{
    for (;;) {
        int code = answers_parse(&line->in, replies);
        if (code != 0) {
            return code == 1 ? OK : code;
        }
        code = wait_until(line, POLLIN, deadline_ns);
        if (code != OK) {
            return code;
        }
        // As much as there is already: the sender's word for what will come is not taken.
        struct buf *in = &line->in.data;
        size_t room = u64_max(RECEIVE_BYTES, u64_min(in->size, RECEIVE_BYTES_MAX));
        room = u64_min(room, in->limit - in->size);
        uint8_t *to = room > 0 ? buf_reserve(in, room) : NULL;
        if (to == NULL) {
            return ERR_REPLY_SIZE;
        }
        ssize_t size = recv(line->fd, to, room, MSG_DONTWAIT);
        if (size > 0) {
            buf_commit(in, (size_t)size);
        } else if (size == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
            return ERR_CLOSED;
        }
    }
}

int line_exchange(struct line *line, unsigned replies, uint64_t deadline_ns)
{
    int error = send_all(line, deadline_ns);
    if (error == OK) {
        error = receive(line, replies, deadline_ns);
    }
    bool more = line->in.data.size > line->in.offset;
    return error == OK && more ? ERR_PROTOCOL : error;
}

// One piece of what comes, with its descriptors. Returns its size, as recv does. The room for them
// is told without what aligns it, which would do for one more; those beyond it the system closes.
static ssize_t receive_piece(struct line *line, uint8_t *to, size_t size, int *fds, unsigned max,
                             unsigned *count)
{
    union {
        struct cmsghdr header; // for its alignment
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec piece = {.iov_base = to, .iov_len = size};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_LEN((max - *count) * sizeof(int))};
    ssize_t got = recvmsg(line->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    struct cmsghdr *header = got > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        unsigned more = (unsigned)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        CHECK(more <= max - *count);
        memcpy(fds + *count, CMSG_DATA(header), more * sizeof(int));
        *count += more;
    }
    return got;
}

int line_exchange_fds(struct line *line, uint64_t deadline_ns, int *ret_fds, unsigned max,
                      unsigned *ret_count)
{
    CHECK(max < FDS_MAX);
    *ret_count = 0;
    int error = send_all(line, deadline_ns);
    while (error == OK) {
        int code = answers_parse(&line->in, 1);
        if (code != 0) {
            return code == 1 ? OK : code;
        }
        error = wait_until(line, POLLIN, deadline_ns);
        uint8_t *to = error == OK ? buf_reserve(&line->in.data, FDS_REPLY_BYTES) : NULL;
        ssize_t size = to == NULL ? 0
                                  : receive_piece(line, to, FDS_REPLY_BYTES, ret_fds, max,
                                                  ret_count);
        if (size > 0) {
            buf_commit(&line->in.data, (size_t)size);
        } else if (error == OK && (size == 0 || (errno != EAGAIN && errno != EINTR))) {
            error = ERR_CLOSED;
        }
    }
    return error;
}

int line_exchange_more(struct line *line, uint64_t deadline_ns)
{
    int error = send_all(line, deadline_ns);
    return error != OK ? error : receive(line, 1, deadline_ns);
}
