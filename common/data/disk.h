// SPDX-License-Identifier: Apache-2.0
// What the data directory's owner asks of the file system beyond files of its own: how much space
// is left, and the removal of a whole directory. Any thread; may block.
#ifndef QS_COMMON_DATA_DISK_H
#define QS_COMMON_DATA_DISK_H

#include "common/base/error.h"

// Bytes that a process without privileges may still write below `path`. ERR_IO.
int disk_free(const char *path, uint64_t *ret_bytes) MUST_CHECK;

// Removes a directory and what is in it; one that is not there is fine. ERR_IO.
int disk_remove(const char *path) MUST_CHECK;

#endif
