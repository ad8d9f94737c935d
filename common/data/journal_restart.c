// SPDX-License-Identifier: Apache-2.0
// Beginning the journal anew behind a block of another node's log, because nobody has the blocks
// any more that would join the two; or because a history forks there. Writer's thread. The durable
// steps:
//   1. the file RESTART, a whole segment: the header to begin behind, and the blocks that there are
//      already. From here on it is decided
//   2. every segment is unlinked
//   3. RESTART gets the name of the segment that it is
// A crash before the first leaves the old journal. After it the next open takes the others again,
// whatever it finds: nothing is appended before the last, so no block can be lost by that.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/journal_private.h"

#define INTENT "RESTART"
#define INTENT_NEW "RESTART.qsj.tmp" // a leftover of this name is removed like a segment's

static int failed(const struct journal *journal, const char *what)
{
    int code = errno;
    log_line(LOG_ERROR, journal->scope, "%s: restart: %s: %s", journal->directory, what,
             strerror(code));
    return error_from_errno(code);
}

static int sync_home(const struct journal *journal)
{
    return fsync(journal->home.fd) == 0 ? OK : failed(journal, "fsync of the directory");
}

static int write_blocks(int fd, const struct block_header *before, struct block *const *blocks,
                        size_t count)
{
    uint8_t bytes[BLOCK_HEADER_BYTES];
    block_header_encode(before, bytes);
    int error = file_write_all(fd, bytes_of(bytes, sizeof bytes));
    for (size_t i = 0; i < count && error == OK; i++) {
        error = file_write_all(fd, blocks[i]->stored);
    }
    return error;
}

static int write_intent(const struct journal *journal, const struct block_header *before,
                        struct block *const *blocks, size_t count)
{
    int fd = file_fresh(journal->home.fd, INTENT_NEW, O_WRONLY);
    if (fd < 0) {
        return failed(journal, "create");
    }
    int error = OK;
    if (write_blocks(fd, before, blocks, count) != OK || fsync(fd) != 0) {
        error = failed(journal, "write");
    }
    close(fd);
    if (error == OK &&
        renameat(journal->home.fd, INTENT_NEW, journal->home.fd, INTENT) != 0) {
        error = failed(journal, "rename");
    }
    if (error != OK) {
        unlinkat(journal->home.fd, INTENT_NEW, 0);
    }
    return error;
}

// ERR_NOT_FOUND: no restart is under way.
static int read_intent(const struct journal *journal, struct block_header *ret_before)
{
    int fd = openat(journal->home.fd, INTENT, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? ERR_NOT_FOUND : failed(journal, "open");
    }
    uint8_t bytes[BLOCK_HEADER_BYTES];
    ssize_t size = read(fd, bytes, sizeof bytes);
    int error = size < 0 ? failed(journal, "read") : OK;
    close(fd);
    if (error == OK &&
        (size != (ssize_t)sizeof bytes || block_header_decode(ret_before, bytes) != OK)) {
        log_line(LOG_ERROR, journal->scope, "%s/" INTENT " is damaged: remove this directory, the "
                 "journal is then fetched anew", journal->directory);
        error = ERR_CORRUPT;
    }
    return error;
}

static int unlink_segments(const struct journal *journal)
{
    struct buf numbers = {0};
    int error = journal_list_segments(journal, &numbers);
    for (size_t at = 0; at < numbers.size && error == OK; at += sizeof(uint64_t)) {
        char name[SEGMENT_NAME_BYTES];
        segment_name(load_u64(numbers.data + at), name);
        if (unlinkat(journal->home.fd, name, 0) != 0) {
            error = failed(journal, "unlink");
        }
    }
    buf_free(&numbers);
    return error == OK ? sync_home(journal) : error;
}

// Steps 2 and 3.
static int carry_out(const struct journal *journal, const struct block_header *before)
{
    char name[SEGMENT_NAME_BYTES];
    segment_name(before->number + 1, name);
    int error = unlink_segments(journal);
    if (error == OK && renameat(journal->home.fd, INTENT, journal->home.fd, name) != 0) {
        error = failed(journal, "rename");
    }
    return error == OK ? sync_home(journal) : error;
}

int journal_restart_finish(struct journal *journal)
{
    struct block_header before;
    int error = read_intent(journal, &before);
    if (error != OK) {
        return error == ERR_NOT_FOUND ? OK : error;
    }
    log_line(LOG_WARN, journal->scope, "%s: a restart behind block %llu is finished",
             journal->directory, (unsigned long long)before.number);
    return carry_out(journal, &before); // the segment is found like any other
}

// In memory: the new segment takes the place of all others.
static void take_over(struct journal *journal, struct segment *segment,
                      const struct block_header *before)
{
    damage_clear(&journal->damage);
    damage_clear(&journal->copy_damage);
    damage_clear(&journal->later_damage);
    pthread_mutex_lock(&journal->lock);
    for (size_t i = 0; i < journal->count; i++) {
        journal->segments[i]->gone = true;
        segment_release(journal->segments[i]);
    }
    journal->capacity = journal->capacity > 0 ? journal->capacity : 1;
    journal->segments =
        mem_realloc(journal->segments, journal->capacity * sizeof *journal->segments);
    segment->limit = BLOCK_HEADER_BYTES;
    if (!journal->has_history ||
        memcmp(journal->history, before->history, HISTORY_ID_BYTES) != 0) {
        atomic_store(&journal->seen, 0);
    }
    journal->segments[0] = segment;
    journal->count = 1;
    journal_set_history(journal, before->history);
    journal->end = journal->tail = place_of(before);
    pthread_mutex_unlock(&journal->lock);
    journal->held_count = 0;
    journal->last = *before;
    journal->unsynced = 0;
    journal->flushed = (struct journal_place){0};
    journal->has_history = true;
}

// The blocks that it begins with become the tail.
static void count_blocks(struct journal *journal, struct block *const *blocks, size_t count)
{
    struct segment *segment = journal->segments[0];
    uint64_t offset = BLOCK_HEADER_BYTES;
    for (size_t i = 0; i < count; i++) {
        segment_mark_add(segment, blocks[i]->header.number, offset);
        offset += blocks[i]->stored.size;
        journal->last = blocks[i]->header;
        journal_held_add(journal, segment, offset);
    }
}

int journal_fork(struct journal *journal, const struct block_header *before,
                 struct block *const *blocks, size_t count)
{
    CHECK(count == 0 || journal->holds);
    if (journal->failed) {
        return ERR_IO;
    }
    int error = write_intent(journal, before, blocks, count);
    if (error != OK) {
        return error;
    }
    struct segment *segment;
    error = sync_home(journal);
    if (error == OK) {
        error = carry_out(journal, before);
    }
    if (error == OK) {
        error = segment_open(&segment, &journal->home, before->number + 1);
    }
    if (error != OK) {
        journal->failed = true; // the files say something else than the memory
        return ERR_IO;
    }
    take_over(journal, segment, before);
    count_blocks(journal, blocks, count);
    journal_raise(journal);
    return OK;
}

int journal_restart(struct journal *journal, const struct block_header *before)
{
    return journal_fork(journal, before, NULL, 0);
}
