// SPDX-License-Identifier: Apache-2.0
// Reading a segment through a buffer of the caller's, so that walking many headers or blocks does
// not cost a system call each. A reader belongs to one thread and holds no reference: it lives
// within a call.
#ifndef QS_COMMON_DATA_SEGMENT_READ_H
#define QS_COMMON_DATA_SEGMENT_READ_H

#include "common/data/segment.h"

struct segment_reader {
    struct segment *segment;
    uint64_t limit;
    uint8_t *buffer;
    size_t capacity; // at least BLOCK_HEADER_BYTES
    uint64_t start;  // of the file's bytes in the buffer
    size_t filled;
};

void segment_reader_open(struct segment_reader *reader, struct segment *segment, uint64_t limit,
                         uint8_t *buffer, size_t capacity);

// Lends [offset, offset + size) until the next call; size <= capacity. ERR_NOT_FOUND: reaches
// beyond the limit or the end of the file; ERR_IO.
int segment_reader_bytes(struct segment_reader *reader, uint64_t offset, size_t size,
                         const uint8_t **ret_bytes) MUST_CHECK;

// The header at `offset`, whatever its number. ERR_DAMAGED, ERR_IO.
int segment_reader_header(struct segment_reader *reader, uint64_t offset,
                          struct block_header *ret_header) MUST_CHECK;

// segment_block through this reader's buffer.
int segment_reader_block(struct segment_reader *reader, uint64_t offset, uint64_t number,
                         const uint8_t history[HISTORY_ID_BYTES], struct block **ret_block)
    MUST_CHECK;

// The remembered block nearest to `number`, not above it.
struct segment_mark segment_mark_find(struct segment *segment, uint64_t number);

#endif
