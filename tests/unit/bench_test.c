// SPDX-License-Identifier: Apache-2.0
// What the load generator and the checker stand on: percentiles, keys, look-ups, the model.
#include <stdlib.h>

#include "bench/claims.h"
#include "bench/histogram.h"
#include "bench/lookups.h"
#include "bench/model.h"
#include "bench/pairs.h"
#include "common/base/mem.h"
#include "tests/unit/support.h"

static int by_number(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void percentiles_are_within_three_percent(void **state)
{
    (void)state;
    static const double shares[] = {0.001, 0.5, 0.99, 0.999, 1};
    enum { COUNT = 100000 };
    uint64_t *values = mem_alloc(COUNT * sizeof *values);
    struct histogram *histogram = mem_zalloc(sizeof *histogram);
    struct draw draw = {.state = 1};
    for (size_t i = 0; i < COUNT; i++) {
        values[i] = draw_u64(&draw) >> (4 + draw_below(&draw, 60));
        histogram_add(histogram, values[i]);
    }
    qsort(values, COUNT, sizeof *values, by_number);
    for (size_t i = 0; i < ARRAY_LEN(shares); i++) {
        double truth = (double)values[(size_t)(shares[i] * COUNT + 0.5) - 1];
        double told = (double)histogram_ns(histogram, shares[i]);
        assert_true(told >= truth * 0.97 - 1 && told <= truth * 1.03 + 1);
    }
    assert_int_equal(histogram->count, COUNT);
    mem_free(histogram);
    mem_free(values);
}

static int by_key(const void *a, const void *b) { return memcmp(a, b, PAIR_KEY_BYTES); }

static void keys_differ(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    char(*keys)[PAIR_KEY_BYTES] = mem_alloc(COUNT * sizeof *keys);
    for (uint64_t i = 0; i < COUNT; i++) {
        pair_key(7, i, keys[i]);
        assert_memory_equal(keys[i], "zone:", 5);
        assert_memory_equal(keys[i] + 13, ":setting:", 9);
    }
    qsort(keys, COUNT, sizeof *keys, by_key);
    for (size_t i = 1; i < COUNT; i++) {
        assert_true(by_key(keys[i - 1], keys[i]) < 0);
    }
    mem_free(keys);
}

static void values_name_their_key(void **state)
{
    (void)state;
    uint8_t value[290], other[290];
    pair_value(1, 42, 3, value, sizeof value);
    pair_value(1, 42, 4, other, sizeof other);
    assert_true(pair_value_fits(42, sizeof value, bytes_of(value, sizeof value)));
    assert_true(pair_value_fits(42, sizeof value, bytes_of(other, sizeof other)));
    assert_false(pair_value_fits(43, sizeof value, bytes_of(value, sizeof value)));
    assert_false(pair_value_fits(42, sizeof value, bytes_of(value, sizeof value - 1)));
    assert_memory_not_equal(value + 8, other + 8, sizeof value - 8);
}

static const struct lookups_options site = {
    .seed = 5, .pairs = 100000, .working_set = 1000, .limit = 90000, .renewal = 0.01,
};

static void lookups_keep_their_shares(void **state)
{
    (void)state;
    enum { COUNT = 1100000 };
    struct lookups lookups, copy;
    lookups_open(&lookups, &site);
    lookups_copy(&copy, &lookups);
    uint64_t present = 0, first = 0;
    for (size_t i = 0; i < COUNT; i++) {
        struct lookup one = lookups_next(&lookups), two = lookups_next(&copy);
        assert_true(one.number == two.number && one.present == two.present);
        assert_int_equal(one.present, one.number < site.pairs);
        assert_true(one.number < site.pairs * (1 + ABSENT_SPACE));
        assert_false(one.present && one.number >= site.limit);
        present += one.present;
        first += one.present && one.number == lookups.slots[0];
    }
    // 0.01 slots a look-up: so many numbers have joined, and the first rank is asked for most.
    assert_int_equal((lookups.next - site.working_set) / 10, COUNT / 1000);
    assert_in_range(present, 98000, 102000);
    assert_in_range(first, present / 10, present / 5);
    lookups_close(&lookups);
    lookups_close(&copy);
}

static void uniform_lookups_have_no_favourite(void **state)
{
    (void)state;
    struct lookups_options options = site;
    options.uniform = true;
    options.renewal = 0;
    struct lookups lookups;
    lookups_open(&lookups, &options);
    uint64_t present = 0, counts[1000] = {0};
    while (present < 100000) {
        struct lookup lookup = lookups_next(&lookups);
        if (lookup.present) {
            present++;
            counts[lookup.number]++;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        assert_in_range(counts[i], 40, 180);
    }
    lookups_close(&lookups);
}

// Against the plainest model: every key at every index.
static void model_knows_every_index(void **state)
{
    (void)state;
    enum { KEYS = 20, INDEXES = 500 };
    struct model_state truth[INDEXES + 1][KEYS] = {0};
    struct draw draw = {.state = 9};
    struct model *model = model_open(KEYS);
    uint64_t serial = 0;
    for (uint64_t index = 1; index <= INDEXES; index++) {
        memcpy(truth[index], truth[index - 1], sizeof truth[index]);
        for (uint64_t i = draw_below(&draw, 5); i > 0; i--) {
            uint64_t key = draw_below(&draw, KEYS);
            uint64_t wrote = draw_below(&draw, 3) > 0 ? ++serial : 0;
            model_add(model, key, index, wrote);
            truth[index][key] = (struct model_state){.version = index, .serial = wrote};
        }
        model_publish(model, index);
        assert_int_equal(model_known(model), index);
    }
    for (uint64_t index = 0; index <= INDEXES; index++) {
        for (uint64_t key = 0; key < KEYS; key++) {
            struct model_state told = model_at(model, key, index);
            assert_int_equal(told.version, truth[index][key].version);
            assert_int_equal(told.serial, truth[index][key].serial);
        }
    }
    assert_int_equal(model_at(model, KEYS + 5, INDEXES).serial, 0);
    model_close(model);
}

static bool last_held(const struct site *edge, size_t back)
{
    return edge->claims[edge->claim_count - back].held;
}

static void stores_are_judged_by_their_working_set(void **state)
{
    (void)state;
    static const struct { uint64_t percent, store; bool held; } cases[] = {
        {1, 150, true}, {1, 151, false}, {20, 300, true}, {20, 301, false},
    };
    struct site *edge = mem_zalloc(sizeof *edge);
    edge->warmed[SIDE_REPLICA].store = 1000;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        edge->percent = cases[i].percent;
        edge->warmed[SIDE_PROXY].store = cases[i].store;
        claims_of_stores(edge);
        assert_int_equal(edge->claim_count, i + 1);
        assert_int_equal(last_held(edge, 1), cases[i].held);
    }
    edge->percent = 50; // nothing is claimed of it
    claims_of_stores(edge);
    assert_int_equal(edge->claim_count, ARRAY_LEN(cases));
    mem_free(edge);
}

static void a_cell_holds_what_it_claims(void **state)
{
    (void)state;
    struct site *edge = mem_zalloc(sizeof *edge);
    struct cell *cell = mem_zalloc(sizeof *cell);
    const struct roles_options options = {.runs = 5};
    const double apart[] = {1.01, 1.04, 1.06, 1.1, 2}, around[] = {0.5, 0.9, 1.2, 1.5, 2};
    memcpy(cell->ratio, apart, sizeof apart);
    memcpy(cell->absent_ratio, around, sizeof around);
    cell->writes = 1000;
    cell->write_rate = 950;
    cell->sides[SIDE_REPLICA].arrived = 950;
    cell->sides[SIDE_PROXY].arrived = 949;
    cell->sides[SIDE_PROXY].load.all.count = 10000;
    cell->sides[SIDE_PROXY].misses = 5;
    claims_of_cell(&options, edge, cell);
    assert_int_equal(edge->claim_count, CLAIMS_OF_CELL);
    assert_false(last_held(edge, 4)); // the median is above, and so is the middle half
    assert_true(last_held(edge, 3));  // the middle half reaches below 1
    assert_false(last_held(edge, 2)); // not less than 0.05 %
    assert_false(last_held(edge, 1)); // the proxy got too few
    cell->ratio[2] = 1.05;
    cell->absent_ratio[1] = 1.01;
    cell->sides[SIDE_PROXY].misses = 4;
    cell->sides[SIDE_PROXY].arrived = 950;
    claims_of_cell(&options, edge, cell);
    assert_true(last_held(edge, 4));
    assert_false(last_held(edge, 3));
    assert_true(last_held(edge, 2));
    assert_true(last_held(edge, 1));
    mem_free(cell);
    mem_free(edge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_within_three_percent),
        cmocka_unit_test(keys_differ),
        cmocka_unit_test(values_name_their_key),
        cmocka_unit_test(lookups_keep_their_shares),
        cmocka_unit_test(uniform_lookups_have_no_favourite),
        cmocka_unit_test(model_knows_every_index),
        cmocka_unit_test(stores_are_judged_by_their_working_set),
        cmocka_unit_test(a_cell_holds_what_it_claims),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
