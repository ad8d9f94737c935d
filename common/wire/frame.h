// SPDX-License-Identifier: Apache-2.0
// Frames between peers: a 16-byte head and a msgpack payload.
//   0 payload length u32 · 4 message code u16 · 6 mark u16 · 8 checksum u64
// The checksum is XXH3-64 over the payload, seeded with the head's first eight bytes: a flipped bit
// anywhere in a frame is found before anything in it is believed. The mark is the magic number
// mixed (xor) with the code and both halves of the length: a damaged length is refused at once
// and never waited for. Pure functions.
#ifndef QS_COMMON_WIRE_FRAME_H
#define QS_COMMON_WIRE_FRAME_H

#include "common/base/buf.h"

#define FRAME_HEAD_BYTES 16
#define FRAME_MAGIC 0x5351u // "QS"
#define FRAME_PAYLOAD_MAX (40 * MIB)

struct frame {
    uint16_t code;
    struct bytes payload; // points into the data given
};

// Returns bytes used by a whole frame, 0 when more is needed, ERR_CHECKSUM or ERR_PROTOCOL. Before
// the first whole frame was accepted from a peer `payload_max` should be small.
ssize_t frame_decode(struct bytes data, size_t payload_max, struct frame *ret_frame) MUST_CHECK;

// Appending a frame: begin, append the payload to the buffer, end.
size_t frame_begin(struct buf *to, uint16_t code); // returns a mark for frame_end
void frame_end(struct buf *to, size_t mark);

#endif
