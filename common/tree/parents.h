// SPDX-License-Identifier: Apache-2.0
// The nodes that a follower may get its log from, and what it knows of each. They come from a list
// (common/discovery/endpoints.h) that may change at any time: what is known of a node stays as long
// as its address is listed or somebody holds it, so that one that has left the list is not dropped
// while its link works, only never tried again.
//
// Attempts go in rounds, each node once; a round is over when nobody is left who was not tried.
//
// Owned by one follower, on its loop.
#ifndef QS_COMMON_TREE_PARENTS_H
#define QS_COMMON_TREE_PARENTS_H

#include "common/discovery/endpoints.h"

#define PARENTS_MAX 64 // of a list; the ones behind are not used

struct parent {
    struct endpoint endpoint; // as it was listed last
    bool listed;
    unsigned holders;
    bool tried;          // in this round, in vain
    uint64_t lost_ns;    // when its working link was lost last, 0 = never
    uint64_t bad_block;  // the last one of its blocks that failed a check, 0 = none
    unsigned bad_count;  // how often that one did
    uint64_t no_repair;  // a damaged block that it could not give, 0 = none
    bool gave;           // slices of the store under construction, as far as this run knows
};

struct parents {
    struct parent *all[PARENTS_MAX + 2]; // the listed ones in their order, then those only held
    unsigned count, listed;
};

void parents_close(struct parents *parents); // nobody holds any

// The list in force. False: nobody was added.
bool parents_take(struct parents *parents, const struct endpoints *list);

// Keeps one for its holder, who lets go of the one before: either may be NULL. At most two hold.
void parents_hold(struct parents *parents, struct parent **holder, struct parent *parent);

// The next listed one behind `parent` (NULL: the first), in a circle. NULL: there is none.
struct parent *parents_after(const struct parents *parents, const struct parent *parent);

// Has it sent bad blocks, or could it not give what is damaged here from block `damaged` (or 0) on?
bool parent_is_left(const struct parent *parent, uint64_t damaged);
// Whom to try now, NULL: the round is over.
struct parent *parents_choose(const struct parents *parents, uint64_t damaged);
// Everybody may be tried again; if all are left, all get another chance.
void parents_new_round(struct parents *parents, uint64_t damaged);

#endif
