// SPDX-License-Identifier: Apache-2.0
// The writer of an instance: the thread that owns the journal's end (common/core/instance.h has
// the picture). Used by instance.c only.
#ifndef QS_COMMON_CORE_WRITER_H
#define QS_COMMON_CORE_WRITER_H

#include "common/core/instance.h"

int writer_open(struct instance *instance) MUST_CHECK; // starts the thread
// Ends the thread: what was received is synced and handed to the applier first.
void writer_close(struct instance *instance);

// Applier thread: the store has everything up to this block on disk; old segments may go.
void writer_trim(struct instance *instance, uint64_t flushed_block);

#endif
