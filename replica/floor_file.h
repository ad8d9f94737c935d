// SPDX-License-Identifier: Apache-2.0
// Where a replica keeps its history floor: a file of its own in the instance's directory, since
// the store loses what it had not flushed, and a floor that went back would call collected
// history an absence. Written whole under another name, synced, renamed, the directory synced.
// One thread at a time.
#ifndef QS_REPLICA_FLOOR_FILE_H
#define QS_REPLICA_FLOOR_FILE_H

#include "common/base/base.h"
#include "common/base/error.h"

// Errors are logged with the path, at most once per interval. ERR_IO, ERR_DISK_FULL.
int floor_file_write(const char *directory, const char *scope, uint64_t floor) MUST_CHECK;

// ERR_NOT_FOUND: there is none; ERR_CORRUPT: there is, but it cannot be believed; ERR_IO.
int floor_file_read(const char *directory, uint64_t *ret_floor) MUST_CHECK;

#endif
