// SPDX-License-Identifier: Apache-2.0
// What writer and readers of `qs-bench mixed` share. Values carry their key and the serial of
// their write, and are checked byte for byte.
#ifndef QS_BENCH_MIXED_PRIVATE_H
#define QS_BENCH_MIXED_PRIVATE_H

#include <stdatomic.h>

#include "bench/draw.h"
#include "bench/mixed.h"
#include "bench/model.h"
#include "common/base/bytes.h"

#define MIXED_READERS 2
#define MIXED_HOT_KEYS 64 // the first ones: changed and read often
#define MIXED_KEY_BYTES 32
#define MIXED_VALUE_BYTES_LEAST 16
#define MIXED_CHANGES_MAX 50 // of one batch

// What must stay 0, then what is only counted.
#define MIXED_COUNTS(COUNT)                                                                        \
    COUNT(absent_but_present)                                                                      \
    COUNT(stale)                                                                                   \
    COUNT(backward)                                                                                \
    COUNT(wrong)                                                                                   \
    COUNT(b_without_a)                                                                             \
    COUNT(reads)                                                                                   \
    COUNT(absent)                                                                                  \
    COUNT(moves)                                                                                   \
    COUNT(losses)                                                                                  \
    COUNT(refused)                                                                                 \
    COUNT(unavailable)                                                                             \
    COUNT(writer_losses)                                                                           \
    COUNT(pairs)                                                                                   \
    COUNT(handle_reads)                                                                            \
    COUNT(mapped_reads)                                                                            \
    COUNT(by_map)

struct mixed {
    const struct mixed_options *options;
    struct model *model;
    const char *history; // of the root, its token up to the colon
    atomic_bool stop_reading, stop_writing;
    atomic_bool failed; // something was wrong, and has been said
#define COUNT(name) _Atomic uint64_t name;
    MIXED_COUNTS(COUNT)
#undef COUNT
    // Written: batches, those of one change, all changes, indexes taken. The writer's thread until
    // it has ended.
    uint64_t batches, single, entries, taken;
    uint64_t write_ns;
    _Atomic uint64_t shown[MIXED_NODES_MAX]; // the highest index that a node has answered
    // Of the keys that are written once, in their order, and never deleted: the next one.
    _Atomic uint64_t fresh;
};

// Says what was wrong (the first ones of each run) on standard error.
void mixed_fault(struct mixed *mixed, const char *format, ...) PRINTF_LIKE(2, 3);

struct bytes mixed_key(uint64_t number, char *to);

// Makes the value of that write and returns its size, at most options.value_bytes.
size_t mixed_value(const struct mixed *mixed, uint64_t key, uint64_t serial, uint8_t *to);

// The serial of a value, after all of its bytes were compared; 0: it is not one of this key.
uint64_t mixed_serial(const struct mixed *mixed, uint64_t key, struct bytes value);

// Writes every key once, then returns; false: said.
struct mixed_writer;
struct mixed_writer *mixed_writer_open(struct mixed *mixed) MUST_CHECK;
bool mixed_writer_fill(struct mixed_writer *writer) MUST_CHECK;
void mixed_writer_run(struct mixed_writer *writer); // until stop_writing; failures are faults
void mixed_writer_close(struct mixed_writer *writer);

// Keys that are ever written; those from options.keys on are fresh.
static inline uint64_t mixed_keys(const struct mixed *mixed)
{
    return mixed->options->keys + mixed->options->fresh;
}

// One of options.handles + options.mapped threads, those that map last: likewise.
void mixed_handle_run(struct mixed *mixed, uint64_t number);

// One of MIXED_READERS threads: sessions first, first + MIXED_READERS, ... until stop_reading;
// then checks what is still unchecked.
void mixed_reader_run(struct mixed *mixed, uint64_t first);

#endif
