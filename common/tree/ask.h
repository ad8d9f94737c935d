// SPDX-License-Identifier: Apache-2.0
// Asks the parent for a picture of the whole tree when somebody here wants one (picture.h): one
// question at a time, page by page. Part of struct follow, on its loop.
#ifndef QS_COMMON_TREE_ASK_H
#define QS_COMMON_TREE_ASK_H

#include "common/tree/picture.h"

struct follow;

struct ask {
    struct notice wanted; // raised when somebody waits
    struct timer timer;   // the parent's time is over
    bool under_way;
    uint64_t id, page;
    uint64_t taken_ns; // the picture's time, from its first page
    struct buf items;  // so far
    size_t count;
    char last[NODE_NAME_MAX + 1]; // name of the last one
};

void ask_open(struct follow *follow);
void ask_close(struct follow *follow);
bool ask_over(const struct follow *follow); // after ask_close: nothing is on its way any more
int ask_on_page(struct follow *follow, struct bytes payload) MUST_CHECK;
void ask_lost(struct follow *follow); // the parent is left

#endif
