// SPDX-License-Identifier: Apache-2.0
// A follower whose journal has rotted far behind its end: what comes is taken all the same, since
// nobody may still have the damaged block; and when it does come, it goes back into its place.
#include "common/data/journal.h"
#include "replica/replica.h"
#include "tests/unit/instance_fixture.h"

#define BLOCKS 6
#define DAMAGED 2

static void wait_for_damage(struct test_instance *at, uint64_t last)
{
    while (atomic_load(&at->instance->damaged_last) != last) {
        sched_yield();
    }
}

static void test_rot_far_behind(void **unused)
{
    (void)unused;
    struct test_node node;
    struct model model;
    struct test_instance at = {.options = test_options("rot", ROLE_REPLICA)};
    struct block *blocks[BLOCKS + 1] = {0};
    test_node_open(&node);
    test_instance_open(&node, &at, replica_role());
    model_open(&model, 7);
    for (unsigned i = 1; i <= BLOCKS; i++) {
        blocks[i] = model_block(&model, 2);
    }
    for (unsigned i = 1; i < BLOCKS; i++) {
        test_feed(&at, blocks[i]);
    }
    view_release(test_view(&at, block_end(&blocks[BLOCKS - 1]->header)));

    char *journal = mem_format("%s/rot/journal", node.directory);
    uint64_t offset = BLOCK_HEADER_BYTES + blocks[1]->stored.size + BLOCK_HEADER_BYTES;
    test_flip(journal, "0000000000000001.qsj", offset, 3);
    instance_recheck(at.instance, DAMAGED);
    wait_for_damage(&at, DAMAGED);

    test_feed(&at, blocks[BLOCKS]);
    view_release(test_view(&at, block_end(&blocks[BLOCKS]->header)));
    assert_int_equal(atomic_load(&at.instance->damaged_last), DAMAGED);
    test_feed(&at, blocks[DAMAGED]);
    wait_for_damage(&at, 0);
    assert_int_equal(instance_state(at.instance), INSTANCE_SERVING);

    test_node_stop(&node);
    instance_close(at.instance);
    // Opening reads everything that the store has not flushed: all is sound again.
    struct journal_place start = {0};
    journal_close(test_journal(journal, MIB, true, start, OK, NULL));
    mem_free(journal);
    for (unsigned i = 1; i <= BLOCKS; i++) {
        block_release(blocks[i]);
    }
    model_close(&model);
    test_instance_end(&at);
    test_node_close(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rot_far_behind)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
