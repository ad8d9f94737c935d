// SPDX-License-Identifier: Apache-2.0
#include "common/wire/fetch_items.h"

#include "common/base/msgpack.h"

// Those of common/data/limits.h, which stands above this folder.
#define KEY_LIMIT 1024
#define VALUE_LIMIT (16 * MIB)

void fetch_items_begin(struct buf *to, unsigned count)
{
    CHECK(count > 0 && count <= FETCH_ITEMS_MAX);
    pack_array(to, count);
}

void fetch_ask_append(struct buf *to, const struct fetch_ask *ask)
{
    pack_array(to, 2);
    pack_bin(to, ask->key);
    pack_uint(to, ask->version);
}

void fetch_answer_append(struct buf *to, const struct fetch_answer *answer)
{
    pack_array(to, 2);
    pack_uint(to, (uint64_t)answer->status);
    if (answer->status == FETCH_EXACT) {
        pack_bin(to, answer->value);
    } else {
        pack_nil(to);
    }
}

// The number of items, 0 after setting the error.
static unsigned begin(struct unpacker *from)
{
    uint32_t count = unpack_array(from);
    if (count == 0 || count > FETCH_ITEMS_MAX) {
        unpack_fail(from);
        return 0;
    }
    return count;
}

int fetch_asks_decode(struct bytes items, struct fetch_ask to[FETCH_ITEMS_MAX],
                      unsigned *ret_count)
{
    struct unpacker from = unpacker_of(items);
    unsigned count = begin(&from);
    for (unsigned i = 0; i < count; i++) {
        unpack_array_of(&from, 2);
        to[i].key = unpack_bin(&from);
        to[i].version = unpack_uint(&from);
        if (to[i].key.size == 0 || to[i].key.size > KEY_LIMIT || to[i].version == 0) {
            unpack_fail(&from);
        }
    }
    int error = unpack_end(&from);
    if (error == OK) {
        *ret_count = count;
    }
    return error;
}

static bool answer_read(struct unpacker *from, struct fetch_answer *ret_answer)
{
    unpack_array_of(from, 2);
    uint64_t status = unpack_uint(from);
    bool empty = unpack_nil(from);
    struct bytes value = empty ? bytes_of(NULL, 0) : unpack_bin(from);
    if (status > FETCH_ERROR || empty != (status != FETCH_EXACT) || value.size > VALUE_LIMIT) {
        return false;
    }
    *ret_answer = (struct fetch_answer){.status = (enum fetch_status)status, .value = value};
    return true;
}

int fetch_answers_decode(struct bytes items, struct fetch_answer to[FETCH_ITEMS_MAX],
                         unsigned *ret_count)
{
    struct unpacker from = unpacker_of(items);
    unsigned count = begin(&from);
    for (unsigned i = 0; i < count; i++) {
        if (!answer_read(&from, &to[i])) {
            unpack_fail(&from);
        }
    }
    int error = unpack_end(&from);
    if (error == OK) {
        *ret_count = count;
    }
    return error;
}
