// SPDX-License-Identifier: Apache-2.0
// What the tests of loops and streams share: each test runs on both back ends, with a watchdog
// that turns a hang into a failure. Where io_uring is forbidden its half is skipped, and said so.
#ifndef QS_TESTS_UNIT_IO_FIXTURE_H
#define QS_TESTS_UNIT_IO_FIXTURE_H

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/io/address.h"
#include "common/io/loop.h"

#define WATCHDOG_NS (20 * NS_PER_S)

static enum io_kind fixture_kinds[] = {IO_URING, IO_EPOLL};

#define BOTH(test)                                                                                 \
    {#test " (io_uring)", test, NULL, NULL, &fixture_kinds[0]}, \
    {                                                                                              \
        #test " (epoll)", test, NULL, NULL, &fixture_kinds[1]                                      \
    }

static struct timer fixture_watchdog;

static void fixture_expired(struct timer *timer)
{
    (void)timer;
    fprintf(stderr, "the test hangs\n");
    abort();
}

static struct loop *fixture_open(void **state)
{
    enum io_kind kind = *(enum io_kind *)*state;
    struct loop *loop = NULL;
    const char *reason = "";
    int error = loop_open(&loop, kind, 7, &reason);
    if (error != OK && kind == IO_URING) {
        print_error("SKIPPED: no io_uring on this machine: %s\n", reason);
        skip();
    }
    assert_int_equal(error, OK);
    assert_int_equal(loop_kind(loop), kind);
    assert_int_equal(loop_id(loop), 7);
    timer_init(&fixture_watchdog, fixture_expired);
    loop_timer_set(loop, &fixture_watchdog, WATCHDOG_NS);
    return loop;
}

static void fixture_close(struct loop *loop)
{
    loop_timer_clear(&fixture_watchdog);
    loop_close(loop);
}

static inline void fixture_unblock(int fd)
{
    assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), 0);
}

static inline void fixture_pair(int *fds)
{
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

// A listener on a free port of the loopback; *ret_address is where to connect to.
static inline int fixture_listen(struct address *ret_address)
{
    const char *reason = "";
    int fd = -1;
    assert_int_equal(address_parse(ret_address, "127.0.0.1:0", &reason), OK);
    assert_int_equal(address_listen(ret_address, &fd, &reason), OK);
    assert_int_equal(address_of_socket(fd, ret_address), OK);
    return fd;
}

// Two connected TCP sockets, non-blocking.
static inline void fixture_tcp_pair(int *fds)
{
    struct address address;
    int listener = fixture_listen(&address);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(fds[0], (struct sockaddr *)&address.storage, address.length), 0);
    fixture_unblock(listener);
    fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    assert_true(fds[1] >= 0);
    fixture_unblock(fds[0]);
    close(listener);
}

// Byte number `at` of every long transfer: a gap, a repeat or a swap of any length shows.
static inline uint8_t fixture_byte(uint64_t at) { return (uint8_t)(at * 2654435761u >> 13); }

static inline uint8_t *fixture_bytes(size_t size)
{
    uint8_t *bytes = mem_alloc(size);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = fixture_byte(i);
    }
    return bytes;
}

#endif
