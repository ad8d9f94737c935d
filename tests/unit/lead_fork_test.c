// SPDX-License-Identifier: Apache-2.0
// A change of history at one of several roots, without its links: one goes on from its own log,
// with its tail, in one step; another leaves its log, and sets aside what the new history lacks.
#include <dirent.h>

#include "common/core/applier.h"
#include "tests/unit/lead_fixture.h"

static const uint8_t other_history[HISTORY_ID_BYTES] = "another history";

static void assert_of(struct root *root, const uint8_t *history)
{
    struct view *view = instance_pin(instance_of(root));
    assert_memory_equal(view->history, history, HISTORY_ID_BYTES);
    view_release(view);
}

static unsigned keys_of(struct root *root)
{
    struct view *view = instance_pin(instance_of(root));
    unsigned keys = (unsigned)view->digest.keys;
    view_release(view);
    return keys;
}

// Ten blocks, of which four are shown.
static void part_committed(struct root *root)
{
    standby_fed(root, 10);
    tell(root, 4);
    AWAIT(shown(root) == 4);
    assert_shows(root, 4);
}

static void await_fork(struct root *root, uint64_t epoch)
{
    AWAIT(atomic_load(&lead_of(root)->opened) != 0 && shown(root) == tail_of(root));
    assert_int_equal(atomic_load(&lead_of(root)->epoch), epoch);
    assert_of(root, other_history);
    assert_memory_equal(journal_history(instance_of(root)->journal), other_history,
                        HISTORY_ID_BYTES);
}

static void check_forked(struct root *root)
{
    assert_of(root, other_history);
    assert_shows(root, 11); // the birth block stands behind the fourth, the rest behind that
    assert_int_equal(keys_of(root), 10);
    struct journal *journal = instance_of(root)->journal;
    assert_int_equal(journal_oldest(journal).number, 4);
    struct birth birth;
    birth_get(instance_of(root), &birth);
    assert_true(birth.size > 0 && birth.forked && birth.placed);
    assert_memory_equal(birth.ancestor, test_history, HISTORY_ID_BYTES);
    assert_memory_equal(birth.history, other_history, HISTORY_ID_BYTES);
    assert_true(birth.from.number == 4 && birth.from.index == 4);
    struct birth again;
    assert_int_equal(birth_decode(&again, bytes_of(birth.bytes, birth.size)), OK);
    birth.bytes[BLOCK_HEADER_BYTES + 4] ^= 1; // of another ancestor
    assert_int_not_equal(birth_decode(&again, bytes_of(birth.bytes, birth.size)), OK);
    struct journal_cursor cursor = {0};
    struct block_header previous;
    assert_int_equal(journal_header(journal, 5, &previous), OK);
    assert_int_equal(journal_cursor_open(journal, &cursor, 6), OK);
    for (uint64_t number = 6; number <= 11; number++) {
        struct block *block;
        assert_int_equal(journal_cursor_next(&cursor, &block), OK);
        assert_int_equal(block_follows(&previous, block), OK);
        assert_int_equal(block->header.first_index, number - 1);
        previous = block->header;
        block_release(block);
    }
    journal_cursor_close(&cursor);
}

static void test_fork(void **unused)
{
    (void)unused;
    struct root root;
    part_committed(&root);
    struct view *before = instance_pin(instance_of(&root));
    instance_fork(instance_of(&root), other_history, EPOCH + 2);
    await_fork(&root, EPOCH + 2);
    check_forked(&root);
    assert_memory_equal(before->history, test_history, HISTORY_ID_BYTES); // who reads it reads on
    assert_int_equal(before->place.index, 4);
    view_release(before);
    assert_int_equal(views_forks(&instance_of(&root)->views), 1);
    // Asked again, and again in a later epoch: it leads, and nothing forks.
    instance_fork(instance_of(&root), other_history, EPOCH + 2);
    let_turn(&root);
    check_forked(&root);
    stop(&root);
    root_close(&root);
}

static void test_fork_and_restart(void **unused)
{
    (void)unused;
    struct root root;
    part_committed(&root);
    instance_fork(instance_of(&root), other_history, EPOCH + 2);
    await_fork(&root, EPOCH + 2);
    restart(&root);
    check_forked(&root);
    stop(&root);
    root_close(&root);
}

// Holds the applier until it is let go.
struct hold {
    struct task task;
    sem_t held;
};

static void on_hold(struct task *task) { sem_wait(&CONTAINER_OF(task, struct hold, task)->held); }

static void hold_applier(struct root *root, struct hold *hold)
{
    *hold = (struct hold){.task.run = on_hold};
    sem_init(&hold->held, 0, 0);
    mailbox_post(worker_mailbox(instance_of(root)->applier), &hold->task);
}

static void let_go(struct hold *hold) { sem_post(&hold->held); }

static void let_write(struct root *root)
{
    struct test_task call = {.task.run = test_task_run, .run = on_nothing};
    sem_init(&call.finished, 0, 0);
    mailbox_post(worker_mailbox(instance_of(root)->writer), &call.task);
    sem_wait(&call.finished);
    sem_destroy(&call.finished);
}

// Ordered twice, and the journal changes by the first. Before the store has come to rest for the
// second it is ordered to follow nobody: that one must not make it lead.
static void test_fork_overtaken(void **unused)
{
    (void)unused;
    struct root root;
    struct hold first, second;
    part_committed(&root);
    hold_applier(&root, &first);
    instance_fork(instance_of(&root), other_history, EPOCH + 2);
    let_write(&root);
    hold_applier(&root, &second);
    instance_fork(instance_of(&root), other_history, EPOCH + 2);
    let_write(&root);
    let_go(&first);
    AWAIT(atomic_load(&lead_of(&root)->opened) != 0);
    instance_promise(instance_of(&root), EPOCH + 3, LEAD_NOBODY);
    let_write(&root);
    let_go(&second);
    let_turn(&root);
    let_turn(&root);
    assert_false(instance_leads(instance_of(&root)));
    assert_int_equal(atomic_load(&lead_of(&root)->epoch), EPOCH + 3);
    // Ordered anew it leads, in what it has by now.
    instance_fork(instance_of(&root), other_history, EPOCH + 4);
    AWAIT(instance_leads(instance_of(&root)));
    assert_int_equal(atomic_load(&lead_of(&root)->epoch), EPOCH + 4);
    sem_destroy(&first.held);
    sem_destroy(&second.held);
    stop(&root);
    root_close(&root);
}

// What a crash leaves of a fork whose journal is there, and nothing else: the store stands where it
// forked, and the file `commit` knows the old history.
static void test_crash_in_a_fork(void **unused)
{
    (void)unused;
    struct root root;
    part_committed(&root);
    struct journal *journal = instance_of(&root)->journal;
    struct block_header before;
    assert_int_equal(journal_header(journal, 4, &before), OK);
    memcpy(before.history, other_history, HISTORY_ID_BYTES);
    struct block *blocks[2];
    blocks[0] = birth_fork(instance_of(&root), &before, test_history, EPOCH + 2);
    struct journal_cursor cursor = {0};
    struct block *fifth;
    assert_int_equal(journal_tail_cursor(journal, &cursor, 5), OK);
    assert_int_equal(journal_cursor_next(&cursor, &fifth), OK);
    journal_cursor_close(&cursor);
    struct block_stamp stamp = {.epoch = EPOCH + 2, .commit_index = 4};
    blocks[1] = block_restamp(fifth, &blocks[0]->header, stamp);
    block_release(fifth);
    stop(&root); // which leaves the store on disk
    char *directory = mem_format("%s/root/journal", root.node.directory);
    struct journal_options options = {.directory = directory,
                                      .scope = "test",
                                      .segment_bytes = MIB,
                                      .keep_bytes = GIB,
                                      .keep_ms = UINT64_MAX};
    struct journal_report report;
    assert_int_equal(journal_open(&journal, &options, &(struct journal_place){0}, &report), OK);
    assert_int_equal(journal_hold(journal, 4), OK);
    assert_int_equal(journal_fork(journal, &before, blocks, 2), OK);
    assert_int_equal(journal_tail(journal).number, 6);
    journal_close(journal);
    mem_free(directory);
    block_release(blocks[0]);
    block_release(blocks[1]);
    assert_int_equal(start(&root), OK);
    assert_of(&root, other_history);
    assert_shows(&root, 6);
    assert_int_equal(keys_of(&root), 5);
    stop(&root);
    root_close(&root);
}

// ---- leaving -----------------------------------------------------------------------------------

struct leaving {
    struct restart_order order;
    sem_t answered;
};

static void on_answered(struct task *task)
{
    sem_post(&CONTAINER_OF(task, struct leaving, order.answered)->answered);
}

static int leave(struct root *root, const struct block_header *before, const struct birth *birth)
{
    struct leaving leaving = {.order = {.instance = instance_of(root),
                                        .before = *before,
                                        .loop = root->node.loop,
                                        .answered.run = on_answered}};
    if (birth != NULL) {
        leaving.order.birth = *birth;
    }
    sem_init(&leaving.answered, 0, 0);
    instance_restart_journal(&leaving.order);
    sem_wait(&leaving.answered);
    sem_destroy(&leaving.answered);
    return leaving.order.error;
}

static unsigned files_aside(struct root *root)
{
    unsigned count = 0;
    char *path = mem_format("%s/root/set-aside", root->node.directory);
    DIR *directory = opendir(path);
    mem_free(path);
    if (directory != NULL) {
        struct dirent *file;
        while ((file = readdir(directory)) != NULL) {
            count += file->d_name[0] != '.';
        }
        closedir(directory);
    }
    return count;
}

// The new history forked behind block 2; four are committed here, ten are there.
static void test_leave(void **unused)
{
    (void)unused;
    struct root root;
    part_committed(&root);
    struct instance *instance = instance_of(&root);
    struct block_header before;
    assert_int_equal(journal_header(instance->journal, 2, &before), OK);
    memcpy(before.history, other_history, HISTORY_ID_BYTES);
    struct block *block = birth_fork(instance, &before, test_history, EPOCH + 2);
    struct birth birth;
    assert_int_equal(birth_decode(&birth, block->stored), OK);
    instance_stand(instance, EPOCH + 2, 0);
    assert_int_equal(leave(&root, &block->header, &birth), ERR_BUSY); // it is not promised
    assert_int_equal(files_aside(&root), 0);
    instance_join(instance, test_history);
    assert_int_equal(leave(&root, &block->header, &birth), ERR_BUSY);
    instance_join(instance, other_history);
    assert_int_equal(lead_leave_history(lead_of(&root), &birth), OK);
    assert_int_equal(files_aside(&root), 1);
    assert_int_equal(METRIC_GET(root.at.metrics, instance, set_aside), 8); // blocks 3 to 10
    // Where it is not known where they parted, what was never committed.
    assert_int_equal(lead_leave_history(lead_of(&root), &(struct birth){0}), OK);
    assert_int_equal(files_aside(&root), 2);
    assert_int_equal(METRIC_GET(root.at.metrics, instance, set_aside), 8 + 6);
    block_release(block);
    stop(&root);
    root_close(&root);
}

static void freeze(void *argument)
{
    assert_int_equal(applier_freeze(argument), OK);
}

// The journal of another history begins in its middle: nothing is acknowledged before the store
// that belongs to it is there.
static void test_half(void **unused)
{
    (void)unused;
    struct root root;
    part_committed(&root);
    struct instance *instance = instance_of(&root);
    struct block_header before;
    assert_int_equal(journal_header(instance->journal, 4, &before), OK);
    memcpy(before.history, other_history, HISTORY_ID_BYTES);
    instance_stand(instance, EPOCH + 2, 0);
    instance_join(instance, other_history);
    struct test_task call = {.task.run = test_task_run, .run = freeze, .argument = instance};
    sem_init(&call.finished, 0, 0);
    mailbox_post(worker_mailbox(instance->applier), &call.task);
    sem_wait(&call.finished);
    sem_destroy(&call.finished);
    assert_int_equal(leave(&root, &before, NULL), OK);
    assert_memory_equal(journal_history(instance->journal), other_history, HISTORY_ID_BYTES);
    assert_of(&root, test_history); // it is served still
    root.last = before;
    join(&root, EPOCH + 2, 0);
    struct block_header last = feed(&root, 3);
    let_turn(&root);
    AWAIT(tail_of(&root) == last.number);
    tell(&root, 0);
    let_turn(&root);
    assert_int_equal(lead_say(lead_of(&root)).link, 0);
    atomic_store(&instance->wants_build, false); // as when it is built
    tell(&root, 0);
    await_word(&root, &last);
    stop(&root);
    root_close(&root);
}

int main(void)
{
    log_open((enum log_level)(LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fork),
        cmocka_unit_test(test_fork_and_restart),
        cmocka_unit_test(test_fork_overtaken),
        cmocka_unit_test(test_crash_in_a_fork),
        cmocka_unit_test(test_leave),
        cmocka_unit_test(test_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
