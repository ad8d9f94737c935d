// SPDX-License-Identifier: Apache-2.0
// What the store alone takes for the work of applying: a store as a role has it, in this process,
// and for each entry the same calls and rows of the same size. No journal, digest, filter or view.
// Failures are said on standard error. One thread.
#ifndef QS_BENCH_FLOOR_H
#define QS_BENCH_FLOOR_H

#include "bench/pairs.h"

enum floor_role { FLOOR_REPLICA, FLOOR_PROXY };

// What an entry does. A replica's history gets what is overwritten or deleted, so it is read first;
// a proxy reads nothing.
enum floor_kind { FLOOR_OVERWRITE, FLOOR_INSERT, FLOOR_DELETE, FLOOR_KINDS };

// The option `memtable` of the roles, so that it is the same on both sides.
#define FLOOR_MEMTABLE "32MB"

struct floor;

// An empty store below `directory`, which is there. NULL: it cannot be opened.
struct floor *floor_open(enum floor_role role, const char *directory) MUST_CHECK;
void floor_close(struct floor *floor);

// What is done: to pairs first .. first + count - 1, `batch` entries in each write.
struct floor_work {
    enum floor_kind kind;
    const struct pairs *pairs;
    uint64_t first, count, batch;
};

// *ret_ns = the time that the store's calls took; making the pairs is not in it. False: an error,
// or what is to be overwritten or deleted is not there.
bool floor_run(struct floor *floor, const struct floor_work *work, uint64_t *ret_ns) MUST_CHECK;

#endif
