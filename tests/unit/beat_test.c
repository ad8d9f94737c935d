// SPDX-License-Identifier: Apache-2.0
// Heartbeats: what they say about the age of a node's data, hop by hop, with made-up clocks.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>

#include "common/base/mem.h"
#include "common/tree/age_alarm.h"
#include "common/tree/tree.h"

#define MS NS_PER_MS

static struct beat beat_at(uint64_t sequence, uint64_t index, uint64_t delay_ns,
                           uint64_t received_ns)
{
    struct beat beat = {.history = "a history",
                        .sequence = sequence,
                        .commit_index = index,
                        .delay_ns = delay_ns,
                        .received_ns = received_ns,
                        .path_size = 4};
    memcpy(beat.path, "root", 4);
    return beat;
}

static void add(struct beats *beats, uint64_t sequence, uint64_t index, uint64_t delay_ns,
                uint64_t received_ns)
{
    struct beat beat = beat_at(sequence, index, delay_ns, received_ns);
    beats_add(beats, &beat);
}

static void test_age(void **state)
{
    (void)state;
    struct beats *beats = beats_open();
    struct beat newest;
    assert_false(beats_newest(beats, &newest));
    assert_true(beats_age_ns(beats, NULL, 100, 5 * MS) == UINT64_MAX);
    add(beats, 1, 10, 3 * MS, 100 * MS);
    // Below the beat's index nothing is known; at it and above: the delay and the time since.
    assert_true(beats_age_ns(beats, NULL, 9, 100 * MS) == UINT64_MAX);
    assert_int_equal(beats_age_ns(beats, NULL, 10, 100 * MS), 3 * MS);
    assert_int_equal(beats_age_ns(beats, NULL, 11, 150 * MS), 53 * MS);
    // A newer beat that is not covered yet leaves the older one in force.
    add(beats, 2, 20, 1 * MS, 600 * MS);
    assert_int_equal(beats_age_ns(beats, NULL, 19, 600 * MS), 503 * MS);
    assert_int_equal(beats_age_ns(beats, NULL, 20, 600 * MS), 1 * MS);
    assert_true(beats_newest(beats, &newest));
    assert_int_equal(newest.sequence, 2);
    // A clock read before the beat came (another thread's) gives no negative time.
    assert_int_equal(beats_age_ns(beats, NULL, 20, 500 * MS), 1 * MS);
    beats_close(beats);
}

static void test_relayed_again(void **state)
{
    (void)state;
    struct beats *beats = beats_open();
    add(beats, 7, 10, 5 * MS, 1000 * MS);
    // The same beat, 400 ms later, with those 400 ms in its delay: the age goes on as before.
    add(beats, 7, 10, 405 * MS, 1400 * MS);
    assert_int_equal(beats_age_ns(beats, NULL, 10, 1500 * MS), 505 * MS);
    // By a longer way it tells nothing better, by a shorter one it does.
    add(beats, 7, 10, 450 * MS, 1410 * MS);
    assert_int_equal(beats_age_ns(beats, NULL, 10, 1500 * MS), 505 * MS);
    add(beats, 7, 10, 412 * MS, 1410 * MS);
    assert_int_equal(beats_age_ns(beats, NULL, 10, 1500 * MS), 502 * MS);
    // A root that started again counts from the beginning; its beats are news.
    add(beats, 1, 10, 2 * MS, 2000 * MS);
    assert_int_equal(beats_age_ns(beats, NULL, 10, 2000 * MS), 2 * MS);
    // Another history says nothing about this one's indexes.
    struct beat other = beat_at(2, 50, 1 * MS, 3000 * MS);
    other.history[0] ^= 1;
    beats_add(beats, &other);
    assert_true(beats_age_ns(beats, NULL, 49, 3000 * MS) == UINT64_MAX);
    // ... nor does a beat of another one make what is shown of this one young.
    uint8_t history[HISTORY_ID_BYTES];
    memcpy(history, other.history, HISTORY_ID_BYTES);
    assert_int_equal(beats_age_ns(beats, history, 60, 3000 * MS), 1 * MS);
    history[0] ^= 1;
    assert_true(beats_age_ns(beats, history, 60, 3000 * MS) == UINT64_MAX);
    beats_close(beats);
}

// A node that takes in an hour of log: never told to be younger than it is, nor much too old.
static void test_long_catch_up(void **state)
{
    (void)state;
    struct beats *beats = beats_open();
    add(beats, 1, 0, 0, 0);
    for (uint64_t i = 1; i <= 7200; i++) {
        add(beats, i + 1, i * 10, 0, i * 500 * MS);
    }
    uint64_t now = 7200 * 500 * MS;
    for (uint64_t visible = 0; visible <= 72000; visible += 777) {
        uint64_t true_age = now - visible / 10 * 500 * MS;
        uint64_t age = beats_age_ns(beats, NULL, visible, now);
        assert_true(age >= true_age);
        assert_true(age <= true_age * 3 / 2 + 1000 * MS);
    }
    assert_int_equal(beats_age_ns(beats, NULL, 72000, now), 0);
    beats_close(beats);
}

// Decodes a frame's heartbeat at the other side.
static int pass_on(const struct buf *wire, uint64_t half_rtt_ns, uint64_t now_ns,
                   struct beat *ret_beat)
{
    struct frame frame;
    assert_int_equal(frame_decode(buf_bytes(wire), FRAME_PAYLOAD_MAX, &frame), wire->size);
    assert_int_equal(frame.code, MESSAGE_heartbeat);
    return beat_decode(ret_beat, frame.payload, half_rtt_ns, now_ns);
}

// root -> a -> b, clocks of the three unrelated.
static void test_hops(void **state)
{
    (void)state;
    struct buf wire = {0};
    struct beat at_root = {.history = "a history",
                           .epoch = 3,
                           .commit_index = 42,
                           .block = 17,
                           .root_ms = 1700000000000,
                           .sequence = 5,
                           .chain = {1, 2},
                           .digest = {3, 4},
                           .way_ns = WAY_AT_ROOT_NS,
                           .received_ns = 7000 * MS};
    struct beat at_a, at_b;
    assert_int_equal(beat_encode(&wire, &at_root, "root", 7000 * MS), OK);
    assert_int_equal(pass_on(&wire, 10 * MS, 555 * MS, &at_a), OK);
    assert_int_equal(at_a.delay_ns, 10 * MS);
    assert_int_equal(at_a.held_ns, 0);
    assert_int_equal(at_a.way_ns, 10 * MS + WAY_AT_ROOT_NS);
    buf_clear(&wire);
    assert_int_equal(beat_encode(&wire, &at_a, "a", 555 * MS + 200 * MS), OK);
    assert_int_equal(pass_on(&wire, 1 * MS, 99000 * MS, &at_b), OK);
    assert_int_equal(at_b.delay_ns, 211 * MS);
    assert_int_equal(at_b.held_ns, 200 * MS); // by the last hop alone
    assert_int_equal(at_b.way_ns, 11 * MS + WAY_AT_ROOT_NS); // whatever it was held for
    assert_int_equal(at_b.received_ns, 99000 * MS);
    assert_int_equal(at_b.path_size, 6);
    assert_memory_equal(at_b.path, "root\0a", 6);
    assert_int_equal(at_b.commit_index, 42);
    assert_int_equal(at_b.block, 17);
    assert_int_equal(at_b.epoch, 3);
    assert_true(hash128_equal(at_b.chain, at_root.chain));
    assert_true(hash128_equal(at_b.digest, at_root.digest));
    assert_memory_equal(at_b.history, at_root.history, HISTORY_ID_BYTES);
    struct bytes path = bytes_of(at_b.path, at_b.path_size);
    assert_true(path_passed(path, "root") && path_passed(path, "a"));
    assert_false(path_passed(path, "b") || path_passed(path, "roo") || path_passed(path, ""));
    buf_free(&wire);
}

static void test_limits(void **state)
{
    (void)state;
    struct buf wire = {0};
    struct beat beat = beat_at(1, 1, 0, 0), got;
    // A path that would grow beyond its room is not passed on.
    beat.path_size = BEAT_PATH_MAX - 2;
    memset(beat.path, 'x', beat.path_size);
    assert_int_equal(beat_encode(&wire, &beat, "ab", 0), ERR_PROTOCOL);
    assert_int_equal(wire.size, 0);
    assert_int_equal(beat_encode(&wire, &beat, "a", 0), OK);
    assert_int_equal(pass_on(&wire, 0, 0, &got), OK);
    assert_int_equal(got.path_size, BEAT_PATH_MAX);
    // Delays that a liar makes up do not wrap into small ones.
    buf_clear(&wire);
    beat = beat_at(1, 1, UINT64_MAX - 5, 0);
    beat.way_ns = UINT64_MAX - 5;
    assert_int_equal(beat_encode(&wire, &beat, "a", 100), OK);
    assert_int_equal(pass_on(&wire, 100, 0, &got), OK);
    assert_true(got.delay_ns >= UINT64_MAX / 4);
    assert_true(got.way_ns >= UINT64_MAX / 4);
    // A way that is not known gets no shorter by a hop.
    buf_clear(&wire);
    struct beat unknown = beat_at(1, 1, 0, 0);
    assert_int_equal(beat_encode(&wire, &unknown, "a", 100), OK);
    assert_int_equal(pass_on(&wire, 100, 0, &unknown), OK);
    assert_int_equal(unknown.way_ns, 0);
    struct beats *beats = beats_open();
    beats_add(beats, &got);
    assert_true(beats_age_ns(beats, NULL, 1, UINT64_MAX - 1) >= UINT64_MAX / 4);
    beats_close(beats);
    // Fields of a wrong size.
    buf_clear(&wire);
    struct message_heartbeat message = {.path = bytes_text("root")};
    message_heartbeat_encode(&wire, &message);
    assert_int_equal(pass_on(&wire, 0, 0, &got), ERR_PROTOCOL);
    buf_free(&wire);
}

static void test_alarm(void **state)
{
    (void)state;
    // Raised above the limit, kept down to half of it: what wavers at the limit is told once.
    assert_false(age_alarm_holds(false, 0, 10 * MS));
    assert_false(age_alarm_holds(false, 10 * MS, 10 * MS));
    assert_true(age_alarm_holds(false, 10 * MS + 1, 10 * MS));
    assert_true(age_alarm_holds(true, 9 * MS, 10 * MS));
    assert_true(age_alarm_holds(true, 5 * MS, 10 * MS));
    assert_false(age_alarm_holds(true, 5 * MS - 1, 10 * MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alarm),
        cmocka_unit_test(test_age),           cmocka_unit_test(test_relayed_again),
        cmocka_unit_test(test_long_catch_up), cmocka_unit_test(test_hops),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
