// SPDX-License-Identifier: Apache-2.0
// The follower's part in building another store: when the journal may begin anew, and who is no
// source of a snapshot.
#include "tests/unit/tree_fixture.h"

#include "common/core/build.h"
#include "common/core/readers.h"
#include "common/wire/slice_items.h"

#define SEED 6 // of the log that all have
#define SHOWN 9
#define BEGUN 4 // block at which the first slice was read

static sem_t answered;

static void on_answered(struct task *task)
{
    (void)task;
    sem_post(&answered);
}

// A first slice, of one record, that others follow.
static void add_slice(struct site *site, const struct block_header *at)
{
    uint8_t header[BLOCK_HEADER_BYTES], check[HASH128_BYTES], digest[HASH128_BYTES] = {0};
    struct buf items = {0}, frame = {0};
    const struct slice_item item = {.key = bytes_text("a"),
                                    .version = 1,
                                    .check = record_check(1, bytes_of(NULL, 0)),
                                    .held = true};
    slice_item_append(&items, &item);
    block_header_encode(at, header);
    hash128_store(check, hash128(buf_bytes(&items), 0));
    const struct message_slice_items message = {.header = bytes_of(header, sizeof header),
                                                .digest = bytes_of(digest, sizeof digest),
                                                .keys = 1,
                                                .check = bytes_of(check, sizeof check),
                                                .items = buf_bytes(&items)};
    message_slice_items_encode(&frame, &message);
    struct build_order order = {
        .instance = site->instance,
        .kind = BUILD_ADD,
        .loop = site->loop,
        .answered.run = on_answered,
        .payload = bytes_of(frame.data + FRAME_HEAD_BYTES, frame.size - FRAME_HEAD_BYTES)};
    sem_init(&answered, 0, 0);
    build_post(&order);
    AWAIT(METRIC_GET(site->metrics, instance, build_slices) == 1);
    site_open_links(site); // its loop has the answer
    sem_wait(&answered);
    sem_destroy(&answered);
    assert_int_equal(order.error, OK);
    buf_free(&items);
    buf_free(&frame);
}

// A store was begun while the journal was still to be followed, and more has been shown since. Now
// nobody has the log that would lead on: to begin the journal anew at that store's start would take
// back what was shown.
static void test_more_was_shown(void **state)
{
    (void)state;
    struct site *parent = site_short("parent");
    struct site *child = site_new("child", ROLE_REPLICA);
    struct block_header begun;
    site_open(parent);
    site_feed_trimmed(parent, SEED, 1000);
    site_parent(child, parent->address);
    site_open_instance(child);
    site_feed(child, SEED, SHOWN, 1000);
    assert_int_equal(journal_header(child->instance->journal, BEGUN, &begun), OK);
    atomic_store(&child->instance->wants_build, true);
    add_slice(child, &begun);
    AWAIT(METRIC_GET(child->metrics, instance, builds_dropped) == 1);
    assert_int_equal(journal_oldest(child->instance->journal).number, 0);
    assert_true(site_shows(child, SHOWN));
    site_close(child);
    site_close(parent);
}

// ---- donors ------------------------------------------------------------------------------------

static void lose(struct site *site, const char *name)
{
    char *directory = mem_format("%s/zones/%s", site->directory, name);
    assert_int_equal(nftw(directory, site_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
    mem_free(directory);
}

// A node that gives snapshots.
static void giver_open(struct site *site)
{
    site->node.repair_max = 1;
    site->options.snapshots_max = 1;
    site->options.snapshot_rate = GIB;
    assert_int_equal(readers_open(&site->readers, 1), OK);
    site_open(site);
}

static void giver_close(struct site *site)
{
    site_stop(site);
    readers_close(site->readers);
    site_free(site);
}

// It gives snapshots, and no longer has the log that leads to what it shows.
static struct site *donor_new(size_t value_max)
{
    struct site *donor = site_short("donor");
    giver_open(donor);
    site_feed_trimmed(donor, SEED, value_max);
    return donor;
}

// The child is told these words, and given nothing.
static void await_refusal(struct site *child, struct site *donor, const char *words)
{
    AWAIT(site_state_is(child, words) ||
          METRIC_GET(donor->metrics, instance, snapshot_slices) > 0);
    assert_int_equal(METRIC_GET(donor->metrics, instance, snapshot_slices), 0);
}

// A node without a journal shows what its store holds. A parent that stands lower is none to build
// another store from: what was shown would be taken back.
static void test_shown_and_lost(void **state)
{
    (void)state;
    struct site *donor = donor_new(1000), *child = site_new("child", ROLE_REPLICA);
    site_open(child);
    site_feed(child, SEED, 70, 1000);
    site_stop(child);
    lose(child, "journal");
    site_parent(child, donor->address);
    site_open(child);
    await_refusal(child, donor, "stands lower");
    assert_true(site_shows(child, 70));
    site_close(child);
    giver_close(donor);
}

// The same where the journal is damaged far from its end and no store leads over that: what an
// earlier run has shown lies behind it.
static void test_shown_and_damaged(void **state)
{
    (void)state;
    struct site *donor = donor_new(100000), *child = site_new("child", ROLE_REPLICA);
    site_open(child);
    site_feed(child, SEED, 70, 100000);
    site_stop(child);
    lose(child, "store");
    site_spoil(child);
    site_parent(child, donor->address);
    site_open(child);
    await_refusal(child, donor, "stands lower");
    assert_false(site_shows(child, 0));
    assert_true(journal_seen(child->instance->journal) == 70);
    site_close(child);
    giver_close(donor);
}

// A node whose log no longer joins builds from one that stands behind that gap, and not from one
// that is before it too: with its snapshot it would stand where it stood.
static void test_no_further(void **state)
{
    (void)state;
    struct site *ahead = donor_new(1000), *child = site_new("child", ROLE_REPLICA);
    struct site *beside = site_new("beside", ROLE_REPLICA);
    uint64_t oldest = journal_oldest(ahead->instance->journal).number;
    giver_open(beside);
    site_feed(beside, SEED, (unsigned)oldest - 2, 1000);
    site_parent(child, beside->address);
    site_parent(child, ahead->address);
    child->node.silence = 100; // for as long as nothing is heard of the root
    site_open_instance(child);
    site_feed(child, SEED, (unsigned)oldest - 2, 1000);
    site_open_links(child);
    AWAIT(METRIC_GET(ahead->metrics, instance, snapshot_slices) > 0 ||
          METRIC_GET(beside->metrics, instance, snapshot_slices) > 0);
    assert_int_equal(METRIC_GET(beside->metrics, instance, snapshot_slices), 0);
    site_close(child);
    giver_close(beside);
    giver_close(ahead);
}

// A node that doubts its own store, or has it from another and not proven it, gives nothing of it.
static void test_doubted_donor(void **state)
{
    (void)state;
    struct site *donor = donor_new(1000), *child = site_new("child", ROLE_REPLICA);
    atomic_store(&donor->instance->suspect, true);
    site_parent(child, donor->address);
    site_open(child);
    await_refusal(child, donor, "is not proven");
    atomic_store(&donor->instance->unproven, true);
    atomic_store(&donor->instance->suspect, false);
    await_refusal(child, donor, "is not walked yet");
    site_close(child);
    giver_close(donor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_more_was_shown),
        cmocka_unit_test(test_shown_and_lost),
        cmocka_unit_test(test_shown_and_damaged),
        cmocka_unit_test(test_no_further),
        cmocka_unit_test(test_doubted_donor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
