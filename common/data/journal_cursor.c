// SPDX-License-Identifier: Apache-2.0
// Reading the journal up to its published end: cursors and single headers. Any thread; a cursor
// belongs to one thread at a time.
#include "common/data/journal.h"
#include "common/data/journal_private.h"

// Where block `number` is to be looked for: its segment, held, how far readers see it, and the
// history of its blocks, which a restart changes together with the segments.
struct finding {
    struct segment *segment;
    uint64_t limit;
    const uint8_t *history;
};

// How far a reader may look in a segment. Under lock.
static uint64_t limit_of(const struct segment *segment, bool tail)
{
    return tail ? atomic_load(&segment->size) : segment->limit;
}

static uint64_t last_of(const struct journal *journal, bool tail)
{
    return tail && journal->holds ? journal->tail.number : journal->end.number;
}

static int find_segment(struct journal *journal, uint64_t number, bool tail,
                        struct finding *ret_found)
{
    struct segment *segment = NULL;
    int error = OK;
    pthread_mutex_lock(&journal->lock);
    if (journal->count == 0 || number > last_of(journal, tail)) {
        error = ERR_NOT_FOUND;
    } else if ((segment = journal_segment_of(journal, number)) == NULL) {
        error = ERR_TOO_OLD;
    } else {
        *ret_found = (struct finding){.segment = segment_hold(segment),
                                      .limit = limit_of(segment, tail),
                                      .history = journal->history};
    }
    pthread_mutex_unlock(&journal->lock);
    return error;
}

// The header before the oldest block is not in a block any more, only in the segment's copy.
static int copied_header(struct journal *journal, uint64_t number, struct block_header *ret_header)
{
    int error = ERR_NOT_FOUND;
    pthread_mutex_lock(&journal->lock);
    const struct segment *oldest = journal->count == 0 ? NULL : journal->segments[0];
    if (oldest != NULL && number == oldest->first - 1 && number <= journal->end.number) {
        error = oldest->before_sound ? OK : ERR_DAMAGED;
        if (error == OK) {
            *ret_header = oldest->before;
        }
    }
    pthread_mutex_unlock(&journal->lock);
    return error;
}

static int read_header(struct journal *journal, uint64_t number, bool tail,
                       struct block_header *ret_header)
{
    int error = copied_header(journal, number, ret_header);
    if (error != ERR_NOT_FOUND) {
        return error;
    }
    struct finding found;
    error = find_segment(journal, number, tail, &found);
    if (error == ERR_TOO_OLD && number == 0) {
        block_genesis(ret_header, journal->history);
        return OK;
    }
    if (error != OK) {
        return error;
    }
    struct segment_spot spot;
    error = segment_locate(found.segment, number, found.limit, found.history, &spot);
    segment_release(found.segment);
    if (error == OK) {
        *ret_header = spot.header;
    }
    return error == OK || error == ERR_IO ? error : ERR_DAMAGED;
}

int journal_header(struct journal *journal, uint64_t number, struct block_header *ret_header)
{
    return read_header(journal, number, false, ret_header);
}

int journal_tail_header(struct journal *journal, uint64_t number, struct block_header *ret_header)
{
    return read_header(journal, number, true, ret_header);
}

// Places the cursor at the end. ERR_DAMAGED when nothing can be read yet.
static int open_at_end(struct journal *journal, struct journal_cursor *ret_cursor, uint64_t number,
                       bool tail)
{
    int error = ERR_NOT_FOUND;
    pthread_mutex_lock(&journal->lock);
    if (journal->count > 0 && number == last_of(journal, tail) + 1) {
        struct segment *segment =
            tail ? journal_newest(journal) : journal_published_segment(journal);
        error = segment == NULL ? ERR_DAMAGED : OK;
        if (error == OK) {
            *ret_cursor = (struct journal_cursor){.journal = journal,
                                                  .segment = segment_hold(segment),
                                                  .offset = limit_of(segment, tail),
                                                  .number = number,
                                                  .tail = tail};
        }
    }
    pthread_mutex_unlock(&journal->lock);
    return error;
}

static int open_cursor(struct journal *journal, struct journal_cursor *ret_cursor, uint64_t number,
                       bool tail)
{
    int error = open_at_end(journal, ret_cursor, number, tail);
    if (error != ERR_NOT_FOUND) {
        return error;
    }
    struct finding found;
    error = find_segment(journal, number, tail, &found);
    if (error != OK) {
        return error;
    }
    struct segment_spot spot;
    error = segment_locate(found.segment, number, found.limit, found.history, &spot);
    // A block with a bad header still has a place when the one before it is sound: whoever reads
    // it there finds it bad.
    bool placed = error == OK || (error == ERR_DAMAGED && spot.number == number);
    if (!placed) {
        segment_release(found.segment);
        return error == ERR_IO ? ERR_IO : ERR_DAMAGED;
    }
    *ret_cursor = (struct journal_cursor){.journal = journal,
                                          .segment = found.segment,
                                          .offset = spot.offset,
                                          .number = number,
                                          .tail = tail};
    return OK;
}

int journal_cursor_open(struct journal *journal, struct journal_cursor *ret_cursor, uint64_t number)
{
    return open_cursor(journal, ret_cursor, number, false);
}

int journal_tail_cursor(struct journal *journal, struct journal_cursor *ret_cursor, uint64_t number)
{
    return open_cursor(journal, ret_cursor, number, true);
}

void journal_cursor_close(struct journal_cursor *cursor)
{
    segment_release(cursor->segment);
    *cursor = (struct journal_cursor){0};
}

// The readable segment after the cursor's, NULL when there is none yet. Under lock.
static int next_segment(const struct journal_cursor *cursor, struct segment **ret_segment)
{
    const struct journal *journal = cursor->journal;
    uint64_t first = cursor->segment->next_first;
    *ret_segment = NULL;
    if (first == 0) {
        return OK;
    }
    struct segment *next = journal_segment_of(journal, first);
    if (next == NULL || next->first != first) {
        return ERR_TOO_OLD;
    }
    if (limit_of(next, cursor->tail) > 0) {
        *ret_segment = next;
    }
    return OK;
}

// Moves on from a segment that is read to its end, and tells how far the cursor may read.
static int settle(struct journal_cursor *cursor, uint64_t *ret_limit)
{
    struct journal *journal = cursor->journal;
    int error = OK;
    pthread_mutex_lock(&journal->lock);
    uint64_t limit = limit_of(cursor->segment, cursor->tail);
    // A cut may have passed by a cursor in the tail.
    if (cursor->segment->gone || (cursor->tail && cursor->offset > limit)) {
        error = ERR_TOO_OLD;
    }
    while (error == OK && cursor->offset == limit) {
        struct segment *next;
        error = next_segment(cursor, &next);
        if (next == NULL) {
            break;
        }
        segment_release(cursor->segment);
        cursor->segment = segment_hold(next);
        cursor->offset = BLOCK_HEADER_BYTES;
        limit = limit_of(next, cursor->tail);
    }
    pthread_mutex_unlock(&journal->lock);
    CHECK(error != OK || cursor->offset <= limit);
    *ret_limit = limit;
    return error;
}

int journal_cursor_next(struct journal_cursor *cursor, struct block **ret_block)
{
    CHECK(cursor->number > 0);
    const uint8_t *history = cursor->journal->history; // settle refuses if it has changed since
    uint64_t limit;
    int error = settle(cursor, &limit);
    if (error == OK && cursor->offset == limit) {
        error = ERR_NOT_FOUND;
    }
    struct block *block;
    if (error == OK) {
        error = segment_block(cursor->segment, cursor->offset, limit, cursor->number,
                              history, &block);
    }
    if (error != OK) {
        return error;
    }
    cursor->offset += block->stored.size;
    cursor->number++;
    *ret_block = block;
    return OK;
}

int journal_cursor_span(struct journal_cursor *cursor, int *ret_fd, uint64_t *ret_bytes)
{
    uint64_t limit;
    int error = settle(cursor, &limit);
    if (error == OK) {
        *ret_fd = cursor->segment->fd;
        *ret_bytes = limit - cursor->offset;
    }
    return error;
}

void journal_cursor_advance(struct journal_cursor *cursor, uint64_t bytes)
{
    cursor->offset += bytes;
    cursor->number = 0;
}
