// SPDX-License-Identifier: Apache-2.0
// One encoder and one decoder over the rows of common/tables/messages.h; what differs between
// messages is data: which keys, of which type, at which place of the struct.
#include "common/wire/message.h"

#include "common/base/msgpack.h"

enum field_type { FIELD_U64, FIELD_BYTES, FIELD_TEXT };

struct field_row {
    uint16_t code; // of its message
    uint8_t key;
    uint8_t type; // enum field_type
    uint16_t offset;
};

static const struct field_row fields[] = {
#define FIELD(message, key, type, field)                                                           \
    {MESSAGE_##message, key, FIELD_##type, offsetof(struct message_##message, field)},
#include "common/tables/messages.h"
};

// A row whose type is not that of the struct's member does not compile, nor one without a member.
#define FIELD(message, key, type, field)                                                           \
    _Static_assert((key) >= 1 && (key) <= 127, "key of " #message "." #field);                     \
    _Static_assert(sizeof(((struct message_##message *)0)->field) == sizeof(message_##type),       \
                   "type of " #message "." #field);
#include "common/tables/messages.h"

// The rows of one message stand together; at most 64, so that a word can say which were seen.
struct field_run {
    const struct field_row *first;
    unsigned count;
};

static struct field_run fields_of(uint16_t code)
{
    size_t at = 0;
    while (at < ARRAY_LEN(fields) && fields[at].code != code) {
        at++;
    }
    struct field_run run = {.first = &fields[at]};
    while (at + run.count < ARRAY_LEN(fields) && fields[at + run.count].code == code) {
        run.count++;
    }
    CHECK(run.count > 0 && run.count < 64);
    return run;
}

// Fields behind these came later, and may be missing.
static const struct {
    uint16_t code;
    uint8_t first_fields;
} growing[] = {{MESSAGE_hello, 12}, {MESSAGE_welcome, 12}, {MESSAGE_heartbeat, 11}};

static bool is_optional(const struct field_row *row)
{
    for (size_t i = 0; i < ARRAY_LEN(growing); i++) {
        if (row->code == growing[i].code) {
            return row->key > growing[i].first_fields;
        }
    }
    return false;
}

static void field_encode(struct buf *to, const struct field_row *row, const void *message)
{
    const void *member = (const uint8_t *)message + row->offset;
    pack_uint(to, row->key);
    if (row->type == FIELD_U64) {
        pack_uint(to, *(const uint64_t *)member);
    } else if (row->type == FIELD_BYTES) {
        pack_bin(to, *(const struct bytes *)member);
    } else {
        pack_str(to, *(const struct bytes *)member);
    }
}

static void field_decode(struct unpacker *from, const struct field_row *row, void *message)
{
    void *member = (uint8_t *)message + row->offset;
    if (row->type == FIELD_U64) {
        *(uint64_t *)member = unpack_uint(from);
    } else if (row->type == FIELD_BYTES) {
        *(struct bytes *)member = unpack_bin(from);
    } else {
        *(struct bytes *)member = unpack_str(from);
    }
}

static void encode(struct buf *to, uint16_t code, const void *message)
{
    struct field_run run = fields_of(code);
    size_t mark = frame_begin(to, code);
    pack_map(to, run.count);
    for (unsigned i = 0; i < run.count; i++) {
        field_encode(to, &run.first[i], message);
    }
    frame_end(to, mark);
}

static void pair_decode(struct unpacker *from, struct field_run run, void *message, uint64_t *seen)
{
    uint64_t key = unpack_uint(from);
    for (unsigned i = 0; i < run.count; i++) {
        if (run.first[i].key == key) {
            if (*seen & (uint64_t)1 << i) {
                unpack_fail(from);
            }
            *seen |= (uint64_t)1 << i;
            field_decode(from, &run.first[i], message);
            return;
        }
    }
    unpack_skip(from); // of a newer version of the protocol
}

static int decode(struct bytes payload, uint16_t code, void *message)
{
    struct field_run run = fields_of(code);
    struct unpacker from = unpacker_of(payload);
    uint32_t pairs = unpack_map(&from);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < pairs && unpack_ok(&from); i++) {
        pair_decode(&from, run, message, &seen);
    }
    for (unsigned i = 0; i < run.count; i++) {
        if ((seen >> i & 1) == 0 && !is_optional(&run.first[i])) {
            unpack_fail(&from);
        }
    }
    return unpack_end(&from);
}

#define MESSAGE(name, code)                                                                        \
    void message_##name##_encode(struct buf *to, const struct message_##name *message)             \
    {                                                                                              \
        encode(to, code, message);                                                                 \
    }                                                                                              \
    int message_##name##_decode(struct bytes payload, struct message_##name *ret_message)          \
    {                                                                                              \
        struct message_##name message = {0};                                                       \
        int error = decode(payload, code, &message);                                               \
        if (error == OK) {                                                                         \
            *ret_message = message;                                                                \
        }                                                                                          \
        return error;                                                                              \
    }
#include "common/tables/messages.h"

const char *message_text(uint16_t code)
{
    switch (code) {
#define MESSAGE(name, number)                                                                      \
    case number:                                                                                   \
        return #name;
#include "common/tables/messages.h"
    default:
        return "unknown";
    }
}
