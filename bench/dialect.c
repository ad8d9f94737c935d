// SPDX-License-Identifier: Apache-2.0
#include "bench/dialect.h"

static void append_number(struct buf *to, size_t number)
{
    char text[20];
    char *at = text + sizeof text;
    do {
        *--at = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    buf_append(to, at, (size_t)(text + sizeof text - at));
}

static void append_line_end(struct buf *to) { buf_append(to, "\r\n", 2); }

// RESP: length, bytes.
static void append_bulk(struct buf *to, struct bytes bytes)
{
    buf_append(to, "$", 1);
    append_number(to, bytes.size);
    append_line_end(to);
    buf_append_bytes(to, bytes);
    append_line_end(to);
}

// memcached: no flags, no expiry; the value on a line of its own.
static void append_value(struct buf *to, struct bytes value)
{
    append_number(to, value.size);
    append_line_end(to);
    buf_append_bytes(to, value);
    append_line_end(to);
}

void dialect_get(enum dialect dialect, struct buf *to, struct bytes key)
{
    if (dialect == DIALECT_RESP) {
        buf_append(to, "*2\r\n$3\r\nGET\r\n", 13);
        append_bulk(to, key);
        return;
    }
    buf_append(to, "get ", 4);
    buf_append_bytes(to, key);
    append_line_end(to);
}

void dialect_set(enum dialect dialect, struct buf *to, struct bytes key, struct bytes value)
{
    if (dialect == DIALECT_RESP) {
        buf_append(to, "*3\r\n$3\r\nSET\r\n", 13);
        append_bulk(to, key);
        append_bulk(to, value);
        return;
    }
    buf_append(to, "set ", 4);
    buf_append_bytes(to, key);
    buf_append(to, " 0 0 ", 5);
    append_value(to, value);
}

void dialect_found(enum dialect dialect, struct buf *to, struct bytes key, struct bytes value)
{
    if (dialect == DIALECT_RESP) {
        append_bulk(to, value);
        return;
    }
    buf_append(to, "VALUE ", 6);
    buf_append_bytes(to, key);
    buf_append(to, " 0 ", 3);
    append_value(to, value);
    buf_append(to, "END\r\n", 5);
}

void dialect_absent(enum dialect dialect, struct buf *to)
{
    buf_append_text(to, dialect == DIALECT_RESP ? "$-1\r\n" : "END\r\n");
}

void dialect_stored(enum dialect dialect, struct buf *to)
{
    buf_append_text(to, dialect == DIALECT_RESP ? "+OK\r\n" : "STORED\r\n");
}
