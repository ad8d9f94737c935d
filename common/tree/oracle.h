// SPDX-License-Identifier: Apache-2.0
// Which parent is to be used, and when a working one is left for a better one. Pure: what is known
// comes in as numbers, time too.
//
// Who is asked first, where all before is equal: whoever has not been lost lately; whose log does
// not come from here; whose data is not old; own site; by whom news make no detour; the nearer by
// round trip (in steps of a factor of two: less is noise), known before unknown; whoever has more
// than its last places left, which others are about to take, too; the newer data;
// not a root, which should feed few; the higher in the tree; the less loaded; the one found further
// down by being sent on; the finder's order.
//
// Detours count for nodes that have a parent, when they compare it with others: the nearest one
// over which news from the root come hardly later than over the best. Who has none takes the
// nearest, which answers soonest, and looks for a better one then.
//
// A working parent is left only by a clear margin, for some time, and not again before a pause that
// doubles from move to move. A parent that was lost rests: it is no better one for a time that
// doubles from loss to loss. So a link that flaps causes few changes, ever fewer.
#ifndef QS_COMMON_TREE_ORACLE_H
#define QS_COMMON_TREE_ORACLE_H

#include "common/base/base.h"

#define ORACLE_OLD_NS (10 * NS_PER_S)    // data of this age is old
#define ORACLE_MARGIN_NS (5 * NS_PER_MS) // half the round trip and this much less is nearer
#define ORACLE_KEPT 4 // of so many places one is kept for those that have no parent
// In units, the intervals at which others are looked at: so long must one be the better; the rest
// after the first loss or move, and the longest; quiet for that long, the next one is the first.
#define ORACLE_HOLD 1
#define ORACLE_REST 1
#define ORACLE_REST_MAX 64
#define ORACLE_FORGET 180

// Of a way, beside the shortest one that is known.
enum detour {
    DETOUR_NONE, // at most a quarter and ORACLE_MARGIN_NS longer; or one of both is not known
    DETOUR_SOME,
    DETOUR_LONG, // by half and that margin: left for one that makes none
};

struct prospect {
    bool rests;      // oracle_rests
    bool below;      // its log comes from this node, as far as is known
    bool own_site;
    bool root;
    enum detour detour; // oracle_compare_ways
    uint64_t rtt_ns; // measured, else by coordinates; UINT64_MAX = not known
    uint64_t way_ns; // of news from the root to this node, by it; UINT64_MAX = not known
    uint64_t age_ns; // of its data; UINT64_MAX = not known
    unsigned depth;  // names from the root to it; UINT_MAX = not known
    uint64_t children, children_max; // 0 = no limit
    unsigned hops;   // how often whoever named it was itself only named by another
    unsigned order;  // the finder's
};

// Whether `a` is to be asked before `b`.
bool oracle_before(const struct prospect *a, const struct prospect *b);
// Whether a move from the parent in use may lead to `other`, however good it is.
bool oracle_may_move(const struct prospect *other, const struct prospect *used);
// Finds the detours of the parent in use and of the others that a move may lead to: among those
// that are in the own site, or are not, as the one in use is.
void oracle_compare_ways(struct prospect *used, struct prospect *others, unsigned count);
// Whether `other` is so much better than the parent in use that it is worth a move.
bool oracle_much_better(const struct prospect *other, const struct prospect *used);

// Something that should happen rarely, and what it is followed by: a rest.
struct oracle_rest {
    unsigned count; // in a row
    uint64_t last_ns; // 0 = never
};
void oracle_rest_begin(struct oracle_rest *rest, uint64_t unit_ns, uint64_t now_ns);
bool oracle_rests(const struct oracle_rest *rest, uint64_t unit_ns, uint64_t now_ns);

// The patience with a parent that is not the best.
struct oracle {
    uint64_t better_ns; // since when there is a better one, 0 = there is none
    struct oracle_rest moves;
};
// Looks at the parent in use and the best of the others; NULL = there is none. True: move there
// now.
bool oracle_look(struct oracle *oracle, const struct prospect *used, const struct prospect *other,
                 uint64_t unit_ns, uint64_t now_ns);

// A round trip measured anew: near the least of the last ones, since what disturbs it adds to it.
uint64_t oracle_smooth_rtt(uint64_t known_ns, uint64_t sample_ns); // known: UINT64_MAX = none

#endif
