// SPDX-License-Identifier: Apache-2.0
// What a journal finds when it opens may be in the page cache only, left by a process that was
// killed. It will be shown and sent on, so opening must put it on the disk first: the file with its
// blocks, and the directory with the file's name.
#include <errno.h>
#include <unistd.h>

#include <sys/stat.h>
#include <sys/syscall.h>

#include "common/data/journal.h"
#include "tests/unit/support.h"

static unsigned files_synced;
static unsigned directories_synced;
static bool refuses; // the next one of a file

// In place of the C library's: they count what they do.
int fdatasync(int fd)
{
    files_synced++;
    if (refuses) {
        refuses = false;
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    struct stat info;
    bool directory = fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
    directories_synced += directory ? 1 : 0;
    return (int)syscall(SYS_fsync, fd);
}

static void test_found_is_synced(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    uint64_t state = 1;
    struct journal *journal = test_journal(path, MIB, true, (struct journal_place){0}, OK, NULL);
    assert_int_equal(journal_begin(journal, test_history), OK);
    test_fill(journal, &state, 3, 100);
    journal_close(journal);

    files_synced = directories_synced = 0;
    journal = test_journal(path, MIB, true, (struct journal_place){0}, OK, NULL);
    assert_int_equal(journal_end(journal).number, 3);
    assert_true(files_synced > 0);
    assert_true(directories_synced > 0);
    journal_close(journal);
    test_rmdir(path);
}

// That a segment exists is proof that all before it is on the disk, so its beginning syncs the one
// before; and the directory, so that it is found again.
static void test_rotation_syncs(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    uint64_t state = 2;
    struct block_builder builder;
    builder_open(&builder);
    struct journal *journal = test_journal(path, KIB, true, (struct journal_place){0}, OK, NULL);
    assert_int_equal(journal_begin(journal, test_history), OK);
    files_synced = directories_synced = 0;
    for (unsigned i = 0; i < 20; i++) {
        struct block *block = test_block(&builder, journal_last(journal), &state, 500);
        assert_int_equal(journal_append(journal, block), OK);
        block_release(block);
    }
    struct test_files *files = test_load(path);
    assert_true(files->count > 2);
    assert_true(files_synced >= files->count - 1 && directories_synced >= files->count - 1);
    test_files_free(files);
    builder_close(&builder);
    journal_close(journal);
    test_rmdir(path);
}

// What a refused sync leaves on the disk is not known, and a second one would say "all well": the
// disk is not asked again, and the journal takes nothing more.
static void test_refused_sync_is_final(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    uint64_t state = 3;
    struct block_builder builder;
    builder_open(&builder);
    struct journal *journal = test_journal(path, MIB, true, (struct journal_place){0}, OK, NULL);
    assert_int_equal(journal_begin(journal, test_history), OK);
    struct block *block = test_block(&builder, journal_last(journal), &state, 500);
    assert_int_equal(journal_append(journal, block), OK);
    block_release(block);
    refuses = true;
    assert_int_equal(journal_sync(journal), ERR_IO);
    assert_false(refuses);
    files_synced = 0;
    assert_int_equal(journal_sync(journal), ERR_IO);
    block = test_block(&builder, journal_last(journal), &state, 500);
    assert_int_equal(journal_append(journal, block), ERR_IO);
    block_release(block);
    assert_int_equal(files_synced, 0);
    builder_close(&builder);
    journal_close(journal);
    test_rmdir(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_found_is_synced),
                                       cmocka_unit_test(test_rotation_syncs),
                                       cmocka_unit_test(test_refused_sync_is_final)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
