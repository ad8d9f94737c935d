// SPDX-License-Identifier: Apache-2.0
// What stands between a write and its answer: a disk that takes its time, one that fails, one that
// is full, and an applier that is busy. What is not synced is neither shown nor answered, and a
// root does not send it on either. After a failed sync the instance takes nothing any more, and
// everybody who waits is told. What a full disk refused leaves no trace. What waits is bounded, and
// no log goes that the store still needs.
#include "tests/unit/writing_fixture.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>

#include "common/core/state.h"
#include "replica/replica.h"

#define LIMIT_S 20

enum disk { QUICK, HELD, FAILED, FULL };

static _Atomic int disk;
static _Atomic unsigned asked; // syncs of the journal that the disk holds back
static sem_t released;

static bool is_journal(int fd)
{
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    path[size > 0 ? size : 0] = 0;
    return strstr(path, ".qsj") != NULL;
}

// In place of the C library's.
int fdatasync(int fd)
{
    if (is_journal(fd) && atomic_load(&disk) == HELD) {
        atomic_fetch_add(&asked, 1);
        sem_wait(&released);
    }
    if (is_journal(fd) && atomic_load(&disk) == FAILED) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    if (atomic_load(&disk) == FULL && is_journal(fd)) {
        errno = ENOSPC;
        return -1;
    }
    return (ssize_t)syscall(SYS_pwrite64, fd, data, size, offset);
}

static void disk_hold(void)
{
    sem_init(&released, 0, 0);
    atomic_store(&asked, 0);
    atomic_store(&disk, HELD);
}

static void disk_release(enum disk then)
{
    atomic_store(&disk, then);
    sem_post(&released);
}

// A wait that ends the test instead of hanging it.
static void wait_for(sem_t *finished)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += LIMIT_S;
    assert_int_equal(sem_timedwait(finished, &until), 0);
}

static void wait_until_asked(void)
{
    for (unsigned ms = 0; ms < LIMIT_S * 1000 && atomic_load(&asked) == 0; ms++) {
        usleep(1000);
    }
    assert_int_equal(atomic_load(&asked), 1);
}

// ---- the applier's turns -----------------------------------------------------------------------

static void on_nothing(void *argument) { (void)argument; }

// When this returns, the worker has ended a turn that began after whatever was handed to it.
static void let_turn(struct mailbox *worker)
{
    for (unsigned i = 0; i < 3; i++) {
        struct test_task call = {.task.run = test_task_run, .run = on_nothing};
        sem_init(&call.finished, 0, 0);
        mailbox_post(worker, &call.task);
        wait_for(&call.finished);
        sem_destroy(&call.finished);
    }
}

struct pause {
    struct task task;
    sem_t begun, end;
};

static void on_pause(struct task *task)
{
    struct pause *pause = CONTAINER_OF(task, struct pause, task);
    sem_post(&pause->begun);
    sem_wait(&pause->end);
    sem_post(&pause->begun);
}

static void applier_hold(struct instance *instance, struct pause *pause)
{
    pause->task = (struct task){.run = on_pause};
    sem_init(&pause->begun, 0, 0);
    sem_init(&pause->end, 0, 0);
    mailbox_post(instance_applier(instance), &pause->task);
    wait_for(&pause->begun);
}

static void applier_release(struct pause *pause)
{
    sem_post(&pause->end);
    wait_for(&pause->begun);
    sem_destroy(&pause->begun);
    sem_destroy(&pause->end);
}

static void assert_visible(struct instance *instance, uint64_t index)
{
    let_turn(instance_applier(instance));
    struct view *view = instance_pin(instance);
    assert_non_null(view);
    assert_int_equal(view->place.index, index);
    view_release(view);
}

// ---- writes at a root --------------------------------------------------------------------------

static void write_start(struct test_node *node, struct instance *instance, struct writing *writing)
{
    assert_int_equal(writing_start(node, instance, writing), OK);
}

static int write_end(struct writing *writing)
{
    wait_for(&writing->finished);
    sem_destroy(&writing->finished);
    return writing->transaction.status;
}

struct root {
    struct test_node node;
    struct test_instance at;
    void *sequencer;
};

static void root_open(struct root *root)
{
    memset(root, 0, sizeof *root);
    atomic_store(&disk, QUICK);
    test_node_open(&root->node);
    root->at.options = test_options("root", ROLE_ROOT);
    root->at.options.submit_queue = MIB;
    root->sequencer = sequencer_open();
    struct instance_setup setup = writing_setup(&root->node, &root->at, root->sequencer);
    assert_int_equal(instance_open(&root->at.instance, &setup), OK);
    while (instance_state(root->at.instance) == INSTANCE_LOADING) {
        sched_yield();
    }
}

static void root_close(struct root *root)
{
    atomic_store(&disk, QUICK);
    instance_close(root->at.instance);
    sequencer_close(root->sequencer);
    test_node_stop(&root->node);
    test_instance_end(&root->at);
    test_node_close(&root->node);
}

// One write waits for the disk, and another behind it.
static void root_waits(struct root *root, struct writing writings[2])
{
    struct instance *instance = root->at.instance;
    struct journal_place before = journal_end(instance->journal);
    disk_hold();
    write_start(&root->node, instance, &writings[0]);
    wait_until_asked();
    write_start(&root->node, instance, &writings[1]);
    assert_int_equal(journal_end(instance->journal).number, before.number);
    assert_int_equal(atomic_load(&instance->synced), 0);
    assert_visible(instance, 0);
    assert_int_equal(sem_trywait(&writings[0].finished), -1);
    assert_int_equal(sem_trywait(&writings[1].finished), -1);
}

static void test_root_waits_for_the_disk(void **state)
{
    (void)state;
    struct root root;
    struct writing writings[2];
    root_open(&root);
    root_waits(&root, writings);
    disk_release(QUICK);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(write_end(&writings[i]), OK);
        assert_int_equal(writings[i].transaction.index, i + 1);
    }
    assert_visible(root.at.instance, 2);
    assert_int_equal(journal_end(root.at.instance->journal).index, 2);
    root_close(&root);
}

static void test_root_of_a_failed_disk(void **state)
{
    (void)state;
    struct root root;
    struct writing writings[2];
    root_open(&root);
    root_waits(&root, writings);
    disk_release(FAILED);
    assert_int_equal(write_end(&writings[0]), ERR_UNKNOWN_OUTCOME);
    assert_int_equal(write_end(&writings[1]), ERR_STOPPED);
    assert_int_equal(instance_state(root.at.instance), INSTANCE_STOPPED);
    assert_visible(root.at.instance, 0);
    assert_int_equal(journal_end(root.at.instance->journal).index, 0);
    // Not even a disk that works again is believed.
    atomic_store(&disk, QUICK);
    struct writing late = {.transaction = {.bytes = 100}};
    assert_int_equal(sequencer_submit(root.at.instance, &late.transaction), ERR_STOPPED);
    assert_int_equal(journal_sync(root.at.instance->journal), ERR_IO);
    root_close(&root);
}

// What is not answered yet is bounded by submit_queue: one more is refused until there is room.
static void test_root_of_many_writers(void **state)
{
    (void)state;
    struct root root;
    struct writing writings[2], late = {.transaction = {.bytes = 100}};
    root_open(&root);
    root.at.options.submit_queue = 299; // each counts 100
    root_waits(&root, writings);
    assert_int_equal(sequencer_submit(root.at.instance, &late.transaction), ERR_BUSY);
    disk_release(QUICK);
    assert_int_equal(write_end(&writings[0]), OK);
    assert_int_equal(write_end(&writings[1]), OK);
    write_start(&root.node, root.at.instance, &late);
    assert_int_equal(write_end(&late), OK);
    assert_int_equal(late.transaction.index, 3);
    root_close(&root);
}

static void test_root_of_a_full_disk(void **state)
{
    (void)state;
    struct root root;
    struct writing writing;
    root_open(&root);
    atomic_store(&disk, FULL);
    write_start(&root.node, root.at.instance, &writing);
    assert_int_equal(write_end(&writing), ERR_DISK_FULL);
    atomic_store(&disk, QUICK);
    // It takes the same index, and the key is as new as it was.
    write_start(&root.node, root.at.instance, &writing);
    assert_int_equal(write_end(&writing), OK);
    assert_int_equal(writing.transaction.index, 1);
    struct view *view = instance_pin(root.at.instance);
    assert_int_equal(view->place.index, 1);
    assert_int_equal(view->digest.keys, 1);
    view_release(view);
    root_close(&root);
}

// What is committed, but not applied yet, is not taken back with the write behind it.
static void test_full_disk_behind_a_committed_write(void **state)
{
    (void)state;
    struct root root;
    struct pause pause;
    struct writing committed, refused;
    root_open(&root);
    struct instance *instance = root.at.instance;
    applier_hold(instance, &pause);
    write_start(&root.node, instance, &committed);
    let_turn(worker_mailbox(instance->writer));
    assert_int_equal(journal_end(instance->journal).index, 1);
    atomic_store(&disk, FULL);
    write_start(&root.node, instance, &refused);
    assert_int_equal(write_end(&refused), ERR_DISK_FULL);
    assert_int_equal(sem_trywait(&committed.finished), -1);
    applier_release(&pause);
    assert_int_equal(write_end(&committed), OK);
    assert_int_equal(committed.transaction.index, 1);
    assert_visible(instance, 1);
    root_close(&root);
}

static void test_root_of_a_busy_applier(void **state)
{
    (void)state;
    enum { WRITES = 50 };
    static struct writing writings[WRITES];
    struct root root;
    struct pause pause;
    root_open(&root);
    struct instance *instance = root.at.instance;
    root.at.options.apply_queue = 1000;
    root.at.options.block_entries = 1;
    applier_hold(instance, &pause);
    for (unsigned i = 0; i < WRITES; i++) {
        write_start(&root.node, instance, &writings[i]);
    }
    for (unsigned i = 0; i < WRITES; i++) {
        let_turn(worker_mailbox(instance->writer)); // each makes at most one block
    }
    assert_true(instance_apply_full(instance));
    assert_true(atomic_load(&instance->apply_bytes) < 2 * root.at.options.apply_queue);
    assert_true(journal_end(instance->journal).index < WRITES / 2);
    applier_release(&pause);
    for (unsigned i = 0; i < WRITES; i++) {
        assert_int_equal(write_end(&writings[i]), OK);
        assert_int_equal(writings[i].transaction.index, i + 1);
    }
    root_close(&root);
}

// ---- followers ---------------------------------------------------------------------------------

static void follow(enum disk then)
{
    struct test_node node;
    struct model model;
    struct test_instance at = {.options = test_options("follower", ROLE_REPLICA)};
    atomic_store(&disk, QUICK);
    test_node_open(&node);
    test_instance_open(&node, &at, replica_role());
    model_open(&model, 3);
    struct block *blocks[2] = {model_block(&model, 1), NULL};
    blocks[1] = model_block(&model, 1);
    test_feed(&at, blocks[0]);
    view_release(test_view(&at, 1));

    disk_hold();
    test_feed(&at, blocks[1]);
    wait_until_asked();
    // Its children have it already: they sync for themselves.
    assert_int_equal(journal_end(at.instance->journal).index, 2);
    assert_int_equal(atomic_load(&at.instance->synced), 1);
    assert_visible(at.instance, 1);
    disk_release(then);
    struct view *view = test_view(&at, 2);
    assert_true(then == QUICK ? view != NULL : view == NULL);
    view_release(view);
    assert_visible(at.instance, then == QUICK ? 2 : 1);
    assert_int_equal(atomic_load(&at.instance->synced), then == QUICK ? 2 : 1);

    atomic_store(&disk, QUICK);
    for (unsigned i = 0; i < 2; i++) {
        block_release(blocks[i]);
    }
    test_node_stop(&node);
    instance_close(at.instance);
    test_instance_end(&at);
    model_close(&model);
    test_node_close(&node);
}

static void test_follower_waits_for_the_disk(void **state)
{
    (void)state;
    follow(QUICK);
}

static void test_follower_of_a_failed_disk(void **state)
{
    (void)state;
    follow(FAILED);
}

// One 1 MiB value in a batch of its own.
static struct block *large_block(struct model *model, uint8_t *value)
{
    store_u64(value, model->index);
    builder_reset(&model->builder, model->index + 1);
    builder_batch(&model->builder);
    builder_entry(&model->builder, ENTRY_PUT, bytes_text("key"), bytes_of(value, MIB),
                  model->index);
    model_batch_end(model);
    return model_finish(model);
}

// Says when there is no room, keeps the log that the store has not flushed, drops the rest.
static void test_follower_of_a_busy_applier(void **state)
{
    (void)state;
    struct test_node node;
    struct model model;
    struct pause pause;
    struct test_instance at = {.options = test_options("follower", ROLE_REPLICA)};
    atomic_store(&disk, QUICK);
    at.options.apply_queue = 8 * MIB;
    at.options.journal_bytes = 0;
    at.options.memtable = 13 * MIB; // flushed by itself twice, long before the last block
    test_node_open(&node);
    test_instance_open(&node, &at, replica_role());
    model_open(&model, 4);
    uint8_t *value = mem_alloc(MIB);
    for (unsigned i = 0; i < MIB; i++) {
        value[i] = (uint8_t)test_random(&model.seed);
    }
    applier_hold(at.instance, &pause);
    for (unsigned i = 0; i < 33; i++) {
        bool room = instance_room(at.instance);
        assert_true(i < 4 ? room : i < 8 || !room);
        struct block *block = large_block(&model, value);
        instance_receive(at.instance, block);
    }
    applier_release(&pause);
    view_release(test_view(&at, 33));
    assert_true(instance_room(at.instance));
    // A look at what may go comes with each 16 MiB.
    let_turn(worker_mailbox(at.instance->writer));
    struct store_value row;
    struct state persisted = {0};
    uint64_t oldest = journal_oldest(at.instance->journal).number;
    if (store_state(at.instance->store, STORE_PERSISTED, &row) == OK) {
        assert_int_equal(state_decode(&persisted, row.data), OK);
        store_value_release(&row);
    }
    assert_true(oldest <= persisted.place.number);
    mem_free(value);
    test_node_stop(&node);
    instance_close(at.instance);
    test_instance_end(&at);
    model_close(&model);
    test_node_close(&node);
}

// Blocks that are known already, and one that leaves a gap, are dropped; the next one is taken.
static void test_follower_of_known_blocks(void **state)
{
    (void)state;
    struct test_node node;
    struct model model;
    struct test_instance at = {.options = test_options("follower", ROLE_REPLICA)};
    atomic_store(&disk, QUICK);
    test_node_open(&node);
    test_instance_open(&node, &at, replica_role());
    model_open(&model, 5);
    struct block *blocks[4];
    for (unsigned i = 0; i < 4; i++) {
        blocks[i] = model_block(&model, 1);
    }
    struct index_waiter later = {
        .index = 4, .loop = node.loop, .task = {.run = test_task_run}};
    instance_wait(at.instance, &later);
    static const unsigned order[] = {0, 0, 1, 0, 1, 3, 1, 2, 2};
    for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
        test_feed(&at, blocks[order[i]]);
    }
    view_release(test_view(&at, 3));
    let_turn(worker_mailbox(at.instance->writer));
    assert_visible(at.instance, 3);
    assert_int_equal(journal_end(at.instance->journal).number, 3);
    assert_int_equal(instance_state(at.instance), INSTANCE_SERVING);
    assert_true(instance_wait_cancel(at.instance, &later)); // nobody is woken before the index
    for (unsigned i = 0; i < 4; i++) {
        block_release(blocks[i]);
    }
    test_node_stop(&node);
    instance_close(at.instance);
    test_instance_end(&at);
    model_close(&model);
    test_node_close(&node);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_root_waits_for_the_disk),
        cmocka_unit_test(test_root_of_a_failed_disk),
        cmocka_unit_test(test_root_of_many_writers),
        cmocka_unit_test(test_root_of_a_full_disk),
        cmocka_unit_test(test_full_disk_behind_a_committed_write),
        cmocka_unit_test(test_root_of_a_busy_applier),
        cmocka_unit_test(test_follower_waits_for_the_disk),
        cmocka_unit_test(test_follower_of_a_failed_disk),
        cmocka_unit_test(test_follower_of_a_busy_applier),
        cmocka_unit_test(test_follower_of_known_blocks),
    };
    return cmocka_run_group_tests_name("commit", tests, NULL, NULL);
}
