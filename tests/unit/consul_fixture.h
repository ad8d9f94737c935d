// SPDX-License-Identifier: Apache-2.0
// A Consul over real sockets that says whatever a test wants: HTTP, where a question is answered
// by the first line of a table whose beginning fits it, and SRV over TCP. A thread a connection.
#ifndef QS_TESTS_UNIT_CONSUL_FIXTURE_H
#define QS_TESTS_UNIT_CONSUL_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/base/buf.h"
#include "common/base/clock.h"
#include "common/io/address.h"
#include "tests/unit/support.h"

#define FAKE_ROWS 16
#define FAKE_ASKED 4096

struct fake_row {
    const char *question; // "PUT /v1/agent/service/register", up to where it fits
    unsigned status;
    const char *headers;  // lines that end with \r\n, or NULL
    char *body;           // owned
    size_t more;          // bytes of blanks after it
    bool mute;            // never answers
};

struct fake_consul {
    pthread_mutex_t lock;
    struct fake_row rows[FAKE_ROWS]; // `lock`
    char *asked[FAKE_ASKED];         // `lock`: every question with its body
    size_t asked_count;
    unsigned srv_count;              // `lock`: replicas that DNS names, at 10.0.0.(i + 1):7400
    bool srv_mute, srv_broken;       // `lock`
    _Atomic unsigned looks;          // questions over DNS
    int http_fd, dns_fd;
    char http[ADDRESS_TEXT_BYTES], dns[ADDRESS_TEXT_BYTES];
    pthread_t http_thread, dns_thread;
    _Atomic bool closing;
    _Atomic int open; // connections
};

struct fake_connection {
    struct fake_consul *fake;
    int fd;
};

static inline void fake_sleep(void) { usleep(2000); }

// Sets or replaces the answer to a question; status 0 takes it away.
SUPPORT void fake_answer(struct fake_consul *fake, const char *question, unsigned status,
                         const char *headers, const char *body)
{
    pthread_mutex_lock(&fake->lock);
    size_t at = 0;
    while (fake->rows[at].question != NULL && strcmp(fake->rows[at].question, question) != 0) {
        at++;
        assert_true(at < FAKE_ROWS);
    }
    mem_free(fake->rows[at].body);
    fake->rows[at] = (struct fake_row){
        .question = question,
        .status = status,
        .headers = headers,
        .body = mem_text(body),
        .mute = status == 0,
    };
    pthread_mutex_unlock(&fake->lock);
}

// How often a question that begins so was asked, whose rest holds `part`.
SUPPORT unsigned fake_asked(struct fake_consul *fake, const char *question, const char *part)
{
    pthread_mutex_lock(&fake->lock);
    unsigned count = 0;
    for (size_t i = 0; i < fake->asked_count; i++) {
        count += strncmp(fake->asked[i], question, strlen(question)) == 0 &&
                 strstr(fake->asked[i], part) != NULL;
    }
    pthread_mutex_unlock(&fake->lock);
    return count;
}

SUPPORT void fake_send(int fd, const void *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent <= 0) {
            return;
        }
        data = (const char *)data + sent;
        size -= (size_t)sent;
    }
}

// One request, head and body, ended with a zero; false when the connection ends before.
SUPPORT bool fake_read(int fd, struct buf *request)
{
    for (;;) {
        uint8_t *to = buf_reserve(request, 4096);
        ssize_t got = recv(fd, to, 4095, 0);
        if (got <= 0) {
            return false;
        }
        buf_commit(request, (size_t)got);
        request->data[request->size] = '\0'; // there is room for it
        const char *text = (const char *)request->data, *end = strstr(text, "\r\n\r\n");
        const char *length = strcasestr(text, "content-length:");
        size_t body = length == NULL ? 0 : strtoul(length + 15, NULL, 10);
        if (end != NULL && request->size >= (size_t)(end + 4 - text) + body) {
            return true;
        }
    }
}

// Returns false when the question stays without an answer.
SUPPORT bool fake_reply(struct fake_consul *fake, int fd, const char *question)
{
    struct buf reply = {0};
    pthread_mutex_lock(&fake->lock);
    const struct fake_row *row = fake->rows;
    while (row->question != NULL && strncmp(question, row->question, strlen(row->question)) != 0) {
        row++;
    }
    bool known = row->question != NULL, mute = row->mute;
    if (fake->asked_count < FAKE_ASKED) {
        fake->asked[fake->asked_count++] = mem_text(question);
    }
    buf_format(&reply, "HTTP/1.1 %u X\r\nContent-Length: %zu\r\n%s\r\n%s",
               known ? row->status : 404, known ? strlen(row->body) + row->more : 0,
               known && row->headers != NULL ? row->headers : "", known ? row->body : "");
    for (size_t i = 0; known && i < row->more; i++) {
        buf_append(&reply, " ", 1);
    }
    pthread_mutex_unlock(&fake->lock);
    if (!mute) {
        fake_send(fd, reply.data, reply.size);
    }
    buf_free(&reply);
    return !mute;
}

SUPPORT void *fake_serve_http(void *argument)
{
    struct fake_connection *connection = argument;
    struct fake_consul *fake = connection->fake;
    struct buf request = {0};
    bool more = true;
    while (more && fake_read(connection->fd, &request)) {
        more = fake_reply(fake, connection->fd, (const char *)request.data);
        buf_clear(&request);
    }
    while (!more && !atomic_load(&fake->closing)) { // keeps whoever asked waiting
        char byte;
        if (recv(connection->fd, &byte, 1, MSG_DONTWAIT) == 0) {
            break;
        }
        fake_sleep();
    }
    close(connection->fd);
    buf_free(&request);
    atomic_fetch_sub(&fake->open, 1);
    mem_free(connection);
    return NULL;
}

// The question as it came, and `count` replicas, their addresses behind a pointer to their names.
SUPPORT void fake_srv(struct buf *to, const uint8_t *question, size_t size, unsigned count)
{
    size_t base = to->size + 2;
    uint8_t head[] = {0, 0, question[0], question[1], 0x85, count == 0 ? 0x83 : 0x80, 0, 1,
                      (uint8_t)(count >> 8), (uint8_t)count, 0, 0, (uint8_t)(count >> 8),
                      (uint8_t)count};
    buf_append(to, head, sizeof head);
    buf_append(to, question + 12, size - 12);
    uint16_t *names = mem_zalloc((count + 1) * sizeof *names);
    for (unsigned i = 0; i < count; i++) {
        uint8_t record[] = {0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 0, 0, 11, 0, 1, 0, 1, 7400 >> 8,
                            7400 & 0xff, 3, (uint8_t)('a' + i / 26 % 26), (uint8_t)('a' + i % 26),
                            'x', 0};
        names[i] = (uint16_t)(to->size - base + 18);
        buf_append(to, record, sizeof record);
    }
    for (unsigned i = 0; i < count; i++) {
        uint8_t record[] = {(uint8_t)(0xc0 | names[i] >> 8), (uint8_t)names[i], 0, 1, 0, 1, 0, 0,
                            0, 0, 0, 4, 10, 0, 0, (uint8_t)(i + 1)};
        buf_append(to, record, sizeof record);
    }
    mem_free(names);
    size_t length = to->size - base;
    to->data[base - 2] = (uint8_t)(length >> 8);
    to->data[base - 1] = (uint8_t)length;
}

SUPPORT void *fake_serve_dns(void *argument)
{
    struct fake_connection *connection = argument;
    struct fake_consul *fake = connection->fake;
    uint8_t question[1024];
    while (recv(connection->fd, question, 2, MSG_WAITALL) == 2) {
        size_t size = (size_t)question[0] << 8 | question[1];
        if (size > sizeof question ||
            recv(connection->fd, question, size, MSG_WAITALL) != (ssize_t)size) {
            break;
        }
        atomic_fetch_add(&fake->looks, 1);
        struct buf reply = {0};
        pthread_mutex_lock(&fake->lock);
        bool mute = fake->srv_mute, broken = fake->srv_broken;
        fake_srv(&reply, question, size, fake->srv_count);
        pthread_mutex_unlock(&fake->lock);
        if (broken) { // after the head, so that c-ares takes it for an answer
            memset(reply.data + 2 + size + 10, 0xbf, reply.size - size - 12);
        }
        if (!mute) {
            fake_send(connection->fd, reply.data, reply.size);
        }
        buf_free(&reply);
    }
    close(connection->fd);
    atomic_fetch_sub(&fake->open, 1);
    mem_free(connection);
    return NULL;
}

SUPPORT void fake_accept(struct fake_consul *fake, int listener, void *(*serve)(void *))
{
    while (!atomic_load(&fake->closing)) {
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0) {
            fake_sleep(); // the listener does not block, so that it can be ended
            continue;
        }
        struct fake_connection *connection = mem_zalloc(sizeof *connection);
        *connection = (struct fake_connection){.fake = fake, .fd = fd};
        struct timeval limit = {.tv_sec = 5};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        atomic_fetch_add(&fake->open, 1);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, serve, connection), 0);
        pthread_detach(thread);
    }
    close(listener);
}

SUPPORT void *fake_http_main(void *argument)
{
    struct fake_consul *fake = argument;
    fake_accept(fake, fake->http_fd, fake_serve_http);
    return NULL;
}

SUPPORT void *fake_dns_main(void *argument)
{
    struct fake_consul *fake = argument;
    fake_accept(fake, fake->dns_fd, fake_serve_dns);
    return NULL;
}

SUPPORT int fake_listen(char *text)
{
    struct address address;
    const char *reason;
    int fd;
    assert_int_equal(address_parse(&address, text[0] == '\0' ? "127.0.0.1:0" : text, &reason), OK);
    assert_int_equal(address_listen(&address, &fd, &reason), OK);
    assert_int_equal(address_of_socket(fd, &address), OK);
    address_text(&address, text);
    return fd;
}

// At the addresses that it had before, if any.
SUPPORT void fake_open(struct fake_consul *fake)
{
    assert_int_equal(pthread_mutex_init(&fake->lock, NULL), 0);
    atomic_store(&fake->closing, false);
    fake->http_fd = fake_listen(fake->http);
    fake->dns_fd = fake_listen(fake->dns);
    assert_int_equal(pthread_create(&fake->http_thread, NULL, fake_http_main, fake), 0);
    assert_int_equal(pthread_create(&fake->dns_thread, NULL, fake_dns_main, fake), 0);
}

// Whoever is connected must have left, or be about to.
SUPPORT void fake_close(struct fake_consul *fake)
{
    atomic_store(&fake->closing, true);
    pthread_join(fake->http_thread, NULL);
    pthread_join(fake->dns_thread, NULL);
    while (atomic_load(&fake->open) > 0) {
        fake_sleep();
    }
    for (size_t i = 0; i < FAKE_ROWS; i++) {
        mem_free(fake->rows[i].body);
        fake->rows[i] = (struct fake_row){0};
    }
    for (size_t i = 0; i < fake->asked_count; i++) {
        mem_free(fake->asked[i]);
    }
    fake->asked_count = 0;
    pthread_mutex_destroy(&fake->lock);
}

#endif
