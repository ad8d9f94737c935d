// SPDX-License-Identifier: Apache-2.0
// The rows of one family of a model disk: a skip list (Pugh 1990) of keys, each with the versions
// that somebody may still read. A row never moves; it goes by rows_remove alone.
#ifndef QS_TESTS_SIM_MODEL_ROWS_H
#define QS_TESTS_SIM_MODEL_ROWS_H

#include "common/base/bytes.h"
#include "common/base/mem.h"

// Disks outlive the nodes that write them: a simulator whose nodes lose all their memory at once
// defines MODEL_WORLD and has an allocator for what stays.
#ifdef MODEL_WORLD
#include "tests/sim/world.h"
#define disk_alloc world_alloc
#define disk_zalloc world_zalloc
#define disk_realloc world_realloc
#else
#define disk_alloc mem_alloc
#define disk_zalloc mem_zalloc
#define disk_realloc mem_realloc
#endif

// Bytes of a value, shared by versions and copies of disks.
struct blob {
    uint32_t references;
    size_t size;
    uint8_t data[];
};

struct blob *blob_new(struct bytes content) MUST_CHECK;
struct blob *blob_hold(struct blob *blob);
void blob_release(struct blob *blob); // NULL is fine

#define FOR_EVER UINT64_MAX

// A write left it at `sequence`. A filter may put another in its place, with the same sequence:
// then it is `until` that moment, and only iterators from before still see it.
struct row_version {
    struct row_version *older;
    struct blob *blob; // NULL: deleted
    uint64_t sequence;
    uint64_t from, until; // counted in filterings
    bool damaged;
};

struct row {
    struct row_version *newest;
    bool stale; // to be looked at when the last iterator is closed
    uint8_t height;
    uint32_t key_size;
    struct row *next[]; // `height` of them, then the key
};

#define ROWS_HEIGHT_MAX 12

struct rows {
    struct row *first[ROWS_HEIGHT_MAX];
    uint64_t count;
    uint64_t bytes; // keys and values of all versions
    uint64_t shape; // state of the generator of heights
};

struct bytes row_key(const struct row *row);
struct row *rows_seek(const struct rows *rows, struct bytes key); // first key >= key, or NULL
struct row *rows_find(const struct rows *rows, struct bytes key); // or NULL
struct row *rows_add(struct rows *rows, struct bytes key);        // found or made
void rows_remove(struct rows *rows, struct row *row);             // without versions
struct row *rows_any(const struct rows *rows, uint64_t *random);  // about evenly; NULL: none
void rows_free(struct rows *rows);                                // with all versions

// Puts a version before `*place`, the newest or an `older` of one.
void row_add(struct rows *rows, struct row *row, struct row_version **place,
             struct row_version version);
void row_take(struct rows *rows, struct row *row, struct row_version **place);
// The version that a reader at `sequence` sees, deletions too: now, or at a count of filterings.
struct row_version *row_at(const struct row *row, uint64_t sequence, uint64_t filterings);

// splitmix64: https://prng.di.unimi.it/splitmix64.c
uint64_t model_random(uint64_t *state);

#endif
