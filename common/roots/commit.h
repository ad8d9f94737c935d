// SPDX-License-Identifier: Apache-2.0
// What this root knows to be committed (docs/commit.md, R5 and R13), and its file `commit` in the
// instance's directory: a root says so there, synced, before it shows it to anybody. Within one
// history it never falls.
//
// The file holds two records that are written in turn, each with a number and a checksum: a write
// that a crash tears leaves the one before. Moved by one thread; read by any.
#ifndef QS_COMMON_ROOTS_COMMIT_H
#define QS_COMMON_ROOTS_COMMIT_H

#include "common/data/journal.h"

struct commit;

// What the file says; `found` false: there was none.
struct commit_record {
    bool found;
    uint8_t history[HISTORY_ID_BYTES]; // zeroes: nothing is committed in any
    struct journal_place place;
};

// Reads the file, or makes it. ERR_CORRUPT: no record of it is sound (logged, with the place);
// ERR_IO, ERR_DISK_FULL.
int commit_open(struct commit **ret_commit, const char *directory, const char *scope,
                struct commit_record *ret_record) MUST_CHECK;
void commit_close(struct commit *commit); // NULL is allowed

// Makes it known, durably, that `place` is committed. Nothing happens when it does not lie above
// what is known of this history. ERR_IO: what the disk holds is unknown, it is never tried again.
int commit_advance(struct commit *commit, const uint8_t history[HISTORY_ID_BYTES],
                   const struct journal_place *place) MUST_CHECK;

// The newest that is on disk. Any thread.
struct journal_place commit_known(struct commit *commit);

#endif
