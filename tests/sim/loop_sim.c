// SPDX-License-Identifier: Apache-2.0
// In place of the loop's back ends: descriptors of the simulator, level-triggered as epoll. The
// loop itself (common/io/loop.c), its wheel and its order of a turn are the real ones; a turn is
// an event here, so the wait in the middle of it never waits.
#include <errno.h>

#include "common/base/mem.h"
#include "tests/sim/seams.h"

#define SCRATCH_BYTES (64 * 1024)
#define ACCEPTS_PER_TURN 16

struct loop_sim {
    struct actor actor;
    struct loop *loop;
    struct watch *watches[WATCHES_MAX];
    struct fd *fds[WATCHES_MAX]; // of the watches
    size_t count;
};

static uint8_t scratch[SCRATCH_BYTES];

static bool is_ready(const struct watch *watch, const struct fd *fd)
{
    bool end = false;
    if (watch_wants(watch, WATCH_ACCEPT) && !list_empty(&fd->backlog)) {
        return true;
    }
    if (watch_wants(watch, WATCH_RECV) && (socket_readable(fd, &end) > 0 || end)) {
        return true;
    }
    return watch_wants(watch, WATCH_WRITE) && socket_writable(fd);
}

static bool has_work(const struct loop *loop)
{
    const struct loop_sim *sim = loop->state;
    if (!list_empty(&loop->ready) || !list_empty(&loop->closed) ||
        loop->deferred != NULL || !mailbox_empty((struct mailbox *)&loop->mailbox)) {
        return true;
    }
    for (size_t i = 0; i < sim->count; i++) {
        if (is_ready(sim->watches[i], sim->fds[i])) {
            return true;
        }
    }
    return false;
}

static void loop_sim_run(struct actor *actor)
{
    struct loop_sim *sim = CONTAINER_OF(actor, struct loop_sim, actor);
    struct loop *loop = sim->loop;
    loop_turn(loop);
    // What is awaited is looked up in the flags, so nothing needs a turn to be applied.
    while (list_take(&loop->dirty) != NULL) {
    }
    if (has_work(loop)) {
        actor_after(actor, chance_skewed(1000, TURN_MAX_NS));
        return;
    }
    uint64_t next_ns = wheel_next_ns(&loop->wheel);
    if (next_ns != UINT64_MAX) {
        uint64_t wait_ns = next_ns > loop->now_ns ? next_ns - loop->now_ns : 0;
        actor_after(actor, host_to_world_ns(actor->host, wait_ns));
    }
    atomic_store(&loop->sleeping, true); // a post wakes it through its descriptor
}

void loop_stir(struct loop *loop)
{
    struct loop_sim *sim = loop->state;
    actor_after(&sim->actor, chance_skewed(1000, TURN_MAX_NS));
}

void watch_stir(const struct fd *fd)
{
    if (fd->kind != FD_FREE && fd->watch != NULL && is_ready(fd->watch, fd)) {
        loop_stir(fd->watch->loop);
    }
}

static int sim_open(struct loop *loop)
{
    struct loop_sim *sim = mem_zalloc(sizeof *sim);
    sim->loop = loop;
    actor_init(&sim->actor, world_host(), loop_sim_run);
    actor_after(&sim->actor, chance_skewed(1000, TURN_MAX_NS));
    loop->state = sim;
    fd_of(loop->wake_fd)->loop = loop;
    return 0;
}

static void sim_close(struct loop *loop)
{
    struct loop_sim *sim = loop->state;
    actor_cancel(&sim->actor);
    mem_free(sim);
}

static void sim_nothing(struct loop *loop) { CHECK(loop->state != NULL); }

static void sim_watch_open(struct watch *watch)
{
    struct loop_sim *sim = watch->loop->state;
    CHECK(sim->count < WATCHES_MAX);
    sim->fds[sim->count] = fd_of(watch->fd);
    sim->fds[sim->count]->watch = watch;
    sim->watches[sim->count++] = watch;
}

static void sim_watch_close(struct watch *watch)
{
    struct loop_sim *sim = watch->loop->state;
    size_t at = 0;
    while (sim->watches[at] != watch) {
        at++;
    }
    sim->fds[at]->watch = NULL;
    sim->watches[at] = sim->watches[--sim->count];
    sim->fds[at] = sim->fds[sim->count];
}

static void sim_watch_closed(struct watch *watch) { CHECK(watch->in_flight == 0); }

static bool sim_apply(struct watch *watch)
{
    CHECK(watch->fd >= FD_FIRST);
    return true;
}

static void sim_wait(struct loop *loop, uint64_t wait_ns)
{
    (void)wait_ns;
    CHECK(loop->state != NULL);
}

static void run_accept(struct watch *watch)
{
    for (int i = 0; i < ACCEPTS_PER_TURN && watch_wants(watch, WATCH_ACCEPT); i++) {
        int fd = socket_accept(fd_of(watch->fd));
        if (fd < 0) {
            break;
        }
        watch_accepted(watch, fd);
    }
}

static void run_recv(struct watch *watch)
{
    struct fd *fd = fd_of(watch->fd);
    bool end = false;
    size_t size = u64_min(socket_readable(fd, &end), SCRATCH_BYTES);
    if (size > 1 && chance_permille(SHORT_RECEIVE_PERMILLE)) {
        size = chance_between(1, size);
    }
    if (size == 0 && !end) {
        return;
    }
    ssize_t taken = socket_take(fd, scratch, size);
    if (taken > 0) {
        watch_received(watch, bytes_of(scratch, (size_t)taken));
    } else {
        watch_receive_ended(watch, taken == 0 ? 0 : (int)-taken);
    }
}

static void sim_run(struct loop *loop)
{
    struct loop_sim *sim = loop->state;
    struct watch *ready[WATCHES_MAX];
    size_t count = 0;
    for (size_t i = 0; i < sim->count; i++) {
        if (is_ready(sim->watches[i], sim->fds[i])) {
            ready[count++] = sim->watches[i];
        }
    }
    size_t first = count > 1 ? chance_below(count) : 0;
    for (size_t i = 0; i < count; i++) {
        // One that an earlier callback closed is still in memory; each step looks at its flags.
        struct watch *watch = ready[(first + i) % count];
        if (watch_wants(watch, WATCH_ACCEPT)) {
            run_accept(watch);
        }
        if (watch_wants(watch, WATCH_RECV)) {
            run_recv(watch);
        }
        if (watch_wants(watch, WATCH_WRITE) && socket_writable(fd_of(watch->fd))) {
            watch_writable(watch);
        }
    }
}

const struct loop_backend *loop_backend_epoll(void)
{
    static const struct loop_backend backend = {
        .kind = IO_EPOLL,
        .open = sim_open,
        .close = sim_close,
        .start = sim_nothing,
        .stop = sim_nothing,
        .watch_open = sim_watch_open,
        .watch_close = sim_watch_close,
        .watch_closed = sim_watch_closed,
        .apply = sim_apply,
        .wait = sim_wait,
        .run = sim_run,
    };
    return &backend;
}

const struct loop_backend *loop_backend_uring(void) { return loop_backend_epoll(); }
