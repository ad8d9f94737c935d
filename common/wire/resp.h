// SPDX-License-Identifier: Apache-2.0
// RESP requests in, replies out (RESP2 and RESP3). The parser is incremental: it remembers how far
// it came, so a long request is never parsed twice; nothing is allocated by a sender's counts
// before the bytes are there. Not thread safe; no I/O.
#ifndef QS_COMMON_WIRE_RESP_H
#define QS_COMMON_WIRE_RESP_H

#include "common/base/buf.h"

struct resp_limits {
    uint64_t request_bytes; // of one request
    uint32_t words_max;     // of one request (Redis: 1,048,576)
    uint32_t inline_max;    // bytes of an inline command (Redis: 65,536)
};

struct resp_parser {
    struct resp_limits limits;
    size_t offset;      // of `data`, parsed so far
    size_t scanned;     // of `data`, searched for the end of the line that begins at `offset`
    int64_t words_left; // -1: at the start of a request
    int64_t word_size;  // -1: at a word's length line
    struct { size_t offset, size; } *words;
    size_t word_count, word_capacity;
    struct buf unquoted; // the words of an inline command: quotes and escapes are gone
    bool is_inline;      // `words` point into `unquoted`, not into the data
    const char *error;   // Redis's own words, e.g. "Protocol error: invalid bulk length"
    char error_text[48];
};

void resp_open(struct resp_parser *parser, const struct resp_limits *limits);
void resp_close(struct resp_parser *parser);

// Parses the next request from `data`, which begins where the last request ended and only grows
// between calls. Returns bytes used by a whole request (its words: resp_word; zero words for an
// empty line, `*0`, `*-1`), 0 when more is needed, or a negative error: ERR_PROTOCOL with
// parser->error set, ERR_REQUEST_SIZE.
ssize_t resp_parse(struct resp_parser *parser, struct bytes data) MUST_CHECK;
// The request that most others are, recognised without taking it apart: a whole GET, in whatever
// case, of a key of 1 to RESP_GET_KEY_MAX bytes, as clients send it. Returns its bytes; 0: whatever
// else `data` begins with. Only where the parser stands between two requests.
#define RESP_GET_KEY_MAX 1024
size_t resp_get(struct bytes data, struct bytes *ret_key) MUST_CHECK;
static inline bool resp_between(const struct resp_parser *parser)
{
    return parser->words_left < 0 && parser->scanned == 0;
}
static inline size_t resp_word_count(const struct resp_parser *parser)
{
    return parser->word_count;
}
static inline struct bytes resp_word(const struct resp_parser *parser, struct bytes data, size_t i)
{
    const uint8_t *base = parser->is_inline ? parser->unquoted.data : data.data;
    return bytes_of(base + parser->words[i].offset, parser->words[i].size);
}

// Replies. `protocol` is 2 or 3.
void reply_simple(struct buf *to, const char *text);          // +OK
// An error line: the format begins with its word ("ERR ..."); line breaks become blanks.
void reply_error(struct buf *to, const char *format, ...) PRINTF_LIKE(2, 3);
void reply_error_code(struct buf *to, int error);             // word and text of the row
void reply_integer(struct buf *to, int64_t value);
void reply_bulk(struct buf *to, struct bytes value);
void reply_nil(struct buf *to, int protocol);                 // $-1 or _
void reply_nil_array(struct buf *to, int protocol);           // *-1 or _
void reply_array(struct buf *to, uint64_t count);
void reply_push(struct buf *to, uint64_t count, int protocol); // > or an array
void reply_map(struct buf *to, uint64_t pairs, int protocol); // % or a flat array
void reply_verbatim(struct buf *to, struct bytes text, int protocol); // =txt: or a bulk

// Numbers as Redis reads them: an optional minus, no blanks, no plus, no leading zeros.
bool parse_i64(struct bytes text, int64_t *ret_value) MUST_CHECK;
bool parse_u64(struct bytes text, uint64_t *ret_value) MUST_CHECK;

// Redis's glob: * ? [a-c] [^x] \x. Bounded work: no exponential patterns.
bool glob_match(struct bytes pattern, struct bytes text);

#endif
