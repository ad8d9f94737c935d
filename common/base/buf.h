// SPDX-License-Identifier: Apache-2.0
// A growing run of bytes that owns its memory, with a sticky error: after the first failure
// (the limit reached) every append is a no-op, and the caller looks once, at the end.
// Zero-initialised = empty, without a limit. Not thread safe.
#ifndef QS_COMMON_BASE_BUF_H
#define QS_COMMON_BASE_BUF_H

#include "common/base/bytes.h"
#include "common/base/error.h"

struct buf {
    uint8_t *data;
    size_t size;     // bytes in use
    size_t capacity; // bytes allocated
    size_t limit;    // 0 = none; appending beyond it sets the error
    int error;       // OK or ERR_REPLY_SIZE
};

void buf_append(struct buf *buf, const void *data, size_t size);
void buf_append_bytes(struct buf *buf, struct bytes bytes);
void buf_append_text(struct buf *buf, const char *text);
void buf_format(struct buf *buf, const char *format, ...) PRINTF_LIKE(2, 3);
// The first 64 bytes, for people: what is not printable ASCII as \xhh, "..." for what is cut off.
void buf_append_printable(struct buf *buf, struct bytes bytes);

// Makes room for `size` more bytes and returns where to write them, NULL when the limit forbids;
// buf_commit then counts what was written.
uint8_t *buf_reserve(struct buf *buf, size_t size);
void buf_commit(struct buf *buf, size_t size);

// Drops the first `size` bytes.
void buf_consume(struct buf *buf, size_t size);

// Empties it and clears the error; buf_clear keeps the memory, buf_free returns it.
void buf_clear(struct buf *buf);
void buf_free(struct buf *buf);

static inline struct bytes buf_bytes(const struct buf *buf)
{
    return bytes_of(buf->data, buf->size);
}

#endif
