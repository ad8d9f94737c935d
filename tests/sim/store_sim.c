// SPDX-License-Identifier: Apache-2.0
// In place of common/data/store*.c: rows in sorted arrays with their versions, kept by the world
// under their directory. A crash takes back everything that was written after the last flush, of
// all families together.
#include <stdio.h>
#include <string.h>

#include "common/data/store.h"
#include "tests/sim/seams.h"
#include "tests/sim/store_sim.h"

#define STORES_MAX 16
#define INCOMPLETE_PERMILLE 100

struct version {
    struct version *older;
    uint64_t sequence;
    bool put;
    size_t size;
    uint8_t data[];
};

struct row {
    struct version *newest;
    size_t size;
    uint8_t key[];
};

struct family {
    struct row **rows;
    size_t count, capacity;
};

// What stands on a disk.
struct shelf {
    char directory[128];
    struct family families[STORE_FAMILIES_MAX];
    uint64_t sequence;
    uint64_t flushed;
    struct list snapshots;
    bool full;
};

struct store {
    struct shelf *shelf;
    unsigned family_count;
    const struct store_filter *filters[STORE_FAMILIES_MAX];
    bool cancelled;
};

struct store_snapshot {
    struct list node;
    uint64_t sequence;
};

struct store_cache {
    int nothing;
};

struct operation {
    struct operation *next;
    unsigned family;
    bool put;
    size_t key_size, value_size;
    uint8_t data[];
};

struct store_batch {
    struct operation *first, **last;
    size_t bytes;
};

static struct shelf shelves[STORES_MAX];
static size_t shelf_count;

void store_sim_open(void)
{
    memset(shelves, 0, sizeof shelves);
    shelf_count = 0;
}

static struct shelf *shelf_find(const char *directory)
{
    for (size_t i = 0; i < shelf_count; i++) {
        if (strcmp(shelves[i].directory, directory) == 0) {
            return &shelves[i];
        }
    }
    return NULL;
}

// ---- rows --------------------------------------------------------------------------------------

static size_t place_of(const struct family *family, struct bytes key)
{
    size_t low = 0;
    size_t high = family->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const struct row *row = family->rows[middle];
        if (bytes_compare(bytes_of(row->key, row->size), key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct row *row_find(const struct family *family, struct bytes key)
{
    size_t at = place_of(family, key);
    if (at == family->count) {
        return NULL;
    }
    struct row *row = family->rows[at];
    return bytes_equal(bytes_of(row->key, row->size), key) ? row : NULL;
}

static struct row *row_make(struct family *family, struct bytes key)
{
    struct row *row = row_find(family, key);
    if (row != NULL) {
        return row;
    }
    size_t at = place_of(family, key);
    if (family->count == family->capacity) {
        family->capacity = family->capacity == 0 ? 64 : family->capacity * 2;
        family->rows = world_realloc(family->rows, family->capacity * sizeof *family->rows);
    }
    memmove(&family->rows[at + 1], &family->rows[at], (family->count - at) * sizeof(struct row *));
    row = world_zalloc(sizeof *row + key.size);
    row->size = key.size;
    if (key.size > 0) {
        memcpy(row->key, key.data, key.size);
    }
    family->rows[at] = row;
    family->count++;
    return row;
}

// Frees the versions that no snapshot shows and no crash brings back.
static void row_trim(const struct shelf *shelf, struct row *row)
{
    const struct list *node = shelf->snapshots.prev; // the newest snapshot
    struct version *newer = row->newest;
    while (newer != NULL) {
        // The next older version is needed for the newest state that does not show `newer`.
        uint64_t state = 0;
        while (node != &shelf->snapshots) {
            uint64_t sequence = CONTAINER_OF(node, struct store_snapshot, node)->sequence;
            if (sequence < newer->sequence) {
                state = sequence;
                break;
            }
            node = node->prev;
        }
        if (shelf->flushed < newer->sequence) {
            state = u64_max(state, shelf->flushed);
        }
        while (newer->older != NULL && newer->older->sequence > state) {
            struct version *gone = newer->older;
            newer->older = gone->older;
            mem_free(gone);
        }
        newer = newer->older;
    }
}

static void row_add(struct shelf *shelf, struct row *row, bool put, struct bytes value)
{
    struct version *version = world_alloc(sizeof *version + value.size);
    *version = (struct version){
        .older = row->newest, .sequence = shelf->sequence, .put = put, .size = value.size};
    if (value.size > 0) {
        memcpy(version->data, value.data, value.size);
    }
    row->newest = version;
    row_trim(shelf, row);
}

static const struct version *version_at(const struct row *row, uint64_t sequence)
{
    const struct version *version = row != NULL ? row->newest : NULL;
    while (version != NULL && version->sequence > sequence) {
        version = version->older;
    }
    return version != NULL && version->put ? version : NULL;
}

void store_sim_crash(const char *directory)
{
    struct shelf *shelf = shelf_find(directory);
    if (shelf == NULL) {
        return;
    }
    list_init(&shelf->snapshots);
    count_add(COUNT_store_losses, shelf->sequence - shelf->flushed);
    for (unsigned i = 0; i < STORE_FAMILIES_MAX; i++) {
        struct family *family = &shelf->families[i];
        size_t kept = 0;
        for (size_t j = 0; j < family->count; j++) {
            struct row *row = family->rows[j];
            while (row->newest != NULL && row->newest->sequence > shelf->flushed) {
                struct version *lost = row->newest;
                row->newest = lost->older;
                mem_free(lost);
            }
            if (row->newest == NULL) {
                mem_free(row);
            } else {
                family->rows[kept++] = row;
            }
        }
        family->count = kept;
    }
    shelf->sequence = shelf->flushed;
}

void store_sim_wipe(const char *directory)
{
    struct shelf *shelf = shelf_find(directory);
    if (shelf != NULL) {
        shelf->flushed = 0;
        store_sim_crash(directory);
    }
}

// ---- store.h -----------------------------------------------------------------------------------

struct store_cache *store_cache_open(uint64_t bytes)
{
    (void)bytes;
    return mem_zalloc(sizeof(struct store_cache));
}

void store_cache_close(struct store_cache *cache) { mem_free(cache); }

int store_open(struct store **ret_store, const struct store_options *options)
{
    struct shelf *shelf = shelf_find(options->directory);
    if (shelf == NULL) {
        CHECK(shelf_count < STORES_MAX);
        shelf = &shelves[shelf_count++];
        snprintf(shelf->directory, sizeof shelf->directory, "%s", options->directory);
        list_init(&shelf->snapshots);
    }
    struct store *store = mem_zalloc(sizeof *store);
    store->shelf = shelf;
    store->family_count = options->family_count;
    memcpy(store->filters, options->filters, sizeof store->filters);
    *ret_store = store;
    return OK;
}

bool store_close(struct store *store)
{
    CHECK(list_empty(&store->shelf->snapshots));
    bool flushed = store_flush(store) == OK;
    if (!flushed) {
        store_sim_crash(store->shelf->directory);
    }
    mem_free(store);
    return true;
}

static void lend(const struct version *version, struct store_value *ret_value)
{
    ret_value->pin = mem_copy(version->data, version->size);
    ret_value->data = bytes_of(ret_value->pin, version->size);
}

int store_get(struct store *store, const struct store_snapshot *snapshot, unsigned family,
              struct bytes key, enum store_tier tier, struct store_value *ret_value)
{
    uint64_t sequence = snapshot != NULL ? snapshot->sequence : UINT64_MAX;
    if (tier == STORE_PERSISTED) {
        sequence = u64_min(sequence, store->shelf->flushed);
    }
    if (tier == STORE_CACHED && chance_permille(INCOMPLETE_PERMILLE)) {
        return ERR_INCOMPLETE;
    }
    const struct version *version =
        version_at(row_find(&store->shelf->families[family], key), sequence);
    if (version == NULL) {
        return ERR_NOT_FOUND;
    }
    lend(version, ret_value);
    return OK;
}

void store_value_release(struct store_value *value)
{
    mem_free(value->pin);
    *value = (struct store_value){0};
}

struct store_snapshot *store_snapshot(struct store *store)
{
    struct store_snapshot *snapshot = mem_zalloc(sizeof *snapshot);
    snapshot->sequence = store->shelf->sequence;
    list_append(&store->shelf->snapshots, &snapshot->node);
    return snapshot;
}

void store_snapshot_release(struct store *store, struct store_snapshot *snapshot)
{
    (void)store;
    list_remove(&snapshot->node);
    mem_free(snapshot);
}

struct store_batch *store_batch_new(void)
{
    struct store_batch *batch = mem_zalloc(sizeof *batch);
    batch->last = &batch->first;
    return batch;
}

void store_batch_clear(struct store_batch *batch)
{
    while (batch->first != NULL) {
        struct operation *operation = batch->first;
        batch->first = operation->next;
        mem_free(operation);
    }
    batch->last = &batch->first;
    batch->bytes = 0;
}

void store_batch_free(struct store_batch *batch)
{
    store_batch_clear(batch);
    mem_free(batch);
}

size_t store_batch_bytes(const struct store_batch *batch) { return batch->bytes; }

static void add(struct store_batch *batch, unsigned family, bool put, const struct bytes key[2],
                const struct bytes value[2])
{
    struct operation *operation = mem_alloc(sizeof *operation + key[0].size + key[1].size +
                                            value[0].size + value[1].size);
    *operation = (struct operation){.family = family,
                                    .put = put,
                                    .key_size = key[0].size + key[1].size,
                                    .value_size = value[0].size + value[1].size};
    uint8_t *to = operation->data;
    const struct bytes *parts[] = {&key[0], &key[1], &value[0], &value[1]};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (parts[i]->size > 0) {
            memcpy(to, parts[i]->data, parts[i]->size);
            to += parts[i]->size;
        }
    }
    *batch->last = operation;
    batch->last = &operation->next;
    batch->bytes += operation->key_size + operation->value_size;
}

void store_batch_put(struct store_batch *batch, struct store *store, unsigned family,
                     struct bytes key, struct bytes value)
{
    (void)store;
    add(batch, family, true, (struct bytes[2]){key}, (struct bytes[2]){value});
}

void store_batch_put_parts(struct store_batch *batch, struct store *store, unsigned family,
                           const struct bytes key[2], const struct bytes value[2])
{
    (void)store;
    add(batch, family, true, key, value);
}

void store_batch_delete(struct store_batch *batch, struct store *store, unsigned family,
                        struct bytes key)
{
    (void)store;
    add(batch, family, false, (struct bytes[2]){key}, (struct bytes[2]){{0}});
}

int store_write(struct store *store, struct store_batch *batch, struct bytes state)
{
    world_touch_disk();
    struct shelf *shelf = store->shelf;
    if (disk_is_full(world_host()->number)) {
        return ERR_DISK_FULL;
    }
    shelf->sequence++;
    for (const struct operation *each = batch->first; each != NULL; each = each->next) {
        struct row *row =
            row_make(&shelf->families[each->family], bytes_of(each->data, each->key_size));
        row_add(shelf, row, each->put, bytes_of(each->data + each->key_size, each->value_size));
    }
    for (unsigned i = 0; i < store->family_count; i++) {
        row_add(shelf, row_make(&shelf->families[i], bytes_of(NULL, 0)), true, state);
    }
    if (chance_permille(10)) {
        shelf->flushed = shelf->sequence;
        count_add(COUNT_store_flushes, 1);
    }
    world_touch_disk();
    return OK;
}

int store_state(struct store *store, enum store_tier tier, struct store_value *ret_state)
{
    return store_get(store, NULL, 0, bytes_of(NULL, 0), tier, ret_state);
}

int store_flush(struct store *store)
{
    world_touch_disk();
    if (disk_is_full(world_host()->number)) {
        return ERR_DISK_FULL;
    }
    store->shelf->flushed = store->shelf->sequence;
    count_add(COUNT_store_flushes, 1);
    return OK;
}

// ---- iterators ---------------------------------------------------------------------------------

struct store_iterator {
    struct family *family;
    uint64_t sequence;
    struct bytes lower, upper;
    uint8_t *key; // where it stands
    size_t key_size;
    struct store_value value;
    bool valid;
};

struct store_iterator *store_iterator_open(struct store *store,
                                           const struct store_snapshot *snapshot, unsigned family,
                                           struct bytes lower, struct bytes upper)
{
    struct store_iterator *iterator = mem_zalloc(sizeof *iterator);
    iterator->family = &store->shelf->families[family];
    iterator->sequence = snapshot != NULL ? snapshot->sequence : store->shelf->sequence;
    iterator->lower = bytes_of(mem_copy(lower.data, lower.size), lower.size);
    iterator->upper = bytes_of(mem_copy(upper.data, upper.size), upper.size);
    return iterator;
}

static void forget_place(struct store_iterator *iterator)
{
    mem_free(iterator->key);
    store_value_release(&iterator->value);
    iterator->key = NULL;
    iterator->valid = false;
}

void store_iterator_close(struct store_iterator *iterator)
{
    forget_place(iterator);
    mem_free((void *)iterator->lower.data);
    mem_free((void *)iterator->upper.data);
    mem_free(iterator);
}

// The first visible row at or after place `at`.
static void settle(struct store_iterator *iterator, size_t at)
{
    forget_place(iterator);
    for (; at < iterator->family->count; at++) {
        const struct row *row = iterator->family->rows[at];
        struct bytes key = bytes_of(row->key, row->size);
        if (iterator->upper.size > 0 && bytes_compare(key, iterator->upper) >= 0) {
            return;
        }
        const struct version *version = version_at(row, iterator->sequence);
        if (version != NULL && key.size > 0) {
            iterator->key = mem_copy(key.data, key.size);
            iterator->key_size = key.size;
            lend(version, &iterator->value);
            iterator->valid = true;
            return;
        }
    }
}

void store_iterator_seek(struct store_iterator *iterator, struct bytes key)
{
    key = bytes_compare(key, iterator->lower) < 0 ? iterator->lower : key;
    settle(iterator, place_of(iterator->family, key));
}

bool store_iterator_valid(const struct store_iterator *iterator) { return iterator->valid; }

void store_iterator_next(struct store_iterator *iterator)
{
    settle(iterator, place_of(iterator->family, store_iterator_key(iterator)) + 1);
}

struct bytes store_iterator_key(const struct store_iterator *iterator)
{
    return bytes_of(iterator->key, iterator->key_size);
}

struct bytes store_iterator_value(const struct store_iterator *iterator)
{
    return iterator->value.data;
}

int store_iterator_error(const struct store_iterator *iterator)
{
    return iterator->family != NULL ? OK : ERR_IO;
}

// ---- compaction: nothing to do yet -------------------------------------------------------------

void store_files(struct store *store, unsigned family, struct store_files *ret_files)
{
    (void)store, (void)family;
    *ret_files = (struct store_files){0};
}

void store_files_free(struct store_files *files) { arena_free(&files->memory); }

int store_compact(struct store *store, unsigned family, struct bytes lower, struct bytes upper)
{
    (void)family, (void)lower, (void)upper;
    return store->cancelled ? ERR_STOPPED : OK;
}

void store_compact_cancel(struct store *store) { store->cancelled = true; }

void store_sizes(struct store *store, struct store_sizes *ret_sizes)
{
    (void)store;
    *ret_sizes = (struct store_sizes){0};
}
