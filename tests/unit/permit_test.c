// SPDX-License-Identifier: Apache-2.0
// Permits to take a snapshot into another site: one node of a site at a time, and none for ever.
#include "tests/unit/support.h"

#include "common/base/mem.h"
#include "common/tree/permit.h"

#define S NS_PER_S
#define T0 (1000 * S)

static const struct permit_ask a = {"a", "east", false}, b = {"b", "east", false};
static const struct permit_ask c = {"c", "west", false};
static const struct permit_ask p = {"p", "east", true}, q = {"q", "east", true};

static struct permits permits;

static int setup(void **state)
{
    (void)state;
    permits_open(&permits);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    permits_close(&permits);
    assert_int_equal(permits.count, 0);
    return 0;
}

// As a donor does it.
static bool asks(const struct permit_ask *ask, uint64_t now_ns)
{
    return !permits_wait(&permits, ask, now_ns) && permits_take(&permits, ask, now_ns);
}

static void test_one_of_a_site(void **state)
{
    (void)state;
    assert_true(asks(&a, T0));
    assert_false(asks(&b, T0 + S));
    assert_true(asks(&c, T0 + S)); // of another site
    assert_true(asks(&a, T0 + S)); // it comes back
    assert_int_equal(permits.count, 2);
}

// Keys alone are of no use to a replica; a proxy can do with either.
static void test_kinds(void **state)
{
    (void)state;
    assert_true(asks(&p, T0));
    assert_false(asks(&q, T0));
    assert_true(asks(&a, T0));
    assert_true(asks(&p, T0)); // it has its own
    assert_int_equal(permits.count, 2);
}

static void test_holder_dies(void **state)
{
    (void)state;
    assert_true(asks(&a, T0));
    permits_asked(&permits, &a, T0 + 5 * S);
    permits_asked(&permits, &b, T0 + 8 * S); // not its own
    assert_false(asks(&b, T0 + 5 * S + PERMIT_IDLE_NS - 1));
    assert_true(asks(&b, T0 + 5 * S + PERMIT_IDLE_NS));
    assert_false(asks(&a, T0 + 5 * S + PERMIT_IDLE_NS)); // too late
    assert_int_equal(permits.count, 1);
}

// Whoever asks all the time and gets nowhere.
static void test_longest(void **state)
{
    (void)state;
    uint64_t now_ns = T0;
    assert_true(asks(&a, now_ns));
    for (; now_ns < T0 + PERMIT_LONGEST_NS; now_ns += S) {
        permits_asked(&permits, &a, now_ns);
        assert_false(asks(&b, now_ns));
        if (now_ns % (60 * S) == 0) { // a whole snapshot, for nothing
            permits_given(&permits, &a, now_ns);
            assert_true(asks(&a, now_ns));
        }
    }
    assert_true(asks(&b, now_ns));
}

// After the last slice the others wait for the holder: as long as it took, and a while.
static void test_given(void **state)
{
    (void)state;
    uint64_t given_ns = T0;
    assert_true(asks(&a, T0));
    for (; given_ns < T0 + 60 * S; given_ns += S) {
        permits_asked(&permits, &a, given_ns);
    }
    permits_given(&permits, &b, given_ns - S); // not its own
    permits_given(&permits, &a, given_ns);
    assert_false(asks(&b, given_ns + 60 * S + PERMIT_GRACE_NS - 1));
    assert_true(asks(&b, given_ns + 60 * S + PERMIT_GRACE_NS));
}

static void test_bound(void **state)
{
    (void)state;
    for (unsigned i = 0; i <= PERMITS_MAX; i++) {
        char *site = mem_format("site %u", i);
        const struct permit_ask ask = {"a", site, false};
        assert_int_equal(asks(&ask, T0), i < PERMITS_MAX);
        mem_free(site);
    }
    assert_true(asks(&a, T0 + PERMIT_IDLE_NS));
    assert_int_equal(permits.count, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_one_of_a_site, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kinds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_holder_dies, setup, teardown),
        cmocka_unit_test_setup_teardown(test_longest, setup, teardown),
        cmocka_unit_test_setup_teardown(test_given, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bound, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
