// SPDX-License-Identifier: Apache-2.0
// The log on its way into the store under construction, whose rows may be newer already: what is
// not newer than the row that is there is ignored. Used by build.c only.
#ifndef QS_COMMON_CORE_BUILD_LOG_H
#define QS_COMMON_CORE_BUILD_LOG_H

#include "common/base/log.h"
#include "common/core/build.h"

struct build {
    struct instance *instance;
    struct volume *volume; // under construction; NULL = none
    struct build_row row;  // what was written last
    struct store_batch *batch;
    struct journal_cursor cursor; // at the next block to be added
    bool restart_due; // the journal will be begun anew before it leads on from here
    uint64_t number;   // the highest of a store in the shelf since the start
    struct log_gate limit_gate;
    unsigned damaged_polls; // looks at the journal that found it damaged
    unsigned given_up; // stores that came to nothing, since one was finished
    uint64_t unflushed_bytes;
    uint64_t uncounted_bytes; // written since space was told of what is coming
};

// Writes the batch with `row`, clears and counts it. Errors as store_write's.
int build_write(struct build *build, const struct build_row *row) MUST_CHECK;

// Whether a value of so many bytes beside those in the batch is to be kept: a role that need not
// hold every value has its limits of space, while the store in use stands beside this one.
bool build_keeps(struct instance *instance, const struct store_batch *batch, uint64_t bytes);

// Adds a block, the next one after build->row. On failure it may be added again.
int build_log_add(struct build *build, const struct block *block) MUST_CHECK;

#endif
