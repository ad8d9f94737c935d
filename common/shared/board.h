// SPDX-License-Identifier: Apache-2.0
// A daemon's side of a board (common/shared/layout.h): what is visible, and keys that are read
// often. docs/shared-memory.md says in which order these calls have to come for what readers
// conclude to be so.
//
// Whoever calls what does not say "any thread" is alone at it: the caller sees to that. By the end
// of the thread that made a shared board, however it comes, readers see that nobody writes to the
// board any more. It ends, or retires the board, before the last reference goes.
#ifndef QS_COMMON_SHARED_BOARD_H
#define QS_COMMON_SHARED_BOARD_H

#include "common/base/bytes.h"
#include "common/base/error.h"
#include "common/shared/hot.h"

struct board;

struct board_setup {
    uint64_t incarnation;
    const uint8_t *history; // SHARED_HISTORY_BYTES
    uint64_t hot_bytes;     // memory for hot keys, about
    uint64_t slot_bytes;    // ... for each, at most HOT_SLOT_BYTES_MAX; 0: HOT_SLOT_BYTES
    uint64_t index;         // what is visible,
    uint64_t generation;    // ... and the filter that goes with it, as in board_show
    bool shared;            // with other processes
};

// ERR_MEMORY, ERR_IO.
int board_open(struct board **ret_board, const struct board_setup *setup) MUST_CHECK;

// Shared by reference count. Any thread.
struct board *board_hold(struct board *board); // NULL is allowed
void board_release(struct board *board);       // NULL is allowed
// Of a shared one, to be given to readers, with the same lifetime: what they read, and what they
// may write to.
int board_fd(const struct board *board);
int board_marks_fd(const struct board *board);

// Nothing read from it counts any more. Before what takes its place is shown anywhere.
void board_retire(struct board *board);

// `index` is visible, and `generation` (0: none) is the filter that is fed from there on.
void board_show(struct board *board, uint64_t index, uint64_t generation);

// The key is about to change.
void board_forget(struct board *board, struct bytes key);

// The daemon's own look: what the key is in the state of `index`, which the board was shown with.
// OK, ERR_NOT_FOUND, ERR_INCOMPLETE: it does not say. `hash` = hash128(key, 0). Any thread.
int board_look(const struct board *board, struct hash128 hash, struct bytes key, uint64_t index,
               struct look_answer *ret_answer) MUST_CHECK;

// From index `since` on, which is visible, the key has this value; version 0: it is absent. False:
// too long.
bool board_put(struct board *board, struct bytes key, uint64_t since, uint64_t version,
               struct bytes value);
uint64_t board_keys(const struct board *board); // any thread
uint64_t board_room(const struct board *board); // for so many keys. Any thread
size_t board_data_bytes(const struct board *board); // of a key and its value, at most. Any thread

// Tells `used` of keys with a value that were read since they were looked at last, goes on where it
// left off. Returns how many there were.
typedef void board_used(void *argument, struct bytes key, uint64_t value_bytes);
uint64_t board_sweep(struct board *board, board_used *used, void *argument);

// Puts a shared one onto huge pages, some at each call (common/shared/region.h). One thread.
void board_fold(struct board *board);

#endif
