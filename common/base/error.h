// SPDX-License-Identifier: Apache-2.0
// Error numbers and their texts, derived from common/tables/errors.h.
//
// Functions return 0 (OK) or a negative enum error. Details that a person needs (file, key,
// errno) are logged once, where the decision is made.
#ifndef QS_COMMON_BASE_ERROR_H
#define QS_COMMON_BASE_ERROR_H

#include "common/base/base.h"

enum error {
    OK = 0,
#define ERROR(name, number, word, text) ERR_##name = -(number),
#include "common/tables/errors.h"
};

// The text of an error, "ok" for 0, "unknown error" for a number that is in no row. Never NULL.
const char *error_text(int error);

// The first word of a RESP error reply for this error: "ERR", "READONLY", ... Never NULL.
const char *error_word(int error);

// True when `error` is the number of a row: for numbers that came over the wire.
bool error_known(int error);

// The error that stands for an errno: ERR_DISK_FULL, ERR_MEMORY, or ERR_IO.
int error_from_errno(int code);

#endif
