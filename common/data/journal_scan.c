// SPDX-License-Identifier: Apache-2.0
// Reading the journal's blocks one after the other to its end, each checked in full, and judging
// the first bad one: torn (cut off) or damaged (kept, reported, to be mended).
//
// Torn is only what the store does not rely on and what cannot have been synced, or at least may
// not have been: nothing sound of a later block stands behind it, or, on a follower, it lies in
// the last two groups of blocks, which may have reached the disk in any order. What lies before the
// newest segment was synced before that one was begun. Writer's thread.
#include <stdio.h>

#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/journal_private.h"
#include "common/data/segment_read.h"

#define BUFFER_BYTES (256 * KIB)

void report_place(struct journal_report *report, const struct segment *segment, uint64_t offset)
{
    snprintf(report->place, sizeof report->place, "%s at %llu", segment->path,
             (unsigned long long)offset);
}

void damage_clear(struct damage *damage)
{
    segment_release(damage->segment);
    *damage = (struct damage){0};
}

void damage_set(struct damage *damage, struct damage found, struct journal_report *report)
{
    segment_hold(found.segment);
    damage_clear(damage);
    *damage = found;
    report->damaged_first = found.next;
    report->damaged_last = found.last;
    report_place(report, found.segment, found.offset);
}

static struct segment *scanned(const struct journal *journal, const struct journal_scan *scan)
{
    return journal->segments[scan->at];
}

static uint64_t size_of(const struct segment *segment) { return atomic_load(&segment->size); }

// Walking over sound and bad stretches alike, by headers alone.
struct walk {
    const struct journal *journal;
    struct segment_reader reader;
    uint8_t *buffer;
    size_t at;
    uint64_t offset;
    uint64_t number; // of the block that should come next
};

struct stretch {
    uint64_t bytes;
    uint64_t blocks; // 1 and sound: a block; otherwise as many as are missing, as far as is known
    bool sound;
};

static void walk_enter(struct walk *walk)
{
    struct segment *segment = walk->journal->segments[walk->at];
    segment_reader_open(&walk->reader, segment, size_of(segment), walk->buffer, BUFFER_BYTES);
}

static void walk_open(struct walk *walk, const struct journal *journal,
                      const struct journal_scan *scan)
{
    *walk = (struct walk){
        .journal = journal,
        .buffer = mem_alloc(BUFFER_BYTES),
        .at = scan->at,
        .offset = scan->offset,
        .number = scan->previous.number + 1,
    };
    walk_enter(walk);
}

// Moves to the segment that has bytes left. False at the end of the journal.
static bool walk_settle(struct walk *walk)
{
    while (walk->offset >= walk->reader.limit) {
        if (walk->at + 1 >= walk->journal->count) {
            return false;
        }
        walk->at++;
        walk->offset = BLOCK_HEADER_BYTES;
        walk_enter(walk);
    }
    return true;
}

// The bad stretch that begins here reaches to the next sound header, or to the segment's end.
static int walk_bad(struct walk *walk, struct stretch *ret_stretch)
{
    struct block_header next;
    uint64_t next_number = walk->number + 1;
    uint64_t next_offset = walk->reader.limit;
    int error = segment_search(walk->reader.segment, walk->offset + 1, walk->reader.limit,
                               walk->number, walk->journal->history, &next_offset, &next);
    if (error == OK) {
        next_number = next.number;
    } else if (error == ERR_IO) {
        return error;
    } else if (walk->at + 1 < walk->journal->count) {
        next_number = walk->journal->segments[walk->at + 1]->first;
    }
    *ret_stretch = (struct stretch){
        .bytes = next_offset - walk->offset,
        .blocks = next_number > walk->number ? next_number - walk->number : 1,
    };
    walk->offset = next_offset;
    walk->number = u64_max(next_number, walk->number);
    return OK;
}

// OK, ERR_NOT_FOUND at the end of the journal, ERR_IO.
static int walk_next(struct walk *walk, struct stretch *ret_stretch)
{
    if (!walk_settle(walk)) {
        return ERR_NOT_FOUND;
    }
    struct block_header header;
    int error = segment_reader_header(&walk->reader, walk->offset, &header);
    if (error == ERR_IO) {
        return error;
    }
    if (error != OK || header.number < walk->number ||
        memcmp(header.history, walk->journal->history, HISTORY_ID_BYTES) != 0 ||
        block_size(&header) > walk->reader.limit - walk->offset) {
        return walk_bad(walk, ret_stretch);
    }
    *ret_stretch = (struct stretch){.bytes = block_size(&header), .blocks = 1, .sound = true};
    walk->offset += block_size(&header);
    walk->number = header.number + 1;
    return OK;
}

static void walk_close(struct walk *walk) { mem_free(walk->buffer); }

// The groups that a follower may have had unsynced: each is closed by the block that makes it
// reach its size.
struct groups {
    unsigned closed;
    uint64_t bytes; // in the open one
};

static void groups_add(struct groups *groups, uint64_t bytes)
{
    groups->bytes += bytes;
    if (groups->bytes >= JOURNAL_GROUP_BYTES) {
        groups->closed++;
        groups->bytes = 0;
    }
}

static bool groups_fit(const struct groups *groups)
{
    return groups->closed < 2 || (groups->closed == 2 && groups->bytes == 0);
}

static void groups_take(struct groups *groups, struct stretch stretch)
{
    // Where several blocks cannot be told apart, none is taken to be larger than a group.
    while (stretch.blocks > 1 && stretch.bytes > JOURNAL_GROUP_BYTES && groups_fit(groups)) {
        uint64_t part = JOURNAL_GROUP_BYTES - groups->bytes;
        groups_add(groups, part);
        stretch.bytes -= part;
    }
    groups_add(groups, stretch.bytes);
}

// Do all bytes from here to the end of the journal fit into the last two groups?
static int in_last_groups(const struct journal *journal, const struct journal_scan *scan,
                          bool *ret_fit)
{
    struct walk walk;
    struct groups groups = {0};
    struct stretch stretch;
    walk_open(&walk, journal, scan);
    int error = OK;
    while (groups_fit(&groups) && (error = walk_next(&walk, &stretch)) == OK) {
        groups_take(&groups, stretch);
    }
    walk_close(&walk);
    *ret_fit = groups_fit(&groups);
    return error == ERR_IO ? ERR_IO : OK;
}

// What stands behind the bad block at the scan's place.
struct behind {
    bool synced;          // there is proof that it once was
    bool later;           // ... or something sound of a later block
    uint64_t next_number; // the next sound header in the same segment, 0 = none
    uint64_t next_offset;
};

// Where the search begins: a block whose own header is sound is passed over, for its content is
// anybody's bytes; otherwise no length is known and every byte counts.
static int search_start(struct journal *journal, const struct journal_scan *scan,
                        uint64_t *ret_offset)
{
    uint8_t buffer[BLOCK_HEADER_BYTES];
    struct segment *segment = scanned(journal, scan);
    struct segment_reader reader;
    struct block_header header;
    segment_reader_open(&reader, segment, size_of(segment), buffer, sizeof buffer);
    int error = segment_reader_header(&reader, scan->offset, &header);
    *ret_offset = scan->offset;
    if (error == OK && header.number == scan->previous.number + 1 &&
        memcmp(header.history, journal->history, HISTORY_ID_BYTES) == 0) {
        *ret_offset += block_size(&header);
    }
    return error == ERR_IO ? ERR_IO : OK;
}

// A segment is begun only when all before it is synced, so the copy with which it begins is proof.
static bool was_synced(const struct journal *journal, const struct journal_scan *scan)
{
    bool proven = false;
    for (size_t i = scan->at + 1; i < journal->count && !proven; i++) {
        const struct segment *segment = journal->segments[i];
        proven = segment->before_sound && segment->before.number > scan->previous.number;
    }
    return proven;
}

static int look_behind(struct journal *journal, const struct journal_scan *scan,
                       struct behind *ret_behind)
{
    struct behind behind = {0};
    struct block_header header;
    uint64_t number = scan->previous.number + 1;
    uint64_t offset;
    int error = search_start(journal, scan, &offset);
    if (error != OK) {
        return error;
    }
    behind.synced = was_synced(journal, scan);
    struct segment *segment = scanned(journal, scan);
    error = segment_search(segment, offset, size_of(segment), number, journal->history,
                           &behind.next_offset, &header);
    if (error == OK) {
        behind.next_number = header.number;
    }
    for (size_t i = scan->at + 1;
         i < journal->count && error == ERR_NOT_FOUND && !behind.synced; i++) {
        segment = journal->segments[i];
        error = segment_search(segment, 0, size_of(segment), number, journal->history, &offset,
                               &header);
    }
    behind.later = behind.synced || error == OK;
    if (error == ERR_IO) {
        return error;
    }
    *ret_behind = behind;
    return OK;
}

static int count_torn(struct journal *journal, const struct journal_scan *scan,
                      struct journal_report *report)
{
    struct walk walk;
    struct stretch stretch;
    int error;
    walk_open(&walk, journal, scan);
    while ((error = walk_next(&walk, &stretch)) == OK) {
        report->torn_blocks += stretch.blocks;
    }
    walk_close(&walk);
    report->torn_bytes += size_of(scanned(journal, scan)) - scan->offset;
    for (size_t i = scan->at + 1; i < journal->count; i++) {
        report->torn_bytes += size_of(journal->segments[i]);
    }
    return error == ERR_IO ? ERR_IO : OK;
}

int journal_shorten(struct journal *journal, size_t at, uint64_t offset)
{
    struct segment *segment = journal->segments[at];
    int error = OK;
    while (error == OK && journal->count > at + 1) {
        struct segment *newest = journal_newest(journal);
        error = segment_unlink(newest, &journal->home);
        if (error == OK) {
            pthread_mutex_lock(&journal->lock);
            journal->count--;
            newest->gone = true;
            journal_newest(journal)->next_first = 0;
            pthread_mutex_unlock(&journal->lock);
            segment_release(newest);
        }
    }
    if (error == OK) {
        error = segment_truncate(segment, offset);
    }
    return error == OK ? segment_sync(segment) : error;
}

// Cuts the journal off at the scan's place; after a crash in between it is torn there again.
static int cut(struct journal *journal, const struct journal_scan *scan,
               struct journal_report *report)
{
    int error = count_torn(journal, scan, report);
    report_place(report, scanned(journal, scan), scan->offset);
    return error == OK ? journal_shorten(journal, scan->at, scan->offset) : error;
}

int journal_survey(struct journal *journal, const struct journal_scan *scan)
{
    struct walk walk;
    struct stretch stretch;
    int error;
    walk_open(&walk, journal, scan);
    while ((error = walk_next(&walk, &stretch)) == OK) {
    }
    atomic_store(&journal->seen, walk.number - 1);
    walk_close(&walk);
    return error == ERR_IO ? ERR_IO : OK;
}

// The damaged range that begins at the scan's place.
static struct damage range_of(const struct journal *journal, const struct journal_scan *scan,
                              const struct behind *behind)
{
    struct damage found = {
        .segment = scanned(journal, scan),
        .offset = scan->offset,
        .end_offset = UINT64_MAX,
        .next = scan->previous.number + 1,
        .previous = scan->previous,
        .previous_known = true,
    };
    if (behind->next_number != 0) {
        found.last = behind->next_number - 1;
        found.end_offset = behind->next_offset;
    } else if (scan->at + 1 < journal->count) {
        found.last = u64_max(found.next, journal->segments[scan->at + 1]->first - 1);
    } else {
        found.last = u64_max(found.next, journal->flushed.number);
    }
    return found;
}

static int finish(struct journal *journal, const struct journal_scan *scan)
{
    if (scan->previous.number < journal->flushed.number) {
        return ERR_AHEAD;
    }
    damage_clear(&journal->damage);
    journal_settle(journal, scan->at, scan->offset, &scan->previous);
    return OK;
}

// A bad block at the scan's place: torn or damaged?
static int judge(struct journal *journal, const struct journal_scan *scan,
                 struct journal_report *report)
{
    struct behind behind;
    bool torn = false;
    int error = look_behind(journal, scan, &behind);
    uint64_t certain = u64_max(journal->flushed.number, journal->certain);
    if (error == OK && scan->previous.number + 1 > certain) {
        torn = !behind.later;
        if (!torn && !journal->root && !behind.synced) {
            error = in_last_groups(journal, scan, &torn);
        }
    }
    if (error == OK && torn) {
        error = cut(journal, scan, report);
        return error == OK ? finish(journal, scan) : error;
    }
    if (error == OK) {
        error = journal_survey(journal, scan);
    }
    if (error != OK) {
        return error;
    }
    damage_set(&journal->damage, range_of(journal, scan, &behind), report);
    journal_settle(journal, scan->at, scan->offset, &scan->previous);
    return ERR_DAMAGED;
}

// Reads the block at the scan's place and moves behind it.
static int scan_block(struct journal *journal, struct journal_scan *scan,
                      struct segment_reader *reader)
{
    struct block *block;
    uint64_t number = scan->previous.number + 1;
    int error = segment_reader_block(reader, scan->offset, number, journal->history, &block);
    if (error != OK) {
        return error;
    }
    if (block_follows(&scan->previous, block) != OK) {
        error = ERR_DAMAGED;
    } else if (number == journal->flushed.number &&
               !hash128_equal(block->header.chain, journal->flushed.chain)) {
        error = ERR_AHEAD;
    } else {
        segment_mark_add(reader->segment, number, scan->offset);
        scan->previous = block->header;
        scan->offset += block->stored.size;
    }
    block_release(block);
    return error;
}

// Steps into the next segment, whose copy must be the header of the block just read.
static int scan_enter(struct journal *journal, struct journal_scan *scan)
{
    struct segment *next = journal->segments[scan->at + 1];
    uint8_t expected[BLOCK_HEADER_BYTES];
    uint8_t found[BLOCK_HEADER_BYTES];
    if (next->first > scan->previous.number + 1) {
        return ERR_DAMAGED; // blocks are missing at the end of this one
    }
    block_header_encode(&scan->previous, expected);
    block_header_encode(&next->before, found);
    bool same = next->before_sound && memcmp(expected, found, sizeof expected) == 0;
    if (!same && next->first == scan->previous.number + 1) {
        int error = journal_mend_copy(journal, next, &scan->previous);
        if (error != OK) {
            return error;
        }
    }
    scan->at++;
    scan->offset = BLOCK_HEADER_BYTES;
    return OK;
}

int journal_read_on(struct journal *journal, struct journal_scan scan,
                    struct journal_report *report)
{
    uint8_t *buffer = mem_alloc(BUFFER_BYTES);
    struct segment_reader reader = {0};
    bool whole = false;
    int error = OK;
    while (error == OK && !whole) {
        struct segment *segment = scanned(journal, &scan);
        if (reader.segment != segment) {
            segment_reader_open(&reader, segment, size_of(segment), buffer, BUFFER_BYTES);
        }
        if (scan.offset < reader.limit) {
            error = scan_block(journal, &scan, &reader);
        } else if (scan.at + 1 < journal->count) {
            error = scan_enter(journal, &scan);
        } else {
            whole = true;
        }
    }
    mem_free(buffer);
    if (error == OK) {
        return finish(journal, &scan);
    }
    return error == ERR_DAMAGED ? judge(journal, &scan, report) : error;
}
