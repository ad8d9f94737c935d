// SPDX-License-Identifier: Apache-2.0
// The birth block of the history that an instance is in, kept in a file of its own once it is
// known, since the journal that began with it is trimmed: it says which history this one forked
// from. A node of that one may follow into it; so it goes with every welcome.
#ifndef QS_COMMON_CORE_BIRTH_H
#define QS_COMMON_CORE_BIRTH_H

#include "common/data/journal.h"

struct instance;

// A birth block is a few names long.
#define BIRTH_BYTES_MAX 1024

struct birth {
    size_t size; // 0: not known
    uint8_t bytes[BIRTH_BYTES_MAX]; // header and payload
    uint8_t history[HISTORY_ID_BYTES];
    uint8_t ancestor[HISTORY_ID_BYTES];
    bool forked; // it names an ancestor
    bool placed; // ... and goes on from this place of it, data and numbers
    struct journal_place from;
};

// ERR_PROTOCOL, ERR_CHECKSUM: these bytes are no birth block.
int birth_decode(struct birth *ret_birth, struct bytes stored) MUST_CHECK;

// The first block of a history that forked from none, on a journal that has no block of it yet.
struct block *birth_make(const struct instance *instance, uint64_t epoch) MUST_CHECK;
// Begins `history` in an empty journal, with its birth block; goes on where that has been begun.
// Writer's thread. ERR_HISTORY: the journal is in another one; others as instance_commit.
int birth_found(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES],
                uint64_t epoch) MUST_CHECK;

// The first block of a history that goes on where `before` ends, which is the header of a block of
// `ancestor` but for the history, by then the new one.
struct block *birth_fork(const struct instance *instance, const struct block_header *before,
                         const uint8_t ancestor[HISTORY_ID_BYTES], uint64_t epoch) MUST_CHECK;
// Is it the birth block of a history that goes on from `history`? Where, its chain says.
bool birth_continues(const struct block *block, const uint8_t history[HISTORY_ID_BYTES]);
// Does the journal begin with a birth block that goes on from this place of `history`? Blocks.
bool birth_leads_on(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES],
                    const struct journal_place *place);

// Looks in the file and in the journal, and keeps in the file what only the journal had. Once the
// journal is open, again before it is trimmed; nothing happens when it is known. Blocks.
void birth_find(struct instance *instance);
// The journal has begun anew in the history of `birth`. Blocks.
void birth_set(struct instance *instance, const struct birth *birth);
// A parent of this history says that this is its birth block: a node that was built from a snapshot
// has never had it. Any thread.
void birth_learn(struct instance *instance, struct bytes stored);
// A copy; size 0 when it is not known. Any thread.
void birth_get(struct instance *instance, struct birth *ret_birth);

#endif
