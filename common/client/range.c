// SPDX-License-Identifier: Apache-2.0
// A walk over keys in order, page by page: the next page begins at the last key and one zero byte.
// A page that is too large for one reply is asked for again with half as many keys.
#include <stdio.h>

#include "common/base/mem.h"
#include "common/client/call.h"
#include "common/client/fault.h"
#include "common/client/qs.h"

#define PAGE_KEYS 256
#define NUMBER_TEXT 24
#define WORDS_MAX 7

struct qs_range {
    struct qs *qs;
    struct buf start, end; // of what is still to be read
    uint64_t at;           // 0: of the newest state
    unsigned page_keys;
    struct qs_result page;
    size_t row;            // of the page, the next
    bool last;             // nothing stands behind this page
};

int qs_range_open(struct qs_range **ret_range, struct qs *qs, const void *start, size_t start_size,
                  const void *end, size_t end_size, uint64_t at)
{
    struct qs_range *range = mem_zalloc(sizeof *range);
    range->qs = qs;
    range->at = at;
    range->page_keys = PAGE_KEYS;
    buf_append(&range->start, start, start_size);
    buf_append(&range->end, end, end_size);
    *ret_range = range;
    return OK;
}

void qs_range_close(struct qs_range *range)
{
    if (range != NULL) {
        buf_free(&range->start);
        buf_free(&range->end);
        result_close(&range->page);
        mem_free(range);
    }
}

static int decode_page(struct call *call, const struct answers *answers, size_t at)
{
    const struct answer *array = answers_item(answers, at, '*');
    if (array == NULL || array->number % 2 != 0) {
        return ERR_PROTOCOL;
    }
    for (size_t i = 1; i <= (size_t)array->number; i++) {
        if (answers_item(answers, at + i, '$') == NULL) {
            return ERR_PROTOCOL;
        }
    }
    call->result->layout = (struct layout){.first = at + 1, .stride = 2, .key = 0, .value = 1};
    call->result->rows = (size_t)array->number / 2;
    return OK;
}

static int ask_page(struct qs_range *range)
{
    char limit[NUMBER_TEXT], at[NUMBER_TEXT];
    snprintf(limit, sizeof limit, "%u", range->page_keys);
    snprintf(at, sizeof at, "%llu", (unsigned long long)range->at);
    struct bytes words[WORDS_MAX] = {bytes_text("QS.RANGE"), buf_bytes(&range->start),
                                     buf_bytes(&range->end), bytes_text("LIMIT"),
                                     bytes_text(limit),      bytes_text("AT"),
                                     bytes_text(at)};
    struct call call = {.qs = range->qs,
                        .words = words,
                        .count = range->at > 0 ? WORDS_MAX : WORDS_MAX - 2,
                        .fence = range->at > 0 ? FENCE_BEFORE : FENCE_AROUND,
                        .least = range->at,
                        .result = &range->page,
                        .decode = decode_page};
    call.index = range->at;
    return call_run(&call);
}

static struct bytes part(const struct qs_range *range, size_t row, size_t offset)
{
    const struct answers *answers = &range->page.in;
    const struct answer *item =
        answers_item(answers, range->page.layout.first + row * 2 + offset, '$');
    CHECK(item != NULL);
    return answer_bytes(answers, item);
}

// A page of at least one row, or ERR_NOT_FOUND.
static int next_page(struct qs_range *range)
{
    if (range->last) {
        return ERR_NOT_FOUND;
    }
    int error = ask_page(range);
    while ((error == ERR_REPLY_SIZE || error == ERR_KEYS_LIMIT) && range->page_keys > 1) {
        range->page_keys /= 2;
        error = ask_page(range);
    }
    range->row = 0;
    if (error != OK) {
        range->page.rows = 0;
        return error;
    }
    size_t rows = range->page.rows;
    range->last = rows < range->page_keys;
    if (rows == 0) {
        return ERR_NOT_FOUND;
    }
    struct bytes key = part(range, rows - 1, 0);
    buf_clear(&range->start);
    buf_append_bytes(&range->start, key);
    buf_append(&range->start, "", 1);
    return OK;
}

static void give(struct qs_bytes *to, struct bytes bytes)
{
    if (to != NULL) {
        *to = (struct qs_bytes){.data = bytes.data, .size = bytes.size};
    }
}

int qs_range_next(struct qs_range *range, struct qs_bytes *ret_key, struct qs_bytes *ret_value)
{
    if (range->row == range->page.rows) {
        int error = next_page(range);
        if (error != OK) {
            return error;
        }
    }
    give(ret_key, part(range, range->row, 0));
    give(ret_value, part(range, range->row, 1));
    range->row++;
    return OK;
}
