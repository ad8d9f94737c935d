// SPDX-License-Identifier: Apache-2.0
// The truth about a database with one writer: what every key was at every index. The writer adds
// changes as their indexes are acknowledged and then says up to where the log is known; readers
// ask about indexes that are known. `model_add` and `model_publish`: the writer's thread; the
// rest: any thread.
#ifndef QS_BENCH_MODEL_H
#define QS_BENCH_MODEL_H

#include "common/base/base.h"

// A key's state from an index on. A serial names one write of one value; 0: absent.
struct model_state {
    uint64_t version;
    uint64_t serial;
};

struct model;
struct model *model_open(uint64_t keys) MUST_CHECK;
void model_close(struct model *model);

// `key` below the number of keys; `index` not below any earlier one. At one index the last counts.
void model_add(struct model *model, uint64_t key, uint64_t index, uint64_t serial);
void model_publish(struct model *model, uint64_t index);

uint64_t model_known(const struct model *model);

// The state at an index that is known. Keys that are never written are absent.
struct model_state model_at(struct model *model, uint64_t key, uint64_t index);

#endif
