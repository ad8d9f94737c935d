// SPDX-License-Identifier: Apache-2.0
// What the model of the store does beyond RocksDB's answers: its control panel, and that the same
// seed gives the same run.
#include "tests/unit/support.h"

#include "common/base/hash.h"
#include "tests/sim/store_calls.h"
#include "tests/sim/store_model.h"

#define ROWS 200

static const struct bytes none;
static const char *const home = "a directory";

struct panel {
    const struct store_calls *calls;
    struct store_cache *cache;
    struct store *store;
    struct store_batch *batch;
    struct store_filter filter;
    uint64_t bound; // numbers below it are stubbed, or dropped
    enum store_verdict verdict;
    uint64_t begun, ended;
    struct pass *pass; // the newest
};

struct pass {
    struct panel *panel;
    uint64_t bound;
};

static void *pass_begin(void *argument)
{
    struct pass *pass = mem_alloc(sizeof *pass);
    *pass = (struct pass){.panel = argument};
    pass->bound = pass->panel->bound;
    pass->panel->begun++;
    pass->panel->pass = pass;
    return pass;
}

static enum store_verdict pass_judge(void *argument, struct bytes key, struct bytes value,
                                     struct bytes *ret_value)
{
    const struct pass *pass = argument;
    CHECK(key.size > 0);
    *ret_value = bytes_of(value.data, sizeof(uint64_t));
    return load_u64(value.data) < pass->bound ? pass->panel->verdict : STORE_KEEP;
}

static void pass_end(void *argument)
{
    struct pass *pass = argument;
    pass->panel->ended++;
    mem_free(pass);
}

static int open_store(struct panel *panel)
{
    struct store_options options = {.directory = home,
                                    .families = {"default", "mvcc"},
                                    .filters = {&panel->filter, NULL},
                                    .family_count = 2,
                                    .cache = panel->cache,
                                    .memtable_bytes = MIB};
    return panel->calls->open(&panel->store, &options);
}

static int setup(void **state)
{
    struct panel *panel = mem_zalloc(sizeof *panel);
    panel->calls = &model_store_calls;
    panel->cache = panel->calls->cache_open(MIB);
    panel->batch = panel->calls->batch_new();
    panel->filter = (struct store_filter){pass_begin, pass_judge, pass_end, panel};
    panel->verdict = STORE_CHANGE;
    store_model_reset(7);
    *state = panel;
    return open_store(panel);
}

static int teardown(void **state)
{
    struct panel *panel = *state;
    store_model_crash(home, true); // it closes whatever was done to it
    assert_true(panel->calls->close(panel->store));
    assert_int_equal(panel->begun, panel->ended);
    store_model_reset(0);
    panel->calls->batch_free(panel->batch);
    panel->calls->cache_close(panel->cache);
    mem_free(panel);
    return OK;
}

// Row `place` gets `number` in both families.
static int put(struct panel *panel, uint64_t place, uint64_t number)
{
    uint64_t key = __builtin_bswap64(place + 1), value[2] = {number, number};
    for (unsigned family = 0; family < 2; family++) {
        panel->calls->batch_put(panel->batch, panel->store, family, bytes_of(&key, sizeof key),
                                bytes_of(value, sizeof value));
    }
    int error = panel->calls->write(panel->store, panel->batch, bytes_of(value, sizeof value));
    panel->calls->batch_clear(panel->batch);
    return error;
}

#define ABSENT UINT64_MAX

// The number in a row, with the size of the value; or its error.
static int look(struct panel *panel, unsigned family, uint64_t place, enum store_tier tier,
                uint64_t *ret_number, size_t *ret_size)
{
    uint64_t key = __builtin_bswap64(place + 1);
    struct store_value value = {0};
    int error = panel->calls->get(panel->store, NULL, family, bytes_of(&key, sizeof key), tier,
                                  &value);
    *ret_number = error == OK ? load_u64(value.data.data) : ABSENT;
    *ret_size = value.data.size;
    panel->calls->value_release(&value);
    return error;
}

static void expect_row(struct panel *panel, unsigned family, uint64_t place, uint64_t number,
                       size_t size)
{
    uint64_t got;
    size_t got_size;
    assert_int_equal(look(panel, family, place, STORE_ANY, &got, &got_size),
                     number == ABSENT ? ERR_NOT_FOUND : OK);
    assert_int_equal(got, number);
    assert_int_equal(got_size, size);
}

static void reopen(struct panel *panel)
{
    assert_true(panel->calls->close(panel->store));
    assert_int_equal(open_store(panel), OK);
}

static void test_crash(void **state)
{
    struct panel *panel = *state;
    assert_int_equal(put(panel, 1, 1), OK);
    assert_int_equal(panel->calls->flush(panel->store), OK);
    assert_int_equal(put(panel, 1, 2), OK);
    assert_int_equal(put(panel, 2, 3), OK);
    assert_int_equal(open_store(&(struct panel){.calls = panel->calls, .cache = panel->cache}),
                     ERR_IO); // it is open already
    struct store_snapshot *snapshot = panel->calls->snapshot(panel->store);
    store_model_crash(home, true);
    // Whoever held the ghost lets go as always; what it does helps nobody.
    expect_row(panel, 0, 1, 2, 16);
    assert_int_equal(put(panel, 1, 4), ERR_IO);
    assert_int_equal(panel->calls->flush(panel->store), ERR_IO);
    assert_int_not_equal(panel->calls->compact(panel->store, 0, none, none), OK);
    panel->calls->snapshot_release(panel->store, snapshot);
    reopen(panel);
    for (unsigned family = 0; family < 2; family++) {
        expect_row(panel, family, 1, 1, 16);
        expect_row(panel, family, 2, ABSENT, 0);
    }
    struct store_value row;
    assert_int_equal(panel->calls->state(panel->store, STORE_ANY, &row), OK);
    assert_int_equal(load_u64(row.data.data), 1);
    panel->calls->value_release(&row);
    assert_int_equal(store_model_counts().lost, 2);
}

// A process that is gone gives nothing back; its filter is not called any more either.
static void test_kill(void **state)
{
    struct panel *panel = *state;
    store_model_odds(&(struct store_model_odds){.compaction = 1});
    uint64_t left = 0; // until a compaction is under way
    for (; panel->begun == panel->ended && left < 100; left++) {
        assert_int_equal(put(panel, left, left), OK);
        assert_int_equal(panel->calls->flush(panel->store), OK);
    }
    assert_int_equal(panel->begun, panel->ended + 1);
    uint64_t ended = panel->ended;
    void *mine[] = {panel->calls->snapshot(panel->store), panel->store};
    store_model_crash(home, false);
    assert_int_equal(panel->ended, ended);
    panel->begun = ended;
    mem_free(mine[0]); // as the memory of a process goes
    mem_free(mine[1]);
    mem_free(panel->pass);
    assert_int_equal(open_store(panel), OK);
    expect_row(panel, 0, left - 1, left - 1, 16);
}

static void test_wipe_and_copy(void **state)
{
    struct panel *panel = *state;
    assert_int_equal(put(panel, 1, 1), OK);
    assert_int_equal(panel->calls->flush(panel->store), OK);
    store_model_copy(home, "elsewhere");
    store_model_wipe(home, true);
    reopen(panel);
    expect_row(panel, 0, 1, ABSENT, 0);
    store_model_crash(home, true);
    assert_true(panel->calls->close(panel->store));
    store_model_copy("elsewhere", home);
    assert_int_equal(open_store(panel), OK);
    expect_row(panel, 1, 1, 1, 16);
}

static void test_faults(void **state)
{
    struct panel *panel = *state;
    uint64_t number;
    size_t size;
    assert_int_equal(put(panel, 1, 1), OK);
    store_model_fail(home, STORE_MODEL_READ, 1, ERR_IO);
    expect_row(panel, 0, 1, 1, 16);
    assert_int_equal(look(panel, 0, 1, STORE_ANY, &number, &size), ERR_IO);
    expect_row(panel, 0, 1, 1, 16);
    store_model_fail(home, STORE_MODEL_WRITE, 0, ERR_DISK_FULL);
    assert_int_equal(put(panel, 1, 2), ERR_DISK_FULL);
    expect_row(panel, 0, 1, 1, 16); // nothing was written, and the next time it may be
    assert_int_equal(put(panel, 1, 3), OK);
    store_model_fail(home, STORE_MODEL_FLUSH, 0, ERR_IO);
    assert_int_equal(panel->calls->flush(panel->store), ERR_IO);
    assert_int_equal(put(panel, 1, 4), ERR_IO); // until it is opened again
    assert_false(panel->calls->close(panel->store));
    store_model_crash(home, true);
    reopen(panel);
    expect_row(panel, 0, 1, ABSENT, 0);
    assert_true(panel->calls->close(panel->store));
    store_model_fail(home, STORE_MODEL_OPEN, 0, ERR_CORRUPT);
    assert_int_equal(open_store(panel), ERR_CORRUPT);
    assert_int_equal(open_store(panel), OK);
    store_model_full(home, true);
    assert_int_equal(put(panel, 1, 5), ERR_DISK_FULL);
    assert_int_equal(panel->calls->flush(panel->store), ERR_DISK_FULL);
    store_model_full(home, false);
    assert_int_equal(put(panel, 1, 5), OK);
    store_model_odds(&(struct store_model_odds){.disk_full = 2, .incomplete = 2});
    unsigned full = 0, incomplete = 0;
    for (uint64_t i = 0; i < 100; i++) {
        full += put(panel, i, i) == ERR_DISK_FULL;
        incomplete += look(panel, 0, i, STORE_CACHED, &number, &size) == ERR_INCOMPLETE;
    }
    assert_in_range(full, 25, 75);
    assert_in_range(incomplete, 25, 75);
}

static void test_flipped_bits(void **state)
{
    struct panel *panel = *state;
    assert_int_equal(store_model_flip(home, 0, false).size, 0); // nothing is flushed yet
    for (uint64_t i = 0; i < ROWS; i++) {
        assert_int_equal(put(panel, i, i), OK);
    }
    assert_int_equal(panel->calls->flush(panel->store), OK);
    struct bytes key = store_model_flip(home, 1, true);
    assert_int_equal(key.size, sizeof(uint64_t));
    struct store_value value;
    assert_int_equal(panel->calls->get(panel->store, NULL, 1, key, STORE_ANY, &value), OK);
    uint64_t place = __builtin_bswap64(load_u64(key.data)) - 1, expected[2] = {place, place};
    assert_false(bytes_equal(value.data, bytes_of(expected, sizeof expected)));
    panel->calls->value_release(&value);
    key = store_model_flip(home, 0, false);
    assert_int_equal(panel->calls->get(panel->store, NULL, 0, key, STORE_ANY, &value),
                     ERR_CORRUPT);
    struct store_iterator *rows = panel->calls->iterator_open(panel->store, NULL, 0, none, none);
    panel->calls->iterator_seek(rows, none);
    while (panel->calls->iterator_valid(rows)) {
        panel->calls->iterator_next(rows);
    }
    assert_int_equal(panel->calls->iterator_error(rows), ERR_CORRUPT);
    panel->calls->iterator_close(rows);
    assert_int_equal(panel->calls->compact(panel->store, 0, none, none), ERR_IO);
    assert_int_equal(put(panel, 0, 0), ERR_CORRUPT);
}

// Filters see any flushed version; reads at a snapshot see their verdict, open iterators do not.
static void test_older_readers(void **state)
{
    struct panel *panel = *state;
    assert_int_equal(put(panel, 1, 1), OK);
    assert_int_equal(put(panel, 2, 2), OK);
    assert_int_equal(panel->calls->flush(panel->store), OK);
    struct store_snapshot *snapshot = panel->calls->snapshot(panel->store);
    struct store_iterator *rows = panel->calls->iterator_open(panel->store, NULL, 0, none, none);
    assert_int_equal(put(panel, 2, 9), OK);
    panel->bound = 5;
    assert_int_equal(panel->calls->compact(panel->store, 0, none, none), OK);
    expect_row(panel, 0, 1, 1, 8);
    expect_row(panel, 0, 2, 9, 16);
    uint64_t key = __builtin_bswap64(2);
    struct store_value value;
    assert_int_equal(panel->calls->get(panel->store, snapshot, 0, bytes_of(&key, sizeof key),
                                       STORE_ANY, &value),
                     OK);
    assert_int_equal(value.data.size, 8);
    panel->calls->value_release(&value);
    panel->bound = 10;
    panel->verdict = STORE_DROP;
    assert_int_equal(panel->calls->compact(panel->store, 0, none, none), OK);
    expect_row(panel, 0, 2, ABSENT, 0);
    panel->calls->iterator_seek(rows, none);
    for (uint64_t number = 1; number <= 2; number++) {
        assert_true(panel->calls->iterator_valid(rows));
        assert_int_equal(load_u64(panel->calls->iterator_value(rows).data), number);
        assert_int_equal(panel->calls->iterator_value(rows).size, 16);
        panel->calls->iterator_next(rows);
    }
    assert_false(panel->calls->iterator_valid(rows));
    panel->calls->snapshot_release(panel->store, snapshot);
    panel->calls->iterator_close(rows);
    struct store_sizes sizes;
    panel->calls->sizes(panel->store, &sizes);
    assert_int_equal(sizes.family_bytes[0], 0); // nobody reads what was dropped any more
}

// Everything at once for a while; returns a digest of all that was seen.
static uint64_t storm(struct panel *panel, uint64_t seed)
{
    store_model_reset(seed);
    assert_int_equal(open_store(panel), OK);
    panel->bound = 0;
    store_model_odds(&(struct store_model_odds){
        .incomplete = 3, .flush = 20, .compaction = 3, .missed = 4, .disk_full = 50});
    uint64_t digest = 0, random = seed;
    for (uint64_t i = 1; i <= 20000; i++) {
        uint64_t seen[3] = {digest};
        uint64_t place = test_random(&random) % ROWS;
        int error = put(panel, place, i);
        error = error * 1000 + look(panel, 0, test_random(&random) % ROWS, STORE_CACHED, &seen[1],
                                    (size_t *)&seen[2]);
        seen[0] += (uint64_t)error;
        digest = hash64(bytes_of(seen, sizeof seen), 0);
        panel->bound = i > 500 ? i - 500 : 0;
        if (test_random(&random) % 1000 == 0) {
            store_model_crash(home, true);
            reopen(panel);
        }
    }
    struct store_model_counts counts = store_model_counts();
    assert_true(counts.own_flushes > 0 && counts.own_compactions > 0 && counts.changed > 0 &&
                counts.faults > 0 && counts.incomplete > 0 && counts.lost > 0);
    store_model_odds(&(struct store_model_odds){0});
    assert_true(panel->calls->close(panel->store));
    return digest;
}

static void test_same_seed(void **state)
{
    struct panel *panel = *state;
    assert_true(panel->calls->close(panel->store));
    uint64_t digest = storm(panel, 1);
    assert_true(storm(panel, 1) == digest);
    assert_true(storm(panel, 2) != digest);
    assert_int_equal(open_store(panel), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_crash, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(test_wipe_and_copy, setup, teardown),
        cmocka_unit_test_setup_teardown(test_faults, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flipped_bits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_older_readers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_same_seed, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
