// SPDX-License-Identifier: Apache-2.0
// The nodes that a follower may get its log from, and what it knows of each. They come from a list
// (common/discovery/endpoints.h) that may change at any time: what is known of a node stays as long
// as its address is listed or somebody holds it, so that one that has left the list is not dropped
// while its link works, only never tried again.
//
// Attempts go in rounds, each node once; a round is over when nobody is left who was not tried.
// Who is tried next is the oracle's choice (common/tree/oracle.h). A parent that is full names
// nodes to be tried instead: they belong to that round only, and there are so many at most.
//
// Owned by one follower, on its loop.
#ifndef QS_COMMON_TREE_PARENTS_H
#define QS_COMMON_TREE_PARENTS_H

#include "common/discovery/endpoints.h"
#include "common/tree/oracle.h"
#include "common/wire/message.h"

#define PARENTS_MAX 64 // of a list; the ones behind are not used
#define PARENTS_NAMED_MAX 64 // named by others in one round
#define PARENTS_DONORS_MAX 16 // named as givers of snapshots
#define PARENTS_HOLDERS_MAX 4

struct parent {
    struct endpoint endpoint; // as it was listed last
    bool listed;
    unsigned hops;       // by so many others it was named in this round, 0 = it was not
    unsigned holders;
    bool tried;          // in this round, in vain
    struct oracle_rest lost; // its working link
    uint64_t bad_block;  // the last one of its blocks that failed a check, 0 = none
    unsigned bad_count;  // how often that one did
    uint64_t no_repair;  // a damaged block that it could not give, 0 = none
    bool gave;           // slices of the store under construction, as far as this run knows
    bool asked;          // for a snapshot, in this round of it (common/tree/donors.h)
    bool named_donor;    // somebody says that it gives snapshots

    // What it said of itself last, in a welcome.
    uint64_t told_ns;    // when, 0 = never
    uint64_t rtt_ns;     // measured, UINT64_MAX = not yet
    uint64_t age_ns;     // of its data, UINT64_MAX = it did not know
    uint64_t way_ns;     // of news from the root to here, by it; UINT64_MAX = not known
    uint64_t children, children_max;
    unsigned depth;      // UINT_MAX = it did not know
    bool root;
    bool near;           // its site is ours
    bool fits;           // it would feed us
    bool full;           // ... if it had room
    bool below;          // it gets its log from here, as far as is known
    bool doubtful;       // it may have had no news from the root
    unsigned behind;     // how often in a row it stood a little lower than we
};

struct parents {
    // The listed ones in their order, then those named, then those only held.
    struct parent
        *all[PARENTS_MAX + PARENTS_NAMED_MAX + PARENTS_DONORS_MAX + PARENTS_HOLDERS_MAX];
    unsigned count, listed, named;
    char site[ENDPOINT_SITE_MAX + 1]; // this node's own, "" = not known
    uint64_t unit_ns;                 // the oracle's
    uint64_t unmendable;    // a damaged block that no parent in reach could give, 0 = none
    uint64_t unmendable_ns; // when that was found
};

void parents_close(struct parents *parents); // nobody holds any

// The list in force. False: nobody is on it who was not on the one before.
bool parents_take(struct parents *parents, const struct endpoints *list);

// Keeps one for its holder, who lets go of the one before: either may be NULL.
void parents_hold(struct parents *parents, struct parent **holder, struct parent *parent);

// Has it sent bad blocks, or could it not give what is damaged here from block `damaged` (or 0) on?
bool parent_is_left(const struct parent *parent, uint64_t damaged);
// May one who has block `damaged` be looked for? Not for a minute after nobody in reach had it: who
// cannot give it is followed then, as being fed matters more.
bool parents_may_mend(const struct parents *parents, uint64_t damaged, uint64_t now_ns);
// Whom to try now, NULL: the round is over.
struct parent *parents_choose(const struct parents *parents, uint64_t damaged, uint64_t now_ns);
// Everybody may be tried again. Those who were only named are forgotten.
void parents_new_round(struct parents *parents);
// The same after a round in which nobody fed this node: those who are left get another chance.
void parents_in_vain(struct parents *parents, uint64_t damaged, uint64_t now_ns);

// `parent` is full and named others (message welcome, `elsewhere`) to be tried in this round; one
// of them may be this `node`. Returns how many are new.
unsigned parents_named(struct parents *parents, const struct parent *by, struct bytes elsewhere,
                       const char *node);

// The first of those whom the parent in use, which works, names for this node to go to; the ones
// that were named before are forgotten. NULL: there is none.
struct parent *parents_sent_to(struct parents *parents, struct bytes elsewhere, const char *node);

// The same of who would give a snapshot: that counts until `named_donor` is taken back.
void parents_named_donors(struct parents *parents, struct bytes elsewhere, const char *node);

// What a welcome says of its sender, and the `way_ns` (two round trips) from connecting to it.
void parent_learn(const struct parents *parents, struct parent *parent,
                  const struct message_welcome *welcome, uint64_t way_ns, uint64_t now_ns);
// How long it may take to answer: by the way to it, at most half of the limit on silence, and a
// quarter where the way is not known, so that one that is silent does not keep this node from the
// next.
uint64_t parent_patience_ns(const struct parent *parent, uint64_t silence_ns);
// As the oracle sees one of them.
struct prospect parent_prospect(const struct parents *parents, const struct parent *parent,
                                uint64_t now_ns);
// Of all that would feed this node, by what they said lately, the first that a move may lead to
// from `used`, seen as `seen`, whose detour is filled in. *ret_best: as it is seen. NULL: there is
// none.
struct parent *parents_best(const struct parents *parents, const struct parent *used,
                            struct prospect *seen, uint64_t now_ns, struct prospect *ret_best);
// The first by the oracle of those that have told nothing of themselves since then, but `used`.
// NULL: there is nobody.
struct parent *parents_unasked(const struct parents *parents, const struct parent *used,
                               uint64_t since_ns, uint64_t now_ns);
// The first by the oracle of those that said since then that they have news, but no room; never
// `used`. NULL: there is nobody.
struct parent *parents_full(const struct parents *parents, const struct parent *used,
                            uint64_t since_ns, uint64_t now_ns);
// Who has told nothing of itself for longest, but `used`. NULL: there is nobody.
struct parent *parents_quietest(const struct parents *parents, const struct parent *used);

#endif
