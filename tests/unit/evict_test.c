// SPDX-License-Identifier: Apache-2.0
// Which values may go: the rule in every small case against the words of its header, and what a
// pass makes of rows.
#include "tests/unit/support.h"

#include "proxy/evict.h"

static struct bytes key_in(const char *text) { return bytes_text(text); }

// The words of proxy/evict.h, with shares of nothing or all.
static bool may_go(const struct evict_order *order, bool inside, const struct stub *stub,
                   uint64_t floor, unsigned age)
{
    bool evictable = stub->record.held && stub->record.length > 0 && stub->record.version <= floor;
    bool old_enough = age > order->limit.age ||
                      (age == order->limit.age && order->limit.share == SHARE_ALL);
    bool certain = age >= 2 && age > order->limit.age;
    return order->active && evictable && (order->ranged && inside ? old_enough : certain);
}

static unsigned check_ages(const struct evict_order *order, const struct stub *stub, uint64_t floor)
{
    static const struct {
        const char *key;
        bool inside;
    } keys[] = {{"a", false}, {"b", true}, {"c", true}, {"d", true}, {"da", false}};
    unsigned cases = 0;
    for (unsigned age = 0; age <= 4; age++) {
        for (size_t i = 0; i < ARRAY_LEN(keys); i++, cases++) {
            assert_int_equal(evict_goes(order, key_in(keys[i].key), stub, floor, age),
                             may_go(order, keys[i].inside, stub, floor, age));
        }
    }
    return cases;
}

static void the_rule_in_every_small_case(void **state)
{
    (void)state;
    unsigned cases = 0;
    for (unsigned bits = 0; bits < 32; bits++) {
        for (unsigned limit = 0; limit <= 4; limit++) {
            struct evict_order order = {.active = (bits & 1) != 0,
                                        .ranged = (bits & 2) != 0,
                                        .salt = bits,
                                        .limit = {limit, (bits & 4) != 0 ? SHARE_ALL : 0},
                                        .lower = key_in("b"),
                                        .upper = key_in("d")};
            for (uint64_t version = 1; version <= 5; version++) {
                for (uint64_t floor = 0; floor <= 6; floor++) {
                    struct stub stub = {.record = {.version = version,
                                                   .held = (bits & 8) != 0,
                                                   .length = (bits & 16) != 0 ? 1 : 0}};
                    cases += check_ages(&order, &stub, floor);
                }
            }
        }
    }
    assert_int_equal(cases, 32 * 5 * 5 * 7 * 5 * 5);
}

static void a_share_is_that_part_of_the_keys(void **state)
{
    (void)state;
    struct evict_order order = {.active = true, .ranged = true, .limit = {1, SHARE_ALL / 4}};
    const struct stub stub = {.record = {.version = 1, .held = true, .length = 9}};
    unsigned gone[2] = {0}, both = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        bool goes[2];
        for (uint64_t salt = 0; salt < 2; salt++) {
            order.salt = salt;
            goes[salt] = evict_goes(&order, bytes_of(&i, sizeof i), &stub, 1, 1);
            gone[salt] += goes[salt];
        }
        both += goes[0] && goes[1];
    }
    assert_in_range(gone[0], 2350, 2650);
    assert_in_range(gone[1], 2350, 2650);
    assert_in_range(both, 500, 750); // another order takes others
}

// ---- passes ------------------------------------------------------------------------------------

struct fixture {
    struct instance_metrics *metrics;
    struct recency *recency;
    struct evict *evict;
    const struct store_filter *filter;
};

static int open_fixture(void **state)
{
    struct fixture *at = mem_zalloc(sizeof *at);
    at->metrics = aligned_alloc(64, sizeof *at->metrics);
    memset(at->metrics, 0, sizeof *at->metrics);
    at->recency = recency_open(64 * KIB);
    at->evict = evict_open(at->recency, at->metrics);
    at->filter = evict_filter(at->evict);
    *state = at;
    return 0;
}

static int close_fixture(void **state)
{
    struct fixture *at = *state;
    evict_close(at->evict);
    recency_close(at->recency);
    free(at->metrics);
    mem_free(at);
    return 0;
}

// Ends a period in which `key` was read.
static void read_and_turn(struct fixture *at, const char *key)
{
    recency_touch(at->recency, key_in(key), 100);
    assert_true(recency_turn(at->recency, 200));
}

static struct bytes make_row(struct buf *to, uint64_t version, const char *value, uint16_t period)
{
    const struct record record = {.version = version,
                                  .length = (uint32_t)strlen(value),
                                  .check = record_check(version, bytes_text(value)),
                                  .held = true};
    buf_clear(to);
    buf_commit(to, stub_head(buf_reserve(to, STUB_HEAD_MAX), &record, period));
    buf_append_text(to, value);
    return buf_bytes(to);
}

static void passes_leave_stubs_and_renew_stamps(void **state)
{
    struct fixture *at = *state;
    read_and_turn(at, "last");
    read_and_turn(at, "before");
    read_and_turn(at, "last"); // the period is 3
    recency_touch(at->recency, key_in("now"), 100);
    evict_show(at->evict, 10);
    evict_set(at->evict, &(struct evict_order){
                             .active = true, .ranged = true, .limit = {.age = 2, .share = 0}});
    void *pass = at->filter->begin(at->filter->argument);
    // What comes later is for later passes.
    evict_show(at->evict, 1000);
    evict_set(at->evict, &(struct evict_order){0});
    static const struct {
        const char *key;
        uint64_t version;
        uint16_t period;
        enum store_verdict verdict;
        bool held;
        uint16_t renewed;
    } cases[] = {
        {"now", 10, 0, STORE_CHANGE, true, 3},
        {"now", 10, 3, STORE_KEEP, true, 3},
        {"last", 10, 0, STORE_CHANGE, true, 2},
        {"last", 10, 2, STORE_KEEP, true, 2},
        {"fresh", 10, 3, STORE_KEEP, true, 3},
        {"second", 10, 1, STORE_KEEP, true, 1},
        {"cold", 10, 0, STORE_CHANGE, false, 0},
        {"before", 10, 0, STORE_CHANGE, false, 0}, // both filters have lost it
        {"window", 11, 0, STORE_KEEP, true, 0},
        {"future", 10, 9, STORE_CHANGE, true, 1},
    };
    struct buf row = {0};
    uint64_t dropped = 0;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct bytes before = make_row(&row, cases[i].version, "value", cases[i].period);
        struct bytes after = before;
        assert_int_equal(at->filter->judge(pass, key_in(cases[i].key), before, &after),
                         cases[i].verdict);
        struct stub stub;
        struct record record;
        assert_int_equal(stub_decode(after, &record), OK);
        assert_int_equal(stub_parse(after, &stub), OK);
        assert_int_equal(record.version, cases[i].version);
        assert_int_equal(record.length, 5);
        assert_int_equal(record.check, record_check(cases[i].version, bytes_text("value")));
        assert_int_equal(record.held, cases[i].held);
        assert_int_equal(stub.period, cases[i].renewed);
        dropped += cases[i].held ? 0 : 5;
    }
    struct bytes changed = {0};
    struct bytes stub_row = make_row(&row, 10, "", 0);
    assert_int_equal(at->filter->judge(pass, key_in("cold"), stub_row, &changed), STORE_KEEP);
    assert_int_equal(at->filter->judge(pass, key_in("cold"), bytes_text("nonsense"), &changed),
                     STORE_KEEP);
    at->filter->end(pass);
    buf_free(&row);
    assert_int_equal(evict_dropped(at->evict), dropped);
    assert_int_equal(METRIC_GET(at->metrics, instance, evicted_bytes), dropped);
    assert_int_equal(METRIC_GET(at->metrics, instance, values_evicted), 2);
}

static void nothing_goes_without_an_order_or_a_floor(void **state)
{
    struct fixture *at = *state;
    for (int i = 0; i < 5; i++) {
        read_and_turn(at, "other");
    }
    struct buf row = {0};
    for (int i = 0; i < 2; i++) {
        struct bytes before = make_row(&row, 1, "value", 0), after = {0};
        void *pass = at->filter->begin(at->filter->argument);
        assert_int_equal(at->filter->judge(pass, key_in("cold"), before, &after), STORE_KEEP);
        at->filter->end(pass);
        // An order, and no view was shown yet.
        evict_set(at->evict, &(struct evict_order){.active = true, .ranged = true});
    }
    evict_show(at->evict, 1);
    struct bytes before = make_row(&row, 1, "value", 0), after = {0};
    void *pass = at->filter->begin(at->filter->argument);
    assert_int_equal(at->filter->judge(pass, key_in("cold"), before, &after), STORE_CHANGE);
    at->filter->end(pass);
    buf_free(&row);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_rule_in_every_small_case),
        cmocka_unit_test(a_share_is_that_part_of_the_keys),
        cmocka_unit_test_setup_teardown(passes_leave_stubs_and_renew_stamps, open_fixture,
                                        close_fixture),
        cmocka_unit_test_setup_teardown(nothing_goes_without_an_order_or_a_floor, open_fixture,
                                        close_fixture),
    };
    return cmocka_run_group_tests_name("evict", tests, NULL, NULL);
}
