// SPDX-License-Identifier: Apache-2.0
// What the data directory's owner asks of the file system beyond files of its own: how much space
// is left, what a directory takes, and the removal of a whole directory. Any thread; may block.
#ifndef QS_COMMON_DATA_DISK_H
#define QS_COMMON_DATA_DISK_H

#include "common/base/error.h"

// The file system below `path`. ERR_IO.
int disk_total(const char *path, uint64_t *ret_bytes) MUST_CHECK;
// Bytes that a process without privileges may still write below `path`. ERR_IO.
int disk_free(const char *path, uint64_t *ret_bytes) MUST_CHECK;

// What everything below `path` takes on the disk; a file with several names there counts once.
// Files may come and go meanwhile. ERR_NOT_FOUND: a directory did. ERR_IO.
int disk_used(const char *path, uint64_t *ret_bytes) MUST_CHECK;

// Removes a directory and what is in it; one that is not there is fine. ERR_IO.
int disk_remove(const char *path) MUST_CHECK;

#endif
