// SPDX-License-Identifier: Apache-2.0
// Numbers of 1 to 10 bytes, little end first, seven bits a byte, the top bit set on all but the
// last (LEB128): small numbers inside store rows stay small. Only the shortest form is accepted,
// so a number has one encoding. Pure; any thread.
#ifndef QS_COMMON_BASE_VARINT_H
#define QS_COMMON_BASE_VARINT_H

#include "common/base/bytes.h"

#define VARINT_BYTES_MAX 10

// Writes `number` to `to`, which has room for VARINT_BYTES_MAX bytes; returns the bytes written.
static inline size_t varint_encode(uint8_t *to, uint64_t number)
{
    size_t size = 0;
    while (number >= 0x80) {
        to[size++] = (uint8_t)(number | 0x80);
        number >>= 7;
    }
    to[size++] = (uint8_t)number;
    return size;
}

// Reads a number from the start of `from`; returns the bytes used, 0 when it is cut short, needs
// more than 64 bits or is not in its shortest form.
static inline size_t varint_decode(struct bytes from, uint64_t *ret_number)
{
    uint64_t number = 0;
    size_t limit = from.size < VARINT_BYTES_MAX ? from.size : VARINT_BYTES_MAX;
    for (size_t i = 0; i < limit; i++) {
        uint8_t byte = from.data[i];
        if (i == VARINT_BYTES_MAX - 1 && byte > 1) {
            return 0;
        }
        number |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            if (byte == 0 && i > 0) {
                return 0;
            }
            *ret_number = number;
            return i + 1;
        }
    }
    return 0;
}

#endif
