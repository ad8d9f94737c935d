// SPDX-License-Identifier: Apache-2.0
// What a read filled: the daemon's reply as it came, and where in it the rows are. No value is
// copied on its way from the socket. One thread.
#ifndef QS_COMMON_CLIENT_RESULT_H
#define QS_COMMON_CLIENT_RESULT_H

#include "common/client/answers.h"

// Where a row's parts are: row i begins at item first + i * stride. 0 as an offset: there is none.
struct layout {
    size_t first, stride;
    size_t key, value, version;
};

struct qs_result {
    struct answers in;
    struct layout layout;
    size_t rows;
    uint64_t index;
};

// Takes the replies over; `answers` gets the memory that was the result's, empty.
void result_take(struct qs_result *result, struct answers *answers);

// Makes it one row, with a copy of the value; version 0: absent. For answers that came by no line.
void result_one(struct qs_result *result, struct bytes value, uint64_t version, uint64_t index);

// Likewise `rows` rows: begun, each added in its turn, and ended.
void result_begin(struct qs_result *result, size_t rows);
void result_add(struct qs_result *result, struct bytes value, uint64_t version);
void result_end(struct qs_result *result, size_t rows, uint64_t index);

void result_close(struct qs_result *result);

#endif
