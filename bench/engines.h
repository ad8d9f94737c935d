// SPDX-License-Identifier: Apache-2.0
// Stores in this process, each with all pairs: what a look-up costs without any door between a
// program and the data.
//   LMDB      one read transaction, reset and renewed for each look-up, so that each sees the
//             newest state; the file is mapped
//   RocksDB   Bloom filters of 10 bits, no compression, files mapped, no block cache: its fastest
//             for data in memory
// A look-up copies the value out. Failures are said on standard error. One thread.
#ifndef QS_BENCH_ENGINES_H
#define QS_BENCH_ENGINES_H

#include "bench/pairs.h"

struct engine;

struct engine_calls {
    // Builds a store of all pairs below `directory`, which is there and empty; `order`: their
    // numbers by ascending key. NULL: said.
    struct engine *(*open)(const char *directory, const struct pairs *pairs,
                           const uint32_t *order);
    // As those of a door (bench/door.h), of an engine.
    ssize_t (*get)(void *engine, struct bytes key, uint8_t *to, size_t room);
    void (*close)(void *engine);
};

extern const struct engine_calls engine_lmdb, engine_rocksdb;

// The numbers of all pairs by ascending key; owned by the caller. Keys of at most 32 bytes.
uint32_t *engine_order(const struct pairs *pairs) MUST_CHECK;

#endif
