// SPDX-License-Identifier: Apache-2.0
// The data of a run, pairs of key and value by number, from one of two sources:
//   made    from numbers alone, nothing is stored. Keys are 29 bytes,
//           `zone:<8 hex>:setting:<7 hex>`, neighbouring numbers lie anywhere in key order; values
//           are incompressible bytes that begin with their key's number. Absent keys are simply
//           the keys of larger numbers: nothing tells them apart.
//   a file  of lines as `qs export --format tsv` writes them, held in memory. The seed shuffles
//           them, so that neighbouring numbers lie anywhere in key order, too. An absent key is one
//           of the file with `~<4 hex>` behind it; no key of the file may end like that.
// Immutable from opening to closing: any thread may read.
#ifndef QS_BENCH_PAIRS_H
#define QS_BENCH_PAIRS_H

#include "bench/draw.h"
#include "common/base/buf.h"
#include "common/base/hash.h"
#include "common/data/limits.h"

#define PAIR_KEY_BYTES_MAX KEY_BYTES_MAX
#define PAIR_VALUE_BYTES_LEAST 16 // of one that is made
#define PAIR_VALUE_BYTES_MAX MIB
#define PAIRS_MAX 1000000000

struct pairs_options {
    const char *file; // NULL: they are made
    uint64_t seed;
    uint64_t count, value_bytes; // of those that are made: a file has its own
};

struct pairs {
    struct pairs_options options;
    uint64_t count;
    uint64_t key_bytes, value_bytes; // of all pairs together
    struct buf text;                 // the file's, with its escapes decoded where they stood
    struct import_pair *rows;        // by number, pointing into `text`; NULL: they are made
    struct hash128 digest;           // of the file as it is
};

// False: the file cannot be read, or a line is no pair within the bounds, or its key is there
// twice or ends like an absent one; said on standard error. `options.file` has to stay.
bool pairs_open(struct pairs *pairs, const struct pairs_options *options) MUST_CHECK;
void pairs_close(struct pairs *pairs);

// Write the key or the value and return its size, at most PAIR_KEY_BYTES_MAX and
// PAIR_VALUE_BYTES_MAX. Numbers from `count` on have keys that are not in the data; different
// numbers (made ones below 2^60, of a file below 2^16 times its pairs) have different keys.
// `generation` tells a key's values apart where they are made; in a file each has but one.
size_t pair_key(const struct pairs *pairs, uint64_t number, char *to);
size_t pair_value(const struct pairs *pairs, uint64_t number, uint64_t generation, uint8_t *to);

// Whether these bytes are a value of that key.
bool pair_value_fits(const struct pairs *pairs, uint64_t number, struct bytes value);

// For people: where they come from, how many, how large. Owned by the caller.
char *pairs_text(const struct pairs *pairs) MUST_CHECK;

// Tells apart data that differ in any pair: the same text, the same pairs. Owned by the caller.
char *pairs_identity(const struct pairs *pairs) MUST_CHECK;

// The file's name without its folders; NULL: they are made.
const char *pairs_file_name(const struct pairs *pairs);

#endif
