// SPDX-License-Identifier: Apache-2.0
// One transaction under evaluation: the keys it touched, with what they were before and are now.
// Reads inside it see its own writes; at the end the net effect of each key goes into the block,
// the last operation of each counting, and deletes of keys that were absent leave nothing.
// Writer thread; one struct is reused for all transactions.
#ifndef QS_REPLICA_TXN_H
#define QS_REPLICA_TXN_H

#include "common/base/mem.h"
#include "common/core/view.h"
#include "replica/overlay.h"
#include "replica/sequencer.h"

struct touch {
    struct bytes key;   // in the arena
    struct bytes value; // in the arena; the last put's
    uint64_t before;    // version before the transaction, 0 = absent
    bool present;       // now
    bool written;       // by this transaction
};

struct txn {
    struct instance *instance;
    const struct overlay *overlay;
    struct view *view;
    struct touch *touches;
    size_t touch_count, touch_capacity;
    uint32_t *table; // open addressing over touches, values are position + 1
    size_t table_size;
    struct arena arena;
    struct store_value *pins; // values lent to the evaluation
    size_t pin_count, pin_capacity;
    uint64_t next_index;
    uint64_t bytes;         // keys and values written
    bool promised;          // txn_index answered next_index
    bool nothing;           // second evaluation: known to change nothing
    int error;              // sticky refusal
};

void txn_open(struct txn *txn, const struct overlay *overlay);
void txn_close(struct txn *txn);
// Before each evaluation.
void txn_start(struct txn *txn, struct instance *instance, struct view *view, uint64_t next_index,
               bool nothing);
// Does the net effect change anything?
bool txn_changes(const struct txn *txn);
// After a transaction: forgets everything, returns what was lent.
void txn_reset(struct txn *txn);

#endif
