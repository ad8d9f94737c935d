// SPDX-License-Identifier: Apache-2.0
// What a root has promised (docs/commit.md, R6): whom it follows, and so whom it does not follow
// any more. In the file `promise` of the instance's directory, text that a person can read, with a
// checksum, replaced whole and synced; it must be on the disk before anybody is told.
//
// `blank` notes that the directory was empty when the root began: it may have acknowledged and
// promised before, and cannot know. Blocks on the disk. One thread at a time.
#ifndef QS_COMMON_ROOTS_PROMISE_H
#define QS_COMMON_ROOTS_PROMISE_H

#include "common/roots/roots.h"

struct promise {
    uint8_t history[HISTORY_ID_BYTES];
    struct leadership leadership;
    uint64_t generation; // the highest of the record that was seen
    bool blank;
    bool alone; // it made this history, and has added nobody to its set yet (R15)
};

bool promise_equal(const struct promise *a, const struct promise *b);

// ERR_DISK_FULL, ERR_IO: logged. After a failure it is not known which of both is on the disk, so
// neither may be told to anybody.
int promise_save(const char *directory, const char *scope, const struct promise *promise,
                 const struct members *names) MUST_CHECK;

// A leader that `names` does not hold is ROOT_NOBODY, whom nobody follows. ERR_NOT_FOUND,
// ERR_CORRUPT, ERR_IO.
int promise_load(const char *directory, const struct members *names,
                 struct promise *ret_promise) MUST_CHECK;

// R13, once at each start. Without a file: a directory with an empty journal gets the promise of a
// blank root; beside blocks a missing or damaged promise is ERR_CORRUPT, and the log says what a
// person may do. ERR_DISK_FULL, ERR_IO: logged.
int promise_open(const char *directory, const char *scope, bool journal_empty,
                 const struct members *names, struct promise *ret_promise) MUST_CHECK;

#endif
