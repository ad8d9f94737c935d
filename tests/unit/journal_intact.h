// SPDX-License-Identifier: Apache-2.0
// An intact journal kept in memory beside the one that a test breaks: its files, its blocks, and
// where each block stands, so that damage can be aimed and mending be judged byte by byte.
#ifndef QS_TESTS_UNIT_JOURNAL_INTACT_H
#define QS_TESTS_UNIT_JOURNAL_INTACT_H

#include "tests/unit/support.h"

// An intact journal in memory, and where its blocks stand in its files.
struct intact {
    struct test_files *files;
    uint64_t segment_bytes;
    uint64_t first; // number of the first block
    uint64_t last;
    struct block **blocks;      // by number
    size_t *file;               // by number
    uint64_t *offset;           // by number
    struct journal_place *ends; // by number
};

// Reads what is in `path`.
SUPPORT void intact_load(struct intact *intact, const char *path, uint64_t segment_bytes)
{
    *intact = (struct intact){.files = test_load(path), .segment_bytes = segment_bytes};
    struct journal *journal =
        test_journal(path, segment_bytes, true, (struct journal_place){0}, OK, NULL);
    intact->first = journal_oldest(journal).number + 1;
    intact->last = journal_end(journal).number;
    size_t count = (size_t)intact->last + 1;
    intact->blocks = mem_zalloc(count * sizeof(struct block *));
    intact->file = mem_zalloc(count * sizeof(size_t));
    intact->offset = mem_zalloc(count * sizeof(uint64_t));
    intact->ends = mem_zalloc(count * sizeof(struct journal_place));
    intact->ends[intact->first - 1] = journal_oldest(journal);
    struct journal_cursor cursor;
    assert_int_equal(journal_cursor_open(journal, &cursor, intact->first), OK);
    size_t file = 0;
    uint64_t offset = BLOCK_HEADER_BYTES;
    for (uint64_t i = intact->first; i <= intact->last; i++) {
        assert_int_equal(journal_cursor_next(&cursor, &intact->blocks[i]), OK);
        const struct block *block = intact->blocks[i];
        if (offset == intact->files->contents[file].size) {
            file++;
            offset = BLOCK_HEADER_BYTES;
        }
        intact->file[i] = file;
        intact->offset[i] = offset;
        intact->ends[i] = (struct journal_place){i, block_end(&block->header), block->header.chain};
        offset += block->stored.size;
    }
    journal_cursor_close(&cursor);
    journal_close(journal);
}

// Makes a new journal of `count` random blocks in `path`.
SUPPORT void intact_make(struct intact *intact, const char *path, uint64_t segment_bytes,
                         uint64_t count, size_t value_max)
{
    struct journal *journal =
        test_journal(path, segment_bytes, true, (struct journal_place){0}, OK, NULL);
    uint64_t state = count;
    assert_int_equal(journal_begin(journal, test_history), OK);
    test_fill(journal, &state, count, value_max);
    journal_close(journal);
    intact_load(intact, path, segment_bytes);
}

SUPPORT void intact_free(struct intact *intact)
{
    for (uint64_t i = 0; i <= intact->last; i++) {
        block_release(intact->blocks[i]);
    }
    mem_free(intact->blocks);
    mem_free(intact->file);
    mem_free(intact->offset);
    mem_free(intact->ends);
    test_files_free(intact->files);
}

// Do the files in `path` hold the intact bytes?
SUPPORT bool files_same(const struct intact *intact, const char *path)
{
    struct test_files *now = test_load(path);
    bool same = test_files_same(intact->files, now);
    test_files_free(now);
    return same;
}

#endif
