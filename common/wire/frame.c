// SPDX-License-Identifier: Apache-2.0
#include "common/wire/frame.h"

#include "common/base/hash.h"

#define CHECKED_HEAD_BYTES 8

static uint16_t frame_mark(uint32_t length, uint16_t code)
{
    return (uint16_t)(FRAME_MAGIC ^ code ^ length ^ length >> 16);
}

static uint64_t frame_checksum(const uint8_t *head, struct bytes payload)
{
    return hash64(payload, load_u64(head));
}

ssize_t frame_decode(struct bytes data, size_t payload_max, struct frame *ret_frame)
{
    if (data.size < CHECKED_HEAD_BYTES) {
        return 0;
    }
    uint32_t length = load_u32(data.data);
    uint16_t code = load_u16(data.data + 4);
    if (load_u16(data.data + 6) != frame_mark(length, code) || length > payload_max) {
        return ERR_PROTOCOL;
    }
    if (data.size < FRAME_HEAD_BYTES || data.size - FRAME_HEAD_BYTES < length) {
        return 0;
    }
    struct bytes payload = bytes_of(data.data + FRAME_HEAD_BYTES, length);
    if (load_u64(data.data + CHECKED_HEAD_BYTES) != frame_checksum(data.data, payload)) {
        return ERR_CHECKSUM;
    }
    *ret_frame = (struct frame){.code = code, .payload = payload};
    return (ssize_t)(FRAME_HEAD_BYTES + length);
}

size_t frame_begin(struct buf *to, uint16_t code)
{
    size_t mark = to->size;
    uint8_t *head = buf_reserve(to, FRAME_HEAD_BYTES);
    if (head != NULL) {
        memset(head, 0, FRAME_HEAD_BYTES);
        store_u16(head + 4, code);
        buf_commit(to, FRAME_HEAD_BYTES);
    }
    return mark;
}

void frame_end(struct buf *to, size_t mark)
{
    if (to->error != OK) {
        to->size = mark; // half a frame must never leave
        return;
    }
    CHECK(to->size - mark >= FRAME_HEAD_BYTES);
    size_t length = to->size - mark - FRAME_HEAD_BYTES;
    CHECK(length <= FRAME_PAYLOAD_MAX);
    uint8_t *head = to->data + mark;
    store_u32(head, (uint32_t)length);
    store_u16(head + 6, frame_mark((uint32_t)length, load_u16(head + 4)));
    struct bytes payload = bytes_of(head + FRAME_HEAD_BYTES, length);
    store_u64(head + CHECKED_HEAD_BYTES, frame_checksum(head, payload));
}
