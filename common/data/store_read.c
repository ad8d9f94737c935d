// SPDX-License-Identifier: Apache-2.0
// Reading: rows, the state row, snapshots, iterators.
#include "common/data/store_private.h"

// The smallest key after the state row's.
static const uint8_t first_user_key[1] = {0};

struct store_snapshot {
    const rocksdb_snapshot_t *sequence;
    rocksdb_readoptions_t *read[STORE_TIERS];
};

struct store_iterator {
    struct store *store;
    rocksdb_readoptions_t *read;
    rocksdb_iterator_t *rows; // NULL when upper <= lower
    uint8_t bounds[];         // RocksDB keeps pointers into them
};

_Static_assert(STORE_ANY == 0 && STORE_CACHED == 1 && STORE_PERSISTED == 2,
               "the tiers are RocksDB's kReadAllTier, kBlockCacheTier, kPersistedTier");

void store_reads_make(rocksdb_readoptions_t *read[STORE_TIERS], const rocksdb_snapshot_t *sequence)
{
    for (int tier = 0; tier < STORE_TIERS; tier++) {
        read[tier] = rocksdb_readoptions_create();
        rocksdb_readoptions_set_read_tier(read[tier], tier);
        rocksdb_readoptions_set_snapshot(read[tier], sequence);
    }
}

// Like all destroyers here but those of handles, databases and iterators, this takes NULL.
void store_reads_free(rocksdb_readoptions_t *read[STORE_TIERS])
{
    for (int tier = 0; tier < STORE_TIERS; tier++) {
        rocksdb_readoptions_destroy(read[tier]);
    }
}

static int read_row(struct store *store, const rocksdb_readoptions_t *read, unsigned family,
                    struct bytes key, struct store_value *ret_value)
{
    char *text = NULL;
    rocksdb_pinnableslice_t *pin = rocksdb_get_pinned_cf(
        store->db, read, store->families[family], (const char *)key.data, key.size, &text);
    if (text != NULL) {
        return store_error(store->scope, &store->read_gate, "read", text);
    }
    if (pin == NULL) {
        return ERR_NOT_FOUND;
    }
    size_t size = 0;
    const char *data = rocksdb_pinnableslice_value(pin, &size);
    *ret_value = (struct store_value){.data = bytes_of(data, size), .pin = pin};
    return OK;
}

int store_get(struct store *store, const struct store_snapshot *snapshot, unsigned family,
              struct bytes key, enum store_tier tier, struct store_value *ret_value)
{
    CHECK(family < store->family_count);
    CHECK(key.size > 0);
    const rocksdb_readoptions_t *read = (snapshot != NULL ? snapshot->read : store->read)[tier];
    return read_row(store, read, family, key, ret_value);
}

void store_value_release(struct store_value *value)
{
    rocksdb_pinnableslice_destroy(value->pin);
    *value = (struct store_value){0};
}

struct store_snapshot *store_snapshot(struct store *store)
{
    struct store_snapshot *snapshot = mem_zalloc(sizeof *snapshot);
    snapshot->sequence = rocksdb_create_snapshot(store->db);
    store_reads_make(snapshot->read, snapshot->sequence);
    return snapshot;
}

void store_snapshot_release(struct store *store, struct store_snapshot *snapshot)
{
    if (snapshot == NULL) {
        return;
    }
    store_reads_free(snapshot->read);
    rocksdb_release_snapshot(store->db, snapshot->sequence);
    mem_free(snapshot);
}

// The number of the write that left this state row, 0 when there is none.
static uint64_t row_number(const struct store_value *row)
{
    size_t size = row->data.size;
    return size >= STORE_NUMBER_BYTES ? load_u64(row->data.data + size - STORE_NUMBER_BYTES) : 0;
}

// Reads the state row of every family through `read`, and lends that of `default`: no other is
// older, but for a moment at the persisted tier.
static int state_rows(struct store *store, const rocksdb_readoptions_t *read,
                      struct store_value *ret_row, struct store_numbers *ret_numbers)
{
    struct store_value rows[STORE_FAMILIES_MAX] = {0};
    struct store_numbers numbers = {.oldest = UINT64_MAX};
    unsigned oldest = 0;
    int error = OK;
    for (unsigned i = 0; i < store->family_count && error == OK; i++) {
        int found = read_row(store, read, i, STORE_STATE_KEY, &rows[i]);
        error = found == ERR_NOT_FOUND ? OK : found;
        uint64_t number = row_number(&rows[i]);
        oldest = number < numbers.oldest ? i : oldest;
        numbers.oldest = u64_min(numbers.oldest, number);
        numbers.newest = u64_max(numbers.newest, number);
    }
    numbers.ordered = oldest == 0;
    if (error == OK) {
        *ret_numbers = numbers;
        *ret_row = rows[oldest];
        rows[oldest] = (struct store_value){0};
    }
    for (unsigned i = 0; i < store->family_count; i++) {
        store_value_release(&rows[i]);
    }
    return error;
}

// What is persisted has no snapshot, and the new files of one family may show before the other's:
// so at that tier the oldest row is the answer, which all families have reached.
int store_state(struct store *store, enum store_tier tier, struct store_value *ret_state)
{
    struct store_snapshot *snapshot = tier == STORE_PERSISTED ? NULL : store_snapshot(store);
    const rocksdb_readoptions_t *read = (snapshot != NULL ? snapshot->read : store->read)[tier];
    struct store_value row = {0};
    struct store_numbers numbers = {0};
    int error = state_rows(store, read, &row, &numbers);
    store_snapshot_release(store, snapshot);
    if (error != OK) {
        return error;
    }
    bool damaged = row.pin != NULL && numbers.oldest == 0;
    if (damaged || (tier != STORE_PERSISTED && !numbers.ordered)) {
        log_line(LOG_ERROR, store->scope, "store: `default` is ahead of the other families");
        store_value_release(&row);
        return ERR_CORRUPT;
    }
    if (row.data.size <= STORE_NUMBER_BYTES) {
        store_value_release(&row);
        return ERR_NOT_FOUND;
    }
    row.data.size -= STORE_NUMBER_BYTES;
    *ret_state = row;
    return OK;
}

int store_numbers(struct store *store, enum store_tier tier, struct store_numbers *ret_numbers)
{
    struct store_value row = {0};
    int error = state_rows(store, store->read[tier], &row, ret_numbers);
    if (error == OK) {
        store_value_release(&row);
    }
    return error;
}

static struct store_iterator *iterator_open(struct store *store,
                                            const struct store_snapshot *snapshot, unsigned family,
                                            struct bytes lower, struct bytes upper, bool fill_cache)
{
    CHECK(family < store->family_count);
    if (lower.size == 0) {
        lower = bytes_of(first_user_key, sizeof first_user_key);
    }
    struct store_iterator *iterator = mem_alloc(sizeof *iterator + lower.size + upper.size);
    *iterator = (struct store_iterator){.store = store};
    if (upper.size > 0 && bytes_compare(lower, upper) >= 0) {
        return iterator;
    }
    memcpy(iterator->bounds, lower.data, lower.size);
    const char *bounds = (const char *)iterator->bounds;
    iterator->read = rocksdb_readoptions_create();
    if (upper.size > 0) {
        memcpy(iterator->bounds + lower.size, upper.data, upper.size);
        rocksdb_readoptions_set_iterate_upper_bound(iterator->read, bounds + lower.size,
                                                    upper.size);
    }
    rocksdb_readoptions_set_total_order_seek(iterator->read, 1);
    rocksdb_readoptions_set_fill_cache(iterator->read, fill_cache);
    rocksdb_readoptions_set_snapshot(iterator->read, snapshot != NULL ? snapshot->sequence : NULL);
    rocksdb_readoptions_set_iterate_lower_bound(iterator->read, bounds, lower.size);
    iterator->rows = rocksdb_create_iterator_cf(store->db, iterator->read, store->families[family]);
    return iterator;
}

struct store_iterator *store_iterator_open(struct store *store,
                                           const struct store_snapshot *snapshot, unsigned family,
                                           struct bytes lower, struct bytes upper)
{
    return iterator_open(store, snapshot, family, lower, upper, true);
}

struct store_iterator *store_iterator_open_once(struct store *store,
                                                const struct store_snapshot *snapshot,
                                                unsigned family, struct bytes lower,
                                                struct bytes upper)
{
    return iterator_open(store, snapshot, family, lower, upper, false);
}

void store_iterator_close(struct store_iterator *iterator)
{
    if (iterator->rows != NULL) {
        rocksdb_iter_destroy(iterator->rows);
    }
    rocksdb_readoptions_destroy(iterator->read);
    mem_free(iterator);
}

void store_iterator_seek(struct store_iterator *iterator, struct bytes key)
{
    if (iterator->rows != NULL) {
        rocksdb_iter_seek(iterator->rows, key.size > 0 ? (const char *)key.data : "", key.size);
    }
}

bool store_iterator_valid(const struct store_iterator *iterator)
{
    return iterator->rows != NULL && rocksdb_iter_valid(iterator->rows);
}

void store_iterator_next(struct store_iterator *iterator)
{
    CHECK(store_iterator_valid(iterator));
    rocksdb_iter_next(iterator->rows);
}

struct bytes store_iterator_key(const struct store_iterator *iterator)
{
    CHECK(store_iterator_valid(iterator));
    size_t size = 0;
    const char *key = rocksdb_iter_key(iterator->rows, &size);
    return bytes_of(key, size);
}

struct bytes store_iterator_value(const struct store_iterator *iterator)
{
    CHECK(store_iterator_valid(iterator));
    size_t size = 0;
    const char *value = rocksdb_iter_value(iterator->rows, &size);
    return bytes_of(value, size);
}

int store_iterator_error(const struct store_iterator *iterator)
{
    char *text = NULL;
    if (iterator->rows != NULL) {
        rocksdb_iter_get_error(iterator->rows, &text);
    }
    if (text == NULL) {
        return OK;
    }
    return store_error(iterator->store->scope, &iterator->store->read_gate, "scan", text);
}
