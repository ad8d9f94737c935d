// SPDX-License-Identifier: Apache-2.0
// One of several roots without its links: what a standby takes, shows and cuts by what its leader
// says; when a leader's writes are answered; and what a start finds.
#include "tests/unit/writing_fixture.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/core/lead.h"
#include "replica/replica.h"

#define LIMIT_NS (60 * NS_PER_S)
#define OWN 2 // number of "test-node", behind "b" and "c"
#define ALL 7
#define EPOCH 5

#define AWAIT(condition)                                                                           \
    do {                                                                                           \
        uint64_t await_until = clock_mono_ns() + LIMIT_NS;                                         \
        while (!(condition)) {                                                                     \
            assert_true(clock_mono_ns() < await_until);                                            \
            clock_sleep_ns(50000);                                                                 \
        }                                                                                          \
    } while (0)

struct root {
    struct test_node node;
    struct test_instance at;
    void *sequencer;
    bool council;
    uint64_t link;
    // The log that is fed to it.
    struct block_builder builder;
    struct block_header last;
    unsigned keys;
};

static struct instance *instance_of(struct root *root) { return root->at.instance; }
static struct lead *lead_of(struct root *root) { return root->at.instance->lead; }

static int start(struct root *root)
{
    root->sequencer = sequencer_open();
    struct instance_setup setup = {.node = &root->node.options,
                                   .options = &root->at.options,
                                   .role = replica_role(),
                                   .cache = root->node.cache,
                                   .metrics = root->at.metrics,
                                   .beats = root->at.beats,
                                   .sequencer = root->sequencer,
                                   .home = root->node.loop,
                                   .sequence = sequencer_turn,
                                   .answer = sequencer_answer,
                                   .council = root->council};
    int error = instance_open(&root->at.instance, &setup);
    if (error == OK) {
        AWAIT(instance_state(instance_of(root)) == INSTANCE_SERVING);
    } else {
        sequencer_close(root->sequencer);
    }
    return error;
}

static void stop(struct root *root)
{
    instance_close(root->at.instance);
    sequencer_close(root->sequencer);
}

static void restart(struct root *root)
{
    stop(root);
    assert_int_equal(start(root), OK);
}

static void root_open(struct root *root, const char *const *names)
{
    memset(root, 0, sizeof *root);
    test_node_open(&root->node);
    root->at.options = test_options("root", ROLE_ROOT);
    root->at.options.submit_queue = MIB;
    root->at.options.roots = names;
    root->at.options.commit_wait = 60000;
    root->at.metrics = aligned_alloc(64, (sizeof *root->at.metrics + 63) / 64 * 64);
    memset(root->at.metrics, 0, sizeof *root->at.metrics);
    root->at.beats = beats_open();
    builder_open(&root->builder);
    block_genesis(&root->last, test_history);
}

// It may be stopped already.
static void root_close(struct root *root)
{
    builder_close(&root->builder);
    test_node_stop(&root->node);
    test_instance_end(&root->at);
    test_node_close(&root->node);
}

static void on_nothing(void *argument) { (void)argument; }

// The writer has done all that it was asked to, and the applier what it was handed then.
static void let_turn(struct root *root)
{
    struct worker *workers[] = {instance_of(root)->writer, instance_of(root)->applier};
    for (unsigned i = 0; i < 8; i++) {
        struct test_task call = {.task.run = test_task_run, .run = on_nothing};
        sem_init(&call.finished, 0, 0);
        mailbox_post(worker_mailbox(workers[i / 4]), &call.task);
        sem_wait(&call.finished);
        sem_destroy(&call.finished);
    }
}

static uint64_t shown(struct root *root)
{
    struct view *view = instance_pin(instance_of(root));
    uint64_t number = view->place.number;
    view_release(view);
    return number;
}

static void assert_shows(struct root *root, uint64_t number)
{
    let_turn(root);
    assert_int_equal(shown(root), number);
    assert_int_equal(lead_known(lead_of(root)).number, number);
    assert_int_equal(journal_end(instance_of(root)->journal).number, number);
}

static uint64_t tail_of(struct root *root)
{
    return journal_tail(instance_of(root)->journal).number;
}

// ---- a standby ---------------------------------------------------------------------------------

static void standby_open(struct root *root)
{
    static const char *const names[] = {"b@127.0.0.1:7002", "test-node@127.0.0.1:7001", NULL};
    root_open(root, names); // "b" is named first: no history is founded here
    root->council = true;
    assert_int_equal(start(root), OK);
    instance_adopt(instance_of(root), test_history);
    AWAIT(journal_has_history(instance_of(root)->journal));
}

// The next block of the log that is fed: one new key.
static struct block *make(struct root *root, uint64_t commit_index)
{
    char key[16];
    snprintf(key, sizeof key, "key %u", root->keys++);
    builder_reset(&root->builder, block_end(&root->last) + 1);
    builder_batch(&root->builder);
    builder_entry(&root->builder, ENTRY_PUT, bytes_text(key), bytes_text("value"), 0);
    builder_batch_end(&root->builder);
    struct block_stamp stamp = {.epoch = EPOCH, .commit_index = commit_index, .root_ms = 1};
    struct block *block = builder_finish(&root->builder, &root->last, stamp);
    root->last = block->header;
    return block;
}

// A link to a leader that has committed its log up to `told`.
static void join(struct root *root, uint64_t epoch, uint64_t told)
{
    instance_stand(instance_of(root), epoch, 0);
    root->link = atomic_fetch_add(&lead_of(root)->links, 1) + 1;
    instance_told(instance_of(root), root->link, epoch, told);
}

static void tell(struct root *root, uint64_t told)
{
    instance_told(instance_of(root), root->link, atomic_load(&lead_of(root)->epoch), told);
}

// Feeds `count` new blocks and returns the header of the last.
static struct block_header feed(struct root *root, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        instance_receive(instance_of(root), make(root, 0));
    }
    return root->last;
}

static void await_word(struct root *root, const struct block_header *header)
{
    AWAIT(lead_say(lead_of(root)).place.number == header->number);
    struct lead_word word = lead_say(lead_of(root));
    assert_true(hash128_equal(word.place.chain, header->chain));
    assert_int_equal(word.link, root->link);
}

// What is not committed is journaled and acknowledged, and neither applied nor published.
static void test_standby(void **unused)
{
    (void)unused;
    struct root root;
    standby_open(&root);
    join(&root, EPOCH, 0);
    struct block_header last = feed(&root, 10);
    await_word(&root, &last);
    assert_shows(&root, 0);
    assert_int_equal(tail_of(&root), 10);
    tell(&root, 4);
    AWAIT(shown(&root) == 4);
    assert_shows(&root, 4);
    tell(&root, 3); // what was known stays so
    assert_shows(&root, 4);
    tell(&root, 100); // what is not here yet is not committed here
    AWAIT(shown(&root) == 10);
    last = feed(&root, 1);
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
    instance_told(instance_of(&root), root.link, EPOCH - 1, 1); // of another epoch
    instance_receive(instance_of(&root), block_hold(first));
    await_word(&root, &first->header);
    assert_shows(&root, 0);
    instance_stand(instance_of(&root), EPOCH + 1, LEAD_NOBODY);
    instance_receive(instance_of(&root), block_hold(second));
    let_turn(&root);
    assert_int_equal(tail_of(&root), 1);
    assert_int_equal(lead_say(lead_of(&root)).link, 0); // nothing is acknowledged in that one
    instance_told(instance_of(&root), root.link, EPOCH, 1); // late, of the one before
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

static int write_start(struct root *root, struct writing *writing)
{
    return writing_start(&root->node, instance_of(root), writing);
}

static bool answered(struct writing *writing) { return sem_trywait(&writing->finished) == 0; }

static int write_end(struct writing *writing)
{
    AWAIT(answered(writing));
    return writing->transaction.status;
}

static void leader_open(struct root *root, uint64_t commit_wait)
{
    static const char *const names[] = {"test-node@127.0.0.1:7001", "b@127.0.0.1:7002",
                                        "c@127.0.0.1:7003", NULL};
    root_open(root, names);
    root->at.options.commit_wait = commit_wait;
    assert_int_equal(start(root), OK);
    AWAIT(instance_leads(instance_of(root)));
}

static struct hash128 chain_at(struct root *root, uint64_t number)
{
    struct block_header header;
    AWAIT(tail_of(root) >= number);
    assert_int_equal(journal_tail_header(instance_of(root)->journal, number, &header), OK);
    return header.chain;
}

static void acknowledge(struct root *root, unsigned from, uint64_t epoch, uint64_t number)
{
    instance_acknowledged(instance_of(root), from, epoch, number, chain_at(root, number));
}

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
    instance_acknowledged(instance_of(&root), 1, 1, 2, other); // of another log
    acknowledge(&root, 1, 2, 3);                               // of another epoch
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
        cmocka_unit_test(test_commit_wait), cmocka_unit_test(test_serves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
