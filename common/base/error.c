// SPDX-License-Identifier: Apache-2.0
#include "common/base/error.h"

#include <errno.h>

struct error_row {
    int error;
    const char *word;
    const char *text;
};

static const struct error_row rows[] = {
#define ERROR(name, number, word, text) {ERR_##name, word, text},
#include "common/tables/errors.h"
};

static const struct error_row *find(int error)
{
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (rows[i].error == error) {
            return &rows[i];
        }
    }
    return NULL;
}

const char *error_text(int error)
{
    const struct error_row *row = find(error);
    return row != NULL ? row->text : error == OK ? "ok" : "unknown error";
}

const char *error_word(int error)
{
    const struct error_row *row = find(error);
    return row != NULL ? row->word : "ERR";
}

bool error_known(int error) { return find(error) != NULL; }

int error_from_errno(int code)
{
    switch (code) {
    case ENOSPC:
    case EDQUOT:
        return ERR_DISK_FULL;
    case ENOMEM:
        return ERR_MEMORY;
    default:
        return ERR_IO;
    }
}
