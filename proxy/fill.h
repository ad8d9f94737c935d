// SPDX-License-Identifier: Apache-2.0
// Keeping fetched values. They are written by the applier's thread alone, and only where the row
// still is the stub that the value was fetched for: whatever was applied meanwhile wins, and a
// deleted key is never revived. Over the soft limit (common/core/space.h) only what was missed
// before and not long ago is kept, so that values read once drive nothing out, and no more comes
// than the hand makes room for. Values waiting for the applier are bounded; beyond that, and where
// the hard limit would be reached, they are not kept either, which costs another fetch.
//
// fills_add and fills_post are for the fetcher's loop.
#ifndef QS_PROXY_FILL_H
#define QS_PROXY_FILL_H

#include <stdatomic.h>

#include "common/core/instance.h"

#define FILL_WAITING_MAX (32 * MIB)

struct fill_batch;

struct fills {
    struct instance *instance;
    struct fill_batch *open;        // collecting, NULL when empty
    _Atomic uint64_t waiting_bytes;
};

void fills_open(struct fills *fills, struct instance *instance);
void fills_close(struct fills *fills); // the applier has ended

// A verified value for (key, version). Copies.
void fills_add(struct fills *fills, struct bytes key, const struct record *record);

// Hands over what was added.
void fills_post(struct fills *fills);

// Applier thread: puts the row into `batch`, stamped with `period`, if the key's current row is the
// stub of `record`'s version. OK, or ERR_NOT_FOUND when it is not (any more), or the store's error.
int fill_row(struct instance *instance, struct store_batch *batch, struct bytes key,
             const struct record *record, uint16_t period) MUST_CHECK;

#endif
