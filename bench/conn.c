// SPDX-License-Identifier: Apache-2.0
#include "bench/conn.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define READ_BYTES 65536
#define WORDS_MAX 8

bool conn_open(struct conn *conn, const char *socket_path)
{
    CHECK(!conn->open);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = strlen(socket_path);
    if (length >= sizeof address.sun_path) {
        return false;
    }
    memcpy(address.sun_path, socket_path, length + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return false;
    }
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return false;
    }
    redisReader *reader = redisReaderCreate();
    CHECK(reader != NULL);
    *conn = (struct conn){.open = true, .fd = fd, .reader = reader, .out = conn->out};
    return true;
}

void conn_close(struct conn *conn)
{
    if (conn->open) {
        close(conn->fd);
        redisReaderFree(conn->reader);
        buf_free(&conn->out);
        *conn = (struct conn){0};
    }
}

// `*` or `$`, a number, CR LF.
static void append_head(struct buf *to, char kind, size_t number)
{
    char text[24];
    char *at = text + sizeof text;
    *--at = '\n';
    *--at = '\r';
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    *--at = kind;
    buf_append(to, at, (size_t)(text + sizeof text - at));
}

void conn_send(struct conn *conn, size_t count, const struct bytes *words)
{
    append_head(&conn->out, '*', count);
    for (size_t i = 0; i < count; i++) {
        append_head(&conn->out, '$', words[i].size);
        buf_append_bytes(&conn->out, words[i]);
        buf_append(&conn->out, "\r\n", 2);
    }
}

bool conn_flush(struct conn *conn)
{
    size_t sent = 0;
    while (sent < conn->out.size) {
        ssize_t size = send(conn->fd, conn->out.data + sent, conn->out.size - sent, MSG_NOSIGNAL);
        if (size < 0 && errno == EINTR) {
            continue;
        }
        if (size < 0) {
            buf_consume(&conn->out, sent);
            return errno == EAGAIN;
        }
        sent += (size_t)size;
    }
    buf_clear(&conn->out);
    return true;
}

bool conn_fill(struct conn *conn)
{
    char bytes[READ_BYTES];
    ssize_t size = recv(conn->fd, bytes, sizeof bytes, 0);
    if (size < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    return size > 0 && redisReaderFeed(conn->reader, bytes, (size_t)size) == REDIS_OK;
}

bool conn_take(struct conn *conn, redisReply **ret_reply)
{
    void *reply = NULL;
    if (redisReaderGetReply(conn->reader, &reply) != REDIS_OK) {
        return false;
    }
    *ret_reply = reply;
    return true;
}

redisReply *conn_call(struct conn *conn, uint64_t limit_ns, size_t count, const struct bytes *words)
{
    uint64_t end = clock_mono_ns() + limit_ns;
    conn_send(conn, count, words);
    for (;;) {
        redisReply *reply = NULL;
        if (!conn_flush(conn) || !conn_take(conn, &reply)) {
            return NULL;
        }
        uint64_t now = clock_mono_ns();
        if (reply != NULL || now >= end) {
            return reply;
        }
        struct pollfd waiting = {.fd = conn->fd, .events = POLLIN};
        waiting.events |= (short)(conn_unsent(conn) ? POLLOUT : 0);
        poll(&waiting, 1, (int)((end - now) / NS_PER_MS + 1));
        if ((waiting.revents & ~POLLOUT) != 0 && !conn_fill(conn)) {
            return NULL;
        }
    }
}

redisReply *conn_ask(const char *socket_path, uint64_t limit_ns, const char *text)
{
    struct bytes words[WORDS_MAX];
    size_t count = bytes_words(text, words, WORDS_MAX);
    struct conn conn = {0};
    if (!conn_open(&conn, socket_path)) {
        return NULL;
    }
    redisReply *reply = conn_call(&conn, limit_ns, count, words);
    conn_close(&conn);
    return reply;
}
