// SPDX-License-Identifier: Apache-2.0
// Distributions over many seeds, of small numbers, in memory that all workers share.
#ifndef QS_TESTS_SIM_TALLY_H
#define QS_TESTS_SIM_TALLY_H

#include <stdatomic.h>

#include "common/base/base.h"

// TALLY(name, how much a step is, help)
#define TALLIES                                                                                    \
    TALLY(lost_child_ms, 10, "ms until a child of a lost node has news from another parent")       \
    TALLY(busy_child_ms, 10, "... where nodes stand still for moments")                            \
    TALLY(crowded_child_ms, 10, "... where nodes feed two to four others at most")                 \
    TALLY(lost_other_ms, 10, "ms until any other node has news again")                             \
    TALLY(heal_ms, 10, "ms until all digests are equal after the last partition")                  \
    TALLY(split_changes, 1, "parents changed in a schedule of partitions, by all nodes")           \
    TALLY(flap_changes, 1, "parents changed while one uplink flapped for a minute, by all nodes")  \
    TALLY(flap_node_changes, 1, "... by the node that did so most often")                          \
    TALLY(successor_ms, 10, "ms from the loss of a leader until another takes writes, by default") \
    TALLY(other_successor_ms, 10, "... at other intervals")                                        \
    TALLY(hand_over_ms, 10, "ms until the root that was asked takes writes")                       \
    TALLY(peace_leader_ms, 10, "ms until a root takes writes after all faults have ended")         \
    TALLY(helped_leader_ms, 10, "... where a person had to help, as the record was lost")          \
    TALLY(roots_heal_ms, 10, "ms from then until all digests are equal")

enum tally {
#define TALLY(name, step, help) TALLY_##name,
    TALLIES
#undef TALLY
    TALLY_TOTAL
};

#define TALLY_STEPS 4096 // what lies beyond is counted in the last one

struct tallies {
    _Atomic uint64_t counts[TALLY_TOTAL][TALLY_STEPS];
};

void tally_add(struct tallies *tallies, enum tally what, uint64_t value);
void tallies_print(const struct tallies *tallies); // a line for each that has any

#endif
