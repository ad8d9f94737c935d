// SPDX-License-Identifier: Apache-2.0
// A replica's reads as of an earlier index: the role's `past` and `past_rows`. What is not found
// is an absence only if the newest floor, looked at after the reading, still reaches back that far.
#ifndef QS_REPLICA_PAST_H
#define QS_REPLICA_PAST_H

#include "common/core/read.h"
#include "replica/mvcc.h"

void past_read(struct instance *instance, struct read *read);
int past_rows(struct instance *instance, const struct view *view, uint64_t at,
              const struct role_range *range, role_row *row, void *argument) MUST_CHECK;

// OK, or ERR_GONE when rows of the view's store as of `at` may have been collected by now. Any
// thread; after reading.
int past_error(const struct instance *instance, const struct view *view, uint64_t at) MUST_CHECK;

#endif
