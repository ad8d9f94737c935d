// SPDX-License-Identifier: Apache-2.0
// The epoll back end: level-triggered, and the reference for the other one.
//
// A descriptor is in the epoll set only while something is wanted of it, because a hang-up is
// reported even for an empty mask and would keep the loop spinning. All receives of a loop go
// through one scratch buffer; a watch gets a bounded number of bytes or connections a turn, so
// that a flooding peer does not keep the others waiting. Loop thread only.
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/io/loop_backend.h"

#define EVENTS_PER_TURN 256
#define ACCEPTS_PER_TURN 64
#define SCRATCH_BYTES (64 * 1024)
#define RECV_BYTES_PER_TURN (4 * SCRATCH_BYTES)
#define WAIT_LIMIT_MS (3600 * 1000)

enum { REGISTERED_IN = WATCH_BACKEND, REGISTERED_OUT = WATCH_BACKEND << 1 };
#define REGISTERED (uint32_t)(REGISTERED_IN | REGISTERED_OUT)

struct epoll {
    int fd;
    int arrived;
    struct epoll_event events[EVENTS_PER_TURN];
    uint8_t scratch[SCRATCH_BYTES];
};

static int epoll_open(struct loop *loop)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    // The wake-up is the one event without a watch.
    struct epoll_event event = {.events = EPOLLIN};
    if (fd < 0 || epoll_ctl(fd, EPOLL_CTL_ADD, loop->wake_fd, &event) != 0) {
        int code = errno;
        if (fd >= 0) {
            close(fd);
        }
        return -code;
    }
    struct epoll *epoll = mem_alloc(sizeof *epoll);
    epoll->fd = fd;
    epoll->arrived = 0;
    loop->state = epoll;
    return 0;
}

static void epoll_close(struct loop *loop)
{
    struct epoll *epoll = loop->state;
    close(epoll->fd);
    mem_free(epoll);
}

static void epoll_nothing(struct loop *loop) { CHECK(loop->state != NULL); }

static void epoll_watch_nothing(struct watch *watch) { CHECK(watch->in_flight == 0); }

// Brings the epoll set in line with `wanted`, the REGISTERED bits.
static void epoll_register(struct watch *watch, uint32_t wanted)
{
    struct epoll *epoll = watch->loop->state;
    uint32_t registered = watch->flags & REGISTERED;
    if (registered == wanted) {
        return;
    }
    struct epoll_event event = {.data.ptr = watch};
    event.events = ((wanted & REGISTERED_IN) ? EPOLLIN : 0u) |
                   ((wanted & REGISTERED_OUT) ? EPOLLOUT : 0u);
    int action = wanted == 0       ? EPOLL_CTL_DEL
                 : registered == 0 ? EPOLL_CTL_ADD
                                   : EPOLL_CTL_MOD;
    // Fails for a descriptor that is not ours, or when the kernel is out of memory: both fatal.
    CHECK(epoll_ctl(epoll->fd, action, watch->fd, &event) == 0);
    watch->flags = (watch->flags & ~REGISTERED) | wanted;
}

static bool epoll_apply(struct watch *watch)
{
    uint32_t wanted = 0;
    if (watch->flags & (WATCH_ACCEPT | WATCH_RECV)) {
        wanted |= REGISTERED_IN;
    }
    if (watch->flags & WATCH_WRITE) {
        wanted |= REGISTERED_OUT;
    }
    epoll_register(watch, wanted);
    return true;
}

// Taken out by hand: closing the descriptor does so only if no copy of it is left anywhere.
static void epoll_watch_close(struct watch *watch) { epoll_register(watch, 0); }

static void epoll_wait_events(struct loop *loop, uint64_t wait_ns)
{
    struct epoll *epoll = loop->state;
    int wait_ms = -1;
    if (wait_ns != UINT64_MAX) {
        wait_ms = (int)u64_min((wait_ns + NS_PER_MS - 1) / NS_PER_MS, WAIT_LIMIT_MS);
    }
    epoll->arrived = epoll_wait(epoll->fd, epoll->events, EVENTS_PER_TURN, wait_ms);
    CHECK(epoll->arrived >= 0 || errno == EINTR);
}

static void epoll_run_accept(struct watch *watch)
{
    for (int i = 0; i < ACCEPTS_PER_TURN && watch_wants(watch, WATCH_ACCEPT); i++) {
        int fd = accept4(watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            watch_accepted(watch, fd);
        } else if (errno == EAGAIN) {
            return;
        } else {
            watch_accept_failed(watch, errno);
        }
    }
}

static void epoll_run_recv(struct watch *watch)
{
    struct epoll *epoll = watch->loop->state;
    size_t received = 0;
    bool more = true;
    while (more && received < RECV_BYTES_PER_TURN && watch_wants(watch, WATCH_RECV)) {
        ssize_t size = recv(watch->fd, epoll->scratch, SCRATCH_BYTES, MSG_DONTWAIT);
        if (size > 0) {
            received += (size_t)size;
            more = size == SCRATCH_BYTES;
            watch_received(watch, bytes_of(epoll->scratch, (size_t)size));
        } else if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
            more = false;
        } else {
            watch_receive_ended(watch, size == 0 ? 0 : errno);
        }
    }
}

static void epoll_run_wake(struct loop *loop)
{
    uint64_t count;
    ssize_t size = read(loop->wake_fd, &count, sizeof count);
    CHECK(size == sizeof count);
}

static void epoll_run(struct loop *loop)
{
    struct epoll *epoll = loop->state;
    for (int i = 0; i < epoll->arrived; i++) {
        struct watch *watch = epoll->events[i].data.ptr;
        uint32_t events = epoll->events[i].events;
        if (watch == NULL) {
            epoll_run_wake(loop);
            continue;
        }
        // A watch that an earlier callback closed is still in memory; each step looks at its
        // flags again.
        if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
            epoll_run_accept(watch);
            epoll_run_recv(watch);
        }
        if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
            watch_writable(watch);
        }
    }
    epoll->arrived = 0;
}

const struct loop_backend *loop_backend_epoll(void)
{
    static const struct loop_backend backend = {
        .kind = IO_EPOLL,
        .open = epoll_open,
        .close = epoll_close,
        .start = epoll_nothing,
        .stop = epoll_nothing,
        .watch_open = epoll_watch_nothing,
        .watch_close = epoll_watch_close,
        .watch_closed = epoll_watch_nothing,
        .apply = epoll_apply,
        .wait = epoll_wait_events,
        .run = epoll_run,
    };
    return &backend;
}
