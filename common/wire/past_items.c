// SPDX-License-Identifier: Apache-2.0
#include "common/wire/past_items.h"

// Those of common/data/limits.h, which stands above this folder.
#define KEY_LIMIT 1024
#define VALUE_LIMIT (16 * MIB)

_Static_assert(PAST_BOUND_MAX == KEY_LIMIT + 1, "a key and a byte");

void past_key_append(struct buf *to, struct bytes key) { pack_bin(to, key); }

void past_row_append(struct buf *to, const struct past_row *row)
{
    pack_array(to, 4);
    pack_bin(to, row->key);
    pack_uint(to, row->version);
    pack_uint(to, row->check);
    pack_bin(to, row->value);
}

static struct bytes read_key(struct unpacker *from)
{
    struct bytes key = unpack_bin(from);
    if (key.size == 0 || key.size > KEY_LIMIT) {
        unpack_fail(from);
    }
    return key;
}

static struct past_row read_row(struct unpacker *from)
{
    struct past_row row = {0};
    unpack_array_of(from, 4);
    row.key = read_key(from);
    row.version = unpack_uint(from);
    row.check = unpack_u32(from);
    row.value = unpack_bin(from);
    if (row.value.size > VALUE_LIMIT || (row.version == 0 && row.value.size > 0)) {
        unpack_fail(from);
    }
    return row;
}

static int check(struct bytes items, bool rows, unsigned *ret_count)
{
    struct unpacker from = unpacker_of(items);
    unsigned count = 0;
    while (unpack_ok(&from) && from.rest.size > 0 && count <= PAST_ROWS_MAX) {
        if (rows) {
            (void)read_row(&from);
        } else {
            (void)read_key(&from);
        }
        count++;
    }
    if (unpack_end(&from) != OK || count > PAST_ROWS_MAX) {
        return ERR_PROTOCOL;
    }
    *ret_count = count;
    return OK;
}

int past_keys_check(struct bytes items, unsigned *ret_count)
{
    return check(items, false, ret_count);
}

int past_rows_check(struct bytes items, unsigned *ret_count)
{
    return check(items, true, ret_count);
}

struct bytes past_key_next(struct bytes *items)
{
    struct unpacker from = unpacker_of(*items);
    struct bytes key = read_key(&from);
    CHECK(unpack_ok(&from));
    *items = from.rest;
    return key;
}

struct past_row past_row_next(struct bytes *items)
{
    struct unpacker from = unpacker_of(*items);
    struct past_row row = read_row(&from);
    CHECK(unpack_ok(&from));
    *items = from.rest;
    return row;
}
