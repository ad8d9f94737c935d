// SPDX-License-Identifier: Apache-2.0
// Pairs as text, one on a line, for import and export:
//   TSV         key TAB value; in both \t \n \r \\ \0 \xHH stand for a byte, nothing else may
//               follow a backslash. A raw tab in a value must be written \t. A carriage return
//               before the line's end belongs to the line's end.
//   JSON lines  {"key": "...", "value": "..."}; bytes that are no UTF-8 as "key_base64" or
//               "value_base64" (RFC 4648, padded) in place of "key" or "value". Other members are
//               refused: they would be lost.
// Pure functions over bytes. Sizes of keys and values are not judged here.
#ifndef QS_COMMON_WIRE_IMPORT_TEXT_H
#define QS_COMMON_WIRE_IMPORT_TEXT_H

#include "common/base/buf.h"

enum import_format { IMPORT_AUTO, IMPORT_TSV, IMPORT_JSONL, IMPORT_RESP };

// The format of a name ("tsv", "jsonl", "resp", "auto"); false: no such name.
bool import_format_of(const char *name, enum import_format *ret_format) MUST_CHECK;
const char *import_format_text(enum import_format format);

// What input that begins with `head` is most likely written in.
enum import_format import_guess(struct bytes head);

struct import_pair {
    struct bytes key, value;
};

// Parses a line without its line feed. What needs decoding goes to `scratch`, which is cleared
// first; the pair points into it or into `line`. NULL = fine, else what is wrong (static memory).
// An empty line gives an empty key: skip it.
const char *import_tsv(struct bytes line, struct buf *scratch, struct import_pair *ret_pair)
    MUST_CHECK;
const char *import_jsonl(struct bytes line, struct buf *scratch, struct import_pair *ret_pair)
    MUST_CHECK;

// Writes a line with its line feed, which import_tsv and import_jsonl read back exactly.
void export_tsv(struct buf *to, struct bytes key, struct bytes value);
void export_jsonl(struct buf *to, struct bytes key, struct bytes value);
// One field of a TSV line, escaped.
void export_tsv_field(struct buf *to, struct bytes field);
// One member of a JSON object: "plain": "text", or "plain_base64": "..." when it is no UTF-8.
void export_json_member(struct buf *to, const char *plain, struct bytes from);

void base64_encode(struct buf *to, struct bytes from);
bool base64_decode(struct buf *to, struct bytes from) MUST_CHECK; // false: not canonical base64

#endif
