// SPDX-License-Identifier: Apache-2.0
#include "bench/drains.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/options.h"
#include "common/data/digest.h"
#include "common/wire/message.h"

#define SIGN_NS (300 * NS_PER_MS) // between two signs of life
#define TURN_MS 50
#define LOOK_NS (250 * NS_PER_MS)
#define STILL_BYTES 2048 // of one child between two looks: signs of life of the source
#define SETTLE_LIMIT_NS (60 * NS_PER_S)
#define READ_BYTES (256 * KIB)

// ---- what they say ------------------------------------------------------------------------------

static void hello_of_qs(struct buf *to, unsigned which)
{
    char node[16];
    snprintf(node, sizeof node, "drain-%u", which);
    message_hello_encode(to, &(struct message_hello){
                                 .protocol = PEER_PROTOCOL,
                                 .cluster = bytes_text("qs"),
                                 .instance = bytes_text("main"),
                                 .node = bytes_text(node),
                                 .role = ROLE_REPLICA,
                                 .purpose = PURPOSE_FOLLOW,
                                 .digest_algorithm = DIGEST_ALGORITHM,
                             });
}

static void sign_of_qs(struct buf *to)
{
    message_progress_encode(to, &(struct message_progress){.age_ns = UINT64_MAX});
}

static void hello_of_redis(struct buf *to, unsigned which)
{
    (void)which;
    buf_append_text(to, "PSYNC ? -1\r\n");
}

static void sign_of_redis(struct buf *to) { buf_append_text(to, "REPLCONF ACK 0\r\n"); }

// ---- reading ------------------------------------------------------------------------------------

// A few bytes, into a socket's buffer that is empty.
static bool say(int fd, struct bytes data)
{
    return send(fd, data.data, data.size, MSG_NOSIGNAL) == (ssize_t)data.size;
}

// The kernel drops what it has instead of copying it.
static bool read_off(struct drain *drain)
{
    ssize_t got = recv(drain->fd, NULL, READ_BYTES, MSG_TRUNC | MSG_DONTWAIT);
    if (got > 0) {
        atomic_fetch_add(&drain->bytes, (uint64_t)got);
    }
    return got > 0 || (got < 0 && (errno == EAGAIN || errno == EINTR));
}

static void *read_on(void *of)
{
    struct drains *drains = of;
    struct pollfd polled[DRAINS_MAX];
    uint64_t said_ns = 0;
    bool fine = true;
    for (unsigned i = 0; i < drains->count; i++) {
        polled[i] = (struct pollfd){.fd = drains->drain[i].fd, .events = POLLIN};
    }
    while (fine && !atomic_load(&drains->stop)) {
        bool due = clock_mono_ns() - said_ns >= SIGN_NS;
        said_ns = due ? clock_mono_ns() : said_ns;
        poll(polled, drains->count, TURN_MS);
        for (unsigned i = 0; fine && i < drains->count; i++) {
            fine = (polled[i].revents == 0 || read_off(&drains->drain[i])) &&
                   (!due || say(polled[i].fd, buf_bytes(&drains->sign)));
        }
    }
    atomic_store(&drains->lost, !fine);
    return NULL;
}

// ---- all of them --------------------------------------------------------------------------------

static int connect_to(unsigned port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

static bool open_all(struct drains *drains, unsigned count, unsigned port,
                     void (*hello)(struct buf *to, unsigned which))
{
    bool fine = true;
    while (fine && drains->count < count) {
        struct buf words = {0};
        hello(&words, drains->count);
        struct drain *drain = &drains->drain[drains->count];
        drain->fd = connect_to(port);
        fine = drain->fd >= 0;
        drains->count += fine ? 1 : 0;
        fine = fine && say(drain->fd, buf_bytes(&words));
        buf_free(&words);
    }
    if (!fine) {
        fprintf(stderr, "qs-bench: child %u of port %u: %s\n", drains->count, port,
                strerror(errno));
    }
    CHECK(pthread_create(&drains->thread, NULL, read_on, drains) == 0);
    return fine;
}

bool drains_open_qs(struct drains *drains, unsigned count, unsigned port)
{
    CHECK(count <= DRAINS_MAX);
    *drains = (struct drains){0};
    sign_of_qs(&drains->sign);
    return open_all(drains, count, port, hello_of_qs);
}

bool drains_open_redis(struct drains *drains, unsigned count, unsigned port)
{
    CHECK(count <= DRAINS_MAX);
    *drains = (struct drains){0};
    sign_of_redis(&drains->sign);
    return open_all(drains, count, port, hello_of_redis);
}

uint64_t drains_bytes(const struct drains *drains, unsigned which)
{
    return atomic_load(&drains->drain[which].bytes);
}

static uint64_t all_bytes(const struct drains *drains)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < drains->count; i++) {
        bytes += drains_bytes(drains, i);
    }
    return bytes;
}

bool drains_settle(struct drains *drains)
{
    uint64_t end = clock_mono_ns() + SETTLE_LIMIT_NS, before, now = all_bytes(drains);
    do {
        before = now;
        clock_sleep_ns(LOOK_NS);
        now = all_bytes(drains);
    } while (now - before > (uint64_t)STILL_BYTES * drains->count && clock_mono_ns() < end &&
             !atomic_load(&drains->lost));
    bool fine = now - before <= (uint64_t)STILL_BYTES * drains->count &&
                !atomic_load(&drains->lost);
    if (!fine) {
        fprintf(stderr, "qs-bench: a child of %u was dropped, or is sent more and more\n",
                drains->count);
    }
    return fine;
}

void drains_close(struct drains *drains)
{
    atomic_store(&drains->stop, true);
    pthread_join(drains->thread, NULL);
    for (unsigned i = 0; i < drains->count; i++) {
        close(drains->drain[i].fd);
    }
    buf_free(&drains->sign);
}
