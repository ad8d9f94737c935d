// SPDX-License-Identifier: Apache-2.0
// TSV is parsed by hand, because an import's speed hangs on it: a line without a backslash is lent
// as it is, without a copy. JSON is jansson's, which judges UTF-8 and bounds nesting. Any thread;
// a scratch belongs to one caller.
#include "common/wire/import_text.h"

#include <jansson.h>

#include "common/base/mem.h"

static const struct {
    const char *name;
    enum import_format format;
} formats[] = {
    {"auto", IMPORT_AUTO},
    {"tsv", IMPORT_TSV},
    {"jsonl", IMPORT_JSONL},
    {"resp", IMPORT_RESP},
};

bool import_format_of(const char *name, enum import_format *ret_format)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *ret_format = formats[i].format;
            return true;
        }
    }
    return false;
}

const char *import_format_text(enum import_format format)
{
    for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
        if (formats[i].format == format) {
            return formats[i].name;
        }
    }
    return "unknown";
}

enum import_format import_guess(struct bytes head)
{
    size_t at = 0;
    while (at < head.size && (head.data[at] == '\n' || head.data[at] == '\r')) {
        at++;
    }
    size_t left = head.size - at;
    if (left >= 2 && head.data[at] == '*' && head.data[at + 1] >= '0' && head.data[at + 1] <= '9') {
        const uint8_t *end = memchr(head.data + at, '\n', left);
        const uint8_t *tab =
            memchr(head.data + at, '\t', end == NULL ? left : (size_t)(end - head.data - at));
        return tab == NULL ? IMPORT_RESP : IMPORT_TSV;
    }
    return left >= 1 && head.data[at] == '{' ? IMPORT_JSONL : IMPORT_TSV;
}

static struct bytes without_return(struct bytes line)
{
    if (line.size > 0 && line.data[line.size - 1] == '\r') {
        line.size--;
    }
    return line;
}

// ---- TSV --------------------------------------------------------------------------------------

static int hex_digit(uint8_t byte)
{
    if (byte >= '0' && byte <= '9') {
        return byte - '0';
    }
    uint8_t lower = byte | 0x20;
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// The byte that the escape at `at` (behind the backslash) stands for, -1 when it is none;
// *ret_size = bytes of the escape.
static int unescape_one(struct bytes from, size_t at, size_t *ret_size)
{
    static const char letters[] = "tnr\\0", bytes[] = "\t\n\r\\";
    if (at >= from.size) {
        return -1;
    }
    uint8_t letter = from.data[at];
    if (letter == 'x' && from.size - at >= 3) {
        int high = hex_digit(from.data[at + 1]), low = hex_digit(from.data[at + 2]);
        *ret_size = 3;
        return high < 0 || low < 0 ? -1 : high * 16 + low;
    }
    const char *found = letter == 0 ? NULL : strchr(letters, letter);
    *ret_size = 1;
    return found == NULL ? -1 : (unsigned char)bytes[found - letters];
}

// Appends `from` with its escapes decoded to `scratch`, which has room; false: a wrong escape.
static bool unescape(struct buf *scratch, struct bytes from)
{
    size_t at = 0;
    while (at < from.size) {
        const uint8_t *slash = memchr(from.data + at, '\\', from.size - at);
        size_t plain = slash == NULL ? from.size - at : (size_t)(slash - (from.data + at));
        buf_append(scratch, from.data + at, plain);
        at += plain;
        if (slash != NULL) {
            size_t size = 0;
            int byte = unescape_one(from, at + 1, &size);
            if (byte < 0) {
                return false;
            }
            uint8_t one = (uint8_t)byte;
            buf_append(scratch, &one, 1);
            at += 1 + size;
        }
    }
    return true;
}

const char *import_tsv(struct bytes line, struct buf *scratch, struct import_pair *ret_pair)
{
    line = without_return(line);
    if (line.size == 0) {
        *ret_pair = (struct import_pair){{0}, {0}};
        return NULL;
    }
    const uint8_t *tab = memchr(line.data, '\t', line.size);
    if (tab == NULL) {
        return "no tab between key and value";
    }
    size_t key_size = (size_t)(tab - line.data);
    struct bytes key = bytes_of(line.data, key_size);
    struct bytes value = bytes_of(tab + 1, line.size - key_size - 1);
    if (key_size == 0) {
        return "the key is empty";
    }
    if (value.size > 0 && memchr(value.data, '\t', value.size) != NULL) {
        return "a second tab: inside a value it must be written \\t";
    }
    if (memchr(line.data, '\\', line.size) == NULL) {
        *ret_pair = (struct import_pair){key, value};
        return NULL;
    }
    buf_clear(scratch);
    buf_reserve(scratch, line.size); // so that it does not move below
    if (!unescape(scratch, key)) {
        return "a backslash in the key is not followed by t, n, r, 0, \\ or xHH";
    }
    size_t split = scratch->size;
    if (!unescape(scratch, value)) {
        return "a backslash in the value is not followed by t, n, r, 0, \\ or xHH";
    }
    ret_pair->key = bytes_of(scratch->data, split);
    ret_pair->value = bytes_of(scratch->data + split, scratch->size - split);
    return NULL;
}

void export_tsv_field(struct buf *to, struct bytes field)
{
    static const char special[] = "\t\n\r\\", letters[] = "tnr\\";
    size_t plain = 0;
    for (size_t i = 0; i < field.size; i++) {
        uint8_t byte = field.data[i];
        const char *found = byte == 0 || byte > '\\' ? NULL : strchr(special, byte);
        if (byte != 0 && found == NULL) {
            continue;
        }
        buf_append(to, field.data + plain, i - plain);
        plain = i + 1;
        char escape[2] = {'\\', byte == 0 ? '0' : letters[found - special]};
        buf_append(to, escape, 2);
    }
    buf_append(to, field.data + plain, field.size - plain);
}

void export_tsv(struct buf *to, struct bytes key, struct bytes value)
{
    export_tsv_field(to, key);
    buf_append(to, "\t", 1);
    export_tsv_field(to, value);
    buf_append(to, "\n", 1);
}

// ---- base64 -----------------------------------------------------------------------------------

static const char digits64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(struct buf *to, struct bytes from)
{
    for (size_t i = 0; i < from.size; i += 3) {
        size_t left = from.size - i;
        uint32_t bits = (uint32_t)from.data[i] << 16;
        bits |= left > 1 ? (uint32_t)from.data[i + 1] << 8 : 0;
        bits |= left > 2 ? from.data[i + 2] : 0;
        char quad[4] = {digits64[bits >> 18], digits64[bits >> 12 & 63], digits64[bits >> 6 & 63],
                        digits64[bits & 63]};
        if (left < 3) {
            quad[3] = '=';
        }
        if (left < 2) {
            quad[2] = '=';
        }
        buf_append(to, quad, 4);
    }
}

static int digit64(uint8_t byte)
{
    const char *found = byte == 0 ? NULL : strchr(digits64, byte);
    return found == NULL ? -1 : (int)(found - digits64);
}

bool base64_decode(struct buf *to, struct bytes from)
{
    if (from.size % 4 != 0) {
        return false;
    }
    for (size_t i = 0; i < from.size; i += 4) {
        const uint8_t *quad = from.data + i;
        bool last = i + 4 == from.size;
        size_t padding = last && quad[3] == '=' ? (quad[2] == '=' ? 2 : 1) : 0;
        uint32_t bits = 0;
        for (size_t j = 0; j < 4; j++) {
            int digit = j >= 4 - padding ? 0 : digit64(quad[j]);
            if (digit < 0) {
                return false;
            }
            bits = bits << 6 | (uint32_t)digit;
        }
        uint8_t triple[3] = {(uint8_t)(bits >> 16), (uint8_t)(bits >> 8), (uint8_t)bits};
        if ((padding == 1 && triple[2] != 0) || (padding == 2 && (triple[1] | triple[2]) != 0)) {
            return false; // bits that would be lost
        }
        buf_append(to, triple, 3 - padding);
    }
    return true;
}

// ---- JSON lines -------------------------------------------------------------------------------

// Appends one of the members `plain` and `base64` of `object`; false when it is missing, there
// twice, or no text.
static bool take_member(json_t *object, const char *plain, const char *base64, struct buf *to,
                        size_t *taken)
{
    json_t *text = json_object_get(object, plain), *coded = json_object_get(object, base64);
    *taken += (text != NULL) + (coded != NULL);
    if ((text != NULL) == (coded != NULL) || !json_is_string(text != NULL ? text : coded)) {
        return false;
    }
    if (text != NULL) {
        buf_append(to, json_string_value(text), json_string_length(text));
        return true;
    }
    return base64_decode(to, bytes_of(json_string_value(coded), json_string_length(coded)));
}

static const char *take_object(json_t *object, struct buf *scratch, struct import_pair *ret_pair)
{
    if (!json_is_object(object)) {
        return "not a JSON object";
    }
    buf_clear(scratch);
    size_t taken = 0;
    if (!take_member(object, "key", "key_base64", scratch, &taken)) {
        return "it needs one text \"key\" or valid \"key_base64\"";
    }
    size_t split = scratch->size;
    if (!take_member(object, "value", "value_base64", scratch, &taken)) {
        return "it needs one text \"value\" or valid \"value_base64\"";
    }
    if (taken != json_object_size(object)) {
        return "a member other than key and value";
    }
    if (split == 0) {
        return "the key is empty";
    }
    ret_pair->key = bytes_of(scratch->data, split);
    ret_pair->value = bytes_of(scratch->data + split, scratch->size - split);
    return NULL;
}

const char *import_jsonl(struct bytes line, struct buf *scratch, struct import_pair *ret_pair)
{
    line = without_return(line);
    if (line.size == 0) {
        *ret_pair = (struct import_pair){{0}, {0}};
        return NULL;
    }
    json_error_t error;
    json_t *object = json_loadb((const char *)line.data, line.size,
                                JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (object == NULL) {
        return "not JSON";
    }
    const char *reason = take_object(object, scratch, ret_pair);
    json_decref(object);
    return reason;
}

void export_json_member(struct buf *to, const char *plain, struct bytes from)
{
    json_t *text = json_stringn(from.size == 0 ? "" : (const char *)from.data, from.size);
    if (text == NULL) { // no UTF-8
        buf_format(to, "\"%s_base64\": \"", plain);
        base64_encode(to, from);
        buf_append_text(to, "\"");
        return;
    }
    char *quoted = json_dumps(text, JSON_ENCODE_ANY);
    CHECK(quoted != NULL);
    buf_format(to, "\"%s\": ", plain);
    buf_append_text(to, quoted);
    mem_free(quoted);
    json_decref(text);
}

void export_jsonl(struct buf *to, struct bytes key, struct bytes value)
{
    buf_append_text(to, "{");
    export_json_member(to, "key", key);
    buf_append_text(to, ", ");
    export_json_member(to, "value", value);
    buf_append_text(to, "}\n");
}
