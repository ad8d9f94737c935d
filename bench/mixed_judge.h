// SPDX-License-Identifier: Apache-2.0
// Rows that readers of `qs-bench mixed` were given, each compared with the model at the index that
// it names: at once, or as soon as the writer knows that index. One thread.
#ifndef QS_BENCH_MIXED_JUDGE_H
#define QS_BENCH_MIXED_JUDGE_H

#include "bench/mixed_private.h"

// What an answer said about one key. `serial`: of its value, 0 = absent.
struct mixed_row {
    uint64_t key, version, serial, index;
    unsigned session;
    size_t node;
};

struct mixed_judge {
    struct mixed *mixed;
    struct mixed_row *rows; // a ring of those whose index the writer does not know yet
    size_t first, count;
};

void mixed_judge_open(struct mixed_judge *judge, struct mixed *mixed);
// Judges what is left, and ends.
void mixed_judge_close(struct mixed_judge *judge);

void mixed_judge_add(struct mixed_judge *judge, const struct mixed_row *row);
void mixed_judge_known(struct mixed_judge *judge); // those that can be judged by now

// A session, which has seen *seen, sees an index: never one below that. `how`: by what.
void mixed_see(struct mixed *mixed, unsigned session, size_t node, uint64_t *seen, uint64_t index,
               const char *how);

#endif
