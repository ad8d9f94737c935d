// SPDX-License-Identifier: Apache-2.0
// The follower's part in building another store: when the journal may begin anew.
#include "tests/unit/tree_fixture.h"

#include "common/core/build.h"
#include "common/wire/slice_items.h"

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
    struct site *parent = site_new("parent", ROLE_REPLICA);
    struct site *child = site_new("child", ROLE_REPLICA);
    struct author author, same;
    struct block_header begun;
    parent->options.segment_bytes = 4096;
    parent->options.journal_bytes = 8192;
    site_open(parent);
    author_open(&author, 4);
    author_feed(&author, parent, 60, 1000);
    writer_trim(parent->instance, 50);
    AWAIT(journal_oldest(parent->instance->journal).number > SHOWN);
    site_parent(child, parent->address);
    site_open_instance(child);
    author_open(&same, 4);
    author_feed(&same, child, SHOWN, 1000);
    assert_int_equal(journal_header(child->instance->journal, BEGUN, &begun), OK);
    atomic_store(&child->instance->wants_build, true);
    add_slice(child, &begun);
    AWAIT(METRIC_GET(child->metrics, instance, builds_dropped) == 1);
    assert_int_equal(journal_oldest(child->instance->journal).number, 0);
    assert_true(site_shows(child, SHOWN));
    site_close(child);
    site_close(parent);
    builder_close(&author.builder);
    builder_close(&same.builder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_more_was_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
