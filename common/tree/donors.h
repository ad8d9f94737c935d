// SPDX-License-Identifier: Apache-2.0
// Whom a node asks for a snapshot, and for how long it waits for one of its own site to give it.
//
// In rounds, each once: first those of the own site, listed or named by others (message welcome,
// `elsewhere`), then the rest in the order of the list. Nobody of another site is asked while one
// of the own site says that it will give later; and once one of another site has said that it gives
// to a node of ours already, the round is over: that node will pass it on. Whom the nodes that were
// named have nothing to give insists in the next round; and who has waited for `patience` insists
// on a snapshot from anybody, so that nobody waits for ever whatever the others say.
//
// Part of a follower: on its loop.
#ifndef QS_COMMON_TREE_DONORS_H
#define QS_COMMON_TREE_DONORS_H

#include "common/tree/parents.h"

struct donors {
    struct parent *at;   // asked now, or again next; held. NULL = whoever's turn it is
    unsigned rounds;     // in vain since one gave
    bool near_later;     // in this round one of the own site will give later
    bool site_waits;     // ... one of another gives to a node of this one
    bool insists;        // the nodes that were named in the round before gave nothing
    uint64_t waiting_ns; // since when rounds end with one of the two, 0 = they do not
};

// Who is asked now becomes `at`; false: the round is over.
bool donors_choose(struct donors *donors, struct parents *parents, uint64_t patience_ns,
                   uint64_t now_ns);
// The one that was asked has had its turn in this round.
void donors_pass(struct donors *donors, struct parents *parents);
// It answered full or wait; `node` is this one's name.
void donors_told(struct donors *donors, struct parents *parents,
                 const struct message_welcome *welcome, const char *node);
// It has nothing to give: it is not among the named ones any more.
void donors_refused(struct donors *donors);
// Everybody may be asked again. True: from now on this node waits for another.
bool donors_new_round(struct donors *donors, struct parents *parents, uint64_t now_ns);
// A slice came.
void donors_gave(struct donors *donors);
// Nobody need be asked: nothing is kept of those who were named.
void donors_forget(struct donors *donors, struct parents *parents);

// For a hello.
enum hello_insists donors_insist(const struct donors *donors, uint64_t patience_ns,
                                 uint64_t now_ns);

#endif
