// SPDX-License-Identifier: Apache-2.0
// A generation of the front filter, for front.c and front_file.c.
#ifndef QS_COMMON_CORE_FRONT_PRIVATE_H
#define QS_COMMON_CORE_FRONT_PRIVATE_H

#include "common/base/bloom.h"
#include "common/core/front.h"
#include "common/shared/region.h"

struct front_generation {
    _Atomic unsigned references;
    struct bloom bloom;
    void *memory;      // holds the lines; NULL: the region does
    struct region region; // shared with other processes (common/shared/layout.h)
    uint64_t number;   // names it there; 0: it is not shared
    uint64_t capacity; // keys that it was sized for
    uint64_t since;    // views at or above this index may be asked about
    _Atomic uint64_t keys; // that it was told of, as far as they were new; set by the applier
};

// `shared`: in memory that other processes can map, if there is any.
struct front_generation *front_generation_new(uint64_t lines, uint64_t capacity,
                                              bool shared) MUST_CHECK;
void front_generation_begin(struct front_generation *generation, uint64_t since);

// Reads the file of `directory`. ERR_NOT_FOUND: there is none. ERR_CORRUPT, ERR_IO: not a sound
// one, as was logged.
int front_read(const char *directory, const struct instance_options *options,
               struct journal *journal, struct front_generation **ret_generation,
               struct journal_place *ret_place) MUST_CHECK;

#endif
