// SPDX-License-Identifier: Apache-2.0
// The rules are those of Redis's sdssplitargs: "..." with \n \r \t \b \a \xHH and \ before any
// other byte, '...' with \' only, quotes may open in the middle of a word, and a closing quote
// ends the word. A zero byte ends the line.
#include "common/wire/resp_inline.h"

enum quote { QUOTE_NONE, QUOTE_DOUBLE, QUOTE_SINGLE };

struct line {
    struct bytes text;
    size_t at;
};

// The byte `ahead` of the place, 0 past the end.
static uint8_t peek(const struct line *line, size_t ahead)
{
    size_t at = line->at + ahead;
    return at < line->text.size ? line->text.data[at] : 0;
}

static bool is_blank(uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

static bool ends_word(uint8_t byte)
{
    return byte == 0 || byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t';
}

static int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    uint8_t lower = byte | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

static uint8_t unescape(uint8_t byte)
{
    switch (byte) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return byte;
    }
}

static void add(struct buf *to, uint8_t byte) { buf_append(to, &byte, 1); }

// One step inside double quotes that is neither the closing quote nor the end of the line.
static void step_double(struct line *line, struct buf *to)
{
    uint8_t byte = peek(line, 0);
    if (byte != '\\' || peek(line, 1) == 0) {
        add(to, byte);
        line->at++;
        return;
    }
    int high = hex_digit(peek(line, 2));
    int low = hex_digit(peek(line, 3));
    if (peek(line, 1) == 'x' && high >= 0 && low >= 0) {
        add(to, (uint8_t)(high << 4 | low));
        line->at += 4;
        return;
    }
    add(to, unescape(peek(line, 1)));
    line->at += 2;
}

static void step_single(struct line *line, struct buf *to)
{
    if (peek(line, 0) == '\\' && peek(line, 1) == '\'') {
        line->at++;
    }
    add(to, peek(line, 0));
    line->at++;
}

// One word, from its first byte on. False: quotes do not fit.
static bool split_word(struct line *line, struct buf *to)
{
    enum quote quote = QUOTE_NONE;
    while (true) {
        uint8_t byte = peek(line, 0);
        if (quote == QUOTE_NONE) {
            if (ends_word(byte)) {
                return true;
            }
            quote = byte == '"' ? QUOTE_DOUBLE : byte == '\'' ? QUOTE_SINGLE : QUOTE_NONE;
            if (quote == QUOTE_NONE) {
                add(to, byte);
            }
            line->at++;
            continue;
        }
        if (byte == 0) {
            return false;
        }
        if (byte == (quote == QUOTE_DOUBLE ? '"' : '\'')) {
            line->at++;
            uint8_t next = peek(line, 0);
            return next == 0 || is_blank(next);
        }
        if (quote == QUOTE_DOUBLE) {
            step_double(line, to);
        } else {
            step_single(line, to);
        }
    }
}

bool resp_split_inline(struct resp_parser *parser, struct bytes text)
{
    struct line line = {.text = text};
    // Never NULL afterwards, so that an empty word has an address too.
    (void)buf_reserve(&parser->unquoted, text.size + 1);
    while (true) {
        while (is_blank(peek(&line, 0))) {
            line.at++;
        }
        if (peek(&line, 0) == 0) {
            return true;
        }
        size_t start = parser->unquoted.size;
        if (!split_word(&line, &parser->unquoted)) {
            return false;
        }
        resp_add_word(parser, start, parser->unquoted.size - start);
    }
}
