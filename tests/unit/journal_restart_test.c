// SPDX-License-Identifier: Apache-2.0
// A journal that begins anew behind another node's block: what its readers find, and what the next
// open makes of every state in which a crash can leave the directory.
#include "tests/unit/support.h"

#include "common/data/journal.h"

#define SEGMENT_BYTES (16 * KIB)
#define OLD_BLOCKS 60

static const struct journal_place nothing = {0};
static const uint8_t other_history[HISTORY_ID_BYTES] = "another history";

static struct journal *open_at(const char *path)
{
    return test_journal(path, SEGMENT_BYTES, false, nothing, OK, NULL);
}

static struct journal *old_journal(const char *path)
{
    struct journal *journal = open_at(path);
    uint64_t state = 3;
    assert_int_equal(journal_begin(journal, test_history), OK);
    test_fill(journal, &state, OLD_BLOCKS, 1500);
    return journal;
}

// Header of a block of a log whose blocks the journal never had.
static struct block_header elsewhere(const uint8_t *history, uint64_t number)
{
    struct block_header genesis;
    block_genesis(&genesis, history);
    genesis.number = number - 1;
    struct block_builder builder;
    uint64_t state = number;
    builder_open(&builder);
    struct block *block = test_block(&builder, &genesis, &state, 100);
    struct block_header header = block->header;
    block_release(block);
    builder_close(&builder);
    return header;
}

// It holds nothing but the new place, and goes on from there.
static void check_restarted(struct journal *journal, const struct block_header *before)
{
    struct journal_cursor cursor;
    struct block_header header;
    struct block *block;
    assert_int_equal(journal_end(journal).number, before->number);
    assert_int_equal(journal_end(journal).index, block_end(before));
    assert_int_equal(journal_oldest(journal).number, before->number);
    assert_true(hash128_equal(journal_oldest(journal).chain, before->chain));
    assert_memory_equal(journal_history(journal), before->history, HISTORY_ID_BYTES);
    assert_int_equal(journal_header(journal, before->number, &header), OK);
    assert_int_equal(journal_cursor_open(journal, &cursor, before->number), ERR_TOO_OLD);
    assert_int_equal(journal_cursor_open(journal, &cursor, before->number + 1), OK);
    uint64_t state = 9;
    test_fill(journal, &state, 20, 1500);
    struct block_header previous = *before;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(journal_cursor_next(&cursor, &block), OK);
        assert_int_equal(block_follows(&previous, block), OK);
        previous = block->header;
        block_release(block);
    }
    assert_int_equal(journal_cursor_next(&cursor, &block), ERR_NOT_FOUND);
    journal_cursor_close(&cursor);
}

static void test_restart(void **unused)
{
    (void)unused;
    const struct {
        const uint8_t *history;
        uint64_t number;
    } places[] = {
        {test_history, 5000}, {test_history, 30}, {other_history, 30}, {other_history, 1}};
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        char *path = test_mkdir();
        struct journal *journal = old_journal(path);
        const uint8_t *history = journal_history(journal);
        struct block_header before = elsewhere(places[i].history, places[i].number);
        struct journal_cursor middle, end;
        struct block *block;
        assert_int_equal(journal_cursor_open(journal, &middle, 20), OK);
        assert_int_equal(journal_cursor_open(journal, &end, OLD_BLOCKS + 1), OK);
        assert_int_equal(journal_restart(journal, &before), OK);
        assert_memory_equal(history, test_history, HISTORY_ID_BYTES); // who holds it may look still
        check_restarted(journal, &before);
        // Those who stood in the old log are told, at its end too; they never read on elsewhere.
        int error;
        uint64_t number = 20;
        while ((error = journal_cursor_next(&middle, &block)) == OK) {
            assert_int_equal(block->header.number, number++);
            block_release(block);
        }
        assert_int_equal(error, ERR_TOO_OLD);
        int fd;
        uint64_t bytes;
        assert_int_equal(journal_cursor_span(&end, &fd, &bytes), ERR_TOO_OLD);
        journal_cursor_close(&middle);
        journal_cursor_close(&end);
        journal_close(journal);
        journal = open_at(path);
        assert_int_equal(journal_end(journal).number, before.number + 20);
        assert_int_equal(journal_oldest(journal).number, before.number);
        journal_close(journal);
        test_rmdir(path);
    }
}

// A journal without a history takes one that way.
static void test_restart_of_nothing(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct journal *journal = open_at(path);
    struct block_header before = elsewhere(test_history, 77);
    assert_int_equal(journal_restart(journal, &before), OK);
    assert_true(journal_has_history(journal));
    check_restarted(journal, &before);
    journal_close(journal);
    test_rmdir(path);
}

static void write_intent(const char *path, const char *name, const struct block_header *before)
{
    uint8_t bytes[BLOCK_HEADER_BYTES];
    block_header_encode(before, bytes);
    test_write_file(path, name, bytes_of(bytes, sizeof bytes));
}

// Steps 2 and 3 may have come to any of the old segments, and to the new one.
static void test_crashes(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    journal_close(old_journal(path));
    struct test_files *old = test_load(path);
    assert_in_range(old->count, 3, 10);
    struct block_header before = elsewhere(other_history, 30);
    char *fresh_path = test_mkdir();
    struct journal *journal = open_at(fresh_path);
    assert_int_equal(journal_restart(journal, &before), OK);
    journal_close(journal);
    struct test_files *fresh = test_load(fresh_path);
    assert_int_equal(fresh->count, 1);

    for (unsigned left = 0; left < 1u << old->count; left++) {
        for (unsigned created = 0; created < 2; created++) {
            test_empty(path);
            for (size_t i = 0; i < old->count; i++) {
                if ((left & 1u << i) != 0) {
                    test_write_file(path, old->names[i], old->contents[i]);
                }
            }
            if (created == 1) {
                test_write_file(path, fresh->names[0], fresh->contents[0]);
            }
            write_intent(path, "RESTART", &before);
            journal = open_at(path);
            check_restarted(journal, &before);
            journal_close(journal);
            journal = open_at(path); // nothing is finished twice
            assert_int_equal(journal_end(journal).number, before.number + 20);
            journal_close(journal);
        }
    }
    // Before it is decided: the old journal.
    test_restore(path, old);
    write_intent(path, "RESTART.qsj.tmp", &before);
    journal = open_at(path);
    assert_int_equal(journal_end(journal).number, OLD_BLOCKS);
    journal_close(journal);
    test_files_free(old);
    test_files_free(fresh);
    test_rmdir(fresh_path);
    test_rmdir(path);
}

static void test_damaged_intent(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    journal_close(old_journal(path));
    struct test_files *old = test_load(path);
    struct block_header before = elsewhere(other_history, 30);
    write_intent(path, "RESTART", &before);
    test_flip(path, "RESTART", 40, 3);
    assert_null(test_journal(path, SEGMENT_BYTES, false, nothing, ERR_CORRUPT, NULL));
    struct test_files *now = test_load(path);
    assert_int_equal(now->count, old->count + 1); // nothing was touched
    test_files_free(now);
    test_files_free(old);
    test_rmdir(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_restart_of_nothing),
        cmocka_unit_test(test_crashes),
        cmocka_unit_test(test_damaged_intent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
