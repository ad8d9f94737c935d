// SPDX-License-Identifier: Apache-2.0
// All keys in order as they were at an earlier index: both families of a replica merged, since the
// keys of history rows keep the order of user keys. One thread each, may block on the disk.
#ifndef QS_REPLICA_MVCC_WALK_H
#define QS_REPLICA_MVCC_WALK_H

#include "common/core/role.h"
#include "replica/mvcc.h"

// Hands every key of `range` that has a row in either family to `row` as it was at t, which lies
// between the history floor and the snapshot's index: also the keys that were absent there, so
// that the caller can stop a long walk. Keys, values: until `row` returns. The caller compares t
// with the newest floor afterwards. ERR_CORRUPT, ERR_IO.
int mvcc_walk(struct store *store, const struct store_snapshot *snapshot, uint64_t t,
              const struct role_range *range, role_row *row, void *argument) MUST_CHECK;

#endif
