// SPDX-License-Identifier: Apache-2.0
// The front filter of an instance: a Bloom filter over all its keys, asked before the store, as
// most reads are for keys that do not exist.
//
// It comes in generations, each a block of memory of its own. A view holds the generation that was
// live when it was published, and only that one is asked about it. A generation knows every key of
// every view from its `since` on, because
//   - the applier adds the new keys of a block (a put that replaced nothing) to every generation
//     before it writes the block to the store, and publishes the view after that;
//   - a generation that is being built takes part in this from its first moment, and the walk that
//     builds it adds the keys it meets, in the store and in the log between a slice's view and the
//     block applied when the slice is taken. A key present at the walk's end either was present in
//     that view or put by one of these blocks, or came later, and was added by the applier.
// A key that was deleted before the walk came to it is missing from the new generation, though an
// older view may hold it: so `since` is the index at which the walk ended, and older views go on
// with the older generation. Who reads as of an index below the view's must not ask at all.
//
// A generation is saved with the place of a view (any thread may do that while keys are added: too
// many bits do no harm) and loaded at start; the log from there on is added before the first view
// is published. Whatever is not right about the file: no filter until a walk has built one.
#ifndef QS_COMMON_CORE_FRONT_H
#define QS_COMMON_CORE_FRONT_H

#include "common/base/metrics.h"
#include "common/base/options.h"
#include "common/data/journal.h"

// Shared by reference count. Any thread.
struct front_generation;

struct front_generation *front_hold(struct front_generation *generation); // NULL is allowed
void front_release(struct front_generation *generation);                  // NULL is allowed

// True: no view that holds this generation has the key. `generation` may be NULL: then nothing is
// known.
bool front_absent(const struct front_generation *generation, struct bytes key);
// The same of a key whose hash128(key, 0) is known, and a question that will come.
bool front_absent_hash(const struct front_generation *generation, struct hash128 hash);
void front_prefetch(const struct front_generation *generation, struct hash128 hash);

// What other processes map: its descriptor, and the number that names it there. -1 and 0: it is not
// shared, or NULL.
int front_fd(const struct front_generation *generation);
uint64_t front_number(const struct front_generation *generation);

// For the walk that builds it.
void front_learn(struct front_generation *generation, struct bytes key);

// ---- the applier's -----------------------------------------------------------------------------

struct front {
    const struct instance_options *options;
    struct front_generation *live; // NULL: none
    struct front_generation *next; // NULL: none is being built
    uint64_t covered;              // live knows everything up to this block
    _Atomic bool wanted;           // a walk should build a generation. Any thread may look
};

void front_open(struct front *front, const struct instance_options *options);
void front_close(struct front *front);

// Before the first view: takes what was saved in `directory`, or, where the store is empty, begins
// with an empty generation. Blocks after `covered` must then pass front_add.
void front_load(struct front *front, const char *directory, struct journal *journal,
                const struct journal_place *applied);

// Adds the block's new keys, before it is written to the store. Doing it again does no harm.
void front_add(struct front *front, const struct block *block);

// The generation for a view at `place`, with a reference; NULL when none knows all of it.
struct front_generation *front_for_view(const struct front *front,
                                        const struct journal_place *place) MUST_CHECK;

// A generation for `keys` keys and those to come, with a reference; NULL when none is configured.
// Its memory is allocated here, which takes long where it is much (0.3 s a GB): so not on the
// applier's thread. Any thread.
struct front_generation *front_prepare(const struct instance_options *options,
                                       uint64_t keys) MUST_CHECK;
// A walk begins that builds this generation, which the caller still holds; NULL: it builds none.
void front_begin(struct front *front, struct front_generation *generation);
// The walk has ended at `place`, with `keys` keys: what it built goes live, or is dropped.
void front_install(struct front *front, const struct journal_place *place, uint64_t keys);
void front_abandon(struct front *front);

// The store was replaced by another: nothing is known until the next walk.
void front_reset(struct front *front);

void front_metrics(const struct front *front, struct instance_metrics *metrics);

// ---- the file ----------------------------------------------------------------------------------

// Writes the generation of a view at `place` into `directory`, whole or not at all, synced. A
// failure is logged and does no harm. Blocks.
void front_save(const char *directory, const char *scope, const struct front_generation *generation,
                const struct journal_place *place, const uint8_t history[HISTORY_ID_BYTES]);

#endif
