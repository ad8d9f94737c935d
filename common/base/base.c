// SPDX-License-Identifier: Apache-2.0
#include "common/base/base.h"

#include <stdio.h>
#include <stdlib.h>

void check_failed(const char *file, int line, const char *function, const char *condition)
{
    fprintf(stderr, "qs: bug: check failed at %s:%d in %s: %s\n", file, line, function, condition);
    fflush(stderr);
    abort();
}
