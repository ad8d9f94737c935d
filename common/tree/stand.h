// SPDX-License-Identifier: Apache-2.0
// What roots of one instance say to each other beside the blocks, on a link of PURPOSE_STAND:
// `lead` by the one whose log is taken, `acknowledge` by the one that takes it. The link is of one
// epoch: it ends when either side is in another.
#ifndef QS_COMMON_TREE_STAND_H
#define QS_COMMON_TREE_STAND_H

#include "common/core/lead.h"
#include "common/tree/link.h"

struct follow;

// ---- at the one whose log is taken (child.c); the loop of the link -----------------------------

struct stand_giver {
    bool stands; // the other side is a root that stands by; else nothing of this is used
    unsigned root;
    uint64_t epoch;
    uint64_t taker; // number of the link, of instance_taken
    uint64_t told; // committed, as it was told last; UINT64_MAX = nothing yet
};

// May the node that says this hello take the log beyond what is committed? Which root it is.
bool stand_allows(const struct instance *instance, const struct message_hello *hello,
                  unsigned *ret_root);
void stand_giver_open(struct stand_giver *giver, struct instance *instance, unsigned root);
// Says `lead` if that is news, or `due`. False: the link has been ended.
bool stand_tell(struct stand_giver *giver, struct instance *instance, struct link *link, bool due);
int stand_on_acknowledge(struct stand_giver *giver, struct instance *instance,
                         struct bytes payload) MUST_CHECK;
// It says where it stands: so it takes the log of the link's epoch.
void stand_on_progress(const struct stand_giver *giver, struct instance *instance);

// ---- at the one that stands by (follow.c); the home loop ---------------------------------------

struct stand_taker {
    uint64_t link;  // number of the one in use
    uint64_t epoch; // that it is of
    int leader;
    uint64_t offer; // the block that the next hello is to name, 0 = the last committed one
    struct journal_place offered; // by the one in use beyond that; number 0 = nothing
    struct lead_word said;
    struct notice changed;
};

void stand_taker_open(struct follow *follow);
void stand_taker_close(struct follow *follow);
bool stand_taker_over(const struct follow *follow); // no notice is on its way
void stand_greet(struct follow *follow); // a new link is open
// Where the log is compared from: `end`, what is committed here, or what was offered.
struct journal_place stand_place(struct follow *follow, const struct journal_place *end);
// The leader's log begins at this index, behind what is committed here. The blocks here reach there
// all the same? Then the next hello offers the last one before it: what is the leader's up to there
// need not come again. False: they do not, or are not the leader's.
bool stand_offer(struct follow *follow, uint64_t oldest);
int stand_on_lead(struct follow *follow, struct bytes payload) MUST_CHECK;

#endif
