// SPDX-License-Identifier: Apache-2.0
// The tail of a journal that holds back: what readers see of it, how it is released block by block
// across segments, and how it is cut, with what was cut in a file of its own.
#include "tests/unit/support.h"

#include "common/data/journal.h"

#define SEGMENT_BYTES (4 * KIB)
#define BLOCKS 60
#define VALUE_MAX 400

static const struct journal_place nothing = {0};

struct log {
    char *path;
    struct journal *journal;
    struct block_header headers[2 * BLOCKS + 1]; // by number
    uint64_t seed;
};

static void append(struct log *log, uint64_t count)
{
    struct block_builder builder;
    builder_open(&builder);
    for (uint64_t i = 0; i < count; i++) {
        struct block *block =
            test_block(&builder, journal_last(log->journal), &log->seed, VALUE_MAX);
        assert_int_equal(journal_append(log->journal, block), OK);
        log->headers[block->header.number] = block->header;
        block_release(block);
    }
    builder_close(&builder);
    assert_int_equal(journal_sync(log->journal), OK);
    journal_publish(log->journal);
}

static void log_open(struct log *log, uint64_t published)
{
    *log = (struct log){.path = test_mkdir(), .seed = 7};
    log->journal = test_journal(log->path, SEGMENT_BYTES, false, nothing, OK, NULL);
    assert_int_equal(journal_begin(log->journal, test_history), OK);
    append(log, published);
}

static void log_reopen(struct log *log)
{
    journal_close(log->journal);
    log->journal = test_journal(log->path, SEGMENT_BYTES, false, nothing, OK, NULL);
}

static void log_close(struct log *log)
{
    journal_close(log->journal);
    test_rmdir(log->path);
}

// Cursors from each block on see exactly the log up to `last`.
static void check_readable(struct log *log, uint64_t last, bool tail)
{
    for (uint64_t from = 1; from <= last + 1; from++) {
        struct journal_cursor cursor;
        int error = tail ? journal_tail_cursor(log->journal, &cursor, from)
                         : journal_cursor_open(log->journal, &cursor, from);
        assert_int_equal(error, OK);
        struct block *block;
        for (uint64_t number = from; number <= last; number++) {
            assert_int_equal(journal_cursor_next(&cursor, &block), OK);
            assert_true(hash128_equal(block->header.chain, log->headers[number].chain));
            block_release(block);
        }
        assert_int_equal(journal_cursor_next(&cursor, &block), ERR_NOT_FOUND);
        journal_cursor_close(&cursor);
    }
    struct block_header header;
    int error = tail ? journal_tail_header(log->journal, last + 1, &header)
                     : journal_header(log->journal, last + 1, &header);
    assert_int_equal(error, ERR_NOT_FOUND);
    struct journal_place end = tail ? journal_tail(log->journal) : journal_end(log->journal);
    assert_int_equal(end.number, last);
    assert_int_equal(end.index, last == 0 ? 0 : block_end(&log->headers[last]));
}

static void test_hold_and_release(void **unused)
{
    (void)unused;
    struct log log;
    log_open(&log, BLOCKS);
    // Each block may be the last one committed when a root starts.
    for (uint64_t number = 0; number <= BLOCKS; number++) {
        log_reopen(&log);
        assert_int_equal(journal_hold(log.journal, number), OK);
        check_readable(&log, number, false);
        check_readable(&log, BLOCKS, true);
    }
    log_reopen(&log);
    assert_int_equal(journal_hold(log.journal, 1), OK);
    append(&log, BLOCKS); // publishes nothing
    check_readable(&log, 1, false);
    check_readable(&log, 2 * BLOCKS, true);
    for (uint64_t number = 2; number <= 2 * BLOCKS; number += 1 + number % 4) {
        journal_release(log.journal, number);
        check_readable(&log, number, false);
    }
    assert_int_equal(journal_hold(log.journal, BLOCKS * 3), ERR_NOT_FOUND);
    log_close(&log);
}

// A reader that stands at the end goes on where blocks are released, also into the next segment.
static void test_waiting_reader(void **unused)
{
    (void)unused;
    struct log log;
    log_open(&log, 0);
    assert_int_equal(journal_hold(log.journal, 0), OK);
    struct journal_cursor cursor;
    assert_int_equal(journal_cursor_open(log.journal, &cursor, 1), OK);
    append(&log, BLOCKS);
    struct block *block;
    for (uint64_t number = 1; number <= BLOCKS; number++) {
        int fd;
        uint64_t bytes;
        assert_int_equal(journal_cursor_next(&cursor, &block), ERR_NOT_FOUND);
        assert_int_equal(journal_cursor_span(&cursor, &fd, &bytes), OK);
        assert_int_equal(bytes, 0);
        journal_release(log.journal, number);
        assert_int_equal(journal_cursor_next(&cursor, &block), OK);
        assert_int_equal(block->header.number, number);
        block_release(block);
    }
    journal_cursor_close(&cursor);
    log_close(&log);
}

// What was cut is a segment: the header before, and then the blocks.
static void check_aside(const struct log *log, const char *path, uint64_t number, uint64_t last)
{
    static uint8_t content[MIB];
    int fd = open(path, O_RDONLY);
    ssize_t size = read(fd, content, sizeof content);
    close(fd);
    uint8_t before[BLOCK_HEADER_BYTES];
    block_header_encode(&log->headers[number - 1], before);
    assert_memory_equal(content, before, sizeof before);
    size_t at = BLOCK_HEADER_BYTES;
    for (; number <= last; number++) {
        struct block_header header;
        struct block *block;
        assert_int_equal(block_header_decode(&header, content + at), OK);
        size_t length = BLOCK_HEADER_BYTES + header.payload_length;
        assert_int_equal(block_decode(&block, bytes_of(content + at, length), false), OK);
        assert_true(hash128_equal(block->header.chain, log->headers[number].chain));
        block_release(block);
        at += length;
    }
    assert_int_equal(at, size);
}

static void test_cut(void **unused)
{
    (void)unused;
    for (uint64_t number = 2; number <= BLOCKS; number += 3) {
        struct log log;
        log_open(&log, 1);
        log.headers[0].number = 0;
        assert_int_equal(journal_header(log.journal, 0, &log.headers[0]), OK);
        assert_int_equal(journal_hold(log.journal, 1), OK);
        append(&log, BLOCKS - 1);
        char *aside = mem_format("%s/aside", log.path);
        struct journal_cursor far, near;
        assert_int_equal(journal_tail_cursor(log.journal, &far, BLOCKS + 1), OK);
        assert_int_equal(journal_tail_cursor(log.journal, &near, 2), OK);
        assert_int_equal(journal_cut(log.journal, number, aside), OK);
        check_aside(&log, aside, number, BLOCKS);
        check_readable(&log, 1, false);
        check_readable(&log, number - 1, true);
        assert_int_equal(journal_last(log.journal)->number, number - 1);
        struct block *block;
        assert_int_equal(journal_cursor_next(&far, &block), ERR_TOO_OLD);
        journal_cursor_close(&far);
        append(&log, 20); // others, at the same numbers
        for (uint64_t at = 2; at < number + 20; at++) {
            assert_int_equal(journal_cursor_next(&near, &block), OK);
            assert_true(hash128_equal(block->header.chain, log.headers[at].chain));
            block_release(block);
        }
        journal_cursor_close(&near);
        journal_release(log.journal, number + 5);
        check_readable(&log, number + 5, false);
        assert_int_equal(unlink(aside), 0);
        log_reopen(&log);
        check_readable(&log, number + 19, false);
        mem_free(aside);
        log_close(&log);
    }
}

// What a root knows to have been synced is not taken for torn, however near to the end it is.
static void test_certain(void **unused)
{
    (void)unused;
    struct log log;
    log_open(&log, 3);
    struct block_header *third = &log.headers[3];
    uint64_t size = journal_bytes(log.journal);
    journal_close(log.journal);
    char *file = mem_format("%s/%016x.qsj", log.path, 1);
    int fd = open(file, O_RDWR);
    off_t offset = (off_t)(size - third->payload_length);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    close(fd);
    struct journal_options options = {
        .directory = log.path, .segment_bytes = MIB, .keep_bytes = MIB, .certain = 3};
    struct journal_report report;
    assert_int_equal(journal_open(&log.journal, &options, &nothing, &report), ERR_DAMAGED);
    assert_int_equal(report.damaged_first, 3);
    journal_close(log.journal);
    options.certain = 2;
    assert_int_equal(journal_open(&log.journal, &options, &nothing, &report), OK);
    assert_int_equal(report.torn_blocks, 1);
    mem_free(file);
    log_close(&log);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hold_and_release),
        cmocka_unit_test(test_waiting_reader),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_certain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
