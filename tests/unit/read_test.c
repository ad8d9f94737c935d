// SPDX-License-Identifier: Apache-2.0
// Reads and ranges over a real store with a role of the test's own: inline and pooled look-ups,
// limits from stored lengths, missing values, damaged rows, slices and places to go on.
#include "tests/unit/support.h"

#include "common/core/read.h"

// Rows: version u64 · length u32 · held u8 · value.
#define ROW_HEAD 13

struct fixture {
    char *directory;
    char *store_directory;
    struct store_cache *cache;
    struct store *store;
    struct readers *readers;
    struct loop *loop;
    struct instance instance;
    struct instance_metrics metrics;
    struct view view;
    struct role role;
    struct read *read; // being run
    struct range_read *range;
    struct task start;
    unsigned fetches;
    bool inline_done; // done before the start returned
    bool started, done;
};

static struct fixture *current;

static int decode(struct bytes row, struct record *ret_record)
{
    if (row.size < ROW_HEAD || load_u64(row.data) == 0) {
        return ERR_CORRUPT;
    }
    *ret_record = (struct record){.version = load_u64(row.data),
                                  .length = load_u32(row.data + 8),
                                  .held = row.data[12] != 0,
                                  .value = bytes_of(row.data + ROW_HEAD, row.size - ROW_HEAD)};
    return OK;
}

// Gives every missing value its length in 'f's, but for keys that begin with '!'.
static void fetch(struct instance *instance, struct read *read)
{
    (void)instance;
    for (unsigned i = 0; i < read->count; i++) {
        struct lookup *lookup = &read->lookups[i];
        if (!lookup_missing(lookup)) {
            continue;
        }
        current->fetches++;
        if (lookup->key.data[0] == '!') {
            lookup->status = ERR_UNAVAILABLE;
            continue;
        }
        lookup->fetched = mem_alloc(lookup->record.length);
        memset(lookup->fetched, 'f', lookup->record.length);
        lookup->record.value = bytes_of(lookup->fetched, lookup->record.length);
        lookup->record.held = true;
    }
    read_fetched(read);
}

static void open_store(struct fixture *fixture)
{
    struct store_options options = {.directory = fixture->store_directory,
                                    .scope = "test",
                                    .families = {"default"},
                                    .family_count = 1,
                                    .cache = fixture->cache,
                                    .memtable_bytes = 4 * MIB};
    assert_int_equal(store_open(&fixture->store, &options), OK);
    fixture->view.store = fixture->store;
    fixture->view.snapshot = store_snapshot(fixture->store);
}

static void close_store(struct fixture *fixture)
{
    store_snapshot_release(fixture->store, fixture->view.snapshot);
    store_close(fixture->store);
}

static void put(struct fixture *fixture, struct store_batch *batch, const char *key,
                uint64_t version, const char *value, bool held)
{
    uint8_t head[ROW_HEAD];
    store_u64(head, version);
    store_u32(head + 8, (uint32_t)strlen(value));
    head[12] = held;
    struct bytes keys[2] = {bytes_text(key), bytes_of(NULL, 0)};
    struct bytes values[2] = {bytes_of(head, ROW_HEAD), bytes_text(held ? value : "")};
    store_batch_put_parts(batch, fixture->store, 0, keys, values);
}

static void fill(struct fixture *fixture, unsigned many)
{
    struct store_batch *batch = store_batch_new();
    put(fixture, batch, "a", 1, "one", true);
    put(fixture, batch, "b", 2, "two2", true);
    put(fixture, batch, "c", 3, "three", false);
    put(fixture, batch, "!d", 4, "four", false);
    put(fixture, batch, "zbad", 0, "x", true);
    for (unsigned i = 0; i < many; i++) {
        char key[16];
        snprintf(key, sizeof key, "m%05u", i);
        put(fixture, batch, key, 5, key, true);
    }
    assert_int_equal(store_write(fixture->store, batch, bytes_text("state")), OK);
    store_batch_free(batch);
}

static int setup_many(void **state, unsigned many)
{
    struct fixture *fixture = mem_zalloc(sizeof *fixture);
    current = fixture;
    fixture->directory = test_mkdir();
    fixture->store_directory = mem_format("%s/store", fixture->directory);
    fixture->cache = store_cache_open(16 * MIB);
    open_store(fixture);
    fill(fixture, many);
    close_store(fixture);
    // Nothing of what was written is in memory any more.
    store_cache_close(fixture->cache);
    fixture->cache = store_cache_open(16 * MIB);
    open_store(fixture);
    assert_int_equal(readers_open(&fixture->readers, 2), OK);
    fixture->role = (struct role){.decode = decode, .fetch = fetch};
    fixture->instance.role = &fixture->role;
    fixture->instance.name = "test";
    fixture->instance.metrics = &fixture->metrics;
    fixture->instance.store = fixture->store;
    atomic_store(&fixture->view.references, 1);
    *state = fixture;
    return 0;
}

static int setup(void **state) { return setup_many(state, 3000); }
static int setup_slices(void **state) { return setup_many(state, 25000); }

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(atomic_load(&fixture->view.references), 1);
    readers_close(fixture->readers);
    close_store(fixture);
    store_cache_close(fixture->cache);
    test_rmdir(fixture->store_directory);
    test_rmdir(fixture->directory);
    mem_free(fixture);
    return 0;
}

// ---- running one read on a loop ----------------------------------------------------------------

static void finished(struct fixture *fixture)
{
    assert_false(fixture->done);
    fixture->done = true;
    fixture->inline_done = !fixture->started;
    loop_stop(fixture->loop);
}

static void read_finished(struct read *read)
{
    assert_ptr_equal(read, current->read);
    finished(current);
}

static void range_finished(struct range_read *range)
{
    assert_ptr_equal(range, current->range);
    finished(current);
}

static void start(struct task *task)
{
    struct fixture *fixture = CONTAINER_OF(task, struct fixture, start);
    fixture->started = false;
    if (fixture->range != NULL) {
        range_start(fixture->range);
    } else {
        read_start(fixture->read);
    }
    fixture->started = true;
}

static void run(struct fixture *fixture, struct read *read, struct range_read *range)
{
    const char *reason = NULL;
    assert_int_equal(loop_open(&fixture->loop, IO_EPOLL, 0, &reason), OK);
    struct read *base = range != NULL ? &range->read : read;
    base->instance = &fixture->instance;
    base->readers = fixture->readers;
    base->loop = fixture->loop;
    base->view = view_hold(&fixture->view);
    fixture->read = read;
    fixture->range = range;
    fixture->done = false;
    fixture->start.run = start;
    loop_post(fixture->loop, &fixture->start);
    loop_run(fixture->loop);
    assert_true(fixture->done);
    loop_close(fixture->loop);
}

static void run_read(struct fixture *fixture, struct read *read, struct lookup *lookups,
                     const char *const *keys, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        lookups[i] = (struct lookup){.key = bytes_text(keys[i])};
    }
    read->lookups = lookups;
    read->count = count;
    read->done = read_finished;
    run(fixture, read, NULL);
}

static void expect_found(const struct lookup *lookup, uint64_t version, const char *value)
{
    assert_int_equal(lookup->status, OK);
    assert_int_equal(lookup->record.version, version);
    assert_true(bytes_equal_text(lookup->record.value, value));
}

// ---- reads -------------------------------------------------------------------------------------

static void test_pooled_then_inline(void **state)
{
    struct fixture *fixture = *state;
    // Opening the store reads its first rows, so these are from further behind.
    static const char *const keys[] = {"m01000", "nosuch", "m02000", "m01000"};
    for (unsigned round = 0; round < 2; round++) {
        struct read read = {.values = true};
        struct lookup lookups[4];
        run_read(fixture, &read, lookups, keys, 4);
        assert_int_equal(fixture->inline_done, round == 1);
        expect_found(&lookups[0], 5, "m01000");
        assert_int_equal(lookups[1].status, ERR_NOT_FOUND);
        expect_found(&lookups[2], 5, "m02000");
        expect_found(&lookups[3], 5, "m01000");
        read_release(&read);
        assert_null(read.view);
    }
    assert_int_equal(METRIC_GET(&fixture->metrics, instance, reads), 8);
    assert_int_equal(METRIC_GET(&fixture->metrics, instance, reads_absent), 2);
    assert_true(METRIC_GET(&fixture->metrics, instance, reads_pooled) >= 3);
}

static void test_missing(void **state)
{
    struct fixture *fixture = *state;
    static const char *const keys[] = {"a", "c", "!d", "nosuch"};
    struct read read = {.values = true};
    struct lookup lookups[4];
    run_read(fixture, &read, lookups, keys, 4);
    expect_found(&lookups[0], 1, "one");
    expect_found(&lookups[1], 3, "fffff");
    assert_int_equal(lookups[2].status, ERR_UNAVAILABLE);
    assert_int_equal(lookups[3].status, ERR_NOT_FOUND);
    assert_int_equal(fixture->fetches, 2);
    read_release(&read);
    // Facts need no values.
    struct read facts = {.values = false, .reply_limit = 1};
    run_read(fixture, &facts, lookups, keys, 4);
    assert_int_equal(lookups[1].status, OK);
    assert_int_equal(lookups[1].record.length, 5);
    assert_int_equal(fixture->fetches, 2);
    read_release(&facts);
    // A role that holds every value has lost one.
    fixture->role.fetch = NULL;
    struct read lost = {.values = true};
    run_read(fixture, &lost, lookups, keys, 2);
    expect_found(&lookups[0], 1, "one");
    assert_int_equal(lookups[1].status, ERR_CORRUPT);
    assert_int_equal(METRIC_GET(&fixture->metrics, instance, reads_corrupt), 1);
    read_release(&lost);
}

static void test_limit_before_fetch(void **state)
{
    struct fixture *fixture = *state;
    static const char *const keys[] = {"a", "c", "nosuch"};
    struct lookup lookups[3];
    struct read over = {.values = true, .reply_limit = 7};
    run_read(fixture, &over, lookups, keys, 3);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(lookups[i].status, ERR_REPLY_SIZE);
    }
    assert_int_equal(fixture->fetches, 0);
    read_release(&over);
    struct read exact = {.values = true, .reply_limit = 8};
    run_read(fixture, &exact, lookups, keys, 3);
    expect_found(&lookups[1], 3, "fffff");
    read_release(&exact);
}

static void test_damaged_row(void **state)
{
    struct fixture *fixture = *state;
    static const char *const keys[] = {"zbad", "a"};
    struct lookup lookups[2];
    struct read read = {.values = true};
    run_read(fixture, &read, lookups, keys, 2);
    assert_int_equal(lookups[0].status, ERR_CORRUPT);
    expect_found(&lookups[1], 1, "one");
    assert_int_equal(METRIC_GET(&fixture->metrics, instance, reads_corrupt), 1);
    assert_true(atomic_load(&fixture->instance.doubted));
    read_release(&read);
}

static void test_many_keys(void **state)
{
    struct fixture *fixture = *state;
    enum { COUNT = 3000 };
    static char texts[COUNT][16];
    const char **keys = mem_alloc(COUNT * sizeof *keys);
    struct lookup *lookups = mem_zalloc(COUNT * sizeof *lookups);
    for (unsigned i = 0; i < COUNT; i++) {
        snprintf(texts[i], sizeof texts[i], "m%05u", i);
        keys[i] = texts[i];
    }
    struct read read = {.values = true};
    run_read(fixture, &read, lookups, keys, COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        expect_found(&lookups[i], 5, texts[i]);
    }
    read_release(&read);
    mem_free(lookups);
    mem_free(keys);
}

// ---- ranges ------------------------------------------------------------------------------------

static void run_range(struct fixture *fixture, struct range_read *range)
{
    range->done = range_finished;
    run(fixture, NULL, range);
    assert_false(fixture->inline_done);
}

static void test_range(void **state)
{
    struct fixture *fixture = *state;
    struct range_read range = {
        .read.values = true, .start = bytes_text("b"), .end = bytes_text("d"), .limit = 10};
    run_range(fixture, &range);
    assert_int_equal(range.status, OK);
    assert_int_equal(range.read.count, 2);
    assert_false(range.more);
    assert_true(bytes_equal_text(range.read.lookups[0].key, "b"));
    expect_found(&range.read.lookups[0], 2, "two2");
    expect_found(&range.read.lookups[1], 3, "fffff");
    range_release(&range);
    // Cut by the limit: the next key is where to go on.
    struct range_read cut = {.start = bytes_text("a"), .limit = 2};
    run_range(fixture, &cut);
    assert_int_equal(cut.read.count, 2);
    assert_true(cut.more && bytes_equal_text(cut.next, "c"));
    range_release(&cut);
    struct range_read none = {.start = bytes_text("d"), .end = bytes_text("c"), .limit = 2};
    run_range(fixture, &none);
    assert_true(none.status == OK && none.read.count == 0 && !none.more);
    range_release(&none);
}

// More keys than one slice: they come in order, once each, and a damaged row keeps its key.
static void test_slices(void **state)
{
    struct fixture *fixture = *state;
    struct range_read range = {.limit = UINT64_MAX};
    run_range(fixture, &range);
    assert_int_equal(range.read.count, 25005);
    for (unsigned i = 1; i < range.read.count; i++) {
        assert_true(bytes_compare(range.read.lookups[i - 1].key, range.read.lookups[i].key) < 0);
    }
    assert_int_equal(range.read.lookups[25004].status, ERR_CORRUPT);
    range_release(&range);
    struct range_read match = {.limit = UINT64_MAX, .match = bytes_text("m*999")};
    run_range(fixture, &match);
    assert_int_equal(match.read.count, 25);
    range_release(&match);
}

static void test_visited(void **state)
{
    struct fixture *fixture = *state;
    struct range_read range = {.limit = UINT64_MAX, .match = bytes_text("c"), .visited_max = 3};
    run_range(fixture, &range);
    assert_int_equal(range.read.count, 0); // !d a b
    assert_true(range.more && bytes_equal_text(range.next, "c"));
    range_release(&range);
}

static void test_range_limit(void **state)
{
    struct fixture *fixture = *state;
    struct range_read over = {.read.values = true, .limit = UINT64_MAX, .read.reply_limit = 1000};
    run_range(fixture, &over);
    assert_int_equal(over.status, ERR_REPLY_SIZE);
    assert_int_equal(fixture->fetches, 0);
    range_release(&over);
    // A page may end early, but never without a step.
    struct range_read page = {.limit = UINT64_MAX, .visited_max = 100000, .read.reply_limit = 1000};
    run_range(fixture, &page);
    assert_int_equal(page.status, OK);
    assert_true(page.more && page.read.count > 0 && page.read.count < 40);
    range_release(&page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pooled_then_inline, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limit_before_fetch, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_row, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_keys, setup, teardown),
        cmocka_unit_test_setup_teardown(test_range, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slices, setup_slices, teardown),
        cmocka_unit_test_setup_teardown(test_visited, setup, teardown),
        cmocka_unit_test_setup_teardown(test_range_limit, setup, teardown)};
    return cmocka_run_group_tests_name("read", tests, NULL, NULL);
}
