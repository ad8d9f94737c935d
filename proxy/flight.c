// SPDX-License-Identifier: Apache-2.0
#include "proxy/flight.h"

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/core/record.h"

bool flight_fits(const struct flight *flight, struct bytes value)
{
    return value.size == flight->length && record_check(flight->version, value) == flight->check;
}

unsigned flight_asks(const struct flight *flight)
{
    unsigned asks = 0;
    for (unsigned i = 0; i < FLIGHT_ASKS; i++) {
        asks += flight->slots[i] != NULL ? 1 : 0;
    }
    return asks;
}

void flight_board(struct flight *flight, struct flight **slot)
{
    unsigned i = 0;
    while (i < FLIGHT_ASKS && flight->slots[i] != NULL) {
        i++;
    }
    CHECK(i < FLIGHT_ASKS && *slot == NULL);
    flight->slots[i] = slot;
    *slot = flight;
}

void flight_leave(struct flight *flight, struct flight **slot)
{
    unsigned i = 0;
    while (i < FLIGHT_ASKS && flight->slots[i] != slot) {
        i++;
    }
    CHECK(i < FLIGHT_ASKS && *slot == flight);
    flight->slots[i] = NULL;
    *slot = NULL;
}

void flights_open(struct flight_table *table, uint64_t limit)
{
    *table = (struct flight_table){.limit = limit, .seed = random_u64(), .bucket_count = 64};
    while (table->bucket_count < limit) {
        table->bucket_count *= 2;
    }
    table->buckets = mem_zalloc(table->bucket_count * sizeof(struct flight *));
}

void flights_close(struct flight_table *table)
{
    CHECK(table->count == 0);
    mem_free(table->buckets);
    *table = (struct flight_table){0};
}

static uint32_t hash_of(const struct flight_table *table, struct bytes key, uint64_t version)
{
    return (uint32_t)hash64(key, table->seed ^ version);
}

static struct flight **bucket_of(const struct flight_table *table, uint32_t hash)
{
    return &table->buckets[hash & (table->bucket_count - 1)];
}

struct flight *flights_find(const struct flight_table *table, struct bytes key, uint64_t version)
{
    struct flight *flight = *bucket_of(table, hash_of(table, key, version));
    while (flight != NULL &&
           (flight->version != version || !bytes_equal(flight_key(flight), key))) {
        flight = flight->chain;
    }
    return flight;
}

struct flight *flights_add(struct flight_table *table, struct bytes key, uint64_t version,
                           uint32_t length, uint32_t check)
{
    if (table->count >= table->limit) {
        return NULL;
    }
    struct flight *flight = mem_zalloc(sizeof *flight + key.size);
    list_init(&flight->node);
    list_init(&flight->waiters);
    flight->version = version;
    flight->length = length;
    flight->check = check;
    flight->hash = hash_of(table, key, version);
    flight->key_size = (uint32_t)key.size;
    memcpy(flight->key, key.data, key.size);
    struct flight **bucket = bucket_of(table, flight->hash);
    flight->chain = *bucket;
    *bucket = flight;
    table->count++;
    return flight;
}

void flights_forget(struct flight_table *table, unsigned number)
{
    for (uint64_t i = 0; i < table->bucket_count; i++) {
        for (struct flight *flight = table->buckets[i]; flight != NULL; flight = flight->chain) {
            retry_forget(&flight->retry, number);
        }
    }
}

void flights_remove(struct flight_table *table, struct flight *flight)
{
    CHECK(list_empty(&flight->waiters) && table->count > 0);
    struct flight **link = bucket_of(table, flight->hash);
    while (*link != flight) {
        CHECK(*link != NULL);
        link = &(*link)->chain;
    }
    *link = flight->chain;
    table->count--;
    list_remove(&flight->node);
    for (unsigned i = 0; i < FLIGHT_ASKS; i++) {
        if (flight->slots[i] != NULL) {
            flight_leave(flight, flight->slots[i]);
        }
    }
    mem_free(flight);
}
