// SPDX-License-Identifier: Apache-2.0
// Memory that is shared with other processes: what can be done to it from outside.
#include "tests/unit/support.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include "common/shared/incarnation.h"
#include "common/shared/layout.h"
#include "common/shared/region.h"

static void test_region(void **state)
{
    (void)state;
    struct region made, mapped, marks;
    assert_int_equal(region_create(&made, REGION_READ, 8192), OK);
    assert_int_equal(region_map(&mapped, REGION_READ, made.fd, 4096), OK);
    struct stat info;
    assert_int_equal(fstat(made.fd, &info), 0);
    assert_true(info.st_blocks * 512 >= 8192); // no reader is the first to touch a page
    ((char *)made.memory)[8191] = 'x';
    assert_int_equal(((char *)mapped.memory)[8191], 'x');
    // Whoever has the descriptor can neither write nor take memory away.
    assert_int_not_equal(ftruncate(made.fd, 4096), 0);
    assert_int_not_equal(ftruncate(made.fd, 16384), 0);
    assert_int_equal(pwrite(made.fd, "y", 1, 0), -1);
    assert_ptr_equal(mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, made.fd, 0), MAP_FAILED);
    assert_int_not_equal(mprotect(mapped.memory, 8192, PROT_READ | PROT_WRITE), 0);
    assert_int_not_equal(fcntl(made.fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    region_close(&mapped);
    assert_int_equal(region_create(&marks, REGION_WRITE, 4096), OK);
    assert_int_equal(region_map(&mapped, REGION_WRITE, marks.fd, 4096), OK);
    ((char *)mapped.memory)[1] = 'z';
    assert_int_equal(((char *)marks.memory)[1], 'z');
    assert_int_not_equal(ftruncate(marks.fd, 1), 0);
    region_close(&mapped);
    region_close(&marks);
    region_close(&made);
}

// Whether or not the machine has huge pages: it goes on to the last whole one, and nothing changes
// under those who read.
static void test_fold(void **state)
{
    (void)state;
    const size_t bytes = 7 * MIB + 12345, step = 2 * MIB;
    struct region made, mapped;
    assert_int_equal(region_create(&made, REGION_READ, bytes), OK);
    assert_int_equal(region_map(&mapped, REGION_READ, made.fd, bytes), OK);
    assert_int_equal((uintptr_t)mapped.memory % step, 0);
    for (size_t at = 0; at < bytes; at += 997) {
        ((uint8_t *)made.memory)[at] = (uint8_t)(at >> 4);
    }
    size_t done = 0, before;
    unsigned steps = 0;
    do {
        before = done;
        done = region_fold(&made, done, step);
        steps += done > before;
        for (size_t at = 0; at < bytes; at += 997) {
            assert_int_equal(((uint8_t *)mapped.memory)[at], (uint8_t)(at >> 4));
        }
    } while (done > before);
    assert_int_equal(steps, 3);
    assert_int_equal(done, 6 * MIB);
    assert_int_equal(region_fold(&made, 0, SIZE_MAX), 6 * MIB);
    region_close(&mapped);
    region_close(&made);
}

static void test_region_of_others(void **state)
{
    (void)state;
    struct region mapped, made;
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    assert_int_equal(ftruncate(fd, 4096), 0);
    assert_int_equal(region_map(&mapped, REGION_READ, fd, 1), ERR_PROTOCOL); // it may shrink
    close(fd);
    assert_int_equal(region_create(&made, REGION_READ, 4096), OK);
    assert_int_equal(region_map(&mapped, REGION_READ, made.fd, 4097), ERR_PROTOCOL);
    region_close(&made);
    int pipes[2];
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(region_map(&mapped, REGION_READ, pipes[0], 0), ERR_PROTOCOL);
    close(pipes[0]);
    close(pipes[1]);
}

static uint64_t number_in(int fd)
{
    struct incarnation_page page;
    assert_int_equal(pread(fd, (void *)&page, sizeof page, 0), sizeof page);
    assert_int_equal(page.magic, INCARNATION_MAGIC);
    return atomic_load(&page.number);
}

static void test_incarnation(void **state)
{
    (void)state;
    char *directory = test_mkdir();
    struct incarnation first, second;
    assert_int_equal(incarnation_raise(&first, directory, false), ERR_NOT_FOUND);
    assert_int_equal(incarnation_raise(&first, directory, true), OK);
    assert_int_equal(number_in(first.fd), first.number);
    // The next start, by whatever configuration.
    assert_int_equal(incarnation_raise(&second, directory, false), OK);
    assert_int_equal(second.fd, -1);
    assert_int_equal(number_in(first.fd), second.number);
    assert_int_not_equal(first.number, second.number);
    assert_int_equal(pwrite(first.fd, "x", 1, 0), -1);
    // What begins anew is not taken for what was there.
    char *path = mem_format("%s/incarnation", directory);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(truncate(path, 0), 0);
        assert_int_equal(incarnation_raise(&second, directory, false), OK);
        assert_int_not_equal(first.number, second.number);
    }
    mem_free(path);
    incarnation_close(&first);
    test_rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_region),
        cmocka_unit_test(test_fold),
        cmocka_unit_test(test_region_of_others),
        cmocka_unit_test(test_incarnation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
