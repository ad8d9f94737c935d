// SPDX-License-Identifier: Apache-2.0
#include "bench/pairs.h"

#include <errno.h>
#include <stdio.h>

#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/wire/import_text.h"

#define MADE_KEY_BYTES 29
#define NAME_BITS 60
#define NAME_MASK ((UINT64_C(1) << NAME_BITS) - 1)
// Behind a key of a file: what makes it an absent one.
#define TAIL_MARK '~'
#define TAIL_DIGITS 4
#define TAIL_BYTES (1 + TAIL_DIGITS)
#define READ_BYTES MIB

static const char digits[] = "0123456789abcdef";

static char *hex(char *to, uint64_t from, unsigned count)
{
    for (unsigned i = count; i > 0; i--) {
        *to++ = digits[(from >> (4 * (i - 1))) & 15];
    }
    return to;
}

// ---- made from numbers --------------------------------------------------------------------------

// One to one on 60 bits: each step (xor of the upper half, an odd factor) can be undone.
static uint64_t scatter(uint64_t seed, uint64_t number)
{
    uint64_t x = (number + draw_mix(seed)) & NAME_MASK;
    for (unsigned i = 0; i < 3; i++) {
        x ^= x >> (NAME_BITS / 2);
        x = (x * UINT64_C(0x9e3779b97f4a7c15)) & NAME_MASK;
    }
    return x ^ (x >> (NAME_BITS / 2));
}

static size_t made_key(uint64_t seed, uint64_t number, char *to)
{
    CHECK(number <= NAME_MASK);
    uint64_t name = scatter(seed, number);
    memcpy(to, "zone:", 5);
    to = hex(to + 5, name >> 28, 8);
    memcpy(to, ":setting:", 9);
    hex(to + 9, name, 7);
    return MADE_KEY_BYTES;
}

static size_t made_value(const struct pairs_options *options, uint64_t number, uint64_t generation,
                         uint8_t *to)
{
    size_t size = options->value_bytes;
    uint64_t state = draw_mix(options->seed ^ draw_mix(number)) ^ draw_mix(~generation);
    struct draw draw = {.state = state};
    store_u64(to, number);
    for (size_t at = sizeof number; at < size; at += sizeof number) {
        uint64_t bits = draw_u64(&draw);
        memcpy(to + at, &bits, size - at < sizeof bits ? size - at : sizeof bits);
    }
    return size;
}

// ---- read from a file ---------------------------------------------------------------------------

static bool read_text(const char *path, struct buf *to)
{
    FILE *file = fopen(path, "re");
    size_t got = 1;
    while (file != NULL && got > 0) {
        got = fread(buf_reserve(to, READ_BYTES), 1, READ_BYTES, file);
        buf_commit(to, got);
    }
    bool read = file != NULL && !ferror(file);
    if (!read) {
        fprintf(stderr, "qs-bench: %s: %s\n", path, strerror(errno));
    }
    if (file != NULL) {
        fclose(file);
    }
    return read;
}

static bool ends_like_absent(struct bytes key)
{
    if (key.size < TAIL_BYTES || key.data[key.size - TAIL_BYTES] != TAIL_MARK) {
        return false;
    }
    for (size_t i = key.size - TAIL_DIGITS; i < key.size; i++) {
        if (memchr(digits, key.data[i], sizeof digits - 1) == NULL) {
            return false;
        }
    }
    return true;
}

static const char *judge(const struct import_pair *pair)
{
    if (pair->key.size > PAIR_KEY_BYTES_MAX - TAIL_BYTES) {
        return "the key is longer than 1019 bytes";
    }
    if (pair->value.size > PAIR_VALUE_BYTES_MAX) {
        return "the value is larger than 1 MiB";
    }
    return ends_like_absent(pair->key)
               ? "the key ends in ~ and four hexadecimal digits, as absent keys do"
               : NULL;
}

// The keys so far by their hash: the number of a row + 1, 0 = free.
struct seen {
    uint32_t *slots;
    uint64_t mask;
};

static bool see(struct seen *seen, const struct pairs *pairs, struct bytes key)
{
    uint64_t at = hash64(key, 0) & seen->mask;
    for (; seen->slots[at] != 0; at = (at + 1) & seen->mask) {
        if (bytes_equal(pairs->rows[seen->slots[at] - 1].key, key)) {
            return false;
        }
    }
    seen->slots[at] = (uint32_t)pairs->count + 1;
    return true;
}

// NULL, or what is wrong with a line of the text.
static const char *add_line(struct pairs *pairs, struct seen *seen, struct bytes line,
                            struct buf *scratch)
{
    struct import_pair pair;
    const char *reason = import_tsv(line, scratch, &pair);
    if (reason != NULL || pair.key.size == 0) {
        return reason;
    }
    if (pair.key.data != line.data) { // decoded into the scratch, where it took no more room
        memcpy((uint8_t *)line.data, pair.key.data, pair.key.size + pair.value.size);
        pair.key.data = line.data;
        pair.value.data = line.data + pair.key.size;
    }
    reason = judge(&pair);
    if (reason == NULL && !see(seen, pairs, pair.key)) {
        reason = "the key is there twice";
    }
    if (reason == NULL) {
        pairs->rows[pairs->count++] = pair;
        pairs->key_bytes += pair.key.size;
        pairs->value_bytes += pair.value.size;
    }
    return reason;
}

static const uint8_t *line_end(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *found = memchr(at, '\n', (size_t)(end - at));
    return found != NULL ? found : end;
}

static uint64_t count_lines(struct bytes text)
{
    uint64_t count = 0;
    for (const uint8_t *at = text.data, *end = at + text.size; at < end; count++) {
        at = line_end(at, end) + 1;
    }
    return count;
}

static bool parse_text(struct pairs *pairs, uint64_t lines)
{
    struct seen seen = {.mask = 1};
    while (seen.mask < 2 * lines) {
        seen.mask = 2 * seen.mask + 1;
    }
    seen.slots = mem_zalloc((seen.mask + 1) * sizeof *seen.slots);
    pairs->rows = mem_alloc(lines * sizeof *pairs->rows);
    struct buf scratch = {0};
    const char *reason = NULL;
    const uint8_t *at = pairs->text.data, *end = at + pairs->text.size;
    uint64_t line = 0;
    while (reason == NULL && line < lines) {
        const uint8_t *next = line_end(at, end);
        reason = add_line(pairs, &seen, bytes_of(at, (size_t)(next - at)), &scratch);
        at = next + 1;
        line++;
    }
    if (reason != NULL) {
        fprintf(stderr, "qs-bench: %s: line %llu: %s\n", pairs->options.file,
                (unsigned long long)line, reason);
    }
    mem_free(seen.slots);
    buf_free(&scratch);
    return reason == NULL;
}

static void shuffle(struct pairs *pairs)
{
    struct draw draw = {.state = draw_mix(pairs->options.seed)};
    for (uint64_t left = pairs->count; left > 1; left--) {
        uint64_t at = draw_below(&draw, left);
        struct import_pair last = pairs->rows[left - 1];
        pairs->rows[left - 1] = pairs->rows[at];
        pairs->rows[at] = last;
    }
}

static bool load(struct pairs *pairs)
{
    if (!read_text(pairs->options.file, &pairs->text)) {
        return false;
    }
    uint64_t lines = count_lines(buf_bytes(&pairs->text));
    if (lines > PAIRS_MAX) {
        fprintf(stderr, "qs-bench: %s: more than %d lines\n", pairs->options.file, PAIRS_MAX);
        return false;
    }
    pairs->digest = hash128(buf_bytes(&pairs->text), 0);
    if (!parse_text(pairs, lines)) {
        return false;
    }
    if (pairs->count == 0) {
        fprintf(stderr, "qs-bench: %s: there is no pair in it\n", pairs->options.file);
        return false;
    }
    shuffle(pairs);
    return true;
}

// ---- both ---------------------------------------------------------------------------------------

bool pairs_open(struct pairs *pairs, const struct pairs_options *options)
{
    *pairs = (struct pairs){.options = *options};
    if (options->file == NULL) {
        CHECK(options->value_bytes >= PAIR_VALUE_BYTES_LEAST);
        CHECK(options->value_bytes <= PAIR_VALUE_BYTES_MAX && options->count <= PAIRS_MAX);
        pairs->count = options->count;
        pairs->key_bytes = options->count * MADE_KEY_BYTES;
        pairs->value_bytes = options->count * options->value_bytes;
        return true;
    }
    if (!load(pairs)) {
        pairs_close(pairs);
        return false;
    }
    return true;
}

void pairs_close(struct pairs *pairs)
{
    mem_free(pairs->rows);
    buf_free(&pairs->text);
    *pairs = (struct pairs){0};
}

size_t pair_key(const struct pairs *pairs, uint64_t number, char *to)
{
    if (pairs->rows == NULL) {
        return made_key(pairs->options.seed, number, to);
    }
    struct bytes key = pairs->rows[number % pairs->count].key;
    uint64_t tail = number / pairs->count; // 0: it is there
    memcpy(to, key.data, key.size);
    if (tail == 0) {
        return key.size;
    }
    CHECK(tail >> (4 * TAIL_DIGITS) == 0);
    to[key.size] = TAIL_MARK;
    hex(to + key.size + 1, tail, TAIL_DIGITS);
    return key.size + TAIL_BYTES;
}

size_t pair_value(const struct pairs *pairs, uint64_t number, uint64_t generation, uint8_t *to)
{
    CHECK(number < pairs->count);
    if (pairs->rows == NULL) {
        return made_value(&pairs->options, number, generation, to);
    }
    struct bytes value = pairs->rows[number].value;
    memcpy(to, value.data, value.size);
    return value.size;
}

bool pair_value_fits(const struct pairs *pairs, uint64_t number, struct bytes value)
{
    CHECK(number < pairs->count);
    if (pairs->rows == NULL) {
        return value.size == pairs->options.value_bytes && load_u64(value.data) == number;
    }
    return bytes_equal(value, pairs->rows[number].value);
}

// ---- what they are ------------------------------------------------------------------------------

const char *pairs_file_name(const struct pairs *pairs)
{
    const char *path = pairs->options.file;
    const char *slash = path != NULL ? strrchr(path, '/') : NULL;
    return slash != NULL ? slash + 1 : path;
}

char *pairs_text(const struct pairs *pairs)
{
    double count = (double)u64_max(1, pairs->count);
    double key = (double)pairs->key_bytes / count, value = (double)pairs->value_bytes / count;
    unsigned long long number = pairs->count;
    return pairs->options.file == NULL
               ? mem_format("%llu pairs of %.0f + %.0f bytes", number, key, value)
               : mem_format("%s: %llu pairs of %.1f + %.1f bytes on average",
                            pairs_file_name(pairs), number, key, value);
}

char *pairs_identity(const struct pairs *pairs)
{
    unsigned long long count = pairs->count;
    if (pairs->options.file == NULL) {
        return mem_format("%llu pairs, values of %llu bytes, seed %llu", count,
                          (unsigned long long)pairs->options.value_bytes,
                          (unsigned long long)pairs->options.seed);
    }
    char digest[HASH128_TEXT_BYTES];
    hash128_text(pairs->digest, digest);
    return mem_format("%llu pairs of a file, digest %s", count, digest);
}
