// SPDX-License-Identifier: Apache-2.0
// The io_uring back end: multishot accept and receive, one ring of receive buffers a loop.
//
// Invariants:
// - Requests are prepared only by apply and wait, on the loop's thread, never from a callback:
//   the ring is made disabled on any thread and belongs to the one that enables it.
// - A request carries its watch's slot and generation. A completion whose generation is not the
//   slot's is dropped; a slot is free again only after the last completion of its watch.
// - A receive buffer is out of the ring only between its completion and the end of the callback,
//   so at the start of a turn every buffer that the kernel does not hold data in is in the ring.
// - What the kernel handed over while the watch was stopped is kept in its slot, and delivered
//   before anything newer. It is bounded by the buffers: stopping cancels the receive.
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/mem.h"
#include "common/io/loop_backend.h"

#define SQ_ENTRIES 512
#define CQ_ENTRIES (8 * SQ_ENTRIES)
#define SQ_ENTRIES_PER_WATCH 4 // an apply takes at most so many
#define POOL_BUFFERS 256       // a power of two
#define POOL_BUFFER_BYTES (16 * 1024)
#define POOL_GROUP 0
#define SLOT_LIMIT (1u << 24)
#define SLOT_NONE UINT32_MAX
#define PROBE_WAIT_S 5

// The low 8 bits of user_data; above them the slot (24 bits) and its generation (32 bits).
enum operation { OP_ACCEPT = 1, OP_RECV, OP_POLL, OP_CANCEL, OP_WAKE, OP_UNWAKE };

enum {
    ARMED_ACCEPT = WATCH_BACKEND,
    ARMED_RECV = WATCH_BACKEND << 1,
    ARMED_POLL = WATCH_BACKEND << 2,
    CANCELLED_RECV = WATCH_BACKEND << 3,  // a cancel is on its way, or has done its work
    CANCELLED_CLOSE = WATCH_BACKEND << 4, // all others are cancelled too
};

struct pool {
    struct io_uring_buf_ring *ring;
    uint8_t *data;
    unsigned buffers;
    size_t mapped;
};

struct slot {
    struct watch *watch; // NULL = free
    uint32_t generation;
    uint32_t next_free;
    struct buf kept; // arrived while stopped
    bool kept_end;   // and after it the end
    int kept_code;
};

struct uring {
    struct io_uring ring;
    struct pool pool;
    struct slot *slots;
    uint32_t slot_count;
    uint32_t free_slot;
    bool enabled;
    bool wake_armed;
    uint64_t wake_value;
};

static int pool_open(struct pool *pool, struct io_uring *ring, unsigned buffers)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t head = (buffers * sizeof(struct io_uring_buf) + page - 1) / page * page;
    size_t mapped = head + (size_t)buffers * POOL_BUFFER_BYTES;
    void *memory = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return -errno;
    }
    struct io_uring_buf_reg registration = {.ring_addr = (uintptr_t)memory,
                                            .ring_entries = buffers,
                                            .bgid = POOL_GROUP};
    int code = io_uring_register_buf_ring(ring, &registration, 0);
    if (code != 0) {
        munmap(memory, mapped);
        return code;
    }
    *pool = (struct pool){memory, (uint8_t *)memory + head, buffers, mapped};
    io_uring_buf_ring_init(pool->ring);
    for (unsigned i = 0; i < buffers; i++) {
        io_uring_buf_ring_add(pool->ring, pool->data + (size_t)i * POOL_BUFFER_BYTES,
                              POOL_BUFFER_BYTES, (unsigned short)i,
                              io_uring_buf_ring_mask(buffers), (int)i);
    }
    io_uring_buf_ring_advance(pool->ring, (int)buffers);
    return 0;
}

static uint8_t *pool_buffer(struct pool *pool, unsigned number)
{
    CHECK(number < pool->buffers);
    return pool->data + (size_t)number * POOL_BUFFER_BYTES;
}

static void pool_return(struct pool *pool, unsigned number)
{
    io_uring_buf_ring_add(pool->ring, pool_buffer(pool, number), POOL_BUFFER_BYTES,
                          (unsigned short)number, io_uring_buf_ring_mask(pool->buffers), 0);
    io_uring_buf_ring_advance(pool->ring, 1);
}

static int ring_open(struct io_uring *ring, struct pool *pool, unsigned entries, unsigned buffers)
{
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                 IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED | IORING_SETUP_SUBMIT_ALL |
                 IORING_SETUP_CQSIZE,
        .cq_entries = entries * (CQ_ENTRIES / SQ_ENTRIES),
    };
    int code = io_uring_queue_init_params(entries, ring, &params);
    if (code != 0) {
        return code;
    }
    code = pool_open(pool, ring, buffers);
    if (code != 0) {
        io_uring_queue_exit(ring);
    }
    return code;
}

// io_uring_enable_rings, which the shared library of Debian 12 declares but does not export.
static int ring_enable(struct io_uring *ring)
{
    return io_uring_register((unsigned)ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
}

static void ring_close(struct io_uring *ring, struct pool *pool)
{
    io_uring_queue_exit(ring);
    munmap(pool->ring, pool->mapped);
}

// Waits for one completion: its result, or why there is none. *ret_flags as in the completion.
static int probe_wait(struct io_uring *ring, unsigned *ret_flags)
{
    struct __kernel_timespec limit = {.tv_sec = PROBE_WAIT_S};
    struct io_uring_cqe *cqe = NULL;
    int code = io_uring_submit_and_wait_timeout(ring, &cqe, 1, &limit, NULL);
    if (code < 0 || cqe == NULL) {
        return code < 0 ? code : -ETIME;
    }
    int result = cqe->res;
    *ret_flags = cqe->flags;
    io_uring_cqe_seen(ring, cqe);
    return result;
}

// One byte from `client` through multishot accept and multishot receive of a pooled buffer.
static int probe_round_trip(struct io_uring *ring, struct pool *pool, int listener, int client)
{
    unsigned flags = 0;
    int code = ring_enable(ring);
    if (code < 0) {
        return code;
    }
    struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
    CHECK(sqe != NULL);
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int accepted = probe_wait(ring, &flags);
    if (accepted < 0) {
        return accepted;
    }
    if (send(client, "q", 1, MSG_NOSIGNAL) != 1) {
        code = -errno;
    } else {
        sqe = io_uring_get_sqe(ring);
        CHECK(sqe != NULL);
        io_uring_prep_recv_multishot(sqe, accepted, NULL, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = POOL_GROUP;
        code = probe_wait(ring, &flags);
        bool whole = code == 1 && (flags & IORING_CQE_F_BUFFER) && (flags & IORING_CQE_F_MORE) &&
                     *pool_buffer(pool, flags >> IORING_CQE_BUFFER_SHIFT) == 'q';
        // A kernel that takes the request and does something else has no multishot receive.
        code = code < 0 ? code : whole ? 0 : -EINVAL;
    }
    close(accepted);
    return code;
}

// What is asked of the kernel is proved by doing it: whether an operation exists can be asked, but
// neither its multishot form nor what a filter of system calls does to it.
static int probe(void)
{
    struct io_uring ring;
    struct pool pool;
    int code = ring_open(&ring, &pool, 8, 2);
    if (code != 0) {
        return code;
    }
    // Binding only the family gives the socket a name of its own outside the file system.
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t length = sizeof name.sun_family;
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = bind(listener, (struct sockaddr *)&name, length) == 0 &&
                     listen(listener, 1) == 0 && (length = sizeof name) != 0 &&
                     getsockname(listener, (struct sockaddr *)&name, &length) == 0 &&
                     connect(client, (struct sockaddr *)&name, length) == 0;
    code = connected ? probe_round_trip(&ring, &pool, listener, client) : -errno;
    ring_close(&ring, &pool);
    close(listener);
    close(client);
    return code;
}

static int uring_open(struct loop *loop)
{
    int code = probe();
    if (code != 0) {
        return code;
    }
    struct uring *uring = mem_zalloc(sizeof *uring);
    code = ring_open(&uring->ring, &uring->pool, SQ_ENTRIES, POOL_BUFFERS);
    if (code != 0) {
        mem_free(uring);
        return code;
    }
    uring->free_slot = SLOT_NONE;
    loop->state = uring;
    return 0;
}

static void uring_close(struct loop *loop)
{
    struct uring *uring = loop->state;
    ring_close(&uring->ring, &uring->pool);
    mem_free(uring->slots);
    mem_free(uring);
}

static uint64_t slot_key(const struct uring *uring, uint32_t number)
{
    return (uint64_t)uring->slots[number].generation << 32 | (uint64_t)number << 8;
}

// The slot of an open watch. Not to be held across a callback: the array may move.
static struct slot *slot_of(struct watch *watch)
{
    struct uring *uring = watch->loop->state;
    uint32_t number = (uint32_t)watch->generation >> 8;
    CHECK(number < uring->slot_count && uring->slots[number].watch == watch);
    return &uring->slots[number];
}

static void uring_watch_open(struct watch *watch)
{
    struct uring *uring = watch->loop->state;
    if (uring->free_slot == SLOT_NONE) {
        uint32_t count = uring->slot_count == 0 ? 16 : uring->slot_count * 2;
        CHECK(count <= SLOT_LIMIT);
        uring->slots = mem_realloc(uring->slots, count * sizeof *uring->slots);
        for (uint32_t i = count; i > uring->slot_count; i--) {
            uring->slots[i - 1] = (struct slot){.next_free = uring->free_slot};
            uring->free_slot = i - 1;
        }
        uring->slot_count = count;
    }
    uint32_t number = uring->free_slot;
    struct slot *slot = &uring->slots[number];
    uring->free_slot = slot->next_free;
    slot->watch = watch;
    slot->generation++;
    watch->generation = slot_key(uring, number);
}

static void uring_watch_close(struct watch *watch) { CHECK(slot_of(watch)->watch == watch); }

static void uring_watch_closed(struct watch *watch)
{
    struct uring *uring = watch->loop->state;
    struct slot *slot = slot_of(watch);
    buf_free(&slot->kept);
    *slot = (struct slot){.generation = slot->generation, .next_free = uring->free_slot};
    uring->free_slot = (uint32_t)watch->generation >> 8;
}

// The next request of the watch; its caller has seen to it that there is room.
static struct io_uring_sqe *prepare(struct watch *watch)
{
    struct uring *uring = watch->loop->state;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    CHECK(sqe != NULL);
    watch->in_flight++;
    return sqe;
}

static void set_user(struct io_uring_sqe *sqe, struct watch *watch, enum operation operation)
{
    io_uring_sqe_set_data64(sqe, watch->generation | operation);
}

static void cancel(struct watch *watch, enum operation operation)
{
    struct io_uring_sqe *sqe = prepare(watch);
    io_uring_prep_cancel64(sqe, watch->generation | operation, 0);
    set_user(sqe, watch, OP_CANCEL);
}

static void cancel_recv(struct watch *watch)
{
    if ((watch->flags & (ARMED_RECV | CANCELLED_RECV)) == ARMED_RECV) {
        watch->flags |= CANCELLED_RECV;
        cancel(watch, OP_RECV);
    }
}

static void cancel_all(struct watch *watch)
{
    cancel_recv(watch);
    if (watch->flags & CANCELLED_CLOSE) {
        return;
    }
    watch->flags |= CANCELLED_CLOSE;
    if (watch->flags & ARMED_ACCEPT) {
        cancel(watch, OP_ACCEPT);
    }
    if (watch->flags & ARMED_POLL) {
        cancel(watch, OP_POLL);
    }
}

static void arm_accept(struct watch *watch)
{
    struct io_uring_sqe *sqe = prepare(watch);
    io_uring_prep_multishot_accept(sqe, watch->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    set_user(sqe, watch, OP_ACCEPT);
    watch->flags |= ARMED_ACCEPT;
}

static void arm_recv(struct watch *watch)
{
    struct io_uring_sqe *sqe = prepare(watch);
    io_uring_prep_recv_multishot(sqe, watch->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = POOL_GROUP;
    set_user(sqe, watch, OP_RECV);
    watch->flags |= ARMED_RECV;
}

static void arm_poll(struct watch *watch)
{
    struct io_uring_sqe *sqe = prepare(watch);
    io_uring_prep_poll_add(sqe, watch->fd, POLLOUT);
    set_user(sqe, watch, OP_POLL);
    watch->flags |= ARMED_POLL;
}

static bool has_room(struct uring *uring)
{
    if (io_uring_sq_space_left(&uring->ring) >= SQ_ENTRIES_PER_WATCH) {
        return true;
    }
    return io_uring_submit(&uring->ring) >= 0 &&
           io_uring_sq_space_left(&uring->ring) >= SQ_ENTRIES_PER_WATCH;
}

static bool uring_apply(struct watch *watch)
{
    if (!has_room(watch->loop->state)) {
        return false;
    }
    if (watch->flags & WATCH_CLOSING) {
        cancel_all(watch);
        return true;
    }
    if ((watch->flags & (WATCH_ACCEPT | ARMED_ACCEPT)) == WATCH_ACCEPT) {
        arm_accept(watch);
    }
    if ((watch->flags & (WATCH_WRITE | ARMED_POLL)) == WATCH_WRITE) {
        arm_poll(watch);
    }
    struct slot *slot = slot_of(watch);
    if ((watch->flags & WATCH_RECV) == 0) {
        cancel_recv(watch);
    } else if (slot->kept.size > 0 || slot->kept_end) {
        list_append(&watch->loop->ready, &watch->node);
    } else if ((watch->flags & ARMED_RECV) == 0) {
        arm_recv(watch);
    }
    return true;
}

static void uring_wait(struct loop *loop, uint64_t wait_ns)
{
    struct uring *uring = loop->state;
    if (!uring->wake_armed && has_room(uring)) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
        CHECK(sqe != NULL);
        io_uring_prep_read(sqe, loop->wake_fd, &uring->wake_value, sizeof uring->wake_value, 0);
        io_uring_sqe_set_data64(sqe, OP_WAKE);
        uring->wake_armed = true;
    }
    int code;
    if (wait_ns == 0 || !uring->wake_armed) {
        code = io_uring_submit_and_get_events(&uring->ring);
    } else {
        struct __kernel_timespec limit = {.tv_sec = (long long)(wait_ns / NS_PER_S),
                                          .tv_nsec = (long long)(wait_ns % NS_PER_S)};
        struct io_uring_cqe *cqe;
        code = io_uring_submit_and_wait_timeout(&uring->ring, &cqe, 1,
                                                wait_ns == UINT64_MAX ? NULL : &limit, NULL);
    }
    // The rest is passing: a time-out, a signal, a shortage that the next turn meets again.
    CHECK(code >= 0 || code == -ETIME || code == -EINTR || code == -EAGAIN || code == -EBUSY ||
          code == -ENOMEM);
}

static void run_recv(struct watch *watch, int result, struct bytes data)
{
    if (watch->flags & WATCH_CLOSING) {
        return;
    }
    struct slot *slot = slot_of(watch);
    bool deliver = (watch->flags & WATCH_RECV) && slot->kept.size == 0 && !slot->kept_end;
    if (result > 0) {
        if (deliver) {
            watch_received(watch, data);
        } else {
            buf_append_bytes(&slot->kept, data);
        }
        return;
    }
    // Out of buffers, cancelled, or disturbed: armed again, if it is still wanted.
    if (result == -ENOBUFS || result == -ECANCELED || result == -EINTR || result == -EAGAIN) {
        return;
    }
    if (deliver) {
        watch_receive_ended(watch, -result);
    } else {
        slot->kept_end = true;
        slot->kept_code = -result;
    }
}

// A cancel that came too early (its target was just running) or too late (its target is about to
// report) is tried once more if the target still stands at the next turn.
static void cancel_again(struct watch *watch)
{
    watch->flags &= ~(uint32_t)(CANCELLED_RECV | CANCELLED_CLOSE);
    if (list_empty(&watch->node) && watch->in_flight > 0) {
        list_append(&watch->loop->dirty, &watch->node);
    }
}

static void run_watch(struct watch *watch, enum operation operation, int result, unsigned flags)
{
    static const uint32_t armed[] = {[OP_ACCEPT] = ARMED_ACCEPT,
                                     [OP_RECV] = ARMED_RECV | CANCELLED_RECV,
                                     [OP_POLL] = ARMED_POLL,
                                     [OP_CANCEL] = 0};
    struct uring *uring = watch->loop->state;
    bool last = (flags & IORING_CQE_F_MORE) == 0;
    if (last) {
        CHECK(watch->in_flight > 0);
        watch->in_flight--;
        watch->flags &= ~armed[operation];
        watch_dirty(watch); // so that what is still wanted is armed again
    }
    if (operation == OP_ACCEPT) {
        if (result >= 0) {
            watch_accepted(watch, result);
        } else {
            watch_accept_failed(watch, -result);
        }
    } else if (operation == OP_RECV) {
        struct bytes data = bytes_of(NULL, 0);
        if (result > 0) {
            CHECK(flags & IORING_CQE_F_BUFFER);
            data = bytes_of(pool_buffer(&uring->pool, flags >> IORING_CQE_BUFFER_SHIFT),
                            (size_t)result);
        }
        run_recv(watch, result, data);
    } else if (operation == OP_POLL && result != -ECANCELED) {
        watch_writable(watch);
    } else if (operation == OP_CANCEL && result < 0) {
        cancel_again(watch);
    }
    watch_settle(watch);
}

static void run_completion(struct uring *uring, uint64_t user, int result, unsigned flags)
{
    enum operation operation = (enum operation)(user & 0xff);
    if (operation == OP_WAKE || operation == OP_UNWAKE) {
        uring->wake_armed = uring->wake_armed && operation != OP_WAKE;
        return;
    }
    uint32_t number = (uint32_t)user >> 8;
    CHECK(number < uring->slot_count && operation >= OP_ACCEPT && operation <= OP_CANCEL);
    struct watch *watch = uring->slots[number].watch;
    if (watch != NULL && uring->slots[number].generation == user >> 32) {
        run_watch(watch, operation, result, flags);
    } else if (operation == OP_ACCEPT && result >= 0) {
        close(result); // nobody waits for it any more
    }
    if (operation == OP_RECV && (flags & IORING_CQE_F_BUFFER)) {
        pool_return(&uring->pool, flags >> IORING_CQE_BUFFER_SHIFT);
    }
}

// Delivers what was kept while the watch was stopped.
static void run_kept(struct watch *watch)
{
    struct slot *slot = slot_of(watch);
    if (!watch_wants(watch, WATCH_RECV)) {
        return; // stopped again: apply comes here again after the next start
    }
    struct buf kept = slot->kept;
    slot->kept = (struct buf){0};
    if (kept.size > 0) {
        watch_received(watch, buf_bytes(&kept));
    }
    buf_free(&kept);
    slot = slot_of(watch);
    if (slot->kept_end && watch_wants(watch, WATCH_RECV)) {
        watch_receive_ended(watch, slot->kept_code);
    }
    watch_dirty(watch);
}

static void uring_run(struct loop *loop)
{
    struct uring *uring = loop->state;
    struct list ready;
    list_init(&ready);
    list_move_all(&ready, &loop->ready);
    for (struct list *node = list_take(&ready); node != NULL; node = list_take(&ready)) {
        run_kept(CONTAINER_OF(node, struct watch, node));
    }
    // No callback enters the ring, so nothing is added meanwhile: one pass sees all there is.
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned seen = 0;
    io_uring_for_each_cqe(&uring->ring, head, cqe) {
        run_completion(uring, cqe->user_data, cqe->res, cqe->flags);
        seen++;
    }
    io_uring_cq_advance(&uring->ring, seen);
}

static void uring_start(struct loop *loop)
{
    struct uring *uring = loop->state;
    if (!uring->enabled) {
        CHECK(ring_enable(&uring->ring) == 0);
        uring->enabled = true;
    }
}

// The thread may end after this, so nothing of its may be in flight any more.
static void uring_stop(struct loop *loop)
{
    struct uring *uring = loop->state;
    if (uring->wake_armed) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
        CHECK(sqe != NULL);
        io_uring_prep_cancel64(sqe, OP_WAKE, 0);
        io_uring_sqe_set_data64(sqe, OP_UNWAKE);
    }
    while (uring->wake_armed) {
        struct io_uring_cqe *cqe;
        int code = io_uring_submit_and_wait_timeout(&uring->ring, &cqe, 1, NULL, NULL);
        CHECK(code >= 0 || code == -EINTR);
        uring_run(loop);
    }
}

const struct loop_backend *loop_backend_uring(void)
{
    static const struct loop_backend backend = {
        .kind = IO_URING,
        .open = uring_open,
        .close = uring_close,
        .start = uring_start,
        .stop = uring_stop,
        .watch_open = uring_watch_open,
        .watch_close = uring_watch_close,
        .watch_closed = uring_watch_closed,
        .apply = uring_apply,
        .wait = uring_wait,
        .run = uring_run,
    };
    return &backend;
}
