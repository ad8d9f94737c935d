// SPDX-License-Identifier: Apache-2.0
#include "qs/token.h"

#include <stdio.h>
#include <string.h>

#include "common/wire/resp.h"

#define HISTORY_TEXT (2 * (size_t)HISTORY_ID_BYTES)

void token_text(const uint8_t history[HISTORY_ID_BYTES], uint64_t index, char to[TOKEN_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < HISTORY_ID_BYTES; i++) {
        to[2 * i] = digits[history[i] >> 4];
        to[2 * i + 1] = digits[history[i] & 15];
    }
    snprintf(to + HISTORY_TEXT, TOKEN_BYTES - HISTORY_TEXT, ":%llu", (unsigned long long)index);
}

// The value of a hexadecimal digit in either case, 16 when it is none.
static unsigned digit_value(uint8_t digit)
{
    if (digit >= '0' && digit <= '9') {
        return digit - '0';
    }
    uint8_t lower = digit | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10u : 16;
}

static bool parse_history(const uint8_t *text, uint8_t history[HISTORY_ID_BYTES])
{
    for (size_t i = 0; i < HISTORY_ID_BYTES; i++) {
        unsigned high = digit_value(text[2 * i]), low = digit_value(text[2 * i + 1]);
        if (high > 15 || low > 15) {
            return false;
        }
        history[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

int token_parse(struct bytes text, struct token *ret_token)
{
    struct token token = {.index = 0};
    if (parse_u64(text, &token.index)) {
        *ret_token = token;
        return OK;
    }
    if (text.size <= HISTORY_TEXT + 1 || text.data[HISTORY_TEXT] != ':') {
        return ERR_USAGE;
    }
    struct bytes number = bytes_of(text.data + HISTORY_TEXT + 1, text.size - HISTORY_TEXT - 1);
    token.named = true;
    if (!parse_history(text.data, token.history) || !parse_u64(number, &token.index)) {
        return ERR_USAGE;
    }
    *ret_token = token;
    return OK;
}

int token_check(const struct token *token, const struct view *view)
{
    if (!token->named) {
        return OK;
    }
    if (view == NULL || view->place.number == 0) {
        return ERR_LOADING;
    }
    return memcmp(token->history, view->history, HISTORY_ID_BYTES) == 0 ? OK : ERR_HISTORY;
}
