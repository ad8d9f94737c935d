// SPDX-License-Identifier: Apache-2.0
// What a start makes of a store and a journal that do not belong together: a follower serves what
// is sound and waits for another store, a root does not start.
#include "tests/unit/build_fixture.h"

static void empty_journal(const struct test_node *node)
{
    char *journal = mem_format("%s/zones/journal", node->directory);
    test_empty(journal);
    mem_free(journal);
}

static void test_follower_ahead_of_its_journal(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 41);
    test_node_open(&node);
    open_old(&node, &at, &world);
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    empty_journal(&node);
    test_instance_open(&node, &at, replica_role());
    struct view *view = test_view(&at, index_of(&world, OLD_BLOCKS));
    check_view(&world, view);
    view_release(view);
    assert_true(atomic_load(&at.instance->wants_build));
    complete(&node, &at, &world, 41);
    close_all(&node, &at);
    world_close(&world);
}

static void test_root_ahead_of_its_journal(void **unused)
{
    (void)unused;
    struct test_node node;
    struct test_instance at = {.options = test_options("zones", ROLE_ROOT)};
    test_node_open(&node);
    test_instance_open(&node, &at, replica_role());
    struct view *view = test_view(&at, 0);
    while (view->place.number == 0) { // its birth block
        view_release(view);
        view = test_view(&at, 0);
    }
    view_release(view);
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    empty_journal(&node);
    assert_int_equal(test_instance_try(&node, &at, replica_role()), ERR_AHEAD);
    assert_int_equal(test_instance_try(&node, &at, replica_role()), ERR_AHEAD); // it stays so
    test_node_stop(&node);
    test_instance_end(&at);
    test_node_close(&node);
}

// A row that a block replaces is bad, and its block is replayed at the start: what was shown lies
// behind it, so nothing is, until another store is there.
static struct role role;

static int refuse(struct instance *instance, const struct block *block, struct store_batch *batch)
{
    return block->header.number == OLD_BLOCKS / 2
               ? ERR_CORRUPT
               : replica_role()->apply(instance, block, batch);
}

static void test_replay_onto_a_bad_row(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node before, node, again;
    struct test_instance killed, at = {.options = test_options("zones", ROLE_REPLICA)};
    world_open(&world, 42);
    test_node_open(&before);
    test_node_open(&node);
    open_old(&before, &killed, &world);
    test_node_open(&again);
    copy_directory(&before, &node);
    close_all(&before, &killed);
    killed = (struct test_instance){.options = test_options("zones", ROLE_REPLICA)};
    role = *replica_role();
    role.apply = refuse;
    test_instance_begin(&node, &at, &role);
    while (!atomic_load(&at.instance->wants_build)) {
        sched_yield();
    }
    char *mark = mem_format("%s/BEHIND", at.instance->directory);
    instance_republish(at.instance); // as a walk may ask
    struct build_order where = locate(&node, at.instance, true);
    assert_int_equal(instance_state(at.instance), INSTANCE_LOADING);
    assert_null(instance_pin(at.instance));
    where.freeze = true;
    where = give_slice(&node, at.instance, &world, world.start, &where);
    begin_journal(&node, at.instance, &where.start);
    assert_null(instance_pin(at.instance));
    // Nor at the next start, which finds that no journal leads on from this store.
    copy_directory(&node, &again);
    test_instance_begin(&again, &killed, &role);
    locate(&again, killed.instance, false);
    locate(&again, killed.instance, false); // a turn of the applier later
    assert_null(instance_pin(killed.instance));
    complete(&again, &killed, &world, 42);
    close_all(&again, &killed);
    complete(&node, &at, &world, 42);
    assert_int_equal(instance_state(at.instance), INSTANCE_SERVING);
    assert_int_equal(access(mark, F_OK), -1);
    mem_free(mark);
    close_all(&node, &at);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_follower_ahead_of_its_journal),
        cmocka_unit_test(test_root_ahead_of_its_journal),
        cmocka_unit_test(test_replay_onto_a_bad_row),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
