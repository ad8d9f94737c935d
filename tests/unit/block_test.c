// SPDX-License-Identifier: Apache-2.0
// Blocks: what is built is decoded and walked the same; every flipped bit and every rule of the
// format that is broken on purpose is refused.
#include "tests/unit/support.h"

#include <pthread.h>
#include <zstd.h>

#include "common/base/msgpack.h"
#include "common/data/block.h"

static struct block_header genesis(void)
{
    struct block_header header;
    block_genesis(&header, test_history);
    return header;
}

static void assert_headers_same(const struct block_header *a, const struct block_header *b)
{
    uint8_t first[BLOCK_HEADER_BYTES];
    uint8_t second[BLOCK_HEADER_BYTES];
    block_header_encode(a, first);
    block_header_encode(b, second);
    assert_memory_equal(first, second, sizeof first);
}

static void test_genesis(void **unused)
{
    (void)unused;
    struct block_header header = genesis();
    struct block_header back;
    uint8_t bytes[BLOCK_HEADER_BYTES];
    block_header_encode(&header, bytes);
    assert_int_equal(block_header_decode(&back, bytes), OK);
    assert_headers_same(&header, &back);
    assert_int_equal(block_end(&back), 0);
    struct hash128 chain = hash128(bytes_of(test_history, HISTORY_ID_BYTES), 0);
    assert_true(hash128_equal(back.chain, chain));
    // No other header has number 0, and a header of number 0 is no block.
    header.root_ms = 1;
    block_header_encode(&header, bytes);
    assert_int_equal(block_header_decode(&back, bytes), ERR_PROTOCOL);
    header = genesis();
    block_header_encode(&header, bytes);
    struct block *block;
    assert_int_equal(block_decode(&block, bytes_of(bytes, sizeof bytes), false), ERR_PROTOCOL);
}

static void test_layout(void **unused)
{
    (void)unused;
    struct block_header before = genesis();
    struct block_builder builder;
    builder_open(&builder);
    builder_reset(&builder, 1);
    builder_batch(&builder);
    builder_entry(&builder, ENTRY_PUT, bytes_text("key"), bytes_text("value"), 0);
    builder_batch_end(&builder);
    builder_batch(&builder);
    builder_entry(&builder, ENTRY_DELETE, bytes_text("key"), bytes_of(NULL, 0), 1);
    builder_batch_end(&builder);
    assert_true(builder_size(&builder) >= 25);
    struct block *block = builder_finish(&builder, &before, (struct block_stamp){7, 2, 99});
    static const uint8_t payload[] = "\x92\x91\x94\x01\xc4\x03key\xc4\x05value\x00"
                                     "\x91\x94\x02\xc4\x03key\xc0\x01";
    const uint8_t *stored = block->stored.data;
    assert_int_equal(block->stored.size, BLOCK_HEADER_BYTES + sizeof payload - 1);
    assert_memory_equal(stored, "QSBK\x01\x00\x00\x00", 8);
    assert_memory_equal(stored + 16, test_history, 16);
    assert_true(load_u64(stored + 32) == 7 && load_u64(stored + 40) == 1);
    assert_true(load_u32(stored + 48) == 2 && load_u32(stored + 52) == 2);
    assert_true(load_u32(stored + 56) == sizeof payload - 1);
    assert_true(load_u32(stored + 60) == sizeof payload - 1);
    assert_true(load_u64(stored + 64) == 1 && load_u64(stored + 72) == 2);
    assert_true(load_u64(stored + 80) == 99 && load_u64(stored + 120) == 0);
    assert_memory_equal(stored + BLOCK_HEADER_BYTES, payload, sizeof payload - 1);
    // The chain, computed here from the document alone.
    static const uint8_t first[] =
        "\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\x03\0\0\0key\x05\0\0\0value";
    static const uint8_t second[] = "\x02\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\0\x03\0\0\0key\0\0\0\0";
    uint8_t all[16 + 16 + 8 + 8 + 4 + 32];
    hash128_store(all, hash128(bytes_of(test_history, 16), 0));
    memcpy(all + 16, test_history, 16);
    store_u64(all + 32, 7);
    store_u64(all + 40, 1);
    store_u32(all + 48, 2);
    hash128_store(all + 52, hash128(bytes_of(first, sizeof first - 1), 0));
    hash128_store(all + 68, hash128(bytes_of(second, sizeof second - 1), 0));
    uint8_t chain[HASH128_BYTES];
    hash128_store(chain, hash128(bytes_of(all, sizeof all), 0));
    assert_memory_equal(stored + 88, chain, sizeof chain);
    block_release(block);
    builder_close(&builder);
}

static void assert_walks_same(const struct block *a, const struct block *b)
{
    struct block_walk first;
    struct block_walk second;
    struct entry x;
    struct entry y;
    uint32_t entries = 0;
    uint32_t batches = 0;
    block_walk_start(&first, a);
    block_walk_start(&second, b);
    while (block_walk_next(&first, &x)) {
        assert_true(block_walk_next(&second, &y));
        assert_true(x.index == y.index && x.op == y.op && x.replaced == y.replaced);
        assert_true(x.last_in_batch == y.last_in_batch);
        assert_true(bytes_equal(x.key, y.key) && bytes_equal(x.value, y.value));
        assert_true(x.index == a->header.first_index + batches);
        entries++;
        batches += x.last_in_batch;
    }
    assert_false(block_walk_next(&second, &y));
    assert_int_equal(entries, a->header.entries);
    assert_int_equal(batches, a->header.batches);
}

static void test_round_trips(void **unused)
{
    (void)unused;
    uint64_t state = 1;
    unsigned compressed = 0;
    struct block_header before = genesis();
    struct block_builder builder;
    builder_open(&builder);
    for (unsigned i = 0; i < 300; i++) {
        struct block *block = test_block(&builder, &before, &state, i % 10 == 0 ? 20000 : 200);
        assert_int_equal(block_follows(&before, block), OK);
        struct block *copy;
        assert_int_equal(block_decode(&copy, block->stored, false), OK);
        assert_true(copy->stored.data != block->stored.data);
        assert_int_equal(block_follows(&before, copy), OK);
        assert_headers_same(&block->header, &copy->header);
        assert_true(bytes_equal(block->raw, copy->raw));
        assert_walks_same(block, copy);
        bool packed = (block->header.flags & BLOCK_ZSTD) != 0;
        compressed += packed;
        if (packed) {
            assert_true(block->header.raw_length >= 256);
            assert_true(block->header.payload_length <=
                        block->header.raw_length - block->header.raw_length / 16);
        }
        // The same bytes, handed over.
        struct bytes owned = bytes_of(mem_copy(block->stored.data, block->stored.size),
                                      block->stored.size);
        struct block *taken;
        assert_int_equal(block_decode(&taken, owned, true), OK);
        assert_ptr_equal(taken->stored.data, owned.data);
        block_release(block_hold(taken));
        block_release(taken);
        before = block->header;
        block_release(copy);
        block_release(block);
    }
    assert_true(compressed > 50 && compressed < 250);
    block_release(NULL);
    builder_close(&builder);
}

static void test_marks(void **unused)
{
    (void)unused;
    struct block_header before = genesis();
    struct buf payload = {0};
    birth_encode(&payload, bytes_of(NULL, 0), bytes_text("node"), NULL);
    struct block *birth = block_mark(&before, (struct block_stamp){1, 0, 5}, buf_bytes(&payload));
    struct block *copy;
    assert_int_equal(block_decode(&copy, birth->stored, false), OK);
    assert_int_equal(block_follows(&before, copy), OK);
    assert_int_equal(copy->header.first_index, 1);
    assert_int_equal(block_end(&copy->header), 0);
    struct block_walk walk;
    struct entry entry;
    block_walk_start(&walk, copy);
    assert_false(block_walk_next(&walk, &entry));
    struct unpacker from = unpacker_of(copy->raw);
    unpack_array_of(&from, 3);
    assert_int_equal(unpack_uint(&from), MARK_BIRTH);
    assert_true(unpack_nil(&from));
    assert_true(bytes_equal_text(unpack_str(&from), "node"));
    assert_int_equal(unpack_end(&from), OK);
    block_release(copy);
    // The chain of a block without batches covers its payload.
    buf_clear(&payload);
    birth_encode(&payload, bytes_of(test_history, HISTORY_ID_BYTES), bytes_text("other"), NULL);
    struct block *other = block_mark(&before, (struct block_stamp){1, 0, 5}, buf_bytes(&payload));
    assert_false(hash128_equal(birth->header.chain, other->header.chain));
    block_release(other);
    block_release(birth);
    buf_free(&payload);
}

static void test_flipped_bits(void **unused)
{
    (void)unused;
    uint64_t state = 2;
    struct block_header before = genesis();
    struct block_builder builder;
    builder_open(&builder);
    for (size_t value_max = 20; value_max <= 2000; value_max += 1980) {
        struct block *block = test_block(&builder, &before, &state, value_max);
        uint8_t *bytes = mem_copy(block->stored.data, block->stored.size);
        size_t stride = block->stored.size < 2000 ? 1 : 7;
        for (size_t bit = 0; bit < block->stored.size * 8; bit += bit < 1024 ? 1 : stride) {
            struct block_header header;
            struct block *copy;
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
            if (bit < BLOCK_HEADER_BYTES * 8) {
                assert_int_equal(block_header_decode(&header, bytes), ERR_CHECKSUM);
            }
            int error = block_decode(&copy, bytes_of(bytes, block->stored.size), false);
            assert_int_equal(error, ERR_CHECKSUM);
            bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t size = 0; size < block->stored.size; size++) {
            struct block *copy;
            assert_int_equal(block_decode(&copy, bytes_of(bytes, size), false), ERR_PROTOCOL);
        }
        mem_free(bytes);
        block_release(block);
    }
    builder_close(&builder);
}

// A block of any payload with sound checksums: what a peer with a bug would send.
static int decode_forged(struct block_header header, struct bytes raw, struct bytes payload)
{
    struct buf stored = {0};
    uint8_t bytes[BLOCK_HEADER_BYTES];
    header.raw_length = (uint32_t)raw.size;
    header.payload_length = (uint32_t)payload.size;
    header.payload_check = hash128(payload, 0);
    block_header_encode(&header, bytes);
    buf_append(&stored, bytes, sizeof bytes);
    buf_append_bytes(&stored, payload);
    struct block *block;
    int error = block_decode(&block, buf_bytes(&stored), false);
    if (error == OK) {
        block_release(block);
    }
    buf_free(&stored);
    return error;
}

static struct block_header plain_header(uint32_t batches, uint32_t entries)
{
    struct block_header header = {
        .epoch = 1, .first_index = 10, .batches = batches, .entries = entries, .number = 3};
    memcpy(header.history, test_history, sizeof test_history);
    return header;
}

static int decode_raw(const char *raw, size_t size, uint32_t batches, uint32_t entries)
{
    struct bytes bytes = bytes_of(raw, size);
    return decode_forged(plain_header(batches, entries), bytes, bytes);
}

#define DECODE(text, batches, entries) decode_raw(text, sizeof(text) - 1, batches, entries)

static void test_bad_entries(void **unused)
{
    (void)unused;
    assert_int_equal(DECODE("\x91\x91\x94\x01\xc4\x01k\xc4\x01v\x09", 1, 1), OK);
    assert_int_equal(DECODE("\x91\x91\x94\x02\xc4\x01k\xc0\x09", 1, 1), OK);
    static const char *const bad[] = {
        "\x91\x91\x94\x03\xc4\x01k\xc4\x01v\x01", // unknown operation
        "\x91\x91\x94\x01\xc4\x01k\xc4\x01v\x0a", // replaced = its own index
        "\x91\x91\x94\x01\xc4\x01k\xc0\x01",      // a put without a value
        "\x91\x91\x94\x02\xc4\x01k\xc4\x01v\x01", // a delete with one
        "\x91\x91\x94\x01\xa1k\xc4\x01v\x01",     // the key is no bin
        "\x91\x91\x93\x01\xc4\x01k\xc4\x01v",     // three fields
        "\x91\x91\x94\x01\xc4\x01k\xc4\x01v\x01\x01", // a byte too many
        "\x92\x91\x94\x01\xc4\x01k\xc4\x01v\x01",     // a batch too few
        "\x91\x92\x94\x01\xc4\x01k\xc4\x01v\x01",     // an entry too few
        "\x91\x90",                                   // an empty batch
        "\x90",
        "\xc1",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(decode_raw(bad[i], strlen(bad[i]), 1, 1), ERR_PROTOCOL);
    }
    assert_int_equal(DECODE("\x91\x91\x94\x02\xc4\x01k\xc0\x00", 1, 1), ERR_PROTOCOL);
    assert_int_equal(DECODE("\x91\x91\x94\x02\xc4\x01k\xc4\x00\x01", 1, 1), ERR_PROTOCOL);
    assert_int_equal(DECODE("\x91\x91\x94\x01\xc4\x00\xc4\x01v\x01", 1, 1), ERR_PROTOCOL);
    assert_int_equal(DECODE("\x91\x91\x94\x01\xc4\x01k\xc4\x01v\x01", 1, 2), ERR_PROTOCOL);
    assert_int_equal(DECODE("\x91\x91\x94\x01\xc4\x01k\xc4\x01v\x01", 2, 2), ERR_PROTOCOL);
}

static int decode_sized(size_t key_size, size_t value_size)
{
    struct buf raw = {0};
    uint8_t *zeros = mem_zalloc(key_size + value_size);
    pack_array(&raw, 1);
    pack_array(&raw, 1);
    pack_array(&raw, 4);
    pack_uint(&raw, ENTRY_PUT);
    pack_bin(&raw, bytes_of(zeros, key_size));
    pack_bin(&raw, bytes_of(zeros, value_size));
    pack_uint(&raw, 0);
    int error = decode_forged(plain_header(1, 1), buf_bytes(&raw), buf_bytes(&raw));
    mem_free(zeros);
    buf_free(&raw);
    return error;
}

static void test_limits(void **unused)
{
    (void)unused;
    assert_int_equal(decode_sized(KEY_BYTES_MAX, 0), OK);
    assert_int_equal(decode_sized(KEY_BYTES_MAX + 1, 0), ERR_PROTOCOL);
    assert_int_equal(decode_sized(1, VALUE_BYTES_MAX), OK);
    assert_int_equal(decode_sized(1, VALUE_BYTES_MAX + 1), ERR_PROTOCOL);
}

static void expect_bad_header(struct block_header header)
{
    uint8_t bytes[BLOCK_HEADER_BYTES];
    struct block_header back;
    block_header_encode(&header, bytes);
    assert_int_equal(block_header_decode(&back, bytes), ERR_PROTOCOL);
}

static void test_bad_headers(void **unused)
{
    (void)unused;
    struct block_header good = plain_header(2, 3);
    good.payload_length = good.raw_length = 100;
    uint8_t bytes[BLOCK_HEADER_BYTES];
    struct block_header bad;
    block_header_encode(&good, bytes);
    assert_int_equal(block_header_decode(&bad, bytes), OK);
#define EXPECT_BAD(change) bad = good; change; expect_bad_header(bad)
    EXPECT_BAD(bad.flags = 4);
    EXPECT_BAD(bad.flags = BLOCK_NO_BATCHES);
    EXPECT_BAD(bad.flags = BLOCK_ZSTD);
    EXPECT_BAD(bad.first_index = 0);
    EXPECT_BAD(bad.first_index = UINT64_MAX);
    EXPECT_BAD(bad.batches = 0);
    EXPECT_BAD(bad.batches = 4);
    EXPECT_BAD(bad.entries = 101);
    EXPECT_BAD(bad.payload_length = 0);
    EXPECT_BAD(bad.payload_length = 99);
    EXPECT_BAD(bad.raw_length = BLOCK_RAW_MAX + 1);
    EXPECT_BAD(bad.commit_index = 12);
    EXPECT_BAD(bad.number = 0);
    // Reserved bytes must be 0 even under a sound checksum.
    store_u64(bytes + 120, 1);
    store_u64(bytes + 8, 0);
    store_u64(bytes + 8, hash64(bytes_of(bytes, sizeof bytes), 0));
    assert_int_equal(block_header_decode(&bad, bytes), ERR_PROTOCOL);
}

static void test_bad_frames(void **unused)
{
    (void)unused;
    struct buf raw = {0};
    uint8_t zeros[1000] = {0};
    pack_array(&raw, 1);
    pack_array(&raw, 1);
    pack_array(&raw, 4);
    pack_uint(&raw, ENTRY_PUT);
    pack_bin(&raw, bytes_text("k"));
    pack_bin(&raw, bytes_of(zeros, sizeof zeros));
    pack_uint(&raw, 0);
    uint8_t frame[2048];
    size_t size = ZSTD_compress(frame, sizeof frame, raw.data, raw.size, 1);
    struct block_header header = plain_header(1, 1);
    header.flags = BLOCK_ZSTD;
    struct bytes right = buf_bytes(&raw);
    assert_int_equal(decode_forged(header, right, bytes_of(frame, size)), OK);
    // It says more or less than it holds, is cut short, or is followed by another frame.
    assert_int_equal(
        decode_forged(header, bytes_of(right.data, right.size - 1), bytes_of(frame, size)),
        ERR_PROTOCOL);
    assert_int_equal(decode_forged(header, bytes_of(NULL, right.size + 1), bytes_of(frame, size)),
                     ERR_PROTOCOL);
    assert_int_equal(decode_forged(header, right, bytes_of(frame, size - 1)), ERR_PROTOCOL);
    memcpy(frame + size, "\x50\x2a\x4d\x18\x00\x00\x00\x00", 8); // an empty skippable frame
    assert_int_equal(decode_forged(header, right, bytes_of(frame, size + 8)), ERR_PROTOCOL);
    memset(frame, 0x41, 100);
    assert_int_equal(decode_forged(header, right, bytes_of(frame, 100)), ERR_PROTOCOL);
    buf_free(&raw);
}

static void test_follows(void **unused)
{
    (void)unused;
    uint64_t state = 3;
    struct block_header before = genesis();
    struct block_builder builder;
    builder_open(&builder);
    struct block *first = test_block(&builder, &before, &state, 100);
    struct block *second = test_block(&builder, &first->header, &state, 100);
    assert_int_equal(block_follows(&first->header, second), OK);
    assert_int_equal(block_follows(&before, second), ERR_PROTOCOL);
    assert_int_equal(block_follows(&second->header, second), ERR_PROTOCOL);
    struct block_header other = first->header;
    other.chain.low ^= 1;
    assert_int_equal(block_follows(&other, second), ERR_CHECKSUM);
    other = first->header;
    other.epoch = 2;
    assert_int_equal(block_follows(&other, second), ERR_PROTOCOL);
    other = first->header;
    other.first_index++;
    assert_int_equal(block_follows(&other, second), ERR_PROTOCOL);
    other = first->header;
    other.history[0] ^= 1;
    assert_int_equal(block_follows(&other, second), ERR_DIVERGED);
    block_release(first);
    block_release(second);
    builder_close(&builder);
}

static void *decode_elsewhere(void *argument)
{
    const struct block *block = argument;
    struct block *copy;
    int error = block_decode(&copy, block->stored, false);
    if (error == OK) {
        block_release(copy);
    }
    return error == OK ? NULL : argument;
}

static void test_threads(void **unused)
{
    (void)unused;
    uint64_t state = 4;
    struct block_header before = genesis();
    struct block_builder builder;
    builder_open(&builder);
    struct block *block = test_block(&builder, &before, &state, 30000);
    pthread_t threads[3];
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, decode_elsewhere, block), 0);
    }
    for (size_t i = 0; i < ARRAY_LEN(threads); i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    block_release(block);
    builder_close(&builder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_genesis),     cmocka_unit_test(test_layout),
        cmocka_unit_test(test_round_trips), cmocka_unit_test(test_marks),
        cmocka_unit_test(test_flipped_bits), cmocka_unit_test(test_bad_entries),
        cmocka_unit_test(test_limits),      cmocka_unit_test(test_bad_headers),
        cmocka_unit_test(test_bad_frames),  cmocka_unit_test(test_follows),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
