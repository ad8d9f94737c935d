// SPDX-License-Identifier: Apache-2.0
// A slice of a snapshot on its way into the store under construction: nothing is believed before
// its checks, and rows come in the order of keys or not at all. Used by build.c only.
#ifndef QS_COMMON_CORE_BUILD_SLICE_H
#define QS_COMMON_CORE_BUILD_SLICE_H

#include "common/core/build_log.h"

struct build_slice {
    struct block_header header; // of the view that it was read at
    struct digest digest;       // of that view
    bool last;
    struct bytes items;         // lent from the payload; those that are not added yet
};

// Decodes and checks all but the items. ERR_PROTOCOL, ERR_CHECKSUM.
int build_slice_decode(struct build_slice *ret_slice, struct bytes payload) MUST_CHECK;

// May it come next behind `row` (NULL: it is the first), being asked for by `from`? ERR_PROTOCOL,
// ERR_BEHIND (read before the place where the snapshot began), ERR_HISTORY.
int build_slice_fits(const struct build_slice *slice, const struct build_row *row,
                     struct bytes from) MUST_CHECK;

// Adds rows to `batch` and to what `row` says, until the batch is large enough for a write (values
// that the store in use holds come in beside those of the slice), as if the slice ended there; some
// are left as long as slice->items is not empty. ERR_PROTOCOL, ERR_CORRUPT (a value that fails its
// check): then batch and row are to be thrown away.
int build_slice_add(struct build_slice *slice, struct instance *instance, struct store *store,
                    struct store_batch *batch, struct build_row *row) MUST_CHECK;

#endif
