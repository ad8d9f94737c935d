// SPDX-License-Identifier: Apache-2.0
// Whose directory this is: a file IDENTITY in each instance's directory names cluster, instance
// and kind of data, and a lock keeps a second daemon out. Used once, while an instance opens.
#ifndef QS_COMMON_CORE_IDENTITY_H
#define QS_COMMON_CORE_IDENTITY_H

#include "common/base/error.h"
#include "common/base/options.h"

// Creates `directory` when missing, locks it and checks, or writes, its identity. The lock is held
// until *ret_lock_fd is closed. ERR_IDENTITY, ERR_IO, ERR_DISK_FULL: a sentence was logged.
int identity_claim(const char *directory, const struct node_options *node,
                   const struct instance_options *options, int *ret_lock_fd) MUST_CHECK;

#endif
