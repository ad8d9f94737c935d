// SPDX-License-Identifier: Apache-2.0
#include "common/client/fault.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/client/qs.h"
#include "common/wire/resp.h"

#define TEXT_BYTES 512

static _Thread_local char last[TEXT_BYTES];

// The numbers in the public header are those of the table.
#define SAME(name) _Static_assert((int)QS_##name == (int)ERR_##name, "qs.h and errors.h differ")
SAME(IO);
SAME(CLOSED);
SAME(STOPPED);
SAME(TIMEOUT);
SAME(BUSY);
SAME(NOT_FOUND);
SAME(CORRUPT);
SAME(KEY_SIZE);
SAME(VALUE_SIZE);
SAME(BATCH_SIZE);
SAME(REPLY_SIZE);
SAME(CLIENTS_LIMIT);
SAME(REQUEST_SIZE);
SAME(PROTOCOL);
SAME(REFUSED);
SAME(READONLY);
SAME(LOADING);
SAME(UNAVAILABLE);
SAME(BEHIND);
SAME(GONE);
SAME(DIVERGED);
SAME(UNKNOWN_OUTCOME);
SAME(NO_INSTANCE);
SAME(CONFLICT);
SAME(HISTORY);
SAME(NO_LEADER);
SAME(LACKS);
SAME(CONFIG);
SAME(USAGE);

static const struct row {
    int error;
    const char *word, *text;
} rows[] = {
#define ERROR(name, number, word, text) {-(number), word, text},
#include "common/tables/errors.h"
};

const char *qs_error_text(int error) { return error_text(error); }

const char *qs_last_error(void) { return last; }

int fault(int error, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last, sizeof last, format, arguments);
    va_end(arguments);
    return error;
}

// What this library says by itself, of a key or of its connection. A daemon that says the same
// means another key or connection: to take that for ours would invent an absence, or repeat a
// write.
static bool is_ours(int error)
{
    return error == ERR_NOT_FOUND || error == ERR_INCOMPLETE || error == ERR_CLOSED ||
           error == ERR_TIMEOUT;
}

// By its whole line, since many rows share a word; then by its word, whatever the words behind it.
int fault_of_reply(struct bytes line, uint64_t *ret_number)
{
    const uint8_t *blank = line.size == 0 ? NULL : memchr(line.data, ' ', line.size);
    size_t size = blank == NULL ? line.size : (size_t)(blank - line.data);
    struct bytes word = bytes_of(line.data, size);
    struct bytes rest = blank == NULL ? bytes_of(NULL, 0)
                                      : bytes_of(blank + 1, line.size - size - 1);
    if (bytes_equal_text(word, error_word(ERR_BEHIND)) ||
        bytes_equal_text(word, error_word(ERR_CONFLICT))) {
        uint64_t number;
        if (parse_u64(rest, &number)) {
            *ret_number = number;
        }
    }
    int found = ERR_REFUSED;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (!bytes_equal_text(word, rows[i].word)) {
            continue;
        }
        if (bytes_equal_text(rest, rows[i].text)) {
            return is_ours(rows[i].error) ? ERR_REFUSED : rows[i].error;
        }
        if (found == ERR_REFUSED && strcmp(rows[i].word, error_word(ERR_IO)) != 0) {
            found = rows[i].error;
        }
    }
    return found;
}
