// SPDX-License-Identifier: Apache-2.0
// What the journal's files share: journal.c (life, writing, trimming), journal_recover.c (opening),
// journal_scan.c (telling torn from damaged), journal_patch.c (mending), journal_restart.c
// (beginning anew), journal_cursor.c (reading), journal_hold.c (the tail behind the published end).
//
// The segments and all fields marked "lock" are changed by the writer under the lock, so the
// writer itself may read them without it. Everything else belongs to the writer alone.
#ifndef QS_COMMON_DATA_JOURNAL_PRIVATE_H
#define QS_COMMON_DATA_JOURNAL_PRIVATE_H

#include <pthread.h>

#include "common/data/journal.h"
#include "common/data/segment.h"

// A range of blocks that cannot be read, waiting for journal_patch.
struct damage {
    struct segment *segment; // held; NULL = no damage
    uint64_t offset;         // where the next block goes
    uint64_t end_offset;     // where the last one must end exactly; UINT64_MAX = wherever it ends
    uint64_t next;           // number of the next block wanted
    uint64_t last;
    struct block_header previous; // of the block before `next`
    bool previous_known;
};

struct history_id {
    struct history_id *older;
    uint8_t bytes[HISTORY_ID_BYTES];
};

// Where a block of the tail ends.
struct held {
    struct journal_place place;
    uint64_t segment; // its first block
    uint64_t offset;
};

struct journal {
    struct segment_home home;
    char *directory;
    char *scope;
    uint64_t segment_bytes;
    uint64_t keep_bytes;
    uint64_t keep_ms;
    bool root;
    uint64_t certain;
    struct journal_place flushed; // of the store, when it was opened

    pthread_mutex_t lock;
    struct segment **segments; // lock: oldest first
    size_t count;              // lock
    size_t capacity;           // lock
    struct journal_place end;  // lock: published
    bool holds;                // lock: nothing is published but by journal_release
    struct journal_place tail; // lock: the end of what was appended, where it holds
    struct list subscribers;   // lock
    _Atomic uint64_t seen; // the highest block behind a damage that was found when opening
    _Atomic bool has_history;  // set last, once: then `history` is there for any thread
    _Atomic(const uint8_t *) history; // its bytes never change; a restart may point elsewhere
    struct history_id *histories;     // all that it ever pointed to, since readers may still look

    struct held *held; // the blocks between `end` and `last`, in order
    size_t held_count, held_capacity;

    struct block_header last; // appended
    uint64_t unsynced;
    bool failed;                 // the files are in doubt: nothing is written any more
    struct damage damage;        // found when opening: what lies behind it is not known yet
    struct damage copy_damage;   // the oldest segment's copy is bad; likewise
    struct damage later_damage;  // found by journal_recheck, in the middle of what is known
};

static inline struct segment *journal_newest(const struct journal *journal)
{
    return journal->count == 0 ? NULL : journal->segments[journal->count - 1];
}

static inline struct journal_place place_of(const struct block_header *header)
{
    return (struct journal_place){
        .number = header->number, .index = block_end(header), .chain = header->chain};
}

void journal_set_history(struct journal *journal, const uint8_t history[HISTORY_ID_BYTES]);

// Finishes a restart that a crash interrupted. OK also when there was none. ERR_CORRUPT, ERR_IO.
int journal_restart_finish(struct journal *journal) MUST_CHECK;

// Appends the numbers of the segments in the directory to `numbers` (u64 each), in no order.
int journal_list_segments(const struct journal *journal, struct buf *numbers) MUST_CHECK;

// Puts a segment behind the newest one. Takes the reference.
void journal_add_segment(struct journal *journal, struct segment *segment);

// The segment that holds block `number` or would, NULL when it lies before the oldest. Under lock.
struct segment *journal_segment_of(const struct journal *journal, uint64_t number);

// The newest segment that readers see, NULL when there is none. Under lock.
struct segment *journal_published_segment(const struct journal *journal);

// Makes all blocks up to `last`, which ends at `offset` of segment `at`, readable and known.
void journal_settle(struct journal *journal, size_t at, uint64_t offset,
                    const struct block_header *last);

void journal_raise(struct journal *journal); // the subscribers' notices

// The block just appended is a part of the tail.
void journal_held_add(struct journal *journal, const struct segment *segment, uint64_t offset);

// Unlinks whole segments behind the one at position `at`, the newest before the others, so that a
// crash in between leaves a journal that ends at a block; then that one ends at `offset`.
int journal_shorten(struct journal *journal, size_t at, uint64_t offset) MUST_CHECK;

// Opens what is in the directory. Results as journal_open's.
int journal_recover(struct journal *journal, struct journal_report *report) MUST_CHECK;

// From the place found by recovery or behind a mended range on to the end of the journal.
struct journal_scan {
    size_t at;       // segment
    uint64_t offset; // in it
    struct block_header previous;
};
int journal_read_on(struct journal *journal, struct journal_scan scan,
                    struct journal_report *report) MUST_CHECK;
// By headers alone, what is there behind something bad: for journal_seen. ERR_IO.
int journal_survey(struct journal *journal, const struct journal_scan *scan) MUST_CHECK;

// Everything from the oldest copy on; again once that copy is mended.
int journal_read_all(struct journal *journal, struct journal_report *report) MUST_CHECK;

// Writes a segment's copy anew from the header that it copies.
int journal_mend_copy(struct journal *journal, struct segment *segment,
                      const struct block_header *before) MUST_CHECK;

// Remembers and reports a damaged range.
void damage_set(struct damage *damage, struct damage found, struct journal_report *report);
void damage_clear(struct damage *damage);
void report_place(struct journal_report *report, const struct segment *segment, uint64_t offset);

#endif
