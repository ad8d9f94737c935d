// SPDX-License-Identifier: Apache-2.0
// A generation of the front filter, for front.c and front_file.c.
#ifndef QS_COMMON_CORE_FRONT_PRIVATE_H
#define QS_COMMON_CORE_FRONT_PRIVATE_H

#include "common/base/bloom.h"
#include "common/core/front.h"

struct front_generation {
    _Atomic unsigned references;
    struct bloom bloom;
    void *memory;      // holds the lines
    uint64_t capacity; // keys that it was sized for
    uint64_t since;    // views at or above this index may be asked about
    _Atomic uint64_t keys; // that it was told of, as far as they were new; set by the applier
};

struct front_generation *front_generation_new(uint64_t lines, uint64_t capacity) MUST_CHECK;

// Reads the file of `directory`. ERR_NOT_FOUND: there is none. ERR_CORRUPT, ERR_IO: not a sound
// one, as was logged.
int front_read(const char *directory, const struct instance_options *options,
               struct journal *journal, struct front_generation **ret_generation,
               struct journal_place *ret_place) MUST_CHECK;

#endif
