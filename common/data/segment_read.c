// SPDX-License-Identifier: Apache-2.0
#include "common/data/segment_read.h"

#include <errno.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/mem.h"

#define BUFFER_BYTES (256 * KIB) // for searching
#define WALK_BYTES (64 * KIB)    // for walking from mark to mark
#define SMALL_BYTES (16 * KIB)   // on the stack, for one block

void segment_reader_open(struct segment_reader *reader, struct segment *segment, uint64_t limit,
                         uint8_t *buffer, size_t capacity)
{
    CHECK(capacity >= BLOCK_HEADER_BYTES);
    *reader = (struct segment_reader){
        .segment = segment, .limit = limit, .buffer = buffer, .capacity = capacity};
}

// Reads up to `size` bytes; fewer only at the end of the file.
static int read_at(struct segment *segment, uint64_t offset, uint8_t *to, size_t size,
                   size_t *ret_read)
{
    size_t done = 0;
    while (done < size) {
        ssize_t got = pread(segment->fd, to + done, size - done, (off_t)(offset + done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            log_line(LOG_ERROR, segment->scope, "%s: read at %llu: %s", segment->path,
                     (unsigned long long)(offset + done), strerror(errno));
            return ERR_IO;
        }
        if (got == 0) {
            break;
        }
        done += (size_t)got;
    }
    *ret_read = done;
    return OK;
}

int segment_reader_bytes(struct segment_reader *reader, uint64_t offset, size_t size,
                         const uint8_t **ret_bytes)
{
    CHECK(size <= reader->capacity);
    if (offset > reader->limit || size > reader->limit - offset) {
        return ERR_NOT_FOUND;
    }
    uint64_t end = reader->start + reader->filled;
    if (offset < reader->start || offset > end || size > end - offset) {
        size_t wanted = (size_t)u64_min(reader->capacity, reader->limit - offset);
        reader->filled = 0;
        reader->start = offset;
        int error = read_at(reader->segment, offset, reader->buffer, wanted, &reader->filled);
        if (error != OK) {
            return error;
        }
        if (reader->filled < size) {
            return ERR_NOT_FOUND;
        }
    }
    *ret_bytes = reader->buffer + (offset - reader->start);
    return OK;
}

int segment_reader_header(struct segment_reader *reader, uint64_t offset,
                          struct block_header *ret_header)
{
    const uint8_t *bytes;
    int error = segment_reader_bytes(reader, offset, BLOCK_HEADER_BYTES, &bytes);
    if (error == OK) {
        error = block_header_decode(ret_header, bytes);
    }
    return error == OK || error == ERR_IO ? error : ERR_DAMAGED;
}

static bool header_is(const struct block_header *header, uint64_t number,
                      const uint8_t history[HISTORY_ID_BYTES])
{
    return header->number == number && memcmp(header->history, history, HISTORY_ID_BYTES) == 0;
}

// A block that is larger than the reader's buffer.
static int read_large(struct segment *segment, uint64_t offset, size_t size,
                      struct block **ret_block)
{
    uint8_t *stored = mem_alloc(size);
    size_t got = 0;
    int error = read_at(segment, offset, stored, size, &got);
    if (error == OK) {
        error = got == size ? block_decode(ret_block, bytes_of(stored, size), true) : ERR_DAMAGED;
    }
    if (error != OK) {
        mem_free(stored);
    }
    return error;
}

int segment_reader_block(struct segment_reader *reader, uint64_t offset, uint64_t number,
                         const uint8_t history[HISTORY_ID_BYTES], struct block **ret_block)
{
    struct block_header header;
    int error = segment_reader_header(reader, offset, &header);
    if (error != OK) {
        return error;
    }
    size_t size = block_size(&header);
    if (!header_is(&header, number, history) || size > reader->limit - offset) {
        return ERR_DAMAGED;
    }
    if (size > reader->capacity) {
        error = read_large(reader->segment, offset, size, ret_block);
    } else {
        const uint8_t *bytes;
        error = segment_reader_bytes(reader, offset, size, &bytes);
        if (error == OK) {
            error = block_decode(ret_block, bytes_of(bytes, size), false);
        }
    }
    return error == OK || error == ERR_IO ? error : ERR_DAMAGED;
}

int segment_block(struct segment *segment, uint64_t offset, uint64_t limit, uint64_t number,
                  const uint8_t history[HISTORY_ID_BYTES], struct block **ret_block)
{
    uint8_t buffer[SMALL_BYTES];
    struct segment_reader reader;
    segment_reader_open(&reader, segment, limit, buffer, sizeof buffer);
    return segment_reader_block(&reader, offset, number, history, ret_block);
}

// The search inside what the reader can lend in one go. *offset moves to the hit, or to where the
// search must go on.
static bool search_run(const uint8_t *bytes, size_t size, uint64_t *offset, uint64_t after,
                       const uint8_t *history, struct block_header *ret_header)
{
    uint8_t magic[4];
    store_u32(magic, BLOCK_MAGIC);
    size_t at = 0;
    while (size - at >= BLOCK_HEADER_BYTES) {
        const uint8_t *hit = memmem(bytes + at, size - at, magic, sizeof magic);
        size_t place = hit == NULL ? size : (size_t)(hit - bytes);
        if (size - place < BLOCK_HEADER_BYTES) {
            break;
        }
        struct block_header header;
        if (block_header_decode(&header, hit) == OK && header.number > after &&
            (history == NULL || header_is(&header, header.number, history))) {
            *ret_header = header;
            *offset += place;
            return true;
        }
        at = place + 1;
    }
    *offset += size - BLOCK_HEADER_BYTES + 1;
    return false;
}

int segment_search(struct segment *segment, uint64_t offset, uint64_t limit, uint64_t after,
                   const uint8_t *history, uint64_t *ret_offset, struct block_header *ret_header)
{
    uint8_t *buffer = mem_alloc(BUFFER_BYTES);
    struct segment_reader reader;
    segment_reader_open(&reader, segment, limit, buffer, BUFFER_BYTES);
    int error = ERR_NOT_FOUND;
    while (offset < limit && limit - offset >= BLOCK_HEADER_BYTES) {
        size_t size = (size_t)u64_min(BUFFER_BYTES, limit - offset);
        const uint8_t *bytes;
        error = segment_reader_bytes(&reader, offset, size, &bytes);
        if (error != OK) {
            break;
        }
        if (search_run(bytes, size, &offset, after, history, ret_header)) {
            *ret_offset = offset;
            break;
        }
        error = ERR_NOT_FOUND;
    }
    mem_free(buffer);
    return error;
}

// The walk stands before a header that is bad: where does it go on?
static int walk_over(struct segment_reader *reader, struct segment_spot *spot,
                     const uint8_t history[HISTORY_ID_BYTES])
{
    struct block_header next;
    uint64_t offset;
    int error = segment_search(reader->segment, spot->offset + 1, reader->limit, spot->number,
                               history, &offset, &next);
    if (error == OK) {
        spot->next_number = next.number;
        spot->next_offset = offset;
    } else if (error == ERR_NOT_FOUND) {
        spot->next_number = 0;
        spot->next_offset = reader->limit;
    }
    return error == ERR_IO ? ERR_IO : OK;
}

// One step of the walk. OK = go on, ERR_EXISTS = `number` is found, else as segment_locate.
static int walk_step(struct segment_reader *reader, struct segment_spot *spot, uint64_t number,
                     const uint8_t history[HISTORY_ID_BYTES])
{
    struct block_header header;
    if (spot->offset == reader->limit) {
        return ERR_NOT_FOUND;
    }
    int error = segment_reader_header(reader, spot->offset, &header);
    if (error == ERR_IO) {
        return error;
    }
    if (error == OK && header_is(&header, spot->number, history) &&
        block_size(&header) <= reader->limit - spot->offset) {
        if (spot->number == number) {
            spot->header = header;
            return ERR_EXISTS;
        }
        segment_mark_add(reader->segment, spot->number, spot->offset);
        spot->previous = header;
        spot->previous_known = true;
        spot->number++;
        spot->offset += block_size(&header);
        return OK;
    }
    error = walk_over(reader, spot, history);
    if (error != OK) {
        return error;
    }
    if (spot->next_number == 0 || spot->next_number > number) {
        return ERR_DAMAGED;
    }
    spot->number = spot->next_number;
    spot->offset = spot->next_offset;
    spot->previous_known = false;
    return OK;
}

int segment_locate(struct segment *segment, uint64_t number, uint64_t limit,
                   const uint8_t history[HISTORY_ID_BYTES], struct segment_spot *ret_spot)
{
    CHECK(number >= segment->first);
    struct segment_mark mark = segment_mark_find(segment, number);
    struct segment_spot spot = {.number = mark.number, .offset = mark.offset};
    uint8_t *buffer = mem_alloc(WALK_BYTES);
    struct segment_reader reader;
    segment_reader_open(&reader, segment, limit, buffer, WALK_BYTES);
    // A mark may stand beyond what this reader may see; then the block does too.
    int error = spot.offset > limit ? ERR_NOT_FOUND : OK;
    while (error == OK) {
        error = walk_step(&reader, &spot, number, history);
    }
    mem_free(buffer);
    if (error != ERR_IO) {
        *ret_spot = spot;
    }
    return error == ERR_EXISTS ? OK : error;
}
