// SPDX-License-Identifier: Apache-2.0
// Tokens: an index of a history as text, `<history, 32 hex digits>:<index>`. A reader anywhere can
// ask for "at least this". Any thread.
#ifndef QS_QS_TOKEN_H
#define QS_QS_TOKEN_H

#include "common/core/instance.h"

#define TOKEN_BYTES (2 * HISTORY_ID_BYTES + 1 + 20 + 1)

// `instance` has a history (an empty node has none until a parent answered, but has a view).
void token_text(const struct instance *instance, uint64_t index, char to[TOKEN_BYTES]);

// Reads a token, or a bare index, which is of whatever history the instance has. ERR_USAGE: it is
// neither; ERR_HISTORY: of another history; ERR_LOADING: the instance has none yet.
int token_parse(const struct instance *instance, struct bytes text, uint64_t *ret_index) MUST_CHECK;

// The same for a word of a command: false after answering what is wrong with it into `to`.
bool token_word(const struct instance *instance, struct bytes word, uint64_t *ret_index,
                struct buf *to) MUST_CHECK;

#endif
