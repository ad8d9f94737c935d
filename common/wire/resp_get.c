// SPDX-License-Identifier: Apache-2.0
// A GET in the one form in which clients' libraries send it; the parser reads all others.
#include "common/wire/resp.h"

#define HEAD "*2\r\n$3\r\n"
#define HEAD_BYTES (sizeof HEAD - 1)
#define NAME_BYTES 3
#define DIGITS_AT (HEAD_BYTES + NAME_BYTES + 3) // behind "GET\r\n$"
#define DIGITS_MAX 4
#define LEAST_BYTES (DIGITS_AT + 1 + 2 + 1 + 2)

static bool is_name(const uint8_t *at)
{
    return (at[0] & 0xdf) == 'G' && (at[1] & 0xdf) == 'E' && (at[2] & 0xdf) == 'T';
}

size_t resp_get(struct bytes data, struct bytes *ret_key)
{
    const uint8_t *name = data.data + HEAD_BYTES;
    if (data.size < LEAST_BYTES || memcmp(data.data, HEAD, HEAD_BYTES) != 0 || !is_name(name) ||
        memcmp(name + NAME_BYTES, "\r\n$", 3) != 0 || data.data[DIGITS_AT] == '0') {
        return 0;
    }
    size_t at = DIGITS_AT;
    size_t size = 0;
    while (at < DIGITS_AT + DIGITS_MAX && data.data[at] >= '0' && data.data[at] <= '9') {
        size = size * 10 + (data.data[at++] - (unsigned)'0');
    }
    if (size == 0 || size > RESP_GET_KEY_MAX || data.size - at < size + 4 ||
        memcmp(data.data + at, "\r\n", 2) != 0 ||
        memcmp(data.data + at + 2 + size, "\r\n", 2) != 0) {
        return 0;
    }
    *ret_key = bytes_of(data.data + at + 2, size);
    return at + size + 4;
}
