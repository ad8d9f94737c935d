// SPDX-License-Identifier: Apache-2.0
// A disk that refuses one of the durable steps of a change of stores: the step is taken again.
#include "tests/unit/build_fixture.h"

#include "common/core/space.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>

static _Atomic unsigned refusals; // of the directory whose shelf says that store 1 is in use

static _Atomic bool full; // a new place of the journal cannot be written

// In place of the C library's.
int openat(int fd, const char *path, int flags, ...)
{
    if (atomic_load(&full) && strcmp(path, "RESTART.qsj.tmp") == 0) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_openat, fd, path, flags, 0640);
}

static _Atomic bool scarce; // no space is left at all

int statvfs(const char *path, struct statvfs *ret_system)
{
    int fd = open(path, O_PATH | O_CLOEXEC);
    int code = fd >= 0 ? fstatvfs(fd, ret_system) : -1;
    if (fd >= 0) {
        close(fd);
    }
    if (code == 0 && atomic_load(&scarce)) {
        ret_system->f_bavail = 0;
    }
    return code;
}

static bool says_changed(int fd)
{
    char text[256] = "";
    int file = openat(fd, "STORES", O_RDONLY | O_CLOEXEC);
    ssize_t size = file >= 0 ? read(file, text, sizeof text - 1) : -1;
    if (file >= 0) {
        close(file);
    }
    return size > 0 && strstr(text, "serving 1\n") != NULL;
}

int fsync(int fd)
{
    struct stat info;
    if (atomic_load(&refusals) > 0 && fstat(fd, &info) == 0 && S_ISDIR(info.st_mode) &&
        says_changed(fd)) {
        atomic_fetch_sub(&refusals, 1);
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

// The name of the new store is written but perhaps not for certain: it is written again, and the
// store is neither lost nor given up.
static void test_refused_change(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 21);
    test_node_open(&node);
    open_old(&node, &at, &world);
    atomic_store(&at.instance->wants_build, true);
    atomic_store(&refusals, 1);
    complete(&node, &at, &world, 21);
    assert_int_equal(atomic_load(&refusals), 0);
    test_node_stop(&node);
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    test_instance_open(&node, &at, replica_role());
    assert_int_equal(at.instance->shelf.serving, 1);
    assert_int_equal(at.instance->shelf.building, 0);
    struct view *view = test_view(&at, index_of(&world, world.end));
    check_view(&world, view);
    view_release(view);
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    test_instance_end(&at);
    test_node_close(&node);
    world_close(&world);
}

// The journal stays what it was, and the instance goes on.
static void test_no_space_for_the_place(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 22);
    test_node_open(&node);
    open_old(&node, &at, &world);
    atomic_store(&at.instance->wants_build, true);
    struct build_order where = locate(&node, at.instance, true);
    where.freeze = true;
    where = give_slice(&node, at.instance, &world, world.start, &where);
    atomic_store(&full, true);
    assert_int_equal(try_journal(&node, at.instance, &where.start), ERR_DISK_FULL);
    atomic_store(&full, false);
    assert_int_equal(instance_state(at.instance), INSTANCE_SERVING);
    assert_int_equal(journal_end(at.instance->journal).number, OLD_BLOCKS);
    complete(&node, &at, &world, 22);
    close_all(&node, &at);
    world_close(&world);
}

// A store that is frozen lets blocks pass; below the reserve it does not, like any other. Else the
// journal would grow for as long as no other store gets built.
static void test_reserve(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 23);
    test_node_open(&node);
    open_old_with(&node, &at, &world, MIB);
    struct instance *instance = at.instance;
    locate(&node, instance, true);
    atomic_store(&scarce, true);
    while (atomic_load(&instance->space_level) != SPACE_RESERVE) {
        locate(&node, instance, true); // a turn of the applier, which looks
    }
    for (uint64_t number = OLD_BLOCKS + 1; number <= OLD_BLOCKS + LATER_BLOCKS; number++) {
        test_feed(&at, world.blocks[number]);
    }
    while (atomic_load(&instance->synced) < index_of(&world, OLD_BLOCKS + LATER_BLOCKS)) {
        sched_yield();
    }
    uint64_t waiting_bytes = 0;
    for (uint64_t i = OLD_BLOCKS + 1; i <= OLD_BLOCKS + LATER_BLOCKS; i++) {
        waiting_bytes += world.blocks[i]->stored.size + world.blocks[i]->raw.size;
        locate(&node, instance, true); // each turn would let one pass
    }
    assert_int_equal(atomic_load(&instance->apply_bytes), waiting_bytes);
    atomic_store(&scarce, false);
    while (atomic_load(&instance->apply_bytes) > 0) {
        sched_yield();
    }
    complete(&node, &at, &world, 23);
    close_all(&node, &at);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_no_space_for_the_place),
        cmocka_unit_test(test_refused_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
