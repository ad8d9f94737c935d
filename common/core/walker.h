// SPDX-License-Identifier: Apache-2.0
// The walker: one thread for all instances of a daemon, for what goes through stores in the
// background. It gives each instance its turn: a slice of a walk (common/core/walk.h) every
// `walk_every`, when somebody asks for one, or when the front filter has outgrown its size; a step
// of the role's hand (role->hand), which may be a compaction of seconds; the filter's file, which
// may be hundreds of megabytes. Whoever asks for a walk waits for all that, of every instance; what
// must be answered soon must not wait for this thread.
#ifndef QS_COMMON_CORE_WALKER_H
#define QS_COMMON_CORE_WALKER_H

#include "common/core/instance.h"

struct walker;

int walker_open(struct walker **ret_walker) MUST_CHECK;
void walker_close(struct walker *walker); // every instance must have been removed

// Any thread.
void walker_add(struct walker *walker, struct instance *instance);
// Ends a compaction that is under way, and a walk; `removed` is raised when no step of this
// instance runs any more. Its hand is not called again. The applier must still run. Any thread.
void walker_remove(struct walker *walker, struct instance *instance, struct notice *removed);

#endif
