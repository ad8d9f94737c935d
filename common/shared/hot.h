// SPDX-License-Identifier: Apache-2.0
// Reading a table of hot keys (common/shared/layout.h), by a program that maps it as by the daemon
// itself: without a system call, waiting for nobody. docs/shared-memory.md says why what it answers
// is exact.
#ifndef QS_COMMON_SHARED_HOT_H
#define QS_COMMON_SHARED_HOT_H

#include "common/shared/layout.h"

struct hot_table {
    const struct hot_bucket *buckets; // then the slots
    uint64_t bucket_count, slot_bytes;
};

struct look_answer {
    uint64_t index;   // of the state that was looked at
    uint64_t version; // 0: absent
    size_t key_bytes, value_bytes;
    uint64_t words[HOT_DATA_WORDS_MAX]; // key, value
};

// The slot that says what the key is in the state of `index`, copied into the answer, but for its
// index; HOT_NONE: none does. `hash` = hash128(key, 0). Any thread.
#define HOT_NONE UINT64_MAX
uint64_t hot_find(const struct hot_table *table, struct hash128 hash, struct bytes key,
                  uint64_t index, struct look_answer *answer);

// The shape is read once: of a page that somebody else writes it is checked before it is used.
static inline struct hot_table hot_table_of(const struct board_page *page)
{
    const volatile struct board_page *said = page;
    uint64_t buckets = said->buckets, slot_bytes = said->slot_bytes;
    return (struct hot_table){.buckets = board_buckets(page),
                              .bucket_count = buckets,
                              .slot_bytes = slot_bytes};
}

// Of a table whose shape is right.
static inline const struct hot_slot *hot_slot_of(const struct hot_table *table, uint64_t slot)
{
    const uint8_t *slots = (const uint8_t *)(table->buckets + table->bucket_count);
    return (const struct hot_slot *)(uintptr_t)(slots + slot * table->slot_bytes);
}

static inline struct bytes look_value(const struct look_answer *answer)
{
    return bytes_of((const uint8_t *)answer->words + answer->key_bytes, answer->value_bytes);
}

#endif
