// SPDX-License-Identifier: Apache-2.0
// msgpack: what is written is read back, msgpack-c agrees, and no bytes lead the reader astray.
#include "tests/unit/support.h"

#include <msgpack.h>

#include "common/base/msgpack.h"

static const uint64_t numbers[] = {
    0, 1, 127, 128, 255, 256, 65535, 65536, UINT32_MAX, (uint64_t)UINT32_MAX + 1, UINT64_MAX};
static const size_t sizes[] = {0, 1, 31, 32, 255, 256, 65535, 65536, 100000};

static void test_numbers_and_flags(void **unused)
{
    (void)unused;
    struct buf buf = {0};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        pack_uint(&buf, numbers[i]);
    }
    pack_nil(&buf);
    pack_bool(&buf, true);
    pack_bool(&buf, false);
    struct unpacker from = unpacker_of(buf_bytes(&buf));
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        assert_int_equal(unpack_peek(&from), UNPACK_UINT);
        assert_false(unpack_nil(&from));
        assert_true(unpack_uint(&from) == numbers[i]);
    }
    assert_int_equal(unpack_peek(&from), UNPACK_NIL);
    assert_int_equal(unpack_end(&from), ERR_PROTOCOL);
    assert_true(unpack_nil(&from));
    assert_true(unpack_bool(&from));
    assert_false(unpack_bool(&from));
    assert_int_equal(unpack_end(&from), OK);
    assert_int_equal(unpack_peek(&from), UNPACK_NONE);
    buf_free(&buf);
}

static void test_bytes_and_counts(void **unused)
{
    (void)unused;
    uint8_t *data = mem_zalloc(100000);
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct buf buf = {0};
        pack_bin(&buf, bytes_of(data, sizes[i]));
        pack_str(&buf, bytes_of(data, sizes[i]));
        size_t head = buf.size;
        pack_array(&buf, sizes[i]);
        for (size_t j = 0; j < sizes[i]; j++) {
            pack_nil(&buf);
        }
        size_t array_size = buf.size - head;
        pack_map(&buf, sizes[i]);
        for (size_t j = 0; j < sizes[i] * 2; j++) {
            pack_nil(&buf);
        }
        struct unpacker from = unpacker_of(buf_bytes(&buf));
        assert_int_equal(unpack_bin(&from).size, sizes[i]);
        assert_int_equal(unpack_str(&from).size, sizes[i]);
        assert_int_equal(unpack_peek(&from), UNPACK_ARRAY);
        assert_int_equal(unpack_item(&from).size, array_size);
        assert_int_equal(unpack_map(&from), sizes[i]);
        for (size_t j = 0; j < sizes[i] * 2; j++) {
            assert_true(unpack_nil(&from));
        }
        assert_int_equal(unpack_end(&from), OK);
        buf_free(&buf);
    }
    mem_free(data);
}

// Every format of the specification, skipped by the reader.
static void test_every_format(void **unused)
{
    (void)unused;
    for (unsigned first = 0; first < 256; first++) {
        uint8_t item[64] = {(uint8_t)first};
        struct unpacker from = unpacker_of(bytes_of(item, sizeof item));
        bool inside = first >= 0x80 && first < 0xa0; // fixed maps and arrays of zeros
        unpack_skip(&from);
        assert_int_equal(unpack_ok(&from), first != 0xc1);
        assert_true(inside || first == 0xc1 || from.rest.size < sizeof item);
    }
    msgpack_packer packer = {0};
    msgpack_sbuffer sbuffer;
    msgpack_sbuffer_init(&sbuffer);
    msgpack_packer_init(&packer, &sbuffer, msgpack_sbuffer_write);
    msgpack_pack_array(&packer, 7);
    msgpack_pack_double(&packer, 1.5);
    msgpack_pack_float(&packer, 1.5f);
    msgpack_pack_int64(&packer, -5000000000);
    msgpack_pack_ext(&packer, 16, 3);
    msgpack_pack_ext_body(&packer, "0123456789abcdef", 16);
    msgpack_pack_ext(&packer, 300, 3);
    uint8_t body[300] = {0};
    msgpack_pack_ext_body(&packer, body, sizeof body);
    msgpack_pack_int8(&packer, -1);
    msgpack_pack_true(&packer);
    struct unpacker from = unpacker_of(bytes_of(sbuffer.data, sbuffer.size));
    assert_int_equal(unpack_item(&from).size, sbuffer.size);
    assert_int_equal(unpack_end(&from), OK);
    msgpack_sbuffer_destroy(&sbuffer);
}

static void expect_failure(const char *name, const void *data, size_t size)
{
    struct unpacker from = unpacker_of(bytes_of(data, size));
    if (strcmp(name, "array") == 0) {
        assert_int_equal(unpack_array(&from), 0);
    } else if (strcmp(name, "map") == 0) {
        assert_int_equal(unpack_map(&from), 0);
    } else if (strcmp(name, "bin") == 0) {
        assert_int_equal(unpack_bin(&from).size, 0);
    } else {
        assert_true(unpack_uint(&from) == 0);
    }
    assert_false(unpack_ok(&from));
    // The error stays, whatever is read next.
    assert_true(unpack_uint(&from) == 0);
    assert_false(unpack_nil(&from));
    assert_int_equal(unpack_item(&from).size, 0);
    assert_int_equal(unpack_end(&from), ERR_PROTOCOL);
}

static void test_lies(void **unused)
{
    (void)unused;
    expect_failure("array", "\xdd\xff\xff\xff\xff\xc0", 6);
    expect_failure("array", "\x93\xc0\xc0", 3);
    expect_failure("array", "\xdc\x00", 2);
    expect_failure("map", "\x81\xc0", 2);
    expect_failure("map", "\xdf\xff\xff\xff\xff\xc0\xc0", 7);
    expect_failure("bin", "\xc6\xff\xff\xff\xff\x00", 6);
    expect_failure("bin", "\xc4\x02\x00", 3);
    expect_failure("bin", "\xa1\x00", 2); // a str is no bin
    expect_failure("uint", "\xcf\x00\x00\x00", 4);
    expect_failure("uint", "\xff", 1); // -1
    expect_failure("uint", "\xc1", 1);
    expect_failure("uint", "", 0);
    struct unpacker from = unpacker_of(bytes_text("\xcf\x01\x01\x01\x01\x01\x01\x01\x01"));
    assert_int_equal(unpack_u32(&from), 0);
    assert_false(unpack_ok(&from));
    from = unpacker_of(bytes_text("\x92\xc0\xc0"));
    unpack_array_of(&from, 3);
    assert_false(unpack_ok(&from));
}

static void test_depth(void **unused)
{
    (void)unused;
    for (size_t depth = UNPACK_DEPTH_MAX - 1; depth <= UNPACK_DEPTH_MAX + 1; depth++) {
        uint8_t nested[64];
        memset(nested, 0x91, depth);
        nested[depth] = 0xc0;
        struct unpacker from = unpacker_of(bytes_of(nested, depth + 1));
        unpack_skip(&from);
        assert_int_equal(unpack_end(&from) == OK, depth <= UNPACK_DEPTH_MAX);
    }
}

// msgpack-c as the oracle: on random bytes both take the same ones for one whole object.
static void test_random_bytes(void **unused)
{
    (void)unused;
    uint64_t state = 11;
    uint64_t sound = 0;
    for (int round = 0; round < 200000; round++) {
        uint8_t data[12];
        size_t size = (size_t)test_between(&state, 1, sizeof data);
        for (size_t i = 0; i < size; i++) {
            // Heads more often than plain numbers.
            data[i] = (uint8_t)(test_random(&state) % 3 == 0 ? test_random(&state)
                                                             : 0x80 + test_random(&state) % 0x60);
        }
        // Its containers of huge counts are not tried: it would allocate by the count.
        bool huge = memchr(data, 0xdd, size) != NULL || memchr(data, 0xdf, size) != NULL ||
                    memchr(data, 0xdc, size) != NULL || memchr(data, 0xde, size) != NULL;
        if (huge) {
            continue;
        }
        struct unpacker from = unpacker_of(bytes_of(data, size));
        struct bytes item = unpack_item(&from);
        msgpack_unpacked object;
        msgpack_unpacked_init(&object);
        size_t used = 0;
        bool theirs =
            msgpack_unpack_next(&object, (char *)data, size, &used) == MSGPACK_UNPACK_SUCCESS;
        assert_int_equal(unpack_ok(&from), theirs);
        assert_true(!theirs || used == item.size);
        sound += theirs;
        msgpack_unpacked_destroy(&object);
    }
    assert_true(sound > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_and_flags), cmocka_unit_test(test_bytes_and_counts),
        cmocka_unit_test(test_every_format),      cmocka_unit_test(test_lies),
        cmocka_unit_test(test_depth),             cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
