// SPDX-License-Identifier: Apache-2.0
#include "common/client/result.h"

#include "common/base/mem.h"
#include "common/client/fault.h"
#include "common/client/qs.h"

struct qs_result *qs_result_new(void) { return mem_zalloc(sizeof(struct qs_result)); }

void result_close(struct qs_result *result)
{
    answers_free(&result->in);
    result->rows = 0;
}

void qs_result_free(struct qs_result *result)
{
    if (result != NULL) {
        result_close(result);
        mem_free(result);
    }
}

void result_take(struct qs_result *result, struct answers *answers)
{
    size_t limit = answers->data.limit;
    struct answers own = result->in;
    result->in = *answers;
    *answers = own;
    answers_clear(answers);
    answers->data.limit = limit;
}

static void begin(struct qs_result *result)
{
    answers_clear(&result->in);
    result->in.data.limit = 0;
}

static void end(struct qs_result *result, struct layout layout, size_t rows, uint64_t index)
{
    result->layout = layout;
    result->rows = rows;
    result->index = index;
}

void result_add(struct qs_result *result, struct bytes value, uint64_t version)
{
    struct answers *to = &result->in;
    answers_add(to, '*', 2);
    if (version == 0) {
        answers_add(to, '$', -1);
    } else {
        answers_add_bulk(to, value);
    }
    answers_add(to, ':', (int64_t)version);
}

void result_one(struct qs_result *result, struct bytes value, uint64_t version, uint64_t index)
{
    begin(result);
    result_add(result, value, version);
    end(result, (struct layout){.value = 1, .version = 2}, 1, index);
}

void result_begin(struct qs_result *result, size_t rows)
{
    begin(result);
    answers_add(&result->in, '*', (int64_t)rows);
}

void result_end(struct qs_result *result, size_t rows, uint64_t index)
{
    end(result, (struct layout){.first = 1, .stride = 3, .value = 1, .version = 2}, rows, index);
}

size_t qs_count(const struct qs_result *result) { return result->rows; }

uint64_t qs_result_index(const struct qs_result *result) { return result->index; }

static size_t item_of(const struct qs_result *result, size_t row, size_t part)
{
    return result->layout.first + row * result->layout.stride + part;
}

static int bulk_of(const struct qs_result *result, size_t row, size_t part,
                   struct qs_bytes *ret_bytes)
{
    if (row >= result->rows || part == 0) {
        return fault(ERR_USAGE, "row %zu is not in the result, or has no such part", row);
    }
    const struct answer *item = answers_item(&result->in, item_of(result, row, part), '$');
    if (item == NULL) {
        return ERR_NOT_FOUND;
    }
    struct bytes found = answer_bytes(&result->in, item);
    *ret_bytes = (struct qs_bytes){.data = found.data, .size = found.size};
    return OK;
}

int qs_value(const struct qs_result *result, size_t row, struct qs_bytes *ret_value)
{
    return bulk_of(result, row, result->layout.value, ret_value);
}

int qs_key(const struct qs_result *result, size_t row, struct qs_bytes *ret_key)
{
    return bulk_of(result, row, result->layout.key, ret_key);
}

uint64_t qs_version(const struct qs_result *result, size_t row)
{
    if (row >= result->rows || result->layout.version == 0) {
        return 0;
    }
    size_t at = item_of(result, row, result->layout.version);
    const struct answer *item = answers_item(&result->in, at, ':');
    return item == NULL ? 0 : (uint64_t)item->number;
}
