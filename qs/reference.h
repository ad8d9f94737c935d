// SPDX-License-Identifier: Apache-2.0
// Reference pages in Markdown, written from the tables (common/tables/*.h) alone: what docs/ holds
// is the output of `qsd --reference PAGE`. Any thread.
#ifndef QS_QS_REFERENCE_H
#define QS_QS_REFERENCE_H

#include "common/base/buf.h"

// Appends page "options", "metrics", "commands" or "errors". False: there is no such page.
bool reference_page(const char *name, struct buf *to) MUST_CHECK;

#endif
