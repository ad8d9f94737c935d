// SPDX-License-Identifier: Apache-2.0
// An I/O loop: one thread, its descriptors, its timers, its mailbox. Two back ends stand behind
// this header, io_uring and epoll (loop_uring.c, loop_epoll.c), chosen once at start; what a
// caller sees is the same on both, and the whole test suite runs on both.
//
// One turn: submit and wait -> run what arrived -> run posted tasks -> run due timers -> run
// deferred tasks (end of turn: flush what was written) -> free closed watches.
//
// Ownership: a watch is embedded in its owner. After loop_watch_close the owner must keep it until
// on_closed, which comes in the free phase of this or a later turn, when no operation of the
// watch is in flight any more; no other callback of it comes after loop_watch_close returned.
// Everything here is for the loop's own thread, except loop_post, loop_mailbox and loop_stop.
#ifndef QS_COMMON_IO_LOOP_H
#define QS_COMMON_IO_LOOP_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/list.h"
#include "common/base/task.h"

enum io_kind { IO_AUTO, IO_URING, IO_EPOLL };

struct loop;
struct watch;

struct watch_ops {
    // A listening descriptor accepted `fd` (non-blocking, close-on-exec). Own it.
    void (*on_accept)(struct watch *watch, int fd);
    // Bytes arrived; valid during the call only. Empty = end of file.
    void (*on_recv)(struct watch *watch, struct bytes data);
    // The receive failed: `error` is final for this direction.
    void (*on_recv_error)(struct watch *watch, int error);
    // One shot, after loop_want_write: a write would not block now (or would fail: find out).
    void (*on_writable)(struct watch *watch);
    // Last call; the memory is the owner's again. The descriptor is closed already.
    void (*on_closed)(struct watch *watch);
};

struct watch {
    int fd;
    const struct watch_ops *ops;
    struct loop *loop;
    // Back end's own state.
    struct list node;
    uint32_t flags;
    uint32_t in_flight;
    uint64_t generation;
};

struct timer {
    struct list node; // in the loop; self-linked when not set
    uint64_t at_ns;
    void (*fire)(struct timer *timer);
};

// Opens a loop of the given kind for the calling thread, or for the thread that will call
// loop_run (nothing but loop_post may come from elsewhere). IO_AUTO tries io_uring by doing a
// whole accept/receive round trip and falls back to epoll on ENOSYS, EPERM, EINVAL only.
// Errors: ERR_IO with *ret_reason set to words (static memory).
int loop_open(struct loop **ret_loop, enum io_kind kind, unsigned id,
              const char **ret_reason) MUST_CHECK;
// For so long after loop_expect the loop looks for what comes without sleeping: a core for latency.
// 0, as after loop_open: it sleeps at once. Before loop_run.
void loop_busy_poll(struct loop *loop, uint64_t ns);
void loop_expect(struct loop *loop); // more is likely to come soon, and somebody waits for it
void loop_close(struct loop *loop); // after loop_run returned; every watch must be closed

// Runs turns until loop_stop and until every watch has been closed and every task has run. Always
// on the same thread, which has SIGPIPE blocked from then on (sendfile cannot refuse it).
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop); // any thread

unsigned loop_id(const struct loop *loop);
enum io_kind loop_kind(const struct loop *loop); // IO_URING or IO_EPOLL
uint64_t loop_now_ns(const struct loop *loop);   // monotonic, refreshed each turn

struct mailbox *loop_mailbox(struct loop *loop); // any thread
static inline void loop_post(struct loop *loop, struct task *task)
{
    mailbox_post(loop_mailbox(loop), task);
}

// Runs `task`, which must not be deferred or posted already, at the end of this turn; when called
// from such a task, at the end of the next one, which does not wait.
void loop_defer(struct loop *loop, struct task *task);

// Timers: set again = moved. `timer_init` once before use. They fire at most a millisecond or two
// late and never early, in the order of their milliseconds, then in the order of setting.
void timer_init(struct timer *timer, void (*fire)(struct timer *));
void loop_timer_set(struct loop *loop, struct timer *timer, uint64_t delay_ns);
void loop_timer_clear(struct timer *timer);
bool timer_is_set(const struct timer *timer);

// Takes a non-blocking descriptor under the loop. Nothing is awaited until asked.
void loop_watch_open(struct loop *loop, struct watch *watch, int fd, const struct watch_ops *ops);
void loop_watch_close(struct watch *watch);

void loop_accept_start(struct watch *watch);
void loop_recv_start(struct watch *watch); // bytes flow to on_recv until stop, end or error
void loop_recv_stop(struct watch *watch);  // none comes after the return; what the kernel had
                                           // already handed over comes first after the next start
void loop_want_write(struct watch *watch);

#endif
