// SPDX-License-Identifier: Apache-2.0
// Memory that a daemon shares with programs of its machine, as both see it. docs/shared-memory.md
// has the protocol: who writes what in which order, and how it is read. Little-endian, of fixed
// width, versioned; each piece of memory begins with a magic number and SHARED_VERSION, and
// anything that changes below changes that.
//
// An *incarnation* is a page of a file. A *filter* is one generation of the front filter. A *board*
// says what is visible and holds hot keys in slots: a key belongs to one *bucket* of HOT_WAYS
// slots, whose tags, one cache line, lie before all slots. *Marks*, a byte for each slot, are the
// only memory that readers write to.
#ifndef QS_COMMON_SHARED_LAYOUT_H
#define QS_COMMON_SHARED_LAYOUT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "common/base/hash.h"

#define SHARED_VERSION 2u
#define SHARED_HEAD_BYTES 4096
#define SHARED_LINE_BYTES 64
#define SHARED_HISTORY_BYTES 16
#define SHARED_KEY_BYTES_MAX 1024 // no key is longer

#define INCARNATION_MAGIC 0x4e495351u // "QSIN"
#define FILTER_MAGIC 0x4c465351u      // "QSFL"
#define BOARD_MAGIC 0x44425351u       // "QSBD"

struct incarnation_page {
    uint32_t magic, version;
    _Atomic uint64_t number;
};

// Then, at SHARED_HEAD_BYTES, the lines (common/base/bloom.h).
struct filter_page {
    uint32_t magic, version;
    uint64_t generation; // never 0
    uint64_t lines;
    uint64_t since; // it knows every key of every state from this index on
};

// A word that the kernel marks when the thread that holds the lock is gone, and be it by SIGKILL:
// the interface of robust futexes (get_robust_list(2)), of which the C library's lock is a user.
union shared_owner {
    pthread_mutex_t lock;
    _Atomic uint32_t word; // thread id, FUTEX_OWNER_DIED; 0: nobody holds it
};

// Then, at SHARED_HEAD_BYTES, the tags and the slots.
struct board_page {
    uint32_t magic, version;
    uint64_t incarnation; // that it was made in
    uint64_t buckets;
    uint64_t slot_bytes;  // a multiple of SHARED_LINE_BYTES
    uint8_t history[SHARED_HISTORY_BYTES];

    _Alignas(SHARED_LINE_BYTES) _Atomic uint64_t visible; // index
    _Atomic uint64_t generation; // the filter that is fed; 0 = none
    _Atomic uint32_t retired;    // 1: another board has taken its place

    _Alignas(SHARED_LINE_BYTES) union shared_owner owner;
};

#define HOT_WAYS 8
#define HOT_SLOT_BYTES 512 // where nobody says otherwise
#define HOT_SLOT_BYTES_MAX 4096
#define HOT_HEAD_BYTES 32
#define HOT_DATA_WORDS_MAX ((HOT_SLOT_BYTES_MAX - HOT_HEAD_BYTES) / 8)

struct hot_bucket {
    _Alignas(SHARED_LINE_BYTES) _Atomic uint64_t tags[HOT_WAYS]; // hot_tag of the key; 0 = empty
};

struct hot_slot {
    _Alignas(SHARED_LINE_BYTES) _Atomic uint64_t sequence; // odd while it is written
    _Atomic uint64_t since;   // what it says holds from this index on
    _Atomic uint64_t version; // of the value; 0: the key is absent
    _Atomic uint64_t sizes;   // of the key, and from bit 32 on of the value; 0: the slot is empty
    _Atomic uint64_t words[]; // key, value
};

_Static_assert(sizeof(struct board_page) <= SHARED_HEAD_BYTES, "the head is a page");
_Static_assert(offsetof(struct hot_slot, words) == HOT_HEAD_BYTES, "no padding");
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && ATOMIC_CHAR_LOCK_FREE == 2, "no hidden locks");

static inline uint64_t hot_tag(struct hash128 hash) { return hash.high | 1; }

static inline uint64_t hot_bucket_of(struct hash128 hash, uint64_t buckets)
{
    return ((hash.low >> 32) * buckets) >> 32;
}

static inline size_t hot_bucket_bytes(uint64_t slot_bytes)
{
    return sizeof(struct hot_bucket) + HOT_WAYS * slot_bytes;
}

// Of key and value together.
static inline size_t hot_data_bytes(uint64_t slot_bytes) { return slot_bytes - HOT_HEAD_BYTES; }

static inline size_t board_bytes(uint64_t buckets, uint64_t slot_bytes)
{
    return SHARED_HEAD_BYTES + buckets * hot_bucket_bytes(slot_bytes);
}

static inline struct hot_bucket *board_buckets(const struct board_page *page)
{
    return (struct hot_bucket *)((uintptr_t)page + SHARED_HEAD_BYTES);
}

static inline struct hot_slot *board_slot(const struct board_page *page, uint64_t slot)
{
    uint8_t *slots = (uint8_t *)(board_buckets(page) + page->buckets);
    return (struct hot_slot *)(uintptr_t)(slots + slot * page->slot_bytes);
}

#endif
