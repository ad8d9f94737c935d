// SPDX-License-Identifier: Apache-2.0
// Tokens: an index of a history as text, `<history, 32 hex digits>:<index>`. A reader anywhere can
// ask for "at least this". What a token is compared with is a view, never the journal, which may be
// of the history to come already. Any thread.
#ifndef QS_QS_TOKEN_H
#define QS_QS_TOKEN_H

#include "common/core/view.h"

#define TOKEN_BYTES (2 * HISTORY_ID_BYTES + 1 + 20 + 1)

struct token {
    uint64_t index;
    bool named; // else a bare index, of whatever history is shown
    uint8_t history[HISTORY_ID_BYTES];
};

void token_text(const uint8_t history[HISTORY_ID_BYTES], uint64_t index, char to[TOKEN_BYTES]);

// Reads a token or a bare index. ERR_USAGE: it is neither.
int token_parse(struct bytes text, struct token *ret_token) MUST_CHECK;

// Is it of the view's history? ERR_HISTORY: no; ERR_LOADING: nothing is shown yet that could tell.
int token_check(const struct token *token, const struct view *view) MUST_CHECK;

#endif
