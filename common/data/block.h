// SPDX-License-Identifier: Apache-2.0
// The block: unit of the journal, of the wire and of applying. A 128-byte header and a payload,
// encoded once at the root and carried unchanged everywhere. docs/journal.md has the layout.
//
// Whatever comes from a disk or a peer goes through block_header_decode and block_decode, which
// trust no length before its checksum. A decoded block is immutable and shared by reference
// count; any thread may read it.
#ifndef QS_COMMON_DATA_BLOCK_H
#define QS_COMMON_DATA_BLOCK_H

#include <stdatomic.h>

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/hash.h"
#include "common/data/limits.h"

#define BLOCK_HEADER_BYTES 128
#define BLOCK_MAGIC 0x4b425351u // "QSBK"
#define BLOCK_VERSION 1
#define HISTORY_ID_BYTES 16

enum block_flag {
    BLOCK_ZSTD = 1,       // the stored payload is one zstd frame of raw_length bytes
    BLOCK_NO_BATCHES = 2, // an epoch, birth or roots block: takes no index
};

// In host order; offsets on disk in brackets.
struct block_header {
    uint16_t flags;                   // [6]
    uint8_t history[HISTORY_ID_BYTES]; // [16]
    uint64_t epoch;                   // [32]
    uint64_t first_index;             // [40]
    uint32_t batches;                 // [48]
    uint32_t entries;                 // [52]
    uint32_t payload_length;          // [56] stored bytes that follow
    uint32_t raw_length;              // [60] after decompression
    uint64_t number;                  // [64] dense per history, from 1 or the fork's place on
    uint64_t commit_index;            // [72]
    uint64_t root_ms;                 // [80]
    struct hash128 chain;             // [88] after this block
    struct hash128 payload_check;     // [104] of the stored payload
};

// The index at the end of the block (for one without batches: of the block before it).
static inline uint64_t block_end(const struct block_header *header)
{
    return header->first_index + header->batches - 1;
}

void block_header_encode(const struct block_header *header, uint8_t to[BLOCK_HEADER_BYTES]);

// ERR_CHECKSUM: magic, version or header checksum do not fit. ERR_PROTOCOL: a sound checksum over
// impossible fields (lengths beyond limits.h, counts that disagree).
int block_header_decode(struct block_header *ret_header,
                        const uint8_t from[BLOCK_HEADER_BYTES]) MUST_CHECK;

// The header before block 1 of a history: number 0, index 0, chain = XXH3-128(history). Segment
// files begin with a copy of the previous block's header; the first one with this.
void block_genesis(struct block_header *ret_header, const uint8_t history[HISTORY_ID_BYTES]);

struct block {
    _Atomic unsigned references;
    struct block_header header;
    struct bytes stored;  // header and payload as on disk and on the wire; owned
    struct bytes raw;     // decompressed payload; points into `stored` or is owned
    uint64_t received_ns; // monotonic, when it arrived or was made
};

// Decodes and checks `stored` (a header and exactly payload_length bytes): header and payload
// checksums, decompression, and that the payload parses to exactly the counted batches and
// entries with keys and values within limits. On success owns a copy, or, with `take` set, the
// memory itself (from mem_alloc). ERR_CHECKSUM, ERR_PROTOCOL; nothing is taken on failure.
int block_decode(struct block **ret_block, struct bytes stored, bool take) MUST_CHECK;

struct block *block_hold(struct block *block);
void block_release(struct block *block); // NULL is allowed

// Does `block` follow `previous`: same history, number + 1, epoch not lower, first index = end + 1,
// and the chain recomputed over its entries. OK, ERR_DIVERGED (another history), ERR_PROTOCOL (a
// gap or repeat), ERR_CHECKSUM (the chain).
int block_follows(const struct block_header *previous, const struct block *block) MUST_CHECK;

// Walking a block's entries in order.
enum entry_op { ENTRY_PUT = 1, ENTRY_DELETE = 2 };

struct entry {
    uint64_t index; // of its batch: the version it creates
    enum entry_op op;
    struct bytes key;
    struct bytes value;    // empty for a delete
    uint64_t replaced;     // version just before this batch, 0 = the key was absent
    bool last_in_batch;
};

struct block_walk {
    struct bytes rest;
    uint64_t index;
    uint32_t batches_left;
    uint32_t entries_left; // in the batch being walked
};

void block_walk_start(struct block_walk *walk, const struct block *block);
// False at the end. The bytes live as long as the block. `block` was decoded, so it cannot fail.
bool block_walk_next(struct block_walk *walk, struct entry *ret_entry);

// Building, at the root. One builder is reused for all blocks.
struct block_builder {
    struct buf batches;    // encoded batches
    struct buf entries;    // entries of the open batch
    uint64_t first_index;
    uint32_t batch_count;
    uint32_t entry_count;
    uint32_t open_entries; // in the open batch
    struct hasher *hasher;
    struct buf entry_hashes;
};

void builder_open(struct block_builder *builder);
void builder_close(struct block_builder *builder);
// Starts a block whose first batch takes `first_index`.
void builder_reset(struct block_builder *builder, uint64_t first_index);
void builder_batch(struct block_builder *builder); // opens a batch
void builder_entry(struct block_builder *builder, enum entry_op op, struct bytes key,
                   struct bytes value, uint64_t replaced);
void builder_batch_end(struct block_builder *builder); // must hold at least one entry
size_t builder_size(const struct block_builder *builder); // raw bytes so far

struct block_stamp {
    uint64_t epoch;
    uint64_t commit_index;
    uint64_t root_ms;
};

// Seals the block that follows `previous`. It must hold at least one batch.
struct block *builder_finish(struct block_builder *builder, const struct block_header *previous,
                             struct block_stamp stamp) MUST_CHECK;

// The batches of `block` once more, behind `previous` and of its history: the same indexes, entries
// and bytes. Its first index must be the one that comes there.
struct block *block_restamp(const struct block *block, const struct block_header *previous,
                            struct block_stamp stamp) MUST_CHECK;

// A block without batches: birth, epoch, roots. `payload` is msgpack: [kind, ...].
enum mark_kind { MARK_BIRTH = 1, MARK_EPOCH = 2, MARK_ROOTS = 3 };
struct block *block_mark(const struct block_header *previous, struct block_stamp stamp,
                         struct bytes payload) MUST_CHECK;

// The payload of a birth block: [MARK_BIRTH, ancestor history or nil, node name]; of one that goes
// on from a block of its ancestor, `from`, also that one's number and the chain there, on which the
// birth block's own is built.
void birth_encode(struct buf *to, struct bytes ancestor, struct bytes node,
                  const struct block_header *from);
// That of an epoch block: [MARK_EPOCH, name of the node that leads].
void epoch_encode(struct buf *to, struct bytes node);

#endif
