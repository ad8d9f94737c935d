// SPDX-License-Identifier: Apache-2.0
// A store of one history gives way to one of another that forked from it, whose blocks and indexes
// have the same numbers and mean something else. And what a limit on applying is to a store that is
// built.
#include "tests/unit/build_fixture.h"

#include "common/base/clock.h"

#define START 5 // block of the new history at which its first slice is read
#define LATER 25
#define BAD OLD_BLOCKS // the last of the old store
#define PATIENCE_NS (20 * NS_PER_S)

static const uint8_t other_history[HISTORY_ID_BYTES] = "another history";

static void open_other(struct world *world, uint64_t seed)
{
    world_open_in(world, other_history, seed);
    world->start = START;
}

// Up to where the journal has begun anew and the store has not changed yet.
static struct build_order begin_fork(struct test_node *node, struct instance *instance,
                                     const struct world *other)
{
    atomic_store(&instance->wants_build, true);
    struct build_order where = locate(node, instance, true);
    where.freeze = true;
    where = give_slice(node, instance, other, START, &where);
    begin_journal(node, instance, &where.start);
    where.freeze = false;
    return where;
}

// The process ended there, and a block of the new history is bad that has the number of the last
// in the old store: so their chains cannot be compared, and what follows must not be replayed onto
// that store.
static void test_ends_with_a_damaged_block(void **unused)
{
    (void)unused;
    struct world world, other;
    struct test_node node, copy;
    struct test_instance at, copied = {.options = test_options("zones", ROLE_REPLICA)};
    world_open(&world, 31);
    open_other(&other, 32);
    test_node_open(&node);
    test_node_open(&copy);
    open_old(&node, &at, &world);
    begin_fork(&node, at.instance, &other);
    uint64_t offset = BLOCK_HEADER_BYTES;
    for (uint64_t number = START + 1; number <= LATER; number++) {
        offset += number < BAD ? other.blocks[number]->stored.size : 0;
        test_feed(&at, other.blocks[number]);
    }
    while (atomic_load(&at.instance->synced) < index_of(&other, LATER)) {
        sched_yield();
    }
    copy_directory(&node, &copy);
    close_all(&node, &at);
    char *journal = mem_format("%s/zones/journal", copy.directory);
    test_flip(journal, "0000000000000006.qsj", offset, 1);
    mem_free(journal);
    test_instance_begin(&copy, &copied, replica_role());
    struct view *view = NULL;
    uint64_t until_ns = clock_mono_ns() + PATIENCE_NS;
    while (view == NULL && clock_mono_ns() < until_ns) {
        view = instance_pin(copied.instance);
        sched_yield();
    }
    assert_non_null(view);
    assert_int_equal(view->place.index, index_of(&world, OLD_BLOCKS));
    check_view(&world, view);
    view_release(view);
    assert_true(atomic_load(&copied.instance->wants_build));
    complete(&copy, &copied, &other, 31);
    close_all(&copy, &copied);
    world_close(&other);
    world_close(&world);
}

static uint64_t shown(struct instance *instance)
{
    struct view *view = instance_pin(instance);
    uint64_t number = view->place.number;
    view_release(view);
    return number;
}

struct waiter {
    struct index_waiter waiter;
    sem_t woken;
};

static void on_woken(struct task *task)
{
    sem_post(&CONTAINER_OF(task, struct waiter, waiter.task)->woken);
}

// Who waits for an index that its history will never have is woken by the first view of another.
static void test_waiter(void **unused)
{
    (void)unused;
    struct world world, other;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 36);
    open_other(&other, 37);
    test_node_open(&node);
    open_old(&node, &at, &world);
    struct waiter never = {
        .waiter = {.index = UINT64_MAX, .loop = node.loop, .task.run = on_woken}};
    sem_init(&never.woken, 0, 0);
    instance_wait(at.instance, &never.waiter);
    begin_fork(&node, at.instance, &other);
    complete(&node, &at, &other, 37);
    locate(&node, at.instance, false); // behind the turn that made the view
    assert_false(instance_wait_cancel(at.instance, &never.waiter));
    sem_wait(&never.woken);
    sem_destroy(&never.woken);
    close_all(&node, &at);
    world_close(&other);
    world_close(&world);
}

// A limit on applying holds for a store that is built, too, and ends with its history.
static void test_limit(void **unused)
{
    (void)unused;
    struct world world, other;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 33);
    open_other(&other, 34);
    test_node_open(&node);
    open_old(&node, &at, &world);
    struct instance *instance = at.instance;
    char *verdict = mem_format("%s/REPLAYING", instance->directory);
    test_write_file(instance->directory, "REPLAYING", bytes_text("block 30 is poison"));
    instance_limit_apply(instance, index_of(&world, LATER + 1) - 1); // inside a block
    atomic_store(&instance->wants_build, true);
    struct build_order where = locate(&node, instance, false);
    where = try_slice(&node, instance, &world, LATER + 1, &where);
    assert_int_equal(where.error, ERR_BUSY);
    assert_false(where.begun);
    for (uint64_t number = OLD_BLOCKS + 1; number <= LATER + 1; number++) {
        test_feed(&at, world.blocks[number]);
    }
    while (!where.complete) {
        where = give_slice(&node, instance, &world, where.begun ? LATER : START, &where);
    }
    while (atomic_load(&instance->wants_build)) {
        sched_yield();
    }
    while (METRIC_GET(at.metrics, instance, apply_limited) == 0) {
        sched_yield(); // it catches up to the limit
    }
    assert_int_equal(shown(instance), LATER);
    assert_int_equal(access(verdict, F_OK), 0);
    begin_fork(&node, instance, &other);
    complete(&node, &at, &other, 34);
    assert_int_equal(shown(instance), other.end);
    assert_int_equal(access(verdict, F_OK), -1);
    mem_free(verdict);
    close_all(&node, &at);
    world_close(&other);
    world_close(&world);
}

// The new history's indexes are lower than where the old store's history began.
static void test_lower_indexes(void **unused)
{
    (void)unused;
    struct world world, other;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 35);
    open_other(&other, 36);
    test_node_open(&node);
    open_old(&node, &at, &world);
    atomic_store(&at.instance->wants_build, true);
    complete(&node, &at, &world, 35);
    assert_true(atomic_load(&at.instance->history_floor) >= index_of(&world, world.start));
    struct build_order where = begin_fork(&node, at.instance, &other);
    while (!where.complete) {
        where = give_slice(&node, at.instance, &other, START, &where);
    }
    for (uint64_t number = START + 1; number <= LATER; number++) {
        test_feed(&at, other.blocks[number]);
    }
    while (shown(at.instance) != LATER) {
        sched_yield();
    }
    struct view *view = instance_pin(at.instance);
    check_view(&other, view);
    assert_in_range(view->history_floor, index_of(&other, START), index_of(&other, LATER));
    view_release(view);
    close_all(&node, &at);
    world_close(&other);
    world_close(&world);
}

// A limit that came after more was shown keeps a store that is built from coming so far: nothing of
// it is shown.
static void test_limit_below_what_is_shown(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 35);
    test_node_open(&node);
    open_old(&node, &at, &world);
    struct instance *instance = at.instance;
    instance_limit_apply(instance, index_of(&world, START + 2));
    atomic_store(&instance->wants_build, true);
    struct build_order where = locate(&node, instance, false);
    while (!where.complete) {
        where = give_slice(&node, instance, &world, START, &where);
    }
    while (METRIC_GET(at.metrics, instance, apply_limited) == 0) {
        sched_yield();
    }
    locate(&node, instance, false); // behind the turn that stood at the limit
    assert_int_equal(shown(instance), OLD_BLOCKS);
    instance_limit_apply(instance, UINT64_MAX);
    complete(&node, &at, &world, 35);
    close_all(&node, &at);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waiter),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_lower_indexes),
        cmocka_unit_test(test_limit_below_what_is_shown),
        cmocka_unit_test(test_ends_with_a_damaged_block),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
