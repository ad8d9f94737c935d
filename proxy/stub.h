// SPDX-License-Identifier: Apache-2.0
// A proxy's row, one for every key of the database, with or without its value:
//   flags u8 (1 = held) · version varint · length varint · check u32 · period u16 · [value]
// Version, length and check are there always: presence, STRLEN, reply limits and the verification
// of a fetched value need no replica. `period` is the access period (proxy/recency.h)
// in which the row was last written, and lies just before the value, so that it can be renewed in
// place. Typically 12 bytes without the value. Pure; any thread.
#ifndef QS_PROXY_STUB_H
#define QS_PROXY_STUB_H

#include "common/base/varint.h"
#include "common/core/record.h"

#define STUB_HEAD_MAX (1 + 2 * VARINT_BYTES_MAX + 4 + 2)

// Writes what stands before the value (record->held says whether one follows); returns its size.
size_t stub_head(uint8_t to[STUB_HEAD_MAX], const struct record *record, uint16_t period);

struct stub {
    struct record record;
    uint16_t period;
    size_t head_bytes; // before the value
};

// Takes a row apart, without looking at the value. ERR_CORRUPT.
int stub_parse(struct bytes row, struct stub *ret_stub);

// Decodes in place; a held value is compared with its check. ERR_CORRUPT.
int stub_decode(struct bytes row, struct record *ret_record);

#endif
