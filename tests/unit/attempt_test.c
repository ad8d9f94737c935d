// SPDX-License-Identifier: Apache-2.0
// A block that kills whoever applies it: after the third start that died there the next one stops
// before it and serves. What is done meanwhile to what it shows. And the limit on applying by
// itself.
#include "tests/unit/walk_fixture.h"

#include <sys/wait.h>

#include "common/base/clock.h"
#include "common/core/applier.h"
#include "replica/replica.h"

#define BLOCKS 10
#define POISON 7
#define STUCK 9 // has no space on the disk for a while

static struct role role;
static bool poisoned;
static _Atomic bool stuck;

static int apply(struct instance *instance, const struct block *block, struct store_batch *batch)
{
    if (poisoned && block->header.number == POISON) {
        _exit(9);
    }
    if (block->header.number == STUCK && atomic_load(&stuck)) {
        return ERR_DISK_FULL;
    }
    return replica_role()->apply(instance, block, batch);
}

static void use_role(bool poison)
{
    role = *replica_role();
    role.apply = apply;
    poisoned = poison;
}

// In a process of its own, which never closes the instance; returns its exit code.
static int in_process(void (*run)(struct test_node *node, struct test_instance *at),
                      const char *directory)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct test_node node;
        struct test_instance at = {.options = test_options("zones", ROLE_REPLICA)};
        test_node_open(&node);
        node.options.data_dir = directory;
        run(&node, &at);
        assert_int_equal(nftw(node.directory, test_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static struct model model;
static struct block *blocks[BLOCKS + 1];

static uint64_t index_of(uint64_t number) { return block_end(&blocks[number]->header); }

static void write_blocks(struct test_node *node, struct test_instance *at)
{
    use_role(false);
    test_instance_open(node, at, &role);
    for (uint64_t number = 1; number <= BLOCKS; number++) {
        test_feed(at, blocks[number]);
    }
    CHECK(test_view(at, index_of(BLOCKS)) != NULL);
}

static void start_poisoned(struct test_node *node, struct test_instance *at)
{
    use_role(true);
    test_instance_open(node, at, &role); // does not come back from the first three
    struct view *view = instance_pin(at->instance);
    CHECK(view->place.number == POISON - 1 && view->place.index == index_of(POISON - 1));
    CHECK(instance_state(at->instance) == INSTANCE_SERVING);
    CHECK(atomic_load(&at->instance->apply_limit) == index_of(POISON - 1));
}

// A row that no block speaks of, as a fill is: it is shown though blocks wait.
static void show_a_fill(struct test_instance *at)
{
    struct bytes key = model_name(&model.keys[0]), row = row_of(at, key);
    struct view *before = instance_pin(at->instance);
    tamper(at, key, &row);
    struct view *view = instance_pin(at->instance);
    CHECK(view->place.index == before->place.index);
    view_release(view);
    view_release(before);
    mem_free((void *)row.data);
}

// At the limit of a replay fills are shown, and where it is raised, what lies below.
static void start_held(struct test_node *node, struct test_instance *at)
{
    use_role(false);
    test_instance_open(node, at, &role);
    CHECK(test_view(at, 0)->place.number == POISON - 1);
    show_a_fill(at);
    instance_limit_apply(at->instance, index_of(STUCK - 1));
    CHECK(test_view(at, index_of(STUCK - 1))->place.number == STUCK - 1);
    show_a_fill(at);
}

// The replay goes on behind what is shown, and a walk begins there: what came between is in no view
// that the walk reads, and was applied before there was a filter to be told of it.
static void start_walked(struct test_node *node, struct test_instance *at)
{
    struct driver driver;
    use_role(false);
    atomic_store(&stuck, true);
    test_instance_open(node, at, &role);
    driver_open(&driver, at);
    instance_limit_apply(at->instance, UINT64_MAX);
    while (!instance_disk_full(at->instance)) {
        sched_yield();
    }
    CHECK(applier_state(at->instance)->place.number == STUCK - 1); // it waits
    CHECK(test_view(at, 0)->place.number == POISON - 1);
    CHECK(driver_walk(&driver, at, 3) == OK);
    atomic_store(&stuck, false);
    instance_limit_apply(at->instance, UINT64_MAX); // try again now
    struct view *view = test_view(at, index_of(BLOCKS));
    unsigned came = 0;
    CHECK(view->front != NULL);
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_key *key = &model.keys[i];
        bool present = model_at(key, view->place.index) != NULL;
        came += present && model_at(key, index_of(POISON - 1)) == NULL &&
                model_at(key, index_of(STUCK - 1)) != NULL;
        CHECK(!present || !front_absent(view->front, model_name(key)));
    }
    CHECK(came > 0);
}

static void start_cured(struct test_node *node, struct test_instance *at)
{
    use_role(false);
    test_instance_open(node, at, &role);
    CHECK(atomic_load(&at->instance->apply_limit) == index_of(POISON - 1));
    instance_limit_apply(at->instance, UINT64_MAX);
    CHECK(test_view(at, index_of(BLOCKS)) != NULL);
}

static void test_starts_that_die(void **unused)
{
    (void)unused;
    char *directory = test_mkdir();
    model_open(&model, 3);
    for (uint64_t number = 1; number <= BLOCKS; number++) {
        blocks[number] = model_block(&model, 2);
    }
    assert_int_equal(in_process(write_blocks, directory), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(in_process(start_poisoned, directory), 9);
    }
    assert_int_equal(in_process(start_poisoned, directory), 0);
    assert_int_equal(in_process(start_poisoned, directory), 0); // it stays so
    assert_int_equal(in_process(start_held, directory), 0);
    assert_int_equal(in_process(start_walked, directory), 0);
    assert_int_equal(in_process(start_cured, directory), 0);
    assert_int_equal(nftw(directory, test_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
    mem_free(directory);
}

static void test_limit(void **unused)
{
    (void)unused;
    struct test_node node;
    struct test_instance at = {.options = test_options("zones", ROLE_REPLICA)};
    test_node_open(&node);
    test_instance_open(&node, &at, replica_role());
    instance_limit_apply(at.instance, index_of(4));
    for (uint64_t number = 1; number <= BLOCKS; number++) {
        test_feed(&at, blocks[number]);
    }
    view_release(test_view(&at, index_of(4)));
    while (atomic_load(&at.instance->synced) < index_of(BLOCKS)) { // the journal goes on
        sched_yield();
    }
    struct view *view = instance_pin(at.instance);
    assert_int_equal(view->place.number, 4);
    view_release(view);
    show_a_fill(&at);
    instance_limit_apply(at.instance, index_of(6));
    view_release(test_view(&at, index_of(6)));
    view = instance_pin(at.instance);
    assert_int_equal(view->place.number, 6);
    view_release(view);
    instance_limit_apply(at.instance, UINT64_MAX);
    view_release(test_view(&at, index_of(BLOCKS)));
    test_node_stop(&node);
    assert_int_equal(instance_close(at.instance), INSTANCE_CLOSED);
    test_instance_end(&at);
    test_node_close(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_that_die),
        cmocka_unit_test(test_limit),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (uint64_t number = 1; number <= BLOCKS; number++) {
        block_release(blocks[number]);
    }
    model_close(&model);
    return failed;
}
