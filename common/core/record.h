// SPDX-License-Identifier: Apache-2.0
// What a store row says about a key, whatever the role that wrote it. Decoded by the role
// (common/core/role.h), in place: `value` points into the row.
#ifndef QS_COMMON_CORE_RECORD_H
#define QS_COMMON_CORE_RECORD_H

#include "common/base/hash.h"

struct record {
    uint64_t version;
    uint32_t length;   // of the value, held or not
    uint32_t check;    // record_check of the value
    bool held;         // the value is in the row
    struct bytes value;
};

// Low 32 bits of XXH3-64(value, seed = version): detects a value that rotted, or that belongs to
// another version. Computed from the log's bytes, compared at every read and fetch.
static inline uint32_t record_check(uint64_t version, struct bytes value)
{
    return (uint32_t)hash64(value, version);
}

#endif
