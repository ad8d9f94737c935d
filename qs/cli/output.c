// SPDX-License-Identifier: Apache-2.0
// What the commands print, and small forms that several of them share.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "common/base/mem.h"
#include "qs/cli/cli.h"

bool cli_print(struct buf *text)
{
    bool fine = fwrite(text->data, 1, text->size, stdout) == text->size;
    buf_clear(text);
    if (!fine || fflush(stdout) != 0) {
        cli_error("cannot write to standard output: %s", strerror(errno));
        return false;
    }
    return true;
}

int cli_finish(struct buf *text, int code)
{
    bool printed = text->size == 0 || cli_print(text);
    buf_free(text);
    return printed ? code : EXIT_ERROR;
}

struct bytes reply_bytes(const redisReply *reply)
{
    if (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS) {
        return bytes_of("", 0);
    }
    return bytes_of(reply->str, (size_t)reply->len);
}

void append_count(struct buf *to, uint64_t number)
{
    char digits[24];
    int size = snprintf(digits, sizeof digits, "%" PRIu64, number);
    for (int i = 0; i < size; i++) {
        if (i > 0 && (size - i) % 3 == 0) {
            buf_append(to, ",", 1);
        }
        buf_append(to, digits + i, 1);
    }
}
