// SPDX-License-Identifier: Apache-2.0
// A walk as of an earlier index over a store with a damaged file: it says so, and never passes over
// a key because its row cannot be read.
#include "tests/unit/store_fixture.h"

#include "replica/mvcc_walk.h"
#include "replica/record.h"

#define KEYS 1000
#define VALUE_BYTES 2000
#define OLD 2   // every other key's version
#define NEW 9   // of the others; at AT they had OLD, as a history row says
#define AT 5

static struct bytes name_of(uint64_t number, uint8_t to[8])
{
    store_u64_be(to, number);
    return bytes_of(to, 8);
}

static void put_record(struct fixture *fixture, unsigned family, struct bytes key,
                       uint64_t version, struct bytes value)
{
    uint8_t head[REPLICA_RECORD_HEAD_MAX];
    const struct bytes row[2] = {bytes_of(head, replica_record_head(head, version, value)), value};
    const struct bytes keys[2] = {key, bytes_of(NULL, 0)};
    store_batch_put_parts(fixture->batch, fixture->store, family, keys, row);
}

// The default family's file is by far the larger.
static void fill(struct fixture *fixture)
{
    uint8_t value[VALUE_BYTES];
    uint64_t seed = 3;
    for (uint64_t i = 0; i < KEYS; i++) {
        uint8_t name[8], row_key[MVCC_KEY_MAX];
        struct bytes key = name_of(i, name);
        for (size_t j = 0; j < sizeof value; j++) {
            value[j] = (uint8_t)test_random(&seed);
        }
        put_record(fixture, REPLICA_DEFAULT, key, i % 2 == 0 ? OLD : NEW,
                   bytes_of(value, sizeof value));
        if (i % 2 != 0) {
            put_record(fixture, REPLICA_MVCC, bytes_of(row_key, mvcc_key(row_key, key, NEW - 1)),
                       OLD, bytes_text("old"));
        }
    }
    write_state(fixture, "state");
}

static void damage(const struct fixture *fixture)
{
    struct test_files *files = test_load(fixture->directory);
    for (size_t i = 0; i < files->count; i++) {
        if (strstr(files->names[i], ".sst") != NULL && files->contents[i].size > MIB) {
            test_flip(fixture->directory, files->names[i], files->contents[i].size / 2, 3);
        }
    }
    test_files_free(files);
}

struct walked {
    uint64_t seen;
    uint64_t stop_after;
    uint64_t wrong; // not the key after the one before, or not as it was
};

static bool take_row(void *argument, struct bytes key, int status, const struct record *record)
{
    struct walked *walked = argument;
    uint8_t name[8];
    bool next = bytes_equal(key, name_of(walked->seen, name));
    walked->wrong += next && status == OK && record->version == OLD ? 0 : 1;
    walked->seen++;
    return walked->seen < walked->stop_after;
}

static int walk_until(const struct fixture *fixture, struct walked *walked)
{
    const struct role_range all = {0};
    return mvcc_walk(fixture->store, NULL, AT, &all, take_row, walked);
}

static void test_damaged_file(void **state)
{
    struct fixture *fixture = *state;
    fill(fixture);
    struct walked whole = {.stop_after = UINT64_MAX};
    assert_int_equal(walk_until(fixture, &whole), OK);
    assert_int_equal(whole.seen, KEYS);
    assert_int_equal(whole.wrong, 0);
    fixture_close(fixture); // what it has cached would hide the damage
    damage(fixture);
    assert_int_equal(fixture_open(fixture), OK);
    // However early the caller stops, behind the damage there is nothing to be had.
    uint64_t sound = 0;
    for (uint64_t count = 1; count < KEYS; count++) {
        struct walked walked = {.stop_after = count};
        if (walk_until(fixture, &walked) == OK) {
            assert_int_equal(walked.wrong, 0);
            sound++;
        }
    }
    assert_in_range(sound, 1, KEYS - 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_damaged_file, setup, teardown),
    };
    return cmocka_run_group_tests_name("mvcc_walk", tests, NULL, NULL);
}
