// SPDX-License-Identifier: Apache-2.0
// The incarnation of an instance: a number in a file of its directory that every start raises
// before it opens a door. Readers that go on without a daemon look there, so all that they have of
// earlier starts is dead to them at once, though nobody is left to tell them.
//
// It rises by a random step: a file that was cut, or is an older one that was written over it, does
// not come to a number again that somebody may remember.
#ifndef QS_COMMON_SHARED_INCARNATION_H
#define QS_COMMON_SHARED_INCARNATION_H

#include "common/base/error.h"

struct incarnation {
    int fd; // to be given to others, read only; -1: none
    uint64_t number;
};

// Raises it. Where there is no such file, and none is to be created, nobody maps anything:
// ERR_NOT_FOUND. ERR_DISK_FULL, ERR_IO: it is not raised; errno tells more.
int incarnation_raise(struct incarnation *ret_incarnation, const char *directory,
                      bool create) MUST_CHECK;
void incarnation_close(struct incarnation *incarnation);

#endif
