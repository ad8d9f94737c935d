// SPDX-License-Identifier: Apache-2.0
// How a replica writes a record, in the default family and as the value of a history row alike:
//   version varint · check u32 · value
// The check is record_check(version, value): a record that rotted, or that stands under the wrong
// version, is an error and never a wrong value. Pure; any thread.
#ifndef QS_REPLICA_RECORD_H
#define QS_REPLICA_RECORD_H

#include "common/base/varint.h"
#include "common/core/record.h"

#define REPLICA_RECORD_HEAD_MAX (VARINT_BYTES_MAX + 4)

// Writes what stands before the value; returns its size.
size_t replica_record_head(uint8_t to[REPLICA_RECORD_HEAD_MAX], uint64_t version,
                           struct bytes value);

// Decodes in place and compares the check. ERR_CORRUPT.
int replica_record_decode(struct bytes row, struct record *ret_record);

// The version alone, without looking at the value. ERR_CORRUPT.
int replica_record_version(struct bytes row, uint64_t *ret_version) MUST_CHECK;

#endif
