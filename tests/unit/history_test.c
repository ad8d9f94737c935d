// SPDX-License-Identifier: Apache-2.0
// A replica's history floor: what its file holds, that it rises on disk, in the view and for the
// filter in this order, what the filter lets go, and that every index at or above it still reads
// right after everything else was collected.
#include "tests/unit/instance_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

#include "replica/collect.h"
#include "replica/floor_file.h"
#include "replica/history.h"
#include "replica/mvcc.h"
#include "replica/past.h"
#include "replica/replica.h"

// ---- the file ----------------------------------------------------------------------------------

static void test_file(void **state)
{
    (void)state;
    char *directory = test_mkdir();
    char *path = mem_format("%s/history_floor", directory);
    uint64_t floor = 7;
    assert_int_equal(floor_file_read(directory, &floor), ERR_NOT_FOUND);
    assert_int_equal(floor_file_write(directory, "test", 0x0102030405060708), OK);
    assert_int_equal(floor_file_read(directory, &floor), OK);
    assert_int_equal(floor, 0x0102030405060708);
    assert_int_equal(floor_file_write(directory, "test", 3), OK);
    assert_int_equal(floor_file_read(directory, &floor), OK);
    assert_int_equal(floor, 3);
    // Every damaged byte, every length but the right one.
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    for (off_t at = 0; at < info.st_size; at++) {
        uint8_t byte;
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        assert_int_equal(floor_file_read(directory, &floor), ERR_CORRUPT);
        byte ^= 0x10;
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    }
    assert_int_equal(floor_file_read(directory, &floor), OK);
    assert_int_equal(ftruncate(fd, info.st_size + 1), 0);
    assert_int_equal(floor_file_read(directory, &floor), ERR_CORRUPT);
    for (off_t size = info.st_size - 1; size >= 0; size--) {
        assert_int_equal(ftruncate(fd, size), 0);
        assert_int_equal(floor_file_read(directory, &floor), ERR_CORRUPT);
    }
    assert_int_equal(floor, 3);
    close(fd);
    mem_free(path);
    test_rmdir(directory);
}

// ---- a whole replica ---------------------------------------------------------------------------

#define LAST 40

struct fed {
    struct test_node node;
    struct test_instance at;
    struct model model;
};

struct barrier {
    struct task task;
    sem_t passed;
};

static void pass(struct task *task) { sem_post(&CONTAINER_OF(task, struct barrier, task)->passed); }

// What is shown counts as applied a moment later, before the applier looks at its mailbox again.
static void wait_applied(struct instance *instance)
{
    struct barrier barrier = {.task.run = pass};
    sem_init(&barrier.passed, 0, 0);
    mailbox_post(instance_applier(instance), &barrier.task);
    sem_wait(&barrier.passed);
    sem_destroy(&barrier.passed);
}

// `history` in ms: what the replica is asked to keep.
static void fed_open(struct fed *fed, uint64_t history)
{
    test_node_open(&fed->node);
    model_open(&fed->model, 11);
    fed->at = (struct test_instance){.options = test_options("replica", ROLE_REPLICA)};
    fed->at.options.history = history;
    test_instance_open(&fed->node, &fed->at, replica_role());
    for (unsigned i = 0; i < 8; i++) {
        struct block *block = model_block(&fed->model, LAST / 8);
        test_feed(&fed->at, block);
        block_release(block);
    }
    view_release(test_view(&fed->at, LAST));
    wait_applied(fed->at.instance);
}

static void fed_close(struct fed *fed)
{
    test_node_stop(&fed->node);
    instance_close(fed->at.instance);
    test_instance_end(&fed->at);
    model_close(&fed->model);
    test_node_close(&fed->node);
}

static void hand(const struct fed *fed)
{
    (void)fed->at.instance->role->hand(fed->at.instance);
}

// ... until the floor is there: what is shown counts as applied a moment later.
static void hand_until(const struct fed *fed, uint64_t floor)
{
    do {
        hand(fed);
    } while (atomic_load(&fed->at.instance->history_floor) < floor);
}

static uint64_t floor_on_disk(const struct fed *fed)
{
    uint64_t floor = 0;
    assert_int_equal(floor_file_read(fed->at.instance->directory, &floor), OK);
    return floor;
}

static const struct store_filter *filter_of(const struct fed *fed)
{
    const struct store_filter *filter =
        fed->at.instance->role->filter(fed->at.instance, REPLICA_MVCC);
    assert_non_null(filter);
    assert_null(fed->at.instance->role->filter(fed->at.instance, REPLICA_DEFAULT));
    return filter;
}

static enum store_verdict judge(const struct fed *fed, struct bytes key)
{
    const struct store_filter *filter = filter_of(fed);
    void *pass = filter->begin(filter->argument);
    struct bytes changed = {0};
    enum store_verdict verdict = filter->judge(pass, key, bytes_text("value"), &changed);
    filter->end(pass);
    return verdict;
}

static enum store_verdict judge_row(const struct fed *fed, uint64_t valid_until)
{
    uint8_t key[MVCC_KEY_MAX];
    size_t size = mvcc_key(key, bytes_text("key"), valid_until);
    return judge(fed, bytes_of(key, size));
}

static void wait_for_floor(const struct fed *fed, uint64_t floor)
{
    for (;;) {
        struct view *view = instance_pin(fed->at.instance);
        bool shown = view->history_floor == floor;
        view_release(view);
        if (shown) {
            return;
        }
        sched_yield();
    }
}

static void test_young_history_stays(void **state)
{
    (void)state;
    struct fed fed;
    fed_open(&fed, 3600000);
    hand(&fed);
    assert_int_equal(atomic_load(&fed.at.instance->history_floor), 0);
    assert_int_equal(floor_on_disk(&fed), 0);
    assert_int_equal(judge_row(&fed, 0), STORE_KEEP);
    fed_close(&fed);
}

static void test_order_of_raising(void **state)
{
    (void)state;
    struct fed fed;
    fed_open(&fed, 0);
    struct instance *instance = fed.at.instance;
    // While the file cannot be written nothing rises.
    char *blocked = mem_format("%s/history_floor.new", instance->directory);
    assert_int_equal(mkdir(blocked, 0700), 0);
    hand(&fed);
    assert_int_equal(atomic_load(&instance->history_floor), 0);
    assert_int_equal(judge_row(&fed, 0), STORE_KEEP);
    assert_int_equal(rmdir(blocked), 0);
    mem_free(blocked);
    fed_close(&fed);

    fed_open(&fed, 0);
    instance = fed.at.instance;
    hand_until(&fed, LAST);
    // On disk and in the reader's eye at once; for the filter only after a view.
    assert_int_equal(floor_on_disk(&fed), LAST);
    assert_int_equal(atomic_load(&instance->history_floor), LAST);
    struct view *view = instance_pin(instance);
    assert_int_equal(past_error(instance, view, LAST), OK);
    assert_int_equal(past_error(instance, view, LAST - 1), ERR_GONE);
    view_release(view);
    assert_int_equal(judge_row(&fed, 0), STORE_KEEP);
    wait_for_floor(&fed, LAST);
    assert_int_equal(judge_row(&fed, 0), STORE_KEEP);
    hand(&fed);
    assert_int_equal(judge_row(&fed, 0), STORE_DROP);
    assert_int_equal(judge_row(&fed, LAST - 1), STORE_DROP);
    assert_int_equal(judge_row(&fed, LAST), STORE_KEEP);
    assert_int_equal(judge_row(&fed, UINT64_MAX), STORE_KEEP);
    fed_close(&fed);
}

struct busy {
    struct task task;
    sem_t begun, end;
};

static void be_busy(struct task *task)
{
    struct busy *busy = CONTAINER_OF(task, struct busy, task);
    sem_post(&busy->begun);
    sem_wait(&busy->end);
}

// As long as the applier publishes nothing, no filter sees the floor, however often the hand looks.
static void test_view_comes_first(void **state)
{
    (void)state;
    struct fed fed;
    fed_open(&fed, 0);
    struct busy busy = {.task.run = be_busy};
    sem_init(&busy.begun, 0, 0);
    sem_init(&busy.end, 0, 0);
    mailbox_post(instance_applier(fed.at.instance), &busy.task);
    sem_wait(&busy.begun);
    for (unsigned i = 0; i < 3; i++) {
        hand(&fed);
        assert_int_equal(atomic_load(&fed.at.instance->history_floor), LAST);
        assert_int_equal(judge_row(&fed, 0), STORE_KEEP);
    }
    sem_post(&busy.end);
    wait_for_floor(&fed, LAST);
    hand(&fed);
    assert_int_equal(judge_row(&fed, 0), STORE_DROP);
    sem_destroy(&busy.begun);
    sem_destroy(&busy.end);
    fed_close(&fed);
}

static void test_malformed_rows_are_kept(void **state)
{
    (void)state;
    struct fed fed;
    fed_open(&fed, 0);
    hand_until(&fed, LAST);
    wait_for_floor(&fed, LAST);
    hand(&fed);
    uint8_t key[MVCC_KEY_MAX];
    size_t size = mvcc_key(key, bytes_text("a\x01key"), 1);
    assert_int_equal(judge(&fed, bytes_of(key, size)), STORE_DROP);
    for (size_t cut = 1; cut < size; cut++) {
        assert_int_equal(judge(&fed, bytes_of(key, cut)), STORE_KEEP);
    }
    key[2] = 3; // no image of any byte
    assert_int_equal(judge(&fed, bytes_of(key, size)), STORE_KEEP);
    fed_close(&fed);
}

static uint64_t count_history(const struct fed *fed)
{
    struct bytes none = bytes_of(NULL, 0);
    struct view *view = instance_pin(fed->at.instance);
    struct store_iterator *rows =
        store_iterator_open(view->store, view->snapshot, REPLICA_MVCC, none, none);
    uint64_t count = 0;
    for (store_iterator_seek(rows, none); store_iterator_valid(rows); store_iterator_next(rows)) {
        count++;
    }
    store_iterator_close(rows);
    view_release(view);
    return count;
}

static void check_at(const struct fed *fed, uint64_t t)
{
    struct view *view = instance_pin(fed->at.instance);
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_key *key = &fed->model.keys[i];
        const struct model_version *expected = model_at(key, t);
        struct mvcc_finding found = {0};
        int error = mvcc_read(view->store, view->snapshot, model_name(key), t, &found);
        assert_int_equal(error, expected != NULL ? OK : ERR_NOT_FOUND);
        if (expected != NULL) {
            assert_int_equal(found.record.version, expected->version);
        }
        mvcc_release(&found);
    }
    view_release(view);
}

// The floor rises while the history grows; whatever is collected, indexes above it read right.
static void test_collected(void **state)
{
    (void)state;
    struct fed fed;
    fed_open(&fed, 0);
    struct instance *instance = fed.at.instance;
    hand_until(&fed, LAST);
    wait_for_floor(&fed, LAST);
    hand(&fed);
    for (unsigned round = 0; round < 4; round++) {
        struct block *block = model_block(&fed.model, 10);
        test_feed(&fed.at, block);
        block_release(block);
        view_release(test_view(&fed.at, fed.model.index));
    }
    uint64_t before = count_history(&fed);
    assert_int_equal(
        store_compact(instance->store, REPLICA_MVCC, bytes_of(NULL, 0), bytes_of(NULL, 0)), OK);
    uint64_t collected = METRIC_GET(instance->metrics, instance, history_collected);
    assert_true(collected > 0);
    struct block *block = model_block(&fed.model, 1); // a newer snapshot
    test_feed(&fed.at, block);
    block_release(block);
    view_release(test_view(&fed.at, fed.model.index));
    assert_true(count_history(&fed) < before);
    for (uint64_t t = LAST; t <= fed.model.index; t++) {
        check_at(&fed, t);
    }
    fed_close(&fed);
}

// A sweep that failed has collected nothing: that is no reason to give up more of the history.
static void test_failed_sweep(void **state)
{
    (void)state;
    struct fed fed;
    fed_open(&fed, 3600000);
    struct instance *instance = fed.at.instance;
    assert_int_equal(store_flush(instance->store), OK);
    struct store_sizes sizes;
    store_sizes(instance->store, &sizes);
    fed.at.options.history_bytes = sizes.family_bytes[REPLICA_MVCC] / 4 * 3;
    hand(&fed);
    assert_int_equal(METRIC_GET(instance->metrics, instance, history_cut), 1);
    wait_for_floor(&fed, atomic_load(&instance->history_floor));
    store_compact_cancel(instance->store);
    for (unsigned i = 0; i < 3; i++) {
        hand(&fed);
    }
    assert_int_equal(METRIC_GET(instance->metrics, instance, history_cut), 1);
    fed_close(&fed);
}

// As age does it: the floor rises to an index, and all that follows from it is done.
static void rise(struct fed *fed, struct history *history, uint64_t floor)
{
    window_raise(&history->window, floor);
    history->next_ns = 0;
    assert_true(history_age(history));
    wait_for_floor(fed, floor);
    assert_true(history_age(history));
    assert_true(history_shown(history));
}

// A floor that rises by age before each look is no reason to sweep for ever, and never to cut.
static void test_cut_while_the_floor_rises(void **state)
{
    (void)state;
    struct fed fed;
    fed_open(&fed, 3600000);
    struct instance *instance = fed.at.instance;
    assert_int_equal(store_flush(instance->store), OK);
    struct store_sizes sizes;
    store_sizes(instance->store, &sizes);
    fed.at.options.history_bytes = sizes.family_bytes[REPLICA_MVCC] / 4 * 3;
    // Beside the role's own, whose filter lets nothing go.
    struct history history = {0};
    struct collector collector;
    assert_int_equal(history_open(&history, instance), OK);
    history_applied(&history, LAST, 0);
    collector_open(&collector, &history);
    for (uint64_t floor = 1; floor <= 2; floor++) {
        assert_int_equal(METRIC_GET(instance->metrics, instance, history_cut), 0);
        rise(&fed, &history, floor);
        (void)collector_step(&collector);
    }
    assert_int_equal(METRIC_GET(instance->metrics, instance, history_cut), 1);
    uint64_t floor = atomic_load(&instance->history_floor);
    assert_in_range(floor, 3, LAST / 2);
    wait_for_floor(&fed, floor);
    collector_close(&collector);
    history_close(&history);
    fed_close(&fed);
}

// The store of another history, with lower indexes, takes the place: the floor goes down with it,
// and whoever still looks at the store before finds its past gone.
static void test_fork(void **state)
{
    (void)state;
    struct fed fed;
    fed_open(&fed, 3600000);
    struct instance *instance = fed.at.instance;
    struct history history = {0};
    assert_int_equal(history_open(&history, instance), OK);
    history_applied(&history, LAST, 0);
    rise(&fed, &history, 5);
    assert_int_equal(atomic_load(&history.filter_floor), 5);
    struct view *before = instance_pin(instance);
    assert_int_equal(past_error(instance, before, 5), OK);
    struct store *store = atomic_exchange(&instance->store, NULL); // as if it were another
    atomic_store(&instance->history_floor, 2);
    history_restart(&history);
    assert_int_equal(atomic_load(&history.filter_floor), 2);
    assert_int_equal(floor_on_disk(&fed), 2);
    assert_false(history_age(&history)); // its view is of the store before
    assert_int_equal(atomic_load(&history.filter_floor), 2);
    assert_false(history_cut(&history, 1024));
    assert_int_equal(atomic_load(&instance->history_floor), 2);
    assert_int_equal(past_error(instance, before, LAST), ERR_GONE);
    atomic_store(&instance->store, store);
    view_release(before);
    history_close(&history);
    fed_close(&fed);
}

// A floor survives what the store forgets; a lost one is taken as the store's index.
static void test_restart(void **state)
{
    (void)state;
    struct fed fed;
    fed_open(&fed, 0);
    hand_until(&fed, LAST);
    instance_close(fed.at.instance);
    fed.at.options.history = 3600000;
    test_instance_open(&fed.node, &fed.at, replica_role());
    assert_int_equal(atomic_load(&fed.at.instance->history_floor), LAST);
    wait_for_floor(&fed, LAST);
    struct block *block = model_block(&fed.model, 5);
    test_feed(&fed.at, block);
    block_release(block);
    view_release(test_view(&fed.at, fed.model.index));
    hand(&fed);
    assert_int_equal(atomic_load(&fed.at.instance->history_floor), LAST);
    char *path = mem_format("%s/history_floor", fed.at.instance->directory);
    instance_close(fed.at.instance);
    assert_int_equal(unlink(path), 0);
    mem_free(path);
    test_instance_open(&fed.node, &fed.at, replica_role());
    assert_int_equal(atomic_load(&fed.at.instance->history_floor), LAST + 5);
    fed_close(&fed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_young_history_stays),
        cmocka_unit_test(test_order_of_raising),
        cmocka_unit_test(test_view_comes_first),
        cmocka_unit_test(test_malformed_rows_are_kept),
        cmocka_unit_test(test_collected),
        cmocka_unit_test(test_failed_sweep),
        cmocka_unit_test(test_cut_while_the_floor_rises),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_fork),
    };
    return cmocka_run_group_tests_name("history", tests, NULL, NULL);
}
