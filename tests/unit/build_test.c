// SPDX-License-Identifier: Apache-2.0
// A whole change of stores: an instance with old data is given slices, its journal begins anew, the
// log is added, the new store takes the old one's place; while readers hold views of both. And what
// is found when the process ends anywhere between two durable steps.
#include "tests/unit/build_fixture.h"

#include <sys/stat.h>

#include "common/core/shelf.h"

// ---- readers -----------------------------------------------------------------------------------

struct looker {
    const struct world *world;
    struct instance *instance;
    pthread_t thread;
    _Atomic bool ending;
    unsigned looks;
};

static void *look(void *argument)
{
    struct looker *looker = argument;
    uint64_t last = 0;
    struct view *held = instance_pin(looker->instance); // of the old store, to the end
    while (!atomic_load(&looker->ending)) {
        struct view *view = instance_pin(looker->instance);
        CHECK(view->place.index >= last);
        last = view->place.index;
        check_view(looker->world, view);
        view_release(view);
        check_view(looker->world, held);
        looker->looks++;
    }
    view_release(held);
    return NULL;
}

// ---- the tests ---------------------------------------------------------------------------------

static void test_change_under_readers(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct world world;
        struct test_node node;
        struct test_instance at;
        world_open(&world, seed);
        test_node_open(&node);
        open_old(&node, &at, &world);
        struct looker lookers[2];
        for (unsigned i = 0; i < 2; i++) {
            lookers[i] = (struct looker){.world = &world, .instance = at.instance};
            pthread_create(&lookers[i].thread, NULL, look, &lookers[i]);
        }
        atomic_store(&at.instance->wants_build, true);
        complete(&node, &at, &world, seed);
        for (unsigned i = 0; i < 2; i++) {
            atomic_store(&lookers[i].ending, true);
            pthread_join(lookers[i].thread, NULL);
            assert_true(lookers[i].looks > 0);
        }
        assert_int_equal(at.instance->shelf.serving, 1);
        close_all(&node, &at);
        world_close(&world);
    }
}

// The copy starts, shows no less than was shown, and comes to the end.
static void check_copy(const struct test_node *from, const struct world *world, uint64_t shown,
                       uint64_t seed)
{
    struct test_node node;
    struct test_instance at = {.options = test_options("zones", ROLE_REPLICA)};
    test_node_open(&node);
    copy_directory(from, &node);
    test_instance_open(&node, &at, replica_role());
    struct view *view = test_view(&at, shown);
    assert_non_null(view);
    check_view(world, view);
    view_release(view);
    if (at.instance->shelf.building == 0 && at.instance->shelf.serving == 0) {
        atomic_store(&at.instance->wants_build, true); // as a parent's answer would say
    }
    complete(&node, &at, world, seed);
    test_node_stop(&node);
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    // And once more: the store in use is the only one.
    test_instance_open(&node, &at, replica_role());
    assert_int_equal(at.instance->shelf.building, 0);
    view = test_view(&at, index_of(world, world->end));
    check_view(world, view);
    view_release(view);
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    test_instance_end(&at);
    test_node_close(&node);
}

static void test_ends_between_steps(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 77);
    test_node_open(&node);
    open_old(&node, &at, &world);
    struct instance *instance = at.instance;
    uint64_t shown = index_of(&world, OLD_BLOCKS);
    atomic_store(&instance->wants_build, true);
    struct build_order where = locate(&node, instance, true);
    check_copy(&node, &world, shown, 1);
    where = give_slice(&node, instance, &world, world.start, &where);
    check_copy(&node, &world, shown, 2); // the first slice is on disk, the journal is the old one
    begin_journal(&node, instance, &where.start);
    where.freeze = false;
    check_copy(&node, &world, shown, 3);
    uint64_t fed = world.start;
    for (unsigned round = 4; !where.complete; round++) {
        test_feed(&at, world.blocks[++fed]);
        where = give_slice(&node, instance, &world, world.start + 5, &where);
        if (!where.complete) {
            check_copy(&node, &world, shown, round);
        }
    }
    while (fed < world.start + 4) {
        test_feed(&at, world.blocks[++fed]);
    }
    while (journal_end(instance->journal).number < fed) {
        sched_yield();
    }
    check_copy(&node, &world, shown, 100); // all slices are in, the log is not
    complete(&node, &at, &world, 1);
    check_copy(&node, &world, index_of(&world, world.end), 101);
    close_all(&node, &at);
    world_close(&world);
}

// A source whose records are not what the log says: its store is not taken into use.
static void test_what_does_not_add_up(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 5);
    test_node_open(&node);
    open_old(&node, &at, &world);
    struct instance *instance = at.instance;
    atomic_store(&instance->wants_build, true);
    struct build_order where = locate(&node, instance, true);
    where = give_slice(&node, instance, &world, world.start, &where);
    begin_journal(&node, instance, &where.start);
    where.freeze = false;
    hidden = world.keys[MODEL_KEYS - 1];
    assert_non_null(model_at(hidden, index_of(&world, world.start)));
    while (!where.complete) {
        where = give_slice(&node, instance, &world, world.start, &where);
    }
    hidden = NULL;
    while (locate(&node, instance, false).begun) {
        sched_yield();
    }
    assert_true(atomic_load(&instance->wants_build));
    struct view *view = instance_pin(instance);
    assert_int_equal(view->place.number, OLD_BLOCKS);
    view_release(view);
    complete(&node, &at, &world, 5); // from a sound one
    close_all(&node, &at);
    world_close(&world);
}

// A store that cannot be read is built anew; what the journal has still comes from the journal.
static void test_unreadable_store(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 6);
    test_node_open(&node);
    open_old(&node, &at, &world);
    test_node_stop(&node);
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    char *current = mem_format("%s/zones/store", node.directory);
    test_write_file(current, "MANIFEST-999999", bytes_text("this is not a manifest at all"));
    test_write_file(current, "CURRENT", bytes_text("MANIFEST-999999\n"));
    mem_free(current);
    test_instance_open(&node, &at, replica_role());
    assert_int_equal(at.instance->shelf.serving, 1);
    struct view *view = test_view(&at, index_of(&world, OLD_BLOCKS));
    check_view(&world, view);
    view_release(view);
    assert_false(atomic_load(&at.instance->wants_build));
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    test_instance_end(&at);
    test_node_close(&node);
    world_close(&world);
}

// A follower whose journal cannot be opened does not start, and says why.
static void test_journal_that_is_none(void **unused)
{
    (void)unused;
    struct test_node node;
    test_node_open(&node);
    struct instance_options options = test_options("zones", ROLE_REPLICA);
    char *directory = mem_format("%s/zones", node.directory);
    assert_int_equal(mkdir(directory, 0750), 0);
    test_write_file(directory, "journal", bytes_text("not a directory"));
    mem_free(directory);
    struct instance_metrics *metrics = aligned_alloc(64, (sizeof *metrics + 63) / 64 * 64);
    memset(metrics, 0, sizeof *metrics);
    struct instance_setup setup = {.node = &node.options,
                                   .options = &options,
                                   .role = replica_role(),
                                   .cache = node.cache,
                                   .metrics = metrics,
                                   .beats = beats_open(),
                                   .home = node.loop};
    struct instance *instance = NULL;
    assert_int_not_equal(instance_open(&instance, &setup), OK);
    assert_null(instance);
    beats_close(setup.beats);
    free(metrics);
    test_node_stop(&node);
    test_node_close(&node);
}

// The snapshot is read where the own journal ends, and just that block has gone bad: what follows
// it is sound, so nobody else would find it. It is named, comes again, and the build goes on.
static void test_bad_block_below(void **unused)
{
    (void)unused;
    struct world world;
    struct test_node node;
    struct test_instance at;
    world_open(&world, 9);
    world.start = world.end = OLD_BLOCKS;
    test_node_open(&node);
    open_old(&node, &at, &world);
    uint64_t offset = BLOCK_HEADER_BYTES;
    for (uint64_t number = 1; number < OLD_BLOCKS; number++) {
        offset += world.blocks[number]->stored.size;
    }
    char *journal = mem_format("%s/zones/journal", node.directory);
    test_flip(journal, "0000000000000001.qsj", offset + 1, 1);
    mem_free(journal);
    atomic_store(&at.instance->wants_build, true);
    struct build_order where = locate(&node, at.instance, false);
    while (!where.complete) {
        where = give_slice(&node, at.instance, &world, OLD_BLOCKS, &where);
    }
    while (atomic_load(&at.instance->damaged_first) != OLD_BLOCKS) {
        sched_yield();
    }
    test_feed(&at, world.blocks[OLD_BLOCKS]);
    while (atomic_load(&at.instance->wants_build)) {
        sched_yield();
    }
    struct view *view = test_view(&at, index_of(&world, OLD_BLOCKS));
    check_view(&world, view);
    view_release(view);
    close_all(&node, &at);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_journal_that_is_none),
        cmocka_unit_test(test_change_under_readers),
        cmocka_unit_test(test_ends_between_steps),
        cmocka_unit_test(test_what_does_not_add_up),
        cmocka_unit_test(test_unreadable_store),
        cmocka_unit_test(test_bad_block_below),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
