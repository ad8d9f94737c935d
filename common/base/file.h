// SPDX-License-Identifier: Apache-2.0
// Small files that are written whole: what a crash leaves is the old content or the new one. Any
// thread; may block. On failure `errno` tells more, for whoever logs it.
#ifndef QS_COMMON_BASE_FILE_H
#define QS_COMMON_BASE_FILE_H

#include "common/base/bytes.h"
#include "common/base/error.h"

// Opens a new file of this name in a directory (or AT_FDCWD); `access` is O_WRONLY or O_RDWR. One
// that is there goes first: a power cut in the middle of a rename may have left it as another name
// of the file that is in use, which must not be cut to nothing. -1 and errno.
int file_fresh(int folder, const char *name, int access) MUST_CHECK;

// Writes `content` to `path`.new, synced, and renames that; then the name is made certain, too.
// After a failure of the very last step it is not known which of both a power cut would leave.
// ERR_DISK_FULL, ERR_IO.
int file_save(const char *path, struct bytes content) MUST_CHECK;

// Reads the whole file. ERR_NOT_FOUND, ERR_CORRUPT (it has more than `limit` bytes), ERR_IO.
int file_load(const char *path, uint8_t *to, size_t limit, size_t *ret_size) MUST_CHECK;

// All of it, however many calls that takes. Reading: ERR_CORRUPT when the file ends before.
int file_write_all(int fd, struct bytes content) MUST_CHECK;
int file_read_all(int fd, uint8_t *to, size_t size) MUST_CHECK;

// Makes the names in a directory certain: what is synced is lost with its name. ERR_IO.
int file_sync_directory(const char *path) MUST_CHECK;

#endif
