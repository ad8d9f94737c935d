// SPDX-License-Identifier: Apache-2.0
// The latest entry of each key within one block: while a block is applied the store does not show
// its earlier batches, so what they wrote is looked up here; and only the latest entry of a key
// becomes a default row. Open addressing, linear probing, a random seed (keys are chosen by
// clients), at most half full; reused between blocks. The bytes belong to the block.
// Not thread safe: the applier's.
#ifndef QS_REPLICA_LATEST_H
#define QS_REPLICA_LATEST_H

#include "common/data/block.h"

struct latest {
    struct bytes key;
    struct bytes value;  // of a put
    uint64_t version;
    bool put;            // false: the key is deleted
    bool was_present;    // ... before this block
};

struct latest_table {
    struct latest *rows; // in the order of first appearance
    uint32_t count;
    uint32_t *slots;     // 1 + position in rows, 0 = free
    uint32_t slot_count; // a power of two, or 0
    uint64_t seed;
};

void latest_open(struct latest_table *table);
void latest_close(struct latest_table *table);

// Empties the table and makes room for `entries` keys.
void latest_reset(struct latest_table *table, uint32_t entries);

// The row of `key`, NULL when no entry of this block touched it yet.
struct latest *latest_find(const struct latest_table *table, struct bytes key);

// Adds a row for `key`, which has none; the caller fills in the rest.
struct latest *latest_add(struct latest_table *table, struct bytes key);

#endif
