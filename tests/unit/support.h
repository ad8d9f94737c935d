// SPDX-License-Identifier: Apache-2.0
// What several unit tests need: a directory of their own, repeatable random numbers, journals full
// of random blocks, and whole files in memory. Everything fails the running test by itself.
#ifndef QS_TESTS_UNIT_SUPPORT_H
#define QS_TESTS_UNIT_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/mem.h"
#include "common/data/journal.h"

#define SUPPORT static inline __attribute__((unused))

// How often something random is tried: the sanitizers make each try ten or thirty times slower.
#if defined(__SANITIZE_THREAD__)
#define ROUNDS(count) ((count) / 20 + 4)
#elif defined(__SANITIZE_ADDRESS__)
#define ROUNDS(count) ((count) / 10 + 4)
#else
#define ROUNDS(count) (count)
#endif

// splitmix64: https://prng.di.unimi.it/splitmix64.c
SUPPORT uint64_t test_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// A number in [low, high].
SUPPORT uint64_t test_between(uint64_t *state, uint64_t low, uint64_t high)
{
    return low + test_random(state) % (high - low + 1);
}

// A new directory; memory file systems first, because tests sync a lot. Freed by test_rmdir.
SUPPORT char *test_mkdir(void)
{
    const char *base = getenv("TMPDIR");
    if (base == NULL || base[0] == 0) {
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    }
    char *path = mem_format("%s/qs-test-XXXXXX", base);
    assert_non_null(mkdtemp(path));
    return path;
}

// Removes all files in a directory (flat).
SUPPORT void test_empty(const char *path)
{
    DIR *directory = opendir(path);
    assert_non_null(directory);
    const struct dirent *file;
    while ((file = readdir(directory)) != NULL) {
        if (file->d_name[0] != '.') {
            assert_int_equal(unlinkat(dirfd(directory), file->d_name, 0), 0);
        }
    }
    closedir(directory);
}

SUPPORT void test_rmdir(char *path)
{
    test_empty(path);
    assert_int_equal(rmdir(path), 0);
    mem_free(path);
}

// A flat directory in memory, files sorted by name.
#define TEST_FILES_MAX 256

struct test_files {
    size_t count;
    char *names[TEST_FILES_MAX];
    struct bytes contents[TEST_FILES_MAX]; // owned
};

SUPPORT struct bytes test_read_file(const char *directory, const char *name)
{
    char *path = mem_format("%s/%s", directory, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    uint8_t *data = mem_alloc((size_t)info.st_size);
    assert_int_equal(pread(fd, data, (size_t)info.st_size, 0), info.st_size);
    close(fd);
    mem_free(path);
    return bytes_of(data, (size_t)info.st_size);
}

SUPPORT void test_write_file(const char *directory, const char *name, struct bytes content)
{
    char *path = mem_format("%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content.data, content.size), (ssize_t)content.size);
    close(fd);
    mem_free(path);
}

SUPPORT int test_compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

SUPPORT struct test_files *test_load(const char *path)
{
    struct test_files *files = mem_zalloc(sizeof *files);
    DIR *directory = opendir(path);
    assert_non_null(directory);
    const struct dirent *file;
    while ((file = readdir(directory)) != NULL) {
        if (file->d_name[0] != '.') {
            assert_true(files->count < TEST_FILES_MAX);
            files->names[files->count++] = mem_text(file->d_name);
        }
    }
    closedir(directory);
    qsort(files->names, files->count, sizeof files->names[0], test_compare_names);
    for (size_t i = 0; i < files->count; i++) {
        files->contents[i] = test_read_file(path, files->names[i]);
    }
    return files;
}

SUPPORT void test_files_free(struct test_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        mem_free(files->names[i]);
        mem_free((void *)files->contents[i].data);
    }
    mem_free(files);
}

// Makes the directory hold exactly these files.
SUPPORT void test_restore(const char *path, const struct test_files *files)
{
    test_empty(path);
    for (size_t i = 0; i < files->count; i++) {
        test_write_file(path, files->names[i], files->contents[i]);
    }
}

SUPPORT bool test_files_same(const struct test_files *a, const struct test_files *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; i < a->count && same; i++) {
        same = strcmp(a->names[i], b->names[i]) == 0 && bytes_equal(a->contents[i], b->contents[i]);
    }
    return same;
}

// Changes one bit of a file.
SUPPORT void test_flip(const char *directory, const char *name, uint64_t offset, unsigned bit)
{
    char *path = mem_format("%s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= (uint8_t)(1u << bit);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
    mem_free(path);
}

// A random block that follows `previous`: 1 to 3 batches of 1 to 4 entries, values of up to
// `value_max` bytes, half of them so regular that they can be compressed.
SUPPORT struct block *test_block(struct block_builder *builder, const struct block_header *previous,
                                 uint64_t *state, size_t value_max)
{
    uint8_t *value = mem_alloc(value_max);
    uint64_t first = block_end(previous) + 1;
    builder_reset(builder, first);
    uint64_t batches = test_between(state, 1, 3);
    for (uint64_t batch = 0; batch < batches; batch++) {
        builder_batch(builder);
        uint64_t entries = test_between(state, 1, 4);
        for (uint64_t i = 0; i < entries; i++) {
            uint8_t key[16];
            store_u64(key, test_random(state) % 1000);
            store_u64(key + 8, batch * 8 + i);
            size_t size = (size_t)test_between(state, 0, value_max);
            uint64_t mask = (test_random(state) & 1) != 0 ? 3 : UINT64_MAX;
            for (size_t at = 0; at < size; at++) {
                value[at] = (uint8_t)(test_random(state) & mask);
            }
            uint64_t replaced = test_between(state, 0, first - 1);
            if (replaced != 0 && test_random(state) % 4 == 0) {
                builder_entry(builder, ENTRY_DELETE, bytes_of(key, sizeof key), bytes_of(NULL, 0),
                              replaced);
            } else {
                builder_entry(builder, ENTRY_PUT, bytes_of(key, sizeof key), bytes_of(value, size),
                              replaced);
            }
        }
        builder_batch_end(builder);
    }
    mem_free(value);
    struct block_stamp stamp = {.epoch = 1, .commit_index = first - 1, .root_ms = 1700000000000u};
    return builder_finish(builder, previous, stamp);
}

static const uint8_t test_history[HISTORY_ID_BYTES] = "a test's history";

// Opens the journal in `path`; the result of journal_open is asserted to be `expected`.
SUPPORT struct journal *test_journal(const char *path, uint64_t segment_bytes, bool root,
                                     struct journal_place flushed, int expected,
                                     struct journal_report *ret_report)
{
    struct journal_options options = {
        .directory = path,
        .scope = "test",
        .segment_bytes = segment_bytes,
        .keep_bytes = UINT64_MAX,
        .keep_ms = UINT64_MAX,
        .root = root,
    };
    struct journal_report report;
    struct journal *journal = NULL;
    assert_int_equal(journal_open(&journal, &options, &flushed, &report), expected);
    if (ret_report != NULL) {
        *ret_report = report;
    }
    return journal;
}

// Appends `count` random blocks, syncs and publishes.
SUPPORT void test_fill(struct journal *journal, uint64_t *state, uint64_t count, size_t value_max)
{
    struct block_builder builder;
    builder_open(&builder);
    for (uint64_t i = 0; i < count; i++) {
        struct block *block = test_block(&builder, journal_last(journal), state, value_max);
        assert_int_equal(journal_append(journal, block), OK);
        block_release(block);
    }
    builder_close(&builder);
    assert_int_equal(journal_sync(journal), OK);
    journal_publish(journal);
}

#endif
