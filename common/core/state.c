// SPDX-License-Identifier: Apache-2.0
#include "common/core/state.h"

// 0 version u8 · 1 block u64 · 9 index u64 · 17 chain · 33 epoch u64 · 41 digest · 57 keys u64 ·
// 65 history · 81 history floor u64 · 89 check (XXH3-128 of the 89 bytes before)
#define STATE_VERSION 1
#define CHECKED_BYTES 89

_Static_assert(STATE_ROW_BYTES == CHECKED_BYTES + HASH128_BYTES, "the row ends with its check");

void state_encode(const struct state *state, uint8_t to[STATE_ROW_BYTES])
{
    to[0] = STATE_VERSION;
    store_u64(to + 1, state->place.number);
    store_u64(to + 9, state->place.index);
    hash128_store(to + 17, state->place.chain);
    store_u64(to + 33, state->epoch);
    hash128_store(to + 41, state->digest.sum);
    store_u64(to + 57, state->digest.keys);
    memcpy(to + 65, state->history, HISTORY_ID_BYTES);
    store_u64(to + 81, state->history_floor);
    hash128_store(to + CHECKED_BYTES, hash128(bytes_of(to, CHECKED_BYTES), 0));
}

int state_decode(struct state *ret_state, struct bytes row)
{
    if (row.size != STATE_ROW_BYTES || row.data[0] != STATE_VERSION) {
        return ERR_CORRUPT;
    }
    struct hash128 check = hash128(bytes_of(row.data, CHECKED_BYTES), 0);
    if (!hash128_equal(check, hash128_load(row.data + CHECKED_BYTES))) {
        return ERR_CORRUPT;
    }
    ret_state->place.number = load_u64(row.data + 1);
    ret_state->place.index = load_u64(row.data + 9);
    ret_state->place.chain = hash128_load(row.data + 17);
    ret_state->epoch = load_u64(row.data + 33);
    ret_state->digest.sum = hash128_load(row.data + 41);
    ret_state->digest.keys = load_u64(row.data + 57);
    memcpy(ret_state->history, row.data + 65, HISTORY_ID_BYTES);
    ret_state->history_floor = load_u64(row.data + 81);
    return OK;
}

struct state state_after(const struct state *before, const struct block *block)
{
    struct state after = *before;
    struct block_walk walk;
    struct entry entry;
    block_walk_start(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        digest_entry(&after.digest, &entry);
    }
    after.place = (struct journal_place){.number = block->header.number,
                                         .index = block_end(&block->header),
                                         .chain = block->header.chain};
    after.epoch = block->header.epoch;
    memcpy(after.history, block->header.history, HISTORY_ID_BYTES);
    return after;
}
