// SPDX-License-Identifier: Apache-2.0
// Reading keys at one view: all keys are resolved to (version, length, check) first, in memory
// where possible, else on a reader thread; then the values that a proxy does not hold are fetched
// by exactly these versions. Never evaluated again at another view. Loop thread.
//
// A read may be as of an earlier index than the view's: a row that is no newer than that says what
// the key was; for any other the role is asked (role->past). ERR_BEHIND: the index is above the
// view's; ERR_GONE: the history does not reach back that far.
#ifndef QS_COMMON_CORE_READ_H
#define QS_COMMON_CORE_READ_H

#include "common/base/mem.h"
#include "common/core/instance.h"
#include "common/core/readers.h"
#include "common/shared/hot.h"

struct lookup {
    struct bytes key;    // in; lives until done
    int status;          // out: OK, ERR_NOT_FOUND, or the error that this key met
    struct record record; // when OK; `value` valid until read_release
    struct store_value pin;
    uint8_t *fetched;    // owns a value that was fetched, or copied
    bool pooled;
    bool past;           // for role->past: the view's row says nothing about read->at
    bool filtered;       // absent by the front filter
    bool unfiltered;     // absent though the front filter took it for present
    bool hot;            // the table of hot keys said it
};

struct read {
    struct instance *instance;
    struct readers *readers;
    struct loop *loop;
    struct view *view;   // pinned by the caller, released by read_release
    struct lookup *lookups;
    unsigned count;
    uint64_t at;         // as of this index; 0 = the view's
    bool values;         // false: presence, version and length are enough
    uint64_t reply_limit; // sum of value lengths allowed (0 = any); beyond it every lookup gets
                          // ERR_REPLY_SIZE
    void (*done)(struct read *read);
    // Private.
    struct read_job job;
    unsigned pending_fetches;
};

// Starts; `done` may be called before this returns, and is called exactly once, on the loop.
void read_start(struct read *read);
// Releases pins, fetched values and the view. The lookups' array stays the caller's.
void read_release(struct read *read);

// What look-ups came to, to be added to the metrics together.
struct read_tally {
    uint64_t keys, absent, filtered, unfiltered, hot;
};
void read_tally_add(const struct read_tally *tally, struct instance *instance);

// The short way for one key and its value at a view: true when memory alone said ERR_NOT_FOUND, or
// OK and a value of `limit` bytes at most; else it is to be read as above, and nothing was counted.
// `hash` = hash128(key, 0). The record's value is in `room`, or pinned: the caller releases
// lookup->pin.
bool read_at_once(struct instance *instance, const struct view *view, struct hash128 hash,
                  uint64_t limit, struct lookup *lookup, struct look_answer *room,
                  struct read_tally *tally) MUST_CHECK;
// Memory that it will need is fetched into the processor's caches.
void read_prefetch(const struct view *view, struct hash128 hash);

// For role->fetch: all missing values have arrived or failed (their status says so).
void read_fetched(struct read *read);
// For ranges (common/core/read_range.c) and role->past: every key is resolved, go on with the
// values.
void read_resolved(struct read *read);
// For role->past: does work on a reader thread, then `worked` on the loop. One job at a time.
void read_submit(struct read *read, void (*work)(struct read_job *job),
                 void (*worked)(struct task *task));
// For role->past: what a lookup was at read->at. The value is copied, unless the reply will be too
// large anyway: `ret_bytes` sums the lengths.
void lookup_recall(const struct read *read, struct lookup *lookup, int status,
                   const struct record *record, uint64_t *ret_bytes);

// OK, or why the index that the read is as of cannot be read here.
int read_at_error(const struct read *read);
// Is it as of an earlier index than the view's?
static inline bool read_is_past(const struct read *read)
{
    return read->at != 0 && read->at != read->view->place.index;
}

// For role->fetch: the lookups whose value is missing.
static inline bool lookup_missing(const struct lookup *lookup)
{
    return lookup->status == OK && !lookup->record.held;
}

// Does what a view's row says hold as of index `at`, which is no later? A row that is no newer
// does: had the key been replaced or deleted between, the row would be newer or gone.
static inline bool lookup_says(const struct lookup *lookup, uint64_t at)
{
    return lookup->status == OK && lookup->record.version <= at;
}

// Keys of [start, end) in order at one view, at most `limit`; runs on a reader thread, values are
// fetched afterwards like any other read's.
struct range_read {
    struct read read;    // set instance, readers, loop, view, values, reply_limit; lookups come out
    struct bytes start;  // inclusive
    struct bytes end;    // exclusive, empty = no bound
    uint64_t limit;
    struct bytes match;  // only keys that match this glob, empty = all
    bool more;           // out: keys were left
    struct bytes next;   // out, when `more`: where to go on; owned by the range
    struct arena keys;
    int status;          // out: OK or an error of the iterator
    void (*done)(struct range_read *range);
    uint64_t visited_max; // keys looked at at most (for SCAN); 0 = no bound
    // Private.
    unsigned capacity;    // of read.lookups, which a range owns
    uint64_t visited;
    uint64_t bytes;       // taken from reply_limit
    uint64_t slice_visited, slice_bytes; // of the two, when the slice began
    bool again;           // the slice is over, the range is not
    struct buf place;     // where the next slice begins
};
void range_start(struct range_read *range);
void range_release(struct range_read *range);

// For role->past_range: the next key in order (as role_row). False: the range takes no more.
bool range_offer(struct range_read *range, struct bytes key, int status,
                 const struct record *record);
void range_slice(struct range_read *range); // what follows is not cut off as too long a slice
void range_ended(struct range_read *range); // no more will be offered, or range->status is set

#endif
