// SPDX-License-Identifier: Apache-2.0
// Mending: damaged blocks, fetched again from another node, go back into their places. A block has
// the same bytes everywhere, so it must fit exactly. Writer's thread; readers may look on.
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/journal_private.h"

static bool wants(const struct damage *damage, const struct block *block)
{
    return damage->segment != NULL && damage->next == block->header.number;
}

// Is this the very block that stood there? Its bytes must fit and the chain must lead to it.
static bool belongs(const struct journal *journal, const struct damage *damage,
                    const struct block *block)
{
    uint64_t end = damage->offset + block->stored.size;
    bool last = damage->next == damage->last;
    if (memcmp(block->header.history, journal->history, HISTORY_ID_BYTES) != 0) {
        return false;
    }
    if (damage->end_offset != UINT64_MAX &&
        (end > damage->end_offset || (last && end != damage->end_offset))) {
        return false;
    }
    return !damage->previous_known || block_follows(&damage->previous, block) == OK;
}

// Writes one block. OK = the range is whole now, ERR_NOT_FOUND = more is missing.
static int mend(struct journal *journal, struct damage *damage, const struct block *block)
{
    if (!belongs(journal, damage, block)) {
        return ERR_PROTOCOL;
    }
    int error = segment_write(damage->segment, damage->offset, block->stored);
    if (error == OK && segment_sync(damage->segment) != OK) {
        journal->failed = true;
        error = ERR_IO;
    }
    if (error != OK) {
        return error;
    }
    damage->offset += block->stored.size;
    damage->previous = block->header;
    damage->previous_known = true;
    damage->next++;
    return damage->next <= damage->last ? ERR_NOT_FOUND : OK;
}

static size_t position_of(const struct journal *journal, const struct segment *segment)
{
    size_t at = 0;
    while (at < journal->count && journal->segments[at] != segment) {
        at++;
    }
    CHECK(at < journal->count);
    return at;
}

// The range found when opening is whole: what comes after it is read and judged in its turn.
static int go_on(struct journal *journal, struct journal_report *report)
{
    struct damage *damage = &journal->damage;
    struct segment *segment = damage->segment;
    struct journal_scan scan = {position_of(journal, segment), damage->offset, damage->previous};
    bool newest = scan.at + 1 == journal->count;
    // No block of this segment is missing any more, so nothing can follow the last one.
    if (!newest && damage->end_offset == UINT64_MAX &&
        damage->offset < atomic_load(&segment->size)) {
        int error = segment_truncate(segment, damage->offset);
        if (error != OK) {
            return error;
        }
    }
    return journal_read_on(journal, scan, report);
}

static int patch_opened(struct journal *journal, const struct block *block,
                        struct journal_report *report)
{
    int error = mend(journal, &journal->damage, block);
    if (error != OK) {
        return error;
    }
    error = go_on(journal, report);
    if (error == OK || error == ERR_DAMAGED) {
        journal_raise(journal);
    } else {
        journal->failed = true;
    }
    return error;
}

static int patch_later(struct journal *journal, const struct block *block)
{
    int error = mend(journal, &journal->later_damage, block);
    if (error == OK) {
        damage_clear(&journal->later_damage);
    }
    return error;
}

// The oldest copy is bad and this is the block whose header it copies. What proves that is the
// block after it, the first of the segment.
static int patch_copy(struct journal *journal, const struct block *block,
                      struct journal_report *report)
{
    struct segment *oldest = journal->segments[0];
    struct block *first;
    int error = segment_block(oldest, BLOCK_HEADER_BYTES, atomic_load(&oldest->size), oldest->first,
                              journal->history, &first);
    if (error == ERR_IO) {
        return error;
    }
    bool proven = error == OK && block_follows(&block->header, first) == OK;
    if (error == OK) {
        block_release(first);
    }
    if (!proven &&
        (error == OK || memcmp(block->header.history, journal->history, HISTORY_ID_BYTES) != 0)) {
        return ERR_PROTOCOL;
    }
    error = journal_mend_copy(journal, oldest, &block->header);
    if (error != OK) {
        return error;
    }
    damage_clear(&journal->copy_damage);
    error = journal_read_all(journal, report);
    if (error == OK || error == ERR_DAMAGED) {
        journal_raise(journal);
    } else {
        journal->failed = true;
    }
    return error;
}

int journal_patch(struct journal *journal, const struct block *block, struct journal_report *report)
{
    if (journal->failed) {
        return ERR_IO;
    }
    if (wants(&journal->copy_damage, block)) {
        return patch_copy(journal, block, report);
    }
    if (wants(&journal->damage, block)) {
        return patch_opened(journal, block, report);
    }
    return wants(&journal->later_damage, block) ? patch_later(journal, block) : ERR_PROTOCOL;
}

// Where a published block is, read by the writer.
static int locate(struct journal *journal, uint64_t number, struct segment **ret_segment,
                  struct segment_spot *ret_spot)
{
    if (journal->count == 0 || number > journal->end.number) {
        return ERR_NOT_FOUND;
    }
    struct segment *segment = journal_segment_of(journal, number);
    if (segment == NULL) {
        return ERR_TOO_OLD;
    }
    *ret_segment = segment;
    int error = segment_locate(segment, number, segment->limit, journal->history, ret_spot);
    if (error != ERR_IO && !ret_spot->previous_known) {
        struct segment_spot before;
        if (ret_spot->number == segment->first) {
            ret_spot->previous = segment->before;
            ret_spot->previous_known = segment->before_sound;
        } else if (segment_locate(segment, ret_spot->number - 1, segment->limit, journal->history,
                                  &before) == OK) {
            ret_spot->previous = before.header;
            ret_spot->previous_known = true;
        }
    }
    return error;
}

static bool reads_well(const struct journal *journal, struct segment *segment,
                       const struct segment_spot *spot, int *ret_error)
{
    struct block *block;
    *ret_error = segment_block(segment, spot->offset, segment->limit, spot->number,
                               journal->history, &block);
    if (*ret_error != OK) {
        return false;
    }
    bool sound = !spot->previous_known || block_follows(&spot->previous, block) == OK;
    block_release(block);
    return sound;
}

int journal_recheck(struct journal *journal, uint64_t number, struct journal_report *report)
{
    struct segment *segment = NULL;
    struct segment_spot spot;
    if (journal->damage.segment != NULL || journal->copy_damage.segment != NULL) {
        return ERR_NOT_FOUND; // one range at a time: that one is waited for already
    }
    int error = locate(journal, number, &segment, &spot);
    if (segment == NULL || error == ERR_IO) {
        return error;
    }
    struct damage found = {
        .segment = segment,
        .offset = spot.offset,
        .next = spot.number,
        .previous = spot.previous,
        .previous_known = spot.previous_known,
    };
    if (error == OK) {
        int read_error;
        if (reads_well(journal, segment, &spot, &read_error) || read_error == ERR_IO) {
            return read_error;
        }
        found.last = number;
        found.end_offset = spot.offset + block_size(&spot.header);
    } else {
        bool bounded = spot.next_number != 0;
        uint64_t after = segment->next_first != 0 ? segment->next_first : journal->last.number + 1;
        found.last = bounded ? spot.next_number - 1 : after - 1;
        found.end_offset = bounded ? spot.next_offset : atomic_load(&segment->size);
    }
    damage_set(&journal->later_damage, found, report);
    return ERR_DAMAGED;
}
