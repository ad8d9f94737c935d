// SPDX-License-Identifier: Apache-2.0
#include "common/base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/base/mem.h"

#define BUF_FIRST_BYTES 256
#define PRINTABLE_BYTES 64

uint8_t *buf_reserve(struct buf *buf, size_t size)
{
    if (buf->error != OK) {
        return NULL;
    }
    if (buf->limit != 0 && size > buf->limit - buf->size) {
        buf->error = ERR_REPLY_SIZE;
        return NULL;
    }
    if (buf->capacity - buf->size < size) {
        size_t capacity = buf->capacity == 0 ? BUF_FIRST_BYTES : buf->capacity;
        while (capacity - buf->size < size) {
            capacity *= 2;
        }
        buf->data = mem_realloc(buf->data, capacity);
        buf->capacity = capacity;
    }
    return buf->data + buf->size;
}

void buf_commit(struct buf *buf, size_t size)
{
    CHECK(size <= buf->capacity - buf->size);
    buf->size += size;
}

void buf_append(struct buf *buf, const void *data, size_t size)
{
    if (size == 0) {
        return;
    }
    uint8_t *to = buf_reserve(buf, size);
    if (to != NULL) {
        memcpy(to, data, size);
        buf->size += size;
    }
}

void buf_append_bytes(struct buf *buf, struct bytes bytes)
{
    buf_append(buf, bytes.data, bytes.size);
}

void buf_append_text(struct buf *buf, const char *text) { buf_append(buf, text, strlen(text)); }

void buf_append_printable(struct buf *buf, struct bytes bytes)
{
    size_t shown = bytes.size < PRINTABLE_BYTES ? bytes.size : PRINTABLE_BYTES;
    for (size_t i = 0; i < shown; i++) {
        uint8_t byte = bytes.data[i];
        if (byte >= 0x20 && byte < 0x7f && byte != '\\') {
            buf_append(buf, &byte, 1);
        } else {
            buf_format(buf, "\\x%02x", byte);
        }
    }
    if (shown < bytes.size) {
        buf_append_text(buf, "...");
    }
}

void buf_format(struct buf *buf, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    CHECK(length >= 0);
    uint8_t *to = buf_reserve(buf, (size_t)length + 1);
    if (to != NULL) {
        vsnprintf((char *)to, (size_t)length + 1, format, again);
        buf->size += (size_t)length;
    }
    va_end(again);
}

void buf_consume(struct buf *buf, size_t size)
{
    CHECK(size <= buf->size);
    buf->size -= size;
    if (buf->size > 0 && size > 0) {
        memmove(buf->data, buf->data + size, buf->size);
    }
}

void buf_clear(struct buf *buf)
{
    buf->size = 0;
    buf->error = OK;
}

void buf_free(struct buf *buf)
{
    mem_free(buf->data);
    *buf = (struct buf){.limit = buf->limit};
}
