// SPDX-License-Identifier: Apache-2.0
// Looking in place of sleeping: for how long, and that it ends where somebody else wants the core.
#include "tests/unit/support.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/spin.h"

#define LONG_NS (3600 * NS_PER_S)
#define LIMIT_NS (30 * NS_PER_S) // no pass waits that long

static void test_off(void **state)
{
    (void)state;
    struct spin spin = {0};
    assert_false(spin_again(&spin, clock_mono_ns()));
}

static void test_time(void **state)
{
    (void)state;
    struct spin spin = {.for_ns = LONG_NS};
    uint64_t now_ns = clock_mono_ns();
    assert_true(spin_again(&spin, now_ns));
    spin = (struct spin){.for_ns = 1000};
    assert_false(spin_again(&spin, now_ns - 1001));
}

static void *take_core(void *of)
{
    atomic_bool *over = of;
    while (!atomic_load(over)) {
    }
    return NULL;
}

// Whoever else has the core is not interrupted before milliseconds are over.
static void test_somebody_else(void **state)
{
    (void)state;
    cpu_set_t before, one;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    atomic_bool over = false;
    pthread_t other;
    assert_int_equal(pthread_create(&other, NULL, take_core, &over), 0);
    struct spin spin = {.for_ns = LONG_NS};
    uint64_t since_ns = clock_mono_ns();
    while (spin_again(&spin, since_ns)) {
        assert_true(clock_mono_ns() - since_ns < LIMIT_NS);
    }
    uint64_t until_ns = spin.until_ns;
    atomic_store(&over, true);
    pthread_join(other, NULL);
    assert_true(until_ns > since_ns);
    // It is only a pause.
    while (clock_mono_ns() < until_ns) {
        sched_yield();
    }
    assert_true(spin_again(&spin, since_ns));
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
}

// ---- what a slow yield says, by given counts and times ------------------------------------------

#define BEGAN_NS (1000 * NS_PER_S)
#define APART_NS (100 * NS_PER_MS)

static struct spin judged(const long *taken, const uint64_t *at_ns, size_t count)
{
    struct spin spin = {.for_ns = LONG_NS, .taken = 7};
    for (size_t i = 0; i < count; i++) {
        spin_judge(&spin, taken[i], BEGAN_NS + at_ns[i]);
    }
    return spin;
}

static void test_interrupts_end_nothing(void **state)
{
    (void)state;
    const long taken[] = {7, 7, 7, 7};
    const uint64_t at_ns[] = {0, 1, 2, 3};
    assert_int_equal(judged(taken, at_ns, 4).until_ns, 0);
}

static void test_two_losses_end_it(void **state)
{
    (void)state;
    const long taken[] = {8, 9};
    const uint64_t at_ns[] = {0, APART_NS};
    assert_int_equal(judged(taken, at_ns, 1).until_ns, 0);
    assert_int_equal(judged(taken, at_ns, 2).until_ns, BEGAN_NS + APART_NS + APART_NS);
}

static void test_losses_far_apart_end_nothing(void **state)
{
    (void)state;
    const long taken[] = {8, 9};
    const uint64_t at_ns[] = {0, APART_NS + 1};
    assert_int_equal(judged(taken, at_ns, 2).until_ns, 0);
}

static void test_an_interrupt_between_losses(void **state)
{
    (void)state;
    const long taken[] = {8, 8, 9};
    const uint64_t at_ns[] = {0, 1, 2};
    assert_int_equal(judged(taken, at_ns, 3).until_ns, 0);
}

// What the thread lost before it began to wait says nothing about this wait.
static void test_losses_before_a_wait(void **state)
{
    (void)state;
    struct spin spin = {.for_ns = LONG_NS, .taken = -1};
    uint64_t now_ns = clock_mono_ns();
    assert_true(spin_again(&spin, now_ns));
    assert_true(spin.taken >= 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_somebody_else),
        cmocka_unit_test(test_interrupts_end_nothing),
        cmocka_unit_test(test_two_losses_end_it),
        cmocka_unit_test(test_losses_far_apart_end_nothing),
        cmocka_unit_test(test_an_interrupt_between_losses),
        cmocka_unit_test(test_losses_before_a_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
