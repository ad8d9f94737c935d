// SPDX-License-Identifier: Apache-2.0
// What a council orders of one of several roots: whom it serves, the gate of its writes, the mark
// from which its log stays as it is told, a history that is begun; and what a start makes of its
// promise.
#include "common/core/applier.h"
#include "common/tree/follow.h"
#include "tests/unit/lead_fixture.h"

// Whose log may be compared with: of one that leads, or that has promised the other to follow it.
// Who is elected takes over first.
static void test_serves(void **unused)
{
    (void)unused;
    struct root root;
    standby_open(&root);
    assert_false(lead_serves(lead_of(&root), 0));
    join(&root, EPOCH, 0);
    feed(&root, 1);
    await_word(&root, &root.last);
    assert_true(lead_serves(lead_of(&root), 0));
    assert_false(lead_serves(lead_of(&root), 1));
    instance_stand(instance_of(&root), EPOCH, 0); // as it does already
    let_turn(&root);
    assert_int_equal(lead_say(lead_of(&root)).place.number, 1);
    instance_take_over(instance_of(&root), EPOCH + 1, 0);
    let_turn(&root);
    assert_false(lead_serves(lead_of(&root), 0));
    instance_lead(instance_of(&root), EPOCH + 1, 3);
    AWAIT(instance_leads(instance_of(&root)));
    assert_true(lead_serves(lead_of(&root), 0));
    assert_int_equal(tail_of(&root), 2); // with the block of that epoch
    instance_committed(instance_of(&root), 1);
    let_turn(&root);
    assert_shows(&root, 1);
    stop(&root);
    root_close(&root);
}

// The gate of a leader: writes wait behind it, or are refused.
static void test_gate(void **unused)
{
    (void)unused;
    struct root root;
    struct writing first, second;
    leader_settled(&root);
    instance_gate(instance_of(&root), LEAD_GATE_WAIT);
    let_turn(&root);
    assert_int_equal(write_start(&root, &first), OK);
    let_turn(&root);
    assert_int_equal(tail_of(&root), 1);
    assert_false(answered(&first));
    instance_gate(instance_of(&root), LEAD_GATE_OPEN);
    AWAIT(tail_of(&root) == 2);
    acknowledge(&root, 0, 1, 2);
    acknowledge(&root, 1, 1, 2);
    assert_int_equal(write_end(&first), OK);
    instance_gate(instance_of(&root), LEAD_GATE_WAIT);
    let_turn(&root);
    assert_int_equal(write_start(&root, &second), OK);
    instance_gate(instance_of(&root), LEAD_GATE_SHUT);
    assert_int_equal(write_end(&second), ERR_READONLY); // it was not done
    assert_int_equal(write_start(&root, &first), ERR_READONLY);
    assert_int_equal(tail_of(&root), 2);
    stop(&root);
    root_close(&root);
}

// A promise to one that does not lead yet: nobody's blocks are taken from the mark on, so that the
// end that is told stays the end; and that one may take them over.
static void test_promise(void **unused)
{
    (void)unused;
    struct root root;
    struct block_header last = standby_fed(&root, 3);
    struct block *late = make(&root, 0);
    instance_promise(instance_of(&root), EPOCH + 1, 0);
    instance_mark(instance_of(&root), 1);
    instance_receive(instance_of(&root), block_hold(late)); // by the link of the former leader
    AWAIT(lead_look(lead_of(&root)).marked == 1);
    struct log_end end = lead_look(lead_of(&root)).end;
    assert_int_equal(end.block, 3);
    assert_int_equal(end.epoch, last.epoch);
    assert_true(hash128_equal(end.chain, last.chain));
    let_turn(&root);
    assert_int_equal(tail_of(&root), 3);
    assert_int_equal(lead_look(lead_of(&root)).end.block, 3);
    assert_true(lead_serves(lead_of(&root), 0));
    assert_int_equal(atomic_load(&lead_of(&root)->leader), LEAD_NOBODY);
    block_release(late);
    stop(&root);
    root_close(&root);
}

// What a root acknowledged by one link does not count once it has begun another.
static void test_new_link(void **unused)
{
    (void)unused;
    struct root root;
    struct instance *instance;
    leader_open(&root, 60000);
    instance = instance_of(&root);
    uint64_t old = instance_taken(instance, 0);
    acknowledge(&root, 1, 1, 1);
    instance_acknowledged(instance, 0, old, 1, 1, chain_at(&root, 1));
    AWAIT(shown(&root) == 1);
    assert_int_equal(lead_acknowledged(lead_of(&root), 0), 1);
    uint64_t new = instance_taken(instance, 0);
    instance_acknowledged(instance, 0, old, 1, 1, chain_at(&root, 1));
    let_turn(&root);
    assert_int_equal(lead_acknowledged(lead_of(&root), 0), 0);
    instance_acknowledged(instance, 0, new, 1, 1, chain_at(&root, 1));
    let_turn(&root);
    assert_int_equal(lead_acknowledged(lead_of(&root), 0), 1);
    stop(&root);
    root_close(&root);
}

static int acknowledge_by(struct stand_giver *giver, struct root *root)
{
    uint8_t chain[HASH128_BYTES];
    struct buf frame = {0};
    hash128_store(chain, chain_at(root, 1));
    const struct message_acknowledge message = {
        .epoch = giver->epoch, .block = 1, .chain = bytes_of(chain, sizeof chain)};
    message_acknowledge_encode(&frame, &message);
    int error = stand_on_acknowledge(
        giver, instance_of(root),
        bytes_of(frame.data + FRAME_HEAD_BYTES, frame.size - FRAME_HEAD_BYTES));
    buf_free(&frame);
    return error;
}

// Of several links that a root has tried the one that lives need not be taken last: it ends, so
// that the root comes again, rather than never being counted.
static void test_live_link_taken_first(void **unused)
{
    (void)unused;
    struct root root;
    struct stand_giver live, dead, again;
    leader_open(&root, 60000);
    stand_giver_open(&live, instance_of(&root), 0);
    stand_giver_open(&dead, instance_of(&root), 0);
    acknowledge(&root, 1, 1, 1);
    assert_int_equal(acknowledge_by(&live, &root), ERR_REFUSED);
    stand_giver_open(&again, instance_of(&root), 0);
    assert_int_equal(acknowledge_by(&again, &root), OK);
    AWAIT(shown(&root) == 1);
    stop(&root);
    root_close(&root);
}

static void take_away(struct root *root, const char *name)
{
    char *path = mem_format("%s/root/%s", root->node.directory, name);
    assert_int_equal(unlink(path), 0);
    mem_free(path);
}

// R13: where a council decides a journal counts only with its promise, and its commit file only
// where the promise says that there was none.
static void test_start_with_a_council(void **unused)
{
    (void)unused;
    struct root root;
    leader_settled(&root); // without one, in epoch 1
    stop(&root);
    root.council = true;
    assert_int_equal(start(&root), OK);
    assert_int_equal(lead_of(&root)->promise.leadership.leader, ROOT_NOBODY);
    assert_int_equal(lead_of(&root)->promise.leadership.epoch, 1);
    assert_false(lead_of(&root)->promise.blank);
    stop(&root);
    take_away(&root, "commit"); // as if it had been the only one
    assert_int_equal(start(&root), OK);
    assert_shows(&root, 1);
    instance_lead(instance_of(&root), 2, ALL);
    AWAIT(instance_leads(instance_of(&root)));
    AWAIT(tail_of(&root) == 2);
    stop(&root);
    take_away(&root, "promise");
    assert_int_equal(start(&root), ERR_CORRUPT); // the log is of an epoch that somebody promised
    struct promise promise = {.leadership = {.epoch = 2, .leader = 0}, .generation = 3};
    leave_promise(&root, &promise);
    assert_int_equal(start(&root), OK);
    stop(&root);
    take_away(&root, "commit");
    assert_int_equal(start(&root), ERR_CORRUPT);
    root_close(&root);
}

// An empty root begins a history, once; a second time it only leads in it.
static void test_found(void **unused)
{
    (void)unused;
    static const char *const names[] = {"b@127.0.0.1:7002", "test-node@127.0.0.1:7001", NULL};
    static const uint8_t other[HISTORY_ID_BYTES] = "another history";
    struct root root;
    root_open(&root, names);
    root.council = true;
    assert_int_equal(start(&root), OK);
    assert_true(lead_of(&root)->promise.blank);
    instance_found(instance_of(&root), test_history, 2, 3);
    AWAIT(instance_leads(instance_of(&root)));
    assert_int_equal(tail_of(&root), 1);
    instance_found(instance_of(&root), other, 3, 3); // it has one
    let_turn(&root);
    assert_memory_equal(journal_history(instance_of(&root)->journal), test_history,
                        HISTORY_ID_BYTES);
    instance_found(instance_of(&root), test_history, 3, 3);
    AWAIT(tail_of(&root) == 2);
    instance_committed(instance_of(&root), 2);
    AWAIT(shown(&root) == 2);
    stop(&root);
    root_close(&root);
}

// Five roots: with two others it knows that nobody else leads.
static void test_doubt(void **unused)
{
    (void)unused;
    static const char *const names[] = {"b@127.0.0.1:7002", "c@127.0.0.1:7003",
                                        "test-node@127.0.0.1:7001", "d@127.0.0.1:7004",
                                        "e@127.0.0.1:7005", NULL};
    struct root root;
    root_open(&root, names);
    root.node.options.silence = 2000;
    root.council = true;
    assert_int_equal(start(&root), OK);
    instance_found(instance_of(&root), test_history, 2, ALL);
    AWAIT(instance_leads(instance_of(&root)));
    struct lead *lead = lead_of(&root);
    uint64_t silence_ns = 2000 * NS_PER_MS, at_ns = atomic_load(&lead->opened_ns);
    assert_int_equal(lead_doubt_ns(lead, at_ns - 1), 0);
    assert_int_equal(lead_doubt_ns(lead, at_ns + silence_ns), 0);
    assert_int_equal(lead_doubt_ns(lead, at_ns + silence_ns + 1), silence_ns + 1);
    lead_heard(lead, 0, at_ns + 9 * silence_ns);
    lead_heard(lead, lead->members.own, at_ns + 9 * silence_ns);
    assert_int_equal(lead_doubt_ns(lead, at_ns + 9 * silence_ns), 9 * silence_ns);
    lead_heard(lead, 3, at_ns + 7 * silence_ns);
    assert_int_equal(lead_doubt_ns(lead, at_ns + 8 * silence_ns), 0);
    assert_int_equal(lead_doubt_ns(lead, at_ns + 9 * silence_ns), 2 * silence_ns);
    lead_heard(lead, 1, at_ns + 8 * silence_ns);
    assert_int_equal(lead_doubt_ns(lead, at_ns + 9 * silence_ns), 0);
    assert_int_equal(lead_doubt_ns(lead, at_ns + 11 * silence_ns), 3 * silence_ns);
    stop(&root);
    root_close(&root);
}

// A promise without the journal that it was given for: such a root must not vote.
static void test_start_without_a_journal(void **unused)
{
    (void)unused;
    struct root root;
    standby_fed(&root, 3);
    stop(&root);
    struct promise promise = {.leadership = {.epoch = EPOCH, .leader = 0}, .generation = 3};
    memcpy(promise.history, test_history, HISTORY_ID_BYTES);
    char *journal = mem_format("%s/root/journal", root.node.directory);
    leave_promise(&root, &promise);
    assert_int_equal(start(&root), OK);
    stop(&root);
    assert_int_equal(nftw(journal, test_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
    assert_int_equal(start(&root), ERR_AHEAD);
    promise.leadership.leader = OWN - 1; // it was about to begin, and may do so
    promise.generation = 1;
    leave_promise(&root, &promise);
    assert_int_equal(start(&root), OK);
    stop(&root);
    mem_free(journal);
    root_close(&root);
}

// A journal of one history beside a promise of another is that of a fork, or of a root that leaves.
static void test_start_with_another_history(void **unused)
{
    (void)unused;
    struct root root;
    standby_fed(&root, 3);
    unsigned own = lead_of(&root)->members.own;
    stop(&root);
    const struct {
        unsigned leader;
        bool alone, blank;
        int error;
    } cases[] = {
        {.leader = own, .error = ERR_DIVERGED},
        {.leader = 0, .error = ERR_DIVERGED},
        {.leader = 0, .alone = true, .error = ERR_DIVERGED},
        {.leader = own, .alone = true, .error = OK},
        {.leader = 0, .blank = true, .error = OK},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct promise promise = {.history = "another history",
                                  .leadership = {.epoch = EPOCH, .leader = cases[i].leader},
                                  .generation = 3,
                                  .alone = cases[i].alone,
                                  .blank = cases[i].blank};
        leave_promise(&root, &promise);
        assert_int_equal(start(&root), cases[i].error);
        if (cases[i].error == OK) {
            stop(&root);
        }
    }
    root_close(&root);
}

// A leader that was elected again feeds the link of its former epoch for a moment still.
static void test_later_epoch(void **unused)
{
    (void)unused;
    struct root root;
    struct block_header last = standby_fed(&root, 2);
    struct block *mark = block_mark(&last, (struct block_stamp){.epoch = EPOCH + 1},
                                    bytes_text("\x92\x02\xa1"
                                               "b"));
    instance_receive(instance_of(&root), block_hold(mark));
    let_turn(&root);
    assert_int_equal(tail_of(&root), 2);
    join(&root, EPOCH + 1, 0);
    let_turn(&root);
    instance_receive(instance_of(&root), block_hold(mark));
    let_turn(&root);
    assert_int_equal(tail_of(&root), 2); // block 2 has not been compared by this link
    block_release(mark);
    stop(&root);
    root_close(&root);
}

static sem_t restarted;

static void on_restarted(struct task *task)
{
    (void)task;
    sem_post(&restarted);
}

struct freezing {
    struct task task;
    struct instance *instance;
    int error;
};

static void on_freeze(struct task *task)
{
    struct freezing *freezing = CONTAINER_OF(task, struct freezing, task);
    freezing->error = applier_freeze(freezing->instance);
    sem_post(&restarted);
}

// What is there stays, where a store that was built is of an earlier place.
static void test_keeps_its_tail(void **unused)
{
    (void)unused;
    struct root root;
    standby_open(&root);
    join(&root, EPOCH, 0);
    feed(&root, 1);
    struct block_header first = root.last, last = feed(&root, 2);
    await_word(&root, &last);
    struct restart_order order = {.instance = instance_of(&root),
                                  .before = first,
                                  .loop = root.node.loop,
                                  .answered.run = on_restarted};
    sem_init(&restarted, 0, 0);
    instance_restart_journal(&order);
    sem_wait(&restarted);
    assert_int_equal(order.error, ERR_BUSY);
    assert_int_equal(tail_of(&root), 3);
    struct freezing freezing = {.task.run = on_freeze, .instance = instance_of(&root)};
    mailbox_post(instance_applier(instance_of(&root)), &freezing.task);
    sem_wait(&restarted);
    assert_int_equal(freezing.error, OK);
    // A place of a later epoch: nothing of an earlier one counts behind it. It is kept in a file.
    order.before.epoch = EPOCH + 1;
    instance_restart_journal(&order);
    sem_wait(&restarted);
    assert_int_equal(order.error, OK);
    assert_int_equal(tail_of(&root), 1);
    assert_int_equal(atomic_load(&lead_of(&root)->set_aside), 3);
    sem_destroy(&restarted);
    stop(&root);
    root_close(&root);
}

// The leader's log begins behind what is committed here: blocks that are here already lead there.
static void test_offer(void **unused)
{
    (void)unused;
    struct root root;
    standby_open(&root);
    join(&root, EPOCH, 2);
    struct block_header last = feed(&root, 10); // block n ends at index n
    await_word(&root, &last);
    AWAIT(shown(&root) == 2);
    struct follow follow = {.instance = instance_of(&root)};
    struct journal_place end = journal_end(instance_of(&root)->journal);
    assert_int_equal(stand_place(&follow, &end).number, 2);
    assert_false(stand_offer(&follow, 3)); // that is the next one
    assert_true(stand_offer(&follow, 12));
    assert_int_equal(stand_place(&follow, &end).number, 10);
    assert_false(stand_offer(&follow, 7)); // it has not helped
    assert_int_equal(stand_place(&follow, &end).number, 2);
    assert_true(stand_offer(&follow, 7));
    struct journal_place place = stand_place(&follow, &end);
    assert_int_equal(place.number, 6);
    assert_int_equal(place.index, 6);

    // What is shared counts as the leader's at once, where it is what is here.
    struct hash128 chain = place.chain;
    place.chain = root.last.chain;
    join_from(&root, EPOCH + 1, 5, &place);
    struct block *next = make(&root, 0);
    instance_receive(instance_of(&root), block_hold(next));
    let_turn(&root);
    assert_shows(&root, 2);
    place.chain = chain;
    join_from(&root, EPOCH + 2, 5, &place);
    AWAIT(shown(&root) == 5);
    assert_int_equal(lead_say(lead_of(&root)).place.number, 6);
    assert_int_equal(tail_of(&root), 10);
    block_release(next);
    stop(&root);
    root_close(&root);
}

int main(void)
{
    log_open((enum log_level)(LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serves),   cmocka_unit_test(test_gate),
        cmocka_unit_test(test_promise),  cmocka_unit_test(test_new_link),
        cmocka_unit_test(test_live_link_taken_first),
        cmocka_unit_test(test_start_with_a_council), cmocka_unit_test(test_found),
        cmocka_unit_test(test_doubt),
        cmocka_unit_test(test_start_without_a_journal),
        cmocka_unit_test(test_start_with_another_history), cmocka_unit_test(test_later_epoch),
        cmocka_unit_test(test_keeps_its_tail), cmocka_unit_test(test_offer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
