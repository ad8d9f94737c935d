// SPDX-License-Identifier: Apache-2.0
// The `items` of a forward message: a transaction as one node gives it to another. First what it
// depends on and how it is answered, then its calls: each the words of a command, or an answer that
// is known already, as the command does not touch the data. Sizes are checked before anything is
// believed; bytes are lent from the input. What the words mean is for others. Pure functions.
#ifndef QS_COMMON_WIRE_WRITE_ITEMS_H
#define QS_COMMON_WIRE_WRITE_ITEMS_H

#include "common/base/buf.h"
#include "common/base/msgpack.h"

// Fits a frame with all that stands beside it, as does an answer of this size.
#define WRITE_ITEMS_MAX (39 * MIB)
// Of one transaction: calls, and keys that are watched; and words of all calls together.
#define WRITE_CALLS_MAX 10000
#define WRITE_WORDS_MAX (4 * 1024 * 1024)

struct write_head {
    uint32_t protocol; // of the answer: 2 or 3
    bool exec;         // the answers are an array, there may be any number of calls; else one
    uint32_t watched;  // keys that must still have their version, else nothing is done
    uint32_t calls;
};

struct write_call {
    bool answered;
    struct bytes answer; // RESP
    uint32_t words;      // if not answered: at least one, which follow
};

void write_head_append(struct buf *to, const struct write_head *head);
// As many as the head says, then the calls.
void write_watched_append(struct buf *to, struct bytes key, uint64_t version);
void write_words_append(struct buf *to, const struct bytes *words, size_t count);
void write_answer_append(struct buf *to, struct bytes answer);

// Are they whole, sound, and within the limits? ERR_PROTOCOL. Counts are then of what is there.
int write_items_check(struct bytes items) MUST_CHECK;

// The next one of what was checked, in the same order.
struct write_head write_head_next(struct unpacker *from);
struct bytes write_watched_next(struct unpacker *from, uint64_t *ret_version);
struct write_call write_call_next(struct unpacker *from);
struct bytes write_word_next(struct unpacker *from);

#endif
