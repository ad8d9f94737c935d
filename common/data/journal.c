// SPDX-License-Identifier: Apache-2.0
#include "common/data/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/journal_private.h"

void journal_add_segment(struct journal *journal, struct segment *segment)
{
    pthread_mutex_lock(&journal->lock);
    struct segment *newest = journal_newest(journal);
    if (newest != NULL) {
        CHECK(newest->first < segment->first);
        newest->next_first = segment->first;
        newest->sealed_ns = clock_mono_ns();
    }
    if (journal->count == journal->capacity) {
        journal->capacity = journal->capacity == 0 ? 16 : journal->capacity * 2;
        journal->segments = mem_realloc(journal->segments,
                                        journal->capacity * sizeof *journal->segments);
    }
    journal->segments[journal->count++] = segment;
    pthread_mutex_unlock(&journal->lock);
}

struct segment *journal_segment_of(const struct journal *journal, uint64_t number)
{
    size_t low = 0;
    size_t high = journal->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (journal->segments[middle]->first <= number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low == 0 ? NULL : journal->segments[low - 1];
}

struct segment *journal_published_segment(const struct journal *journal)
{
    for (size_t i = journal->count; i > 0; i--) {
        if (journal->segments[i - 1]->limit > 0) {
            return journal->segments[i - 1];
        }
    }
    return NULL;
}

void journal_settle(struct journal *journal, size_t at, uint64_t offset,
                    const struct block_header *last)
{
    pthread_mutex_lock(&journal->lock);
    for (size_t i = 0; i < journal->count; i++) {
        struct segment *segment = journal->segments[i];
        segment->limit = i < at ? atomic_load(&segment->size) : i == at ? offset : 0;
    }
    journal->end = journal->tail = place_of(last);
    pthread_mutex_unlock(&journal->lock);
    journal->last = *last;
}

static struct journal *journal_new(const struct journal_options *options, int directory_fd)
{
    struct journal *journal = mem_zalloc(sizeof *journal);
    journal->directory = mem_text(options->directory);
    journal->scope = options->scope == NULL ? NULL : mem_text(options->scope);
    journal->home = (struct segment_home){
        .fd = directory_fd, .directory = journal->directory, .scope = journal->scope};
    journal->segment_bytes = options->segment_bytes;
    journal->keep_bytes = options->keep_bytes;
    journal->keep_ms = options->keep_ms;
    journal->root = options->root;
    journal->certain = options->certain;
    CHECK(pthread_mutex_init(&journal->lock, NULL) == 0);
    list_init(&journal->subscribers);
    return journal;
}

int journal_open(struct journal **ret_journal, const struct journal_options *options,
                 const struct journal_place *flushed, struct journal_report *ret_report)
{
    *ret_report = (struct journal_report){0};
    int directory_fd = open(options->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory_fd < 0) {
        log_line(LOG_ERROR, options->scope, "%s: open: %s", options->directory, strerror(errno));
        return error_from_errno(errno);
    }
    struct journal *journal = journal_new(options, directory_fd);
    journal->flushed = *flushed;
    int error = journal_recover(journal, ret_report);
    if (error != OK && error != ERR_DAMAGED) {
        journal_close(journal);
        return error;
    }
    *ret_journal = journal;
    return error;
}

void journal_close(struct journal *journal)
{
    if (journal == NULL) {
        return;
    }
    CHECK(list_empty(&journal->subscribers));
    damage_clear(&journal->damage);
    damage_clear(&journal->copy_damage);
    damage_clear(&journal->later_damage);
    for (size_t i = 0; i < journal->count; i++) {
        segment_release(journal->segments[i]);
    }
    mem_free(journal->segments);
    mem_free(journal->held);
    while (journal->histories != NULL) {
        struct history_id *older = journal->histories->older;
        mem_free(journal->histories);
        journal->histories = older;
    }
    close(journal->home.fd);
    pthread_mutex_destroy(&journal->lock);
    mem_free(journal->directory);
    mem_free(journal->scope);
    mem_free(journal);
}

void journal_set_history(struct journal *journal, const uint8_t history[HISTORY_ID_BYTES])
{
    const uint8_t *known = journal->history;
    if (known != NULL && memcmp(known, history, HISTORY_ID_BYTES) == 0) {
        return;
    }
    struct history_id *id = mem_alloc(sizeof *id);
    id->older = journal->histories;
    memcpy(id->bytes, history, HISTORY_ID_BYTES);
    journal->histories = id;
    journal->history = id->bytes;
}

int journal_begin(struct journal *journal, const uint8_t history[HISTORY_ID_BYTES])
{
    CHECK(!journal->has_history && journal->count == 0);
    struct block_header genesis;
    struct segment *segment;
    block_genesis(&genesis, history);
    int error = segment_create(&segment, &journal->home, &genesis);
    if (error != OK) {
        return error;
    }
    journal_set_history(journal, history);
    journal_add_segment(journal, segment);
    journal_settle(journal, 0, BLOCK_HEADER_BYTES, &genesis);
    journal->has_history = true; // last: who sees it may ask for the end
    return OK;
}

bool journal_has_history(const struct journal *journal) { return journal->has_history; }

const uint8_t *journal_history(const struct journal *journal)
{
    CHECK(journal->has_history);
    return journal->history;
}

const struct block_header *journal_last(const struct journal *journal)
{
    CHECK(journal->has_history);
    return &journal->last;
}

// Begins a new segment. The old one is synced first: that a segment exists is proof that all
// before it is on disk.
static int rotate(struct journal *journal)
{
    int error = journal_sync(journal);
    if (error != OK) {
        return error;
    }
    struct segment *segment;
    error = segment_create(&segment, &journal->home, &journal->last);
    if (error == OK) {
        journal_add_segment(journal, segment);
    }
    return error;
}

int journal_append(struct journal *journal, const struct block *block)
{
    if (journal->damage.segment != NULL || journal->copy_damage.segment != NULL) {
        return ERR_DAMAGED;
    }
    if (journal->failed) {
        return ERR_IO;
    }
    CHECK(journal->has_history && block->header.number == journal->last.number + 1);
    CHECK(memcmp(block->header.history, journal->history, HISTORY_ID_BYTES) == 0);
    CHECK(block->header.first_index == block_end(&journal->last) + 1);
    uint64_t size = atomic_load(&journal_newest(journal)->size);
    if (size > BLOCK_HEADER_BYTES && size + block->stored.size > journal->segment_bytes) {
        int error = rotate(journal);
        if (error != OK) {
            return error;
        }
        size = BLOCK_HEADER_BYTES;
    }
    struct segment *segment = journal_newest(journal);
    int error = segment_write(segment, size, block->stored);
    if (error != OK) {
        if (segment_truncate(segment, size) != OK) {
            journal->failed = true;
            return ERR_IO;
        }
        // Or a power cut brings back what was cut off, behind which another segment may begin.
        journal->unsynced++;
        return error;
    }
    segment_mark_add(segment, block->header.number, size);
    journal->last = block->header;
    journal->unsynced += block->stored.size;
    if (journal->holds) {
        journal_held_add(journal, segment, size + block->stored.size);
    }
    return OK;
}

int journal_sync(struct journal *journal)
{
    if (journal->failed) {
        return ERR_IO;
    }
    if (journal->unsynced == 0) {
        return OK;
    }
    // What a failed sync leaves on disk is not known, and asking again would not tell.
    if (segment_sync(journal_newest(journal)) != OK) {
        journal->failed = true;
        return ERR_IO;
    }
    journal->unsynced = 0;
    return OK;
}

bool journal_has_failed(const struct journal *journal) { return journal->failed; }

uint64_t journal_unsynced(const struct journal *journal) { return journal->unsynced; }

void journal_raise(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    LIST_FOR_EACH(node, &journal->subscribers) {
        notice_raise(CONTAINER_OF(node, struct journal_subscriber, node)->notice);
    }
    pthread_mutex_unlock(&journal->lock);
}

void journal_publish(struct journal *journal)
{
    if (!journal->has_history || journal->holds || journal->damage.segment != NULL ||
        journal->copy_damage.segment != NULL || journal->last.number == journal->end.number) {
        return;
    }
    pthread_mutex_lock(&journal->lock);
    for (size_t i = journal->count; i > 0; i--) {
        struct segment *segment = journal->segments[i - 1];
        uint64_t size = atomic_load(&segment->size);
        if (segment->limit == size) {
            break;
        }
        segment->limit = size;
    }
    journal->end = place_of(&journal->last);
    pthread_mutex_unlock(&journal->lock);
    journal_raise(journal);
}

void journal_subscribe(struct journal *journal, struct journal_subscriber *subscriber)
{
    pthread_mutex_lock(&journal->lock);
    list_append(&journal->subscribers, &subscriber->node);
    pthread_mutex_unlock(&journal->lock);
}

void journal_unsubscribe(struct journal *journal, struct journal_subscriber *subscriber)
{
    pthread_mutex_lock(&journal->lock);
    list_remove(&subscriber->node);
    pthread_mutex_unlock(&journal->lock);
}

struct journal_place journal_end(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    struct journal_place end = journal->end;
    // Without the oldest copy the number is all that is known of it, but the store was further.
    bool lost = journal->count > 0 && !journal->segments[0]->before_sound;
    if (lost && end.number <= journal->flushed.number) {
        end = journal->flushed;
    }
    pthread_mutex_unlock(&journal->lock);
    return end;
}

struct journal_place journal_oldest(struct journal *journal)
{
    struct journal_place oldest = {0};
    pthread_mutex_lock(&journal->lock);
    if (journal->count > 0) {
        const struct segment *segment = journal->segments[0];
        oldest.number = segment->first - 1;
        if (segment->before_sound) {
            oldest = place_of(&segment->before);
        }
    }
    pthread_mutex_unlock(&journal->lock);
    return oldest;
}

uint64_t journal_seen(struct journal *journal)
{
    return u64_max(atomic_load(&journal->seen), journal_end(journal).number);
}

uint64_t journal_bytes(struct journal *journal)
{
    uint64_t bytes = 0;
    pthread_mutex_lock(&journal->lock);
    for (size_t i = 0; i < journal->count; i++) {
        bytes += atomic_load(&journal->segments[i]->size);
    }
    pthread_mutex_unlock(&journal->lock);
    return bytes;
}

// May the oldest segment go? The one after it must be able to take its place.
static bool may_trim(const struct journal *journal, uint64_t flushed_block, uint64_t bytes)
{
    if (journal->count < 2 || journal->damage.segment != NULL ||
        journal->copy_damage.segment != NULL) {
        return false;
    }
    const struct segment *oldest = journal->segments[0];
    const struct segment *next = journal->segments[1];
    if (!next->before_sound || next->limit == 0 || next->first - 1 > flushed_block) {
        return false;
    }
    uint64_t age_ms = (clock_mono_ns() - oldest->sealed_ns) / NS_PER_MS;
    return bytes > journal->keep_bytes || age_ms > journal->keep_ms;
}

void journal_trim(struct journal *journal, uint64_t flushed_block)
{
    uint64_t bytes = journal_bytes(journal);
    while (may_trim(journal, flushed_block, bytes)) {
        struct segment *oldest = journal->segments[0];
        bytes -= atomic_load(&oldest->size);
        pthread_mutex_lock(&journal->lock);
        journal->count--;
        memmove(&journal->segments[0], &journal->segments[1],
                journal->count * sizeof *journal->segments);
        pthread_mutex_unlock(&journal->lock);
        // Each removal is made certain before the next, so that a crash leaves no hole in the row.
        // One that fails costs space only: the file is found again at the next start.
        int error = segment_unlink(oldest, &journal->home);
        segment_release(oldest);
        if (error != OK) {
            break;
        }
    }
}
