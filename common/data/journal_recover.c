// SPDX-License-Identifier: Apache-2.0
// Opening a journal: the segment files, their copies, and the place from which blocks must be read
// and checked. What is found from there on is judged in journal_scan.c. Writer's thread; nobody
// else knows the journal yet, except after the oldest copy was mended.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/journal_private.h"

// What a crash left of a segment that was being created.
static bool is_leftover(const char *name)
{
    size_t length = strlen(name);
    return length > 8 && strcmp(name + length - 8, ".qsj.tmp") == 0;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t left = load_u64(a);
    uint64_t right = load_u64(b);
    return (left > right) - (left < right);
}

int journal_list_segments(const struct journal *journal, struct buf *numbers)
{
    int fd = openat(journal->home.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (directory == NULL) {
        log_line(LOG_ERROR, journal->scope, "%s: list: %s", journal->directory, strerror(errno));
        if (fd >= 0) {
            close(fd);
        }
        return ERR_IO;
    }
    const struct dirent *file;
    while ((file = readdir(directory)) != NULL) {
        uint64_t number = segment_number(file->d_name);
        if (number != 0) {
            buf_append(numbers, &number, sizeof number);
        } else if (is_leftover(file->d_name)) {
            unlinkat(journal->home.fd, file->d_name, 0);
        }
    }
    closedir(directory);
    return OK;
}

static int load_segments(struct journal *journal)
{
    struct buf numbers = {0};
    int error = journal_list_segments(journal, &numbers);
    size_t count = numbers.size / sizeof(uint64_t);
    if (count > 0) {
        qsort(numbers.data, count, sizeof(uint64_t), compare_numbers);
    }
    for (size_t i = 0; i < count && error == OK; i++) {
        struct segment *segment;
        error =
            segment_open(&segment, &journal->home, load_u64(numbers.data + i * sizeof(uint64_t)));
        if (error == OK) {
            journal_add_segment(journal, segment);
        }
    }
    buf_free(&numbers);
    return error;
}

// Any sound header tells the history; the copies are the quickest to look at.
static int find_history(struct journal *journal)
{
    const struct block_header *found = NULL;
    struct block_header header;
    for (size_t i = 0; i < journal->count && found == NULL; i++) {
        if (journal->segments[i]->before_sound) {
            found = &journal->segments[i]->before;
        }
    }
    for (size_t i = 0; i < journal->count && found == NULL; i++) {
        struct segment *segment = journal->segments[i];
        uint64_t offset;
        int error =
            segment_search(segment, 0, atomic_load(&segment->size), 0, NULL, &offset, &header);
        if (error == OK) {
            found = &header;
        }
    }
    if (found == NULL) {
        log_line(LOG_ERROR, journal->scope, "%s: no segment has a sound header",
                 journal->directory);
        return ERR_IO;
    }
    journal_set_history(journal, found->history);
    journal->has_history = true;
    return OK;
}

int journal_mend_copy(struct journal *journal, struct segment *segment,
                      const struct block_header *before)
{
    log_line(LOG_WARN, journal->scope, "%s: the copy of the header before is bad: written anew",
             segment->path);
    pthread_mutex_lock(&journal->lock);
    int error = segment_write_copy(segment, before);
    pthread_mutex_unlock(&journal->lock);
    if (error == OK && segment_sync(segment) != OK) {
        journal->failed = true;
        error = ERR_IO;
    }
    return error;
}

// A bad copy is written anew where the header that it copies can still be read.
static int check_copy(struct journal *journal, size_t at)
{
    struct segment *segment = journal->segments[at];
    struct block_header before;
    if (memcmp(segment->before.history, journal->history, HISTORY_ID_BYTES) != 0) {
        segment->before_sound = false;
    }
    if (segment->before_sound) {
        return OK;
    }
    if (segment->first == 1) {
        block_genesis(&before, journal->history);
        return journal_mend_copy(journal, segment, &before);
    }
    if (at == 0) {
        return OK;
    }
    struct segment *earlier = journal->segments[at - 1];
    struct segment_spot spot;
    int error = segment_locate(earlier, segment->first - 1, atomic_load(&earlier->size),
                               journal->history, &spot);
    if (error == OK) {
        error = journal_mend_copy(journal, segment, &spot.header);
        return error;
    }
    return error == ERR_IO ? ERR_IO : OK;
}

static int check_copies(struct journal *journal)
{
    int error = OK;
    for (size_t i = 0; i < journal->count && error == OK; i++) {
        error = check_copy(journal, i);
    }
    return error;
}

// Without its copy the oldest segment has no place to start from. The block that it copies can
// mend it: then it alone is the damaged range.
static int report_copy_damage(struct journal *journal, struct journal_report *report)
{
    struct segment *oldest = journal->segments[0];
    struct block_header nothing = {.number = oldest->first - 1};
    memcpy(nothing.history, journal->history, HISTORY_ID_BYTES);
    struct journal_scan scan = {.offset = BLOCK_HEADER_BYTES, .previous = nothing};
    if (journal_survey(journal, &scan) != OK) {
        return ERR_IO;
    }
    struct damage found = {
        .segment = oldest,
        .end_offset = BLOCK_HEADER_BYTES,
        .next = oldest->first - 1,
        .last = oldest->first - 1,
    };
    damage_set(&journal->copy_damage, found, report);
    journal_settle(journal, 0, 0, &nothing);
    return ERR_DAMAGED;
}

static bool is_flushed_place(const struct journal *journal, const struct block_header *header)
{
    return hash128_equal(header->chain, journal->flushed.chain);
}

// The last block that need not be read: the store's flushed one, or an earlier one where a copy
// could not be mended because headers before it are bad.
static uint64_t start_number(const struct journal *journal)
{
    uint64_t number = journal->flushed.number;
    for (size_t i = journal->count - 1; i > 0; i--) {
        const struct segment *segment = journal->segments[i];
        if (!segment->before_sound) {
            number = u64_min(number, segment->first - 1);
        }
    }
    return number;
}

// Places the scan behind block `number`, or where the way to it is barred.
static int start_inside(struct journal *journal, uint64_t number, struct journal_scan *ret_scan)
{
    size_t at = 0;
    while (at + 1 < journal->count && journal->segments[at + 1]->first <= number) {
        at++;
    }
    struct segment *segment = journal->segments[at];
    struct segment_spot spot;
    uint64_t size = atomic_load(&segment->size);
    int error = segment_locate(segment, number, size, journal->history, &spot);
    if (error == OK) {
        *ret_scan = (struct journal_scan){at, spot.offset + block_size(&spot.header), spot.header};
        return number != journal->flushed.number || is_flushed_place(journal, &spot.header)
                   ? OK
                   : ERR_AHEAD;
    }
    // What bars the way may itself stand behind something bad: the first such spot counts.
    while (error != ERR_IO && !spot.previous_known && spot.number > segment->first) {
        error = segment_locate(segment, spot.number - 1, size, journal->history, &spot);
    }
    if (error == ERR_IO) {
        return error;
    }
    CHECK(spot.previous_known || segment->before_sound);
    *ret_scan = (struct journal_scan){at, u64_min(spot.offset, size),
                                      spot.previous_known ? spot.previous : segment->before};
    return OK;
}

int journal_read_all(struct journal *journal, struct journal_report *report)
{
    const struct segment *oldest = journal->segments[0];
    if (!oldest->before_sound) {
        return report_copy_damage(journal, report);
    }
    struct journal_scan scan = {.offset = BLOCK_HEADER_BYTES, .previous = oldest->before};
    uint64_t number = start_number(journal);
    int error = OK;
    if (number > oldest->before.number) {
        error = start_inside(journal, number, &scan);
    } else if (journal->flushed.number < oldest->before.number) {
        log_line(LOG_WARN, journal->scope,
                 "%s: begins after block %llu, the store needs it from %llu on", journal->directory,
                 (unsigned long long)oldest->before.number,
                 (unsigned long long)journal->flushed.number);
    } else if (journal->flushed.number > 0 && number == journal->flushed.number &&
               !is_flushed_place(journal, &oldest->before)) {
        error = ERR_AHEAD;
    }
    return error == OK ? journal_read_on(journal, scan, report) : error;
}

// A process that was killed leaves blocks in the page cache that no disk has yet. They are going to
// be shown, so first they must be where a power cut does not reach them.
static int sync_found(const struct journal *journal)
{
    if (fsync(journal->home.fd) != 0) {
        log_line(LOG_ERROR, journal->scope, "%s: fsync: %s", journal->directory, strerror(errno));
        return error_from_errno(errno);
    }
    // Those before the newest were synced when it was begun. What a sync refused to this daemon's
    // predecessor stands in memory as if it were on disk: it is read again, and is torn there.
    int error = segment_sync(journal_newest(journal));
    return error == OK ? segment_distrust(journal_newest(journal)) : error;
}

int journal_recover(struct journal *journal, struct journal_report *report)
{
    int error = journal_restart_finish(journal);
    if (error == OK) {
        error = load_segments(journal);
    }
    if (error != OK) {
        return error;
    }
    if (journal->count == 0) {
        return journal->flushed.number == 0 ? OK : ERR_AHEAD;
    }
    error = sync_found(journal);
    if (error == OK) {
        error = find_history(journal);
    }
    if (error == OK) {
        error = check_copies(journal);
    }
    return error == OK ? journal_read_all(journal, report) : error;
}
