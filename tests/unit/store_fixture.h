// SPDX-License-Identifier: Apache-2.0
// What the tests of the store share: an open store with two families in a directory of its own,
// and short forms of what is done with it. Everything fails the running test by itself.
#ifndef QS_TESTS_UNIT_STORE_FIXTURE_H
#define QS_TESTS_UNIT_STORE_FIXTURE_H

#include "tests/unit/support.h"

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/store.h"

#define SMALL_MEMTABLE (64 * KIB) // the least that RocksDB takes
#define LARGE_MEMTABLE (8 * MIB)

struct fixture {
    char *parent;
    char *directory;
    uint64_t memtable_bytes;
    unsigned families;
    const struct store_filter *filters[2];
    struct store_cache *cache;
    bool tiny_cache, pin_index;
    struct store *store;
    struct store_batch *batch;
};

SUPPORT int fixture_open(struct fixture *fixture)
{
    fixture->cache = store_cache_open(fixture->tiny_cache ? 1 : 16 * MIB);
    struct store_options options = {
        .directory = fixture->directory,
        .scope = "test",
        .families = {"default", "mvcc"},
        .filters = {fixture->filters[0], fixture->filters[1]},
        .family_count = fixture->families,
        .cache = fixture->cache,
        .pin_index = fixture->pin_index,
        .memtable_bytes = fixture->memtable_bytes,
    };
    fixture->batch = store_batch_new();
    fixture->store = NULL;
    return store_open(&fixture->store, &options);
}

SUPPORT void fixture_close(struct fixture *fixture)
{
    store_batch_free(fixture->batch);
    store_close(fixture->store);
    store_cache_close(fixture->cache); // cold at the next open
}

SUPPORT void fixture_reopen(struct fixture *fixture)
{
    fixture_close(fixture);
    assert_int_equal(fixture_open(fixture), OK);
}

SUPPORT int setup(void **state)
{
    struct fixture *fixture = mem_zalloc(sizeof *fixture);
    fixture->parent = test_mkdir();
    fixture->directory = mem_format("%s/store", fixture->parent);
    fixture->memtable_bytes = LARGE_MEMTABLE;
    fixture->families = 2;
    *state = fixture;
    return fixture_open(fixture);
}

SUPPORT int teardown(void **state)
{
    struct fixture *fixture = *state;
    fixture_close(fixture);
    test_rmdir(fixture->directory);
    int code = rmdir(fixture->parent); // fails when something was left beside the store
    mem_free(fixture->parent);
    mem_free(fixture);
    return code;
}

SUPPORT void put(struct fixture *fixture, unsigned family, const char *key, const char *value)
{
    store_batch_put(fixture->batch, fixture->store, family, bytes_text(key), bytes_text(value));
}

SUPPORT void write_state(struct fixture *fixture, const char *state)
{
    assert_int_equal(store_write(fixture->store, fixture->batch, bytes_text(state)), OK);
    store_batch_clear(fixture->batch);
}

SUPPORT void expect(struct fixture *fixture, const struct store_snapshot *snapshot, unsigned family,
                   const char *key, enum store_tier tier, const char *value)
{
    struct store_value got = {0};
    int error = store_get(fixture->store, snapshot, family, bytes_text(key), tier, &got);
    if (value == NULL) {
        assert_int_equal(error, ERR_NOT_FOUND);
        assert_null(got.pin);
        return;
    }
    assert_int_equal(error, OK);
    assert_true(bytes_equal_text(got.data, value));
    store_value_release(&got);
}

SUPPORT void expect_state(struct fixture *fixture, enum store_tier tier, const char *state)
{
    struct store_value got = {0};
    int error = store_state(fixture->store, tier, &got);
    if (state == NULL) {
        assert_int_equal(error, ERR_NOT_FOUND);
        return;
    }
    assert_int_equal(error, OK);
    assert_true(bytes_equal_text(got.data, state));
    store_value_release(&got);
}

#endif
