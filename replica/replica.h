// SPDX-License-Identifier: Apache-2.0
// The replica's role: every key with its value in the default family, replaced versions in the
// mvcc family (replica/mvcc.h). The root is a replica too.
//
// Applying a block reads only what an entry replaces, and the log says what that must be: another
// version in the store is a divergence, and applying stops there. An entry that replaces nothing
// reads nothing: the key's absence is the log's word, which the running digest covers.
#ifndef QS_REPLICA_REPLICA_H
#define QS_REPLICA_REPLICA_H

#include "common/core/role.h"

// Its `open` makes instance->role_state. Immutable.
const struct role *replica_role(void) MUST_CHECK;

#endif
