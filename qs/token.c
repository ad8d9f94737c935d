// SPDX-License-Identifier: Apache-2.0
// The history is immutable once there is one, and whether there is one is asked first: so nothing
// here is locked. Any thread.
#include "qs/token.h"

#include <stdio.h>

#include "common/wire/resp.h"

#define HISTORY_TEXT (2 * (size_t)HISTORY_ID_BYTES)

static void history_text(const struct instance *instance, char *to)
{
    static const char digits[] = "0123456789abcdef";
    CHECK(journal_has_history(instance->journal));
    const uint8_t *history = journal_history(instance->journal);
    for (size_t i = 0; i < HISTORY_ID_BYTES; i++) {
        to[2 * i] = digits[history[i] >> 4];
        to[2 * i + 1] = digits[history[i] & 15];
    }
    to[HISTORY_TEXT] = 0;
}

void token_text(const struct instance *instance, uint64_t index, char to[TOKEN_BYTES])
{
    history_text(instance, to);
    snprintf(to + HISTORY_TEXT, TOKEN_BYTES - HISTORY_TEXT, ":%llu", (unsigned long long)index);
}

static bool is_history(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++) {
        uint8_t lower = text.data[i] | 0x20;
        bool digit = text.data[i] >= '0' && text.data[i] <= '9';
        if (!digit && (lower < 'a' || lower > 'f')) {
            return false;
        }
    }
    return true;
}

static bool same_history(struct bytes text, const char *ours)
{
    for (size_t i = 0; i < text.size; i++) {
        bool digit = text.data[i] <= '9';
        if ((digit ? text.data[i] : text.data[i] | 0x20) != (uint8_t)ours[i]) {
            return false;
        }
    }
    return true;
}

int token_parse(const struct instance *instance, struct bytes text, uint64_t *ret_index)
{
    if (parse_u64(text, ret_index)) {
        return OK;
    }
    if (text.size <= HISTORY_TEXT + 1 || text.data[HISTORY_TEXT] != ':') {
        return ERR_USAGE;
    }
    struct bytes history = bytes_of(text.data, HISTORY_TEXT);
    struct bytes number = bytes_of(text.data + HISTORY_TEXT + 1, text.size - HISTORY_TEXT - 1);
    uint64_t index;
    if (!is_history(history) || !parse_u64(number, &index)) {
        return ERR_USAGE;
    }
    if (!journal_has_history(instance->journal)) {
        return ERR_LOADING; // an empty node that no parent has answered yet
    }
    char ours[HISTORY_TEXT + 1];
    history_text(instance, ours);
    if (!same_history(history, ours)) {
        return ERR_HISTORY;
    }
    *ret_index = index;
    return OK;
}

bool token_word(const struct instance *instance, struct bytes word, uint64_t *ret_index,
                struct buf *to)
{
    int code = token_parse(instance, word, ret_index);
    if (code == ERR_USAGE) {
        reply_error(to, "ERR value is not an integer or out of range");
    } else if (code != OK) {
        reply_error_code(to, code);
    }
    return code == OK;
}
