// SPDX-License-Identifier: Apache-2.0
#include "common/core/build_row.h"

// 0 format u8 · 1 header of the start · 129 state row · 234 digest held · 250 its keys u64 · 258
// highest block u64 · 266 its index u64 · 274 its chain · 290 slices u64 · 298 complete u8 · 299
// size of the next key u16 · 301 that key · check (XXH3-128 of all bytes before)
#define FORMAT 0x81 // no state row begins like this
#define START_AT 1
#define STATE_AT (START_AT + BLOCK_HEADER_BYTES)
#define HELD_AT (STATE_AT + STATE_ROW_BYTES)
#define HIGHEST_AT (HELD_AT + HASH128_BYTES + 8)
#define SLICES_AT (HIGHEST_AT + 16 + HASH128_BYTES)
#define NEXT_AT (SLICES_AT + 8 + 1 + 2)

_Static_assert(NEXT_AT + KEY_BYTES_MAX + HASH128_BYTES <= BUILD_ROW_MAX, "the longest row fits");

size_t build_row_encode(const struct build_row *row, uint8_t to[BUILD_ROW_MAX])
{
    CHECK(row->next_size <= KEY_BYTES_MAX);
    to[0] = FORMAT;
    block_header_encode(&row->start, to + START_AT);
    state_encode(&row->state, to + STATE_AT);
    hash128_store(to + HELD_AT, row->held.sum);
    store_u64(to + HELD_AT + HASH128_BYTES, row->held.keys);
    store_u64(to + HIGHEST_AT, row->highest.number);
    store_u64(to + HIGHEST_AT + 8, row->highest.index);
    hash128_store(to + HIGHEST_AT + 16, row->highest.chain);
    store_u64(to + SLICES_AT, row->slices);
    to[SLICES_AT + 8] = row->complete;
    store_u16(to + SLICES_AT + 9, (uint16_t)row->next_size);
    memcpy(to + NEXT_AT, row->next, row->next_size);
    size_t size = NEXT_AT + row->next_size;
    hash128_store(to + size, hash128(bytes_of(to, size), 0));
    return size + HASH128_BYTES;
}

int build_row_decode(struct build_row *ret_row, struct bytes bytes)
{
    if (bytes.size < NEXT_AT + HASH128_BYTES || bytes.size > BUILD_ROW_MAX ||
        bytes.data[0] != FORMAT) {
        return ERR_CORRUPT;
    }
    const uint8_t *from = bytes.data;
    size_t checked = bytes.size - HASH128_BYTES;
    struct build_row row = {.next_size = load_u16(from + SLICES_AT + 9)};
    if (!hash128_equal(hash128(bytes_of(from, checked), 0), hash128_load(from + checked)) ||
        row.next_size > KEY_BYTES_MAX || NEXT_AT + row.next_size != checked ||
        block_header_decode(&row.start, from + START_AT) != OK ||
        state_decode(&row.state, bytes_of(from + STATE_AT, STATE_ROW_BYTES)) != OK) {
        return ERR_CORRUPT;
    }
    row.held.sum = hash128_load(from + HELD_AT);
    row.held.keys = load_u64(from + HELD_AT + HASH128_BYTES);
    row.highest.number = load_u64(from + HIGHEST_AT);
    row.highest.index = load_u64(from + HIGHEST_AT + 8);
    row.highest.chain = hash128_load(from + HIGHEST_AT + 16);
    row.slices = load_u64(from + SLICES_AT);
    row.complete = from[SLICES_AT + 8] != 0;
    memcpy(row.next, from + NEXT_AT, row.next_size);
    *ret_row = row;
    return OK;
}
