// SPDX-License-Identifier: Apache-2.0
// A follower whose journal has rotted far behind its end: what comes is taken all the same, since
// nobody may still have the damaged block; and when it does come, it goes back into its place.
#include <errno.h>
#include <unistd.h>

#include <sys/syscall.h>

#include "common/data/journal.h"
#include "replica/replica.h"
#include "tests/unit/instance_fixture.h"

#define BLOCKS 6
#define DAMAGED 2

static _Atomic bool refuses; // the next sync of a file

// In place of the C library's.
int fdatasync(int fd)
{
    if (atomic_exchange(&refuses, false)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static void wait_for_damage(struct test_instance *at, uint64_t last)
{
    while (atomic_load(&at->instance->damaged_last) != last) {
        sched_yield();
    }
}

struct rotten {
    struct test_node node;
    struct model model;
    struct test_instance at;
    struct block *blocks[BLOCKS + 1];
    char *journal;
};

// All blocks but the last are shown, and one of them is found bad.
static void rotten_open(struct rotten *rotten)
{
    *rotten = (struct rotten){.at.options = test_options("rot", ROLE_REPLICA)};
    test_node_open(&rotten->node);
    test_instance_open(&rotten->node, &rotten->at, replica_role());
    model_open(&rotten->model, 7);
    for (unsigned i = 1; i <= BLOCKS; i++) {
        rotten->blocks[i] = model_block(&rotten->model, 2);
    }
    struct block **blocks = rotten->blocks;
    for (unsigned i = 1; i < BLOCKS; i++) {
        test_feed(&rotten->at, blocks[i]);
    }
    view_release(test_view(&rotten->at, block_end(&blocks[BLOCKS - 1]->header)));

    rotten->journal = mem_format("%s/rot/journal", rotten->node.directory);
    uint64_t offset = BLOCK_HEADER_BYTES + blocks[1]->stored.size + BLOCK_HEADER_BYTES;
    test_flip(rotten->journal, "0000000000000001.qsj", offset, 3);
    instance_recheck(rotten->at.instance, DAMAGED);
    wait_for_damage(&rotten->at, DAMAGED);
}

static void rotten_stop(struct rotten *rotten)
{
    test_node_stop(&rotten->node);
    instance_close(rotten->at.instance);
}

static void rotten_close(struct rotten *rotten)
{
    mem_free(rotten->journal);
    for (unsigned i = 1; i <= BLOCKS; i++) {
        block_release(rotten->blocks[i]);
    }
    model_close(&rotten->model);
    test_instance_end(&rotten->at);
    test_node_close(&rotten->node);
}

static void test_rot_far_behind(void **unused)
{
    (void)unused;
    struct rotten rotten;
    rotten_open(&rotten);
    test_feed(&rotten.at, rotten.blocks[BLOCKS]);
    view_release(test_view(&rotten.at, block_end(&rotten.blocks[BLOCKS]->header)));
    assert_int_equal(atomic_load(&rotten.at.instance->damaged_last), DAMAGED);
    test_feed(&rotten.at, rotten.blocks[DAMAGED]);
    wait_for_damage(&rotten.at, 0);
    assert_int_equal(instance_state(rotten.at.instance), INSTANCE_SERVING);

    rotten_stop(&rotten);
    // Opening reads everything that the store has not flushed: all is sound again.
    struct journal_place start = {0};
    journal_close(test_journal(rotten.journal, MIB, true, start, OK, NULL));
    rotten_close(&rotten);
}

// A disk that refuses to sync what mends it is in doubt as with a new block: that is said,
// and nothing more is written, rather than tried for ever.
static void test_refused_sync_of_a_mend(void **unused)
{
    (void)unused;
    struct rotten rotten;
    rotten_open(&rotten);
    atomic_store(&refuses, true);
    test_feed(&rotten.at, rotten.blocks[DAMAGED]);
    while (instance_state(rotten.at.instance) != INSTANCE_STOPPED) {
        sched_yield();
    }
    assert_false(atomic_load(&refuses));
    rotten_stop(&rotten);
    rotten_close(&rotten);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rot_far_behind),
                                       cmocka_unit_test(test_refused_sync_of_a_mend)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
