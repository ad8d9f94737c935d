// SPDX-License-Identifier: Apache-2.0
// Rows of both roles: what is encoded comes back, and any change of a byte is an error, never
// another value.
#include "tests/unit/support.h"

#include "common/base/varint.h"
#include "proxy/stub.h"
#include "replica/record.h"

static void test_varint(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (unsigned i = 0; i < 20000; i++) {
        uint64_t number = test_random(&seed) >> (i % 64);
        uint8_t data[VARINT_BYTES_MAX];
        size_t size = varint_encode(data, number);
        uint64_t back = ~number;
        assert_int_equal(varint_decode(bytes_of(data, size), &back), size);
        assert_int_equal(back, number);
        for (size_t cut = 0; cut < size; cut++) {
            assert_int_equal(varint_decode(bytes_of(data, cut), &back), 0);
        }
    }
    uint64_t number;
    const uint8_t longer[] = {0x81, 0x00};
    assert_int_equal(varint_decode(bytes_of(longer, 2), &number), 0);
    const uint8_t endless[] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1};
    assert_int_equal(varint_decode(bytes_of(endless, sizeof endless), &number), 0);
    const uint8_t above[] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 2};
    assert_int_equal(varint_decode(bytes_of(above, sizeof above), &number), 0);
    const uint8_t most[] = {255, 255, 255, 255, 255, 255, 255, 255, 255, 1};
    assert_int_equal(varint_decode(bytes_of(most, sizeof most), &number), 10);
    assert_true(number == UINT64_MAX);
}

static void test_replica_record(void **state)
{
    (void)state;
    uint64_t seed = 2;
    for (unsigned i = 0; i < 300; i++) {
        uint8_t row[REPLICA_RECORD_HEAD_MAX + 64];
        uint8_t value[64];
        size_t length = (size_t)test_between(&seed, 0, sizeof value);
        for (size_t at = 0; at < length; at++) {
            value[at] = (uint8_t)test_random(&seed);
        }
        uint64_t version = (test_random(&seed) >> (i % 64)) | 1;
        size_t head = replica_record_head(row, version, bytes_of(value, length));
        memcpy(row + head, value, length);
        struct record record;
        assert_int_equal(replica_record_decode(bytes_of(row, head + length), &record), OK);
        assert_int_equal(record.version, version);
        assert_true(record.held && record.length == length);
        assert_true(bytes_equal(record.value, bytes_of(value, length)));
        uint64_t only;
        assert_int_equal(replica_record_version(bytes_of(row, head + length), &only), OK);
        assert_int_equal(only, version);
        for (size_t bit = 0; bit < (head + length) * 8; bit++) {
            row[bit / 8] ^= (uint8_t)(1u << bit % 8);
            assert_int_equal(replica_record_decode(bytes_of(row, head + length), &record),
                             ERR_CORRUPT);
            row[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
        for (size_t cut = 0; cut < head + length; cut++) {
            assert_int_equal(replica_record_decode(bytes_of(row, cut), &record), ERR_CORRUPT);
        }
    }
}

static size_t make_stub(uint8_t *to, uint64_t version, struct bytes value, bool held)
{
    struct record record = {.version = version,
                            .length = (uint32_t)value.size,
                            .check = record_check(version, value),
                            .held = held};
    size_t size = stub_head(to, &record, 7);
    if (held && value.size > 0) {
        memcpy(to + size, value.data, value.size);
        size += value.size;
    }
    return size;
}

static void test_stub(void **state)
{
    (void)state;
    uint64_t seed = 3;
    for (unsigned i = 0; i < 300; i++) {
        uint8_t row[STUB_HEAD_MAX + 64];
        uint8_t data[64];
        struct bytes value = bytes_of(data, (size_t)test_between(&seed, 0, sizeof data));
        for (size_t at = 0; at < value.size; at++) {
            data[at] = (uint8_t)test_random(&seed);
        }
        uint64_t version = (test_random(&seed) >> (i % 64)) | 1;
        bool held = i % 2 == 0;
        struct bytes whole = bytes_of(row, make_stub(row, version, value, held));
        struct record record;
        assert_int_equal(stub_decode(whole, &record), OK);
        assert_int_equal(record.version, version);
        assert_int_equal(record.length, value.size);
        assert_int_equal(record.check, record_check(version, value));
        assert_true(record.held == held);
        assert_true(bytes_equal(record.value, held ? value : bytes_of(data, 0)));
        for (size_t cut = 0; cut < whole.size; cut++) {
            assert_int_equal(stub_decode(bytes_of(row, cut), &record), ERR_CORRUPT);
        }
        for (size_t at = whole.size - value.size; held && at < whole.size; at++) {
            row[at] ^= 0x10;
            assert_int_equal(stub_decode(whole, &record), ERR_CORRUPT);
            row[at] ^= 0x10;
        }
        row[0] ^= 2;
        assert_int_equal(stub_decode(whole, &record), ERR_CORRUPT);
    }
}

static void test_stub_size(void **state)
{
    (void)state;
    uint8_t row[STUB_HEAD_MAX];
    uint8_t data[100] = {0};
    assert_int_equal(make_stub(row, 2000000, bytes_of(data, sizeof data), false), 11);
    struct record record;
    // A length beyond what a value may have is not believed.
    const uint8_t large[] = {0, 1, 0xff, 0xff, 0xff, 0xff, 1, 0, 0, 0, 0, 0, 0};
    assert_int_equal(stub_decode(bytes_of(large, sizeof large), &record), ERR_CORRUPT);
    const uint8_t no_version[] = {0, 0, 0, 0, 0, 0, 0, 0, 0};
    assert_int_equal(stub_decode(bytes_of(no_version, sizeof no_version), &record), ERR_CORRUPT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_varint),
        cmocka_unit_test(test_replica_record),
        cmocka_unit_test(test_stub),
        cmocka_unit_test(test_stub_size),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
