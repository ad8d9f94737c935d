// SPDX-License-Identifier: Apache-2.0
// A flight is one value being fetched: at most one for each (key, version), however many reads
// wait for it. The table finds it; a flight stands in exactly one place: a list of the fetcher
// (to be asked, or pausing), or in slots of requests under way: one, or two when a second replica
// was asked because the first takes long.
//
// Hash table with chains, sized once for the limit on flights, with a random seed (keys are chosen
// by clients). Not thread safe: the fetcher's loop.
#ifndef QS_PROXY_FLIGHT_H
#define QS_PROXY_FLIGHT_H

#include "common/base/bytes.h"
#include "common/base/list.h"
#include "proxy/retry.h"

#define FLIGHT_ASKS 2 // requests at once
// What asking for a value costs beyond its bytes and its key.
#define FLIGHT_COST_BYTES 32

struct flight {
    struct list node;        // in the fetcher's lists
    struct flight *chain;    // in the table
    struct list waiters;
    struct flight **slots[FLIGHT_ASKS]; // of the requests that ask for it, NULL where none does
    struct retry retry;
    uint64_t retry_ns;       // while pausing
    uint64_t ready_ns;       // since when it is to be asked for
    uint64_t version;
    uint32_t length;         // what the value must be
    uint32_t check;
    uint32_t hash;
    uint32_t key_size;
    uint8_t key[];
};

struct flight_table {
    struct flight **buckets;
    uint64_t bucket_count; // a power of two
    uint64_t count;
    uint64_t limit;
    uint64_t seed;
};

static inline struct bytes flight_key(const struct flight *flight)
{
    return bytes_of(flight->key, flight->key_size);
}

// What it takes from budgets.
static inline uint64_t flight_cost(const struct flight *flight)
{
    return (uint64_t)flight->length + flight->key_size + FLIGHT_COST_BYTES;
}

// Is this the value? By its length and its check, which only that version's value has.
bool flight_fits(const struct flight *flight, struct bytes value);

// How many requests ask for it. Puts it into the slot of one more; takes it out of a slot.
unsigned flight_asks(const struct flight *flight);
void flight_board(struct flight *flight, struct flight **slot);
void flight_leave(struct flight *flight, struct flight **slot);

void flights_open(struct flight_table *table, uint64_t limit);
void flights_close(struct flight_table *table); // must be empty

// NULL when there is none.
struct flight *flights_find(const struct flight_table *table, struct bytes key, uint64_t version);

// Adds one that is not there; NULL when the limit is reached. `node` is in no list.
struct flight *flights_add(struct flight_table *table, struct bytes key, uint64_t version,
                           uint32_t length, uint32_t check);

// Replica `number` is another one from now on: none has been asked of it.
void flights_forget(struct flight_table *table, unsigned number);

// Takes it out of the table, its list and its slots, and frees it. It has no waiters.
void flights_remove(struct flight_table *table, struct flight *flight);

#endif
