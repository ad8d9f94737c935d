// SPDX-License-Identifier: Apache-2.0
#include "replica/latest.h"

#include "common/base/clock.h"
#include "common/base/mem.h"

// A table that one unusually large block needed is not kept for the next.
#define SLOTS_KEPT 65536u
#define SLOTS_LEAST 256u

void latest_open(struct latest_table *table)
{
    *table = (struct latest_table){.seed = random_u64()};
}

static void release(struct latest_table *table)
{
    mem_free(table->rows);
    mem_free(table->slots);
    *table = (struct latest_table){.seed = table->seed};
}

void latest_close(struct latest_table *table) { release(table); }

void latest_reset(struct latest_table *table, uint32_t entries)
{
    CHECK(entries <= BLOCK_RAW_MAX);
    uint32_t wanted = SLOTS_LEAST;
    while (wanted < 2 * entries) {
        wanted *= 2;
    }
    if (wanted > table->slot_count || table->slot_count > SLOTS_KEPT) {
        release(table);
        table->rows = mem_alloc(wanted / 2 * sizeof *table->rows);
        table->slots = mem_zalloc(wanted * sizeof *table->slots);
        table->slot_count = wanted;
    } else {
        memset(table->slots, 0, table->slot_count * sizeof *table->slots);
    }
    table->count = 0;
}

// The slot that holds `key`, or the free one where it belongs.
static uint32_t *slot_of(const struct latest_table *table, struct bytes key)
{
    uint32_t mask = table->slot_count - 1;
    uint32_t at = (uint32_t)hash64(key, table->seed) & mask;
    while (table->slots[at] != 0 && !bytes_equal(table->rows[table->slots[at] - 1].key, key)) {
        at = (at + 1) & mask;
    }
    return &table->slots[at];
}

struct latest *latest_find(const struct latest_table *table, struct bytes key)
{
    uint32_t *slot = slot_of(table, key);
    return *slot == 0 ? NULL : &table->rows[*slot - 1];
}

struct latest *latest_add(struct latest_table *table, struct bytes key)
{
    uint32_t *slot = slot_of(table, key);
    CHECK(*slot == 0 && table->count < table->slot_count / 2);
    struct latest *row = &table->rows[table->count++];
    *row = (struct latest){.key = key};
    *slot = table->count;
    return row;
}
