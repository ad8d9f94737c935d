// SPDX-License-Identifier: Apache-2.0
// Splitting an inline command into words, with Redis's rules for quotes. A part of the request
// parser (common/wire/resp.c); nobody else includes it.
#ifndef QS_COMMON_WIRE_RESP_INLINE_H
#define QS_COMMON_WIRE_RESP_INLINE_H

#include "common/wire/resp.h"

// Adds the words of `line`, which stands without its line end, to the parser. False: a quote is
// not closed, or something other than a blank follows a closing one.
bool resp_split_inline(struct resp_parser *parser, struct bytes line) MUST_CHECK;

// Appends a word to the parser's list.
void resp_add_word(struct resp_parser *parser, size_t offset, size_t size);

#endif
