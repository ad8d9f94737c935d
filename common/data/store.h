// SPDX-License-Identifier: Apache-2.0
// The ordered store under an instance: column families in RocksDB, without its write-ahead log
// (the journal is that), flushed atomically over all families. Only store*.c call RocksDB; the
// simulator links another file in their place.
//
// Every batch writes the state row (empty key) in every family, and store_state tells where the
// store stands. After a crash the families other than the first may hold rows of some batches more,
// which are applied again: so such rows must come out the same the second time, and mislead nobody
// before. User keys are never empty.
//
// One writer (the instance's applier); reads, snapshots and iterators from any thread.
#ifndef QS_COMMON_DATA_STORE_H
#define QS_COMMON_DATA_STORE_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/base/mem.h"

struct store;
struct store_batch;
struct store_cache;
struct store_snapshot;
struct store_iterator;

// The block cache shared by all instances of a daemon.
struct store_cache *store_cache_open(uint64_t bytes) MUST_CHECK;
void store_cache_close(struct store_cache *cache);

#define STORE_FAMILIES_MAX 2

// What a compaction does with a row that it rewrites. A compaction sees any subset of the rows, on
// the store's own threads, several at once, and looks at no snapshot: so decide from the row alone,
// and from bounds that only ever allow more. It never runs by itself on rows that nobody rewrites:
// store_compact makes it. The state row is never shown.
enum store_verdict { STORE_KEEP, STORE_DROP, STORE_CHANGE };

struct store_filter {
    // One compaction begins: reads the bounds once. The pass is used by one thread only.
    void *(*begin)(void *argument);
    // STORE_CHANGE: *ret_value takes the value's place; its memory is the pass's own and must live
    // until the next call with this pass (the store copies it). `value` itself may be lent back in
    // part.
    enum store_verdict (*judge)(void *pass, struct bytes key, struct bytes value,
                                struct bytes *ret_value);
    void (*end)(void *pass);
    void *argument; // lives as long as the store
};

struct store_options {
    const char *directory; // created when missing
    const char *scope;     // instance name, for the log
    const char *families[STORE_FAMILIES_MAX]; // [0] must be "default"
    const struct store_filter *filters[STORE_FAMILIES_MAX]; // NULL = none; live as long as it
    unsigned family_count;
    struct store_cache *cache;
    bool pin_index; // indexes and filters stay in memory, also beyond the cache's limit
    uint64_t memtable_bytes;
};

// ERR_IO, ERR_CORRUPT; what RocksDB said is logged.
int store_open(struct store **ret_store, const struct store_options *options) MUST_CHECK;
// Flushes everything, atomically, and closes. Snapshots, iterators and values must be gone.
// False: it could not be flushed and stays open; the process shall end by _exit, and the next start
// replays the journal.
bool store_close(struct store *store);

enum store_tier {
    STORE_ANY,       // may read the disk
    STORE_CACHED,    // memory only, else ERR_INCOMPLETE
    STORE_PERSISTED, // only what survives a crash of the process
};

// A value lent by the store until store_value_release; `data` points into the store's memory.
struct store_value {
    struct bytes data;
    void *pin;
};

// `snapshot` NULL = the newest state. ERR_NOT_FOUND, ERR_INCOMPLETE, ERR_CORRUPT, ERR_IO.
int store_get(struct store *store, const struct store_snapshot *snapshot, unsigned family,
              struct bytes key, enum store_tier tier, struct store_value *ret_value) MUST_CHECK;
void store_value_release(struct store_value *value); // zero-initialised is fine

struct store_snapshot *store_snapshot(struct store *store) MUST_CHECK;
void store_snapshot_release(struct store *store, struct store_snapshot *snapshot);

// A batch is applied whole or not at all. It is reused: clear keeps its memory.
struct store_batch *store_batch_new(void) MUST_CHECK;
void store_batch_free(struct store_batch *batch);
void store_batch_clear(struct store_batch *batch);
size_t store_batch_bytes(const struct store_batch *batch);
void store_batch_put(struct store_batch *batch, struct store *store, unsigned family,
                     struct bytes key, struct bytes value);
// Key and value given in two pieces each, so that prefixes need no copy by the caller.
void store_batch_put_parts(struct store_batch *batch, struct store *store, unsigned family,
                           const struct bytes key[2], const struct bytes value[2]);
void store_batch_delete(struct store_batch *batch, struct store *store, unsigned family,
                        struct bytes key);
// Whether the disk has room for a write's flush and for what RocksDB may compact at any time, which
// would take that of the flush: who can wait asks before a write. Logs when not.
bool store_has_room(struct store *store);
// Writes the batch with `state` as the state row of every family.
// ERR_DISK_FULL: nothing was written, try again later; ERR_IO, ERR_CORRUPT: the store is suspect.
int store_write(struct store *store, struct store_batch *batch, struct bytes state) MUST_CHECK;

// The state row at a tier; ERR_NOT_FOUND in a fresh store. The first family ahead of another:
// ERR_CORRUPT; at STORE_PERSISTED the oldest of their states, as one family's new files may show a
// little later.
int store_state(struct store *store, enum store_tier tier,
                struct store_value *ret_state) MUST_CHECK;

// Flushes all families together (through a checkpoint, the only way in 7.8.3's C API). Blocks.
int store_flush(struct store *store) MUST_CHECK;

// Keys in [lower, upper) of a family at a snapshot; an empty upper = no bound; the state row is
// never shown. An iterator belongs to one thread and may block.
struct store_iterator *store_iterator_open(struct store *store,
                                           const struct store_snapshot *snapshot, unsigned family,
                                           struct bytes lower, struct bytes upper) MUST_CHECK;
// The same for who goes through everything once: what it reads pushes nothing out of the cache.
struct store_iterator *store_iterator_open_once(struct store *store,
                                                const struct store_snapshot *snapshot,
                                                unsigned family, struct bytes lower,
                                                struct bytes upper) MUST_CHECK;
void store_iterator_close(struct store_iterator *iterator);
void store_iterator_seek(struct store_iterator *iterator, struct bytes key); // first key >= key
bool store_iterator_valid(const struct store_iterator *iterator);
void store_iterator_next(struct store_iterator *iterator);
struct bytes store_iterator_key(const struct store_iterator *iterator);   // until the next move
struct bytes store_iterator_value(const struct store_iterator *iterator); // until the next move
int store_iterator_error(const struct store_iterator *iterator) MUST_CHECK;

// ---- compaction --------------------------------------------------------------------------------

// A live file of a family, for whoever chooses what is worth compacting.
struct store_file {
    int level;
    uint64_t bytes;
    uint64_t entries;
    struct bytes smallest; // user keys; empty where it begins with the state row
    struct bytes largest;
};

struct store_files {
    struct store_file *files;
    size_t count;
    struct arena memory;
};
// Level after level, each above 0 in the order of keys. Files that hold the state row alone are
// left out.
void store_files(struct store *store, unsigned family, struct store_files *ret_files);
void store_files_free(struct store_files *files);

// Rewrites the rows in [lower, upper] of a family (empty = no bound) into the last level that has
// any, so that the family's filter sees them; rows that RocksDB itself moves or rewrites meanwhile
// it may miss, so what must be seen is asked for again. Flushes all families first where those rows
// are in memory. Blocks, one at a time; ERR_STOPPED after store_compact_cancel; ERR_DISK_FULL, also
// when the new files would have no space beside the old ones; ERR_IO.
int store_compact(struct store *store, unsigned family, struct bytes lower,
                  struct bytes upper) MUST_CHECK;
// For good: before closing. Returns when none is under way any more. Any thread.
void store_compact_cancel(struct store *store);

struct store_sizes {
    uint64_t family_bytes[STORE_FAMILIES_MAX]; // live files
    uint64_t disk_bytes;                       // all files, those pinned by readers too
    uint64_t memtable_bytes;                   // all families
    uint64_t pending_bytes;                    // to be compacted, by estimate
    bool write_stopped;
};
void store_sizes(struct store *store, struct store_sizes *ret_sizes);

// What stands on the disk twice while the files that came from memtables are compacted: these, and
// the whole level that they go to. No other compaction writes more than some
// dozen files at a time.
uint64_t store_merge_bytes(struct store *store);

#endif
