// SPDX-License-Identifier: Apache-2.0
// A replica's history: the mvcc family. A row says "this version was the key's newest up to
// `valid_until`"; it is written when the version is replaced or deleted, with valid_until = the
// replacing index - 1. An index that lies in no row's interval (and not in the default row's) is
// one at which the key was absent, so deletes and inserts leave nothing behind here.
//   row key    escaped user key · 0x00 · valid_until u64 big-endian
//   row value  the replaced record, as it stood in the default family
// Escaping: 0x00 -> 0x01 0x01, 0x01 -> 0x01 0x02, all else unchanged. It keeps order (the images of
// 0x00, 0x01, 0x02 compare as these do, and the images of two bytes first differ where the
// bytes do), and no image holds a 0x00, so the terminator 0x00 sorts a key before all that it is a
// prefix of, and no encoded key is a prefix of another. Escaping only 0x00 would need two bytes to
// end a key, one more for every row of every key without control bytes.
// Any thread; a finding belongs to the thread that made it, and may block on the disk.
#ifndef QS_REPLICA_MVCC_H
#define QS_REPLICA_MVCC_H

#include "common/base/buf.h"
#include "common/core/record.h"
#include "common/data/limits.h"
#include "common/data/store.h"

enum replica_family { REPLICA_DEFAULT = 0, REPLICA_MVCC = 1 };

// An encoded user key with its terminator; and a whole row key.
#define MVCC_PREFIX_MAX (2 * KEY_BYTES_MAX + 1)
#define MVCC_KEY_MAX (MVCC_PREFIX_MAX + 8)

// Appends the encoded bytes of a key of any length but 0, without a terminator: sorts before the
// rows of that key and of all greater ones, and after those of all lesser ones.
void mvcc_escape(struct buf *to, struct bytes key);
// Writes the encoded user key with its terminator; returns its size.
size_t mvcc_prefix(uint8_t to[MVCC_PREFIX_MAX], struct bytes key);
// Writes a whole row key; returns its size.
size_t mvcc_key(uint8_t to[MVCC_KEY_MAX], struct bytes key, uint64_t valid_until);
// Takes a row key apart; `to` has room for KEY_BYTES_MAX bytes. ERR_CORRUPT.
int mvcc_key_decode(struct bytes row_key, uint8_t *to, size_t *ret_size,
                    uint64_t *ret_valid_until) MUST_CHECK;

// A record and what keeps its bytes in memory.
struct mvcc_finding {
    struct record record;
    uint64_t valid_until;           // UINT64_MAX: it is the newest
    struct store_iterator *iterator; // of a history row
    struct store_value pin;          // of a default row
};

// The key's first history row with valid_until >= t. ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO.
int mvcc_find(struct store *store, const struct store_snapshot *snapshot, struct bytes key,
              uint64_t t, struct mvcc_finding *ret_finding) MUST_CHECK;

// What the key was at index t, which lies between the history floor and the snapshot's index.
// The caller compares t with the newest floor afterwards. ERR_NOT_FOUND = it was absent.
int mvcc_read(struct store *store, const struct store_snapshot *snapshot, struct bytes key,
              uint64_t t, struct mvcc_finding *ret_finding) MUST_CHECK;

void mvcc_release(struct mvcc_finding *finding); // zero-initialised is fine

#endif
