// SPDX-License-Identifier: Apache-2.0
// One segment file of a journal: a copy of the header of the block before it, then whole blocks.
// The name is the number of its first block, 16 hexadecimal digits and ".qsj".
//
// A segment is shared by reference count: the journal holds it until it is trimmed, cursors hold
// it while they stand in it, and its descriptor lives as long as the last of them. Reading
// functions are for any thread and take the limit up to which the reader may look; writing ones
// are for the journal's writer. Fields marked "lock" belong to the journal's lock.
//
// Every failure of the file is logged here, with the file's name and the system's words.
#ifndef QS_COMMON_DATA_SEGMENT_H
#define QS_COMMON_DATA_SEGMENT_H

#include <pthread.h>

#include "common/data/block.h"

struct segment_mark {
    uint64_t number;
    uint64_t offset;
};

struct segment {
    _Atomic unsigned references;
    int fd;
    uint64_t first;             // number of the first block, from the name
    uint64_t next_first;        // lock: first block of the segment after this one, 0 = none
    bool gone;                  // lock: the journal was restarted without it
    uint64_t limit;             // lock: readers see the bytes below; 0 = nothing, not even the copy
    uint64_t sealed_ns;         // lock: monotonic, when the next one was begun or found
    struct block_header before; // lock: of the block before the first
    bool before_sound;          // lock: false = the copy in the file is bad, `before` means nothing
    _Atomic uint64_t size;      // of the file; changed by the writer
    const char *scope;
    char *path;
    pthread_mutex_t marks_lock;
    struct segment_mark *marks; // marks_lock: where some blocks begin, ascending, far apart
    size_t mark_count;
    size_t mark_capacity;
};

// Where segments live.
struct segment_home {
    int fd; // of the directory
    const char *directory;
    const char *scope;
};

#define SEGMENT_NAME_BYTES 21 // with the zero

// The number in a segment's name; 0 when `name` is none.
uint64_t segment_number(const char *name);
void segment_name(uint64_t first, char to[SEGMENT_NAME_BYTES]);

// Makes a new file beginning with `before`, on disk for certain with its name. On failure nothing
// is left behind. ERR_IO, ERR_DISK_FULL.
int segment_create(struct segment **ret_segment, const struct segment_home *home,
                   const struct block_header *before) MUST_CHECK;

// Opens an existing one and reads its copy. A bad copy is no error: see before_sound.
int segment_open(struct segment **ret_segment, const struct segment_home *home, uint64_t first)
    MUST_CHECK;

struct segment *segment_hold(struct segment *segment);
void segment_release(struct segment *segment);

int segment_write(struct segment *segment, uint64_t offset, struct bytes bytes) MUST_CHECK;
// Writes the copy and takes it over in memory: under the lock once readers know the segment.
int segment_write_copy(struct segment *segment, const struct block_header *before) MUST_CHECK;
int segment_truncate(struct segment *segment, uint64_t size) MUST_CHECK;
int segment_sync(struct segment *segment) MUST_CHECK;
// Makes the next reads come from the disk, as far as the system can: after a failed sync it may
// hold bytes that no disk has, and say of each later sync that all is well. Its size may be another
// then.
int segment_distrust(struct segment *segment) MUST_CHECK;
// Removes the name, for certain; the file lives on for those who hold it.
int segment_unlink(struct segment *segment, const struct segment_home *home) MUST_CHECK;

// Remembers where a block begins, if no block near is remembered. Any thread.
void segment_mark_add(struct segment *segment, uint64_t number, uint64_t offset);

// Reads and decodes the block at `offset`. ERR_DAMAGED: what stands there is not a sound block with
// this number and history that ends at or before `limit`. ERR_IO.
int segment_block(struct segment *segment, uint64_t offset, uint64_t limit, uint64_t number,
                  const uint8_t history[HISTORY_ID_BYTES], struct block **ret_block) MUST_CHECK;

// Looks at every byte offset in [offset, limit) for a sound header of `history` (NULL = any) with a
// number above `after`. ERR_NOT_FOUND, ERR_IO.
int segment_search(struct segment *segment, uint64_t offset, uint64_t limit, uint64_t after,
                   const uint8_t *history, uint64_t *ret_offset,
                   struct block_header *ret_header) MUST_CHECK;

// Where a block was found, or what bars the way to it.
struct segment_spot {
    uint64_t number; // of the block found; the first one that cannot be read
    uint64_t offset; // where it begins
    struct block_header header;   // of the block found
    struct block_header previous; // of the block before `number`
    bool previous_known;
    uint64_t next_number; // after a bad spot: the next sound header, 0 = none in this segment
    uint64_t next_offset; // ... where it stands; the limit when there is none
};

// Walks headers to block `number` (not below segment->first).
//   OK           found, and its length stays below `limit`
//   ERR_DAMAGED  `number` lies in a stretch whose headers are bad
//   ERR_NOT_FOUND  the blocks end before it, exactly at `limit`; ret_spot->number would come there
//   ERR_IO
int segment_locate(struct segment *segment, uint64_t number, uint64_t limit,
                   const uint8_t history[HISTORY_ID_BYTES], struct segment_spot *ret_spot)
    MUST_CHECK;

static inline uint64_t block_size(const struct block_header *header)
{
    return (uint64_t)BLOCK_HEADER_BYTES + header->payload_length;
}

#endif
