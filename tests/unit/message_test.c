// SPDX-License-Identifier: Apache-2.0
// Frames and messages: every message comes back as it was sent; nothing cut, flipped or mutated is
// ever taken for a frame, and no payload, however broken, is read outside its bytes.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/base/mem.h"
#include "common/base/msgpack.h"
#include "common/wire/message.h"

#define MEMBER_MAX 512

enum field_type { FIELD_U64, FIELD_BYTES, FIELD_TEXT };

struct field_row {
    uint16_t code;
    uint8_t key;
    enum field_type type;
    size_t offset;
};

static const struct field_row fields[] = {
#define FIELD(message, key, type, field)                                                           \
    {MESSAGE_##message, key, FIELD_##type, offsetof(struct message_##message, field)},
#include "common/tables/messages.h"
};

#define MESSAGE(name, code)                                                                        \
    static void encode_##name(struct buf *to, const void *message)                                 \
    {                                                                                              \
        message_##name##_encode(to, message);                                                      \
    }                                                                                              \
    static int decode_##name(struct bytes payload, void *ret_message)                              \
    {                                                                                              \
        return message_##name##_decode(payload, ret_message);                                      \
    }
#include "common/tables/messages.h"

struct message_row {
    uint16_t code;
    const char *name;
    void (*encode)(struct buf *to, const void *message);
    int (*decode)(struct bytes payload, void *ret_message);
};

static const struct message_row messages[] = {
#define MESSAGE(name, code) {code, #name, encode_##name, decode_##name},
#include "common/tables/messages.h"
};

union any_message {
#define MESSAGE(name, code) struct message_##name name;
#include "common/tables/messages.h"
};

// A seeded generator (splitmix64), so that a failure can be repeated.
static uint64_t draw(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static const struct message_row *message_of(uint16_t code)
{
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        if (messages[i].code == code) {
            return &messages[i];
        }
    }
    return NULL;
}

static void fill(union any_message *message, uint16_t code, uint8_t *pool, uint64_t *seed)
{
    memset(message, 0, sizeof *message);
    size_t used = 0;
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        void *member = (uint8_t *)message + fields[i].offset;
        if (fields[i].code != code) {
            continue;
        }
        if (fields[i].type == FIELD_U64) {
            *(uint64_t *)member = draw(seed) >> draw(seed) % 64;
        } else {
            size_t size = draw(seed) % 4 == 0 ? 0 : draw(seed) % MEMBER_MAX;
            for (size_t j = 0; j < size; j++) {
                pool[used + j] = (uint8_t)draw(seed);
            }
            *(struct bytes *)member = bytes_of(pool + used, size);
            used += size;
        }
    }
}

static void assert_same(const union any_message *a, const union any_message *b, uint16_t code)
{
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        const void *left = (const uint8_t *)a + fields[i].offset;
        const void *right = (const uint8_t *)b + fields[i].offset;
        if (fields[i].code != code) {
            continue;
        }
        if (fields[i].type == FIELD_U64) {
            assert_int_equal(*(const uint64_t *)left, *(const uint64_t *)right);
        } else {
            assert_true(bytes_equal(*(const struct bytes *)left, *(const struct bytes *)right));
        }
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    uint64_t seed = 1;
    uint8_t *pool = mem_alloc(16 * MEMBER_MAX);
    struct buf wire = {0};
    for (size_t i = 0; i < ARRAY_LEN(messages) * 200; i++) {
        const struct message_row *row = &messages[i % ARRAY_LEN(messages)];
        union any_message sent, got;
        fill(&sent, row->code, pool, &seed);
        buf_clear(&wire);
        row->encode(&wire, &sent);
        size_t first = wire.size;
        row->encode(&wire, &sent); // a second frame behind it changes nothing
        struct frame frame;
        assert_int_equal(frame_decode(buf_bytes(&wire), wire.size, &frame), first);
        assert_int_equal(frame.code, row->code);
        assert_int_equal(row->decode(frame.payload, &got), OK);
        assert_same(&sent, &got, row->code);
        assert_string_equal(message_text(row->code), row->name);
    }
    assert_string_equal(message_text(999), "unknown");
    mem_free(pool);
    buf_free(&wire);
}

// The frame in a buffer of exactly its size, so that the sanitizer sees one byte too many.
static ssize_t decode_exact(struct bytes data, struct frame *ret_frame)
{
    uint8_t *copy = mem_copy(data.data, data.size);
    ssize_t used = frame_decode(bytes_of(copy, data.size), FRAME_PAYLOAD_MAX, ret_frame);
    mem_free(copy);
    return used;
}

static void test_cut_and_flipped_frames(void **state)
{
    (void)state;
    uint64_t seed = 2;
    uint8_t *pool = mem_alloc(16 * MEMBER_MAX);
    struct buf wire = {0};
    struct frame frame;
    for (size_t i = 0; i < ARRAY_LEN(messages); i++) {
        union any_message sent;
        fill(&sent, messages[i].code, pool, &seed);
        buf_clear(&wire);
        messages[i].encode(&wire, &sent);
        for (size_t size = 0; size < wire.size; size++) {
            assert_int_equal(decode_exact(bytes_of(wire.data, size), &frame), 0);
        }
        for (size_t bit = 0; bit < wire.size * 8; bit++) {
            wire.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            // At once: a flip in the length must not make the reader wait for more.
            assert_true(frame_decode(buf_bytes(&wire), FRAME_PAYLOAD_MAX, &frame) < 0);
            wire.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        }
    }
    mem_free(pool);
    buf_free(&wire);
}

static void test_frame_limits(void **state)
{
    (void)state;
    struct buf wire = {0};
    struct message_fetch fetch = {.id = 1, .items = bytes_text("abcdefghij")};
    message_fetch_encode(&wire, &fetch);
    struct frame frame;
    size_t payload = wire.size - FRAME_HEAD_BYTES;
    assert_int_equal(frame_decode(buf_bytes(&wire), payload, &frame), wire.size);
    // Refused as soon as the length is there: nothing is awaited for it.
    struct bytes head = bytes_of(wire.data, 8);
    assert_int_equal(frame_decode(head, payload, &frame), 0);
    assert_int_equal(frame_decode(head, payload - 1, &frame), ERR_PROTOCOL);
    // A buffer that is full takes no half frame.
    struct buf small = {.limit = wire.size + 4};
    message_fetch_encode(&small, &fetch);
    size_t whole = small.size;
    message_fetch_encode(&small, &fetch);
    assert_int_equal(small.error, ERR_REPLY_SIZE);
    assert_int_equal(small.size, whole);
    buf_free(&small);
    buf_free(&wire);
}

static struct bytes pack(struct buf *to, uint32_t pairs, const uint64_t *numbers)
{
    buf_clear(to);
    pack_map(to, pairs);
    for (uint32_t i = 0; i < pairs * 2; i++) {
        pack_uint(to, numbers[i]);
    }
    return buf_bytes(to);
}

static void test_payload_rules(void **state)
{
    (void)state;
    struct buf to = {0};
    struct message_refetch got = {.first = 7};
    assert_int_equal(message_refetch_decode(pack(&to, 2, (uint64_t[]){1, 5, 2, 6}), &got), OK);
    assert_int_equal(got.last, 6);
    // Another order and keys of a later version are fine.
    uint64_t newer[] = {2, 8, 99, 1, 1, 4};
    assert_int_equal(message_refetch_decode(pack(&to, 3, newer), &got), OK);
    assert_int_equal(got.first, 4);
    // Missing, repeated, trailing, wrong type: refused, and the result untouched.
    struct bytes missing = pack(&to, 1, (uint64_t[]){1, 5});
    assert_int_equal(message_refetch_decode(missing, &got), ERR_PROTOCOL);
    struct bytes repeated = pack(&to, 3, (uint64_t[]){1, 5, 2, 6, 1, 5});
    assert_int_equal(message_refetch_decode(repeated, &got), ERR_PROTOCOL);
    pack(&to, 2, (uint64_t[]){1, 5, 2, 6});
    pack_nil(&to);
    assert_int_equal(message_refetch_decode(buf_bytes(&to), &got), ERR_PROTOCOL);
    buf_clear(&to);
    pack_map(&to, 2);
    pack_uint(&to, 1);
    pack_str(&to, bytes_text("5"));
    pack_uint(&to, 2);
    pack_uint(&to, 6);
    assert_int_equal(message_refetch_decode(buf_bytes(&to), &got), ERR_PROTOCOL);
    assert_int_equal(message_refetch_decode(bytes_of(NULL, 0), &got), ERR_PROTOCOL);
    assert_int_equal(got.first, 4);
    buf_free(&to);
}

// Of another version of the protocol a hello and a welcome can be read, whichever is the older one:
// what the first version did not say is 0 or empty.
static void test_other_versions(void **state)
{
    (void)state;
    static const uint8_t texts[] = {2, 3, 4, 7, 10, 12}; // of the first version's hello
    struct buf to = {0};
    for (unsigned lacking = 0; lacking <= 12; lacking++) {
        buf_clear(&to);
        pack_map(&to, lacking == 0 ? 12 : 11);
        for (uint8_t key = 1; key <= 12; key++) {
            bool bytes = key == 7 || key == 10 || key == 12;
            bool number = memchr(texts, key, sizeof texts) == NULL;
            if (key == lacking) {
                continue;
            }
            pack_uint(&to, key);
            if (number) {
                pack_uint(&to, key);
            } else if (bytes) {
                pack_bin(&to, bytes_text("old"));
            } else {
                pack_str(&to, bytes_text("old"));
            }
        }
        struct message_hello hello;
        int error = message_hello_decode(buf_bytes(&to), &hello);
        assert_int_equal(error, lacking == 0 ? OK : ERR_PROTOCOL);
        if (error == OK) {
            assert_int_equal(hello.protocol, 1);
            assert_true(bytes_equal_text(hello.node, "old"));
            assert_int_equal(hello.address.size, 0);
            assert_int_equal(hello.insists, INSISTS_NOT);
        }
    }
    buf_free(&to);
}

// A heartbeat may lack what came to it later, and nothing else.
static void test_old_heartbeat(void **state)
{
    (void)state;
    static const uint8_t texts[] = {1, 5, 6, 9};
    struct buf to = {0};
    for (uint8_t lacking = 1; lacking <= 12; lacking++) {
        buf_clear(&to);
        pack_map(&to, 11);
        for (uint8_t key = 1; key <= 12; key++) {
            if (key == lacking) {
                continue;
            }
            pack_uint(&to, key);
            if (memchr(texts, key, sizeof texts) != NULL) {
                pack_bin(&to, bytes_text("old"));
            } else {
                pack_uint(&to, key);
            }
        }
        struct message_heartbeat beat;
        int error = message_heartbeat_decode(buf_bytes(&to), &beat);
        assert_int_equal(error, lacking == 12 ? OK : ERR_PROTOCOL);
        if (error == OK) {
            assert_int_equal(beat.held_ns, 11);
            assert_int_equal(beat.way_ns, 0);
        }
    }
    buf_free(&to);
}

static void mutate(uint8_t *data, size_t *size, uint64_t *seed)
{
    for (uint64_t changes = draw(seed) % 4 + 1; changes > 0 && *size > 0; changes--) {
        size_t at = draw(seed) % *size;
        switch (draw(seed) % 4) {
        case 0:
            data[at] ^= (uint8_t)(1u << draw(seed) % 8);
            break;
        case 1:
            data[at] = (uint8_t)draw(seed);
            break;
        case 2:
            *size = at;
            break;
        default:
            memmove(data + at, data + at + 1, *size - at - 1);
            *size -= 1;
            break;
        }
    }
}

// Payloads are mutated behind the checksum, as a peer with a bug or an intent would send them.
static void test_mutations(void **state)
{
    (void)state;
    uint64_t seed = 3;
    uint8_t *pool = mem_alloc(16 * MEMBER_MAX);
    struct buf wire = {0};
    for (size_t i = 0; i < 20000; i++) {
        const struct message_row *row = &messages[i % ARRAY_LEN(messages)];
        union any_message message;
        fill(&message, row->code, pool, &seed);
        buf_clear(&wire);
        row->encode(&wire, &message);
        bool whole_frame = i % 2 == 0;
        size_t skip = whole_frame ? 0 : FRAME_HEAD_BYTES;
        size_t size = wire.size - skip;
        uint8_t *data = mem_copy(wire.data + skip, size);
        mutate(data, &size, &seed);
        uint8_t *exact = mem_copy(data, size);
        struct frame frame = {.code = row->code, .payload = bytes_of(exact, size)};
        if (whole_frame && frame_decode(bytes_of(exact, size), FRAME_PAYLOAD_MAX, &frame) <= 0) {
            frame.payload = bytes_of(NULL, 0);
        }
        const struct message_row *as = message_of(frame.code);
        if (as != NULL && as->decode(frame.payload, &message) == OK) {
            buf_clear(&wire);
            as->encode(&wire, &message); // touches every byte that the decoder lent
        }
        mem_free(exact);
        mem_free(data);
    }
    mem_free(pool);
    buf_free(&wire);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_cut_and_flipped_frames),
        cmocka_unit_test(test_frame_limits),
        cmocka_unit_test(test_payload_rules),
        cmocka_unit_test(test_other_versions),
        cmocka_unit_test(test_old_heartbeat),
        cmocka_unit_test(test_mutations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
