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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_somebody_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
