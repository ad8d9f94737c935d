// SPDX-License-Identifier: Apache-2.0
// One of several roots without its links, whose leader or standbys a test plays: a log that is fed
// to it, acknowledgements, writes.
#ifndef QS_TESTS_UNIT_LEAD_FIXTURE_H
#define QS_TESTS_UNIT_LEAD_FIXTURE_H

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

SUPPORT struct instance *instance_of(struct root *root) { return root->at.instance; }
SUPPORT struct lead *lead_of(struct root *root) { return root->at.instance->lead; }

SUPPORT int start(struct root *root)
{
    root->sequencer = sequencer_open();
    struct instance_setup setup = writing_setup(&root->node, &root->at, root->sequencer);
    setup.council = root->council;
    int error = instance_open(&root->at.instance, &setup);
    if (error == OK) {
        AWAIT(instance_state(instance_of(root)) == INSTANCE_SERVING);
    } else {
        sequencer_close(root->sequencer);
    }
    return error;
}

SUPPORT void stop(struct root *root)
{
    instance_close(root->at.instance);
    sequencer_close(root->sequencer);
}

SUPPORT void restart(struct root *root)
{
    stop(root);
    assert_int_equal(start(root), OK);
}

SUPPORT void root_open(struct root *root, const char *const *names)
{
    memset(root, 0, sizeof *root);
    test_node_open(&root->node);
    root->at.options = test_options("root", ROLE_ROOT);
    root->at.options.submit_queue = MIB;
    root->at.options.roots = names;
    root->at.options.commit_wait = 60000;
    builder_open(&root->builder);
    block_genesis(&root->last, test_history);
}

// It may be stopped already.
SUPPORT void root_close(struct root *root)
{
    builder_close(&root->builder);
    test_node_stop(&root->node);
    test_instance_end(&root->at);
    test_node_close(&root->node);
}

SUPPORT void on_nothing(void *argument) { (void)argument; }

// The writer has done all that it was asked to, and the applier what it was handed then.
SUPPORT void let_turn(struct root *root)
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

SUPPORT uint64_t shown(struct root *root)
{
    struct view *view = instance_pin(instance_of(root));
    uint64_t number = view->place.number;
    view_release(view);
    return number;
}

SUPPORT void assert_shows(struct root *root, uint64_t number)
{
    let_turn(root);
    assert_int_equal(shown(root), number);
    assert_int_equal(lead_known(lead_of(root)).number, number);
    assert_int_equal(journal_end(instance_of(root)->journal).number, number);
}

SUPPORT uint64_t tail_of(struct root *root)
{
    return journal_tail(instance_of(root)->journal).number;
}

// ---- a standby ---------------------------------------------------------------------------------

SUPPORT void standby_open(struct root *root)
{
    static const char *const names[] = {"b@127.0.0.1:7002", "test-node@127.0.0.1:7001", NULL};
    root_open(root, names); // "b" is named first: no history is founded here
    root->council = true;
    assert_int_equal(start(root), OK);
    instance_adopt(instance_of(root), test_history);
    AWAIT(journal_has_history(instance_of(root)->journal));
}

// The next block of the log that is fed: one new key.
SUPPORT struct block *make(struct root *root, uint64_t commit_index)
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

// A link to a leader that has committed its log up to `told`, and has the one here up to `shared`.
SUPPORT void join_from(struct root *root, uint64_t epoch, uint64_t told,
                       const struct journal_place *shared)
{
    instance_stand(instance_of(root), epoch, 0);
    root->link = atomic_fetch_add(&lead_of(root)->links, 1) + 1;
    instance_told(instance_of(root), root->link, epoch, told, shared);
}

SUPPORT void join(struct root *root, uint64_t epoch, uint64_t told)
{
    join_from(root, epoch, told, &(struct journal_place){0});
}

SUPPORT void tell(struct root *root, uint64_t told)
{
    instance_told(instance_of(root), root->link, atomic_load(&lead_of(root)->epoch), told,
                  &(struct journal_place){0});
}

// Feeds `count` new blocks and returns the header of the last.
SUPPORT struct block_header feed(struct root *root, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        instance_receive(instance_of(root), make(root, 0));
    }
    return root->last;
}

SUPPORT void await_word(struct root *root, const struct block_header *header)
{
    AWAIT(lead_say(lead_of(root)).place.number == header->number);
    struct lead_word word = lead_say(lead_of(root));
    assert_true(hash128_equal(word.place.chain, header->chain));
    assert_int_equal(word.link, root->link);
}

// A standby that has followed a leader for `count` blocks.
SUPPORT struct block_header standby_fed(struct root *root, unsigned count)
{
    standby_open(root);
    join(root, EPOCH, 0);
    struct block_header last = feed(root, count);
    await_word(root, &last);
    return last;
}

// What one that is stopped will find that it has promised.
SUPPORT void leave_promise(struct root *root, const struct promise *promise)
{
    struct members names;
    const char *bad, *reason;
    char *directory = mem_format("%s/root", root->node.directory);
    const char *const *texts = root->at.options.roots;
    assert_int_equal(members_parse(&names, texts, "test-node", &bad, &reason), OK);
    assert_int_equal(promise_save(directory, "root", promise, &names), OK);
    mem_free(directory);
}

// ---- a leader ----------------------------------------------------------------------------------

SUPPORT int write_start(struct root *root, struct writing *writing)
{
    return writing_start(&root->node, instance_of(root), writing);
}

SUPPORT bool answered(struct writing *writing) { return sem_trywait(&writing->finished) == 0; }

SUPPORT int write_end(struct writing *writing)
{
    AWAIT(answered(writing));
    return writing->transaction.status;
}

SUPPORT void leader_open(struct root *root, uint64_t commit_wait)
{
    static const char *const names[] = {"test-node@127.0.0.1:7001", "b@127.0.0.1:7002",
                                        "c@127.0.0.1:7003", NULL};
    root_open(root, names);
    root->at.options.commit_wait = commit_wait;
    assert_int_equal(start(root), OK);
    AWAIT(instance_leads(instance_of(root)));
}

SUPPORT struct hash128 chain_at(struct root *root, uint64_t number)
{
    struct block_header header;
    AWAIT(tail_of(root) >= number);
    assert_int_equal(journal_tail_header(instance_of(root)->journal, number, &header), OK);
    return header.chain;
}

SUPPORT void acknowledge(struct root *root, unsigned from, uint64_t epoch, uint64_t number)
{
    instance_acknowledged(instance_of(root), from, 0, epoch, number, chain_at(root, number));
}

// A leader whose first block both others have: it is committed.
SUPPORT void leader_settled(struct root *root)
{
    leader_open(root, 60000);
    acknowledge(root, 0, 1, 1);
    acknowledge(root, 1, 1, 1);
    AWAIT(shown(root) == 1);
}

#endif
