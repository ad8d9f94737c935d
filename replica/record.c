// SPDX-License-Identifier: Apache-2.0
#include "replica/record.h"

#include "common/base/error.h"
#include "common/data/limits.h"

size_t replica_record_head(uint8_t to[REPLICA_RECORD_HEAD_MAX], uint64_t version,
                           struct bytes value)
{
    CHECK(version > 0 && value.size <= VALUE_BYTES_MAX);
    size_t size = varint_encode(to, version);
    store_u32(to + size, record_check(version, value));
    return size + 4;
}

// Where the check begins, 0 when the row is malformed.
static size_t decode_version(struct bytes row, uint64_t *ret_version)
{
    uint64_t version;
    size_t used = varint_decode(row, &version);
    if (used == 0 || version == 0 || row.size - used < 4 || row.size - used - 4 > VALUE_BYTES_MAX) {
        return 0;
    }
    *ret_version = version;
    return used;
}

int replica_record_version(struct bytes row, uint64_t *ret_version)
{
    return decode_version(row, ret_version) == 0 ? ERR_CORRUPT : OK;
}

int replica_record_decode(struct bytes row, struct record *ret_record)
{
    uint64_t version;
    size_t used = decode_version(row, &version);
    if (used == 0) {
        return ERR_CORRUPT;
    }
    uint32_t check = load_u32(row.data + used);
    struct bytes value = bytes_of(row.data + used + 4, row.size - used - 4);
    if (record_check(version, value) != check) {
        return ERR_CORRUPT;
    }
    *ret_record = (struct record){.version = version,
                                  .length = (uint32_t)value.size,
                                  .check = check,
                                  .held = true,
                                  .value = value};
    return OK;
}
