// SPDX-License-Identifier: Apache-2.0
// A borrowed run of bytes: it owns nothing and lives no longer than what it points into.
#ifndef QS_COMMON_BASE_BYTES_H
#define QS_COMMON_BASE_BYTES_H

#include <string.h>

#include "common/base/base.h"

struct bytes {
    const uint8_t *data;
    size_t size;
};

static inline struct bytes bytes_of(const void *data, size_t size)
{
    return (struct bytes){.data = data, .size = size};
}

static inline struct bytes bytes_text(const char *text) { return bytes_of(text, strlen(text)); }

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool bytes_equal_text(struct bytes a, const char *text)
{
    return bytes_equal(a, bytes_text(text));
}

// Order of unsigned bytes, the shorter first where one is a prefix of the other.
static inline int bytes_compare(struct bytes a, struct bytes b)
{
    size_t shorter = a.size < b.size ? a.size : b.size;
    int order = shorter == 0 ? 0 : memcmp(a.data, b.data, shorter);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static inline bool bytes_prefix(struct bytes a, struct bytes prefix)
{
    return a.size >= prefix.size &&
           (prefix.size == 0 || memcmp(a.data, prefix.data, prefix.size) == 0);
}

// Splits a text at its blanks; returns how many words there are. More than `max` is a bug.
static inline size_t bytes_words(const char *text, struct bytes *words, size_t max)
{
    size_t count = 0;
    while (*text != '\0') {
        size_t size = strcspn(text, " ");
        CHECK(count < max && size > 0);
        words[count++] = bytes_of(text, size);
        text += size + strspn(text + size, " ");
    }
    return count;
}

// Little-endian numbers at any alignment.
static inline uint16_t load_u16(const void *from)
{
    uint16_t v;
    memcpy(&v, from, sizeof v);
    return v;
}
static inline uint32_t load_u32(const void *from)
{
    uint32_t v;
    memcpy(&v, from, sizeof v);
    return v;
}
static inline uint64_t load_u64(const void *from)
{
    uint64_t v;
    memcpy(&v, from, sizeof v);
    return v;
}
static inline void store_u16(void *to, uint16_t v) { memcpy(to, &v, sizeof v); }
static inline void store_u32(void *to, uint32_t v) { memcpy(to, &v, sizeof v); }
static inline void store_u64(void *to, uint64_t v) { memcpy(to, &v, sizeof v); }

// Big-endian, so that byte order is number order: for numbers inside store keys.
static inline uint64_t load_u64_be(const void *from) { return __builtin_bswap64(load_u64(from)); }
static inline void store_u64_be(void *to, uint64_t v) { store_u64(to, __builtin_bswap64(v)); }

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "formats are little-endian");

#endif
