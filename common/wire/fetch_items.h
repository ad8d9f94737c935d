// SPDX-License-Identifier: Apache-2.0
// What stands in the `items` of fetch and fetched messages: msgpack arrays of [key, version] and
// of [status, value or nil]. Counts and sizes are checked against the limits of both sides before
// anything is believed; bytes are lent from the input. Pure functions.
#ifndef QS_COMMON_WIRE_FETCH_ITEMS_H
#define QS_COMMON_WIRE_FETCH_ITEMS_H

#include "common/base/buf.h"
#include "common/wire/message.h"

// Of one message. The values asked for in one sum, by their known lengths, to at most
// FETCH_BYTES_MAX, or it asks for one alone.
#define FETCH_ITEMS_MAX 128
#define FETCH_BYTES_MAX (16 * MIB)

struct fetch_ask {
    struct bytes key;
    uint64_t version;
};

struct fetch_answer {
    enum fetch_status status;
    struct bytes value; // for FETCH_EXACT
};

// Appends the array's head; that many asks or answers follow.
void fetch_items_begin(struct buf *to, unsigned count);
void fetch_ask_append(struct buf *to, const struct fetch_ask *ask);
void fetch_answer_append(struct buf *to, const struct fetch_answer *answer);

// ERR_PROTOCOL: malformed, no item or too many, a size or number out of bounds.
int fetch_asks_decode(struct bytes items, struct fetch_ask to[FETCH_ITEMS_MAX],
                      unsigned *ret_count) MUST_CHECK;
int fetch_answers_decode(struct bytes items, struct fetch_answer to[FETCH_ITEMS_MAX],
                         unsigned *ret_count) MUST_CHECK;

#endif
