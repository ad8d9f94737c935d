// SPDX-License-Identifier: Apache-2.0
// Sizes that formats depend on. What a user may set is in common/tables/options.h.
#ifndef QS_COMMON_DATA_LIMITS_H
#define QS_COMMON_DATA_LIMITS_H

#include "common/base/base.h"

#define KEY_BYTES_MAX 1024
#define VALUE_BYTES_MAX (16 * MIB)
#define BATCH_ENTRIES_MAX 10000u
#define BATCH_BYTES_MAX (32 * MIB)
#define INSTANCE_NAME_MAX 40
#define NODE_NAME_MAX 64
// A block holds at most one batch beyond its ordinary size; msgpack adds at most 32 bytes an entry.
#define BLOCK_RAW_MAX (BATCH_BYTES_MAX + BATCH_ENTRIES_MAX * 48 + MIB)

#endif
