// SPDX-License-Identifier: Apache-2.0
// Which keys were read lately, in memory of a fixed size, so that a read never writes to the disk:
// two blocked Bloom filters of keys, those read in this *period* and those read in the last one.
// Before that only the period counts in which a row was last written (its stamp, proxy/stub.h),
// which is renewed whenever a row is rewritten anyway. So *age* 0 and 1 are exact but for a few
// rows that a filter takes for younger, and all higher ages are at least the true one. A stamp
// tells the last 64,512 periods apart: what was neither read nor rewritten for longer may look
// young, and grows old once more.
//
// A period ends when as many bytes were read anew as make a part of the cache (recency_turn has the
// part, and tests/unit/recency_test.c the hit rates that come of it), or when the filter is full:
// not by time, which says nothing about what will be read next.
//
// Blocked Bloom filters: Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom Filters"
// (2007). One line of 512 bits a key, five bits in it.
//
// touch and age: any thread, relaxed, no locks; a turn may make a few rows look older meanwhile.
#ifndef QS_PROXY_RECENCY_H
#define QS_PROXY_RECENCY_H

#include <stdatomic.h>

#include "common/base/bytes.h"
#include "common/base/error.h"

struct recency;

// `bytes` for both filters together.
struct recency *recency_open(uint64_t bytes) MUST_CHECK;
void recency_close(struct recency *recency);

// A value of `bytes` was read.
void recency_touch(struct recency *recency, struct bytes key, uint64_t bytes);

uint16_t recency_period(const struct recency *recency); // for stamps; wraps
// Periods since the last read, as far as is known: of a row that was stamped with `stamp`.
unsigned recency_age(const struct recency *recency, struct bytes key, uint16_t stamp);

// Whether it was touched in this period or the last one; touches it.
bool recency_again(struct recency *recency, struct bytes key, uint64_t bytes);

// Begins the next period if this one is over, for a cache of `cache_bytes` of values. True when it
// did. One thread at a time.
bool recency_turn(struct recency *recency, uint64_t cache_bytes);

// The file keeps the period and both filters. Without a whole file of the same size recency_load
// leaves an empty memory: ERR_NOT_FOUND, ERR_CORRUPT, ERR_IO. No other thread may be near.
int recency_load(struct recency *recency, const char *path) MUST_CHECK;
// May run beside touches: what they add meanwhile may be saved or not.
int recency_save(const struct recency *recency, const char *path) MUST_CHECK;

#endif
