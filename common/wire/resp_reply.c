// SPDX-License-Identifier: Apache-2.0
// Replies in RESP2 and RESP3, and numbers as Redis reads them. Appending to a buffer that has
// reached its limit does nothing (common/base/buf.h); the caller looks at the end.
#include <stdarg.h>
#include <stdio.h>

#include "common/wire/resp.h"

#define HEAD_BYTES 24 // type, 19 digits with a minus, line end

// Writes "<type><value>\r\n" so that it ends at `end`; returns where it begins.
static char *format_head(char *end, char type, int64_t value)
{
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    *--end = '\n';
    *--end = '\r';
    do {
        *--end = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (value < 0) {
        *--end = '-';
    }
    *--end = type;
    return end;
}

static void reply_head(struct buf *to, char type, int64_t value)
{
    char text[HEAD_BYTES];
    char *start = format_head(text + sizeof text, type, value);
    buf_append(to, start, (size_t)(text + sizeof text - start));
}

void reply_simple(struct buf *to, const char *text)
{
    buf_append_text(to, "+");
    buf_append_text(to, text);
    buf_append_text(to, "\r\n");
}

void reply_error(struct buf *to, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (char *at = text; *at != 0; at++) {
        if (*at == '\r' || *at == '\n') {
            *at = ' ';
        }
    }
    buf_append_text(to, "-");
    buf_append_text(to, text);
    buf_append_text(to, "\r\n");
}

void reply_error_code(struct buf *to, int error)
{
    reply_error(to, "%s %s", error_word(error), error_text(error));
}

void reply_integer(struct buf *to, int64_t value) { reply_head(to, ':', value); }

void reply_bulk(struct buf *to, struct bytes value)
{
    // In one piece, so that a buffer at its limit holds no half of it.
    uint8_t *at = buf_reserve(to, HEAD_BYTES + value.size + 2);
    if (at == NULL) {
        return;
    }
    char text[HEAD_BYTES];
    char *start = format_head(text + sizeof text, '$', (int64_t)value.size);
    size_t head = (size_t)(text + sizeof text - start);
    memcpy(at, start, head);
    if (value.size > 0) {
        memcpy(at + head, value.data, value.size);
    }
    memcpy(at + head + value.size, "\r\n", 2);
    buf_commit(to, head + value.size + 2);
}

void reply_nil(struct buf *to, int protocol)
{
    buf_append_text(to, protocol == 3 ? "_\r\n" : "$-1\r\n");
}

void reply_nil_array(struct buf *to, int protocol)
{
    buf_append_text(to, protocol == 3 ? "_\r\n" : "*-1\r\n");
}

void reply_array(struct buf *to, uint64_t count) { reply_head(to, '*', (int64_t)count); }

void reply_push(struct buf *to, uint64_t count, int protocol)
{
    reply_head(to, protocol == 3 ? '>' : '*', (int64_t)count);
}

void reply_map(struct buf *to, uint64_t pairs, int protocol)
{
    reply_head(to, protocol == 3 ? '%' : '*', (int64_t)(protocol == 3 ? pairs : pairs * 2));
}

void reply_verbatim(struct buf *to, struct bytes text, int protocol)
{
    if (protocol != 3) {
        reply_bulk(to, text);
        return;
    }
    reply_head(to, '=', (int64_t)text.size + 4);
    buf_append_text(to, "txt:");
    buf_append_bytes(to, text);
    buf_append_text(to, "\r\n");
}

bool parse_u64(struct bytes text, uint64_t *ret_value)
{
    if (text.size == 0 || text.size > 20 || (text.data[0] == '0' && text.size > 1)) {
        return false;
    }
    uint64_t value = 0;
    for (size_t i = 0; i < text.size; i++) {
        unsigned digit = text.data[i] - (unsigned)'0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *ret_value = value;
    return true;
}

bool parse_i64(struct bytes text, int64_t *ret_value)
{
    bool negative = text.size > 0 && text.data[0] == '-';
    uint64_t value;
    if (!parse_u64(negative ? bytes_of(text.data + 1, text.size - 1) : text, &value)) {
        return false;
    }
    if (negative && value == 0) {
        return false; // Redis knows no "-0".
    }
    if (value > (uint64_t)INT64_MAX + (negative ? 1 : 0)) {
        return false;
    }
    *ret_value = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}
