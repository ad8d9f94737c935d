// SPDX-License-Identifier: Apache-2.0
#include "common/client/answers.h"

#include "common/base/mem.h"
#include "common/wire/resp.h"

// Longer than any head, and than any error that is said.
#define LINE_BYTES_MAX 4096
// Of one array, and of one bulk: a daemon sends less.
#define NUMBER_MAX INT32_MAX
#define KEPT_BYTES (256 * KIB)
#define KEPT_ITEMS 8192

static struct answer *add_item(struct answers *answers)
{
    if (answers->count == answers->capacity) {
        answers->capacity = answers->capacity == 0 ? 16 : answers->capacity * 2;
        answers->items = mem_realloc(answers->items, answers->capacity * sizeof *answers->items);
    }
    return &answers->items[answers->count++];
}

// The line that begins at `offset`, without its end. 1, 0: more is needed, ERR_PROTOCOL.
static int find_line(const struct answers *answers, struct bytes *ret_line)
{
    const uint8_t *start = answers->data.data + answers->offset;
    size_t size = answers->data.size - answers->offset;
    const uint8_t *end = size == 0 ? NULL : memchr(start, '\n', u64_min(size, LINE_BYTES_MAX));
    if (end == NULL) {
        return size >= LINE_BYTES_MAX ? ERR_PROTOCOL : 0;
    }
    if (end - start < 2 || end[-1] != '\r') {
        return ERR_PROTOCOL;
    }
    *ret_line = bytes_of(start, (size_t)(end - start) - 1);
    return 1;
}

// The bytes of a bulk behind its head. 1, 0: more is needed, ERR_PROTOCOL.
static int find_bulk(const struct answers *answers, size_t head, struct answer *item)
{
    item->offset = answers->offset + head;
    item->size = (size_t)item->number;
    if (answers->data.size - item->offset < item->size + 2) {
        return 0;
    }
    const uint8_t *end = answers->data.data + item->offset + item->size;
    return end[0] == '\r' && end[1] == '\n' ? 1 : ERR_PROTOCOL;
}

static int parse_item(struct answers *answers)
{
    struct bytes line;
    int code = find_line(answers, &line);
    if (code != 1) {
        return code;
    }
    size_t used = line.size + 2;
    struct answer item = {.type = (char)line.data[0]};
    struct bytes rest = bytes_of(line.data + 1, line.size - 1);
    bool counts = item.type == '$' || item.type == '*';
    if (item.type == '+' || item.type == '-') {
        item.offset = answers->offset + 1;
        item.size = rest.size;
    } else if ((!counts && item.type != ':') || !parse_i64(rest, &item.number) ||
               (counts && (item.number < -1 || item.number > NUMBER_MAX))) {
        return ERR_PROTOCOL;
    }
    if (item.type == '$' && item.number >= 0) {
        code = find_bulk(answers, used, &item);
        if (code != 1) {
            return code;
        }
        used += item.size + 2;
    }
    answers->offset += used;
    answers->missing -= 1;
    answers->missing += item.type == '*' && item.number > 0 ? (uint64_t)item.number : 0;
    *add_item(answers) = item;
    return 1;
}

int answers_parse(struct answers *answers, unsigned wanted)
{
    CHECK(wanted > 0 && wanted <= ANSWERS_MAX);
    while (answers->whole < wanted) {
        if (answers->missing == 0) {
            answers->starts[answers->whole] = answers->count;
            answers->missing = 1;
        }
        int code = parse_item(answers);
        if (code != 1) {
            return code;
        }
        answers->whole += answers->missing == 0 ? 1 : 0;
    }
    return 1;
}

void answers_add(struct answers *answers, char type, int64_t number)
{
    *add_item(answers) = (struct answer){.type = type, .number = number};
}

void answers_add_bulk(struct answers *answers, struct bytes bytes)
{
    size_t offset = answers->data.size;
    buf_append_bytes(&answers->data, bytes);
    answers->offset = answers->data.size;
    *add_item(answers) = (struct answer){
        .type = '$', .number = (int64_t)bytes.size, .offset = offset, .size = bytes.size};
}

void answers_next(struct answers *answers)
{
    buf_consume(&answers->data, answers->offset);
    answers->offset = 0;
    answers->count = 0;
    answers->missing = 0;
    answers->whole = 0;
}

void answers_clear(struct answers *answers)
{
    if (answers->data.capacity > KEPT_BYTES) {
        buf_free(&answers->data);
    }
    if (answers->capacity > KEPT_ITEMS) {
        mem_free(answers->items);
        answers->items = NULL;
        answers->capacity = 0;
    }
    buf_clear(&answers->data);
    answers->offset = 0;
    answers_next(answers);
}

void answers_free(struct answers *answers)
{
    buf_free(&answers->data);
    mem_free(answers->items);
    *answers = (struct answers){0};
}

const struct answer *answers_item(const struct answers *answers, size_t at, char type)
{
    const struct answer *item = at < answers->count ? &answers->items[at] : NULL;
    bool counts = type == '$' || type == '*';
    return item == NULL || item->type != type || (counts && item->number < 0) ? NULL : item;
}
