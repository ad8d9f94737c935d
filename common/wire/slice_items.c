// SPDX-License-Identifier: Apache-2.0
#include "common/wire/slice_items.h"

// Those of common/data/limits.h, which stands above this folder.
#define KEY_LIMIT 1024
#define VALUE_LIMIT (16 * MIB)

void slice_item_append(struct buf *to, const struct slice_item *item)
{
    pack_array(to, 5);
    pack_bin(to, item->key);
    pack_uint(to, item->version);
    pack_uint(to, item->length);
    pack_uint(to, item->check);
    if (item->held) {
        pack_bin(to, item->value);
    } else {
        pack_nil(to);
    }
}

bool slice_item_next(struct unpacker *from, struct slice_item *ret_item)
{
    if (!unpack_ok(from) || from->rest.size == 0) {
        return false;
    }
    struct slice_item item = {0};
    unpack_array_of(from, 5);
    item.key = unpack_bin(from);
    item.version = unpack_uint(from);
    item.length = unpack_u32(from);
    item.check = unpack_u32(from);
    item.held = !unpack_nil(from);
    if (item.held) {
        item.value = unpack_bin(from);
    }
    bool sound = item.key.size > 0 && item.key.size <= KEY_LIMIT && item.version > 0 &&
                 item.length <= VALUE_LIMIT && (!item.held || item.value.size == item.length);
    if (!unpack_ok(from) || !sound) {
        unpack_fail(from);
        return false;
    }
    *ret_item = item;
    return true;
}
