// SPDX-License-Identifier: Apache-2.0
// The applier of an instance: the thread that owns the store and publishes views
// (common/core/instance.h has the picture). Used by instance.c, writer.c and walk.c only.
#ifndef QS_COMMON_CORE_APPLIER_H
#define QS_COMMON_CORE_APPLIER_H

#include "common/core/instance.h"
#include "common/core/state.h"

// Starts the thread, which first replays the journal from `state` (where the store stands) to
// `until` (number of the last recovered block) and then publishes the first view.
int applier_open(struct instance *instance, const struct state *state, uint64_t until) MUST_CHECK;
void applier_close(struct instance *instance); // applies what was handed over first

// Writer thread: hands over a synced block (one reference is taken over).
void applier_hand(struct instance *instance, struct block *block);
// Writer thread: a damaged journal was mended; replay may go on to block `until`.
void applier_mended(struct instance *instance, uint64_t until);

// Applier thread: where the store stands, and the front filter.
const struct state *applier_state(const struct instance *instance);
struct front *applier_front(struct instance *instance);

#endif
