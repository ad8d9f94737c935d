// SPDX-License-Identifier: Apache-2.0
// What a store under construction says about itself, in place of the state row and like it written
// with every batch: where the snapshot began, how far it is, what the store holds. Pure.
#ifndef QS_COMMON_CORE_BUILD_ROW_H
#define QS_COMMON_CORE_BUILD_ROW_H

#include "common/core/state.h"

struct build_row {
    struct block_header start;    // of the block at whose end the first slice was read
    struct state state;           // from the log alone: at `start`, later at the last block added
    struct digest held;           // of the rows that the store holds
    struct journal_place highest; // at which any slice was read: the store is whole from there on
    uint64_t slices;
    bool complete;                // the last slice is in
    size_t next_size;
    uint8_t next[KEY_BYTES_MAX];  // key of the last record: the stream goes on behind it
};

#define BUILD_ROW_MAX 1536

// Returns the size of the row.
size_t build_row_encode(const struct build_row *row, uint8_t to[BUILD_ROW_MAX]);
int build_row_decode(struct build_row *ret_row, struct bytes bytes) MUST_CHECK; // ERR_CORRUPT

#endif
