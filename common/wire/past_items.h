// SPDX-License-Identifier: Apache-2.0
// What stands in the `items` of look, looked and pasted messages: keys, and rows as they were at an
// index, one after another up to the end. Sizes are checked against the limits of both sides;
// bytes are lent from the input. Pure functions.
#ifndef QS_COMMON_WIRE_PAST_ITEMS_H
#define QS_COMMON_WIRE_PAST_ITEMS_H

#include "common/base/buf.h"
#include "common/base/msgpack.h"

// Of one message. An answer ends behind the row with which it exceeds PAST_BYTES_MAX.
#define PAST_ROWS_MAX 1000
#define PAST_BYTES_MAX (4 * MIB)
// The ends of a range, which may be a key with a byte behind it.
#define PAST_BOUND_MAX 1025

struct past_row {
    struct bytes key;
    uint64_t version; // 0 = absent, without a value
    uint32_t check;
    struct bytes value;
};

void past_key_append(struct buf *to, struct bytes key);
void past_row_append(struct buf *to, const struct past_row *row);

// At most PAST_ROWS_MAX sound items, and nothing else? ERR_PROTOCOL.
int past_keys_check(struct bytes items, unsigned *ret_count) MUST_CHECK;
int past_rows_check(struct bytes items, unsigned *ret_count) MUST_CHECK;

// The next item of what was checked; *items is what follows.
struct bytes past_key_next(struct bytes *items);
struct past_row past_row_next(struct bytes *items);

#endif
