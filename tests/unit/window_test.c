// SPDX-License-Identifier: Apache-2.0
// The proxy's window at given times: W never falls, never rises past what age and bytes allow, and
// is within 1/1024 of the exact rule, which is computed here the slow way.
#include "tests/unit/support.h"

#include "common/core/window.h"

#define AGE_NS (120 * NS_PER_S)
#define LIMIT_BYTES (64 * MIB)
#define STEPS 20000

static struct window *open_window(uint64_t age_ns, uint64_t limit_bytes, uint64_t index)
{
    struct window *window = mem_alloc(sizeof *window);
    window_open(window, age_ns, limit_bytes, index);
    return window;
}

static void test_age(void **state)
{
    (void)state;
    struct window *window = open_window(AGE_NS, LIMIT_BYTES, 10);
    uint64_t now = 5 * NS_PER_S;
    assert_int_equal(window_advance(window, now), 10);
    window_add(window, 11, 100, now);
    assert_int_equal(window_advance(window, now - 1), 10); // looked at the clock a moment before
    assert_int_equal(window_advance(window, now + AGE_NS - 1), 10);
    assert_int_equal(window_advance(window, now + AGE_NS), 11);
    window_add(window, 15, 100, now + AGE_NS);
    window_add(window, 20, 100, now + AGE_NS + NS_PER_S);
    assert_int_equal(window_advance(window, now + 2 * AGE_NS), 15);
    assert_int_equal(window_advance(window, now + 2 * AGE_NS + NS_PER_S), 20);
    assert_int_equal(window->bytes, 0);
    mem_free(window);
}

static void test_bytes(void **state)
{
    (void)state;
    struct window *window = open_window(AGE_NS, 1000, 0);
    for (uint64_t index = 1; index <= 10; index++) {
        window_add(window, index, 100, index);
    }
    assert_int_equal(window_advance(window, 10), 0);
    window_add(window, 11, 1, 11);
    assert_int_equal(window_advance(window, 11), 1);
    window_add(window, 12, 1001, 12); // alone too large
    assert_int_equal(window_advance(window, 12), 12);
    window_add(window, 13, 1000, 13);
    assert_int_equal(window_advance(window, 13), 12);
    mem_free(window);
}

static void test_nothing_is_kept(void **state)
{
    (void)state;
    struct window *window = open_window(0, 0, 0);
    window_add(window, 1, 0, 100);
    assert_int_equal(window_advance(window, 100), 1);
    window_add(window, 2, 5, 100);
    assert_int_equal(window_advance(window, 100), 2);
    mem_free(window);
}

struct applied {
    uint64_t index, bytes, at_ns;
};

// The least index for which all newer blocks are younger and sum to at most the limit, with age
// and bytes that the caller may widen or narrow.
static uint64_t exact(const struct applied *blocks, size_t count, uint64_t now, uint64_t age_ns,
                      uint64_t limit_bytes)
{
    uint64_t bytes = 0;
    size_t at = count;
    while (at > 0 && now - blocks[at - 1].at_ns < age_ns &&
           bytes + blocks[at - 1].bytes <= limit_bytes) {
        at--;
        bytes += blocks[at].bytes;
    }
    return at == 0 ? 0 : blocks[at - 1].index;
}

static void run_random(uint64_t seed, uint64_t pause_ns, uint64_t bytes_max)
{
    struct applied *blocks = mem_alloc(STEPS * sizeof *blocks);
    struct window *window = open_window(AGE_NS, LIMIT_BYTES, 0);
    uint64_t now = NS_PER_S, index = 0, before = 0;
    for (size_t i = 0; i < STEPS; i++) {
        now += test_between(&seed, 0, pause_ns);
        index += test_between(&seed, 1, 9);
        blocks[i] = (struct applied){index, test_between(&seed, 0, bytes_max), now};
        window_add(window, index, blocks[i].bytes, now);
        if (i % 37 != 0) {
            continue;
        }
        uint64_t floor = window_advance(window, now);
        assert_true(floor >= before);
        before = floor;
        assert_true(window->count < WINDOW_SPANS && window->bytes <= LIMIT_BYTES);
        // Never later than by a span of the bytes, never sooner than by a span of the age.
        assert_true(floor <= exact(blocks, i + 1, now, AGE_NS, LIMIT_BYTES - LIMIT_BYTES / 1024));
        assert_true(floor >= exact(blocks, i + 1, now, AGE_NS + AGE_NS / 1024, LIMIT_BYTES));
    }
    mem_free(window);
    mem_free(blocks);
}

static void test_random_loads(void **state)
{
    (void)state;
    run_random(1, 20 * NS_PER_MS, 1000);       // many small blocks: the age decides
    run_random(2, 20 * NS_PER_MS, MIB);        // large ones: the bytes do
    run_random(3, 2 * NS_PER_S, 700 * KIB);    // seldom
    run_random(4, 60 * NS_PER_MS, 64 * KIB);   // both
    run_random(5, 0, 0);                       // all at once, nothing in them
}

static void test_never_advanced(void **state)
{
    (void)state;
    struct window *window = open_window(AGE_NS, UINT64_MAX / 2, 0);
    for (uint64_t i = 1; i <= 3 * WINDOW_SPANS; i++) {
        window_add(window, i, 1, i * NS_PER_S);
    }
    assert_int_equal(window->count, WINDOW_SPANS);
    // The last span took what found no room: it is kept whole.
    assert_int_equal(window_advance(window, 3 * WINDOW_SPANS * NS_PER_S), WINDOW_SPANS - 1);
    mem_free(window);
}

// Raised from outside, W gives up whole spans and the part of one, and goes on from there.
static void test_raised(void **state)
{
    (void)state;
    struct window *window = open_window(AGE_NS, LIMIT_BYTES, 0);
    for (uint64_t i = 1; i <= 10; i++) {
        window_add(window, 10 * i, 1, i * NS_PER_S);
    }
    window_raise(window, 35);
    assert_int_equal(window_advance(window, 10 * NS_PER_S), 35);
    assert_int_equal(window->bytes, 7);
    window_raise(window, 20);
    assert_int_equal(window_advance(window, 10 * NS_PER_S), 35);
    assert_int_equal(window_advance(window, AGE_NS + 5 * NS_PER_S), 50);
    window_raise(window, 100);
    assert_int_equal(window_advance(window, 10 * NS_PER_S), 100);
    assert_int_equal(window->bytes, 0);
    mem_free(window);
}

static void test_gives_way(void **state)
{
    (void)state;
    struct window *window = open_window(AGE_NS, 10000, 0);
    for (uint64_t index = 10; index <= 100; index += 10) {
        window_add(window, index, 100, index);
    }
    assert_int_equal(window_advance(window, 100), 0);
    window_raise(window, 35);
    assert_int_equal(window_advance(window, 100), 35);
    window_raise(window, 20);
    assert_int_equal(window_advance(window, 100), 35); // never lower
    window_limit(window, 200);
    assert_int_equal(window_advance(window, 100), 80);
    window_limit(window, 10000);
    assert_int_equal(window_advance(window, 100), 80);
    window_raise(window, 100);
    assert_int_equal(window_advance(window, 100), 100);
    assert_int_equal(window->bytes, 0);
    mem_free(window);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_age),          cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_nothing_is_kept), cmocka_unit_test(test_random_loads),
        cmocka_unit_test(test_never_advanced), cmocka_unit_test(test_raised),
        cmocka_unit_test(test_gives_way),
    };
    return cmocka_run_group_tests_name("window", tests, NULL, NULL);
}
