// SPDX-License-Identifier: Apache-2.0
// The timing wheel against a plain list: random timers, random steps of time, no clock.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/io/wheel.h"

#define START_NS (123456789 * NS_PER_MS + 17)

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fire_nothing(struct timer *timer) { (void)timer; }

// Takes what is due and checks: nothing early, nothing forgotten, milliseconds in order.
static size_t take_checked(struct wheel *wheel, uint64_t now_ns)
{
    struct list due;
    list_init(&due);
    wheel_take_due(wheel, now_ns, &due);
    uint64_t last_ms = 0;
    size_t taken = 0;
    for (struct list *node = list_take(&due); node != NULL; node = list_take(&due)) {
        struct timer *timer = CONTAINER_OF(node, struct timer, node);
        uint64_t ms = (timer->at_ns + NS_PER_MS - 1) / NS_PER_MS;
        assert_true(timer->at_ns <= now_ns);
        assert_true(ms >= last_ms);
        last_ms = ms;
        taken++;
    }
    return taken;
}

static void test_random_timers(void **state)
{
    (void)state;
    enum { TIMERS = 100000 };
    uint64_t seed = 42;
    struct wheel *wheel = mem_alloc(sizeof *wheel);
    struct timer *timers = mem_alloc(TIMERS * sizeof *timers);
    wheel_init(wheel, START_NS);
    for (size_t i = 0; i < TIMERS; i++) {
        timer_init(&timers[i], fire_nothing);
        // Delays of all magnitudes, up to about 12 days.
        timers[i].at_ns = START_NS + (next_random(&seed) >> (14 + next_random(&seed) % 40));
        wheel_add(wheel, &timers[i]);
    }
    size_t cleared = 0;
    for (size_t i = 0; i < TIMERS; i += 3) {
        list_remove(&timers[i].node);
        cleared++;
    }
    size_t taken = 0;
    uint64_t now_ns = START_NS;
    for (uint64_t next = wheel_next_ns(wheel); next != UINT64_MAX; next = wheel_next_ns(wheel)) {
        assert_true(next > now_ns);
        // Mostly to the next event, sometimes short of it, sometimes far beyond.
        uint64_t kind = next_random(&seed) % 8;
        now_ns = kind == 0 ? now_ns + (next - now_ns) / 2 : next;
        now_ns += kind == 1 ? next_random(&seed) % (60 * NS_PER_S) : 0;
        taken += take_checked(wheel, now_ns);
        if (kind == 2) {
            for (size_t i = 1; i < 200; i++) {
                bool forgotten = timer_is_set(&timers[i]) && timers[i].at_ns + NS_PER_MS <= now_ns;
                assert_false(forgotten);
            }
        }
    }
    assert_int_equal(taken, TIMERS - cleared);
    mem_free(timers);
    mem_free(wheel);
}

static void test_same_tick_in_order_of_setting(void **state)
{
    (void)state;
    struct wheel wheel;
    struct timer timers[8];
    wheel_init(&wheel, START_NS);
    uint64_t at_ns = START_NS + 5000 * NS_PER_MS;
    for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
        // Set at different distances, so that they start on different levels.
        struct list due;
        list_init(&due);
        wheel_take_due(&wheel, START_NS + i * 714 * NS_PER_MS, &due);
        assert_true(list_empty(&due));
        timer_init(&timers[i], fire_nothing);
        timers[i].at_ns = at_ns;
        wheel_add(&wheel, &timers[i]);
    }
    struct list due;
    list_init(&due);
    wheel_take_due(&wheel, at_ns + NS_PER_MS, &due);
    for (size_t i = 0; i < ARRAY_LEN(timers); i++) {
        assert_ptr_equal(list_take(&due), &timers[i].node);
    }
}

static void test_far_and_past(void **state)
{
    (void)state;
    struct wheel wheel;
    struct timer far;
    struct timer past;
    wheel_init(&wheel, START_NS);
    assert_true(wheel_next_ns(&wheel) == UINT64_MAX);
    timer_init(&far, fire_nothing);
    far.at_ns = UINT64_MAX - 1;
    wheel_add(&wheel, &far);
    timer_init(&past, fire_nothing);
    past.at_ns = 1;
    wheel_add(&wheel, &past);
    assert_true(wheel_next_ns(&wheel) <= START_NS + NS_PER_MS);
    assert_int_equal(take_checked(&wheel, START_NS + NS_PER_MS), 1);
    assert_true(timer_is_set(&far));
    wheel_clear(&wheel);
    assert_false(timer_is_set(&far));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_timers),
        cmocka_unit_test(test_same_tick_in_order_of_setting),
        cmocka_unit_test(test_far_and_past),
    };
    return cmocka_run_group_tests_name("wheel", tests, NULL, NULL);
}
