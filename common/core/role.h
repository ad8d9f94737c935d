// SPDX-License-Identifier: Apache-2.0
// What distinguishes a replica from a proxy: how a row looks, what applying a block writes, where
// a missing value comes from. The only run-time table of functions in qs; replica/ and proxy/
// implement it, qs/ hands it to instance_open.
#ifndef QS_COMMON_CORE_ROLE_H
#define QS_COMMON_CORE_ROLE_H

#include "common/core/record.h"
#include "common/data/block.h"
#include "common/data/store.h"

struct instance;
struct range_read;
struct read;
struct view;

// Takes a key as it was at an index: OK with its record, ERR_NOT_FOUND when it was absent there,
// ERR_CORRUPT. False: no more of them.
typedef bool role_row(void *argument, struct bytes key, int status, const struct record *record);

// [start, end) in key order, an empty end = no bound; a walk over it goes on at `from`.
struct role_range {
    struct bytes start, end, from;
};

struct role {
    const char *families[STORE_FAMILIES_MAX];
    unsigned family_count;

    // Opens and closes what the role keeps: instance->role_state. Called by instance_open before
    // the store is opened (its directory exists), and by instance_close after it was closed.
    int (*open)(struct instance *instance);
    void (*close)(struct instance *instance);

    // The filter of a family, NULL for none. Called just before the store is opened. May be NULL.
    const struct store_filter *(*filter)(struct instance *instance, unsigned family);

    // Decodes a row of the default family. ERR_CORRUPT when it is malformed or a held value fails
    // its check. Any thread.
    int (*decode)(struct bytes row, struct record *ret_record);

    // Applier: adds to `batch` what the block writes (default rows, history). May write earlier,
    // in chunks, what no reader sees before the default row changes: instance_write_ahead.
    // ERR_DIVERGED: the store does not hold the version that an entry replaced. It is the store
    // that is wrong, as with ERR_CORRUPT: the log has proven itself by its chain.
    int (*apply)(struct instance *instance, const struct block *block, struct store_batch *batch);

    // Applier: adds to `batch` for `store` the newest row of a key, as a snapshot or the log gives
    // it, without history. A role that keeps every value gets only records that hold theirs.
    void (*put)(struct instance *instance, struct store *store, struct store_batch *batch,
                struct bytes key, const struct record *record);

    // Applier: the instance changes to another store, which holds history and recent values from
    // `index` on. instance->store is that one already, no view of it is published yet.
    void (*replaced)(struct instance *instance, uint64_t index);

    // Applier, after a block's view was published, and at idle intervals.
    void (*published)(struct instance *instance);

    // Walker thread: one step of what the role does to its files in the background (collecting
    // history, evicting values), at most one compaction. Returns after how many nanoseconds the
    // next is wanted; instance_wake_hand asks for one at once. NULL: nothing to do, ever.
    uint64_t (*hand)(struct instance *instance);

    // A read asks for the value of `key`, of `bytes`. Any thread. May be NULL.
    void (*touch)(struct instance *instance, struct bytes key, uint64_t bytes);

    // Loop `read->loop`: fetches the values that `read` found not held; ends in read_fetched, on
    // that loop. NULL: every value is held, a missing one is corruption.
    void (*fetch)(struct instance *instance, struct read *read);

    // Loop `read->loop`: finds what the lookups marked `past` were at read->at, an index before the
    // view's; ends in read_resolved, on that loop.
    void (*past)(struct instance *instance, struct read *read);

    // A role that keeps history. Reader thread: hands every key of [start, end), from `from` on, as
    // it was at index `at`, to `row`, in order. ERR_GONE: the history does not reach back that far.
    int (*past_rows)(struct instance *instance, const struct view *view, uint64_t at,
                     const struct role_range *range, role_row *row, void *argument);
    // One that keeps none. Loop range->read.loop: fills the range by range_offer as of
    // range->read.at; ends in range_ended, on that loop, never before it returns.
    void (*past_range)(struct instance *instance, struct range_read *range);
};

#endif
