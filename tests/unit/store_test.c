// SPDX-License-Identifier: Apache-2.0
// The store against the real RocksDB, one process, no faults: what is visible when, where, at
// which tier, to which snapshot, and that the state row never shows.
#include "tests/unit/store_fixture.h"

#include <rocksdb/c.h>

#include "common/base/clock.h"

#define BATCH_HEAD_BYTES 12 // a sequence number and a count; then come the rows
#define FAMILY_ROW_TAGS 4, 5 // deleted and put, in a family that is named by its number

static const struct bytes none;
static unsigned first_family; // of the last batch written

// Wrapped by the linker: the order of a batch's rows is seen nowhere else.
void __real_rocksdb_write(rocksdb_t *db, const rocksdb_writeoptions_t *options,
                          rocksdb_writebatch_t *batch, char **ret_text);
void __wrap_rocksdb_write(rocksdb_t *db, const rocksdb_writeoptions_t *options,
                          rocksdb_writebatch_t *batch, char **ret_text);
void __wrap_rocksdb_write(rocksdb_t *db, const rocksdb_writeoptions_t *options,
                          rocksdb_writebatch_t *batch, char **ret_text)
{
    static const char tags[] = {FAMILY_ROW_TAGS};
    size_t size;
    const char *data = rocksdb_writebatch_data(batch, &size);
    assert_true(size > BATCH_HEAD_BYTES + 1);
    bool named = memchr(tags, data[BATCH_HEAD_BYTES], sizeof tags) != NULL;
    first_family = named ? (unsigned)data[BATCH_HEAD_BYTES + 1] : 0;
    __real_rocksdb_write(db, options, batch, ret_text);
}

static void test_reads_and_writes(void **state)
{
    struct fixture *fixture = *state;
    expect_state(fixture, STORE_ANY, NULL);
    expect_state(fixture, STORE_PERSISTED, NULL);
    expect(fixture, NULL, 0, "a", STORE_ANY, NULL);
    put(fixture, 0, "a", "1");
    put(fixture, 1, "a", "other family");
    put(fixture, 0, "empty", "");
    write_state(fixture, "s1");
    expect(fixture, NULL, 0, "a", STORE_ANY, "1");
    expect(fixture, NULL, 0, "a", STORE_CACHED, "1");
    expect(fixture, NULL, 1, "a", STORE_ANY, "other family");
    expect(fixture, NULL, 0, "empty", STORE_ANY, "");
    expect(fixture, NULL, 1, "empty", STORE_ANY, NULL);
    store_batch_delete(fixture->batch, fixture->store, 0, bytes_text("a"));
    store_batch_delete(fixture->batch, fixture->store, 0, bytes_text("never there"));
    write_state(fixture, "s2");
    expect(fixture, NULL, 0, "a", STORE_ANY, NULL);
    expect(fixture, NULL, 1, "a", STORE_ANY, "other family");
    expect_state(fixture, STORE_CACHED, "s2");
    fixture_reopen(fixture);
    expect(fixture, NULL, 0, "a", STORE_ANY, NULL);
    expect(fixture, NULL, 1, "a", STORE_ANY, "other family");
    expect_state(fixture, STORE_ANY, "s2");
    expect_state(fixture, STORE_PERSISTED, "s2");
}

static void test_batches(void **state)
{
    struct fixture *fixture = *state;
    size_t empty_size = store_batch_bytes(fixture->batch);
    struct bytes key[2] = {bytes_text("ke"), bytes_text("y")};
    struct bytes value[2] = {bytes_text("val"), bytes_text("ue")};
    store_batch_put_parts(fixture->batch, fixture->store, 0, key, value);
    struct bytes half[2] = {none, bytes_text("half")};
    struct bytes nothing[2] = {none, none};
    store_batch_put_parts(fixture->batch, fixture->store, 1, half, nothing);
    size_t size = store_batch_bytes(fixture->batch);
    assert_in_range(size, empty_size + 12, empty_size + 64);
    assert_int_equal(store_write(fixture->store, fixture->batch, bytes_text("s")), OK);
    // What is written beside the caller's rows is not left in the batch.
    assert_int_equal(store_batch_bytes(fixture->batch), size);
    expect(fixture, NULL, 0, "key", STORE_ANY, "value");
    expect(fixture, NULL, 1, "half", STORE_ANY, "");
    store_batch_clear(fixture->batch);
    assert_int_equal(store_batch_bytes(fixture->batch), empty_size);
    put(fixture, 0, "twice", "first");
    put(fixture, 0, "twice", "second");
    write_state(fixture, "t");
    expect(fixture, NULL, 0, "twice", STORE_ANY, "second");
    write_state(fixture, "an empty batch moves the state");
    expect_state(fixture, STORE_ANY, "an empty batch moves the state");
}

static void test_persisted(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, 0, "a", "1");
    write_state(fixture, "s1");
    expect(fixture, NULL, 0, "a", STORE_PERSISTED, NULL);
    expect_state(fixture, STORE_PERSISTED, NULL);
    assert_int_equal(store_flush(fixture->store), OK);
    expect(fixture, NULL, 0, "a", STORE_PERSISTED, "1");
    expect_state(fixture, STORE_PERSISTED, "s1");
    put(fixture, 0, "a", "2");
    write_state(fixture, "s2");
    expect(fixture, NULL, 0, "a", STORE_PERSISTED, "1");
    expect(fixture, NULL, 0, "a", STORE_ANY, "2");
    expect_state(fixture, STORE_PERSISTED, "s1");
    expect_state(fixture, STORE_ANY, "s2");
    assert_int_equal(store_flush(fixture->store), OK);
    assert_int_equal(store_flush(fixture->store), OK); // nothing to do
    expect(fixture, NULL, 0, "a", STORE_PERSISTED, "2");
    expect_state(fixture, STORE_PERSISTED, "s2");
}

static void test_snapshots(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, 0, "a", "1");
    write_state(fixture, "s1");
    struct store_snapshot *first = store_snapshot(fixture->store);
    put(fixture, 0, "a", "2");
    put(fixture, 0, "b", "2");
    write_state(fixture, "s2");
    struct store_snapshot *second = store_snapshot(fixture->store);
    store_batch_delete(fixture->batch, fixture->store, 0, bytes_text("a"));
    write_state(fixture, "s3");
    assert_int_equal(store_flush(fixture->store), OK); // what snapshots see outlives a flush
    expect(fixture, first, 0, "a", STORE_ANY, "1");
    expect(fixture, first, 0, "b", STORE_ANY, NULL);
    expect(fixture, second, 0, "a", STORE_ANY, "2");
    expect(fixture, second, 0, "b", STORE_CACHED, "2");
    expect(fixture, NULL, 0, "a", STORE_ANY, NULL);
    struct store_iterator *rows = store_iterator_open(fixture->store, first, 0, none, none);
    store_iterator_seek(rows, none);
    assert_true(store_iterator_valid(rows));
    assert_true(bytes_equal_text(store_iterator_value(rows), "1"));
    store_iterator_next(rows);
    assert_false(store_iterator_valid(rows));
    store_iterator_close(rows);
    store_snapshot_release(fixture->store, second);
    store_snapshot_release(fixture->store, first);
}

// The keys from `seek` on within [lower, upper), in one word each.
static void expect_rows(struct fixture *fixture, struct bytes lower, struct bytes upper,
                        struct bytes seek, const char *keys)
{
    char found[64];
    size_t used = 0;
    struct store_iterator *rows = store_iterator_open(fixture->store, NULL, 0, lower, upper);
    assert_false(store_iterator_valid(rows));
    store_iterator_seek(rows, seek);
    while (store_iterator_valid(rows)) {
        struct bytes key = store_iterator_key(rows);
        assert_true(key.size > 0 && used + key.size < sizeof found);
        assert_true(bytes_equal(store_iterator_value(rows), key));
        memcpy(found + used, key.data, key.size);
        used += key.size;
        store_iterator_next(rows);
    }
    assert_int_equal(store_iterator_error(rows), OK);
    store_iterator_close(rows);
    found[used] = '\0';
    assert_string_equal(found, keys);
}

static void expect_all_rows(struct fixture *fixture)
{
    uint8_t zeros[2] = {0};
    expect_rows(fixture, none, none, none, "abbbcd");
    expect_rows(fixture, bytes_of(zeros, 1), none, none, "abbbcd");
    expect_rows(fixture, bytes_of(zeros, 2), none, bytes_of(zeros, 1), "abbbcd");
    expect_rows(fixture, bytes_text("b"), bytes_text("d"), none, "bbbc");
    expect_rows(fixture, bytes_text("b"), bytes_text("d"), bytes_text("a"), "bbbc");
    expect_rows(fixture, bytes_text("b"), bytes_text("d"), bytes_text("ba"), "bbc");
    expect_rows(fixture, bytes_text("b"), bytes_text("d"), bytes_text("d"), "");
    expect_rows(fixture, bytes_text("b"), bytes_text("d"), bytes_text("z"), "");
    expect_rows(fixture, bytes_text("bc"), none, bytes_text("c"), "cd");
    expect_rows(fixture, none, bytes_text("b"), none, "a");
    expect_rows(fixture, none, bytes_text("a"), none, "");
    expect_rows(fixture, none, bytes_of(zeros, 1), none, "");
    expect_rows(fixture, bytes_text("d"), bytes_text("b"), bytes_text("c"), "");
    expect_rows(fixture, bytes_text("b"), bytes_text("b"), none, "");
    expect_rows(fixture, bytes_text("x"), none, none, "");
}

static void test_iterators(void **state)
{
    struct fixture *fixture = *state;
    expect_rows(fixture, none, none, none, "");
    const char *const keys[] = {"d", "bb", "a", "c", "b"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        put(fixture, 0, keys[i], keys[i]);
    }
    put(fixture, 1, "aa", "of the other family");
    write_state(fixture, "s");
    expect_all_rows(fixture);
    assert_int_equal(store_flush(fixture->store), OK);
    expect_all_rows(fixture);
    write_state(fixture, "state rows in memtable and file");
    expect_all_rows(fixture);
    uint8_t zero = 0;
    store_batch_put(fixture->batch, fixture->store, 0, bytes_of(&zero, 1), bytes_of(&zero, 1));
    write_state(fixture, "s");
    struct store_iterator *rows = store_iterator_open(fixture->store, NULL, 0, none, none);
    store_iterator_seek(rows, none);
    assert_true(bytes_equal(store_iterator_key(rows), bytes_of(&zero, 1))); // the smallest key
    store_iterator_close(rows);
}

static void test_cold_cache(void **state)
{
    struct fixture *fixture = *state;
    char key[32], value[200];
    memset(value, 'v', sizeof value);
    for (unsigned i = 0; i < 2000; i++) {
        int length = snprintf(key, sizeof key, "key-%06u", i);
        store_batch_put(fixture->batch, fixture->store, 0, bytes_of(key, (size_t)length),
                        bytes_of(value, sizeof value));
    }
    write_state(fixture, "s");
    fixture_reopen(fixture);
    struct store_value got = {0};
    assert_int_equal(
        store_get(fixture->store, NULL, 0, bytes_text("key-000777"), STORE_CACHED, &got),
        ERR_INCOMPLETE);
    assert_null(got.pin);
    for (enum store_tier tier = STORE_ANY; tier <= STORE_PERSISTED; tier++) {
        int error = store_get(fixture->store, NULL, 0, bytes_text("key-000777"), tier, &got);
        assert_int_equal(error, OK);
        assert_true(bytes_equal(got.data, bytes_of(value, sizeof value)));
        store_value_release(&got);
    }
    // The filter is in memory now and answers alone.
    expect(fixture, NULL, 0, "no such key", STORE_CACHED, NULL);
}

// Filters that the cache has no room for are in memory all the same when they are pinned.
static void test_pinned(void **state)
{
    struct fixture *fixture = *state;
    uint8_t value[4096];
    fixture->memtable_bytes = 64 * KIB; // files that are not much larger are always pinned
    fixture_reopen(fixture);
    for (uint64_t i = 0; i < 128; i++) {
        random_fill(value, sizeof value);
        store_batch_put(fixture->batch, fixture->store, 0, bytes_of(&i, sizeof i),
                        bytes_of(value, sizeof value));
        write_state(fixture, "s");
    }
    put(fixture, 0, "a", "1");
    write_state(fixture, "s");
    assert_int_equal(store_compact(fixture->store, 0, none, none), OK);
    fixture->tiny_cache = true;
    struct store_value got = {0};
    for (int pinned = 0; pinned < 2; pinned++) {
        fixture->pin_index = pinned;
        fixture_reopen(fixture);
        assert_int_equal(
            store_get(fixture->store, NULL, 0, bytes_text("no such key"), STORE_CACHED, &got),
            pinned ? ERR_NOT_FOUND : ERR_INCOMPLETE);
        expect(fixture, NULL, 0, "a", STORE_ANY, "1");
    }
}

static void test_sizes(void **state)
{
    struct fixture *fixture = *state;
    struct store_sizes before, after;
    uint8_t value[4096];
    for (uint32_t i = 0; i < 512; i++) {
        random_fill(value, sizeof value);
        store_batch_put(fixture->batch, fixture->store, 0, bytes_of(&i, sizeof i),
                        bytes_of(value, sizeof value));
    }
    write_state(fixture, "s");
    store_sizes(fixture->store, &before);
    assert_int_equal(before.family_bytes[0], 0);
    assert_in_range(before.memtable_bytes, 2 * MIB, 6 * MIB);
    assert_int_equal(store_flush(fixture->store), OK);
    store_sizes(fixture->store, &after);
    assert_in_range(after.family_bytes[0], 2 * MIB, 3 * MIB);
    assert_in_range(after.family_bytes[1], 1, 16 * KIB); // its state row
    assert_true(after.memtable_bytes < before.memtable_bytes);
    assert_int_equal(after.pending_bytes, 0);
    assert_false(after.write_stopped);
}

static void test_open_fails(void **state)
{
    struct fixture *fixture = *state;
    struct fixture second = *fixture;
    log_open(LOG_ERROR + 1);
    assert_int_equal(fixture_open(&second), ERR_IO); // it is locked
    store_batch_free(second.batch);
    store_cache_close(second.cache);
    // A store that once had one family only has no state in the other.
    second.directory = mem_format("%s/second/", fixture->parent);
    second.families = 1;
    assert_int_equal(fixture_open(&second), OK);
    put(&second, 0, "a", "1");
    write_state(&second, "s");
    expect_state(&second, STORE_ANY, "s");
    fixture_close(&second);
    second.families = 2;
    assert_int_equal(fixture_open(&second), ERR_CORRUPT);
    log_open(LOG_INFO);
    store_batch_free(second.batch);
    store_cache_close(second.cache);
    test_empty(second.directory);
    assert_int_equal(rmdir(second.directory), 0);
    mem_free(second.directory);
}

static void test_left_over_flush(void **state)
{
    struct fixture *fixture = *state;
    static const char *const names[] = {"flush", "flush.tmp"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *path = mem_format("%s.%s", fixture->directory, names[i]);
        char *file = mem_format("%s/000001.sst", path);
        assert_int_equal(mkdir(path, 0700), 0);
        int fd = open(file, O_CREAT | O_WRONLY, 0600);
        assert_true(fd >= 0);
        close(fd);
        fixture_reopen(fixture);
        assert_int_not_equal(access(path, F_OK), 0);
        mem_free(path);
        mem_free(file);
    }
}

// A flush while a batch is written may leave out the families that the batch has not come to yet:
// `default`, which says how far the store has come, must be the one that is left out.
static void test_default_comes_last(void **state)
{
    struct fixture *fixture = *state;
    for (unsigned i = 0; i < 3; i++) {
        first_family = 0;
        if (i == 1) {
            put(fixture, 0, "a", "1");
        } else if (i == 2) {
            store_batch_delete(fixture->batch, fixture->store, 0, bytes_text("a"));
        }
        write_state(fixture, "s");
        assert_int_equal(first_family, 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_and_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_persisted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_iterators, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cold_cache, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pinned, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_left_over_flush, setup, teardown),
        cmocka_unit_test_setup_teardown(test_default_comes_last, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
