// SPDX-License-Identifier: Apache-2.0
// The journal in daily use: appending, reopening, reading by cursors, trimming, notices, and
// readers on other threads. What breaks is in journal_damage_test.c.
#include "tests/unit/support.h"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>

#include "common/base/clock.h"
#include "common/data/journal.h"

#define SEGMENT_BYTES (64 * KIB)

static const struct journal_place nothing = {0};

static struct journal *new_journal(const char *path)
{
    struct journal *journal = test_journal(path, SEGMENT_BYTES, true, nothing, OK, NULL);
    assert_false(journal_has_history(journal));
    assert_int_equal(journal_begin(journal, test_history), OK);
    assert_true(journal_has_history(journal));
    return journal;
}

static size_t file_count(const char *path)
{
    struct test_files *files = test_load(path);
    size_t count = files->count;
    test_files_free(files);
    return count;
}

// All blocks after `number` by a cursor; every one must follow the one before it.
static uint64_t read_blocks(struct journal *journal, uint64_t number)
{
    struct journal_cursor cursor;
    struct block_header previous;
    assert_int_equal(journal_header(journal, number, &previous), OK);
    assert_int_equal(journal_cursor_open(journal, &cursor, number + 1), OK);
    uint64_t count = 0;
    struct block *block;
    int error;
    while ((error = journal_cursor_next(&cursor, &block)) == OK) {
        assert_int_equal(block_follows(&previous, block), OK);
        previous = block->header;
        block_release(block);
        count++;
    }
    assert_int_equal(error, ERR_NOT_FOUND);
    journal_cursor_close(&cursor);
    return count;
}

static void test_empty_journal(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct journal *journal = test_journal(path, SEGMENT_BYTES, true, nothing, OK, NULL);
    struct journal_cursor cursor;
    struct block_header header;
    assert_false(journal_has_history(journal));
    assert_int_equal(journal_end(journal).number, 0);
    assert_int_equal(journal_oldest(journal).number, 0);
    assert_int_equal(journal_bytes(journal), 0);
    assert_int_equal(journal_cursor_open(journal, &cursor, 1), ERR_NOT_FOUND);
    assert_int_equal(journal_header(journal, 0, &header), ERR_NOT_FOUND);
    journal_publish(journal);
    journal_trim(journal, 5);
    assert_int_equal(journal_sync(journal), OK);
    journal_close(journal);
    journal_close(NULL);
    struct journal_place flushed = {.number = 1, .index = 1};
    assert_null(test_journal(path, SEGMENT_BYTES, true, flushed, ERR_AHEAD, NULL));
    test_rmdir(path);
    struct journal_options missing = {.directory = "/nonexistent/journal"};
    struct journal_report report;
    assert_int_equal(journal_open(&journal, &missing, &nothing, &report), ERR_IO);
}

static void test_append_and_reopen(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct journal *journal = new_journal(path);
    uint64_t state = 1;
    assert_int_equal(journal_last(journal)->number, 0);
    assert_int_equal(read_blocks(journal, 0), 0);
    for (unsigned round = 1; round <= 5; round++) {
        test_fill(journal, &state, 100, 600);
        struct journal_place end = journal_end(journal);
        assert_int_equal(end.number, round * 100);
        assert_int_equal(read_blocks(journal, 0), round * 100);
        uint64_t bytes = journal_bytes(journal);
        journal_close(journal);
        struct journal_report report;
        journal = test_journal(path, SEGMENT_BYTES, true, nothing, OK, &report);
        assert_int_equal(report.torn_bytes + report.torn_blocks + report.damaged_first, 0);
        assert_memory_equal(journal_history(journal), test_history, HISTORY_ID_BYTES);
        assert_int_equal(journal_bytes(journal), bytes);
        struct journal_place again = journal_end(journal);
        assert_true(again.number == end.number && again.index == end.index);
        assert_true(hash128_equal(again.chain, end.chain));
        assert_int_equal(journal_last(journal)->number, end.number);
        assert_int_equal(read_blocks(journal, 0), round * 100);
    }
    assert_true(file_count(path) >= 4);
    journal_close(journal);
    test_rmdir(path);
}

static void test_visibility(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct journal *journal = new_journal(path);
    struct block_builder builder;
    builder_open(&builder);
    uint64_t state = 2;
    struct block *block = test_block(&builder, journal_last(journal), &state, 100);
    struct block_header header;
    struct journal_cursor cursor;
    assert_int_equal(journal_cursor_open(journal, &cursor, 1), OK);
    assert_int_equal(journal_append(journal, block), OK);
    assert_int_equal(journal_unsynced(journal), block->stored.size);
    assert_int_equal(journal_last(journal)->number, 1);
    struct block *read;
    assert_int_equal(journal_cursor_next(&cursor, &read), ERR_NOT_FOUND);
    assert_int_equal(journal_end(journal).number, 0);
    assert_int_equal(journal_header(journal, 1, &header), ERR_NOT_FOUND);
    journal_publish(journal);
    assert_int_equal(journal_cursor_next(&cursor, &read), OK);
    assert_true(bytes_equal(read->stored, block->stored));
    assert_int_equal(journal_header(journal, 1, &header), OK);
    assert_int_equal(journal_sync(journal), OK);
    assert_int_equal(journal_unsynced(journal), 0);
    block_release(read);
    block_release(block);
    journal_cursor_close(&cursor);
    journal_cursor_close(&cursor);
    builder_close(&builder);
    journal_close(journal);
    test_rmdir(path);
}

static void test_positions(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct journal *journal = new_journal(path);
    uint64_t state = 3;
    test_fill(journal, &state, 400, 400);
    struct journal_cursor cursor = {0};
    struct block_header header;
    struct block *block;
    for (uint64_t i = 0; i < 300; i++) {
        uint64_t number = test_between(&state, 1, 400);
        assert_int_equal(journal_header(journal, number, &header), OK);
        assert_true(header.number == number);
        assert_int_equal(journal_cursor_open(journal, &cursor, number), OK);
        assert_int_equal(journal_cursor_next(&cursor, &block), OK);
        assert_true(block->header.number == number && cursor.number == number + 1);
        block_release(block);
        journal_cursor_close(&cursor);
    }
    assert_int_equal(journal_header(journal, 0, &header), OK);
    assert_int_equal(header.number, 0);
    assert_int_equal(journal_header(journal, 401, &header), ERR_NOT_FOUND);
    assert_int_equal(journal_cursor_open(journal, &cursor, 401), OK);
    assert_int_equal(journal_cursor_next(&cursor, &block), ERR_NOT_FOUND);
    journal_cursor_close(&cursor);
    assert_int_equal(journal_cursor_open(journal, &cursor, 402), ERR_NOT_FOUND);
    assert_int_equal(journal_cursor_open(journal, &cursor, 0), ERR_TOO_OLD);
    journal_close(journal);
    test_rmdir(path);
}

// What a child is sent: the bytes of all blocks in order, without the segments' copies.
static void test_spans(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct journal *journal = new_journal(path);
    struct journal_cursor cursor;
    assert_int_equal(journal_cursor_open(journal, &cursor, 1), OK);
    uint64_t state = 4;
    struct buf sent = {0};
    struct buf expected = {0};
    for (unsigned round = 0; round < 20; round++) {
        test_fill(journal, &state, 20, 500);
        for (bool more = true; more;) {
            int fd;
            uint64_t bytes;
            assert_int_equal(journal_cursor_span(&cursor, &fd, &bytes), OK);
            more = bytes > 0;
            size_t part = more ? (size_t)test_between(&state, 1, bytes) : 0;
            uint8_t *to = buf_reserve(&sent, part);
            assert_int_equal(pread(fd, to, part, (off_t)cursor.offset), (ssize_t)part);
            buf_commit(&sent, part);
            journal_cursor_advance(&cursor, part);
        }
    }
    journal_cursor_close(&cursor);
    assert_int_equal(journal_cursor_open(journal, &cursor, 1), OK);
    struct block *block;
    while (journal_cursor_next(&cursor, &block) == OK) {
        buf_append_bytes(&expected, block->stored);
        block_release(block);
    }
    journal_cursor_close(&cursor);
    assert_true(expected.size > 4 * SEGMENT_BYTES);
    assert_true(bytes_equal(buf_bytes(&expected), buf_bytes(&sent)));
    buf_free(&expected);
    buf_free(&sent);
    journal_close(journal);
    test_rmdir(path);
}

static void test_large_blocks(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct journal *journal = new_journal(path);
    uint64_t state = 5;
    test_fill(journal, &state, 6, 300000);
    test_fill(journal, &state, 6, 10);
    assert_int_equal(read_blocks(journal, 0), 12);
    journal_close(journal);
    journal = test_journal(path, SEGMENT_BYTES, true, nothing, OK, NULL);
    assert_int_equal(read_blocks(journal, 5), 7);
    journal_close(journal);
    test_rmdir(path);
}

static struct journal *reopen_for_trim(const char *path, uint64_t keep_bytes, uint64_t keep_ms)
{
    struct journal_options options = {.directory = path,
                                      .scope = "test",
                                      .segment_bytes = SEGMENT_BYTES,
                                      .keep_bytes = keep_bytes,
                                      .keep_ms = keep_ms};
    struct journal_report report;
    struct journal *journal;
    assert_int_equal(journal_open(&journal, &options, &nothing, &report), OK);
    return journal;
}

static void test_trim_by_size(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    journal_close(new_journal(path));
    uint64_t state = 6;
    struct journal *journal = reopen_for_trim(path, 3 * SEGMENT_BYTES, UINT64_MAX);
    test_fill(journal, &state, 500, 600);
    size_t files = file_count(path);
    struct journal_cursor old;
    struct journal_cursor older;
    struct block *block;
    struct block_header header;
    assert_int_equal(journal_cursor_open(journal, &older, 1), OK);
    assert_int_equal(journal_cursor_open(journal, &old, 2), OK);
    journal_trim(journal, 3); // nothing lies wholly below
    assert_int_equal(file_count(path), files);
    journal_trim(journal, journal_end(journal).number);
    assert_true(journal_bytes(journal) <= 3 * SEGMENT_BYTES);
    assert_true(file_count(path) < files && file_count(path) >= 2);
    struct journal_place oldest = journal_oldest(journal);
    assert_true(oldest.number > 3);
    // Cursors read on in the file they hold, and find the next one gone.
    uint64_t count = 0;
    int error;
    while ((error = journal_cursor_next(&old, &block)) == OK) {
        assert_int_equal(block->header.number, 2 + count++);
        block_release(block);
    }
    assert_int_equal(error, ERR_TOO_OLD);
    assert_true(count > 10);
    int fd;
    uint64_t bytes;
    assert_int_equal(journal_cursor_span(&older, &fd, &bytes), OK);
    assert_true(bytes > 1000);
    journal_cursor_advance(&older, bytes);
    assert_int_equal(journal_cursor_span(&older, &fd, &bytes), ERR_TOO_OLD);
    journal_cursor_close(&old);
    journal_cursor_close(&older);
    assert_int_equal(journal_cursor_open(journal, &old, oldest.number), ERR_TOO_OLD);
    assert_int_equal(journal_header(journal, oldest.number - 1, &header), ERR_TOO_OLD);
    assert_int_equal(journal_header(journal, oldest.number, &header), OK);
    assert_true(hash128_equal(header.chain, oldest.chain) && block_end(&header) == oldest.index);
    assert_int_equal(journal_header(journal, 0, &header), OK);
    assert_int_equal(read_blocks(journal, oldest.number), 500 - oldest.number);
    journal_close(journal);
    // Everything is found again from the oldest copy on.
    struct journal_place flushed = oldest;
    journal = test_journal(path, SEGMENT_BYTES, true, flushed, OK, NULL);
    assert_int_equal(journal_oldest(journal).number, oldest.number);
    assert_int_equal(read_blocks(journal, oldest.number), 500 - oldest.number);
    journal_close(journal);
    flushed.chain.low ^= 1;
    assert_null(test_journal(path, SEGMENT_BYTES, true, flushed, ERR_AHEAD, NULL));
    test_rmdir(path);
}

static void test_trim_by_age(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    journal_close(new_journal(path));
    uint64_t state = 7;
    struct journal *journal = reopen_for_trim(path, UINT64_MAX, 1);
    test_fill(journal, &state, 300, 600);
    uint64_t start = clock_mono_ns();
    while (clock_mono_ns() - start < 3 * NS_PER_MS) {
    }
    journal_trim(journal, journal_end(journal).number - 1);
    assert_int_equal(file_count(path), 1);
    assert_true(journal_oldest(journal).number > 0);
    test_fill(journal, &state, 1, 600);
    journal_close(journal);
    // Age counts from the opening.
    journal = reopen_for_trim(path, UINT64_MAX, 3600000);
    test_fill(journal, &state, 300, 600);
    size_t files = file_count(path);
    journal_trim(journal, journal_end(journal).number);
    assert_int_equal(file_count(path), files);
    journal_close(journal);
    test_rmdir(path);
}

static void test_flushed_place(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct journal *journal = new_journal(path);
    uint64_t state = 8;
    test_fill(journal, &state, 300, 400);
    struct block_header headers[301];
    for (uint64_t i = 0; i <= 300; i++) {
        assert_int_equal(journal_header(journal, i, &headers[i]), OK);
    }
    journal_close(journal);
    for (uint64_t i = 0; i <= 300; i += 1 + i % 7) {
        struct journal_place flushed = {i, block_end(&headers[i]), headers[i].chain};
        journal = test_journal(path, SEGMENT_BYTES, i % 2 == 0, flushed, OK, NULL);
        assert_int_equal(journal_end(journal).number, 300);
        assert_int_equal(journal_oldest(journal).number, 0);
        assert_int_equal(read_blocks(journal, i), 300 - i);
        journal_close(journal);
        if (i > 0) {
            flushed.chain.high ^= 1;
            assert_null(test_journal(path, SEGMENT_BYTES, i % 2 == 0, flushed, ERR_AHEAD, NULL));
        }
    }
    struct journal_place beyond = {301, 1000, headers[300].chain};
    assert_null(test_journal(path, SEGMENT_BYTES, false, beyond, ERR_AHEAD, NULL));
    test_rmdir(path);
}

static void test_leftovers(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct journal *journal = new_journal(path);
    uint64_t state = 9;
    test_fill(journal, &state, 10, 100);
    journal_close(journal);
    test_write_file(path, "00000000000000ff.qsj.tmp", bytes_text("half a header"));
    test_write_file(path, "README", bytes_text("not ours"));
    journal = test_journal(path, SEGMENT_BYTES, true, nothing, OK, NULL);
    assert_int_equal(read_blocks(journal, 0), 10);
    assert_int_equal(file_count(path), 2);
    journal_close(journal);
    test_rmdir(path);
}

// ---- a full disk -------------------------------------------------------------------------------

// A write that fails half way leaves nothing behind, and can be repeated.
static void test_failed_append(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct journal *journal = new_journal(path);
    uint64_t state = 5;
    test_fill(journal, &state, 20, 100);
    assert_int_equal(journal_sync(journal), OK);
    struct test_files *before_it = test_load(path);
    uint64_t size = journal_bytes(journal);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {.rlim_cur = size + 1000, .rlim_max = before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    struct block_builder builder;
    builder_open(&builder);
    struct block *block;
    do {
        block = test_block(&builder, journal_last(journal), &state, 8000);
        if (block->stored.size <= 1000) {
            block_release(block);
            block = NULL;
        }
    } while (block == NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int error = journal_append(journal, block);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(error, ERR_IO);
    assert_int_equal(journal_bytes(journal), size);
    assert_int_equal(journal_last(journal)->number, 20);
    assert_true(journal_unsynced(journal) > 0); // the cut is not on disk yet
    struct test_files *after_it = test_load(path);
    assert_true(test_files_same(before_it, after_it));
    test_files_free(before_it);
    test_files_free(after_it);
    assert_int_equal(journal_append(journal, block), OK);
    assert_int_equal(journal_sync(journal), OK);
    journal_publish(journal);
    assert_int_equal(read_blocks(journal, 0), 21);
    block_release(block);
    builder_close(&builder);
    journal_close(journal);
    test_rmdir(path);
}

// ---- threads -----------------------------------------------------------------------------------

struct listener {
    struct notice notice;
    struct journal_subscriber subscriber;
    struct mailbox mailbox;
    unsigned seen;
    unsigned woken;
};

static void wake_listener(void *argument) { ((struct listener *)argument)->woken++; }

static void count_notice(struct notice *notice)
{
    CONTAINER_OF(notice, struct listener, notice)->seen++;
}

static void listener_open(struct listener *listener)
{
    *listener = (struct listener){0};
    listener->mailbox = (struct mailbox){.wake = wake_listener, .argument = listener};
    notice_init(&listener->notice, &listener->mailbox, count_notice);
    listener->subscriber.notice = &listener->notice;
}

static void run_tasks(struct mailbox *mailbox)
{
    struct task *next;
    for (struct task *task = mailbox_take(mailbox); task != NULL; task = next) {
        next = task->next;
        task->run(task);
    }
}

static void test_notices(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct journal *journal = new_journal(path);
    struct listener listener;
    listener_open(&listener);
    journal_subscribe(journal, &listener.subscriber);
    uint64_t state = 10;
    journal_publish(journal); // nothing is new
    assert_int_equal(listener.woken, 0);
    test_fill(journal, &state, 1, 100);
    test_fill(journal, &state, 1, 100);
    assert_int_equal(listener.woken, 1);
    run_tasks(&listener.mailbox);
    assert_int_equal(listener.seen, 1);
    test_fill(journal, &state, 1, 100);
    run_tasks(&listener.mailbox);
    assert_int_equal(listener.seen, 2);
    journal_unsubscribe(journal, &listener.subscriber);
    journal_unsubscribe(journal, &listener.subscriber);
    test_fill(journal, &state, 1, 100);
    run_tasks(&listener.mailbox);
    assert_int_equal(listener.seen, 2);
    journal_close(journal);
    test_rmdir(path);
}

#define THREAD_BLOCKS 1500

struct reader {
    struct journal *journal;
    bool trimmed; // may be overtaken by trimming
    uint64_t blocks;
    uint64_t restarts;
};

// Reads to block THREAD_BLOCKS, beginning again at the oldest one when overtaken.
static void *read_all(void *argument)
{
    struct reader *reader = argument;
    struct journal_cursor cursor = {0};
    uint64_t number = 0;
    while (number < THREAD_BLOCKS) {
        if (cursor.journal == NULL) {
            uint64_t oldest = journal_oldest(reader->journal).number;
            number = number > oldest ? number : oldest;
            if (journal_cursor_open(reader->journal, &cursor, number + 1) != OK) {
                reader->restarts++;
                continue;
            }
        }
        struct block *block;
        int error = journal_cursor_next(&cursor, &block);
        if (error == OK) {
            CHECK(block->header.number == ++number);
            block_release(block);
            reader->blocks++;
        } else if (error == ERR_TOO_OLD) {
            CHECK(reader->trimmed);
            journal_cursor_close(&cursor);
            reader->restarts++;
        } else {
            CHECK(error == ERR_NOT_FOUND);
            clock_sleep_ns(10000);
        }
        CHECK(journal_end(reader->journal).number >= number);
    }
    journal_cursor_close(&cursor);
    return NULL;
}

static void read_along(bool trimmed)
{
    char *path = test_mkdir();
    journal_close(new_journal(path));
    struct journal *journal =
        reopen_for_trim(path, trimmed ? 2 * SEGMENT_BYTES : UINT64_MAX, UINT64_MAX);
    struct reader readers[2] = {{journal, trimmed, 0, 0}, {journal, trimmed, 0, 0}};
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_all, &readers[i]), 0);
    }
    uint64_t state = 11;
    for (unsigned i = 0; i < THREAD_BLOCKS / 10; i++) {
        test_fill(journal, &state, 10, 300);
        journal_trim(journal, journal_end(journal).number);
    }
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(trimmed || readers[i].blocks == THREAD_BLOCKS);
    }
    journal_close(journal);
    test_rmdir(path);
}

static void test_readers(void **unused)
{
    (void)unused;
    read_along(false);
    read_along(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty_journal), cmocka_unit_test(test_append_and_reopen),
        cmocka_unit_test(test_visibility),    cmocka_unit_test(test_positions),
        cmocka_unit_test(test_spans),         cmocka_unit_test(test_large_blocks),
        cmocka_unit_test(test_trim_by_size),  cmocka_unit_test(test_trim_by_age),
        cmocka_unit_test(test_flushed_place), cmocka_unit_test(test_leftovers),
        cmocka_unit_test(test_failed_append),
        cmocka_unit_test(test_notices),       cmocka_unit_test(test_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
