// SPDX-License-Identifier: Apache-2.0
// What nodes say of themselves, as it stands in the `items` of tree_report and tree_page: one
// saying after another. Bytes are lent from the input; names and numbers are checked before
// anything is believed. Pure functions.
#ifndef QS_COMMON_WIRE_CENSUS_ITEMS_H
#define QS_COMMON_WIRE_CENSUS_ITEMS_H

#include "common/base/buf.h"
#include "common/base/msgpack.h"

#define CENSUS_LOST 1u  // the node that it followed has lost it; what is said is what it said last
#define CENSUS_ALARM 2u // its data is older than its `alarm_age`
#define CENSUS_CUT 4u   // it knows of more nodes below than it keeps track of
#define CENSUS_FLAGS (CENSUS_LOST | CENSUS_ALARM | CENSUS_CUT)

struct census_item {
    struct bytes node, parent; // parent: empty = none
    uint64_t role, state, flags;
    uint64_t visible;
    // Durations; UINT64_MAX = not known. The hop is that from its parent: half the round trip, what
    // blocks wait there and on the way for others, and from their receipt until reads see them.
    uint64_t age_ns, network_ns, queue_ns, apply_ns;
    uint64_t ago_ns; // since it said so
};

// At most what one item takes.
#define CENSUS_ITEM_MAX 256

void census_item_append(struct buf *to, const struct census_item *item);
// False at the end, or when what follows is no item: unpack_end tells.
bool census_item_next(struct unpacker *from, struct census_item *ret_item);

#endif
