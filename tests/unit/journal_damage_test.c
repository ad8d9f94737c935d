// SPDX-License-Identifier: Apache-2.0
// What breaks in a journal: torn tails, flipped bits, lost pages and lost files. Each must be
// noticed, told apart as docs/journal.md says, and mended from an intact copy until the files are
// the same bytes again.
#include "tests/unit/journal_intact.h"

#include <fcntl.h>

#include "common/base/log.h"
#include "common/data/journal.h"

#define SEGMENT_BYTES (64 * KIB)
#define SEED 20231122

static const struct journal_place nothing = {0};

int __wrap_posix_fadvise(int fd, off_t offset, off_t size, int advice);

static uint64_t unwritten; // bytes at a file's end that memory has, and no disk

int __wrap_posix_fadvise(int fd, off_t offset, off_t size, int advice)
{
    struct stat info;
    assert_true(offset == 0 && size == 0 && advice == POSIX_FADV_DONTNEED);
    assert_int_equal(fstat(fd, &info), 0);
    assert_int_equal(ftruncate(fd, info.st_size - (off_t)unwritten), 0);
    return 0;
}

// The number of the first block that a cursor cannot read, 0 = all can up to the end.
static uint64_t first_bad(struct journal *journal, uint64_t from)
{
    struct journal_cursor cursor;
    struct block *block;
    int error = journal_cursor_open(journal, &cursor, from);
    if (error != OK) {
        assert_int_equal(error, ERR_DAMAGED);
        return from;
    }
    while ((error = journal_cursor_next(&cursor, &block)) == OK) {
        block_release(block);
    }
    uint64_t bad = error == ERR_NOT_FOUND ? 0 : cursor.number;
    assert_true(error == ERR_NOT_FOUND || error == ERR_DAMAGED);
    journal_cursor_close(&cursor);
    return bad;
}

// Appends what an intact journal has more, as a follower fetches it again.
static void append_rest(struct journal *journal, const struct intact *intact)
{
    for (uint64_t i = journal_last(journal)->number + 1; i <= intact->last; i++) {
        assert_int_equal(journal_append(journal, intact->blocks[i]), OK);
    }
    assert_int_equal(journal_sync(journal), OK);
    journal_publish(journal);
}

// Patches the reported range, and the next ones, block by block. The result of the last patch.
static int patch_all(struct journal *journal, const struct intact *intact,
                     struct journal_report *report)
{
    int error = ERR_DAMAGED;
    while (error == ERR_DAMAGED) {
        uint64_t last = report->damaged_last;
        uint64_t number = report->damaged_first;
        assert_true(number <= last && last <= intact->last);
        error = ERR_NOT_FOUND;
        while (error == ERR_NOT_FOUND && number <= last) {
            error = journal_patch(journal, intact->blocks[number++], report);
        }
    }
    return error;
}

// ---- torn tails --------------------------------------------------------------------------------

static void test_cut_at_every_byte(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct intact intact;
    intact_make(&intact, path, SEGMENT_BYTES, 40, 200);
    const char *name = intact.files->names[intact.files->count - 1];
    struct bytes whole = intact.files->contents[intact.files->count - 1];
    const struct block *last = intact.blocks[intact.last];
    for (uint64_t kept = 0; kept < last->stored.size; kept++) {
        test_write_file(path, name, bytes_of(whole.data, whole.size - last->stored.size + kept));
        struct journal_report report;
        struct journal *journal =
            test_journal(path, SEGMENT_BYTES, kept % 2 == 0,
                         kept % 3 == 0 ? nothing : intact.ends[intact.last - 1], OK, &report);
        assert_int_equal(report.torn_bytes, kept);
        assert_int_equal(report.torn_blocks, kept > 0);
        assert_int_equal(report.place[0] != 0, kept > 0);
        assert_int_equal(journal_end(journal).number, intact.last - 1);
        append_rest(journal, &intact);
        assert_int_equal(first_bad(journal, 1), 0);
        journal_close(journal);
        assert_true(files_same(&intact, path));
    }
    intact_free(&intact);
    test_rmdir(path);
}

// ---- one flipped bit ---------------------------------------------------------------------------

struct flip {
    size_t file;
    uint64_t offset;
    unsigned bit;
    uint64_t number; // of the block hit, 0 = a copy
    bool header;
};

static struct flip random_flip(const struct intact *intact, uint64_t *state)
{
    struct flip flip = {.file = (size_t)test_between(state, 0, intact->files->count - 1)};
    flip.offset = test_between(state, 0, intact->files->contents[flip.file].size - 1);
    flip.bit = (unsigned)test_between(state, 0, 7);
    for (uint64_t i = intact->first; i <= intact->last && flip.offset >= BLOCK_HEADER_BYTES; i++) {
        if (intact->file[i] == flip.file && intact->offset[i] <= flip.offset) {
            flip.number = i;
            flip.header = flip.offset < intact->offset[i] + BLOCK_HEADER_BYTES;
        }
    }
    return flip;
}

// What lies before the newest file was synced before that one was begun.
static bool in_newest(const struct intact *intact, uint64_t number)
{
    return intact->file[number] == intact->file[intact->last];
}

// Do the blocks from `number` on fit into two groups that are closed at 1 MiB?
static bool in_two_groups(const struct intact *intact, uint64_t number)
{
    unsigned closed = 0;
    uint64_t open = 0;
    for (uint64_t i = number; i <= intact->last; i++) {
        if (closed == 2) {
            return false;
        }
        open += intact->blocks[i]->stored.size;
        if (open >= MIB) {
            closed++;
            open = 0;
        }
    }
    return true;
}

// Below the flushed block: opening does not read it, whoever reads it finds it.
static void check_silent(struct journal *journal, const struct intact *intact, struct flip flip)
{
    struct journal_report report = {0};
    assert_int_equal(journal_end(journal).number, intact->last);
    assert_int_equal(first_bad(journal, intact->first), flip.number);
    uint64_t other = flip.number == 1 ? 2 : flip.number - 1;
    assert_int_equal(journal_recheck(journal, other, &report), OK);
    assert_int_equal(journal_recheck(journal, flip.number, &report), ERR_DAMAGED);
    assert_int_equal(report.damaged_first, flip.number);
    assert_int_equal(report.damaged_last, flip.number);
    assert_int_equal(journal_patch(journal, intact->blocks[other], &report), ERR_PROTOCOL);
    assert_int_equal(journal_patch(journal, intact->blocks[flip.number], &report), OK);
    assert_int_equal(journal_recheck(journal, flip.number, &report), OK);
}

static void check_damaged(struct journal *journal, const struct intact *intact, struct flip flip,
                          struct journal_report *report)
{
    assert_int_equal(report->damaged_first, flip.number);
    assert_int_equal(report->damaged_last, flip.number);
    assert_int_equal(report->torn_bytes, 0);
    assert_int_equal(journal_end(journal).number, flip.number - 1);
    assert_int_equal(journal_seen(journal), intact->last);
    assert_int_equal(journal_append(journal, intact->blocks[flip.number]), ERR_DAMAGED);
    if (flip.number > intact->first) {
        assert_int_equal(first_bad(journal, intact->first), 0); // up to the published end
        assert_int_equal(journal_patch(journal, intact->blocks[flip.number - 1], report),
                         ERR_PROTOCOL);
    }
    assert_int_equal(patch_all(journal, intact, report), OK);
}

static void check_flip(const char *path, const struct intact *intact, struct flip flip, bool root,
                       uint64_t flushed)
{
    test_flip(path, intact->files->names[flip.file], flip.offset, flip.bit);
    bool later = flip.number != 0 && flip.number > flushed;
    bool torn = later && (flip.number == intact->last ||
                          (!root && in_newest(intact, flip.number) &&
                           in_two_groups(intact, flip.number)));
    bool found = torn || later || (flip.header && flip.number == flushed && flip.number != 0);
    struct journal_report report;
    struct journal *journal = test_journal(path, intact->segment_bytes, root, intact->ends[flushed],
                                           found && !torn ? ERR_DAMAGED : OK, &report);
    if (torn) {
        assert_int_equal(journal_end(journal).number, flip.number - 1);
        assert_int_equal(report.torn_blocks, intact->last - flip.number + 1);
        assert_int_equal(report.damaged_first, 0);
        append_rest(journal, intact);
    } else if (found) {
        check_damaged(journal, intact, flip, &report);
    } else if (flip.number != 0) {
        check_silent(journal, intact, flip);
    }
    assert_int_equal(journal_end(journal).number, intact->last);
    assert_int_equal(first_bad(journal, intact->first), 0);
    journal_close(journal);
    assert_true(files_same(intact, path));
}

static void check_flips(const char *path, const struct intact *intact, unsigned count, bool roots)
{
    uint64_t state = SEED;
    print_message("seed %d, %u flips in %zu files\n", SEED, count, intact->files->count);
    for (unsigned i = 0; i < count; i++) {
        struct flip flip = random_flip(intact, &state);
        bool root = roots && i % 2 == 0;
        uint64_t flushed =
            i % 4 < 2 ? intact->first - 1 : test_between(&state, intact->first - 1, intact->last);
        if (i % 16 == 7) {
            flushed = flip.number;
        }
        if (flushed < intact->first - 1) {
            flushed = intact->first - 1;
        }
        check_flip(path, intact, flip, root, flushed);
    }
}

static void test_flips(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct intact intact;
    intact_make(&intact, path, 8 * KIB, 100, 60);
    assert_true(intact.files->count >= 4);
    check_flips(path, &intact, ROUNDS(2000), true);
    intact_free(&intact);
    test_rmdir(path);
}

// A follower's last two groups are cut even if blocks behind are sound. What lies before is not,
// nor what lies before the newest file.
static void test_flips_of_follower(void **unused)
{
    (void)unused;
    static const uint64_t segment_bytes[] = {512 * KIB, 8 * MIB};
    for (unsigned i = 0; i < ARRAY_LEN(segment_bytes); i++) {
        char *path = test_mkdir();
        struct intact intact;
        intact_make(&intact, path, segment_bytes[i], 150, 30000);
        assert_false(in_two_groups(&intact, intact.last / 2));
        check_flips(path, &intact, ROUNDS(20), false);
        intact_free(&intact);
        test_rmdir(path);
    }
}

// Blocks larger than a group are groups of their own.
static void test_flips_of_large_blocks(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct intact intact;
    intact_make(&intact, path, 4 * MIB, 6, 1200000);
    check_flips(path, &intact, ROUNDS(8), false);
    intact_free(&intact);
    test_rmdir(path);
}

// ---- lost stretches ----------------------------------------------------------------------------

static void zero(const char *path, const struct intact *intact, uint64_t number, size_t size)
{
    char *name = mem_format("%s/%s", path, intact->files->names[intact->file[number]]);
    int fd = open(name, O_RDWR | O_CLOEXEC);
    uint8_t *zeros = mem_zalloc(size);
    assert_int_equal(pwrite(fd, zeros, size, (off_t)intact->offset[number]), (ssize_t)size);
    mem_free(zeros);
    close(fd);
    mem_free(name);
}

// Two damaged ranges: the second is reported when the first is whole.
static void test_ranges(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct intact intact;
    intact_make(&intact, path, SEGMENT_BYTES, 100, 300);
    zero(path, &intact, 10, (size_t)(intact.offset[13] - intact.offset[10] + 5));
    zero(path, &intact, 40, 1);
    struct journal_report report;
    struct journal *journal =
        test_journal(path, SEGMENT_BYTES, true, nothing, ERR_DAMAGED, &report);
    struct journal_report *at = &report;
    assert_int_equal(report.damaged_first, 10);
    assert_int_equal(report.damaged_last, 13);
    assert_non_null(strstr(report.place, "0000000000000001.qsj at "));
    assert_int_equal(journal_patch(journal, intact.blocks[11], at), ERR_PROTOCOL);
    assert_int_equal(journal_patch(journal, intact.blocks[10], at), ERR_NOT_FOUND);
    assert_int_equal(journal_patch(journal, intact.blocks[10], at), ERR_PROTOCOL);
    assert_int_equal(journal_patch(journal, intact.blocks[11], at), ERR_NOT_FOUND);
    // What does not continue the chain is no block of this range, whatever its number.
    struct block_builder builder;
    uint64_t state = 77;
    builder_open(&builder);
    struct block_header elsewhere = intact.blocks[11]->header;
    elsewhere.chain.low ^= 1;
    struct block *other = test_block(&builder, &elsewhere, &state, 100);
    assert_int_equal(other->header.number, 12);
    assert_int_equal(journal_patch(journal, other, at), ERR_PROTOCOL);
    block_release(other);
    builder_close(&builder);
    assert_int_equal(journal_patch(journal, intact.blocks[12], at), ERR_NOT_FOUND);
    assert_int_equal(journal_patch(journal, intact.blocks[13], at), ERR_DAMAGED);
    assert_int_equal(report.damaged_first, 40);
    assert_int_equal(report.damaged_last, 40);
    assert_int_equal(journal_end(journal).number, 39);
    assert_int_equal(journal_patch(journal, intact.blocks[40], at), OK);
    assert_int_equal(journal_end(journal).number, 100);
    journal_close(journal);
    assert_true(files_same(&intact, path));
    intact_free(&intact);
    test_rmdir(path);
}

// The end was never written, as a look at the disk shows: what is sound before it still is proof
// that a bad block is no torn end.
static void test_unwritten_end(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct intact intact;
    intact_make(&intact, path, MIB, 40, 200);
    zero(path, &intact, 10, 1);
    unwritten = 3;
    struct journal_report report;
    struct journal *journal = test_journal(path, MIB, true, nothing, ERR_DAMAGED, &report);
    unwritten = 0;
    assert_int_equal(report.damaged_first, 10);
    assert_int_equal(report.damaged_last, 10);
    assert_int_equal(report.torn_bytes, 0);
    assert_int_equal(journal_patch(journal, intact.blocks[10], &report), OK);
    assert_int_equal(journal_end(journal).number, intact.last - 1);
    journal_close(journal);
    intact_free(&intact);
    test_rmdir(path);
}

// Once its file is cut in the middle of block `number`; once the whole file is gone.
static void test_lost_files(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct intact intact;
    intact_make(&intact, path, SEGMENT_BYTES, 300, 400);
    const char *name = intact.files->names[1];
    struct bytes content = intact.files->contents[1];
    for (uint64_t kept = 0; kept < content.size; kept += 1 + content.size / 9) {
        test_write_file(path, name, bytes_of(content.data, kept));
        struct journal_report report;
        struct journal *journal =
            test_journal(path, SEGMENT_BYTES, true, nothing, ERR_DAMAGED, &report);
        assert_int_equal(patch_all(journal, &intact, &report), OK);
        assert_int_equal(first_bad(journal, 1), 0);
        journal_close(journal);
        assert_true(files_same(&intact, path));
    }
    char *file = mem_format("%s/%s", path, name);
    assert_int_equal(unlink(file), 0);
    mem_free(file);
    struct journal_report report;
    struct journal *journal =
        test_journal(path, SEGMENT_BYTES, true, nothing, ERR_DAMAGED, &report);
    assert_int_equal(patch_all(journal, &intact, &report), OK);
    assert_int_equal(first_bad(journal, 1), 0);
    assert_int_equal(journal_end(journal).number, intact.last);
    journal_close(journal);
    intact_free(&intact);
    test_rmdir(path);
}

// What the store relies on is never torn: the end is missing, but the store has it.
static void test_flushed_tail(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct intact intact;
    intact_make(&intact, path, SEGMENT_BYTES, 30, 300);
    const char *name = intact.files->names[intact.files->count - 1];
    struct bytes content = intact.files->contents[intact.files->count - 1];
    for (unsigned i = 0; i < 2; i++) {
        test_write_file(path, name,
                        bytes_of(content.data, intact.offset[29] + (i == 0 ? 50 : 200)));
        struct journal_report report;
        struct journal *journal =
            test_journal(path, SEGMENT_BYTES, false, intact.ends[29], ERR_DAMAGED, &report);
        assert_int_equal(report.damaged_first, 29);
        assert_int_equal(report.damaged_last, 29);
        assert_int_equal(patch_all(journal, &intact, &report), OK);
        assert_int_equal(journal_end(journal).number, 29);
        append_rest(journal, &intact);
        journal_close(journal);
        assert_true(files_same(&intact, path));
    }
    test_write_file(path, name, bytes_of(content.data, intact.offset[29]));
    assert_null(test_journal(path, SEGMENT_BYTES, false, intact.ends[29], ERR_AHEAD, NULL));
    intact_free(&intact);
    test_rmdir(path);
}

// A copy and the header that it copies; the oldest copy, of which no other exists.
static void test_copies(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct intact intact;
    intact_make(&intact, path, SEGMENT_BYTES, 300, 400);
    uint64_t before = 1;
    while (intact.file[before + 1] == 0) {
        before++;
    }
    struct journal_report report;
    for (unsigned i = 0; i < 2; i++) {
        test_flip(path, intact.files->names[0], intact.offset[before] + 20, 1);
        test_flip(path, intact.files->names[1], 30, 1);
        struct journal *journal = test_journal(path, SEGMENT_BYTES, true, intact.ends[i * 200],
                                               ERR_DAMAGED, &report);
        assert_int_equal(report.damaged_first, before);
        assert_int_equal(report.damaged_last, before);
        assert_int_equal(patch_all(journal, &intact, &report), OK);
        journal_close(journal);
        assert_true(files_same(&intact, path));
    }
    struct journal *journal = test_journal(path, SEGMENT_BYTES, true, nothing, OK, NULL);
    journal_close(journal);
    char *oldest = mem_format("%s/%s", path, intact.files->names[0]);
    assert_int_equal(unlink(oldest), 0);
    mem_free(oldest);
    test_flip(path, intact.files->names[1], 30, 1);
    journal = test_journal(path, SEGMENT_BYTES, true, intact.ends[250], ERR_DAMAGED, &report);
    assert_int_equal(report.damaged_first, before);
    assert_int_equal(journal_seen(journal), intact.last);
    assert_int_equal(journal_append(journal, intact.blocks[before + 1]), ERR_DAMAGED);
    assert_int_equal(patch_all(journal, &intact, &report), OK);
    assert_int_equal(journal_oldest(journal).number, before);
    assert_int_equal(journal_end(journal).number, intact.last);
    assert_int_equal(first_bad(journal, before + 1), 0);
    journal_close(journal);
    intact_free(&intact);
    test_rmdir(path);
}

// A segment is begun only when all before it is synced: one that holds nothing yet is proof enough
// that the bad block before it was acknowledged.
static void test_empty_segment_is_proof(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct intact intact;
    intact_make(&intact, path, 8 * KIB, 30, 400);
    assert_true(intact.files->count >= 2);
    size_t newest = intact.files->count - 1;
    uint64_t before = intact.last;
    while (intact.file[before] == newest) {
        before--;
    }
    test_write_file(path, intact.files->names[newest],
                    bytes_of(intact.files->contents[newest].data, BLOCK_HEADER_BYTES));
    test_flip(path, intact.files->names[newest - 1], intact.offset[before] + 20, 1);
    struct journal_report report;
    struct journal *journal = test_journal(path, 8 * KIB, true, nothing, ERR_DAMAGED, &report);
    assert_int_equal(report.damaged_first, before);
    assert_int_equal(report.damaged_last, before);
    assert_int_equal(report.torn_bytes, 0);
    assert_int_equal(patch_all(journal, &intact, &report), OK);
    assert_int_equal(journal_end(journal).number, before);
    append_rest(journal, &intact);
    journal_close(journal);
    assert_true(files_same(&intact, path));
    intact_free(&intact);
    test_rmdir(path);
}

static void test_nothing_sound(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    test_write_file(path, "0000000000000001.qsj", bytes_text("nothing that anybody could read"));
    assert_null(test_journal(path, SEGMENT_BYTES, true, nothing, ERR_IO, NULL));
    test_rmdir(path);
}

// ---- anything at once --------------------------------------------------------------------------

static void spoil(const char *path, const struct intact *intact, uint64_t *state)
{
    uint64_t number = test_between(state, 1, intact->last);
    size_t file = intact->file[number];
    struct bytes content = intact->files->contents[file];
    char *name = mem_format("%s/%s", path, intact->files->names[file]);
    struct flip flip = random_flip(intact, state);
    switch (test_between(state, 0, 5)) {
    case 0:
        (void)!truncate(name, (off_t)test_between(state, 0, content.size));
        break;
    case 1:
        (void)!unlink(name);
        break;
    case 2:
    case 3:
        if (access(name, F_OK) == 0) {
            zero(path, intact, number, (size_t)test_between(state, 1, 4096));
        }
        break;
    default:
        mem_free(name);
        name = mem_format("%s/%s", path, intact->files->names[flip.file]);
        struct stat info;
        if (stat(name, &info) == 0 && (uint64_t)info.st_size > flip.offset) {
            test_flip(path, intact->files->names[flip.file], flip.offset, flip.bit);
        }
    }
    mem_free(name);
}

// Whatever was done to the files: opening says what it is, patching never makes anything up, and a
// journal that calls itself whole is.
static void test_anything(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct intact intact;
    intact_make(&intact, path, 16 * KIB, 200, 60);
    uint64_t state = SEED + 1;
    unsigned whole = 0;
    for (unsigned round = 0; round < ROUNDS(300); round++) {
        for (uint64_t i = test_between(&state, 1, 4); i > 0; i--) {
            spoil(path, &intact, &state);
        }
        struct journal_place flushed =
            intact.ends[round % 3 == 0 ? test_between(&state, 0, 200) : 0];
        struct journal_options options = {
            .directory = path, .segment_bytes = 16 * KIB, .keep_bytes = 1, .root = round % 2 == 0};
        struct journal_report report;
        struct journal *journal = NULL;
        int error = journal_open(&journal, &options, &flushed, &report);
        if (error == ERR_DAMAGED) {
            error = patch_all(journal, &intact, &report);
        }
        if (error == OK && journal_has_history(journal)) {
            struct journal_place oldest = journal_oldest(journal);
            struct journal_place end = journal_end(journal);
            assert_true(end.number >= flushed.number);
            assert_true(hash128_equal(end.chain, intact.ends[end.number].chain));
            append_rest(journal, &intact);
            uint64_t from = flushed.number > oldest.number ? flushed.number : oldest.number;
            assert_int_equal(first_bad(journal, from + 1), 0);
            assert_true(hash128_equal(journal_end(journal).chain, intact.ends[intact.last].chain));
            whole++;
        } else if (error != OK) {
            assert_true(error == ERR_AHEAD || error == ERR_IO || error == ERR_PROTOCOL);
        }
        journal_close(journal);
        test_restore(path, intact.files);
    }
    assert_true(whole > ROUNDS(300) / 2);
    intact_free(&intact);
    test_rmdir(path);
}

int main(void)
{
    log_open((enum log_level)(LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_at_every_byte),
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_flips_of_follower),
        cmocka_unit_test(test_flips_of_large_blocks),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_unwritten_end),
        cmocka_unit_test(test_lost_files),
        cmocka_unit_test(test_flushed_tail),
        cmocka_unit_test(test_copies),
        cmocka_unit_test(test_empty_segment_is_proof),
        cmocka_unit_test(test_nothing_sound),
        cmocka_unit_test(test_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
