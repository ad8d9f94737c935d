// SPDX-License-Identifier: Apache-2.0
// Whom a proxy asks, and how much: the spread over replicas, quarantine, and the budget; with a
// clock of the test's own.
#include "tests/unit/support.h"

#include "proxy/budget.h"
#include "proxy/pool.h"

#define REQUESTS 8
#define T0 (100 * NS_PER_S)

static void open_pool(struct pool *pool, unsigned count)
{
    pool_open(pool, REQUESTS, MIB, 3000);
    for (unsigned i = 0; i < count; i++) {
        pool_enter(pool, i);
        pool_joined(pool, i, 1000, T0);
    }
}

// ---- spread ------------------------------------------------------------------------------------

struct sent {
    unsigned number;
    uint64_t from_ns, until_ns;
};

// Requests come every `every_ns`; replica i works on the ones it has in turn, on each for works[i],
// and is ways[i] away. Counts what each was given.
static void run_load(struct pool *pool, const uint64_t *works, const uint64_t *ways,
                     unsigned requests, uint64_t every_ns, unsigned *given)
{
    static struct sent sent[POOL_MAX * REQUESTS];
    uint64_t busy[POOL_MAX] = {0};
    unsigned count = 0;
    uint64_t now = T0;
    for (unsigned i = 0; i < requests; i++, now += every_ns) {
        for (unsigned j = 0; j < count;) {
            if (sent[j].until_ns > now) {
                j++;
                continue;
            }
            pool_measured(pool, sent[j].number, sent[j].until_ns - sent[j].from_ns, now);
            pool_over(pool, sent[j].number, 100);
            pool_succeeded(pool, sent[j].number);
            sent[j] = sent[--count];
        }
        int number = pool_choose(pool, 5, 0, false, now);
        if (number < 0) {
            continue;
        }
        pool_sent(pool, (unsigned)number, 100);
        given[number]++;
        busy[number] = u64_max(busy[number], now) + works[number];
        sent[count++] = (struct sent){(unsigned)number, now, busy[number] + ways[number]};
    }
    while (count > 0) {
        pool_over(pool, sent[--count].number, 100);
    }
}

static void test_equals_share_the_load(void **state)
{
    (void)state;
    struct pool pool;
    open_pool(&pool, 5);
    const uint64_t works[5] = {NS_PER_MS, NS_PER_MS, NS_PER_MS * 3 / 2, NS_PER_MS, NS_PER_MS};
    const uint64_t ways[5] = {0};
    unsigned given[5] = {0};
    run_load(&pool, works, ways, 10000, NS_PER_MS / 2, given);
    for (unsigned i = 0; i < 5; i++) {
        assert_in_range(given[i], 1000, 3000);
    }
}

// A far one is left alone while the near ones have time, and helps when they have not.
static void test_near_ones_first(void **state)
{
    (void)state;
    const uint64_t works[3] = {NS_PER_MS, NS_PER_MS, NS_PER_MS};
    const uint64_t ways[3] = {NS_PER_MS / 10, NS_PER_MS / 20, 40 * NS_PER_MS};
    unsigned calm[3] = {0}, storm[3] = {0};
    struct pool pool;
    open_pool(&pool, 3);
    run_load(&pool, works, ways, 10000, NS_PER_MS, calm);
    assert_true(calm[2] < 100 && calm[0] > 4000 && calm[1] > 4000);
    open_pool(&pool, 3);
    run_load(&pool, works, ways, 10000, NS_PER_MS / 4, storm);
    assert_true(storm[2] > 200 && storm[0] > 2000 && storm[1] > 2000);
}

// What was slow once is measured again after a while.
static void test_measures_fade(void **state)
{
    (void)state;
    struct pool pool;
    open_pool(&pool, 2);
    pool_measured(&pool, 0, NS_PER_MS, T0);
    pool_measured(&pool, 1, NS_PER_S, T0);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(pool_choose(&pool, 5, 0, false, T0), 0);
    }
    uint64_t later = T0 + 20 * NS_PER_S;
    assert_int_not_equal(pool_choose(&pool, 5, 0, false, later),
                         pool_choose(&pool, 5, 0, false, later));
}

static void test_limits_of_each(void **state)
{
    (void)state;
    struct pool pool;
    open_pool(&pool, 2);
    for (unsigned i = 0; i < 2 * REQUESTS; i++) {
        int number = pool_choose(&pool, 5, 0, false, T0);
        assert_int_equal(number, (i + 1) % 2);
        pool_sent(&pool, (unsigned)number, 1);
    }
    assert_int_equal(pool_choose(&pool, 5, 0, false, T0), -1);
    assert_int_equal(pool_open_now(&pool, T0), 0);
    assert_int_equal(pool_askable(&pool), 3);
    pool_over(&pool, 0, 1);
    assert_int_equal(pool_choose(&pool, 5, 0, false, T0), 0);
    assert_int_equal(pool_choose(&pool, 5, 1, false, T0), -1);
    assert_int_equal(pool_room(&pool, 0), MIB - REQUESTS + 1);
    pool_sent(&pool, 0, MIB);
    pool_over(&pool, 0, 1);
    assert_int_equal(pool_choose(&pool, 5, 0, false, T0), -1);
    assert_int_equal(pool_room(&pool, 0), 0);
}

// One that is known to be behind, or to have no history of then, is asked last, for a moment.
static void test_behind_is_asked_last(void **state)
{
    (void)state;
    struct pool pool;
    open_pool(&pool, 3);
    pool.index = 500;
    pool_reported(&pool, 0, 50, 10, T0);
    pool_reported(&pool, 1, 900, 10, T0);
    pool_reported(&pool, 2, 900, 600, T0);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pool_choose(&pool, 500, 0, false, T0), 1);
    }
    assert_int_equal(pool_choose(&pool, 500, 2, false, T0), 2);
    assert_int_equal(pool_choose(&pool, 500, 6, false, T0), 0);
    assert_int_equal(pool_choose(&pool, 500, 6, true, T0), -1); // not worth a hedge
    assert_false(pool_alike(&pool, 0, 40, 60, T0));
    assert_true(pool_alike(&pool, 0, 60, 70, T0) && pool_alike(&pool, 0, 40, 50, T0));
    // Both went on meanwhile; it was as far behind then as it is now.
    pool.index = 700;
    assert_true(pool_alike(&pool, 0, 240, 250, T0));
    assert_false(pool_alike(&pool, 0, 250, 251, T0));
    pool.index = 500;
    // What was so a while ago need not be so.
    bool chosen = false;
    for (unsigned i = 0; i < 3; i++) {
        chosen = chosen || pool_choose(&pool, 500, 0, false, T0 + 2 * NS_PER_S) == 0;
    }
    assert_true(chosen);
    assert_int_equal(pool_lowest_visible(&pool, 7), 50);
    assert_int_equal(pool_lowest_visible(&pool, 6), 900);
    pool_joined(&pool, 0, 2000, T0); // its journal's end is not what it shows
    assert_int_equal(pool_lowest_visible(&pool, 7), 900);
    assert_int_equal(pool_lowest_visible(&pool, 1), 0);
}

// ---- quarantine --------------------------------------------------------------------------------

static void fail_until_quarantine(struct pool *pool, unsigned number, uint64_t now)
{
    for (unsigned i = 1; i < POOL_ERRORS; i++) {
        assert_false(pool_failed(pool, number, now));
    }
    assert_true(pool_failed(pool, number, now));
    assert_false(pool_failed(pool, number, now)); // it is there already
    assert_int_equal(atomic_load(&pool->members[number].health), POOL_QUARANTINED);
}

static void test_quarantine_grows(void **state)
{
    (void)state;
    struct pool pool;
    open_pool(&pool, 2);
    uint64_t now = T0;
    fail_until_quarantine(&pool, 1, now);
    uint64_t longest_ms = POOL_FIRST_MS;
    for (unsigned i = 0; i < 40; i++) {
        uint64_t until = pool.members[1].until_ns;
        assert_in_range(until - now, longest_ms / 2 * NS_PER_MS, longest_ms * NS_PER_MS);
        assert_int_equal(pool_choose(&pool, 5, 0, false, until - 1), 0);
        assert_int_equal(pool_choose(&pool, 5, 1, false, until - 1), -1);
        // Due: one probe, and nothing else before it has an end.
        assert_int_equal(pool_choose(&pool, 5, 0, true, until), 0);
        assert_int_equal(pool_choose(&pool, 5, 0, false, until), 1);
        assert_true(pool_is_probe(&pool, 1));
        assert_true(pool_sent(&pool, 1, 10));
        assert_int_equal(pool_choose(&pool, 5, 1, false, until), -1);
        now = until + i;
        pool_over(&pool, 1, 10);
        // A probe without a verdict (nobody waited any more) must not be the last one.
        assert_int_equal(pool_choose(&pool, 5, 1, false, now), 1);
        assert_true(pool_is_probe(&pool, 1));
        assert_true(pool_failed(&pool, 1, now));
        longest_ms = u64_min(longest_ms * 2, 3000);
    }
    now = pool.members[1].until_ns;
    assert_true(pool_sent(&pool, 1, 10));
    pool_over(&pool, 1, 10);
    pool_succeeded(&pool, 1);
    assert_int_equal(pool_healthy(&pool), 3);
    fail_until_quarantine(&pool, 1, now);
    assert_in_range(pool.members[1].until_ns - now, 1, POOL_FIRST_MS * NS_PER_MS);
}

static void test_success_forgives(void **state)
{
    (void)state;
    struct pool pool;
    open_pool(&pool, 1);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(pool_failed(&pool, 0, T0), i % POOL_ERRORS == POOL_ERRORS - 1 && i == 99);
        if (i % (POOL_ERRORS - 1) == POOL_ERRORS - 2) {
            pool_succeeded(&pool, 0);
        }
    }
    assert_int_equal(pool_healthy(&pool), 1);
}

// A probe whose asker went away before its answer: the next one is due at once.
static void test_dropped_probe(void **state)
{
    (void)state;
    struct pool pool;
    open_pool(&pool, 2);
    fail_until_quarantine(&pool, 1, T0);
    uint64_t now = pool.members[1].until_ns;
    assert_true(pool_sent(&pool, 1, 10));
    assert_int_equal(pool_choose(&pool, 5, 0, false, now), 0);
    pool_dropped(&pool, 1);
    pool_over(&pool, 1, 10);
    assert_int_equal(pool_choose(&pool, 5, 0, false, now), 1);
    assert_true(pool_sent(&pool, 1, 10));
    pool_succeeded(&pool, 1);
    pool_dropped(&pool, 1);
    pool_over(&pool, 1, 10);
    assert_int_equal(pool_healthy(&pool), 3);
}

// Where nobody else is there, one in quarantine is better than none.
static void test_all_in_quarantine(void **state)
{
    (void)state;
    struct pool pool;
    open_pool(&pool, 2);
    fail_until_quarantine(&pool, 0, T0);
    assert_int_equal(pool_askable(&pool), 2);
    fail_until_quarantine(&pool, 1, T0);
    assert_int_equal(pool_askable(&pool), 3);
    int first = pool_choose(&pool, 5, 0, false, T0);
    assert_true(first >= 0 && pool_sent(&pool, (unsigned)first, 1));
    assert_int_equal(pool_choose(&pool, 5, (uint64_t)1 << first, false, T0), 1 - first);
    assert_int_equal(pool_choose(&pool, 5, (uint64_t)1 << (1 - first), false, T0), first);
    assert_false(pool_sent(&pool, (unsigned)first, 1));
    pool_over(&pool, (unsigned)first, 1);
    pool_succeeded(&pool, (unsigned)first);
    assert_int_equal(pool_askable(&pool), 1u << first);
}

static void test_lost_and_back(void **state)
{
    (void)state;
    struct pool pool;
    open_pool(&pool, 2);
    for (unsigned i = 1; i <= POOL_ERRORS; i++) {
        pool_sent(&pool, 0, 1);
        pool_leaving(&pool, 0);
        assert_int_equal(pool_choose(&pool, 5, 2, false, T0), -1);
        pool_over(&pool, 0, 1);
        assert_int_equal(pool_left(&pool, 0, T0), i == POOL_ERRORS);
        assert_int_equal(pool_connected(&pool), 2);
        assert_int_equal(pool_choose(&pool, 5, 2, false, T0), -1);
        pool_joined(&pool, 0, 7, T0);
    }
    assert_int_equal(pool_connected(&pool), 3);
    assert_int_equal(pool_healthy(&pool), 2);
}

// ---- budget ------------------------------------------------------------------------------------

static void test_budget_rate(void **state)
{
    (void)state;
    struct budget budget;
    budget_open(&budget, 1000, 5000, 100, GIB);
    uint64_t asked = 0, now = T0;
    // Ten seconds of asking for whatever there is room for, in ever other steps.
    uint64_t seed = 3;
    while (now < T0 + 10 * NS_PER_S) {
        uint64_t room = budget_room(&budget, now);
        assert_int_equal(budget_wait_ns(&budget, now) == 0, room > 0);
        uint64_t wait_ns = room > 0 ? 0 : budget_wait_ns(&budget, now);
        if (room > 0) {
            uint64_t bytes = test_between(&seed, 1, 700);
            budget_take(&budget, bytes);
            budget_return(&budget, bytes);
            asked += bytes;
        } else {
            assert_true(wait_ns < NS_PER_S && budget_room(&budget, now + wait_ns) > 0);
            now += wait_ns;
        }
        now += test_between(&seed, 0, 2 * NS_PER_MS);
    }
    assert_in_range(asked, 14900, 15800); // the burst, ten seconds, one value too many
    // A slow clock loses nothing; a long rest saves up no more than the burst.
    assert_int_equal(budget_room(&budget, now + 1000 * NS_PER_S), 5000);
    budget_take(&budget, 9000);
    budget_return(&budget, 9000);
    assert_int_equal(budget_room(&budget, now + 1000 * NS_PER_S), 0);
    budget_refund(&budget, 9000);
    assert_int_equal(budget_room(&budget, now + 1000 * NS_PER_S), 5000);
}

static void test_budget_in_flight(void **state)
{
    (void)state;
    struct budget budget;
    budget_open(&budget, 0, 1, 3, 100);
    assert_int_equal(budget_room(&budget, 5), 100);
    budget_take(&budget, 60);
    assert_int_equal(budget_room(&budget, 5), 40);
    budget_take(&budget, 500); // the last may exceed it
    assert_int_equal(budget_room(&budget, 5), 0);
    assert_true(budget_wait_ns(&budget, 5) == UINT64_MAX);
    budget_return(&budget, 500);
    budget_take(&budget, 1);
    budget_take(&budget, 1);
    assert_int_equal(budget_room(&budget, 5), 0);
    budget_return(&budget, 1);
    assert_int_equal(budget_room(&budget, 5), 39);
}

static void test_budget_hedges(void **state)
{
    (void)state;
    struct budget budget;
    budget_open(&budget, 0, 1, 10, 100);
    unsigned hedges = 0;
    for (unsigned i = 0; i < 10000; i++) {
        budget_take(&budget, 1);
        budget_return(&budget, 1);
        hedges += budget_hedge(&budget) ? 1 : 0;
    }
    assert_in_range(hedges, 10000 * BUDGET_HEDGE_PERCENT / 100,
                    10000 * BUDGET_HEDGE_PERCENT / 100 + BUDGET_HEDGE_BURST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_equals_share_the_load),
        cmocka_unit_test(test_near_ones_first),
        cmocka_unit_test(test_measures_fade),
        cmocka_unit_test(test_limits_of_each),
        cmocka_unit_test(test_behind_is_asked_last),
        cmocka_unit_test(test_quarantine_grows),
        cmocka_unit_test(test_dropped_probe),
        cmocka_unit_test(test_success_forgives),
        cmocka_unit_test(test_all_in_quarantine),
        cmocka_unit_test(test_lost_and_back),
        cmocka_unit_test(test_budget_rate),
        cmocka_unit_test(test_budget_in_flight),
        cmocka_unit_test(test_budget_hedges),
    };
    return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
