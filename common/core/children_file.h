// SPDX-License-Identifier: Apache-2.0
// The last children of an instance and how far each had come, kept as text in its directory: when a
// root's journal is found damaged at start, this says which node to repair from.
#ifndef QS_COMMON_CORE_CHILDREN_FILE_H
#define QS_COMMON_CORE_CHILDREN_FILE_H

#include "common/base/buf.h"

// Replaces the file; best effort, a failure is logged once per interval. May block on the disk.
void children_file_write(const char *directory, const char *scope, struct bytes text);

// Appends what the file says, at most 2 KiB on one line, or "no child is on record".
void children_file_read(const char *directory, struct buf *to);

#endif
