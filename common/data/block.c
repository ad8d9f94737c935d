// SPDX-License-Identifier: Apache-2.0
#include "common/data/block.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/msgpack.h"
#include "common/data/block_private.h"

enum offset {
    AT_MAGIC = 0,
    AT_VERSION = 4,
    AT_FLAGS = 6,
    AT_CHECK = 8,
    AT_HISTORY = 16,
    AT_EPOCH = 32,
    AT_FIRST_INDEX = 40,
    AT_BATCHES = 48,
    AT_ENTRIES = 52,
    AT_PAYLOAD_LENGTH = 56,
    AT_RAW_LENGTH = 60,
    AT_NUMBER = 64,
    AT_COMMIT_INDEX = 72,
    AT_ROOT_MS = 80,
    AT_CHAIN = 88,
    AT_PAYLOAD_CHECK = 104,
    AT_RESERVED = 120,
};

#define FLAGS_KNOWN (BLOCK_ZSTD | BLOCK_NO_BATCHES)

static uint64_t header_check(const uint8_t from[BLOCK_HEADER_BYTES])
{
    uint8_t copy[BLOCK_HEADER_BYTES];
    memcpy(copy, from, sizeof copy);
    store_u64(copy + AT_CHECK, 0);
    return hash64(bytes_of(copy, sizeof copy), 0);
}

void block_header_encode(const struct block_header *header, uint8_t to[BLOCK_HEADER_BYTES])
{
    memset(to, 0, BLOCK_HEADER_BYTES);
    store_u32(to + AT_MAGIC, BLOCK_MAGIC);
    store_u16(to + AT_VERSION, BLOCK_VERSION);
    store_u16(to + AT_FLAGS, header->flags);
    memcpy(to + AT_HISTORY, header->history, HISTORY_ID_BYTES);
    store_u64(to + AT_EPOCH, header->epoch);
    store_u64(to + AT_FIRST_INDEX, header->first_index);
    store_u32(to + AT_BATCHES, header->batches);
    store_u32(to + AT_ENTRIES, header->entries);
    store_u32(to + AT_PAYLOAD_LENGTH, header->payload_length);
    store_u32(to + AT_RAW_LENGTH, header->raw_length);
    store_u64(to + AT_NUMBER, header->number);
    store_u64(to + AT_COMMIT_INDEX, header->commit_index);
    store_u64(to + AT_ROOT_MS, header->root_ms);
    hash128_store(to + AT_CHAIN, header->chain);
    hash128_store(to + AT_PAYLOAD_CHECK, header->payload_check);
    store_u64(to + AT_CHECK, header_check(to));
}

void block_genesis(struct block_header *ret_header, const uint8_t history[HISTORY_ID_BYTES])
{
    struct block_header header = {.flags = BLOCK_NO_BATCHES, .first_index = 1};
    memcpy(header.history, history, HISTORY_ID_BYTES);
    header.chain = hash128(bytes_of(history, HISTORY_ID_BYTES), 0);
    *ret_header = header;
}

// Number 0 stands only in the one header that its history prescribes.
static bool genesis_sound(const uint8_t from[BLOCK_HEADER_BYTES])
{
    struct block_header genesis;
    uint8_t expected[BLOCK_HEADER_BYTES];
    block_genesis(&genesis, from + AT_HISTORY);
    block_header_encode(&genesis, expected);
    return memcmp(from, expected, BLOCK_HEADER_BYTES) == 0;
}

static bool lengths_sound(const struct block_header *header)
{
    if (header->payload_length == 0 || header->raw_length > BLOCK_RAW_MAX) {
        return false;
    }
    return (header->flags & BLOCK_ZSTD) != 0 ? header->payload_length < header->raw_length
                                             : header->payload_length == header->raw_length;
}

static bool counts_sound(const struct block_header *header)
{
    if (header->first_index == 0 || header->first_index > UINT64_MAX - header->batches) {
        return false;
    }
    if (header->commit_index > block_end(header)) {
        return false;
    }
    if ((header->flags & BLOCK_NO_BATCHES) != 0) {
        return header->batches == 0 && header->entries == 0;
    }
    return header->batches > 0 && header->entries >= header->batches &&
           header->entries <= header->raw_length;
}

int block_header_decode(struct block_header *ret_header, const uint8_t from[BLOCK_HEADER_BYTES])
{
    if (load_u32(from + AT_MAGIC) != BLOCK_MAGIC || load_u16(from + AT_VERSION) != BLOCK_VERSION ||
        load_u64(from + AT_CHECK) != header_check(from)) {
        return ERR_CHECKSUM;
    }
    struct block_header header = {
        .flags = load_u16(from + AT_FLAGS),
        .epoch = load_u64(from + AT_EPOCH),
        .first_index = load_u64(from + AT_FIRST_INDEX),
        .batches = load_u32(from + AT_BATCHES),
        .entries = load_u32(from + AT_ENTRIES),
        .payload_length = load_u32(from + AT_PAYLOAD_LENGTH),
        .raw_length = load_u32(from + AT_RAW_LENGTH),
        .number = load_u64(from + AT_NUMBER),
        .commit_index = load_u64(from + AT_COMMIT_INDEX),
        .root_ms = load_u64(from + AT_ROOT_MS),
        .chain = hash128_load(from + AT_CHAIN),
        .payload_check = hash128_load(from + AT_PAYLOAD_CHECK),
    };
    memcpy(header.history, from + AT_HISTORY, HISTORY_ID_BYTES);
    bool sound = header.number == 0 ? genesis_sound(from)
                                    : (header.flags & ~FLAGS_KNOWN) == 0 &&
                                          load_u64(from + AT_RESERVED) == 0 &&
                                          lengths_sound(&header) && counts_sound(&header);
    if (!sound) {
        return ERR_PROTOCOL;
    }
    *ret_header = header;
    return OK;
}

// Entry = [op, key, value or nil, replaced].
bool entry_read(struct unpacker *from, struct entry *ret_entry)
{
    struct entry entry = *ret_entry;
    unpack_array_of(from, 4);
    uint64_t op = unpack_uint(from);
    entry.key = unpack_bin(from);
    if (op == ENTRY_DELETE && unpack_nil(from)) {
        entry.value = (struct bytes){0};
    } else {
        entry.value = unpack_bin(from);
    }
    entry.replaced = unpack_uint(from);
    entry.op = op == ENTRY_DELETE ? ENTRY_DELETE : ENTRY_PUT;
    bool sound = unpack_ok(from) && entry.key.size >= 1 && entry.key.size <= KEY_BYTES_MAX &&
                 entry.value.size <= VALUE_BYTES_MAX && entry.replaced < entry.index;
    if (op == ENTRY_DELETE) {
        sound = sound && entry.value.data == NULL && entry.replaced != 0;
    } else {
        sound = sound && op == ENTRY_PUT;
    }
    if (sound) {
        *ret_entry = entry;
    }
    return sound;
}

// Reads one batch; *entries goes down by what it holds.
static bool batch_sound(struct unpacker *from, uint64_t index, uint32_t *entries)
{
    uint32_t count = unpack_array(from);
    if (count == 0 || count > BATCH_ENTRIES_MAX || count > *entries) {
        return false;
    }
    *entries -= count;
    struct entry entry = {.index = index};
    for (uint32_t i = 0; i < count; i++) {
        if (!entry_read(from, &entry)) {
            return false;
        }
    }
    return true;
}

static int batches_check(const struct block_header *header, struct bytes raw)
{
    struct unpacker from = unpacker_of(raw);
    uint32_t entries = header->entries;
    unpack_array_of(&from, header->batches);
    for (uint32_t i = 0; i < header->batches && unpack_ok(&from); i++) {
        if (!batch_sound(&from, header->first_index + i, &entries)) {
            return ERR_PROTOCOL;
        }
    }
    return entries == 0 ? unpack_end(&from) : ERR_PROTOCOL;
}

// A block without batches holds one array that begins with its kind; what follows is read by who
// knows the kind.
static int mark_check(struct bytes raw)
{
    struct unpacker from = unpacker_of(raw);
    uint32_t count = unpack_array(&from);
    (void)unpack_uint(&from);
    for (uint32_t i = 1; i < count && unpack_ok(&from); i++) {
        unpack_skip(&from);
    }
    return unpack_end(&from);
}

// The raw payload: `payload` itself, or memory that the caller frees.
static int raw_open(const struct block_header *header, struct bytes payload, struct bytes *ret_raw)
{
    if ((header->flags & BLOCK_ZSTD) == 0) {
        *ret_raw = payload;
        return OK;
    }
    uint8_t *raw = mem_alloc(header->raw_length);
    int error = block_decompress(raw, header->raw_length, payload);
    if (error != OK) {
        mem_free(raw);
        return error;
    }
    *ret_raw = bytes_of(raw, header->raw_length);
    return OK;
}

// Header and payload checks, then the raw payload as raw_open gives it.
static int check_all(struct block_header *ret_header, struct bytes stored, struct bytes *ret_raw)
{
    struct block_header header;
    if (stored.size < BLOCK_HEADER_BYTES) {
        return ERR_PROTOCOL;
    }
    int error = block_header_decode(&header, stored.data);
    if (error != OK) {
        return error;
    }
    struct bytes payload =
        bytes_of(stored.data + BLOCK_HEADER_BYTES, stored.size - BLOCK_HEADER_BYTES);
    if (header.number == 0 || payload.size != header.payload_length) {
        return ERR_PROTOCOL;
    }
    if (!hash128_equal(hash128(payload, 0), header.payload_check)) {
        return ERR_CHECKSUM;
    }
    struct bytes raw;
    error = raw_open(&header, payload, &raw);
    if (error != OK) {
        return error;
    }
    error = (header.flags & BLOCK_NO_BATCHES) != 0 ? mark_check(raw) : batches_check(&header, raw);
    if (error != OK && raw.data != payload.data) {
        mem_free((void *)raw.data);
    }
    *ret_header = header;
    *ret_raw = raw;
    return error;
}

int block_decode(struct block **ret_block, struct bytes stored, bool take)
{
    struct block_header header;
    struct bytes raw;
    int error = check_all(&header, stored, &raw);
    if (error != OK) {
        return error;
    }
    struct block *block = mem_alloc(sizeof *block);
    atomic_init(&block->references, 1);
    block->header = header;
    block->stored = take ? stored : bytes_of(mem_copy(stored.data, stored.size), stored.size);
    bool inside = raw.data == stored.data + BLOCK_HEADER_BYTES;
    block->raw = inside ? bytes_of(block->stored.data + BLOCK_HEADER_BYTES, raw.size) : raw;
    block->received_ns = clock_mono_ns();
    *ret_block = block;
    return OK;
}

struct block *block_hold(struct block *block)
{
    CHECK(atomic_fetch_add_explicit(&block->references, 1, memory_order_relaxed) > 0);
    return block;
}

void block_release(struct block *block)
{
    if (block == NULL) {
        return;
    }
    unsigned before = atomic_fetch_sub_explicit(&block->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before > 1) {
        return;
    }
    if (block->raw.data != block->stored.data + BLOCK_HEADER_BYTES) {
        mem_free((void *)block->raw.data);
    }
    mem_free((void *)block->stored.data);
    mem_free(block);
}

static struct hash128 chain_of(const struct block_header *previous, const struct block *block)
{
    struct hasher *chain = hasher_new();
    struct hasher *scratch = hasher_new();
    chain_start(chain, previous->chain, &block->header);
    if ((block->header.flags & BLOCK_NO_BATCHES) != 0) {
        hasher_add(chain, block->raw.data, block->raw.size);
    }
    struct block_walk walk;
    struct entry entry;
    block_walk_start(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        chain_entry(chain, entry_hash(scratch, &entry));
    }
    struct hash128 result = hasher_result(chain);
    hasher_free(scratch);
    hasher_free(chain);
    return result;
}

int block_follows(const struct block_header *previous, const struct block *block)
{
    const struct block_header *header = &block->header;
    if (memcmp(previous->history, header->history, HISTORY_ID_BYTES) != 0) {
        return ERR_DIVERGED;
    }
    if (header->number != previous->number + 1 || header->epoch < previous->epoch ||
        header->first_index != block_end(previous) + 1) {
        return ERR_PROTOCOL;
    }
    return hash128_equal(chain_of(previous, block), header->chain) ? OK : ERR_CHECKSUM;
}

struct block *block_restamp(const struct block *block, const struct block_header *previous,
                            struct block_stamp stamp)
{
    struct block *again;
    CHECK(block->header.batches > 0);
    CHECK(block->header.first_index == block_end(previous) + 1 && stamp.epoch >= previous->epoch);
    CHECK(block_decode(&again, block->stored, false) == OK);
    struct block_header *header = &again->header;
    memcpy(header->history, previous->history, HISTORY_ID_BYTES);
    header->epoch = stamp.epoch;
    header->number = previous->number + 1;
    header->commit_index = stamp.commit_index;
    header->root_ms = stamp.root_ms;
    header->chain = chain_of(previous, again);
    block_header_encode(header, (uint8_t *)again->stored.data);
    return again;
}

void block_walk_start(struct block_walk *walk, const struct block *block)
{
    struct unpacker from = unpacker_of(block->raw);
    uint32_t batches = 0;
    if ((block->header.flags & BLOCK_NO_BATCHES) == 0) {
        batches = unpack_array(&from);
    }
    *walk = (struct block_walk){
        .rest = from.rest, .index = block->header.first_index, .batches_left = batches};
}

bool block_walk_next(struct block_walk *walk, struct entry *ret_entry)
{
    struct unpacker from = unpacker_of(walk->rest);
    if (walk->entries_left == 0) {
        if (walk->batches_left == 0) {
            return false;
        }
        walk->entries_left = unpack_array(&from);
    }
    struct entry entry = {.index = walk->index};
    CHECK(entry_read(&from, &entry));
    walk->rest = from.rest;
    walk->entries_left--;
    entry.last_in_batch = walk->entries_left == 0;
    if (entry.last_in_batch) {
        walk->index++;
        walk->batches_left--;
    }
    *ret_entry = entry;
    return true;
}
