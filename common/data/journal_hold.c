// SPDX-License-Identifier: Apache-2.0
// The tail: blocks behind the published end, which may still have to be taken back. Where each of
// them ends is kept in memory, as one is published at a time. Writer's thread; others read the
// tail's end under the lock.
#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/data/journal_private.h"

static void add(struct journal *journal, const struct block_header *header, uint64_t segment,
                uint64_t offset)
{
    if (journal->held_count == journal->held_capacity) {
        journal->held_capacity = journal->held_capacity == 0 ? 64 : journal->held_capacity * 2;
        journal->held =
            mem_realloc(journal->held, journal->held_capacity * sizeof *journal->held);
    }
    journal->held[journal->held_count++] =
        (struct held){.place = place_of(header), .segment = segment, .offset = offset};
}

void journal_held_add(struct journal *journal, const struct segment *segment, uint64_t offset)
{
    add(journal, &journal->last, segment->first, offset);
    pthread_mutex_lock(&journal->lock);
    journal->tail = place_of(&journal->last);
    pthread_mutex_unlock(&journal->lock);
}

struct journal_place journal_tail(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    struct journal_place tail = journal->holds ? journal->tail : journal->end;
    pthread_mutex_unlock(&journal->lock);
    return tail;
}

void journal_reveal(struct journal *journal)
{
    pthread_mutex_lock(&journal->lock);
    LIST_FOR_EACH(node, &journal->subscribers) {
        struct journal_subscriber *subscriber = CONTAINER_OF(node, struct journal_subscriber, node);
        if (subscriber->tail) {
            notice_raise(subscriber->notice);
        }
    }
    pthread_mutex_unlock(&journal->lock);
}

// Readers see segments below `first` whole, that one up to `offset`, later ones not at all.
static void set_end(struct journal *journal, uint64_t first, uint64_t offset,
                    const struct journal_place *place)
{
    pthread_mutex_lock(&journal->lock);
    for (size_t i = journal->count; i > 0; i--) {
        struct segment *segment = journal->segments[i - 1];
        uint64_t limit = segment->first > first ? 0 : atomic_load(&segment->size);
        limit = segment->first == first ? offset : limit;
        if (segment->first < first && segment->limit == limit) {
            break; // as are those before it
        }
        segment->limit = limit;
    }
    journal->end = *place;
    pthread_mutex_unlock(&journal->lock);
}

int journal_hold(struct journal *journal, uint64_t number)
{
    journal->holds = true;
    if (!journal->has_history) {
        return OK;
    }
    struct block_header header;
    struct journal_cursor cursor = {0};
    int error = journal_header(journal, number, &header);
    if (error == OK) {
        error = journal_cursor_open(journal, &cursor, number + 1);
    }
    if (error != OK) {
        return error;
    }
    uint64_t first = cursor.segment->first, offset = cursor.offset;
    struct block *block;
    while ((error = journal_cursor_next(&cursor, &block)) == OK) {
        add(journal, &block->header, cursor.segment->first, cursor.offset);
        block_release(block);
    }
    journal_cursor_close(&cursor);
    if (error == ERR_NOT_FOUND) {
        struct journal_place place = place_of(&header);
        journal->tail = place_of(&journal->last); // nobody else knows the journal yet
        set_end(journal, first, offset, &place);
        error = OK;
    }
    return error;
}

void journal_release(struct journal *journal, uint64_t number)
{
    size_t count = 0;
    while (count < journal->held_count && journal->held[count].place.number <= number) {
        count++;
    }
    if (count == 0) {
        return;
    }
    struct held last = journal->held[count - 1];
    CHECK(journal->holds && last.place.number == number);
    journal->held_count -= count;
    memmove(journal->held, journal->held + count, journal->held_count * sizeof *journal->held);
    set_end(journal, last.segment, last.offset, &last.place);
    journal_raise(journal);
}

// ---- cutting -----------------------------------------------------------------------------------

int journal_copy(struct journal *journal, uint64_t number, uint64_t bytes, const char *path,
                 uint64_t *ret_next)
{
    struct buf content = {0};
    struct block_header before;
    struct journal_cursor cursor = {0};
    uint64_t next = number;
    int error = journal_tail_header(journal, number - 1, &before);
    if (error == OK) {
        uint8_t header[BLOCK_HEADER_BYTES];
        block_header_encode(&before, header);
        buf_append(&content, header, sizeof header);
        error = journal_tail_cursor(journal, &cursor, number);
    }
    struct block *block;
    while (error == OK && content.size < bytes &&
           (error = journal_cursor_next(&cursor, &block)) == OK) {
        buf_append_bytes(&content, block->stored);
        block_release(block);
        next++;
    }
    journal_cursor_close(&cursor);
    if (error == OK || error == ERR_NOT_FOUND) {
        error = file_save(path, buf_bytes(&content));
    }
    buf_free(&content);
    if (error == OK) {
        *ret_next = next;
    }
    return error;
}

int journal_cut(struct journal *journal, uint64_t number, const char *path)
{
    CHECK(journal->holds && number > journal->end.number && number <= journal->last.number);
    struct block_header before;
    uint64_t next;
    int error = journal->failed ? ERR_IO : journal_tail_header(journal, number - 1, &before);
    if (error == OK) {
        error = journal_copy(journal, number, UINT64_MAX, path, &next);
    }
    struct journal_cursor cursor;
    if (error == OK) {
        error = journal_tail_cursor(journal, &cursor, number);
    }
    if (error != OK) {
        return error;
    }
    size_t at = 0;
    while (journal->segments[at] != cursor.segment) {
        at++;
    }
    error = journal_shorten(journal, at, cursor.offset);
    journal_cursor_close(&cursor);
    if (error != OK) {
        journal->failed = true; // the files say something else than the memory
        return ERR_IO;
    }
    while (journal->held_count > 0 &&
           journal->held[journal->held_count - 1].place.number >= number) {
        journal->held_count--;
    }
    pthread_mutex_lock(&journal->lock);
    journal->tail = place_of(&before);
    pthread_mutex_unlock(&journal->lock);
    journal->last = before;
    journal->unsynced = 0;
    return OK;
}
