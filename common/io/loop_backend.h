// SPDX-License-Identifier: Apache-2.0
// What loop.c and its two back ends (loop_uring.c, loop_epoll.c) share; nobody else includes it.
//
// A watch's flags say what its owner wants. Whoever changes them puts the watch into `dirty`; at
// the start of the next turn the back end makes the kernel await exactly that. So callbacks never
// talk to the kernel's queues, and a stop that is followed by a start costs nothing. A watch is
// in at most one of the lists: dirty, ready, held, closed; a closing one that waits for its last
// completion is in dirty or in none.
#ifndef QS_COMMON_IO_LOOP_BACKEND_H
#define QS_COMMON_IO_LOOP_BACKEND_H

#include "common/base/spin.h"
#include "common/io/loop.h"
#include "common/io/wheel.h"

enum watch_flag {
    WATCH_OPEN = 1 << 0,
    WATCH_CLOSING = 1 << 1, // loop_watch_close was called: no callback but on_closed
    WATCH_ACCEPT = 1 << 2,  // wanted
    WATCH_RECV = 1 << 3,    // wanted
    WATCH_WRITE = 1 << 4,   // wanted, one shot
    WATCH_ENDED = 1 << 5,   // end or error was delivered: nothing is received any more
    WATCH_BACKEND = 1 << 8, // this bit and those above it belong to the back end
};

struct loop_backend {
    enum io_kind kind;
    // 0 or a negative errno. May be called on another thread than the rest.
    int (*open)(struct loop *loop);
    void (*close)(struct loop *loop);
    // Around loop_run, on its thread.
    void (*start)(struct loop *loop);
    void (*stop)(struct loop *loop);
    // A watch came; is closing (nothing is freed yet); is closed (nothing is in flight).
    void (*watch_open)(struct watch *watch);
    void (*watch_close)(struct watch *watch);
    void (*watch_closed)(struct watch *watch);
    // Makes the kernel await what the flags ask for; false = no room now, come again.
    bool (*apply)(struct watch *watch);
    // Submits, and waits for an event or `wait_ns` (UINT64_MAX = without bound).
    void (*wait)(struct loop *loop, uint64_t wait_ns);
    // Runs the callbacks of what arrived.
    void (*run)(struct loop *loop);
};

const struct loop_backend *loop_backend_uring(void);
const struct loop_backend *loop_backend_epoll(void);

struct loop {
    const struct loop_backend *backend;
    void *state; // the back end's
    unsigned id;
    int wake_fd; // an eventfd, blocking: it is read only when it is readable
    size_t watches;
    uint64_t now_ns;
    struct spin spin; // since
    uint64_t expect_ns;
    struct mailbox mailbox;
    _Atomic bool stopping;
    _Atomic bool sleeping; // a post must write to wake_fd
    struct wheel wheel;
    struct task *deferred; // in the order of loop_defer
    struct task **deferred_end;
    struct list dirty;  // wanted and awaited differ
    struct list ready;  // something can be delivered without the kernel
    struct list held;   // accepting failed, tried again by held_timer
    struct list closed; // closing, and nothing in flight: freed in this turn's free phase
    struct timer held_timer;
};

// One turn of loop_run, which does nothing else: for a back end whose world has no threads.
void loop_turn(struct loop *loop);

// Asks for `apply` at the start of the next turn; nothing for a closing watch.
void watch_dirty(struct watch *watch);

// Called when an operation of the watch ended: a closing watch goes to the free phase with the
// last one.
void watch_settle(struct watch *watch);

// Callbacks, each guarded: nothing for a closing watch, or when it is not wanted any more.
void watch_accepted(struct watch *watch, int fd);
void watch_accept_failed(struct watch *watch, int code); // an errno
void watch_received(struct watch *watch, struct bytes data);
void watch_receive_ended(struct watch *watch, int code); // an errno, 0 = end of file
void watch_writable(struct watch *watch);

static inline bool watch_wants(const struct watch *watch, uint32_t flag)
{
    return (watch->flags & (flag | WATCH_CLOSING)) == flag;
}

#endif
