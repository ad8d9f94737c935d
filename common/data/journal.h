// SPDX-License-Identifier: Apache-2.0
// The journal of one instance: write-ahead log, replication log and wire format in one. Append-only
// segment files `<first block, 16 hex digits>.qsj`, each beginning with a copy of the header of
// the block before it; after that whole blocks, nothing else.
//
// Threads: append, sync, publish, patch, trim belong to the instance's writer. Cursors belong to
// whoever opened them, on any thread; they see blocks up to the published end. journal_end and
// journal_oldest are for any thread.
//
// Recovery tells torn from damaged, as docs/journal.md explains: a bad block past the store's
// flushed block with no valid header of a later block behind it is torn: it is cut off. On a
// follower the last two groups that it may have had unsynced (2 x 1 MiB, or one block each if
// larger, before the end) are torn even if valid blocks follow. All else is damage: it stays, and
// is reported.
#ifndef QS_COMMON_DATA_JOURNAL_H
#define QS_COMMON_DATA_JOURNAL_H

#include "common/base/list.h"
#include "common/base/task.h"
#include "common/data/block.h"

// A follower syncs when it has this much unsynced, and never has more than two such groups:
// recovery counts on it when it tells torn from damaged. The simulator makes it smaller.
#ifndef JOURNAL_GROUP_BYTES
#define JOURNAL_GROUP_BYTES MIB
#endif

struct journal;

struct journal_options {
    const char *directory; // must exist
    const char *scope;     // instance name, for the log
    uint64_t segment_bytes;
    uint64_t keep_bytes;
    uint64_t keep_ms;
    bool root; // decides what is torn and what is damage
    uint64_t certain; // no block up to this one is torn, however bad: it was synced
};

// Where a node stands in the log: the last block up to and including which something holds.
struct journal_place {
    uint64_t number; // of the block, 0 = before the birth block
    uint64_t index;  // at its end
    struct hash128 chain;
};

struct journal_report {
    uint64_t torn_bytes;    // cut off
    uint64_t torn_blocks;   // bad or cut blocks among them, as far as their headers can be read
    uint64_t damaged_first; // numbers of the damaged range, 0 = none
    uint64_t damaged_last;
    char place[256];        // segment file and offset of the torn or damaged spot, for people
};

// Opens the directory: reads each segment's first header, then reads and checks every block after
// `flushed` (what the store has on disk for certain; number 0 for an empty store) to the end, cuts
// what is torn. An empty directory gives an empty journal without a history (journal_begin).
//   ERR_DAMAGED  damage after `flushed`: the journal is open, ret_report names the range; append
//                is refused until journal_patch has mended it. The caller decides (a root refuses).
//   ERR_AHEAD    the journal ends before `flushed`, or its chain there is another
//   ERR_IO, ERR_DISK_FULL
int journal_open(struct journal **ret_journal, const struct journal_options *options,
                 const struct journal_place *flushed, struct journal_report *ret_report) MUST_CHECK;
void journal_close(struct journal *journal);

// Gives an empty journal its history.
int journal_begin(struct journal *journal, const uint8_t history[HISTORY_ID_BYTES]) MUST_CHECK;
bool journal_has_history(const struct journal *journal);
// 16 bytes; only once there is a history. They stay as long as the journal, but after a restart
// into another history this returns others. Any thread.
const uint8_t *journal_history(const struct journal *journal);

// Header of the last appended block (writer thread); genesis before the first.
const struct block_header *journal_last(const struct journal *journal);

// Appends a block that follows journal_last (the caller has checked). On failure nothing is left
// behind (the file is cut back); ERR_DISK_FULL, ERR_IO.
int journal_append(struct journal *journal, const struct block *block) MUST_CHECK;
// fdatasync of what was appended. A failure is final: the caller stops the instance.
int journal_sync(struct journal *journal) MUST_CHECK;
// Something failed that is final: it takes nothing any more (writer thread).
bool journal_has_failed(const struct journal *journal);
// Bytes appended since the last sync.
uint64_t journal_unsynced(const struct journal *journal);
// Lets cursors see everything appended so far, and raises the subscribed notices.
void journal_publish(struct journal *journal);

// Notices raised by journal_publish. Any thread; after unsubscribe returns it is not raised again.
struct journal_subscriber {
    struct list node;
    struct notice *notice;
    bool tail; // raised by journal_reveal, too
};
void journal_subscribe(struct journal *journal, struct journal_subscriber *subscriber);
void journal_unsubscribe(struct journal *journal, struct journal_subscriber *subscriber);

// The published end (while a damaged copy hides even the beginning: what the store had flushed) /
// the place just before the oldest block still kept. Any thread.
struct journal_place journal_end(struct journal *journal);
struct journal_place journal_oldest(struct journal *journal);
// Number of the last block that this history's journal held here, also where a damage hides the
// way to it: it may have been shown. Any thread.
uint64_t journal_seen(struct journal *journal);
// The header of block `number` (0 = genesis), read from its segment and checked.
// ERR_TOO_OLD: trimmed; ERR_NOT_FOUND: past the published end; ERR_DAMAGED.
int journal_header(struct journal *journal, uint64_t number,
                   struct block_header *ret_header) MUST_CHECK;

// Writes a block of the damaged range back into its place (same bytes at every node, so it fits
// exactly), syncs it, and once the range is whole reads on and ends like journal_open:
// OK = the journal is whole up to its end; ERR_NOT_FOUND = more of the range is missing;
// ERR_DAMAGED = the next damaged range is in *report; ERR_PROTOCOL = not a block of this range;
// ERR_DISK_FULL, ERR_IO: it may be tried again unless journal_has_failed says otherwise.
int journal_patch(struct journal *journal, const struct block *block,
                  struct journal_report *report) MUST_CHECK;

// A child or a reader found block `number` bad: reads it again. OK = it is sound here. ERR_DAMAGED
// = it is damaged here too: remembered as the damaged range (journal_patch mends it); the report
// is filled.
int journal_recheck(struct journal *journal, uint64_t number,
                    struct journal_report *report) MUST_CHECK;

// Unlinks segments that lie wholly below `flushed_block` and outside keep_bytes or keep_ms; the
// newest segment always stays. Open cursors keep their file until they leave it.
void journal_trim(struct journal *journal, uint64_t flushed_block);
uint64_t journal_bytes(struct journal *journal); // on disk; any thread

// Begins the journal anew behind the block that `before` is the header of, perhaps of another
// history: all that it holds goes, cursors find ERR_TOO_OLD where they stand, damage is forgotten.
// Once it is decided on disk, the next open finishes what a crash left; a failure after that is
// final, as journal_sync's. ERR_DISK_FULL: it is not, and nothing has changed; ERR_IO.
int journal_restart(struct journal *journal, const struct block_header *before) MUST_CHECK;
// The same with blocks behind that one, which are there from the first moment on, for certain: the
// tail of a journal that holds back. The caller has checked that they follow.
int journal_fork(struct journal *journal, const struct block_header *before,
                 struct block *const *blocks, size_t count) MUST_CHECK;

// Holding back, where several roots decide together what is committed: blocks behind the published
// end are the *tail*, which only cursors for it see. From here on nothing is published but by
// journal_release, and the published end is block `number` (0 in an empty journal). Before anybody
// else knows the journal. ERR_IO, ERR_DAMAGED, ERR_TOO_OLD: that block is none of the journal.
int journal_hold(struct journal *journal, uint64_t number) MUST_CHECK;
// The end of what was appended. Any thread.
struct journal_place journal_tail(struct journal *journal);
// Raises the notices of those who read the tail.
void journal_reveal(struct journal *journal);
// Block `number` of the tail becomes the published end.
void journal_release(struct journal *journal, uint64_t number);
// Takes the tail from block `number` on away: its blocks, behind the header of the one before, are
// written to `path` first, for certain, as a segment is. ERR_DISK_FULL: nothing has changed; any
// other failure is final, as journal_sync's. Cursors that stand further find ERR_TOO_OLD.
int journal_cut(struct journal *journal, uint64_t number, const char *path) MUST_CHECK;
// Writes blocks from number `number` on, up to the tail's end or until `bytes` are reached, behind
// the header of the one before to `path`, for certain. *ret_next: the first that is not there.
int journal_copy(struct journal *journal, uint64_t number, uint64_t bytes, const char *path,
                 uint64_t *ret_next) MUST_CHECK;
// As journal_header and journal_cursor_open, up to the tail's end.
int journal_tail_header(struct journal *journal, uint64_t number,
                        struct block_header *ret_header) MUST_CHECK;
struct journal_cursor;
int journal_tail_cursor(struct journal *journal, struct journal_cursor *ret_cursor,
                        uint64_t number) MUST_CHECK;

// A cursor stands before a block. It holds its segment open.
struct journal_cursor {
    struct journal *journal;
    struct segment *segment;
    uint64_t offset;
    uint64_t number; // of the next block to be read by cursor_next; 0 while only bytes are used
    bool tail;       // it reads on behind the published end
};

// Places the cursor before block `number`; number = end + 1 is allowed.
// ERR_TOO_OLD, ERR_NOT_FOUND (beyond end + 1), ERR_DAMAGED (cannot be reached).
int journal_cursor_open(struct journal *journal, struct journal_cursor *ret_cursor,
                        uint64_t number) MUST_CHECK;
void journal_cursor_close(struct journal_cursor *cursor); // zero-initialised is fine

// Reads and decodes the next block, unlinked from what the caller thinks of its chain.
// ERR_NOT_FOUND at the published end, ERR_TOO_OLD, ERR_DAMAGED.
int journal_cursor_next(struct journal_cursor *cursor, struct block **ret_block) MUST_CHECK;

// For feeding a child without looking at blocks: how many published bytes lie before the cursor
// in its segment (moves on to the next segment when this one is exhausted and sealed), and the
// descriptor to send them from. 0 bytes = at the end. ERR_TOO_OLD when the next segment is gone.
int journal_cursor_span(struct journal_cursor *cursor, int *ret_fd, uint64_t *ret_bytes) MUST_CHECK;
void journal_cursor_advance(struct journal_cursor *cursor, uint64_t bytes);

#endif
