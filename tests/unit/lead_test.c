// SPDX-License-Identifier: Apache-2.0
// One of several roots without its links: what a standby takes, shows and cuts by what its leader
// says; when a leader's writes are answered; and what a start finds.
#include "tests/unit/lead_fixture.h"

// What is not committed is journaled and acknowledged, and neither applied nor published.
static void test_standby(void **unused)
{
    (void)unused;
    struct root root;
    standby_fed(&root, 10);
    assert_shows(&root, 0);
    assert_int_equal(tail_of(&root), 10);
    tell(&root, 4);
    AWAIT(shown(&root) == 4);
    assert_shows(&root, 4);
    tell(&root, 3); // what was known stays so
    assert_shows(&root, 4);
    tell(&root, 100); // what is not here yet is not committed here
    AWAIT(shown(&root) == 10);
    feed(&root, 1);
    AWAIT(shown(&root) == 11);
    struct transaction write = {.bytes = 1};
    assert_int_equal(sequencer_submit(instance_of(&root), &write), ERR_READONLY);
    stop(&root);
    root_close(&root);
}

struct hold {
    struct task task;
    sem_t begun, end;
};

static void on_hold(struct task *task)
{
    struct hold *hold = CONTAINER_OF(task, struct hold, task);
    sem_post(&hold->begun);
    sem_wait(&hold->end);
}

// What came by one link stands before the writer when it hears that another is in use. It would
// fit: all that is here is committed.
static void check_left_behind(struct root *root, struct block *block)
{
    struct hold hold = {.task.run = on_hold};
    sem_init(&hold.begun, 0, 0);
    sem_init(&hold.end, 0, 0);
    uint64_t last = tail_of(root);
    assert_shows(root, last);
    mailbox_post(worker_mailbox(instance_of(root)->writer), &hold.task);
    sem_wait(&hold.begun);
    instance_receive(instance_of(root), block_hold(block));
    join(root, atomic_load(&lead_of(root)->epoch) + 1, last);
    sem_post(&hold.end);
    let_turn(root);
    assert_int_equal(tail_of(root), last);
    instance_receive(instance_of(root), block_hold(block));
    await_word(root, &block->header);
}

static const struct journal_place none;

// Blocks of a link that is not in use are dropped, whatever they are.
static void test_links(void **unused)
{
    (void)unused;
    struct root root;
    standby_open(&root);
    struct block *first = make(&root, 0), *second = make(&root, 0);
    instance_receive(instance_of(&root), block_hold(first)); // nobody has said what it is
    let_turn(&root);
    assert_int_equal(tail_of(&root), 0);
    join(&root, EPOCH, 0);
    instance_told(instance_of(&root), root.link, EPOCH - 1, 1, &none); // of another epoch
    instance_receive(instance_of(&root), block_hold(first));
    await_word(&root, &first->header);
    assert_shows(&root, 0);
    instance_stand(instance_of(&root), EPOCH + 1, LEAD_NOBODY);
    instance_receive(instance_of(&root), block_hold(second));
    let_turn(&root);
    assert_int_equal(tail_of(&root), 1);
    assert_int_equal(lead_say(lead_of(&root)).link, 0); // nothing is acknowledged in that one
    instance_told(instance_of(&root), root.link, EPOCH, 1, &none); // late, of the one before
    assert_shows(&root, 0);
    join(&root, EPOCH + 2, 1);
    instance_receive(instance_of(&root), block_hold(first));
    AWAIT(shown(&root) == 1);
    check_left_behind(&root, second);
    stop(&root);
    block_release(first);
    block_release(second);
    root_close(&root);
}

static size_t aside_count(struct root *root, char ret_name[256])
{
    char *path = mem_format("%s/root/set-aside", root->node.directory);
    DIR *directory = opendir(path);
    size_t count = 0;
    const struct dirent *file;
    while (directory != NULL && (file = readdir(directory)) != NULL) {
        if (file->d_name[0] != '.') {
            snprintf(ret_name, 256, "%s", file->d_name);
            count++;
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    mem_free(path);
    return count;
}

// The log of another leader differs from block 4 on: that is found by chain, and cut.
static void test_cut(void **unused)
{
    (void)unused;
    struct root root;
    standby_open(&root);
    join(&root, EPOCH, 2);
    feed(&root, 2);
    struct block *third = make(&root, 0);
    instance_receive(instance_of(&root), block_hold(third));
    struct block_header last = feed(&root, 3);
    await_word(&root, &last);
    assert_shows(&root, 2);
    // From the last committed block on, what both have is only compared.
    join(&root, EPOCH + 1, 5);
    let_turn(&root);
    assert_int_equal(lead_say(lead_of(&root)).place.number, 2);
    assert_shows(&root, 2); // the other's blocks 3 to 5 may be others than those here
    instance_receive(instance_of(&root), block_hold(third));
    await_word(&root, &third->header);
    AWAIT(shown(&root) == 3);
    assert_shows(&root, 3);
    assert_int_equal(tail_of(&root), 6);
    root.last = third->header;
    last = feed(&root, 5);
    await_word(&root, &last);
    AWAIT(shown(&root) == 5);
    assert_shows(&root, 5);
    char name[256];
    assert_int_equal(aside_count(&root, name), 1);
    assert_non_null(strstr(name, "-5-4.qsj"));
    assert_int_equal(atomic_load(&lead_of(&root)->set_aside), 3);
    restart(&root);
    struct block_header header;
    assert_int_equal(journal_tail_header(instance_of(&root)->journal, 8, &header), OK);
    assert_true(hash128_equal(header.chain, last.chain));
    assert_shows(&root, 5);
    // The same once more, with a tail that a start has found.
    join(&root, EPOCH + 2, 5);
    assert_int_equal(journal_header(instance_of(&root)->journal, 5, &root.last), OK);
    last = feed(&root, 1);
    await_word(&root, &last);
    assert_int_equal(aside_count(&root, name), 2);
    assert_int_equal(tail_of(&root), 6);
    stop(&root);
    block_release(third);
    root_close(&root);
}

// A start knows what is committed from its file and from what later blocks say; the rest waits. A
// journal that lacks what the file says is refused.
static void test_start(void **unused)
{
    (void)unused;
    struct root root;
    standby_open(&root);
    join(&root, EPOCH, 2);
    struct block_header last = feed(&root, 6);
    await_word(&root, &last);
    restart(&root);
    assert_shows(&root, 2);
    assert_int_equal(lead_of(&root)->tail.count, 4);
    join(&root, EPOCH, 2);
    assert_int_equal(journal_header(instance_of(&root)->journal, 2, &root.last), OK);
    root.keys = 2; // the very blocks that are there, and one that says that 5 is committed
    feed(&root, 4);
    assert_true(hash128_equal(root.last.chain, last.chain));
    struct block *seventh = make(&root, 5);
    instance_receive(instance_of(&root), block_hold(seventh));
    await_word(&root, &seventh->header);
    assert_shows(&root, 2);
    restart(&root);
    assert_shows(&root, 5);
    assert_int_equal(lead_of(&root)->tail.count, 2);
    stop(&root);
    char *path = mem_format("%s/root", root.node.directory);
    struct commit *commit;
    struct commit_record record;
    struct journal_place beyond = {.number = 8, .index = 8};
    assert_int_equal(commit_open(&commit, path, "test", &record), OK);
    assert_int_equal(record.place.number, 5);
    assert_int_equal(commit_advance(commit, test_history, &beyond), OK);
    commit_close(commit);
    assert_int_equal(start(&root), ERR_AHEAD);
    mem_free(path);
    block_release(seventh);
    root_close(&root);
}

// ---- a leader ----------------------------------------------------------------------------------

// The birth block is committed as any other, and a write once all have it.
static void test_leader(void **unused)
{
    (void)unused;
    struct root root;
    struct writing first, second;
    leader_open(&root, 60000);
    assert_int_equal(write_start(&root, &first), OK);
    acknowledge(&root, 0, 1, 1);
    assert_shows(&root, 0);
    assert_int_equal(tail_of(&root), 1); // nothing is sequenced before what it found is shown
    acknowledge(&root, 1, 1, 1);
    AWAIT(tail_of(&root) == 2);
    assert_shows(&root, 1);
    assert_int_equal(write_start(&root, &second), OK);
    AWAIT(tail_of(&root) == 3); // the next is journaled while the one before waits
    acknowledge(&root, 0, 1, 3);
    struct hash128 other = chain_at(&root, 2);
    other.low++;
    instance_acknowledged(instance_of(&root), 1, 0, 1, 2, other); // of another log
    acknowledge(&root, 1, 2, 3);                                  // of another epoch
    assert_shows(&root, 1);
    assert_false(answered(&first));
    acknowledge(&root, 1, 1, 2);
    assert_int_equal(write_end(&first), OK);
    assert_shows(&root, 2);
    assert_false(answered(&second));
    acknowledge(&root, 1, 1, 3);
    assert_int_equal(write_end(&second), OK);
    assert_int_equal(second.transaction.index, 2);
    stop(&root);
    root_close(&root);
}

// Deposed: what is journaled is of unknown outcome, the rest was not done. Leading again it begins
// an epoch, whose first block is waited for.
static void test_deposed(void **unused)
{
    (void)unused;
    struct root root;
    struct writing writing, late;
    leader_open(&root, 60000);
    acknowledge(&root, 0, 1, 1);
    acknowledge(&root, 1, 1, 1);
    assert_int_equal(write_start(&root, &writing), OK);
    AWAIT(tail_of(&root) == 2);
    instance_stand(instance_of(&root), 2, 0);
    assert_int_equal(write_end(&writing), ERR_UNKNOWN_OUTCOME);
    assert_int_equal(write_start(&root, &late), ERR_READONLY);
    acknowledge(&root, 0, 1, 2); // what the old epoch's standbys say counts no more
    acknowledge(&root, 1, 1, 2);
    assert_shows(&root, 1);
    instance_lead(instance_of(&root), 3, ALL);
    AWAIT(instance_leads(instance_of(&root)));
    assert_int_equal(tail_of(&root), 3);
    assert_int_equal(write_start(&root, &late), OK);
    acknowledge(&root, 0, 3, 3);
    acknowledge(&root, 1, 3, 2); // the write of the first epoch, and not the block of this one
    assert_shows(&root, 1);
    acknowledge(&root, 1, 3, 3);
    AWAIT(tail_of(&root) == 4);
    assert_shows(&root, 3);
    struct block_header header;
    assert_int_equal(journal_tail_header(instance_of(&root)->journal, 4, &header), OK);
    assert_int_equal(header.epoch, 3);
    assert_int_equal(header.commit_index, 1);
    instance_count(instance_of(&root), 1u << OWN | 1); // the third is not waited for any more
    acknowledge(&root, 0, 3, 4);
    assert_int_equal(write_end(&late), OK);
    assert_int_equal(late.transaction.index, 2);
    stop(&root);
    root_close(&root);
}

static void test_commit_wait(void **unused)
{
    (void)unused;
    struct root root;
    struct writing writing;
    leader_open(&root, 20);
    assert_int_equal(write_start(&root, &writing), OK);
    assert_int_equal(write_end(&writing), ERR_BUSY); // it was never sequenced
    assert_int_equal(tail_of(&root), 1);
    acknowledge(&root, 0, 1, 1);
    acknowledge(&root, 1, 1, 1);
    AWAIT(shown(&root) == 1);
    assert_int_equal(write_start(&root, &writing), OK);
    assert_int_equal(write_end(&writing), ERR_UNKNOWN_OUTCOME);
    assert_int_equal(tail_of(&root), 2);
    acknowledge(&root, 0, 1, 2);
    acknowledge(&root, 1, 1, 2);
    AWAIT(shown(&root) == 2); // it came to be
    stop(&root);
    root_close(&root);
}

int main(void)
{
    log_open((enum log_level)(LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_standby),     cmocka_unit_test(test_links),
        cmocka_unit_test(test_cut),         cmocka_unit_test(test_start),
        cmocka_unit_test(test_leader),      cmocka_unit_test(test_deposed),
        cmocka_unit_test(test_commit_wait),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
