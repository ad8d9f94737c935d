// SPDX-License-Identifier: Apache-2.0
// What the load generator and the checker stand on: percentiles, keys, look-ups, the model.
#include <stdlib.h>

#include "bench/claims.h"
#include "bench/histogram.h"
#include "bench/lookups.h"
#include "bench/model.h"
#include "bench/pairs.h"
#include "common/base/mem.h"
#include "common/wire/import_text.h"
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

enum { MADE_BYTES = 29 };

static int by_key(const void *a, const void *b) { return memcmp(a, b, MADE_BYTES); }

static void made_keys_differ(void **state)
{
    (void)state;
    enum { COUNT = 200000 };
    struct pairs pairs;
    assert_true(pairs_open(&pairs, &(struct pairs_options){.seed = 7, .value_bytes = 290}));
    char(*keys)[MADE_BYTES] = mem_alloc(COUNT * sizeof *keys);
    for (uint64_t i = 0; i < COUNT; i++) {
        assert_int_equal(pair_key(&pairs, i, keys[i]), MADE_BYTES);
        assert_memory_equal(keys[i], "zone:", 5);
        assert_memory_equal(keys[i] + 13, ":setting:", 9);
    }
    qsort(keys, COUNT, sizeof *keys, by_key);
    for (size_t i = 1; i < COUNT; i++) {
        assert_true(by_key(keys[i - 1], keys[i]) < 0);
    }
    mem_free(keys);
    pairs_close(&pairs);
}

static void made_values_name_their_key(void **state)
{
    (void)state;
    uint8_t value[290], other[290];
    struct pairs pairs;
    assert_true(pairs_open(
        &pairs, &(struct pairs_options){.seed = 1, .count = 50, .value_bytes = sizeof value}));
    assert_int_equal(pair_value(&pairs, 42, 3, value), sizeof value);
    assert_int_equal(pair_value(&pairs, 42, 4, other), sizeof other);
    assert_true(pair_value_fits(&pairs, 42, bytes_of(value, sizeof value)));
    assert_true(pair_value_fits(&pairs, 42, bytes_of(other, sizeof other)));
    assert_false(pair_value_fits(&pairs, 43, bytes_of(value, sizeof value)));
    assert_false(pair_value_fits(&pairs, 42, bytes_of(value, sizeof value - 1)));
    assert_memory_not_equal(value + 8, other + 8, sizeof value - 8);
    assert_int_equal(pairs.key_bytes, 50 * MADE_BYTES);
    assert_int_equal(pairs.value_bytes, 50 * sizeof value);
    pairs_close(&pairs);
}

// ---- pairs of a file ----------------------------------------------------------------------------

enum { FILE_PAIRS = 1000 };

// Key and value of a line: bytes that need escapes, empty values, long ones.
static size_t line_pair(uint64_t line, char *key, uint8_t *value)
{
    size_t size = line % 7 * (line % 100 == 99 ? 10000 : 9);
    for (size_t i = 0; i < size; i++) {
        value[i] = (uint8_t)(draw_mix(line + i) >> 20);
    }
    snprintf(key, 32, line % 2 == 0 ? "key/%llu" : "key\t\\%llu~03e", (unsigned long long)line);
    return size;
}

// Opens what a file of this text gives; *ret_said is what was said on standard error meanwhile.
static bool open_text(struct bytes text, uint64_t seed, struct pairs *ret_pairs, char **ret_said)
{
    char *directory = test_mkdir();
    test_write_file(directory, "some.tsv", text);
    char *path = mem_format("%s/some.tsv", directory), *said = mem_format("%s/said", directory);
    int kept = dup(STDERR_FILENO), fd = open(said, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(kept >= 0 && fd >= 0 && dup2(fd, STDERR_FILENO) >= 0);
    bool opened = pairs_open(ret_pairs, &(struct pairs_options){.file = path, .seed = seed});
    assert_true(dup2(kept, STDERR_FILENO) >= 0);
    close(kept);
    close(fd);
    struct bytes told = test_read_file(directory, "said");
    *ret_said = mem_format("%.*s", (int)told.size, (const char *)told.data);
    mem_free((void *)told.data);
    mem_free(path);
    mem_free(said);
    test_rmdir(directory);
    ret_pairs->options.file = "some.tsv";
    return opened;
}

static void open_file(uint64_t seed, struct pairs *ret_pairs)
{
    struct buf text = {0};
    char key[32], *said;
    uint8_t *value = mem_alloc(PAIR_VALUE_BYTES_MAX);
    for (uint64_t line = 0; line < FILE_PAIRS; line++) {
        size_t size = line_pair(line, key, value);
        export_tsv(&text, bytes_text(key), bytes_of(value, size));
    }
    text.size--; // the last line feed may be missing
    assert_true(open_text(buf_bytes(&text), seed, ret_pairs, &said));
    assert_string_equal(said, "");
    mem_free(said);
    mem_free(value);
    buf_free(&text);
}

// The line that a key stands in; FILE_PAIRS: in none.
static uint64_t line_of(struct bytes key)
{
    char wanted[32];
    uint8_t *value = mem_alloc(PAIR_VALUE_BYTES_MAX);
    uint64_t line = 0;
    for (; line < FILE_PAIRS; line++) {
        line_pair(line, wanted, value);
        if (bytes_equal_text(key, wanted)) {
            break;
        }
    }
    mem_free(value);
    return line;
}

static void a_file_gives_its_pairs(void **state)
{
    (void)state;
    struct pairs pairs;
    open_file(3, &pairs);
    assert_int_equal(pairs.count, FILE_PAIRS);
    char key[PAIR_KEY_BYTES_MAX], wanted[32];
    uint8_t *value = mem_alloc(PAIR_VALUE_BYTES_MAX), *truth = mem_alloc(PAIR_VALUE_BYTES_MAX);
    bool met[FILE_PAIRS] = {false};
    uint64_t key_bytes = 0, value_bytes = 0, in_place = 0;
    for (uint64_t number = 0; number < FILE_PAIRS; number++) {
        struct bytes told = bytes_of(key, pair_key(&pairs, number, key));
        uint64_t line = line_of(told);
        assert_true(line < FILE_PAIRS && !met[line]);
        met[line] = true;
        in_place += line == number;
        size_t size = line_pair(line, wanted, truth);
        assert_int_equal(pair_value(&pairs, number, number, value), size);
        assert_memory_equal(value, truth, size);
        assert_true(pair_value_fits(&pairs, number, bytes_of(truth, size)));
        assert_false(pair_value_fits(&pairs, number, bytes_of(truth, size + 1)));
        if (size > 0) {
            truth[size - 1] ^= 1;
            assert_false(pair_value_fits(&pairs, number, bytes_of(truth, size)));
        }
        key_bytes += told.size;
        value_bytes += size;
    }
    assert_true(in_place < FILE_PAIRS / 20); // shuffled
    assert_int_equal(pairs.key_bytes, key_bytes);
    assert_int_equal(pairs.value_bytes, value_bytes);
    mem_free(value);
    mem_free(truth);
    pairs_close(&pairs);
}

static int by_text(const void *a, const void *b) { return strcmp(a, b); }

static void absent_keys_are_not_in_the_file(void **state)
{
    (void)state;
    enum { COUNT = FILE_PAIRS * (1 + ABSENT_SPACE) / 10 };
    struct pairs pairs;
    open_file(3, &pairs);
    char(*keys)[32] = mem_zalloc(COUNT * sizeof *keys);
    for (uint64_t i = 0; i < COUNT; i++) { // the present ones, the first absent ones, the last
        uint64_t number = i < COUNT / 2 ? i : FILE_PAIRS * (1 + ABSENT_SPACE) - 1 - i;
        size_t size = pair_key(&pairs, number, keys[i]);
        assert_true(size < sizeof keys[i]);
        keys[i][size] = '\0';
    }
    qsort(keys, COUNT, sizeof *keys, by_text);
    for (size_t i = 1; i < COUNT; i++) {
        assert_true(strcmp(keys[i - 1], keys[i]) < 0);
    }
    mem_free(keys);
    pairs_close(&pairs);
}

static void a_seed_orders_the_file(void **state)
{
    (void)state;
    struct pairs one, same, other;
    open_file(1, &one);
    open_file(1, &same);
    open_file(2, &other);
    char key[3][PAIR_KEY_BYTES_MAX];
    uint64_t moved = 0;
    for (uint64_t number = 0; number < FILE_PAIRS; number++) {
        struct bytes first = bytes_of(key[0], pair_key(&one, number, key[0]));
        assert_true(bytes_equal(first, bytes_of(key[1], pair_key(&same, number, key[1]))));
        moved += !bytes_equal(first, bytes_of(key[2], pair_key(&other, number, key[2])));
    }
    assert_true(moved > FILE_PAIRS * 9 / 10);
    pairs_close(&one);
    pairs_close(&same);
    pairs_close(&other);
}

static void identities_tell_data_apart(void **state)
{
    (void)state;
    static const char *const texts[] = {"a\t1\nb\t2\n", "a\t1\nb\t3\n", "a\t1\nc\t2\n"};
    struct pairs pairs[5];
    char *said, *identities[5];
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        assert_true(open_text(bytes_text(texts[i]), 1, &pairs[i], &said));
        mem_free(said);
    }
    assert_true(pairs_open(&pairs[3], &(struct pairs_options){.count = 2, .value_bytes = 16}));
    assert_true(pairs_open(&pairs[4], &(struct pairs_options){.count = 2, .value_bytes = 17}));
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        identities[i] = pairs_identity(&pairs[i]);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(identities[i], identities[j]);
        }
    }
    char *text = pairs_text(&pairs[0]);
    assert_string_equal(text, "some.tsv: 2 pairs of 1.0 + 1.0 bytes on average");
    mem_free(text);
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        mem_free(identities[i]);
        pairs_close(&pairs[i]);
    }
}

// A line of so many bytes of key and value behind two good ones and an empty one.
static void expect_sizes(size_t key_bytes, size_t value_bytes, const char *fault)
{
    struct buf text = {0};
    buf_append_text(&text, "a\t1\n\nb\t2\r\n");
    memset(buf_reserve(&text, key_bytes), 'k', key_bytes);
    buf_commit(&text, key_bytes);
    buf_append_text(&text, "\t");
    memset(buf_reserve(&text, value_bytes), 'v', value_bytes);
    buf_commit(&text, value_bytes);
    struct pairs pairs;
    char *said;
    assert_int_equal(open_text(buf_bytes(&text), 1, &pairs, &said), fault == NULL);
    if (fault == NULL) {
        assert_int_equal(pairs.count, 3);
        assert_int_equal(pairs.value_bytes, 2 + value_bytes); // no carriage return among them
        pairs_close(&pairs);
    } else {
        assert_non_null(strstr(said, fault));
    }
    mem_free(said);
    buf_free(&text);
}

static void bad_files_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *fault;
    } cases[] = {
        {"", "some.tsv: there is no pair in it"},
        {"\n\n", "some.tsv: there is no pair in it"},
        {"a\t1\nb\n", "some.tsv: line 2: no tab"},
        {"a\t1\nb\t\\q\n", "some.tsv: line 2: a backslash"},
        {"a\t1\nb\t2\n\n\\x61\t3\n", "some.tsv: line 4: the key is there twice"},
        {"a\t1\nb~09af\t2\n", "some.tsv: line 2: the key ends in ~"},
    };
    struct pairs pairs;
    char *said;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        assert_false(open_text(bytes_text(cases[i].text), 1, &pairs, &said));
        assert_non_null(strstr(said, cases[i].fault));
        mem_free(said);
    }
    expect_sizes(PAIR_KEY_BYTES_MAX - 5, PAIR_VALUE_BYTES_MAX, NULL);
    expect_sizes(PAIR_KEY_BYTES_MAX - 4, 1, "some.tsv: line 4: the key is longer than 1019 bytes");
    expect_sizes(1, PAIR_VALUE_BYTES_MAX + 1, "some.tsv: line 4: the value is larger than 1 MiB");
}

// ---- look-ups -----------------------------------------------------------------------------------

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
    bool *known = mem_zalloc(site.pairs);
    memset(known, true, site.working_set);
    for (size_t i = 0; i < COUNT; i++) {
        struct lookup one = lookups_next(&lookups), two = lookups_next(&copy);
        assert_true(one.number == two.number && one.present == two.present);
        assert_int_equal(one.present, one.number < site.pairs);
        assert_true(one.number < site.pairs * (1 + ABSENT_SPACE));
        assert_false(one.present && one.number >= site.limit);
        assert_int_equal(one.first, one.present && !known[one.number]);
        assert_int_equal(two.first, one.first); // each remembers for itself
        known[one.present ? one.number : 0] = true;
        present += one.present;
        first += one.present && one.number == lookups.slots[0];
    }
    // 0.01 slots a look-up: so many numbers have joined, and the first rank is asked for most.
    assert_int_equal((lookups.next - site.working_set) / 10, COUNT / 1000);
    assert_in_range(present, 98000, 102000);
    assert_in_range(first, present / 10, present / 5);
    mem_free(known);
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
    const struct pairs made = {0}, from_file = {.options.file = "some.tsv"};
    struct site *edge = mem_zalloc(sizeof *edge);
    edge->warmed[SIDE_REPLICA].store = 1000;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        edge->percent = cases[i].percent;
        edge->warmed[SIDE_PROXY].store = cases[i].store;
        claims_of_stores(&made, edge);
        assert_int_equal(edge->claim_count, i + 1);
        assert_int_equal(last_held(edge, 1), cases[i].held);
    }
    claims_of_stores(&from_file, edge); // of this nothing is claimed, and
    edge->percent = 50;                 // of this neither
    claims_of_stores(&made, edge);
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
    assert_false(last_held(edge, 5)); // the median is above, and so is the middle half
    assert_true(last_held(edge, 4));  // the middle half reaches below 1
    assert_false(last_held(edge, 3)); // not less than 0.05 %
    assert_false(last_held(edge, 2));
    assert_false(last_held(edge, 1)); // the proxy got too few
    cell->ratio[2] = 1.05;
    cell->absent_ratio[1] = 1.01;
    cell->sides[SIDE_PROXY].load.firsts = 1; // of the five, which leaves four
    cell->sides[SIDE_PROXY].arrived = 950;
    claims_of_cell(&options, edge, cell);
    assert_true(last_held(edge, 5));
    assert_false(last_held(edge, 4));
    assert_false(last_held(edge, 3));
    assert_true(last_held(edge, 2));
    assert_true(last_held(edge, 1));
    cell->sides[SIDE_PROXY].misses = 4;
    claims_of_cell(&options, edge, cell);
    assert_true(last_held(edge, 3));
    mem_free(cell);
    mem_free(edge);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_are_within_three_percent),
        cmocka_unit_test(made_keys_differ),
        cmocka_unit_test(made_values_name_their_key),
        cmocka_unit_test(a_file_gives_its_pairs),
        cmocka_unit_test(absent_keys_are_not_in_the_file),
        cmocka_unit_test(a_seed_orders_the_file),
        cmocka_unit_test(identities_tell_data_apart),
        cmocka_unit_test(bad_files_are_refused),
        cmocka_unit_test(lookups_keep_their_shares),
        cmocka_unit_test(uniform_lookups_have_no_favourite),
        cmocka_unit_test(model_knows_every_index),
        cmocka_unit_test(stores_are_judged_by_their_working_set),
        cmocka_unit_test(a_cell_holds_what_it_claims),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
