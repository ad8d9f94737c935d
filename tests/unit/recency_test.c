// SPDX-License-Identifier: Apache-2.0
// The memory of accesses, and what it is worth: the hit rate of a cache in which the real memory,
// limits, choice of files and rule of eviction work on rows in an array, beside that of an ideal
// LRU of as many bytes on the same accesses.
#include "tests/unit/support.h"

#include <math.h>

#include "common/base/hash.h"
#include "proxy/hand.h"
#include "proxy/recency.h"

static struct bytes key_of(const uint32_t *number) { return bytes_of(number, sizeof *number); }

static unsigned age_of(const struct recency *recency, uint32_t number, uint16_t stamp)
{
    return recency_age(recency, key_of(&number), stamp);
}

static void touch(struct recency *recency, uint32_t number)
{
    recency_touch(recency, key_of(&number), 100);
}

// A cache in which a period lasts until 1,000 bytes, ten keys, were read.
#define CACHE_BYTES 2000

static void next_period(struct recency *recency, uint32_t first)
{
    assert_false(recency_turn(recency, CACHE_BYTES));
    for (uint32_t i = 0; i < 10; i++) {
        touch(recency, first + i);
        touch(recency, first + i); // counts once
    }
    assert_true(recency_turn(recency, CACHE_BYTES));
}

static void ages_follow_reads(void **state)
{
    (void)state;
    struct recency *recency = recency_open(MIB);
    assert_int_equal(recency_period(recency), 0);
    assert_int_equal(age_of(recency, 7, 0), 0); // written in this period
    next_period(recency, 0);
    assert_int_equal(recency_period(recency), 1);
    assert_int_equal(age_of(recency, 7, 0), 1);
    assert_int_equal(age_of(recency, 99, 1), 0);
    touch(recency, 7);
    assert_int_equal(age_of(recency, 7, 0), 0);
    assert_false(recency_turn(recency, CACHE_BYTES));
    for (uint32_t i = 0; i < 9; i++) {
        touch(recency, 100 + i);
    }
    assert_true(recency_turn(recency, CACHE_BYTES));
    assert_int_equal(age_of(recency, 7, 0), 1);
    assert_int_equal(age_of(recency, 8, 0), 2); // by its stamp
    next_period(recency, 200);
    next_period(recency, 300);
    assert_int_equal(age_of(recency, 7, 0), 4); // not rewritten meanwhile: the stamp is old
    assert_int_equal(age_of(recency, 7, 2), 2);
    assert_int_equal(age_of(recency, 305, 0), 1);
    assert_int_equal(age_of(recency, 7, 6), 2); // a stamp of the future: nobody knows
    assert_int_equal(age_of(recency, 7, 4 + 1024), 2);
    assert_int_equal(age_of(recency, 7, 4 + 1025), 65536 - 1025);
    assert_int_equal(age_of(recency, 7, (uint16_t)(4 - 30000)), 30000);
    assert_int_equal(age_of(recency, 7, (uint16_t)(4 - 60000)), 60000);
    recency_close(recency);
}

// Months of a small, busy cache: stamps go round, and ages stay what they are.
static void stamps_go_round(void **state)
{
    (void)state;
    static const uint16_t ages[] = {0, 1, 2, 31, 1000, 32767, 32768, 64511};
    struct recency *recency = recency_open(1);
    for (unsigned period = 0; period < 70000; period++) {
        uint16_t now = recency_period(recency);
        assert_int_equal(now, (uint16_t)period);
        for (size_t i = 0; i < ARRAY_LEN(ages) && ages[i] <= period; i++) {
            assert_int_equal(age_of(recency, 99, (uint16_t)(now - ages[i])), ages[i]);
        }
        next_period(recency, 0);
    }
    recency_close(recency);
}

static void a_second_touch_is_known_for_two_periods(void **state)
{
    (void)state;
    struct recency *recency = recency_open(MIB);
    uint32_t key = 5000;
    assert_false(recency_again(recency, key_of(&key), 1));
    assert_true(recency_again(recency, key_of(&key), 1));
    next_period(recency, 0);
    assert_true(recency_again(recency, key_of(&key), 1));
    next_period(recency, 100);
    next_period(recency, 200);
    assert_false(recency_again(recency, key_of(&key), 1));
    recency_close(recency);
}

static void a_full_filter_ends_a_period(void **state)
{
    (void)state;
    struct recency *recency = recency_open(64 * KIB);
    uint32_t keys = 0;
    while (!recency_turn(recency, UINT64_MAX)) {
        touch(recency, keys++);
    }
    assert_in_range(keys, 64 * KIB * 8 / 2 / 10, 64 * KIB * 8 / 2 / 10 * 11 / 10);
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < keys; i++) {
        assert_int_equal(age_of(recency, i, 0), 1); // no key is forgotten
    }
    for (uint32_t i = 0; i < 100000; i++) {
        wrong += age_of(recency, keys + i, (uint16_t)-9) != 10;
    }
    assert_in_range(wrong, 0, 3000); // taken for younger: under 3 % in the fullest filter
    recency_close(recency);
}

static void the_file_keeps_it(void **state)
{
    (void)state;
    char *directory = test_mkdir();
    char *path = mem_format("%s/recency", directory);
    struct recency *recency = recency_open(64 * KIB), *other = recency_open(64 * KIB);
    assert_int_equal(recency_load(other, path), ERR_NOT_FOUND);
    next_period(recency, 0);
    next_period(recency, 50);
    touch(recency, 90);
    assert_int_equal(recency_save(recency, path), OK);
    assert_int_equal(recency_load(other, path), OK);
    assert_int_equal(recency_period(other), 2);
    assert_int_equal(age_of(other, 90, 0), 0);
    assert_int_equal(age_of(other, 55, 0), 1);
    assert_int_equal(age_of(other, 5, 0), 2);
    // Any damage, any other size: nothing is taken from it.
    struct recency *larger = recency_open(128 * KIB);
    assert_int_equal(recency_load(larger, path), ERR_CORRUPT);
    recency_close(larger);
    struct bytes whole = test_read_file(directory, "recency");
    uint64_t seed = 3;
    for (int i = 0; i < 200; i++) {
        test_flip(directory, "recency", test_between(&seed, 0, whole.size - 1),
                  (unsigned)test_between(&seed, 0, 7));
        struct recency *empty = recency_open(64 * KIB);
        assert_int_equal(recency_load(empty, path), ERR_CORRUPT);
        assert_int_equal(recency_period(empty), 0);
        recency_close(empty);
        test_write_file(directory, "recency",
                        bytes_of(whole.data, i == 199 ? whole.size - 1 : whole.size));
    }
    assert_int_equal(recency_load(other, path), ERR_CORRUPT);
    mem_free((void *)whole.data);
    recency_close(recency);
    recency_close(other);
    mem_free(path);
    test_rmdir(directory);
}

static void limits_take_the_oldest(void **state)
{
    (void)state;
    struct ages ages = {0};
    ages_add(&ages, 0, 100);
    ages_add(&ages, 1, 100);
    ages_add(&ages, 2, 100);
    ages_add(&ages, 1000, 100);
    for (uint32_t share = 0; share <= SHARE_ALL; share += 64) {
        struct ages_limit limit = ages_limit(&ages, share);
        uint64_t wanted = 400 * (uint64_t)share / SHARE_ALL;
        assert_in_range(ages_cold(&ages, limit) + 1, wanted, wanted + 2);
        uint64_t gone = 0;
        static const unsigned at[] = {0, 1, 2, AGES - 1};
        for (int i = 0; i < 4; i++) {
            for (uint64_t chance = 0; chance < 100; chance++) {
                gone += ages_goes(limit, at[i], chance * SHARE_ALL / 100);
            }
        }
        assert_in_range(gone + 2, wanted, wanted + 4);
    }
    ages_turn(&ages);
    assert_int_equal(ages.bytes[0], 0);
    assert_int_equal(ages.bytes[3], 100);
    assert_int_equal(ages_sum(&ages), 400);
    struct ages none = {0};
    assert_int_equal(ages_cold(&none, ages_limit(&none, SHARE_ALL)), 0);
    assert_true(ages_goes(ages_limit(&none, SHARE_ALL), 0, 5)); // all of nothing known: all
}

// ---- the hit rate ------------------------------------------------------------------------------

#define ROWS 100000
#define FILE_ROWS 500
#define FILES (ROWS / FILE_ROWS)
#define CANDIDATES 8
#define SAMPLE_ROWS 48
#define ACCESSES 1500000
#define WARM_UP (ACCESSES / 5)

struct row {
    uint32_t length;
    uint16_t stamp;
    bool held;
    bool listed; // in the LRU
    int newer, older;
};

struct simulation {
    uint64_t seed;
    struct row rows[ROWS];
    uint32_t order[ROWS];  // which row is how popular
    double popularity[ROWS]; // cumulative
    uint64_t cache_bytes;
    // The cache.
    struct recency *recency;
    struct ages ages;
    uint64_t held_bytes, evicted_bytes, rewritten_bytes;
    unsigned cursor;
    // The LRU.
    uint64_t listed_bytes;
    int newest, oldest;
};

static struct hand_sample sample_file(struct simulation *at, unsigned file)
{
    struct hand_sample sample = {0};
    unsigned from = (unsigned)test_between(&at->seed, 0, FILE_ROWS - 1), taken = 0;
    for (unsigned i = 0; i < FILE_ROWS; i++) {
        uint32_t number = file * FILE_ROWS + (from + i) % FILE_ROWS;
        const struct row *row = &at->rows[number];
        sample.run_bytes += row->held ? row->length : 0;
        if (row->held && taken < SAMPLE_ROWS) {
            ages_add(&sample.ages, age_of(at->recency, number, row->stamp), row->length);
            sample.seen_bytes += row->length;
            taken++;
        }
    }
    return sample;
}

static void compact_file(struct simulation *at, unsigned file, const struct evict_order *order)
{
    for (uint32_t number = file * FILE_ROWS; number < (file + 1) * FILE_ROWS; number++) {
        struct row *row = &at->rows[number];
        if (!row->held) {
            continue;
        }
        struct stub stub = {.record = {.held = true, .length = row->length}};
        unsigned age = age_of(at->recency, number, row->stamp);
        if (evict_goes(order, key_of(&number), &stub, 0, age)) {
            row->held = false;
            at->held_bytes -= row->length;
            at->evicted_bytes += row->length;
        } else {
            row->stamp = (uint16_t)(recency_period(at->recency) - age);
            at->rewritten_bytes += row->length;
        }
    }
}

static void run_hand(struct simulation *at)
{
    uint64_t target = at->cache_bytes - at->cache_bytes / 64;
    while (at->held_bytes > target) {
        struct hand_sample samples[CANDIDATES];
        struct ages ages = {0};
        for (unsigned i = 0; i < CANDIDATES; i++) {
            samples[i] = sample_file(at, (at->cursor + i) % FILES);
            ages_blend(&ages, SHARE_ALL, &samples[i].ages);
        }
        ages_blend(&at->ages, SHARE_ALL / 2, &ages);
        struct evict_order order = {
            .active = true,
            .ranged = true,
            .salt = test_random(&at->seed),
            .limit = ages_limit(&at->ages,
                                hand_share(at->held_bytes - target, at->held_bytes)),
        };
        size_t best = hand_choose(samples, CANDIDATES, order.limit);
        if (best < CANDIDATES) {
            compact_file(at, (at->cursor + (unsigned)best) % FILES, &order);
        }
        at->cursor = (at->cursor + (unsigned)best + 1) % FILES;
    }
}

static bool cache_read(struct simulation *at, uint32_t number)
{
    struct row *row = &at->rows[number];
    bool hit = row->held;
    recency_touch(at->recency, key_of(&number), row->length);
    if (!hit) {
        row->held = true;
        row->stamp = recency_period(at->recency);
        at->held_bytes += row->length;
    }
    if (recency_turn(at->recency, at->cache_bytes)) {
        ages_turn(&at->ages);
    }
    run_hand(at);
    return hit;
}

static void unlist(struct simulation *at, int number)
{
    struct row *row = &at->rows[number];
    *(row->newer < 0 ? &at->newest : &at->rows[row->newer].older) = row->older;
    *(row->older < 0 ? &at->oldest : &at->rows[row->older].newer) = row->newer;
    row->listed = false;
    at->listed_bytes -= row->length;
}

static bool lru_read(struct simulation *at, uint32_t number)
{
    struct row *row = &at->rows[number];
    bool hit = row->listed;
    if (hit) {
        unlist(at, (int)number);
    }
    *row = (struct row){row->length, row->stamp, row->held, true, -1, at->newest};
    *(at->newest < 0 ? &at->oldest : &at->rows[at->newest].newer) = (int)number;
    at->newest = (int)number;
    at->listed_bytes += row->length;
    while (at->listed_bytes > at->cache_bytes) {
        unlist(at, at->oldest);
    }
    return hit;
}

// How popular the row is that is read now: 0 = the most.
static uint32_t zipf(struct simulation *at)
{
    double point = (double)(test_random(&at->seed) >> 11) * 0x1p-53 * at->popularity[ROWS - 1];
    uint32_t low = 0, high = ROWS - 1;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (at->popularity[middle] < point) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static uint32_t steady(struct simulation *at, uint64_t i)
{
    (void)i;
    return at->order[zipf(at)];
}

// Half of all reads are of keys that have no reason to be read again.
static uint32_t noisy(struct simulation *at, uint64_t i)
{
    return i % 2 == 0 ? at->order[zipf(at)] : (uint32_t)test_between(&at->seed, 0, ROWS - 1);
}

// What is popular moves on, through neighbours in the order of keys.
static uint32_t moving(struct simulation *at, uint64_t i)
{
    return (uint32_t)((i / 50 + zipf(at)) % ROWS);
}

// A working set of nearly the cache's size, all of it read alike, of which something leaves all the
// time.
static uint32_t working_set(struct simulation *at, uint64_t i)
{
    return at->order[(i / 40 + test_between(&at->seed, 0, ROWS / 12)) % ROWS];
}

// Another hundredth is popular all at once.
static uint32_t jumping(struct simulation *at, uint64_t i)
{
    return at->order[(i / (ACCESSES / 8) * 37777 + zipf(at)) % ROWS];
}

static void simulate(const char *name, uint32_t (*next)(struct simulation *at, uint64_t i),
                     double exponent)
{
    struct simulation *at = mem_zalloc(sizeof *at);
    at->seed = 11;
    at->newest = at->oldest = -1;
    at->recency = recency_open(MIB);
    uint64_t total = 0;
    double sum = 0;
    for (uint32_t i = 0; i < ROWS; i++) {
        at->rows[i].length = (uint32_t)test_between(&at->seed, 50, 2000);
        total += at->rows[i].length;
        at->popularity[i] = sum += pow(i + 1, -exponent);
        uint32_t other = (uint32_t)test_between(&at->seed, 0, i);
        at->order[i] = at->order[other];
        at->order[other] = i;
    }
    at->cache_bytes = total / 10;
    uint64_t hits = 0, ideal = 0;
    for (uint64_t i = 0; i < ACCESSES; i++) {
        uint32_t number = next(at, i);
        bool hit = cache_read(at, number), ideal_hit = lru_read(at, number);
        hits += i >= WARM_UP && hit;
        ideal += i >= WARM_UP && ideal_hit;
        assert_true(at->held_bytes <= at->cache_bytes);
    }
    double ratio = (double)hits / (double)ideal;
    print_message("%-12s hit rate %.3f, ideal LRU %.3f: %.3f of it; %.1f bytes rewritten for each "
                  "evicted, %u periods\n",
                  name, (double)hits / (ACCESSES - WARM_UP), (double)ideal / (ACCESSES - WARM_UP),
                  ratio, (double)at->rewritten_bytes / (double)at->evicted_bytes,
                  recency_period(at->recency));
    assert_true(ratio >= 0.9);
    recency_close(at->recency);
    mem_free(at);
}

static void hit_rates_are_near_the_ideal(void **state)
{
    (void)state;
    simulate("zipf 0.9", steady, 0.9);
    simulate("zipf 1.1", steady, 1.1);
    simulate("noise", noisy, 0.9);
    simulate("moving", moving, 0.9);
    simulate("working set", working_set, 0.9);
    simulate("jumps", jumping, 0.99);
}

// A run is worth the merge that comes with it, and fits beside what it replaces.
static void a_run_fits_below_max_bytes(void **state)
{
    (void)state;
    static const struct {
        uint64_t total_mib, merge_mib, left_mib, run_mib;
    } cases[] = {
        {80, 0, 100, 10},  {80, 0, 16, 8},    {80, 0, 3, 2},       {80, 0, 0, 2},
        {80, 15, 100, 15}, {80, 15, 20, 10},  {8, 0, 100, 2},      {8000, 0, 1000, 32},
        {8000, 0, 40, 20}, {8000, 50, 1000, 50},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(hand_run_bytes(cases[i].total_mib * MIB, cases[i].merge_mib * MIB,
                                        cases[i].left_mib * MIB),
                         cases[i].run_mib * MIB);
    }
    assert_int_equal(hand_run_bytes(80 * MIB, 0, UINT64_MAX), 10 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ages_follow_reads),
        cmocka_unit_test(stamps_go_round),
        cmocka_unit_test(a_second_touch_is_known_for_two_periods),
        cmocka_unit_test(a_full_filter_ends_a_period),
        cmocka_unit_test(the_file_keeps_it),
        cmocka_unit_test(limits_take_the_oldest),
        cmocka_unit_test(a_run_fits_below_max_bytes),
        cmocka_unit_test(hit_rates_are_near_the_ideal),
    };
    return cmocka_run_group_tests_name("recency", tests, NULL, NULL);
}
