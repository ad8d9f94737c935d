// SPDX-License-Identifier: Apache-2.0
// Open SCAN cursors of the daemon: number -> where to go on, in which instance. The table is
// bounded; the cursor unused for longest is forgotten first. One scan holds one slot, however many
// pages it has: a page's cursor takes the place of the one that asked for it, which stays good for
// asking again until the next page. Any thread.
#ifndef QS_QS_CURSORS_H
#define QS_QS_CURSORS_H

#include "common/base/bytes.h"
#include "common/base/mem.h"

struct cursors;

#define CURSORS_MAX 1048576

struct cursors *cursors_open(unsigned max) MUST_CHECK; // 1 to CURSORS_MAX
void cursors_close(struct cursors *cursors);

// Where the cursor goes on, copied into `arena`. False: unknown, or of another owner.
bool cursor_find(struct cursors *cursors, uint64_t number, const void *owner, struct arena *arena,
                 struct bytes *ret_key) MUST_CHECK;

// Remembers `key` as the place behind the page that was asked for with cursor `from` (0 = the
// first page). Returns the number, never 0, at most 63 bits.
uint64_t cursor_add(struct cursors *cursors, uint64_t from, const void *owner, struct bytes key)
    MUST_CHECK;

#endif
