// SPDX-License-Identifier: Apache-2.0
// Building blocks, at the root, and the hashes that building and checking share. A builder belongs
// to one thread, the sequencer's; a built block goes anywhere.
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/msgpack.h"
#include "common/data/block.h"
#include "common/data/block_private.h"

// Below this size compression costs more than it brings.
#define COMPRESS_FROM_BYTES 256
#define ENTRY_HEAD_BYTES (8 + 1 + 8 + 4)
// Entries up to this size are gathered and hashed in one go.
#define ENTRY_GATHER_BYTES 4096

struct hash128 entry_hash(struct hasher *scratch, const struct entry *entry)
{
    uint8_t data[ENTRY_GATHER_BYTES];
    CHECK(entry->key.size <= KEY_BYTES_MAX && entry->value.size <= VALUE_BYTES_MAX);
    store_u64(data, entry->index);
    data[8] = (uint8_t)entry->op;
    store_u64(data + 9, entry->replaced);
    store_u32(data + 17, (uint32_t)entry->key.size);
    memcpy(data + ENTRY_HEAD_BYTES, entry->key.data, entry->key.size);
    size_t used = ENTRY_HEAD_BYTES + entry->key.size;
    store_u32(data + used, (uint32_t)entry->value.size);
    used += 4;
    if (entry->value.size == 0) {
        return hash128(bytes_of(data, used), 0);
    }
    if (entry->value.size <= sizeof data - used) {
        memcpy(data + used, entry->value.data, entry->value.size);
        return hash128(bytes_of(data, used + entry->value.size), 0);
    }
    hasher_reset(scratch);
    hasher_add(scratch, data, used);
    hasher_add(scratch, entry->value.data, entry->value.size);
    return hasher_result(scratch);
}

void chain_start(struct hasher *hasher, struct hash128 previous, const struct block_header *header)
{
    uint8_t data[HASH128_BYTES + HISTORY_ID_BYTES + 8 + 8 + 4];
    hash128_store(data, previous);
    memcpy(data + 16, header->history, HISTORY_ID_BYTES);
    store_u64(data + 32, header->epoch);
    store_u64(data + 40, header->first_index);
    store_u32(data + 48, header->batches);
    hasher_reset(hasher);
    hasher_add(hasher, data, sizeof data);
}

void chain_entry(struct hasher *hasher, struct hash128 entry)
{
    uint8_t data[HASH128_BYTES];
    hash128_store(data, entry);
    hasher_add(hasher, data, sizeof data);
}

void builder_open(struct block_builder *builder)
{
    *builder = (struct block_builder){.first_index = 1, .hasher = hasher_new()};
}

void builder_close(struct block_builder *builder)
{
    buf_free(&builder->batches);
    buf_free(&builder->entries);
    buf_free(&builder->entry_hashes);
    hasher_free(builder->hasher);
    *builder = (struct block_builder){0};
}

void builder_reset(struct block_builder *builder, uint64_t first_index)
{
    CHECK(first_index > 0);
    buf_clear(&builder->batches);
    buf_clear(&builder->entries);
    buf_clear(&builder->entry_hashes);
    builder->first_index = first_index;
    builder->batch_count = 0;
    builder->entry_count = 0;
    builder->open_entries = 0;
}

void builder_batch(struct block_builder *builder)
{
    CHECK(builder->open_entries == 0);
    buf_clear(&builder->entries);
}

void builder_entry(struct block_builder *builder, enum entry_op op, struct bytes key,
                   struct bytes value, uint64_t replaced)
{
    struct entry entry = {.index = builder->first_index + builder->batch_count,
                          .op = op,
                          .key = key,
                          .value = value,
                          .replaced = replaced};
    CHECK(op == ENTRY_PUT || (op == ENTRY_DELETE && value.size == 0 && replaced != 0));
    CHECK(key.size >= 1 && key.size <= KEY_BYTES_MAX && value.size <= VALUE_BYTES_MAX);
    CHECK(replaced < entry.index && builder->open_entries < BATCH_ENTRIES_MAX);
    pack_array(&builder->entries, 4);
    pack_uint(&builder->entries, op);
    pack_bin(&builder->entries, key);
    if (op == ENTRY_DELETE) {
        pack_nil(&builder->entries);
    } else {
        pack_bin(&builder->entries, value);
    }
    pack_uint(&builder->entries, replaced);
    uint8_t hash[HASH128_BYTES];
    hash128_store(hash, entry_hash(builder->hasher, &entry));
    buf_append(&builder->entry_hashes, hash, sizeof hash);
    builder->open_entries++;
}

void builder_batch_end(struct block_builder *builder)
{
    CHECK(builder->open_entries > 0);
    pack_array(&builder->batches, builder->open_entries);
    buf_append_bytes(&builder->batches, buf_bytes(&builder->entries));
    buf_clear(&builder->entries);
    builder->batch_count++;
    builder->entry_count += builder->open_entries;
    builder->open_entries = 0;
}

size_t builder_size(const struct block_builder *builder)
{
    size_t array_head = 5; // of the batches, at most
    return array_head + builder->batches.size + builder->entries.size;
}

// Tries to replace the payload behind the header by a smaller one. Worth it from one sixteenth on.
static struct bytes seal_payload(struct block_header *header, uint8_t *payload, struct bytes raw)
{
    size_t room = raw.size - raw.size / 16;
    size_t packed = raw.size < COMPRESS_FROM_BYTES ? 0 : block_compress(payload, room, raw);
    if (packed == 0) {
        memcpy(payload, raw.data, raw.size);
        return bytes_of(payload, raw.size);
    }
    header->flags |= BLOCK_ZSTD;
    return bytes_of(payload, packed);
}

// Makes the block of a header that lacks only what follows from the payload. Takes `raw`.
static struct block *seal(struct block_header header, struct buf *raw)
{
    CHECK(raw->error == OK && raw->size > 0 && raw->size <= BLOCK_RAW_MAX);
    uint8_t *stored = mem_alloc(BLOCK_HEADER_BYTES + raw->size);
    struct bytes payload = seal_payload(&header, stored + BLOCK_HEADER_BYTES, buf_bytes(raw));
    bool packed = (header.flags & BLOCK_ZSTD) != 0;
    header.raw_length = (uint32_t)raw->size;
    header.payload_length = (uint32_t)payload.size;
    header.payload_check = hash128(payload, 0);
    block_header_encode(&header, stored);
    struct block *block = mem_alloc(sizeof *block);
    atomic_init(&block->references, 1);
    block->header = header;
    size_t size = BLOCK_HEADER_BYTES + payload.size;
    if (packed) {
        stored = mem_realloc(stored, size);
        block->raw = buf_bytes(raw);
        *raw = (struct buf){0};
    } else {
        block->raw = bytes_of(stored + BLOCK_HEADER_BYTES, payload.size);
        buf_free(raw);
    }
    block->stored = bytes_of(stored, size);
    block->received_ns = clock_mono_ns();
    return block;
}

static struct block_header header_after(const struct block_header *previous,
                                        struct block_stamp stamp)
{
    CHECK(stamp.epoch >= previous->epoch);
    struct block_header header = {
        .epoch = stamp.epoch,
        .first_index = block_end(previous) + 1,
        .number = previous->number + 1,
        .commit_index = stamp.commit_index,
        .root_ms = stamp.root_ms,
    };
    memcpy(header.history, previous->history, HISTORY_ID_BYTES);
    return header;
}

struct block *builder_finish(struct block_builder *builder, const struct block_header *previous,
                             struct block_stamp stamp)
{
    struct block_header header = header_after(previous, stamp);
    CHECK(builder->batch_count > 0 && builder->open_entries == 0);
    CHECK(builder->first_index == header.first_index);
    header.batches = builder->batch_count;
    header.entries = builder->entry_count;
    CHECK(stamp.commit_index <= block_end(&header));
    chain_start(builder->hasher, previous->chain, &header);
    hasher_add(builder->hasher, builder->entry_hashes.data, builder->entry_hashes.size);
    header.chain = hasher_result(builder->hasher);
    struct buf raw = {0};
    pack_array(&raw, builder->batch_count);
    buf_append_bytes(&raw, buf_bytes(&builder->batches));
    return seal(header, &raw);
}

struct block *block_mark(const struct block_header *previous, struct block_stamp stamp,
                         struct bytes payload)
{
    struct block_header header = header_after(previous, stamp);
    CHECK(stamp.commit_index <= block_end(&header));
    header.flags = BLOCK_NO_BATCHES;
    struct hasher *hasher = hasher_new();
    chain_start(hasher, previous->chain, &header);
    hasher_add(hasher, payload.data, payload.size);
    header.chain = hasher_result(hasher);
    hasher_free(hasher);
    struct buf raw = {0};
    buf_append_bytes(&raw, payload);
    return seal(header, &raw);
}

void birth_encode(struct buf *to, struct bytes ancestor, struct bytes node,
                  const struct block_header *from)
{
    CHECK(ancestor.size == 0 || ancestor.size == HISTORY_ID_BYTES);
    CHECK(from == NULL || ancestor.size > 0);
    pack_array(to, from == NULL ? 3 : 5);
    pack_uint(to, MARK_BIRTH);
    if (ancestor.size == 0) {
        pack_nil(to);
    } else {
        pack_bin(to, ancestor);
    }
    pack_str(to, node);
    if (from != NULL) {
        uint8_t chain[HASH128_BYTES];
        hash128_store(chain, from->chain);
        pack_uint(to, from->number);
        pack_bin(to, bytes_of(chain, sizeof chain));
    }
}

void epoch_encode(struct buf *to, struct bytes node)
{
    pack_array(to, 2);
    pack_uint(to, MARK_EPOCH);
    pack_str(to, node);
}
