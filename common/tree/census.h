// SPDX-License-Identifier: Apache-2.0
// The census of an instance: what the nodes below this one have said of themselves. Each node says
// anew what has changed, at most every five seconds, and every fifteen that it is there; at once
// what matters for the tree's shape (a node, its parent, state, alarm, that it was lost). A node
// tells its parent once a second what it was not told yet, so much at most; what does not fit comes
// with the next report, in turn. So what a link carries is bounded however large the tree is, and a
// larger one is only told of less often. Nothing is ever sent downwards unasked.
//
// A saying is dated by how long ago it was said, summed over the hops, so that of two which come on
// different ways the later one counts without a common clock. Whose link is lost is marked as lost,
// and all that came over that link, until they are heard of through another child. What was silent
// for long counts as lost; what is lost for ten minutes is dropped. At most census_max nodes.
//
// Any thread; one lock, held for no more than a walk through the table.
#ifndef QS_COMMON_TREE_CENSUS_H
#define QS_COMMON_TREE_CENSUS_H

#include "common/core/instance.h"
#include "common/wire/census_items.h"

// A report: so often, and so large at most.
#define CENSUS_REPORT_NS NS_PER_S
#define CENSUS_REPORT_BYTES (16 * KIB)
// How often a node says anew: what changes all the time, and that it is there.
#define CENSUS_SAY_NS (5 * NS_PER_S)
#define CENSUS_SIGN_NS (15 * NS_PER_S)
// Silent for so long counts as lost; lost for so long is dropped.
#define CENSUS_SILENT_NS (120 * NS_PER_S)
#define CENSUS_FORGET_NS (600 * NS_PER_S)

struct census;

struct census *census_open(struct instance *instance) MUST_CHECK;
void census_close(struct census *census);

// A child's report. `via` names its link. ERR_PROTOCOL: it is malformed, and nothing was taken.
int census_take(struct census *census, const void *via, struct bytes items, uint64_t now_ns)
    MUST_CHECK;
// That link has ended.
void census_lose(struct census *census, const void *via);

// Does the log of that node come from this one, as far as is known?
bool census_below(struct census *census, const char *node);

// Appends what the parent was not told yet, CENSUS_REPORT_BYTES at most.
void census_tell(struct census *census, struct buf *to, uint64_t now_ns);
// Another parent: it was told nothing yet.
void census_tell_all(struct census *census);

// What a node says of itself. The bytes of `item` point into this struct and the options.
struct census_own {
    struct census_item item;
    char parent[NODE_NAME_MAX + 1];
};
void census_own(struct census_own *ret_own, struct instance *instance);

// All that is known here, this node included, as items in the order of their names. Returns how
// many.
size_t census_list(struct census *census, struct buf *to, uint64_t now_ns);

#endif
