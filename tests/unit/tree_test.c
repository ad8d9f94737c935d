// SPDX-License-Identifier: Apache-2.0
// The tree: blocks go down unchanged, heartbeats with them, progress comes up; every answer to a
// hello does what it says; damaged journals are mended from a parent.
#include "tests/unit/tree_fixture.h"

static struct site *child_new(const char *name, const char *parent)
{
    struct site *site = site_new(name, ROLE_REPLICA);
    site_parent(site, parent);
    return site;
}

// ---- root, intermediate, leaf ------------------------------------------------------------------

static void run_three_levels(enum io_kind io)
{
    struct site *root = site_new("root", ROLE_ROOT);
    root->io = io;
    struct author author;
    root_open(root, &author, 1, 20);
    struct site *middle = child_new("middle", root->address);
    middle->io = io;
    site_open(middle);
    struct site *leaf = child_new("leaf", middle->address);
    leaf->io = io;
    leaf->options.role = ROLE_PROXY;
    site_open(leaf);
    AWAIT(site_shows(leaf, author.last.number));
    // Small blocks and some of several announcements.
    author_feed(&author, root, 30, 2000);
    author_feed(&author, root, 2, 1500000);
    AWAIT(site_shows(leaf, author.last.number));
    assert_same_blocks(root, leaf, 1);
    assert_same_blocks(root, middle, 1);

    uint64_t end = block_end(&author.last);
    AWAIT(fanout_synced(root->fanout, end) == 1);
    assert_int_equal(fanout_synced(root->fanout, end + 1), 0);
    AWAIT(fanout_synced(middle->fanout, end) == 1);
    // A heartbeat of this very place, twice handed on, and an age that follows from it.
    struct beat beat = {0};
    AWAIT(beats_newest(leaf->beats, &beat) && beat.block == author.last.number);
    assert_true(bytes_equal(bytes_of(beat.path, beat.path_size), bytes_of("root\0middle", 11)));
    assert_true(instance_age_ns(leaf->instance) < PATIENCE_NS);
    assert_int_equal(instance_age_ns(root->instance), 0);
    struct child_status status[2];
    AWAIT(fanout_status(middle->fanout, status, 2) == 1 && status[0].visible == end);
    assert_string_equal(status[0].node, "leaf");
    assert_int_equal(status[0].role, ROLE_PROXY);
    assert_int_equal(METRIC_GET(leaf->metrics, instance, digest_mismatches), 0);
    assert_int_equal(METRIC_GET(leaf->metrics, instance, parent_connected), 1);
    assert_int_equal(METRIC_GET(root->metrics, instance, children), 1);
    assert_true(METRIC_GET(root->metrics, instance, child_bytes) > 3000000 / 4);
    struct upstream_status upstream;
    follow_status(leaf->instance, &upstream);
    assert_true(upstream.connected);
    assert_string_equal(upstream.node, "middle");
    assert_string_equal(upstream.state, "following");

    site_close(middle);
    AWAIT(METRIC_GET(leaf->metrics, instance, parent_lost) == 1);
    site_close(leaf);
    AWAIT(METRIC_GET(root->node_metrics, node, peers) == 0);
    root_close(root, &author);
}

static void test_three_levels_uring(void **state)
{
    (void)state;
    struct loop *probe;
    const char *reason;
    if (loop_open(&probe, IO_URING, 0, &reason) != OK) {
        skip();
    }
    loop_close(probe);
    run_three_levels(IO_URING);
}

static void test_three_levels_epoll(void **state)
{
    (void)state;
    run_three_levels(IO_EPOLL);
}

struct falsifying {
    struct task task;
    struct instance *instance;
    sem_t finished;
};

// On the applier: a view like the one that is shown, but for the digest.
static void falsify(struct task *task)
{
    struct falsifying *falsifying = CONTAINER_OF(task, struct falsifying, task);
    struct view *shown = instance_pin(falsifying->instance);
    struct view *wrong = mem_zalloc(sizeof *wrong);
    atomic_init(&wrong->references, 1);
    wrong->store = shown->store;
    wrong->snapshot = store_snapshot(shown->store);
    wrong->place = shown->place;
    wrong->epoch = shown->epoch;
    memcpy(wrong->history, shown->history, HISTORY_ID_BYTES);
    wrong->digest = shown->digest;
    wrong->digest.sum.low ^= 1;
    view_release(shown);
    views_publish(&falsifying->instance->views, wrong);
    sem_post(&falsifying->finished);
}

// A digest that is not the root's is noticed by the node itself.
static void test_digest_mismatch(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    struct author author;
    root_open(root, &author, 2, 3);
    struct site *leaf = child_new("leaf", root->address);
    site_open(leaf);
    AWAIT(site_shows(leaf, author.last.number));
    struct falsifying falsifying = {.task.run = falsify, .instance = leaf->instance};
    sem_init(&falsifying.finished, 0, 0);
    mailbox_post(instance_applier(leaf->instance), &falsifying.task);
    sem_wait(&falsifying.finished);
    AWAIT(METRIC_GET(leaf->metrics, instance, digest_mismatches) > 0);
    site_close(leaf);
    root_close(root, &author);
}

// ---- answers -----------------------------------------------------------------------------------

static void test_behind(void **state)
{
    (void)state;
    struct site *parent = site_new("parent", ROLE_REPLICA);
    site_open(parent);
    struct author author;
    author_open(&author, 3);
    struct site *child = child_new("child", parent->address);
    site_open_instance(child);
    // The child knows ten blocks, the parent none, then five, then twelve.
    struct block *blocks[12];
    for (unsigned i = 0; i < 12; i++) {
        blocks[i] = author_block(&author, 200);
    }
    instance_adopt(child->instance, test_history);
    for (unsigned i = 0; i < 10; i++) {
        instance_receive(child->instance, block_hold(blocks[i]));
    }
    AWAIT(site_shows(child, 10));
    site_open_links(child);
    AWAIT(site_state_is(child, "is behind, at index 0"));
    instance_adopt(parent->instance, test_history);
    for (unsigned i = 0; i < 5; i++) {
        instance_receive(parent->instance, block_hold(blocks[i]));
    }
    AWAIT(site_shows(parent, 5) && site_state_is(child, "is behind, at index ") &&
          !site_state_is(child, "index 0"));
    for (unsigned i = 5; i < 12; i++) {
        instance_receive(parent->instance, block_hold(blocks[i]));
    }
    AWAIT(site_state_is(child, "following") && site_shows(child, 12));
    assert_same_blocks(parent, child, 1);
    for (unsigned i = 0; i < 12; i++) {
        block_release(blocks[i]);
    }
    site_close(child);
    site_close(parent);
    builder_close(&author.builder);
}

static void test_too_old(void **state)
{
    (void)state;
    struct site *parent = site_short("parent");
    site_open(parent);
    struct site *child = child_new("child", parent->address);
    site_feed_trimmed(parent, 4, 1000);
    site_open(child);
    AWAIT(site_state_is(child, "too old: "));
    assert_int_equal(site_block(child), 0);
    site_close(child);
    site_close(parent);
}

// Both hold five common blocks; then their logs part: with `alike` in what is written alone, so
// that the first block after that ends at one index in both.
static void run_diverged(unsigned parent_more, unsigned child_more, bool alike)
{
    struct site *parent = site_new("parent", ROLE_REPLICA);
    site_open(parent);
    struct author author, other;
    author_open(&author, 5);
    author_open(&other, 5);
    author_feed(&author, parent, 5, 300);
    struct site *child = child_new("child", parent->address);
    site_open_instance(child);
    author_feed(&other, child, 5, 300);
    other.seed += alike ? 0 : 1;
    author_feed(&author, parent, parent_more, 300);
    author_feed(&other, child, child_more, alike ? 200 : 300);
    site_open_links(child);
    AWAIT(site_state_is(child, "diverged at "));
    // It serves on, and takes nothing.
    assert_int_equal(site_block(child), 5 + child_more);
    assert_int_equal(instance_state(child->instance), INSTANCE_SERVING);
    site_close(child);
    site_close(parent);
    builder_close(&author.builder);
    builder_close(&other.builder);
}

static void test_diverged(void **state)
{
    (void)state;
    for (unsigned alike = 0; alike < 2; alike++) {
        run_diverged(3, 1, alike); // found by the parent
        run_diverged(1, 3, alike); // found by the child, in its own journal
        run_diverged(1, 1, alike); // found at the very end
    }
}

static void refused_as(struct site *parent, void (*change)(struct site *child), const char *words)
{
    struct site *child = child_new("child", parent->address);
    change(child);
    uint64_t before = METRIC_GET(parent->node_metrics, node, peers_refused);
    site_open(child);
    AWAIT(site_state_is(child, words));
    AWAIT(METRIC_GET(parent->node_metrics, node, peers_refused) > before);
    assert_int_equal(site_block(child), 0);
    site_close(child);
}

static void other_cluster(struct site *child) { child->node.cluster = "elsewhere"; }
static void other_instance(struct site *child) { child->options.name = "other"; }
static void same_node(struct site *child) { child->node.node = "parent"; }

static void test_refused(void **state)
{
    (void)state;
    struct site *parent = site_new("parent", ROLE_REPLICA);
    site_open(parent);
    struct author author;
    author_open(&author, 6);
    author_feed(&author, parent, 3, 100);
    refused_as(parent, other_cluster, "another cluster");
    refused_as(parent, other_instance, "no such instance here");
    refused_as(parent, same_node, "a node of the same name");

    // An unrelated history, asked for and offered.
    struct site *child = child_new("child", parent->address);
    site_open_instance(child);
    uint8_t history[HISTORY_ID_BYTES] = "another history";
    instance_adopt(child->instance, history);
    AWAIT(journal_has_history(child->instance->journal));
    site_open_links(child);
    AWAIT(site_state_is(child, "unrelated history"));
    assert_memory_equal(journal_history(child->instance->journal), history, HISTORY_ID_BYTES);
    site_close(child);
    site_close(parent);
    builder_close(&author.builder);
}

// Two nodes that prefer each other to the root: no heartbeat enters such a loop, or it comes back
// with one's own name; either way both end at the root's log.
static void test_loop(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    site_open(root);
    struct author author;
    author_open(&author, 9);
    author_join(&author, root);
    struct site *pair[2];
    char *paths[2];
    for (unsigned i = 0; i < 2; i++) {
        pair[i] = site_new(i == 0 ? "left" : "right", ROLE_REPLICA);
        paths[i] = mem_format("unix:%s/peer", pair[i]->directory);
        pair[i]->node.peer = paths[i];
        pair[i]->node.silence = 200;
    }
    for (unsigned i = 0; i < 2; i++) {
        site_parent(pair[i], paths[1 - i]);
        site_parent(pair[i], root->address);
        site_open_instance(pair[i]);
        instance_adopt(pair[i]->instance, journal_history(root->instance->journal));
        struct block *birth;
        struct journal_cursor cursor;
        assert_int_equal(journal_cursor_open(root->instance->journal, &cursor, 1), OK);
        assert_int_equal(journal_cursor_next(&cursor, &birth), OK);
        journal_cursor_close(&cursor);
        instance_receive(pair[i]->instance, birth);
        AWAIT(site_shows(pair[i], 1));
    }
    site_open_links(pair[0]);
    site_open_links(pair[1]);
    AWAIT(site_state_is(pair[0], "following") || site_state_is(pair[1], "following"));
    author_feed(&author, root, 3, 100);
    AWAIT(site_shows(pair[0], 4) && site_shows(pair[1], 4));
    for (unsigned i = 0; i < 2; i++) {
        site_close(pair[i]);
        mem_free(paths[i]);
    }
    root_close(root, &author);
}

// A block that is sound in itself but does not follow: not taken, whoever sends it.
static void test_wrong_chain(void **state)
{
    (void)state;
    struct site *parent = site_new("parent", ROLE_REPLICA);
    site_open(parent);
    struct author author;
    author_open(&author, 11);
    author_feed(&author, parent, 2, 100);
    author.last.chain.low ^= 1;
    instance_receive(parent->instance, author_block(&author, 100)); // which the parent forwards
    AWAIT(site_block(parent) == 3);
    struct site *child = child_new("child", parent->address);
    site_open(child);
    AWAIT(METRIC_GET(child->metrics, instance, parent_bad_blocks) > 0 || site_block(child) > 2);
    AWAIT(site_shows(child, 2));
    assert_int_equal(site_block(child), 2);
    assert_int_equal(instance_state(child->instance), INSTANCE_SERVING);
    site_close(child);
    site_close(parent);
    builder_close(&author.builder);
}

// A heartbeat that comes back with one's own name in its path: that parent is left, and the beat
// tells nothing about the age of the data here.
static void test_own_name(void **state)
{
    (void)state;
    struct site *parent = site_new("parent", ROLE_REPLICA);
    site_open(parent);
    struct author author;
    author_open(&author, 10);
    author_feed(&author, parent, 3, 100);
    struct site *child = child_new("child", parent->address);
    site_open(child);
    AWAIT(site_shows(child, 3));
    static const char path[] = "root\0child\0other";
    struct beat beat = {.block = 3,
                        .commit_index = block_end(&author.last),
                        .sequence = 1,
                        .chain = author.last.chain,
                        .received_ns = clock_mono_ns(),
                        .path_size = sizeof path - 1};
    memcpy(beat.history, test_history, HISTORY_ID_BYTES);
    memcpy(beat.path, path, beat.path_size);
    beats_add(parent->beats, &beat);
    AWAIT(METRIC_GET(child->metrics, instance, parent_lost) > 0);
    AWAIT(site_state_is(child, "a loop"));
    assert_false(beats_newest(child->beats, &beat));
    assert_int_equal(site_block(child), 3);
    site_close(child);
    site_close(parent);
    builder_close(&author.builder);
}

// ---- damage ------------------------------------------------------------------------------------

// Flips a bit of the stored payload of a block, wherever it lies.
static void damage(struct site *site, uint64_t number)
{
    struct journal_cursor cursor;
    int fd;
    uint64_t span;
    assert_int_equal(journal_cursor_open(site->instance->journal, &cursor, number), OK);
    assert_int_equal(journal_cursor_span(&cursor, &fd, &span), OK);
    assert_true(span > BLOCK_HEADER_BYTES + 20);
    char *path = mem_format("/proc/self/fd/%d", fd);
    int writable = open(path, O_RDWR | O_CLOEXEC);
    mem_free(path);
    uint8_t byte;
    off_t at = (off_t)cursor.offset + BLOCK_HEADER_BYTES + 10;
    assert_int_equal(pread(writable, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(pwrite(writable, &byte, 1, at), 1);
    close(writable);
    journal_cursor_close(&cursor);
}

// A parent with a bad block on its disk is told so and left for the next one.
static void test_bad_parent(void **state)
{
    (void)state;
    struct author author, again;
    author_open(&author, 7);
    author_open(&again, 7);
    struct site *bad = site_new("bad", ROLE_REPLICA), *good = site_new("good", ROLE_REPLICA);
    site_open(bad);
    site_open(good);
    author_feed(&author, bad, 40, 500);
    author_feed(&again, good, 40, 500);
    damage(bad, 20);
    struct site *child = child_new("child", bad->address);
    site_parent(child, good->address);
    site_open(child);
    AWAIT(site_shows(child, 40));
    assert_same_blocks(good, child, 1);
    assert_true(METRIC_GET(child->metrics, instance, parent_bad_blocks) >= 1);
    // The parent has found it on its own disk too.
    AWAIT(atomic_load(&bad->instance->damaged_first) == 20);
    site_close(child);
    site_close(bad);
    site_close(good);
    builder_close(&author.builder);
    builder_close(&again.builder);
}

// Damage found while running, and damage found at the start: both are mended from the parent.
static void test_repair(void **state)
{
    (void)state;
    struct author author;
    author_open(&author, 8);
    struct site *parent = site_new("parent", ROLE_REPLICA);
    site_open(parent);
    author_feed(&author, parent, 40, 60000);
    struct site *child = child_new("child", parent->address);
    child->options.segment_bytes = 256 * KIB;
    site_open(child);
    AWAIT(site_shows(child, 40));
    damage(child, 12);
    instance_recheck(child->instance, 12);
    AWAIT(METRIC_GET(child->metrics, instance, journal_repaired) == 1);
    AWAIT(atomic_load(&child->instance->damaged_first) == 0);
    author_feed(&author, parent, 5, 1000);
    AWAIT(site_shows(child, 45));
    assert_same_blocks(parent, child, 1);
    site_close(child);
    site_close(parent);
    builder_close(&author.builder);
}

static uint64_t trim(struct site *site)
{
    assert_int_equal(store_flush(site->instance->store), OK);
    journal_trim(site->instance->journal, 40); // nothing else happens to it now
    return journal_oldest(site->instance->journal).number;
}

// The oldest segment begins with a copy of the header before it, which no block there repeats. With
// that copy damaged the journal does not even know where it stands, but the store does.
static struct site *open_without_copy(struct site *parent, struct author *author)
{
    author_open(author, 9);
    parent->options.segment_bytes = 256 * KIB;
    site_open(parent);
    author_feed(author, parent, 40, 60000);
    struct site *child = child_new("child", parent->address);
    child->options.segment_bytes = 256 * KIB;
    child->options.journal_bytes = 256 * KIB;
    site_open(child);
    AWAIT(site_shows(child, 40));
    uint64_t before = trim(child);
    assert_in_range(before, 1, 39);
    site_stop(child);
    char *directory = mem_format("%s/zones/journal", child->directory);
    char *name = mem_format("%016llx.qsj", (unsigned long long)before + 1);
    test_flip(directory, name, 90, 2); // the chain
    mem_free(name);
    mem_free(directory);
    bool trimmed = parent->options.journal_bytes == child->options.journal_bytes;
    assert_int_equal(trim(parent), trimmed ? before : 0);
    site_open(child);
    uint64_t damaged = atomic_load(&child->instance->damaged_first);
    assert_true(damaged == before || damaged == 0); // it may be mended already
    return child;
}

static void test_repair_of_the_oldest_copy(void **state)
{
    (void)state;
    struct author author;
    struct site *parent = site_new("parent", ROLE_REPLICA);
    struct site *child = open_without_copy(parent, &author);
    author_feed(&author, parent, 5, 1000);
    AWAIT(site_shows(child, 45));
    assert_int_equal(METRIC_GET(child->metrics, instance, journal_repaired), 1);
    assert_same_blocks(parent, child, journal_oldest(child->instance->journal).number + 1);
    site_close(child);
    site_close(parent);
    builder_close(&author.builder);
}

// A parent that has trimmed that block, too, leads on from there and cannot mend it: only another
// store and another journal can serve.
static void test_oldest_copy_that_nobody_mends(void **state)
{
    (void)state;
    struct author author;
    struct site *parent = site_new("parent", ROLE_REPLICA);
    parent->options.journal_bytes = 256 * KIB;
    struct site *child = open_without_copy(parent, &author);
    AWAIT(atomic_load(&child->instance->wants_build));
    AWAIT(site_state_is(child, "no snapshot from"));
    site_close(child);
    site_close(parent);
    builder_close(&author.builder);
}

int main(void)
{
    log_open(getenv("QS_TEST_LOG") != NULL ? LOG_DEBUG : (enum log_level)(LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_levels_uring), cmocka_unit_test(test_three_levels_epoll),
        cmocka_unit_test(test_digest_mismatch),    cmocka_unit_test(test_behind),
        cmocka_unit_test(test_too_old),            cmocka_unit_test(test_diverged),
        cmocka_unit_test(test_refused),            cmocka_unit_test(test_loop),
        cmocka_unit_test(test_own_name),           cmocka_unit_test(test_wrong_chain),
        cmocka_unit_test(test_bad_parent),         cmocka_unit_test(test_repair),
        cmocka_unit_test(test_repair_of_the_oldest_copy),
        cmocka_unit_test(test_oldest_copy_that_nobody_mends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
