// SPDX-License-Identifier: Apache-2.0
// The part of the loop that both back ends share: turn order, timers, mailbox, deferred tasks,
// the life of a watch.
//
// A loop that is about to wait sets `sleeping` and then looks into its mailbox; a poster posts and
// then takes `sleeping` away. Both steps are read-modify-writes of one variable, so that one of
// the two sees the other, and the eventfd is written only when somebody really waits.
// All but loop_post, loop_mailbox and loop_stop is for the loop's thread.
#include "common/io/loop_backend.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/io/address.h"

#define HELD_RETRY_NS (100 * NS_PER_MS)
// Beyond it a delay means "never"; it keeps the sum with the clock from wrapping.
#define DELAY_LIMIT_NS (100ull * 365 * 86400 * NS_PER_S)

static struct log_gate accept_gate;

static void loop_wake(void *argument)
{
    struct loop *loop = argument;
    if (atomic_exchange(&loop->sleeping, false)) {
        uint64_t one = 1;
        ssize_t written = write(loop->wake_fd, &one, sizeof one);
        CHECK(written == sizeof one);
    }
}

static void held_retry(struct timer *timer)
{
    struct loop *loop = CONTAINER_OF(timer, struct loop, held_timer);
    LIST_FOR_EACH(node, &loop->held) {
        struct watch *watch = CONTAINER_OF(node, struct watch, node);
        list_remove(node);
        watch->flags |= WATCH_ACCEPT;
        watch_dirty(watch);
    }
}

static int backend_open(struct loop *loop, enum io_kind kind)
{
    int code = 0;
    if (kind != IO_EPOLL) {
        loop->backend = loop_backend_uring();
        code = loop->backend->open(loop);
        // Only what says "there is none here" leads to epoll; a shortage would come back later.
        bool absent = code == -ENOSYS || code == -EPERM || code == -EINVAL;
        if (kind == IO_URING || !absent) {
            return code;
        }
    }
    loop->backend = loop_backend_epoll();
    return loop->backend->open(loop);
}

int loop_open(struct loop **ret_loop, enum io_kind kind, unsigned id, const char **ret_reason)
{
    struct loop *loop = mem_zalloc(sizeof *loop);
    loop->id = id;
    loop->mailbox.wake = loop_wake;
    loop->mailbox.argument = loop;
    loop->deferred_end = &loop->deferred;
    list_init(&loop->dirty);
    list_init(&loop->ready);
    list_init(&loop->held);
    list_init(&loop->closed);
    timer_init(&loop->held_timer, held_retry);
    loop->now_ns = clock_mono_ns();
    wheel_init(&loop->wheel, loop->now_ns);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC);
    int code = loop->wake_fd < 0 ? -errno : backend_open(loop, kind);
    if (code != 0) {
        if (loop->wake_fd >= 0) {
            close(loop->wake_fd);
        }
        mem_free(loop);
        *ret_reason = strerrordesc_np(-code);
        return ERR_IO;
    }
    *ret_loop = loop;
    return OK;
}

void loop_busy_poll(struct loop *loop, uint64_t ns) { loop->spin.for_ns = ns; }

void loop_expect(struct loop *loop) { loop->expect_ns = loop->now_ns; }

void loop_close(struct loop *loop)
{
    CHECK(loop->watches == 0);
    loop_timer_clear(&loop->held_timer);
    wheel_clear(&loop->wheel);
    loop->backend->close(loop);
    close(loop->wake_fd);
    mem_free(loop);
}

unsigned loop_id(const struct loop *loop) { return loop->id; }

enum io_kind loop_kind(const struct loop *loop) { return loop->backend->kind; }

uint64_t loop_now_ns(const struct loop *loop) { return loop->now_ns; }

struct mailbox *loop_mailbox(struct loop *loop) { return &loop->mailbox; }

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stopping, true);
    loop_wake(loop);
}

// True when nothing is left to do and a stop was asked for.
static bool is_over(struct loop *loop)
{
    return atomic_load(&loop->stopping) && loop->watches == 0 && loop->deferred == NULL &&
           mailbox_empty(&loop->mailbox);
}

static void apply_dirty(struct loop *loop)
{
    struct list batch;
    list_init(&batch);
    list_move_all(&batch, &loop->dirty);
    bool room = true;
    for (struct list *node = list_take(&batch); node != NULL; node = list_take(&batch)) {
        room = room && loop->backend->apply(CONTAINER_OF(node, struct watch, node));
        if (!room) {
            list_append(&loop->dirty, node);
        }
    }
}

// How long this turn may wait. Announces the sleep when it is not 0.
static uint64_t choose_wait_ns(struct loop *loop)
{
    if (!list_empty(&loop->dirty) || !list_empty(&loop->ready) || !list_empty(&loop->closed) ||
        loop->deferred != NULL) {
        return 0;
    }
    if (spin_again(&loop->spin, loop->expect_ns)) {
        return 0;
    }
    uint64_t next_ns = wheel_next_ns(&loop->wheel);
    uint64_t wait_ns = UINT64_MAX;
    if (next_ns != UINT64_MAX) {
        uint64_t now_ns = clock_mono_ns();
        wait_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    }
    if (wait_ns > 0) {
        atomic_exchange(&loop->sleeping, true);
        if (!mailbox_empty(&loop->mailbox) || is_over(loop)) {
            wait_ns = 0;
        }
    }
    return wait_ns;
}

static void run_tasks(struct task *task)
{
    while (task != NULL) {
        struct task *next = task->next; // the task may be posted again, or freed, by its run
        task->run(task);
        task = next;
    }
}

static void run_timers(struct loop *loop)
{
    struct list due;
    list_init(&due);
    wheel_take_due(&loop->wheel, loop->now_ns, &due);
    for (struct list *node = list_take(&due); node != NULL; node = list_take(&due)) {
        struct timer *timer = CONTAINER_OF(node, struct timer, node);
        timer->fire(timer);
    }
}

// What is deferred meanwhile runs at the end of the next turn, which then does not wait.
static void run_deferred(struct loop *loop)
{
    struct task *batch = loop->deferred;
    loop->deferred = NULL;
    loop->deferred_end = &loop->deferred;
    run_tasks(batch);
}

static void free_closed(struct loop *loop)
{
    struct list batch;
    list_init(&batch);
    list_move_all(&batch, &loop->closed);
    for (struct list *node = list_take(&batch); node != NULL; node = list_take(&batch)) {
        struct watch *watch = CONTAINER_OF(node, struct watch, node);
        CHECK(watch->in_flight == 0);
        loop->backend->watch_closed(watch);
        close(watch->fd);
        watch->fd = -1;
        watch->flags = 0;
        CHECK(loop->watches > 0);
        loop->watches--;
        watch->ops->on_closed(watch);
    }
}

void loop_turn(struct loop *loop)
{
    apply_dirty(loop);
    loop->backend->wait(loop, choose_wait_ns(loop));
    atomic_exchange(&loop->sleeping, false);
    loop->now_ns = clock_mono_ns();
    loop->backend->run(loop);
    run_tasks(mailbox_take(&loop->mailbox));
    run_timers(loop);
    run_deferred(loop);
    free_closed(loop);
}

void loop_run(struct loop *loop)
{
    // sendfile has no flag against it, and a write to a closed socket is an error like any other.
    sigset_t pipe_signal;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, NULL);
    loop->backend->start(loop);
    loop->now_ns = clock_mono_ns();
    while (!is_over(loop)) {
        loop_turn(loop);
    }
    loop->backend->stop(loop);
}

void loop_defer(struct loop *loop, struct task *task)
{
    CHECK(task->run != NULL);
    task->next = NULL;
    *loop->deferred_end = task;
    loop->deferred_end = &task->next;
}

void timer_init(struct timer *timer, void (*fire)(struct timer *))
{
    *timer = (struct timer){.fire = fire};
    list_init(&timer->node);
}

void loop_timer_set(struct loop *loop, struct timer *timer, uint64_t delay_ns)
{
    list_remove(&timer->node);
    timer->at_ns = loop->now_ns + u64_min(delay_ns, DELAY_LIMIT_NS);
    wheel_add(&loop->wheel, timer);
}

void loop_timer_clear(struct timer *timer) { list_remove(&timer->node); }

bool timer_is_set(const struct timer *timer) { return !list_empty(&timer->node); }

void loop_watch_open(struct loop *loop, struct watch *watch, int fd, const struct watch_ops *ops)
{
    CHECK(fd >= 0 && ops->on_closed != NULL);
    *watch = (struct watch){.fd = fd, .ops = ops, .loop = loop, .flags = WATCH_OPEN};
    list_init(&watch->node);
    loop->watches++;
    loop->backend->watch_open(watch);
}

void loop_watch_close(struct watch *watch)
{
    CHECK(watch->flags & WATCH_OPEN);
    if (watch->flags & WATCH_CLOSING) {
        return;
    }
    struct loop *loop = watch->loop;
    // Closing the descriptor would neither end an operation in flight nor tell the other side, so
    // the end is announced here and the descriptor closed when nothing refers to it any more.
    shutdown(watch->fd, SHUT_RDWR);
    watch->flags |= WATCH_CLOSING;
    list_remove(&watch->node);
    loop->backend->watch_close(watch);
    list_append(watch->in_flight == 0 ? &loop->closed : &loop->dirty, &watch->node);
}

static void want(struct watch *watch, uint32_t flag)
{
    CHECK(watch->flags & WATCH_OPEN);
    if ((watch->flags & flag) == 0) {
        watch->flags |= flag;
        watch_dirty(watch);
    }
}

void loop_accept_start(struct watch *watch)
{
    CHECK(watch->ops->on_accept != NULL);
    want(watch, WATCH_ACCEPT);
}

void loop_recv_start(struct watch *watch)
{
    CHECK(watch->ops->on_recv != NULL && watch->ops->on_recv_error != NULL);
    if ((watch->flags & WATCH_ENDED) == 0) {
        want(watch, WATCH_RECV);
    }
}

void loop_recv_stop(struct watch *watch)
{
    if (watch->flags & WATCH_RECV) {
        watch->flags &= ~(uint32_t)WATCH_RECV;
        watch_dirty(watch);
    }
}

void loop_want_write(struct watch *watch)
{
    CHECK(watch->ops->on_writable != NULL);
    want(watch, WATCH_WRITE);
}

void watch_dirty(struct watch *watch)
{
    if ((watch->flags & WATCH_CLOSING) == 0 && list_empty(&watch->node)) {
        list_append(&watch->loop->dirty, &watch->node);
    }
}

void watch_settle(struct watch *watch)
{
    if ((watch->flags & WATCH_CLOSING) && watch->in_flight == 0) {
        list_remove(&watch->node);
        list_append(&watch->loop->closed, &watch->node);
    }
}

void watch_accepted(struct watch *watch, int fd)
{
    if (watch_wants(watch, WATCH_ACCEPT)) {
        watch->ops->on_accept(watch, fd);
    } else {
        close(fd);
    }
}

void watch_accept_failed(struct watch *watch, int code)
{
    // These concern one connection that is no more, or nothing at all.
    if (code == ECONNABORTED || code == EAGAIN || code == EINTR || code == ECANCELED ||
        !watch_wants(watch, WATCH_ACCEPT)) {
        return;
    }
    // Out of descriptors, mostly: the listener stays readable, so it is left alone for a while.
    LOG_GATED(&accept_gate, LOG_WARN, NULL, "accept: %s", strerrordesc_np(code));
    struct loop *loop = watch->loop;
    watch->flags &= ~(uint32_t)WATCH_ACCEPT;
    list_remove(&watch->node);
    list_append(&loop->held, &watch->node);
    if (!timer_is_set(&loop->held_timer)) {
        loop_timer_set(loop, &loop->held_timer, HELD_RETRY_NS);
    }
}

void watch_received(struct watch *watch, struct bytes data)
{
    if (watch_wants(watch, WATCH_RECV)) {
        watch->ops->on_recv(watch, data);
    }
}

void watch_receive_ended(struct watch *watch, int code)
{
    if (!watch_wants(watch, WATCH_RECV)) {
        return;
    }
    watch->flags &= ~(uint32_t)WATCH_RECV;
    watch->flags |= WATCH_ENDED;
    watch_dirty(watch);
    if (code == 0) {
        watch->ops->on_recv(watch, bytes_of(NULL, 0));
    } else {
        watch->ops->on_recv_error(watch, address_error(code));
    }
}

void watch_writable(struct watch *watch)
{
    if (watch_wants(watch, WATCH_WRITE)) {
        watch->flags &= ~(uint32_t)WATCH_WRITE;
        watch_dirty(watch);
        watch->ops->on_writable(watch);
    }
}
