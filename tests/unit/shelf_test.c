// SPDX-License-Identifier: Apache-2.0
// The file STORES: what a start takes as the store in use, and what it removes.
#include "tests/unit/support.h"

#include <sys/stat.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/shelf.h"

static char *directory;

static void make(const char *store)
{
    char *path = mem_format("%s/%s", directory, store);
    assert_int_equal(mkdir(path, 0700), 0);
    mem_free(path);
}

// True: it was there, and is no longer.
static bool take_away(const char *store)
{
    char *path = mem_format("%s/%s", directory, store);
    bool was = rmdir(path) == 0;
    mem_free(path);
    return was;
}

static void forget(void)
{
    char *path = mem_format("%s/STORES", directory);
    (void)unlink(path);
    mem_free(path);
}

static void test_file(void **state)
{
    (void)state;
    struct shelf shelf;
    assert_int_equal(shelf_open(&shelf, directory, "test"), OK);
    assert_int_equal(shelf.serving, 0);
    make("store");
    make("store-3");
    make("store-4");
    make("store-05"); // nobody's
    assert_int_equal(shelf_set(&shelf, 3, 4), OK);
    assert_int_equal(shelf_open(&shelf, directory, "test"), OK);
    assert_true(shelf.serving == 3 && shelf.building == 4);
    assert_false(take_away("store")); // a leftover
    assert_true(take_away("store-3") && take_away("store-4") && take_away("store-05"));
    forget();
}

// One store alone is the one in use; of several nobody can tell, and nothing is removed.
static void test_lost_file(void **state)
{
    (void)state;
    struct shelf shelf;
    make("store-3");
    assert_int_equal(shelf_open(&shelf, directory, "test"), OK);
    assert_true(shelf.serving == 3 && shelf.building == 0);
    make("store");
    assert_int_equal(shelf_open(&shelf, directory, "test"), ERR_CORRUPT);
    assert_true(take_away("store-3") && take_away("store"));
}

static void test_damaged_file(void **state)
{
    (void)state;
    struct shelf shelf = {.directory = directory, .scope = "test"};
    make("store-3");
    assert_int_equal(shelf_set(&shelf, 3, 0), OK);
    char *path = mem_format("%s/STORES", directory);
    assert_int_equal(file_save(path, bytes_text("qs stores, format 1\nserving 4\n")), OK);
    mem_free(path);
    assert_int_equal(shelf_open(&shelf, directory, "test"), ERR_CORRUPT);
    assert_true(take_away("store-3"));
    forget();
}

int main(void)
{
    log_open(LOG_ERROR + 1);
    directory = test_mkdir();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_lost_file),
        cmocka_unit_test(test_damaged_file),
    };
    int failures = cmocka_run_group_tests(tests, NULL, NULL);
    test_rmdir(directory);
    return failures;
}
