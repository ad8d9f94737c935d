// SPDX-License-Identifier: Apache-2.0
// What the files of the store share. They are the only ones that call RocksDB.
#ifndef QS_COMMON_DATA_STORE_PRIVATE_H
#define QS_COMMON_DATA_STORE_PRIVATE_H

#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>

#include "common/base/log.h"
#include "common/data/store.h"

#define STORE_TIERS 3
#define STORE_NUMBER_BYTES sizeof(uint64_t) // at the end of the state row

struct store {
    char *directory;
    char *flush_directory; // of the checkpoint that a flush makes, beside `directory`
    char *scope;
    rocksdb_options_t *options[STORE_FAMILIES_MAX];
    rocksdb_t *db;
    unsigned family_count;
    char *names[STORE_FAMILIES_MAX];
    rocksdb_column_family_handle_t *families[STORE_FAMILIES_MAX];
    rocksdb_readoptions_t *read[STORE_TIERS]; // shared by all readers, who only look at them
    rocksdb_writeoptions_t *write;
    pthread_mutex_t flush_lock; // one flush at a time, they share the directory
    pthread_mutex_t checkpoint_lock; // held while RocksDB deletes no file: see store_compact
    _Atomic uint64_t written;   // number of the newest write
    _Atomic bool compact_cancelled;
    uint64_t reserve_bytes; // of disk that flushes of all that is in memory may need
    uint64_t compact_bytes; // the most that one step of a compaction rewrites, about
    struct log_gate read_gate;
    struct log_gate write_gate;
};

// The state row's key.
#define STORE_STATE_KEY ((struct bytes){.data = (const uint8_t *)"", .size = 0})

// Takes RocksDB's text of an error, logs it, and returns its number.
int store_error(const char *scope, struct log_gate *gate, const char *what, char *text);

// Whether a write, and `bytes` beside it, have their space on the disk; logs when not.
bool store_has_space(struct store *store, uint64_t bytes);

// Whether one more file from a memtable would make RocksDB slow down writes.
bool store_is_crowded(struct store *store);

// The options of readers at each tier. To free takes what is not made yet, too.
void store_reads_make(rocksdb_readoptions_t *read[STORE_TIERS],
                      const rocksdb_snapshot_t *sequence);
void store_reads_free(rocksdb_readoptions_t *read[STORE_TIERS]);

// The numbers of the newest writes that all families have, and that any has; 0 in a fresh store.
struct store_numbers {
    uint64_t oldest;
    uint64_t newest;
    bool ordered; // `default` is not ahead of another
};
int store_numbers(struct store *store, enum store_tier tier, struct store_numbers *ret_numbers);

// An integer property of RocksDB.
uint64_t store_number(struct store *store, unsigned family, const char *property);

// Removes what a flush left behind: it pins the space of deleted files.
int store_flush_clean(struct store *store);

// Makes the compactions of a family run `filter`.
void store_filter_set(rocksdb_options_t *options, const struct store_filter *filter);

#endif
