// SPDX-License-Identifier: Apache-2.0
// Applying waits for disk and the node is killed: the next start finds the disk as full, and serves
// what was all that was ever shown. Where more may have been shown, it waits.
#include "tests/unit/build_fixture.h"
#include "tests/unit/full_fixture.h"

#define TRIES 3

static void set_full(bool is)
{
    atomic_store(&refused, 0);
    atomic_store(&full, is);
}

static void wait_refused(unsigned times)
{
    while (atomic_load(&refused) < times) {
        sched_yield();
    }
}

// All blocks are in the journal; `paused`: those from STUCK on were never applied.
static void fill(struct test_node *node, struct test_instance *at, const struct world *world,
                 bool paused)
{
    set_full(paused);
    *at = (struct test_instance){.options = test_options("zones", ROLE_REPLICA)};
    test_instance_open(node, at, &role);
    for (uint64_t number = 1; number <= OLD_BLOCKS; number++) {
        test_feed(at, world->blocks[number]);
    }
    view_release(test_view(at, index_of(world, paused ? STUCK - 1 : OLD_BLOCKS)));
    while (atomic_load(&at->instance->synced) < index_of(world, OLD_BLOCKS)) {
        sched_yield();
    }
    wait_refused(paused ? 2 : 0); // by the second, what the first one led to is done
}

static void start_on_a_full_disk(bool paused)
{
    struct world world;
    struct test_node before, node;
    struct test_instance killed, at = {.options = test_options("zones", ROLE_REPLICA)};
    world_open(&world, 21);
    test_node_open(&before);
    test_node_open(&node);
    role = *replica_role();
    role.apply = apply_unless_full;
    fill(&before, &killed, &world, paused);
    copy_directory(&before, &node);
    set_full(false);
    close_all(&before, &killed);
    set_full(true);
    test_instance_begin(&node, &at, &role);
    wait_refused(TRIES);
    assert_int_equal(instance_state(at.instance), paused ? INSTANCE_SERVING : INSTANCE_LOADING);
    if (paused) {
        struct view *view = test_view(&at, 0);
        assert_int_equal(view->place.number, STUCK - 1);
        check_view(&world, view);
        view_release(view);
    }
    set_full(false);
    view_release(test_view(&at, index_of(&world, OLD_BLOCKS)));
    char *path = mem_format("%s/PAUSED", at.instance->directory);
    assert_int_equal(access(path, F_OK), -1); // it would tell the next start too little
    mem_free(path);
    close_all(&node, &at);
    world_close(&world);
}

static void test_nothing_more_was_shown(void **unused)
{
    (void)unused;
    start_on_a_full_disk(true);
}

static void test_more_was_shown(void **unused)
{
    (void)unused;
    start_on_a_full_disk(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_more_was_shown),
        cmocka_unit_test(test_more_was_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
