// SPDX-License-Identifier: Apache-2.0
// Files that are written whole, and what comes back of them; a disk that takes a few bytes at a
// time, and one that is full in the middle.
#include <errno.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common/base/file.h"
#include "tests/unit/support.h"

static size_t at_most; // bytes that one write takes, 0 = any
static size_t room;    // bytes until the disk is full
static unsigned synced;

// In place of the C library's.
ssize_t write(int fd, const void *data, size_t size)
{
    if (at_most > 0) {
        size = size < at_most ? size : at_most;
        size = size < room ? size : room;
        room -= size;
        if (size == 0) {
            errno = ENOSPC;
            return -1;
        }
    }
    return syscall(SYS_write, fd, data, size);
}

int fsync(int fd)
{
    struct stat info;
    synced += fstat(fd, &info) == 0 && S_ISDIR(info.st_mode) ? 1 : 100;
    return (int)syscall(SYS_fsync, fd);
}

static void test_whole(void **unused)
{
    (void)unused;
    char *directory = test_mkdir();
    char *path = mem_format("%s/FILE", directory);
    uint8_t read[8];
    size_t size = 77;
    assert_int_equal(file_load(path, read, sizeof read, &size), ERR_NOT_FOUND);
    assert_int_equal(size, 77);
    synced = 0;
    assert_int_equal(file_save(path, bytes_text("content")), OK);
    assert_int_equal(synced, 101); // the file, then its name
    assert_int_equal(file_load(path, read, sizeof read, &size), OK);
    assert_int_equal(size, 7);
    assert_memory_equal(read, "content", 7);
    assert_int_equal(file_load(path, read, 7, &size), OK);
    assert_int_equal(file_load(path, read, 6, &size), ERR_CORRUPT);
    at_most = 2;
    room = 100;
    assert_int_equal(file_save(path, bytes_text("in parts")), OK);
    room = 3;
    assert_int_equal(file_save(path, bytes_text("too much")), ERR_DISK_FULL);
    at_most = 0;
    assert_int_equal(file_load(path, read, sizeof read, &size), OK);
    assert_memory_equal(read, "in parts", 8);
    // A disk may keep both names of a rename.
    char *left = mem_format("%s.new", path);
    assert_int_equal(unlink(left), 0);
    assert_int_equal(link(path, left), 0);
    at_most = 1;
    room = 0;
    assert_int_equal(file_save(path, bytes_text("none")), ERR_DISK_FULL);
    at_most = 0;
    assert_int_equal(file_load(path, read, sizeof read, &size), OK);
    assert_int_equal(size, 8);
    mem_free(left);
    char *nowhere = mem_format("%s/none/FILE", directory);
    assert_int_equal(file_save(nowhere, bytes_text("x")), ERR_IO);
    assert_int_equal(file_sync_directory(nowhere), ERR_IO);
    mem_free(nowhere);
    mem_free(path);
    test_rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
