// SPDX-License-Identifier: Apache-2.0
// Closing watches on both back ends: with operations in flight, from inside callbacks, with the
// descriptor's number used again at once. on_closed comes once, and nothing after it or between.
#include "tests/unit/io_fixture.h"

#include <string.h>

enum moment { NEVER, IN_RECV, IN_WRITABLE, IN_END, IN_ACCEPT };

struct closer {
    struct watch watch;
    enum moment when;
    bool closed;
    unsigned recvs, writables, accepts, ends;
    unsigned on_closed;
    struct closer *other; // closed together with this one
};

static const struct watch_ops closer_ops;

static void closer_open(struct closer *closer, struct loop *loop, int fd, enum moment when)
{
    *closer = (struct closer){.when = when};
    loop_watch_open(loop, &closer->watch, fd, &closer_ops);
}

static void closer_close(struct closer *closer)
{
    if (!closer->closed) {
        closer->closed = true;
        loop_watch_close(&closer->watch);
        loop_watch_close(&closer->watch); // twice is harmless
    }
}

static void closer_step(struct closer *closer, enum moment now)
{
    assert_false(closer->closed);
    if (closer->when == now) {
        closer_close(closer);
        if (closer->other != NULL) {
            closer_close(closer->other);
        }
    }
}

static void closer_on_recv(struct watch *watch, struct bytes data)
{
    struct closer *closer = CONTAINER_OF(watch, struct closer, watch);
    for (size_t i = 0; i < data.size; i++) {
        assert_int_equal(data.data[i], 'n');
    }
    closer->recvs += data.size > 0;
    closer->ends += data.size == 0;
    closer_step(closer, data.size > 0 ? IN_RECV : IN_END);
}

static void closer_on_error(struct watch *watch, int error)
{
    (void)watch;
    fail_msg("receive failed: %s", error_text(error));
}

static void closer_on_writable(struct watch *watch)
{
    struct closer *closer = CONTAINER_OF(watch, struct closer, watch);
    closer->writables++;
    closer_step(closer, IN_WRITABLE);
}

static void closer_on_accept(struct watch *watch, int fd)
{
    struct closer *closer = CONTAINER_OF(watch, struct closer, watch);
    closer->accepts++;
    close(fd);
    closer_step(closer, IN_ACCEPT);
}

static void closer_on_closed(struct watch *watch)
{
    struct closer *closer = CONTAINER_OF(watch, struct closer, watch);
    assert_true(closer->closed);
    closer->on_closed++;
}

static const struct watch_ops closer_ops = {
    .on_accept = closer_on_accept,
    .on_recv = closer_on_recv,
    .on_recv_error = closer_on_error,
    .on_writable = closer_on_writable,
    .on_closed = closer_on_closed,
};

struct later {
    struct timer timer;
    struct closer **closers;
    size_t count;
};

static void close_later(struct timer *timer)
{
    struct later *later = CONTAINER_OF(timer, struct later, timer);
    for (size_t i = 0; i < later->count; i++) {
        closer_close(later->closers[i]);
    }
}

static void run_and_close(struct loop *loop, struct closer **closers, size_t count)
{
    struct later later = {.closers = closers, .count = count};
    timer_init(&later.timer, close_later);
    loop_timer_set(loop, &later.timer, 5 * NS_PER_MS);
    loop_stop(loop); // ends as soon as all is closed
    loop_run(loop);
    loop_timer_clear(&later.timer);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(closers[i]->on_closed, 1);
    }
}

// A receive, a wait for room and an accept, none of which can finish by itself.
static void test_close_in_flight(void **state)
{
    struct loop *loop = fixture_open(state);
    struct closer both;
    struct closer listener;
    struct closer idle;
    struct address address;
    int fds[2];
    int idle_fds[2];
    fixture_pair(fds);
    fixture_pair(idle_fds);
    uint8_t *fill = mem_zalloc(1 << 20);
    while (send(fds[0], fill, 1 << 20, MSG_DONTWAIT) > 0) {
    }
    closer_open(&both, loop, fds[0], NEVER);
    loop_recv_start(&both.watch);
    loop_want_write(&both.watch);
    closer_open(&listener, loop, fixture_listen(&address), NEVER);
    loop_accept_start(&listener.watch);
    closer_open(&idle, loop, idle_fds[0], NEVER);
    run_and_close(loop, (struct closer *[]){&both, &listener, &idle}, 3);
    assert_int_equal(both.recvs + both.writables + both.ends + listener.accepts, 0);
    // The other side sees the end.
    char byte;
    assert_int_equal(read(idle_fds[1], &byte, 1), 0);
    close(idle_fds[1]);
    close(fds[1]);
    mem_free(fill);
    fixture_close(loop);
}

static void test_close_before_the_first_turn(void **state)
{
    struct loop *loop = fixture_open(state);
    struct closer closer;
    int fds[2];
    fixture_pair(fds);
    assert_int_equal(send(fds[1], "n", 1, 0), 1);
    closer_open(&closer, loop, fds[0], NEVER);
    loop_recv_start(&closer.watch);
    loop_want_write(&closer.watch);
    closer_close(&closer);
    run_and_close(loop, (struct closer *[]){&closer}, 1);
    assert_int_equal(closer.recvs + closer.writables, 0);
    close(fds[1]);
    fixture_close(loop);
}

static void close_inside(void **state, enum moment when, bool readable)
{
    struct loop *loop = fixture_open(state);
    struct closer closer;
    struct closer other;
    int fds[2];
    int other_fds[2];
    fixture_pair(fds);
    fixture_pair(other_fds);
    if (readable) {
        assert_int_equal(send(fds[1], "nnnn", 4, 0), 4);
    }
    assert_int_equal(send(other_fds[1], "nn", 2, 0), 2);
    shutdown(fds[1], SHUT_WR);
    closer_open(&closer, loop, fds[0], when);
    closer_open(&other, loop, other_fds[0], NEVER);
    closer.other = &other;
    loop_recv_start(&closer.watch);
    if (when == IN_WRITABLE) {
        loop_want_write(&closer.watch);
    }
    loop_recv_start(&other.watch);
    run_and_close(loop, (struct closer *[]){&closer, &other}, 2);
    assert_true(other.recvs <= 1);
    assert_true(closer.ends <= 1);
    close(fds[1]);
    close(other_fds[1]);
    fixture_close(loop);
}

static void test_close_in_recv(void **state) { close_inside(state, IN_RECV, true); }
static void test_close_at_end(void **state) { close_inside(state, IN_END, true); }
static void test_close_in_writable(void **state) { close_inside(state, IN_WRITABLE, false); }

static void test_close_in_accept(void **state)
{
    struct loop *loop = fixture_open(state);
    struct closer listener;
    struct address address;
    int fds[3];
    closer_open(&listener, loop, fixture_listen(&address), IN_ACCEPT);
    loop_accept_start(&listener.watch);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        assert_int_equal(address_connect(&address, &fds[i]), OK);
    }
    run_and_close(loop, (struct closer *[]){&listener}, 1);
    assert_int_equal(listener.accepts, 1);
    // The others were taken back, or never taken: none of them hangs.
    for (size_t i = 0; i < ARRAY_LEN(fds); i++) {
        char byte;
        assert_int_equal(fcntl(fds[i], F_SETFL, 0), 0);
        assert_true(read(fds[i], &byte, 1) <= 0);
        close(fds[i]);
    }
    fixture_close(loop);
}

enum { ROUNDS = 50 };

// Each round reads its byte, has its peer send an old one, and closes with that on its way; the
// next round opens another socket under the same number in on_closed, and must not see it.
struct round {
    struct closer closer;
    int here, there;
};

static struct round rounds[ROUNDS];
static unsigned rounds_done;
static int number;

static void round_start(struct loop *loop, struct round *round);

static void round_on_recv(struct watch *watch, struct bytes data)
{
    struct closer *closer = CONTAINER_OF(watch, struct closer, watch);
    struct round *round = CONTAINER_OF(closer, struct round, closer);
    assert_false(closer->closed);
    assert_int_equal(data.size, 1);
    assert_int_equal(data.data[0], 'n');
    assert_int_equal(send(round->there, "o", 1, 0), 1);
    closer_close(closer);
}

static void round_on_closed(struct watch *watch)
{
    struct round *round = CONTAINER_OF(CONTAINER_OF(watch, struct closer, watch), struct round,
                                       closer);
    struct loop *loop = watch->loop;
    rounds_done++;
    memset(&round->closer, 0xee, sizeof round->closer);
    if (rounds_done < ROUNDS) {
        round_start(loop, &rounds[rounds_done]);
    }
}

static void round_start(struct loop *loop, struct round *round)
{
    static const struct watch_ops round_ops = {
        .on_recv = round_on_recv,
        .on_recv_error = closer_on_error,
        .on_closed = round_on_closed,
    };
    int fd = dup(round->here);
    assert_int_equal(fd, number);
    round->closer = (struct closer){0};
    loop_watch_open(loop, &round->closer.watch, fd, &round_ops);
    loop_recv_start(&round->closer.watch);
}

static void test_number_used_again(void **state)
{
    struct loop *loop = fixture_open(state);
    for (size_t i = 0; i < ROUNDS; i++) {
        int fds[2];
        fixture_pair(fds);
        rounds[i] = (struct round){.here = fds[0], .there = fds[1]};
        assert_int_equal(send(fds[1], "n", 1, 0), 1);
    }
    rounds_done = 0;
    number = dup(0);
    close(number);
    round_start(loop, &rounds[0]);
    loop_stop(loop);
    loop_run(loop);
    assert_int_equal(rounds_done, ROUNDS);
    for (size_t i = 0; i < ROUNDS; i++) {
        close(rounds[i].here);
        close(rounds[i].there);
    }
    fixture_close(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_close_in_flight),   BOTH(test_close_before_the_first_turn),
        BOTH(test_close_in_recv),     BOTH(test_close_at_end),
        BOTH(test_close_in_writable), BOTH(test_close_in_accept),
        BOTH(test_number_used_again),
    };
    return cmocka_run_group_tests_name("loop_close", tests, NULL, NULL);
}
