// SPDX-License-Identifier: Apache-2.0
// Looking for more bytes before sleeping, on both back ends: told by how many turns a loop makes
// until a timer is over.
#include "common/io/loop_backend.h"
#include "tests/unit/io_fixture.h"

#define OVER_NS (20 * NS_PER_MS)
#define FEW 20 // a loop that sleeps, whatever wakes it besides
#define MANY 40
#define TRIES_MAX 200

static size_t received;

static void on_recv(struct watch *watch, struct bytes data)
{
    received += data.size;
    loop_expect(watch->loop);
}

static void on_recv_error(struct watch *watch, int error)
{
    (void)watch;
    fail_msg("receiving failed: %d", error);
}

static void on_closed(struct watch *watch) { (void)watch; }

static const struct watch_ops ops = {
    .on_recv = on_recv, .on_recv_error = on_recv_error, .on_closed = on_closed};

static void on_timer(struct timer *timer) { (void)timer; }

// Turns from the arrival of a byte, if one comes, until a timer is over.
static unsigned count_turns(void **state, uint64_t busy_ns, bool comes)
{
    struct loop *loop = fixture_open(state);
    struct watch watch;
    struct timer over;
    unsigned turns = 0;
    int fds[2];
    fixture_pair(fds);
    received = 0;
    loop_busy_poll(loop, busy_ns);
    loop->backend->start(loop);
    loop_watch_open(loop, &watch, fds[0], &ops);
    loop_recv_start(&watch);
    assert_int_equal(write(fds[1], "q", comes ? 1 : 0), comes ? 1 : 0);
    while (comes && received == 0) {
        loop_turn(loop);
    }
    timer_init(&over, on_timer);
    for (loop_timer_set(loop, &over, OVER_NS); timer_is_set(&over); turns++) {
        loop_turn(loop);
    }
    loop_watch_close(&watch);
    while (loop->watches > 0) {
        loop_turn(loop);
    }
    loop->backend->stop(loop);
    close(fds[1]);
    fixture_close(loop);
    return turns;
}

static void test_off(void **state) { assert_in_range(count_turns(state, 0, true), 1, FEW); }

// It sleeps if its core is wanted by somebody else: it does not have to succeed every time.
static void test_on(void **state)
{
    unsigned tries = 0;
    while (count_turns(state, 3600 * NS_PER_S, true) <= MANY) {
        assert_true(++tries < TRIES_MAX);
    }
}

static void test_ends(void **state)
{
    assert_in_range(count_turns(state, 1, true), 1, FEW);
    assert_in_range(count_turns(state, NS_PER_MS, false), 1, FEW);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_off),
        BOTH(test_on),
        BOTH(test_ends),
    };
    return cmocka_run_group_tests_name("loop_busy", tests, NULL, NULL);
}
