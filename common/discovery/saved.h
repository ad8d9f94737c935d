// SPDX-License-Identifier: Apache-2.0
// The nodes that were found, kept in a file for a start without Consul. Written whole, synced, with
// a checksum; what fails it, or is of another kind, is as good as nothing. Any thread; may block.
//
//   qs-found 1 HASH                              XXH3-64 of all that follows, in hexadecimal
//   nodes ADDRESS NODE SITE KIND OWN             a possible parent; "-" for what is not known
//   replicas ADDRESS NODE SITE KIND OWN          one that a proxy may fetch from
#ifndef QS_COMMON_DISCOVERY_SAVED_H
#define QS_COMMON_DISCOVERY_SAVED_H

#include "common/base/buf.h"
#include "common/discovery/endpoints.h"

#define SAVED_BYTES_MAX (4 * MIB)

void saved_add(struct buf *to, const char *list, const struct endpoint *endpoint);

// What saved_add collected takes the place of the file. As file_save.
int saved_write(const char *path, const struct buf *lines) MUST_CHECK;

// Calls `each` for every line. ERR_NOT_FOUND, ERR_CORRUPT (nothing was called), ERR_IO.
int saved_read(const char *path,
               void (*each)(void *argument, const char *list, const struct endpoint *endpoint),
               void *argument) MUST_CHECK;

#endif
