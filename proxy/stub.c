// SPDX-License-Identifier: Apache-2.0
#include "proxy/stub.h"

#include "common/base/error.h"
#include "common/data/limits.h"

#define FLAG_HELD 1

size_t stub_head(uint8_t to[STUB_HEAD_MAX], const struct record *record, uint16_t period)
{
    CHECK(record->version > 0 && record->length <= VALUE_BYTES_MAX);
    to[0] = record->held ? FLAG_HELD : 0;
    size_t size = 1;
    size += varint_encode(to + size, record->version);
    size += varint_encode(to + size, record->length);
    store_u32(to + size, record->check);
    store_u16(to + size + 4, period);
    return size + 6;
}

int stub_parse(struct bytes row, struct stub *ret_stub)
{
    if (row.size == 0 || (row.data[0] & ~FLAG_HELD) != 0) {
        return ERR_CORRUPT;
    }
    struct bytes rest = bytes_of(row.data + 1, row.size - 1);
    uint64_t version, length;
    size_t used = varint_decode(rest, &version);
    rest = bytes_of(rest.data + used, rest.size - used);
    size_t used_too = used == 0 ? 0 : varint_decode(rest, &length);
    if (used_too == 0 || version == 0 || length > VALUE_BYTES_MAX || rest.size - used_too < 6) {
        return ERR_CORRUPT;
    }
    bool held = row.data[0] == FLAG_HELD;
    size_t head_bytes = 1 + used + used_too + 6;
    struct bytes value = bytes_of(row.data + head_bytes, row.size - head_bytes);
    if (value.size != (held ? length : 0)) {
        return ERR_CORRUPT;
    }
    *ret_stub = (struct stub){
        .record = {.version = version,
                   .length = (uint32_t)length,
                   .check = load_u32(rest.data + used_too),
                   .held = held,
                   .value = value},
        .period = load_u16(rest.data + used_too + 4),
        .head_bytes = head_bytes,
    };
    return OK;
}

int stub_decode(struct bytes row, struct record *ret_record)
{
    struct stub stub;
    int error = stub_parse(row, &stub);
    if (error != OK) {
        return error;
    }
    const struct record *record = &stub.record;
    if (record->held && record_check(record->version, record->value) != record->check) {
        return ERR_CORRUPT;
    }
    *ret_record = *record;
    return OK;
}
