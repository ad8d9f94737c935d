// SPDX-License-Identifier: Apache-2.0
// Which of the stores in an instance's directory is the one in use, and which one, if any, is under
// construction: the file STORES. A store is a directory `store` or `store-<number>`, and it cannot
// be renamed while it is open; so changing to another one is one synced change of this file. Any
// other store found in the directory is a leftover and is removed.
//
// Opening, then the applier's thread.
#ifndef QS_COMMON_CORE_SHELF_H
#define QS_COMMON_CORE_SHELF_H

#include "common/base/error.h"

struct shelf {
    const char *directory; // the instance's, borrowed
    const char *scope;
    uint64_t serving;      // 0 is `store`
    uint64_t building;     // 0 = none
};

// Reads the file and removes leftovers. Without one the only store that there is is in use, which
// may be none yet. ERR_CORRUPT, also without a file beside several stores; ERR_IO: logged.
int shelf_open(struct shelf *shelf, const char *directory, const char *scope) MUST_CHECK;
// Makes `serving` and `building` the truth, durably. After a failure, which is logged, the shelf
// here says what it said before, while the disk may hold either: so what both may name must stay,
// and the same call may be made again.
int shelf_set(struct shelf *shelf, uint64_t serving, uint64_t building) MUST_CHECK;
// The directory of a store; to be freed.
char *shelf_path(const struct shelf *shelf, uint64_t number) MUST_CHECK;

#endif
