// SPDX-License-Identifier: Apache-2.0
// The request parser: multibulk requests and, as Redis has them, inline commands. Where a request
// is cut into pieces never changes what comes out: every limit is checked on what a line or a word
// is, not on how much of it has arrived.
#include "common/wire/resp.h"

#include <stdio.h>

#include "common/base/mem.h"
#include "common/wire/resp_inline.h"

// A length beyond this is none, whatever request_bytes says (Redis: proto-max-bulk-len).
#define BULK_MAX (512 * MIB)
#define WORDS_FIRST 16
// A word array longer than this is not kept for the next request.
#define WORDS_KEPT 1024

#define TOO_BIG_COUNT "Protocol error: too big mbulk count string"
#define TOO_BIG_BULK "Protocol error: too big bulk count string"
#define TOO_BIG_INLINE "Protocol error: too big inline request"
#define BAD_COUNT "Protocol error: invalid multibulk length"
#define BAD_BULK "Protocol error: invalid bulk length"
#define BAD_QUOTES "Protocol error: unbalanced quotes in request"

void resp_open(struct resp_parser *parser, const struct resp_limits *limits)
{
    *parser = (struct resp_parser){.limits = *limits, .words_left = -1, .word_size = -1};
}

void resp_close(struct resp_parser *parser)
{
    mem_free(parser->words);
    buf_free(&parser->unquoted);
    *parser = (struct resp_parser){.limits = parser->limits, .words_left = -1, .word_size = -1};
}

void resp_add_word(struct resp_parser *parser, size_t offset, size_t size)
{
    if (parser->word_count == parser->word_capacity) {
        size_t capacity = parser->word_capacity == 0 ? WORDS_FIRST : parser->word_capacity * 2;
        parser->words = mem_realloc(parser->words, capacity * sizeof *parser->words);
        parser->word_capacity = capacity;
    }
    parser->words[parser->word_count].offset = offset;
    parser->words[parser->word_count].size = size;
    parser->word_count++;
}

static int fail(struct resp_parser *parser, const char *words)
{
    parser->error = words;
    return ERR_PROTOCOL;
}

static void begin(struct resp_parser *parser)
{
    parser->word_count = 0;
    parser->is_inline = false;
    buf_clear(&parser->unquoted);
    if (parser->word_capacity > WORDS_KEPT) {
        mem_free(parser->words);
        parser->words = NULL;
        parser->word_capacity = 0;
    }
}

static ssize_t finish(struct resp_parser *parser)
{
    size_t used = parser->offset;
    parser->offset = 0;
    parser->scanned = 0;
    parser->words_left = -1;
    parser->word_size = -1;
    return (ssize_t)used;
}

// Looks for `mark`, the end of the line that begins at parser->offset. 1 = found at *ret_at,
// 0 = more is needed.
static int find_end(struct resp_parser *parser, struct bytes data, char mark, size_t *ret_at,
                    const char *too_long)
{
    size_t from = parser->scanned > parser->offset ? parser->scanned : parser->offset;
    const uint8_t *found = NULL;
    if (from < data.size) {
        found = memchr(data.data + from, mark, data.size - from);
    }
    size_t at = found != NULL ? (size_t)(found - data.data) : data.size;
    parser->scanned = at;
    if (at - parser->offset > parser->limits.inline_max) {
        return fail(parser, too_long);
    }
    if (found == NULL) {
        return 0;
    }
    *ret_at = at;
    return 1;
}

// A length line without its first byte, which says what is counted. 1 = *ret_value is set and the
// parser stands behind the line, 0 = more is needed.
static int parse_length(struct resp_parser *parser, struct bytes data, bool word,
                        int64_t *ret_value)
{
    size_t at;
    int code = find_end(parser, data, '\r', &at, word ? TOO_BIG_BULK : TOO_BIG_COUNT);
    if (code <= 0) {
        return code;
    }
    if (at + 1 >= data.size) {
        return 0;
    }
    size_t start = parser->offset;
    if (word && data.data[start] != '$') {
        int got = data.data[start] == 0 ? '?' : data.data[start];
        snprintf(parser->error_text, sizeof parser->error_text,
                 "Protocol error: expected '$', got '%c'", got);
        return fail(parser, parser->error_text);
    }
    if (at == start || data.data[at + 1] != '\n' ||
        !parse_i64(bytes_of(data.data + start + 1, at - start - 1), ret_value)) {
        return fail(parser, word ? BAD_BULK : BAD_COUNT);
    }
    parser->offset = at + 2;
    return 1;
}

static int parse_count(struct resp_parser *parser, struct bytes data)
{
    int64_t count;
    int code = parse_length(parser, data, false, &count);
    if (code <= 0) {
        return code;
    }
    if (count > (int64_t)parser->limits.words_max) {
        return fail(parser, BAD_COUNT);
    }
    parser->words_left = count < 0 ? 0 : count;
    return 1;
}

// One word: its length line, then its bytes. 1 = a whole word, 0 = more is needed.
static int parse_word(struct resp_parser *parser, struct bytes data)
{
    if (parser->word_size < 0) {
        int64_t size;
        int code = parse_length(parser, data, true, &size);
        if (code <= 0) {
            return code;
        }
        if (size < 0 || size > (int64_t)BULK_MAX) {
            return fail(parser, BAD_BULK);
        }
        if (parser->offset + (uint64_t)size + 2 > parser->limits.request_bytes) {
            return ERR_REQUEST_SIZE;
        }
        parser->word_size = size;
    }
    size_t size = (size_t)parser->word_size;
    if (data.size - parser->offset < size + 2) {
        return 0;
    }
    // Redis does not look at the two bytes behind a word. A stream that has lost its step there
    // would write whatever comes next, so here it ends.
    const uint8_t *end = data.data + parser->offset + size;
    if (end[0] != '\r' || end[1] != '\n') {
        return fail(parser, BAD_BULK);
    }
    resp_add_word(parser, parser->offset, size);
    parser->offset += size + 2;
    parser->word_size = -1;
    parser->words_left--;
    return 1;
}

static ssize_t parse_inline(struct resp_parser *parser, struct bytes data)
{
    size_t at;
    int code = find_end(parser, data, '\n', &at, TOO_BIG_INLINE);
    if (code <= 0) {
        return code;
    }
    size_t size = at > 0 && data.data[at - 1] == '\r' ? at - 1 : at;
    parser->is_inline = true;
    if (!resp_split_inline(parser, bytes_of(data.data, size))) {
        return fail(parser, BAD_QUOTES);
    }
    parser->offset = at + 1;
    return finish(parser);
}

ssize_t resp_parse(struct resp_parser *parser, struct bytes data)
{
    if (data.size == 0) {
        return 0;
    }
    if (parser->words_left < 0) {
        begin(parser);
        if (data.data[0] != '*') {
            return parse_inline(parser, data);
        }
        int code = parse_count(parser, data);
        if (code <= 0) {
            return code;
        }
    }
    while (parser->words_left > 0) {
        int code = parse_word(parser, data);
        if (code <= 0) {
            return code;
        }
    }
    return finish(parser);
}
