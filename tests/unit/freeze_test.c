// SPDX-License-Identifier: Apache-2.0
// Before a journal may go, the store in use takes no more blocks and what it shows is on disk: also
// where it is still catching up, and whatever the order was that said so.
#include "tests/unit/build_fixture.h"
#include "tests/unit/full_fixture.h"

#include "common/core/applier_private.h"

int __real_store_flush(struct store *store);
int __wrap_store_flush(struct store *store);

static struct store *_Atomic rotten; // a bad row keeps it from being flushed

int __wrap_store_flush(struct store *store)
{
    return store == atomic_load(&rotten) ? ERR_CORRUPT : __real_store_flush(store);
}

static int refuse_unfit(struct instance *instance, const struct block *block,
                        struct store_batch *batch)
{
    return block->header.number == STUCK ? ERR_DIVERGED
                                         : replica_role()->apply(instance, block, batch);
}

// Up to which block the store would stand after a kill.
static uint64_t persisted(struct instance *instance)
{
    struct store_value row;
    struct state state;
    int error = store_state(instance->store, STORE_PERSISTED, &row);
    if (error == ERR_NOT_FOUND) {
        return 0;
    }
    assert_int_equal(error, OK);
    assert_int_equal(state_decode(&state, row.data), OK);
    store_value_release(&row);
    return state.place.number;
}

static void test_replay_comes_first(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node before, node;
    struct test_instance killed, at = {.options = test_options("zones", ROLE_REPLICA)};
    world_open(&world, 11);
    test_node_open(&before);
    test_node_open(&node);
    open_old(&before, &killed, &world);
    copy_directory(&before, &node);
    close_all(&before, &killed);
    role = *replica_role();
    role.apply = apply_unless_full;
    atomic_store(&full, true);
    test_instance_begin(&node, &at, &role);
    while (atomic_load(&refused) == 0) {
        sched_yield();
    }
    struct build_order order = {.kind = BUILD_LOCATE, .freeze = true};
    give(&node, at.instance, &order);
    assert_int_equal(order.error, ERR_BUSY);
    atomic_store(&full, false);
    view_release(test_view(&at, index_of(&world, OLD_BLOCKS)));
    assert_false(atomic_load(&at.instance->wants_build));
    locate(&node, at.instance, true);
    assert_int_equal(persisted(at.instance), OLD_BLOCKS);
    // It is settled: no store that took its place meanwhile takes back that another one is wanted.
    assert_true(atomic_load(&at.instance->wants_build));
    complete(&node, &at, &world, 11);
    close_all(&node, &at);
    world_close(&world);
}

// The journal got lost while slices were coming: the one that comes next says so first.
static void test_slice_that_freezes(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 12);
    test_node_open(&node);
    open_old(&node, &at, &world);
    atomic_store(&at.instance->wants_build, true);
    struct build_order where = locate(&node, at.instance, false);
    where.freeze = true;
    where = give_slice(&node, at.instance, &world, world.start, &where);
    assert_int_equal(persisted(at.instance), OLD_BLOCKS);
    test_feed(&at, world.blocks[OLD_BLOCKS + 1]); // in the journal, but not shown any more
    while (journal_end(at.instance->journal).number < OLD_BLOCKS + 1) {
        sched_yield();
    }
    begin_journal(&node, at.instance, &where.start);
    struct view *view = instance_pin(at.instance);
    assert_int_equal(view->place.number, OLD_BLOCKS);
    view_release(view);
    complete(&node, &at, &world, 12);
    close_all(&node, &at);
    world_close(&world);
}

// A store that does not fit the log takes no more blocks, and what it shows is not on disk: until
// it is, or another one has taken its place, a kill would need the log from there on.
static void test_unfit_store_keeps_its_log(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at = {.options = test_options("zones", ROLE_REPLICA)};
    at.options.segment_bytes = 1; // each block has its own, and goes as soon as it may
    at.options.journal_bytes = 0;
    world_open(&world, 13);
    test_node_open(&node);
    role = *replica_role();
    role.apply = refuse_unfit;
    test_instance_open(&node, &at, &role);
    for (uint64_t number = 1; number <= OLD_BLOCKS; number++) {
        test_feed(&at, world.blocks[number]);
    }
    while (!atomic_load(&at.instance->wants_build) ||
           journal_end(at.instance->journal).number < OLD_BLOCKS) {
        sched_yield();
    }
    view_release(test_view(&at, index_of(&world, STUCK - 1)));
    struct build_order where = locate(&node, at.instance, false);
    where = give_slice(&node, at.instance, &world, OLD_BLOCKS, &where);
    at.instance->apply->idle_ns = 0; // it is at rest: what age makes due is due at its next turn
    test_feed(&at, world.blocks[OLD_BLOCKS + 1]);
    where = give_slice(&node, at.instance, &world, OLD_BLOCKS, &where);
    test_feed(&at, world.blocks[OLD_BLOCKS + 2]); // behind whatever the writer was told to trim
    while (journal_end(at.instance->journal).number < OLD_BLOCKS + 2) {
        sched_yield();
    }
    assert_true(journal_oldest(at.instance->journal).number <= persisted(at.instance));
    close_all(&node, &at);
    world_close(&world);
}

// A store that cannot even be flushed gives way too; the next start knows by a file that more may
// have been shown than it holds.
static void test_rotten_store_gives_way(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 14);
    test_node_open(&node);
    open_old(&node, &at, &world);
    char *behind = mem_format("%s/BEHIND", at.instance->directory);
    atomic_store(&at.instance->wants_build, true);
    atomic_store(&rotten, at.instance->store);
    locate(&node, at.instance, true);
    atomic_store(&rotten, NULL);
    assert_int_equal(instance_state(at.instance), INSTANCE_SERVING);
    assert_int_equal(access(behind, F_OK), 0);
    complete(&node, &at, &world, 14);
    assert_int_not_equal(access(behind, F_OK), 0);
    mem_free(behind);
    close_all(&node, &at);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_replay_comes_first),
        cmocka_unit_test(test_slice_that_freezes),
        cmocka_unit_test(test_unfit_store_keeps_its_log),
        cmocka_unit_test(test_rotten_store_gives_way),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
