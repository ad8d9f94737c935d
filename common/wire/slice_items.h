// SPDX-License-Identifier: Apache-2.0
// The records of a slice_items message, one after another. Bytes are lent from the input; sizes are
// checked before anything is believed. What a record must be beyond that (order of keys, the check
// of a value) is its reader's to judge. Pure functions.
#ifndef QS_COMMON_WIRE_SLICE_ITEMS_H
#define QS_COMMON_WIRE_SLICE_ITEMS_H

#include "common/base/buf.h"
#include "common/base/msgpack.h"

struct slice_item {
    struct bytes key;
    uint64_t version;
    uint32_t length; // of the value, sent or not
    uint32_t check;
    bool held;       // the value comes along
    struct bytes value;
};

// At most what an item adds to the bytes of key and value.
#define SLICE_ITEM_OVERHEAD 32

void slice_item_append(struct buf *to, const struct slice_item *item);
// False at the end, or when what follows is no record: unpack_end tells.
bool slice_item_next(struct unpacker *from, struct slice_item *ret_item);

#endif
