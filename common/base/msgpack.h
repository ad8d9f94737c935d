// SPDX-License-Identifier: Apache-2.0
// msgpack, as blocks and peer messages use it: pack_* append to a buf, unpack_* read through a
// bounded cursor. https://github.com/msgpack/msgpack/blob/master/spec.md
//
// The reader trusts nothing: no count is believed before its bytes are there (an array of n items
// needs at least n more bytes, a bin of n exactly n), it never allocates, never recurses, and
// bytes are lent from the input, not copied. Its error is sticky: after the first wrong byte every
// read gives 0, empty or false and moves nothing, so a caller reads a whole message and looks once,
// with unpack_end. Loops over a count end early by asking unpack_ok, or simply run: the count is
// bounded by the input. The writer's only error is the buf's own.
//
// Not thread safe; several readers may share one input.
#ifndef QS_COMMON_BASE_MSGPACK_H
#define QS_COMMON_BASE_MSGPACK_H

#include "common/base/buf.h"

// Writing. Numbers take their shortest form. Sizes and counts must fit 32 bits (checked).
void pack_array(struct buf *to, size_t count); // `count` items follow
void pack_map(struct buf *to, size_t pairs);   // `pairs` times a key and a value follow
void pack_uint(struct buf *to, uint64_t number);
void pack_bin(struct buf *to, struct bytes bytes);
void pack_str(struct buf *to, struct bytes text);
void pack_bool(struct buf *to, bool value);
void pack_nil(struct buf *to);

// Reading. Make one by unpacker_of; `rest` is what was not read yet.
struct unpacker {
    struct bytes rest;
    bool failed;
};

enum unpack_kind {
    UNPACK_NONE, // at the end, after an error, or a byte that starts nothing
    UNPACK_NIL,
    UNPACK_BOOL,
    UNPACK_UINT,
    UNPACK_INT, // in a signed format
    UNPACK_FLOAT,
    UNPACK_BIN,
    UNPACK_STR,
    UNPACK_EXT,
    UNPACK_ARRAY,
    UNPACK_MAP,
};

// How deep unpack_skip and unpack_item follow nested arrays and maps.
#define UNPACK_DEPTH_MAX 16

struct unpacker unpacker_of(struct bytes input);

static inline bool unpack_ok(const struct unpacker *from) { return !from->failed; }

// Sets the error: for values that parse but make no sense to the caller.
void unpack_fail(struct unpacker *from);

// OK when nothing failed and the cursor stands exactly at the end, else ERR_PROTOCOL.
int unpack_end(const struct unpacker *from) MUST_CHECK;

// What comes next; reads nothing.
enum unpack_kind unpack_peek(const struct unpacker *from);

// Each reads one item of its kind; another kind is an error.
uint32_t unpack_array(struct unpacker *from); // number of items that follow
uint32_t unpack_map(struct unpacker *from);   // number of pairs that follow
uint64_t unpack_uint(struct unpacker *from);  // a negative number is an error
struct bytes unpack_bin(struct unpacker *from);
struct bytes unpack_str(struct unpacker *from);
bool unpack_bool(struct unpacker *from);

// A number that fits 32 bits; a larger one is an error.
uint32_t unpack_u32(struct unpacker *from);

// Takes a nil if one is next and returns true; anything else stays unread (no error).
bool unpack_nil(struct unpacker *from);

// An array of exactly `count` items; another length is an error.
void unpack_array_of(struct unpacker *from, uint32_t count);

// Passes over one item of any kind with all that it holds, returning its bytes. Too deep or cut
// short is an error.
struct bytes unpack_item(struct unpacker *from);
void unpack_skip(struct unpacker *from);

#endif
