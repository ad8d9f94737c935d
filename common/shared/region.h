// SPDX-License-Identifier: Apache-2.0
// A piece of memory behind a descriptor, which can be given to another process. Sealed: nobody can
// change its size, so no access to it ever fails, and but for one that readers may write to nobody
// can write to it save who made it. Any thread.
#ifndef QS_COMMON_SHARED_REGION_H
#define QS_COMMON_SHARED_REGION_H

#include "common/base/base.h"
#include "common/base/error.h"

struct region {
    int fd; // -1: none is kept
    void *memory;
    size_t bytes;
};

enum region_kind {
    REGION_READ,  // others may read it
    REGION_WRITE, // ... and write to it
};

// Makes one, all zeroes, all of it allocated. ERR_MEMORY, ERR_IO.
int region_create(struct region *ret_region, enum region_kind kind, size_t bytes) MUST_CHECK;

// Maps what another process made; `fd` stays the caller's. ERR_PROTOCOL: it is no such thing, or
// smaller than `least` bytes; ERR_MEMORY, ERR_IO.
int region_map(struct region *ret_region, enum region_kind kind, int fd, size_t least) MUST_CHECK;

// A look touches a line or two anywhere: with small pages the walk to it costs as much as it does.
// Puts huge pages in the place of small ones from `from` on, where a huge one begins, in `most`
// bytes, where the machine has some left; also while it is read and written. Some two milliseconds
// a MiB, which is why it is for the caller to say when. Returns where to go on; never beyond the
// end, nor behind the last whole one.
size_t region_fold(const struct region *region, size_t from, size_t most);

void region_close(struct region *region); // all zeroes is allowed

#endif
