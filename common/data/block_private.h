// SPDX-License-Identifier: Apache-2.0
// What decoding (block.c) and building (block_build.c) share: the hash of an entry, the chain, and
// compression. Nobody else includes this.
#ifndef QS_COMMON_DATA_BLOCK_PRIVATE_H
#define QS_COMMON_DATA_BLOCK_PRIVATE_H

#include "common/data/block.h"

// XXH3-128(index u64, op u8, replaced u64, key length u32, key, value length u32, value).
struct hash128 entry_hash(struct hasher *scratch, const struct entry *entry);

// Starts the chain of the block with `header` that comes after `previous`; what is then added is
// its entry hashes in order or, for a block without batches, its raw payload.
void chain_start(struct hasher *hasher, struct hash128 previous, const struct block_header *header);
void chain_entry(struct hasher *hasher, struct hash128 entry);

// The head of an entry: its value's place in the payload is next. False when the bytes are not an
// entry within limits; `index` is set by the caller.
struct unpacker;
bool entry_read(struct unpacker *from, struct entry *ret_entry);

// Compresses into `to`, which has room for `room` bytes. 0 = does not fit or did not work out: the
// caller stores the bytes as they are. Any thread: contexts belong to threads.
size_t block_compress(uint8_t *to, size_t room, struct bytes raw);

// Decompresses one frame that must yield exactly `raw_size` bytes. ERR_PROTOCOL.
int block_decompress(uint8_t *to, size_t raw_size, struct bytes frame) MUST_CHECK;

#endif
