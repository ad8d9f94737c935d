// SPDX-License-Identifier: Apache-2.0
// The option rows at run time, and one value at a time: its type, its bounds, and what a person
// is told when it does not fit. Pure functions, any thread.
#include "qs/config_parts.h"

#include <inttypes.h>
#include <stdio.h>

#include "common/base/log.h"
#include "common/io/address.h"
#include "common/io/loop.h"

#define TEXT_BYTES_MAX 4096
#define NAME_BYTES_MAX 64

static const struct option_row node_rows[] = {
#define NODE_OPTION(type, name, initial, min, max, help)                                           \
    {#name, OPTION_##type, initial, min, max, help, offsetof(struct node_options, name)},
#include "common/tables/options.h"
};

static const struct option_row instance_rows[] = {
#define INSTANCE_OPTION(type, name, initial, min, max, help)                                       \
    {#name, OPTION_##type, initial, min, max, help, offsetof(struct instance_options, name)},
#include "common/tables/options.h"
};

static const struct option_row cache_rows[] = {
#define CACHE_OPTION(type, name, initial, min, max, help)                                          \
    {#name, OPTION_##type, initial, min, max, help, offsetof(struct instance_options, cache.name)},
#include "common/tables/options.h"
};

static const struct option_row consul_rows[] = {
#define CONSUL_OPTION(type, name, initial, min, max, help)                                         \
    {#name, OPTION_##type, initial, min, max, help, offsetof(struct consul_options, name)},
#include "common/tables/options.h"
};

static const struct {
    enum option_type type;
    const char *word;
    int value;
} words[] = {
#define OPTION_ENUM(type, word, value) {OPTION_##type, word, value},
#include "common/tables/options.h"
};

struct unit {
    const char *word;
    uint64_t factor;
};

static const struct unit size_units[] = {
    {"", 1}, {"B", 1}, {"KB", KIB}, {"MB", MIB}, {"GB", GIB}, {"TB", 1024 * GIB}, {NULL, 0},
};
static const struct unit ms_units[] = {
    {"", 1}, {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}, {NULL, 0},
};
static const struct unit int_units[] = {{"", 1}, {NULL, 0}};

struct option_scope option_scope_node(void)
{
    return (struct option_scope){node_rows, ARRAY_LEN(node_rows)};
}

struct option_scope option_scope_instance(void)
{
    return (struct option_scope){instance_rows, ARRAY_LEN(instance_rows)};
}

struct option_scope option_scope_cache(void)
{
    return (struct option_scope){cache_rows, ARRAY_LEN(cache_rows)};
}

struct option_scope option_scope_consul(void)
{
    return (struct option_scope){consul_rows, ARRAY_LEN(consul_rows)};
}

const struct option_row *option_find(struct option_scope scope, struct bytes name)
{
    for (size_t i = 0; i < scope.count; i++) {
        if (bytes_equal_text(name, scope.rows[i].name)) {
            return &scope.rows[i];
        }
    }
    return NULL;
}

// Levenshtein's distance of two names, each cut at NAME_BYTES_MAX.
static unsigned name_distance(struct bytes a, struct bytes b)
{
    unsigned row[NAME_BYTES_MAX + 1];
    size_t a_size = u64_min(a.size, NAME_BYTES_MAX), b_size = u64_min(b.size, NAME_BYTES_MAX);
    for (size_t j = 0; j <= b_size; j++) {
        row[j] = (unsigned)j;
    }
    for (size_t i = 1; i <= a_size; i++) {
        unsigned diagonal = row[0];
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_size; j++) {
            unsigned replaced = diagonal + (a.data[i - 1] != b.data[j - 1]);
            diagonal = row[j];
            unsigned moved = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = replaced < moved ? replaced : moved;
        }
    }
    return row[b_size];
}

const char *option_nearest(struct option_scope scope, struct bytes name)
{
    const char *nearest = NULL;
    unsigned least = name.size < 4 ? 2 : 3; // farther is no misspelling
    for (size_t i = 0; i < scope.count; i++) {
        unsigned distance = name_distance(name, bytes_text(scope.rows[i].name));
        if (distance < least && distance < strlen(scope.rows[i].name)) {
            least = distance;
            nearest = scope.rows[i].name;
        }
    }
    return nearest;
}

bool option_is_list(const struct option_row *row)
{
    return row->type == OPTION_TEXTS || row->type == OPTION_ADDRESSES ||
           row->type == OPTION_CLIENTS;
}

bool option_is_number(const struct option_row *row)
{
    return row->type == OPTION_INT || row->type == OPTION_SIZE || row->type == OPTION_MS ||
           row->type == OPTION_SPACE;
}

bool option_is_required(const struct option_row *row)
{
    return strcmp(row->initial, "REQUIRED") == 0;
}

const char *option_type_text(enum option_type type)
{
    static const char *const texts[] = {
        [OPTION_TEXT] = "text",         [OPTION_TEXTS] = "list of texts",
        [OPTION_ADDRESS] = "address",   [OPTION_ADDRESSES] = "list of addresses",
        [OPTION_CLIENTS] = "list of addresses or unix:/path",
        [OPTION_INT] = "number",        [OPTION_SIZE] = "size",
        [OPTION_MS] = "duration",       [OPTION_SPACE] = "percentage or size",
        [OPTION_IO] = "word",           [OPTION_ROLE] = "word",
        [OPTION_LEVEL] = "word",        [OPTION_SWITCH] = "word",
    };
    return texts[type];
}

void option_words(struct buf *to, enum option_type type)
{
    size_t left = 0;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        left += words[i].type == type;
    }
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (words[i].type == type) {
            left--;
            buf_format(to, "%s%s", words[i].word, left == 0 ? "" : left == 1 ? " or " : ", ");
        }
    }
}

const char *option_word_of(enum option_type type, int value)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (words[i].type == type && words[i].value == value) {
            return words[i].word;
        }
    }
    return "";
}

static char *parse_word(const struct option_row *row, const char *text, uint64_t *ret_number)
{
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if (words[i].type == row->type && strcmp(words[i].word, text) == 0) {
            *ret_number = (uint64_t)words[i].value;
            return NULL;
        }
    }
    struct buf known = {0};
    option_words(&known, row->type);
    char *reason = mem_format("'%.40s' is not known here, say %.*s", text, (int)known.size,
                              (const char *)known.data);
    buf_free(&known);
    return reason;
}

// Digits at the start of `text`; false when there is none or the number does not fit 64 bits.
static bool parse_digits(const char *text, uint64_t *ret_number, const char **ret_rest)
{
    uint64_t number = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, (uint64_t)(*at - '0'), &number)) {
            return false;
        }
    }
    *ret_number = number;
    *ret_rest = at;
    return at > text;
}

static char *wrong_number(const struct option_row *row, const char *text)
{
    switch (row->type) {
    case OPTION_SIZE:
        return mem_format("'%.40s' is not a size: say bytes, or a number with KB, MB, GB or TB",
                          text);
    case OPTION_SPACE:
        return mem_format("'%.40s' is neither a percentage (0%% to 99%%) nor a size (bytes, or a "
                          "number with KB, MB, GB or TB)", text);
    case OPTION_MS:
        return mem_format("'%.40s' is not a duration: say milliseconds, or a number with ms, s, "
                          "m, h or d", text);
    default:
        return mem_format("'%.40s' is not a whole number", text);
    }
}

static char *parse_number(const struct option_row *row, const char *text, uint64_t *ret_number)
{
    bool size = row->type == OPTION_SIZE || row->type == OPTION_SPACE;
    const struct unit *unit = size                     ? size_units
                              : row->type == OPTION_MS ? ms_units
                                                       : int_units;
    uint64_t number;
    const char *rest;
    if (!parse_digits(text, &number, &rest)) {
        return wrong_number(row, text);
    }
    if (row->type == OPTION_SPACE && strcmp(rest, "%") == 0 && number < 100 && rest - text <= 2) {
        *ret_number = SPACE_PERCENT + number;
        return NULL;
    }
    while (unit->word != NULL && strcasecmp(unit->word, rest) != 0) {
        unit++;
    }
    if (unit->word == NULL || (text[0] == '0' && rest - text > 1)) {
        return wrong_number(row, text); // 010 is eight to some and ten to others
    }
    bool overflow = __builtin_mul_overflow(number, unit->factor, &number);
    if (overflow || number < row->min || number > row->max) {
        const char *what = size ? " bytes" : row->type == OPTION_MS ? " ms" : "";
        return mem_format("'%.40s' is out of bounds, %" PRIu64 " to %" PRIu64 "%s are allowed",
                          text, row->min, row->max, what);
    }
    *ret_number = number;
    return NULL;
}

static char *parse_address(const struct option_row *row, const char *text)
{
    struct address address;
    const char *reason;
    if (row->type != OPTION_CLIENTS && strncmp(text, "unix:", 5) == 0) {
        return mem_format("'%.128s': a unix socket is for clients only, say host:port", text);
    }
    if (address_parse(&address, text, &reason) != OK) {
        return mem_format("'%.128s' is not an address: %s", text, reason);
    }
    const char *colon = strrchr(text, ':');
    if (row->type == OPTION_ADDRESSES && colon != NULL && strcmp(colon, ":0") == 0) {
        return mem_format("'%.128s': nobody can be reached at port 0", text);
    }
    return NULL;
}

static char *parse_text(const char *text)
{
    size_t size = strlen(text);
    if (size == 0) {
        return mem_format("the value is empty");
    }
    if (size > TEXT_BYTES_MAX) {
        return mem_format("the value has %zu bytes, at most %d are allowed", size, TEXT_BYTES_MAX);
    }
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7f) {
            return mem_format("the value holds a control character");
        }
    }
    return NULL;
}

char *option_parse(const struct option_row *row, const char *text, uint64_t *ret_number)
{
    *ret_number = 0;
    char *reason = parse_text(text);
    if (reason != NULL) {
        return reason;
    }
    switch (row->type) {
    case OPTION_TEXT:
    case OPTION_TEXTS:
        return NULL;
    case OPTION_ADDRESS:
    case OPTION_ADDRESSES:
    case OPTION_CLIENTS:
        return parse_address(row, text);
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_MS:
    case OPTION_SPACE:
        return parse_number(row, text, ret_number);
    case OPTION_IO:
    case OPTION_ROLE:
    case OPTION_LEVEL:
    case OPTION_SWITCH:
        return parse_word(row, text, ret_number);
    }
    CHECK(!"a type without its parser");
    return NULL;
}
