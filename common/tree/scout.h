// SPDX-License-Identifier: Apache-2.0
// Looking around while a parent is followed: at intervals (`probe`) one of the others is asked, on
// a link of its own, how it would answer, which also measures the way to it; and when the oracle
// has seen a better one for long enough the follower moves there. One probe at a time.
//
// A parent may hear of the root no more: it got its log from the one that was lost here too, or has
// brought nothing new for too long. It is kept while all others are asked at once, and left for the
// first that has news. So nodes that lost one parent do not wait for each other. If all that have
// news are full, it insists on being fed by one of them, after a while.
//
// Part of a follower: on its loop, like everything of it.
#ifndef QS_COMMON_TREE_SCOUT_H
#define QS_COMMON_TREE_SCOUT_H

#include "common/tree/link.h"
#include "common/tree/oracle.h"

struct follow;
struct parent;

struct scout {
    struct link link;
    bool busy; // the link is open
    struct timer timer;
    struct parent *target; // asked last, held; NULL = nobody
    bool sent;             // ... because the parent in use wants this node to go there
    struct oracle oracle;
    uint64_t hurry_ns; // when the round began in which all others are asked at once, 0 = none has
    unsigned rounds;   // of these so far
};

void scout_open(struct follow *follow);
// A parent is followed from now on; no more.
void scout_start(struct follow *follow);
void scout_stop(struct follow *follow);
// The parent in use may have no news: others are asked without delay, until one has, or it does.
void scout_hurry(struct follow *follow);
void scout_calm(struct follow *follow);
// What the link to the parent in use has measured; and the whole way of news by it, as a heartbeat
// tells it (0 = not known).
void scout_measure(struct follow *follow, uint64_t way_ns);
// The parent in use feeds too many, and names others that have room: one of them is asked now, and
// moved to if it would feed this node.
int scout_on_make_room(struct follow *follow, struct bytes payload) MUST_CHECK;
// When the follower closes: ends the link. Then scout_over tells when nothing is under way.
void scout_close(struct follow *follow);
bool scout_over(const struct follow *follow);

#endif
