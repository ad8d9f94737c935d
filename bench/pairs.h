// SPDX-License-Identifier: Apache-2.0
// The data of a run, made from numbers: nothing is stored, any thread makes any pair again.
// Keys are 29 bytes, `zone:<8 hex>:setting:<7 hex>`, neighbouring numbers lie anywhere in key
// order; values are `value_bytes` incompressible bytes that begin with their key's number. Keys
// that are not there are simply the keys of larger numbers: nothing tells them apart.
#ifndef QS_BENCH_PAIRS_H
#define QS_BENCH_PAIRS_H

#include "bench/draw.h"
#include "common/base/bytes.h"

#define PAIR_KEY_BYTES 29
#define PAIR_VALUE_BYTES_LEAST 16
#define PAIR_VALUE_BYTES_MAX 65536

// Writes exactly PAIR_KEY_BYTES; different numbers (below 2^60) give different keys.
void pair_key(uint64_t seed, uint64_t number, char *to);

// Writes exactly `size` bytes. `generation` tells a key's values apart.
void pair_value(uint64_t seed, uint64_t number, uint64_t generation, uint8_t *to, size_t size);

// Whether these bytes are a value of that key.
bool pair_value_fits(uint64_t number, size_t size, struct bytes value);

#endif
