// SPDX-License-Identifier: Apache-2.0
// The loop on both back ends: turn order, timers, posts, accepting, receiving, stopping.
// Closing and its races are in loop_close_test.c.
#include "tests/unit/io_fixture.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

struct reader {
    struct watch watch;
    uint64_t received;
    uint64_t stop_at; // stop the loop once so much has arrived
    unsigned calls;
    int ends;
    int error;
    bool stopped;      // then a call is a failure
    bool toggle;       // stop in every call, start again from a deferred task
    bool stop_at_end;  // stop the loop at the end of file
    struct task start_task;
    struct timer start_timer;
};

static int closed_count;

static void reader_start_again(struct reader *reader)
{
    reader->stopped = false;
    loop_recv_start(&reader->watch);
}

static void reader_start_task(struct task *task)
{
    reader_start_again(CONTAINER_OF(task, struct reader, start_task));
}

static void reader_start_timer(struct timer *timer)
{
    reader_start_again(CONTAINER_OF(timer, struct reader, start_timer));
}

static void reader_on_recv(struct watch *watch, struct bytes data)
{
    struct reader *reader = CONTAINER_OF(watch, struct reader, watch);
    assert_false(reader->stopped);
    assert_int_equal(reader->ends, 0);
    reader->calls++;
    for (size_t i = 0; i < data.size; i++) {
        if (data.data[i] != fixture_byte(reader->received + i)) {
            fail_msg("byte %llu is wrong", (unsigned long long)(reader->received + i));
        }
    }
    reader->received += data.size;
    reader->ends += data.size == 0;
    if ((reader->stop_at != 0 && reader->received >= reader->stop_at) ||
        (reader->stop_at_end && data.size == 0)) {
        loop_stop(watch->loop);
        loop_watch_close(watch);
    } else if (reader->toggle && data.size > 0) {
        loop_recv_stop(watch);
        reader->stopped = true;
        if (reader->calls % 16 == 0) {
            loop_timer_set(watch->loop, &reader->start_timer, NS_PER_MS);
        } else {
            loop_defer(watch->loop, &reader->start_task);
        }
    }
}

static void reader_on_error(struct watch *watch, int error)
{
    struct reader *reader = CONTAINER_OF(watch, struct reader, watch);
    assert_false(reader->stopped);
    reader->error = error;
    loop_stop(watch->loop);
    loop_watch_close(watch);
}

static void reader_on_closed(struct watch *watch)
{
    assert_int_equal(watch->fd, -1);
    closed_count++;
}

static const struct watch_ops reader_ops = {
    .on_recv = reader_on_recv,
    .on_recv_error = reader_on_error,
    .on_closed = reader_on_closed,
};

static void reader_open(struct reader *reader, struct loop *loop, int fd)
{
    *reader = (struct reader){.start_task = {.run = reader_start_task}};
    timer_init(&reader->start_timer, reader_start_timer);
    loop_watch_open(loop, &reader->watch, fd, &reader_ops);
    loop_recv_start(&reader->watch);
}

// Writes `data` from another thread, blocking, and then ends the stream.
struct sender {
    pthread_t thread;
    int fd;
    struct bytes data;
};

static void *sender_main(void *argument)
{
    struct sender *sender = argument;
    size_t sent = 0;
    while (sent < sender->data.size) {
        ssize_t size = send(sender->fd, sender->data.data + sent, sender->data.size - sent,
                            MSG_NOSIGNAL);
        if (size < 0) {
            break;
        }
        sent += (size_t)size;
    }
    shutdown(sender->fd, SHUT_WR);
    return NULL;
}

static void sender_start(struct sender *sender, int fd, struct bytes data)
{
    sender->fd = fd;
    sender->data = data;
    assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK), 0);
    assert_int_equal(pthread_create(&sender->thread, NULL, sender_main, sender), 0);
}

static void transfer(void **state, void (*pair)(int *), bool toggle)
{
    enum { SIZE = 16 << 20 };
    struct loop *loop = fixture_open(state);
    int fds[2];
    pair(fds);
    uint8_t *data = fixture_bytes(SIZE);
    struct sender sender;
    struct reader reader;
    reader_open(&reader, loop, fds[0]);
    reader.toggle = toggle;
    reader.stop_at_end = true;
    sender_start(&sender, fds[1], bytes_of(data, SIZE));
    loop_run(loop);
    pthread_join(sender.thread, NULL);
    assert_int_equal(reader.received, SIZE);
    assert_int_equal(reader.ends, 1);
    assert_int_equal(reader.error, OK);
    close(fds[1]);
    mem_free(data);
    fixture_close(loop);
}

static void test_transfer_unix(void **state) { transfer(state, fixture_pair, false); }
static void test_transfer_tcp(void **state) { transfer(state, fixture_tcp_pair, false); }
static void test_stop_and_start_unix(void **state) { transfer(state, fixture_pair, true); }
static void test_stop_and_start_tcp(void **state) { transfer(state, fixture_tcp_pair, true); }

// The end of file that arrives while stopped is delivered after the data, after the next start.
static void test_end_while_stopped(void **state)
{
    struct loop *loop = fixture_open(state);
    int fds[2];
    fixture_pair(fds);
    uint8_t *data = fixture_bytes(100000);
    struct reader reader;
    reader_open(&reader, loop, fds[0]);
    reader.toggle = true;
    reader.stop_at_end = true;
    assert_int_equal(send(fds[1], data, 100000, 0), 100000);
    close(fds[1]);
    loop_run(loop);
    assert_int_equal(reader.received, 100000);
    assert_int_equal(reader.ends, 1);
    mem_free(data);
    fixture_close(loop);
}

static void test_reset_is_an_error(void **state)
{
    struct loop *loop = fixture_open(state);
    int fds[2];
    fixture_tcp_pair(fds);
    struct linger linger = {.l_onoff = 1};
    assert_int_equal(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    struct reader reader;
    reader_open(&reader, loop, fds[0]);
    close(fds[1]);
    loop_run(loop);
    assert_int_equal(reader.error, ERR_CLOSED);
    fixture_close(loop);
}

// More connections, each with more bytes waiting, than there are shared receive buffers.
static void test_many_full_sockets(void **state)
{
    enum { WATCHES = 400, SIZE = 64 << 10 };
    struct loop *loop = fixture_open(state);
    struct reader *readers = mem_zalloc(WATCHES * sizeof *readers);
    int peers[WATCHES];
    uint8_t *data = fixture_bytes(SIZE);
    for (size_t i = 0; i < WATCHES; i++) {
        int fds[2];
        fixture_pair(fds);
        peers[i] = fds[1];
        reader_open(&readers[i], loop, fds[0]);
        readers[i].stop_at = SIZE;
        assert_int_equal(send(fds[1], data, SIZE, 0), SIZE);
    }
    loop_run(loop); // ends when every watch is closed
    for (size_t i = 0; i < WATCHES; i++) {
        assert_int_equal(readers[i].received, SIZE);
        close(peers[i]);
    }
    mem_free(data);
    mem_free(readers);
    fixture_close(loop);
}

struct order {
    struct loop *loop;
    char seen[16];
    size_t count;
    struct task posted, deferred, again;
    struct timer timer;
};

static struct order order;

static void order_note(char event)
{
    assert_true(order.count < sizeof order.seen - 1);
    order.seen[order.count++] = event;
}

static void order_again(struct task *task)
{
    (void)task;
    order_note('a');
    loop_stop(order.loop);
}

static void order_deferred(struct task *task)
{
    (void)task;
    order_note('d');
    loop_defer(order.loop, &order.again);
}

static void order_posted(struct task *task)
{
    (void)task;
    order_note('p');
    loop_defer(order.loop, &order.deferred);
}

static void order_timer(struct timer *timer)
{
    (void)timer;
    order_note('t');
    assert_false(timer_is_set(timer));
    loop_post(order.loop, &order.posted);
}

static void test_turn_order(void **state)
{
    order = (struct order){.loop = fixture_open(state)};
    order.posted.run = order_posted;
    order.deferred.run = order_deferred;
    order.again.run = order_again;
    timer_init(&order.timer, order_timer);
    loop_timer_set(order.loop, &order.timer, 0);
    loop_run(order.loop);
    assert_string_equal(order.seen, "tpda");
    fixture_close(order.loop);
}

struct clocked {
    struct timer timer;
    struct loop *loop;
    unsigned left;
    unsigned fired;
};

static uint64_t last_fired_ms;
static unsigned timers_left;

static void clocked_fire(struct timer *timer)
{
    struct clocked *clocked = CONTAINER_OF(timer, struct clocked, timer);
    uint64_t now_ns = clock_mono_ns();
    assert_true(now_ns >= timer->at_ns);
    uint64_t ms = (timer->at_ns + NS_PER_MS - 1) / NS_PER_MS;
    assert_true(ms >= last_fired_ms);
    last_fired_ms = ms;
    clocked->fired++;
    timers_left--;
    if (clocked->left > 0) {
        clocked->left--;
        timers_left++;
        loop_timer_set(clocked->loop, timer, 2 * NS_PER_MS);
    }
    if (timers_left == 0) {
        loop_stop(clocked->loop);
    }
}

static void test_timers(void **state)
{
    enum { TIMERS = 1000 };
    struct loop *loop = fixture_open(state);
    struct clocked *clocked = mem_zalloc(TIMERS * sizeof *clocked);
    last_fired_ms = 0;
    timers_left = TIMERS;
    for (unsigned i = 0; i < TIMERS; i++) {
        clocked[i] = (struct clocked){.loop = loop, .left = i % 10 == 0 ? 3 : 0};
        timer_init(&clocked[i].timer, clocked_fire);
        loop_timer_set(loop, &clocked[i].timer, (i * 7919 % 50) * NS_PER_MS);
    }
    for (unsigned i = 1; i < TIMERS; i += 4) {
        loop_timer_clear(&clocked[i].timer); // cleared: never fires
        loop_timer_clear(&clocked[i].timer);
        assert_false(timer_is_set(&clocked[i].timer));
        timers_left--;
        loop_timer_set(loop, &clocked[i + 1].timer, 60 * NS_PER_MS); // moved: fires once
    }
    loop_run(loop);
    for (unsigned i = 0; i < TIMERS; i++) {
        assert_int_equal(clocked[i].fired, i % 4 == 1 ? 0 : i % 10 == 0 ? 4 : 1);
    }
    mem_free(clocked);
    fixture_close(loop);
}

enum { POSTERS = 2, POSTS = 100000 };

struct post {
    struct task task;
    unsigned poster;
    unsigned number;
};

struct poster {
    pthread_t thread;
    struct loop *loop;
    struct post *posts;
};

// Touched by the loop's thread only, whatever thread posts.
static unsigned posts_seen[POSTERS];
static struct loop *posts_loop;

static void post_run(struct task *task)
{
    struct post *post = CONTAINER_OF(task, struct post, task);
    assert_int_equal(post->number, posts_seen[post->poster]);
    posts_seen[post->poster]++;
    if (posts_seen[0] == POSTS && posts_seen[1] == POSTS) {
        loop_stop(posts_loop);
    }
}

static void *poster_main(void *argument)
{
    struct poster *poster = argument;
    for (unsigned i = 0; i < POSTS; i++) {
        loop_post(poster->loop, &poster->posts[i].task);
    }
    return NULL;
}

static void test_posts_from_two_threads(void **state)
{
    posts_loop = fixture_open(state);
    struct poster posters[POSTERS];
    for (unsigned i = 0; i < POSTERS; i++) {
        posts_seen[i] = 0;
        posters[i].loop = posts_loop;
        posters[i].posts = mem_alloc(POSTS * sizeof *posters[i].posts);
        for (unsigned n = 0; n < POSTS; n++) {
            posters[i].posts[n] = (struct post){{.run = post_run}, i, n};
        }
        assert_int_equal(pthread_create(&posters[i].thread, NULL, poster_main, &posters[i]), 0);
    }
    loop_run(posts_loop);
    for (unsigned i = 0; i < POSTERS; i++) {
        pthread_join(posters[i].thread, NULL);
        assert_int_equal(posts_seen[i], POSTS);
        mem_free(posters[i].posts);
    }
    fixture_close(posts_loop);
}

static void *run_main(void *argument)
{
    loop_run(argument);
    return NULL;
}

struct ping {
    struct task task;
    _Atomic unsigned runs;
};

static void ping_run(struct task *task)
{
    atomic_fetch_add(&CONTAINER_OF(task, struct ping, task)->runs, 1);
}

// Opened here, run there; each post and the stop must wake a loop that sleeps without a bound.
static void test_wake_of_a_sleeping_loop(void **state)
{
    struct loop *loop = fixture_open(state);
    loop_timer_clear(&fixture_watchdog);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_main, loop), 0);
    struct ping ping = {.task = {.run = ping_run}};
    for (unsigned i = 0; i < 200; i++) {
        loop_post(loop, &ping.task);
        while (atomic_load(&ping.runs) == i) {
            sched_yield();
        }
    }
    loop_stop(loop);
    pthread_join(thread, NULL);
    fixture_close(loop);
}

struct acceptor {
    struct watch watch;
    struct reader *readers;
    unsigned accepted;
    unsigned wanted;
};

static void acceptor_on_accept(struct watch *watch, int fd)
{
    struct acceptor *acceptor = CONTAINER_OF(watch, struct acceptor, watch);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    struct reader *reader = &acceptor->readers[acceptor->accepted++];
    reader_open(reader, watch->loop, fd);
    reader->stop_at_end = true;
    if (acceptor->accepted == acceptor->wanted) {
        loop_watch_close(watch);
    }
}

static const struct watch_ops acceptor_ops = {
    .on_accept = acceptor_on_accept,
    .on_closed = reader_on_closed,
};

static void test_thousand_connections(void **state)
{
    enum { CONNECTIONS = 1000 };
    struct loop *loop = fixture_open(state);
    struct address address;
    struct acceptor acceptor = {.wanted = CONNECTIONS};
    acceptor.readers = mem_zalloc(CONNECTIONS * sizeof *acceptor.readers);
    loop_watch_open(loop, &acceptor.watch, fixture_listen(&address), &acceptor_ops);
    loop_accept_start(&acceptor.watch);
    int fds[CONNECTIONS];
    uint8_t *data = fixture_bytes(1000);
    closed_count = 0;
    for (size_t i = 0; i < CONNECTIONS; i++) {
        assert_int_equal(address_connect(&address, &fds[i]), OK);
        assert_int_equal(send(fds[i], data, 1000, 0), 1000);
        shutdown(fds[i], SHUT_WR);
    }
    loop_run(loop);
    assert_int_equal(acceptor.accepted, CONNECTIONS);
    assert_int_equal(closed_count, CONNECTIONS + 1);
    for (size_t i = 0; i < CONNECTIONS; i++) {
        assert_int_equal(acceptor.readers[i].received, 1000);
        close(fds[i]);
    }
    mem_free(data);
    mem_free(acceptor.readers);
    fixture_close(loop);
}

static struct rlimit files_before;

static void raise_limit(struct timer *timer)
{
    (void)timer;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &files_before), 0);
}

// Out of descriptors: the listener rests, and goes on by itself later.
static void test_accept_out_of_descriptors(void **state)
{
    struct loop *loop = fixture_open(state);
    struct address address;
    struct acceptor acceptor = {.wanted = 1};
    acceptor.readers = mem_zalloc(sizeof *acceptor.readers);
    loop_watch_open(loop, &acceptor.watch, fixture_listen(&address), &acceptor_ops);
    loop_accept_start(&acceptor.watch);
    int fd;
    assert_int_equal(address_connect(&address, &fd), OK);
    shutdown(fd, SHUT_WR);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &files_before), 0);
    struct rlimit none = {.rlim_cur = 0, .rlim_max = files_before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct timer timer;
    timer_init(&timer, raise_limit);
    loop_timer_set(loop, &timer, 20 * NS_PER_MS);
    loop_run(loop);
    assert_int_equal(acceptor.accepted, 1);
    close(fd);
    mem_free(acceptor.readers);
    fixture_close(loop);
}

// In a child: io_uring_setup answers `code`; which kind of loop opens then? 0 = none.
static int kind_when_forbidden(enum io_kind kind, int code)
{
    pid_t child = fork();
    if (child == 0) {
        struct sock_filter rules[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), // the number of the call
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)code),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog program = {ARRAY_LEN(rules), rules};
        struct loop *loop;
        const char *reason = NULL;
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
            prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
            _exit(99);
        }
        int error = loop_open(&loop, kind, 0, &reason);
        _exit(error == OK ? (int)loop_kind(loop) : error == ERR_IO && reason != NULL ? 0 : 98);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void test_fall_back(void **state)
{
    (void)state;
    static const int absent[] = {ENOSYS, EPERM, EINVAL};
    for (size_t i = 0; i < ARRAY_LEN(absent); i++) {
        assert_int_equal(kind_when_forbidden(IO_AUTO, absent[i]), IO_EPOLL);
        assert_int_equal(kind_when_forbidden(IO_URING, absent[i]), 0);
        assert_int_equal(kind_when_forbidden(IO_EPOLL, absent[i]), IO_EPOLL);
    }
    // A shortage is an error, not a reason to change.
    assert_int_equal(kind_when_forbidden(IO_AUTO, ENOMEM), 0);
    assert_int_equal(kind_when_forbidden(IO_AUTO, EMFILE), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_transfer_unix),
        BOTH(test_transfer_tcp),
        BOTH(test_stop_and_start_unix),
        BOTH(test_stop_and_start_tcp),
        BOTH(test_end_while_stopped),
        BOTH(test_reset_is_an_error),
        BOTH(test_many_full_sockets),
        BOTH(test_turn_order),
        BOTH(test_timers),
        BOTH(test_posts_from_two_threads),
        BOTH(test_wake_of_a_sleeping_loop),
        BOTH(test_thousand_connections),
        BOTH(test_accept_out_of_descriptors),
        cmocka_unit_test(test_fall_back),
    };
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
