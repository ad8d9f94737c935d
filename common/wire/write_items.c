// SPDX-License-Identifier: Apache-2.0
#include "common/wire/write_items.h"

#define KEY_LIMIT 1024 // of common/data/limits.h, which stands above this folder

void write_head_append(struct buf *to, const struct write_head *head)
{
    pack_uint(to, head->protocol);
    pack_bool(to, head->exec);
    pack_uint(to, head->watched);
    pack_uint(to, head->calls);
}

void write_watched_append(struct buf *to, struct bytes key, uint64_t version)
{
    pack_bin(to, key);
    pack_uint(to, version);
}

void write_words_append(struct buf *to, const struct bytes *words, size_t count)
{
    pack_array(to, count);
    for (size_t i = 0; i < count; i++) {
        pack_bin(to, words[i]);
    }
}

void write_answer_append(struct buf *to, struct bytes answer) { pack_bin(to, answer); }

struct write_head write_head_next(struct unpacker *from)
{
    struct write_head head = {.protocol = unpack_u32(from)};
    head.exec = unpack_bool(from);
    head.watched = unpack_u32(from);
    head.calls = unpack_u32(from);
    bool fits = (head.protocol == 2 || head.protocol == 3) &&
                (head.exec || (head.calls == 1 && head.watched == 0)) &&
                head.calls <= WRITE_CALLS_MAX && head.watched <= WRITE_CALLS_MAX;
    if (!fits) {
        unpack_fail(from);
    }
    return head;
}

struct bytes write_watched_next(struct unpacker *from, uint64_t *ret_version)
{
    struct bytes key = unpack_bin(from);
    *ret_version = unpack_uint(from);
    if (key.size == 0 || key.size > KEY_LIMIT) {
        unpack_fail(from);
    }
    return key;
}

struct write_call write_call_next(struct unpacker *from)
{
    struct write_call call = {.answered = unpack_peek(from) == UNPACK_BIN};
    if (call.answered) {
        call.answer = unpack_bin(from);
    } else {
        call.words = unpack_array(from);
    }
    if (!call.answered && call.words == 0) {
        unpack_fail(from);
    }
    return call;
}

struct bytes write_word_next(struct unpacker *from) { return unpack_bin(from); }

int write_items_check(struct bytes items)
{
    struct unpacker from = unpacker_of(items);
    struct write_head head = write_head_next(&from);
    uint64_t version;
    for (uint32_t i = 0; i < head.watched && unpack_ok(&from); i++) {
        (void)write_watched_next(&from, &version);
    }
    uint64_t words = 0;
    for (uint32_t i = 0; i < head.calls && unpack_ok(&from); i++) {
        struct write_call call = write_call_next(&from);
        words += call.words;
        for (uint32_t w = 0; w < call.words && unpack_ok(&from); w++) {
            (void)write_word_next(&from);
        }
    }
    return items.size > WRITE_ITEMS_MAX || words > WRITE_WORDS_MAX ? ERR_PROTOCOL
                                                                   : unpack_end(&from);
}
