// SPDX-License-Identifier: Apache-2.0
// Replies as a daemon sends them (RESP2), read from a buffer that owns their bytes: a flat list of
// items, each array's elements behind it. Incremental: what was parsed is not parsed again. Memory
// grows with the bytes that came, never by a sender's counts. Zero-initialised = empty. One thread.
#ifndef QS_COMMON_CLIENT_ANSWERS_H
#define QS_COMMON_CLIENT_ANSWERS_H

#include "common/base/buf.h"

// Of one exchange.
#define ANSWERS_MAX 3

struct answer {
    char type;           // + - : $ *
    int64_t number;      // ':' the integer; '*' elements that follow; '$' and '*' -1: nil
    size_t offset, size; // of the bytes of + - $
};

struct answers {
    struct buf data;
    struct answer *items;
    size_t count, capacity;
    size_t offset;               // of `data`, parsed so far
    uint64_t missing;            // items of the reply that has begun; 0: between replies
    unsigned whole;              // replies that are complete
    size_t starts[ANSWERS_MAX];  // the item at which each begins
};

// Parses until `wanted` (1 to ANSWERS_MAX) replies are complete. 1: they are, 0: more bytes are
// needed, or ERR_PROTOCOL.
int answers_parse(struct answers *answers, unsigned wanted) MUST_CHECK;

// Adds items that came by no line, as if they had been parsed: an array of so many, an integer or
// (for '$') nil; a bulk with a copy of its bytes.
void answers_add(struct answers *answers, char type, int64_t number);
void answers_add_bulk(struct answers *answers, struct bytes bytes);

// Forgets all replies, and of the data those bytes that were parsed.
void answers_next(struct answers *answers);
// Forgets everything; keeps the memory unless that is much.
void answers_clear(struct answers *answers);
void answers_free(struct answers *answers);

static inline struct bytes answer_bytes(const struct answers *answers, const struct answer *item)
{
    return bytes_of(answers->data.data + item->offset, item->size);
}

// The item `at` of all; NULL: there are fewer, or it is of another type, or nil.
const struct answer *answers_item(const struct answers *answers, size_t at, char type);

#endif
