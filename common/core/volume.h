// SPDX-License-Identifier: Apache-2.0
// A volume: a store with its directory, held by every view made from it and by whoever works on it
// in the background. When an instance changes to another store, the one before lives on until the
// last view of it is released; the applier, which waits for that, then removes it.
//
// Hold and release are for any thread; the rest is the applier's, or opening's and closing's.
#ifndef QS_COMMON_CORE_VOLUME_H
#define QS_COMMON_CORE_VOLUME_H

#include <stdatomic.h>

#include "common/base/list.h"
#include "common/data/store.h"

struct volume {
    _Atomic unsigned references; // of views and workers; the owner's own is not counted
    struct store *store;
    char *directory;
    struct list node;   // in the owner's list of retired ones
    bool kept;          // what is on disk stays when it is closed
    uint64_t again_ns;  // it could not be closed: when to try next
};

// Opens the store in options->directory. Errors as store_open's.
int volume_open(struct volume **ret_volume, const struct store_options *options) MUST_CHECK;
// Nobody may hold it. False: the store had to stay open (store_close), and so does the volume.
bool volume_close(struct volume *volume) MUST_CHECK;

// Closes those of a list of retired ones that nobody holds any more, and removes their directories,
// best effort: what is left is removed at the next start. One that has to stay open is tried again
// after a pause; `last` tries all. True: none is left.
bool volumes_sweep(struct list *retired, bool last);

struct volume *volume_hold(struct volume *volume);
void volume_release(struct volume *volume); // NULL is allowed
bool volume_held(const struct volume *volume);

#endif
