// SPDX-License-Identifier: Apache-2.0
// What a node may answer though no fault strikes any more.
#ifndef QS_TESTS_SIM_EXCUSE_H
#define QS_TESTS_SIM_EXCUSE_H

#include "common/core/view.h"
#include "tests/sim/node.h"

// Nodes whose log joins no more, as its source kept too little of it, show their old index until
// they have another store, in peace as well. A proxy among them may find no replica that still has
// what it shows; a proxy all of whose replicas are such finds none that has it yet. And a read that
// began a little earlier may find the history of each too short: begun by a new store, or bounded
// by a few bytes. Each says so.
bool excuse_left_behind(const struct node *node, const struct node *all, unsigned count,
                        const struct view *view, int status);

#endif
