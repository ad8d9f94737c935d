// SPDX-License-Identifier: Apache-2.0
// Whether the store in use still owes its proof. One that was made from a snapshot is what other
// nodes said of the log, so it gives no snapshot itself before a walk found it to be what the log
// says. The file UNPROVEN in the instance's directory names such a store, so that a start does not
// forget. The applier's thread, and opening; the answer is instance->unproven, for any thread.
#ifndef QS_COMMON_CORE_PROOF_H
#define QS_COMMON_CORE_PROOF_H

#include "common/core/instance.h"

// Once it is known which store is in use.
void proof_open(struct instance *instance);
// Store `number` of the shelf will be the one in use. Durable. ERR_DISK_FULL, ERR_IO: logged.
int proof_owe(struct instance *instance, uint64_t number) MUST_CHECK;
// A walk proved the store in use.
void proof_give(struct instance *instance);

#endif
