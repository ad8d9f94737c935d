// SPDX-License-Identifier: Apache-2.0
#include "common/base/msgpack.h"

#include <msgpack/pack.h>

static int write_to_buf(void *context, const char *data, size_t size)
{
    buf_append(context, data, size);
    return 0;
}

static msgpack_packer packer_of(struct buf *to)
{
    return (msgpack_packer){.data = to, .callback = write_to_buf};
}

void pack_array(struct buf *to, size_t count)
{
    CHECK(count <= UINT32_MAX);
    msgpack_packer packer = packer_of(to);
    msgpack_pack_array(&packer, count);
}

void pack_map(struct buf *to, size_t pairs)
{
    CHECK(pairs <= UINT32_MAX);
    msgpack_packer packer = packer_of(to);
    msgpack_pack_map(&packer, pairs);
}

void pack_uint(struct buf *to, uint64_t number)
{
    msgpack_packer packer = packer_of(to);
    msgpack_pack_uint64(&packer, number);
}

void pack_bin(struct buf *to, struct bytes bytes)
{
    CHECK(bytes.size <= UINT32_MAX);
    msgpack_packer packer = packer_of(to);
    msgpack_pack_bin(&packer, bytes.size);
    buf_append_bytes(to, bytes);
}

void pack_str(struct buf *to, struct bytes text)
{
    CHECK(text.size <= UINT32_MAX);
    msgpack_packer packer = packer_of(to);
    msgpack_pack_str(&packer, text.size);
    buf_append_bytes(to, text);
}

void pack_bool(struct buf *to, bool value)
{
    msgpack_packer packer = packer_of(to);
    value ? msgpack_pack_true(&packer) : msgpack_pack_false(&packer);
}

void pack_nil(struct buf *to)
{
    msgpack_packer packer = packer_of(to);
    msgpack_pack_nil(&packer);
}

struct unpacker unpacker_of(struct bytes input) { return (struct unpacker){.rest = input}; }

void unpack_fail(struct unpacker *from) { from->failed = true; }

int unpack_end(const struct unpacker *from)
{
    return from->failed || from->rest.size != 0 ? ERR_PROTOCOL : OK;
}

// The head of an item: its kind, and the number or the count that the head carries. For kinds
// without children or bytes `bytes` says how many bytes of the item's own follow the head.
struct head {
    enum unpack_kind kind;
    uint64_t number; // value of a uint or bool, items of an array, pairs of a map
    uint64_t bytes;  // that follow the head and belong to this item alone
    size_t size;     // of the head
};

static uint64_t load_be(const uint8_t *from, size_t width)
{
    uint64_t number = 0;
    for (size_t i = 0; i < width; i++) {
        number = number << 8 | from[i];
    }
    return number;
}

// One row per first byte from 0xc0 to 0xdf: `width` bytes of number or length follow it.
struct format {
    uint8_t kind;
    uint8_t width;
    uint8_t bytes; // fixed size of what follows, for formats without a length
};

static const struct format formats[32] = {
    {UNPACK_NIL, 0, 0},   {UNPACK_NONE, 0, 0},  {UNPACK_BOOL, 0, 0},  {UNPACK_BOOL, 0, 0},
    {UNPACK_BIN, 1, 0},   {UNPACK_BIN, 2, 0},   {UNPACK_BIN, 4, 0},   {UNPACK_EXT, 1, 1},
    {UNPACK_EXT, 2, 1},   {UNPACK_EXT, 4, 1},   {UNPACK_FLOAT, 0, 4}, {UNPACK_FLOAT, 0, 8},
    {UNPACK_UINT, 1, 0},  {UNPACK_UINT, 2, 0},  {UNPACK_UINT, 4, 0},  {UNPACK_UINT, 8, 0},
    {UNPACK_INT, 0, 1},   {UNPACK_INT, 0, 2},   {UNPACK_INT, 0, 4},   {UNPACK_INT, 0, 8},
    {UNPACK_EXT, 0, 2},   {UNPACK_EXT, 0, 3},   {UNPACK_EXT, 0, 5},   {UNPACK_EXT, 0, 9},
    {UNPACK_EXT, 0, 17},  {UNPACK_STR, 1, 0},   {UNPACK_STR, 2, 0},   {UNPACK_STR, 4, 0},
    {UNPACK_ARRAY, 2, 0}, {UNPACK_ARRAY, 4, 0}, {UNPACK_MAP, 2, 0},   {UNPACK_MAP, 4, 0},
};

// Formats that hold their number or length in the first byte itself.
static bool read_short_head(uint8_t first, struct head *ret_head)
{
    if (first < 0x80) {
        *ret_head = (struct head){UNPACK_UINT, first, 0, 1};
    } else if (first < 0x90) {
        *ret_head = (struct head){UNPACK_MAP, first & 0x0f, 0, 1};
    } else if (first < 0xa0) {
        *ret_head = (struct head){UNPACK_ARRAY, first & 0x0f, 0, 1};
    } else if (first < 0xc0) {
        *ret_head = (struct head){UNPACK_STR, 0, first & 0x1f, 1};
    } else if (first >= 0xe0) {
        *ret_head = (struct head){UNPACK_INT, 0, 0, 1};
    } else {
        return false;
    }
    return true;
}

static bool read_long_head(struct bytes rest, struct head *ret_head)
{
    struct format format = formats[rest.data[0] - 0xc0];
    if (format.kind == UNPACK_NONE || rest.size - 1 < format.width) {
        return false;
    }
    uint64_t number = load_be(rest.data + 1, format.width);
    struct head head = {format.kind, number, format.bytes, (size_t)1 + format.width};
    if (format.kind == UNPACK_BOOL) {
        head.number = rest.data[0] & 1;
    } else if (format.kind == UNPACK_BIN || format.kind == UNPACK_STR ||
               format.kind == UNPACK_EXT) {
        head.bytes += number;
    }
    *ret_head = head;
    return true;
}

// Reads a head and proves that all it announces can be there. False: nothing sound is next.
static bool read_head(struct bytes rest, struct head *ret_head)
{
    struct head head;
    if (rest.size == 0) {
        return false;
    }
    if (!read_short_head(rest.data[0], &head) && !read_long_head(rest, &head)) {
        return false;
    }
    uint64_t left = rest.size - head.size;
    bool fits = head.kind == UNPACK_ARRAY ? head.number <= left
                : head.kind == UNPACK_MAP ? head.number <= left / 2
                                          : head.bytes <= left;
    if (fits) {
        *ret_head = head;
    }
    return fits;
}

static void advance(struct unpacker *from, size_t size)
{
    from->rest.data += size;
    from->rest.size -= size;
}

// Takes the head of an item that must be of `kind`.
static struct head take(struct unpacker *from, enum unpack_kind kind)
{
    struct head head = {0};
    if (from->failed || !read_head(from->rest, &head) || head.kind != kind) {
        from->failed = true;
        return (struct head){0};
    }
    advance(from, head.size);
    return head;
}

static struct bytes take_bytes(struct unpacker *from, enum unpack_kind kind)
{
    struct head head = take(from, kind);
    if (from->failed) {
        return (struct bytes){0};
    }
    struct bytes bytes = bytes_of(from->rest.data, head.bytes);
    advance(from, head.bytes);
    return bytes;
}

enum unpack_kind unpack_peek(const struct unpacker *from)
{
    struct head head;
    return !from->failed && read_head(from->rest, &head) ? head.kind : UNPACK_NONE;
}

uint32_t unpack_array(struct unpacker *from) { return (uint32_t)take(from, UNPACK_ARRAY).number; }

uint32_t unpack_map(struct unpacker *from) { return (uint32_t)take(from, UNPACK_MAP).number; }

uint64_t unpack_uint(struct unpacker *from) { return take(from, UNPACK_UINT).number; }

struct bytes unpack_bin(struct unpacker *from) { return take_bytes(from, UNPACK_BIN); }

struct bytes unpack_str(struct unpacker *from) { return take_bytes(from, UNPACK_STR); }

bool unpack_bool(struct unpacker *from) { return take(from, UNPACK_BOOL).number != 0; }

uint32_t unpack_u32(struct unpacker *from)
{
    uint64_t number = unpack_uint(from);
    if (number > UINT32_MAX) {
        unpack_fail(from);
        return 0;
    }
    return (uint32_t)number;
}

bool unpack_nil(struct unpacker *from)
{
    if (unpack_peek(from) != UNPACK_NIL) {
        return false;
    }
    advance(from, 1);
    return true;
}

void unpack_array_of(struct unpacker *from, uint32_t count)
{
    if (unpack_array(from) != count) {
        unpack_fail(from);
    }
}

// Passes over one head and its own bytes. Returns how many items it holds.
static uint64_t skip_head(struct unpacker *from)
{
    struct head head;
    if (!read_head(from->rest, &head)) {
        unpack_fail(from);
        return 0;
    }
    advance(from, head.size);
    if (head.kind == UNPACK_ARRAY || head.kind == UNPACK_MAP) {
        return head.kind == UNPACK_MAP ? head.number * 2 : head.number;
    }
    advance(from, head.bytes);
    return 0;
}

struct bytes unpack_item(struct unpacker *from)
{
    const uint8_t *start = from->rest.data;
    uint64_t left[UNPACK_DEPTH_MAX + 1] = {1}; // items still to come, per level
    size_t depth = 0;
    while (!from->failed && (depth > 0 || left[0] > 0)) {
        if (left[depth] == 0) {
            depth--;
            continue;
        }
        left[depth]--;
        uint64_t inner = skip_head(from);
        if (inner > 0 && depth == UNPACK_DEPTH_MAX) {
            unpack_fail(from);
        } else if (inner > 0) {
            left[++depth] = inner;
        }
    }
    return from->failed ? (struct bytes){0} : bytes_of(start, (size_t)(from->rest.data - start));
}

void unpack_skip(struct unpacker *from) { (void)unpack_item(from); }
