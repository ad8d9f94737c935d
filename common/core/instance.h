// SPDX-License-Identifier: Apache-2.0
// An instance: one independent database on this node. It owns the journal, the store, the views
// and two workers:
//   writer   owns the journal's end. At a root it runs the sequencer (replica/sequencer.c), which
//            turns writes into blocks; elsewhere it takes blocks from the follower
//            (instance_receive). Then: append, publish to children (a root only after the sync),
//            sync, hand to the applier.
//   applier  owns the store. Applies each synced block in one store write and publishes a view.
// So visible <= applied <= synced, always. docs/architecture.md has the picture.
//
// Everything that other threads ask of an instance goes through the functions here.
#ifndef QS_COMMON_CORE_INSTANCE_H
#define QS_COMMON_CORE_INSTANCE_H

#include "common/base/metrics.h"
#include "common/base/options.h"
#include "common/core/birth.h"
#include "common/core/role.h"
#include "common/core/shelf.h"
#include "common/core/view.h"
#include "common/discovery/endpoints.h"
#include "common/io/loop.h"

enum instance_state {
    INSTANCE_LOADING = 0, // replaying, or waits for a journal's repair or for another store
    INSTANCE_SERVING = 1,
    INSTANCE_STOPPED = 2, // takes no updates any more; reads go on. The reason is in the log
};

struct instance_setup {
    const struct node_options *node;
    const struct instance_options *options;
    const struct role *role;
    struct store_cache *cache;
    struct instance_metrics *metrics; // of the caller; lives as long as the instance
    struct beats *beats;              // likewise
    void *sequencer;                  // at a root: replica/sequencer.c's, likewise
    struct loop *home;                // the loop for this instance's own links
    // At a root: called on the writer thread whenever writes may be waiting; makes, through
    // instance_commit, at most one block. Returns true when more is to be done at once.
    bool (*sequence)(struct instance *instance);
    // At a root: called on the applier thread after a view was published.
    void (*answer)(struct instance *instance);
    // Somebody else decides who leads among several roots (common/core/lead.h): none does at first.
    bool council;
};

// What a role that cannot tell its history floor leaves in instance->history_floor when it opens:
// everything before the store's index is taken as collected.
#define HISTORY_FLOOR_LOST UINT64_MAX

// A waiter for the visible index to reach `index`, or for another history to take the place of the
// one that it means: `task` is posted to `loop` once either is so (or at once). Cancelled by
// instance_wait_cancel; the waiter's memory must live until then.
struct index_waiter {
    struct list node;
    uint64_t index;
    unsigned forks; // of a view of that history
    struct loop *loop;
    struct task task;
    bool waiting; // in the list, under the instance's lock
};

// What the last whole walk through the store said of it (common/core/walk.h).
enum soundness {
    STORE_UNPROVEN = 0, // none has ended since the start, or since the store was replaced
    STORE_PROVEN = 1,   // it held exactly what the log says
    STORE_UNSOUND = 2,  // it did not, or a row failed its check: to be repaired
};

// A waiter for the end of a walk: `task` is posted to `loop` then. Cancelled by
// instance_walk_cancel; the waiter's memory must live until either.
struct walk_waiter {
    struct list node;
    struct loop *loop;
    struct task task;
    bool waiting;        // in the list, under the instance's lock
    int error;           // out: walk_result's
    uint64_t index;      // out, likewise
    struct digest digest;
};

struct instance {
    const struct node_options *node;
    const struct instance_options *options;
    const char *name;
    const struct role *role;
    void *role_state;
    void *sequencer; // replica/sequencer.c's, at a root
    void *upstream;  // common/tree/follow.c's, elsewhere
    bool (*sequence)(struct instance *instance);
    void (*answer)(struct instance *instance);
    char *directory;
    int lock_fd;
    _Atomic(struct store *) store; // of `volume`; the applier may change to another one
    struct volume *volume;         // `lock`; the applier's own to read without it
    struct list retired;           // applier thread: volumes to be closed, perhaps still held
    struct shelf shelf;            // applier thread
    struct build *build;           // common/core/build.c's: the store under construction
    struct store_cache *cache;
    struct journal *journal;
    struct instance_metrics *metrics;
    struct views views;
    struct display *display; // common/core/display.c; NULL: nothing is shared with other processes
    // Where its log comes from, and where a proxy fetches values: what the options say to begin
    // with. Whoever finds other nodes publishes them here.
    struct endpoint_feed parents, replicas;
    struct loop *home;
    struct worker *writer;
    struct worker *applier;
    _Atomic int state;            // enum instance_state
    _Atomic uint64_t synced;      // index at the end of the last synced block
    _Atomic uint64_t apply_bytes; // raw bytes of blocks between writer and applier
    _Atomic uint64_t receive_bytes; // bytes of received blocks that the writer has not appended
    _Atomic uint64_t window_floor; // a proxy's W: set by its role, goes into each new view
    _Atomic uint64_t history_floor; // a replica's, likewise; only rises within one history
    struct walked *walked;          // common/core/walker.c's, once it was added there
    struct walk *walk;              // common/core/walk.c
    _Atomic int soundness;          // enum soundness
    struct list walk_waiters;       // under `lock`
    uint64_t front_saved;           // block up to which the filter's file reaches; from the first
                                    // view on the walker's
    const struct front_generation *front_saved_as; // ... and what is in it; only to compare
    struct space *space;   // common/core/space.c
    _Atomic int space_level; // enum space_level of common/core/space.h
    struct applier *apply; // common/core/applier.c
    struct writer *write;  // common/core/writer.c
    struct lead *lead;     // common/core/lead.h: one of several roots; NULL = it is not
    pthread_mutex_t lock;         // guards `waiters` and `room`
    struct list waiters;
    struct birth birth;           // `lock`: of the journal's history, or size 0
    pthread_mutex_t birth_file;   // one thread at a time writes it: the applier or the writer
    struct notice *room;          // raised when receive_bytes falls; set by the follower
    struct notice *repair;        // raised when the journal is found damaged; set by the follower
    struct notice writer_wake;
    bool role_open;
    _Atomic bool closing;         // work that may last shall be left to the next start
    _Atomic bool disk_full;       // the applier waits for space; a root refuses writes meanwhile
    struct beats *beats;          // common/tree/beat.c
    struct census *census;        // common/tree/census.c, as long as there is a fanout
    struct desk *desk;            // common/tree/picture.c, likewise
    struct forward *forward;      // common/tree/forward.c, likewise
    struct regain *regain;        // common/tree/regain.c, at the only root
    // At the only root: others have this history up to this block, which is not here yet. No writes
    // are taken meanwhile. 0 = nothing is known to be missing.
    _Atomic uint64_t missing;
    _Atomic uint64_t damaged_first, damaged_last; // block numbers that must be fetched again, or 0
    // Nothing beyond this index is applied; UINT64_MAX = no limit. The journal may go on.
    _Atomic uint64_t apply_limit;
    _Atomic bool doubted;         // a read met a bad row: a walk is due
    _Atomic bool unproven;        // built from a snapshot and not walked (common/core/proof.h)
    _Atomic bool suspect;         // the store is not what the log says: no source for others
    _Atomic bool wants_build;     // the store in use cannot go on: another one is to be built
};

// Opens `data_dir/name`, recovers journal and store, starts the workers; replay goes on in the
// applier (state LOADING). Errors are logged with their place; ERR_IDENTITY, ERR_DAMAGED (root),
// ERR_AHEAD, ERR_IO, ERR_CORRUPT, ERR_CONFIG (an address among `parents` or `replicas`).
int instance_open(struct instance **ret_instance, const struct instance_setup *setup) MUST_CHECK;

// Ends both workers (what is sequenced is committed and applied first), flushes, closes. Links
// and clients must be gone.
enum instance_end {
    INSTANCE_LEFT_OPEN = 0, // the store had to be (store_close): the journal will be replayed
    INSTANCE_LEFT_REPLACED, // one had to be that another has taken the place of: nothing is lost
    INSTANCE_CLOSED,
};
// But for INSTANCE_CLOSED the process shall end by _exit.
enum instance_end instance_close(struct instance *instance);

enum instance_state instance_state(const struct instance *instance);
// Does this node take writes, as far as it knows: the only root, or of several the one that leads?
// Any thread.
bool instance_leads(const struct instance *instance);

// The current view, pinned. NULL while loading.
struct view *instance_pin(struct instance *instance) MUST_CHECK;

// Follower, loop `home`: hands over a decoded block that came from a parent (one reference is
// taken over) that follows the last one (block_follows). The follower pauses its link while
// instance_room is false, until the `room` notice. Blocks already known are dropped, those of a
// damaged range mend the journal.
void instance_receive(struct instance *instance, struct block *block);
bool instance_room(const struct instance *instance);
// Gives an empty instance its history, before the first block. Follower, loop `home`.
void instance_adopt(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES]);

// Writer thread, root: appends, syncs, publishes `block`, hands it to the applier. On failure the
// block is gone (ERR_DISK_FULL: try later) or its outcome unknown (ERR_UNKNOWN_OUTCOME: the
// instance has stopped).
int instance_commit(struct instance *instance, struct block *block) MUST_CHECK;
// No update can be applied for want of disk space, now: a root refuses writes. Any thread.
bool instance_disk_full(const struct instance *instance);
// Applier is too far behind: the sequencer shall wait (its turn is called again when not).
bool instance_apply_full(const struct instance *instance);
void instance_wake_writer(struct instance *instance); // any thread

// Applier thread, role->apply: writes rows ahead of the block's own batch (the state row of the
// block before is repeated); the batch is cleared. ERR_STOPPED: the daemon ends meanwhile.
int instance_write_ahead(struct instance *instance, struct store_batch *batch) MUST_CHECK;

// The applier's mailbox: for fills and other store writes that must not race with applying.
struct mailbox *instance_applier(struct instance *instance);
// Applier thread: writes rows that change no index (fills); the state row is repeated. The rows
// are seen by readers from the next view on; `republish` makes one at once.
int instance_write_fill(struct instance *instance, struct store_batch *batch) MUST_CHECK;

// Applier thread: the next turn publishes a view of the same index, with what changed around it
// (floors).
void instance_republish(struct instance *instance);
// A walk through the store, or the one that goes on already, and its answer to the waiter. Any
// thread.
void instance_walk(struct instance *instance, struct walk_waiter *waiter);
// True when it was still waiting: the task will not run. False: it has been posted.
bool instance_walk_cancel(struct instance *instance, struct walk_waiter *waiter);
// Applier thread: the store was replaced by another. What was known of the old one is void: its
// walk, its soundness, its front filter.
void instance_store_replaced(struct instance *instance);
bool instance_front_wanted(const struct instance *instance); // should a walk build one? Any thread
// Saves the front filter when it is newer than its file. The walker, and the end of the instance.
void instance_save_front(struct instance *instance);
// A row of the view's store failed its check: a walk shall tell soon what is wrong. Any thread.
void instance_doubt_store(struct instance *instance, const struct view *view);
// The walker shall look whether a walk is due. Any thread; nothing happens without a walker.
void instance_wake_walk(struct instance *instance);
// Asks the walker for a step of role->hand soon. Any thread; nothing happens without a walker.
void instance_wake_hand(struct instance *instance);

void instance_wait(struct instance *instance, struct index_waiter *waiter);
// Is `view` what it waits for?
bool instance_waited(const struct index_waiter *waiter, const struct view *view);
// True when it was still waiting: the task will not run. False: it has been posted.
bool instance_wait_cancel(struct instance *instance, struct index_waiter *waiter);

// Marks the instance as stopped, once, with the reason in the log.
void instance_stop_updates(struct instance *instance, int error, const char *reason);

// The journal is damaged at these blocks (from a recheck): remembered, repaired by the follower.
void instance_damaged(struct instance *instance, const struct journal_report *report);

// Moves apply_limit: what lies below is applied at once. Any thread.
void instance_limit_apply(struct instance *instance, uint64_t index);

// The store in use, held against being closed; for whoever works on it outside of a view. Any
// thread.
struct volume *instance_volume(struct instance *instance) MUST_CHECK;

// The store in use is not what the log says it is, or cannot be read: it serves on as it is, gives
// nothing to other nodes, and is replaced by one that is built from another node's. Any thread.
void instance_store_failed(struct instance *instance, const char *reason);

// Begins the journal anew behind a block (journal_restart), on the writer's thread. What was
// received and is not synced is dropped. `answered` is posted to `loop` with `error` set:
// ERR_DISK_FULL, ERR_BUSY (one of several roots holds more than that), nothing has changed; any
// other has stopped the instance. The order lives until
// then.
struct restart_order {
    struct task task; // writer.c's own
    struct instance *instance;
    struct block_header before;
    struct birth birth; // of that history, where it is another one; else size 0
    struct loop *loop;
    struct task answered;
    int error;
};
void instance_restart_journal(struct restart_order *order);

// Opens a store of the shelf as this instance's role wants it. Opening, or the applier's thread.
int instance_open_volume(struct instance *instance, uint64_t number,
                         struct volume **ret_volume) MUST_CHECK;

// Another node found block `number` of ours bad: the writer reads it again. Any thread.
void instance_recheck(struct instance *instance, uint64_t number);

#endif
