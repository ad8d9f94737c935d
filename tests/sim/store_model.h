// SPDX-License-Identifier: Apache-2.0
// A store in memory that stands in for RocksDB, and its control panel.
//
// store_model.c implements all of common/data/store.h for one thread, on disks that are named by
// directory and live until store_model_reset. It keeps what store.h promises and no more:
//   - What was not flushed is lost in a crash. A flush is asked for, or comes by itself after any
//     write; at odds one by itself leaves out the default family, which a crash then finds behind.
//   - Compactions come by themselves at any write, see any rows that were flushed, in any version,
//     and may stay under way, with bounds read long before, until a later write.
//   - A filter looks at no snapshot: reads at an older one see its verdict, open iterators do not.
//   - A read at STORE_CACHED may be told ERR_INCOMPLETE, a file's rows may be damaged, any call may
//     fail as the panel says.
// All chance comes from the seed: the same calls give the same answers.
#ifndef QS_TESTS_SIM_STORE_MODEL_H
#define QS_TESTS_SIM_STORE_MODEL_H

#include "common/data/store.h"

// Each happens once in so many times, 0 = never.
struct store_model_odds {
    unsigned incomplete; // reads at STORE_CACHED
    unsigned flush;      // a write is followed by a flush
    unsigned beside;     // ... of all families but the first
    unsigned compaction; // a write is followed by a step of a compaction of any family
    unsigned missed;     // a row is not seen by the store_compact that should rewrite it
    unsigned disk_full;  // a write, a flush, a compaction fails so
    unsigned io_error;   // those and reads fail so; after any but a read all writes fail
};

enum store_model_call {
    STORE_MODEL_READ, // of a row, or a seek
    STORE_MODEL_WRITE,
    STORE_MODEL_FLUSH,
    STORE_MODEL_COMPACT,
    STORE_MODEL_OPEN,
    STORE_MODEL_CALLS,
};

struct store_model_counts {
    uint64_t calls[STORE_MODEL_CALLS];
    uint64_t faults;
    uint64_t incomplete;
    uint64_t own_flushes, own_compactions; // that came by themselves
    uint64_t seen, dropped, changed;       // rows, by filters
    uint64_t crashes, lost;                // writes that were lost
    uint64_t beside;                       // crashes that left the first family behind the others
};

// Forgets all disks, and whatever is open on them, odds and counts.
void store_model_reset(uint64_t seed);
void store_model_odds(const struct store_model_odds *odds);
struct store_model_counts store_model_counts(void);

// The disk is again what was flushed, for the next store_open. A store that is open there becomes a
// ghost: it can be read and must be closed, which gives nothing to the disk; all else fails. Or,
// without a ghost, it is gone with all that was ever had from it.
void store_model_crash(const char *directory, bool ghost);
// As store_model_crash and store_model_wipe without a ghost, for every disk whose directory begins
// so.
void store_model_crash_all(const char *prefix);
void store_model_wipe_all(const char *prefix);
// Nothing is left. The open store goes as in a crash.
void store_model_wipe(const char *directory, bool ghost);
// `to`, which must not be open, becomes what is flushed in `from`.
void store_model_copy(const char *from, const char *to);

// Writes, flushes and compactions are ERR_DISK_FULL for as long as it is.
void store_model_full(const char *directory, bool full);
// The call of this kind after `after` others fails with `error`.
void store_model_fail(const char *directory, enum store_model_call call, unsigned after, int error);
// Forgets what was planned so for every disk whose directory begins so.
void store_model_calm_all(const char *prefix);
// Flips a bit in the value of any flushed row: reading it, or compacting it, is ERR_CORRUPT; or,
// `silent`, the bit is simply wrong. Lends the row's key; empty when none was found.
struct bytes store_model_flip(const char *directory, unsigned family, bool silent);

#endif
