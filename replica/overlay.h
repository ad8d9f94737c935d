// SPDX-License-Identifier: Apache-2.0
// What a root has sequenced but does not show yet: the newest value of each key written by blocks
// above the published view. The sequencer looks here before it looks at the view. Writer thread.
#ifndef QS_REPLICA_OVERLAY_H
#define QS_REPLICA_OVERLAY_H

#include "common/base/bytes.h"
#include "common/base/list.h"

struct overlay_entry {
    struct list node; // in the order of indexes
    struct overlay_entry *next; // in its bucket
    uint64_t hash;
    uint64_t index;
    bool present; // false: deleted
    bool newest;  // no later entry for this key
    struct bytes key;
    struct bytes value;
};

struct overlay {
    struct list order;
    struct overlay_entry **buckets;
    size_t bucket_count; // a power of two
    size_t entry_count;
};

void overlay_open(struct overlay *overlay);
void overlay_close(struct overlay *overlay);

// Copies key and value. Indexes never fall.
void overlay_put(struct overlay *overlay, struct bytes key, struct bytes value, uint64_t index);
void overlay_delete(struct overlay *overlay, struct bytes key, uint64_t index);

// The newest entry of a key, NULL when there is none. Lives until forgotten.
const struct overlay_entry *overlay_find(const struct overlay *overlay, struct bytes key);

// Forgets what a view at `visible` shows.
void overlay_forget(struct overlay *overlay, uint64_t visible);
// Forgets everything from `index` on: those writes could not be journaled.
void overlay_revoke(struct overlay *overlay, uint64_t index);

#endif
