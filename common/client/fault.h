// SPDX-License-Identifier: Apache-2.0
// How a call of the library fails: with an error, and with what it met, kept for the thread.
// Any thread.
#ifndef QS_COMMON_CLIENT_FAULT_H
#define QS_COMMON_CLIENT_FAULT_H

#include "common/base/bytes.h"
#include "common/base/error.h"

// Keeps the text for qs_last_error in this thread and returns `error`.
int fault(int error, const char *format, ...) PRINTF_LIKE(2, 3);

// The error that an error reply stands for (without its minus). *ret_number is the number behind
// BEHIND or CONFLICT, else untouched. ERR_REFUSED: it is no row of this version.
int fault_of_reply(struct bytes line, uint64_t *ret_number);

#endif
