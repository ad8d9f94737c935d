// SPDX-License-Identifier: Apache-2.0
// common/data/store.h on a model disk: one function after another, in its order.
#include "tests/sim/store_model.h"

#include "common/base/mem.h"
#include "tests/sim/model_disk.h"

#define FILE_ROWS 32 // rows of a file that store_files tells of
#define LAST_LEVEL 6

struct store_cache {
    uint64_t bytes;
};

struct store {
    struct model_disk *disk;
    bool compact_cancelled;
};

struct store_snapshot {
    uint64_t sequence;
};

struct store_iterator {
    struct model_disk *disk;
    unsigned family;
    uint64_t sequence, filterings;
    struct bytes lower, upper; // owned
    struct row *row;
    struct row_version *version; // that it shows of the row; NULL: not valid
    int error;
};

enum batch_op { BATCH_PUT, BATCH_DELETE };

struct batch_head {
    uint32_t op, family, key_size;
    uint64_t value_size;
};

// Heads, each with its key and value.
struct store_batch {
    uint8_t *data;
    size_t used, capacity;
    size_t told_bytes; // as RocksDB would count them
};

struct store_cache *store_cache_open(uint64_t bytes)
{
    struct store_cache *cache = mem_alloc(sizeof *cache);
    cache->bytes = bytes;
    return cache;
}

void store_cache_close(struct store_cache *cache) { mem_free(cache); }

int store_open(struct store **ret_store, const struct store_options *options)
{
    CHECK(options->family_count >= 1 && options->family_count <= STORE_FAMILIES_MAX);
    CHECK(strcmp(options->families[0], "default") == 0);
    CHECK(options->cache != NULL);
    struct model_disk *disk = disk_find(options->directory);
    if (disk->open) {
        return ERR_IO; // another process has it
    }
    disk->broken = OK;
    int error = disk_fault(disk, STORE_MODEL_OPEN);
    if (error != OK) {
        return error;
    }
    CHECK(disk->family_count == 0 || disk->family_count == options->family_count);
    disk->family_count = options->family_count;
    memcpy(disk->filters, options->filters, sizeof disk->filters);
    disk->open = true;
    struct store *store = mem_zalloc(sizeof *store);
    store->disk = disk;
    *ret_store = store;
    return OK;
}

bool store_close(struct store *store)
{
    struct model_disk *disk = store->disk;
    bool ghost = disk->directory == NULL;
    if (!ghost && disk_flush(disk) != OK) {
        return false;
    }
    disk_compact_end(disk);
    disk_close(disk);
    mem_free(store);
    return true;
}

// ---- reading -----------------------------------------------------------------------------------

static int read_row(struct store *store, uint64_t sequence, unsigned family, struct bytes key,
                    struct store_value *ret_value)
{
    const struct row *row = rows_find(&store->disk->families[family], key);
    const struct row_version *version = row != NULL ? row_at(row, sequence, FOR_EVER) : NULL;
    if (version == NULL || version->blob == NULL) {
        return ERR_NOT_FOUND;
    }
    if (version->damaged) {
        return ERR_CORRUPT;
    }
    // A copy, as it may be held when the disk is gone.
    void *copy = mem_copy(version->blob->data, version->blob->size);
    *ret_value = (struct store_value){.data = bytes_of(copy, version->blob->size), .pin = copy};
    return OK;
}

static bool is_incomplete(enum store_tier tier)
{
    bool incomplete = tier == STORE_CACHED && disk_chance(disk_odds()->incomplete);
    disk_counts()->incomplete += incomplete;
    return incomplete;
}

int store_get(struct store *store, const struct store_snapshot *snapshot, unsigned family,
              struct bytes key, enum store_tier tier, struct store_value *ret_value)
{
    struct model_disk *disk = store->disk;
    CHECK(family < disk->family_count);
    CHECK(key.size > 0);
    int error = disk_fault(disk, STORE_MODEL_READ);
    if (error != OK) {
        return error;
    }
    if (is_incomplete(tier)) {
        return ERR_INCOMPLETE;
    }
    uint64_t sequence = snapshot != NULL ? snapshot->sequence : disk->sequence;
    if (tier == STORE_PERSISTED) {
        sequence = u64_min(sequence, disk->flushed);
    }
    return read_row(store, sequence, family, key, ret_value);
}

void store_value_release(struct store_value *value)
{
    mem_free(value->pin);
    *value = (struct store_value){0};
}

struct store_snapshot *store_snapshot(struct store *store)
{
    struct store_snapshot *snapshot = mem_alloc(sizeof *snapshot);
    snapshot->sequence = store->disk->sequence;
    disk_pin(store->disk, snapshot->sequence);
    return snapshot;
}

void store_snapshot_release(struct store *store, struct store_snapshot *snapshot)
{
    if (snapshot == NULL) {
        return;
    }
    disk_unpin(store->disk, snapshot->sequence);
    mem_free(snapshot);
}

int store_state(struct store *store, enum store_tier tier, struct store_value *ret_state)
{
    struct model_disk *disk = store->disk;
    if (is_incomplete(tier)) {
        return ERR_INCOMPLETE;
    }
    uint64_t sequence = tier == STORE_PERSISTED ? disk->flushed : disk->sequence;
    return read_row(store, sequence, DISK_STATE, (struct bytes){0}, ret_state);
}

// ---- writing -----------------------------------------------------------------------------------

struct store_batch *store_batch_new(void)
{
    struct store_batch *batch = mem_zalloc(sizeof *batch);
    store_batch_clear(batch);
    return batch;
}

void store_batch_free(struct store_batch *batch)
{
    if (batch != NULL) {
        mem_free(batch->data);
        mem_free(batch);
    }
}

void store_batch_clear(struct store_batch *batch)
{
    batch->used = 0;
    batch->told_bytes = 12; // a sequence number and a count
}

size_t store_batch_bytes(const struct store_batch *batch) { return batch->told_bytes; }

static size_t varint_size(uint64_t number)
{
    size_t size = 1;
    for (; number >= 128; number >>= 7) {
        size++;
    }
    return size;
}

static void batch_bytes(struct store_batch *batch, struct bytes bytes)
{
    if (bytes.size > 0) {
        memcpy(batch->data + batch->used, bytes.data, bytes.size);
        batch->used += bytes.size;
    }
}

static void batch_add(struct store_batch *batch, struct store *store, enum batch_op op,
                      unsigned family, const struct bytes key[2], const struct bytes value[2])
{
    struct batch_head head = {.op = op,
                              .family = family,
                              .key_size = (uint32_t)(key[0].size + key[1].size),
                              .value_size = value[0].size + value[1].size};
    CHECK(family < store->disk->family_count);
    CHECK(head.key_size > 0);
    size_t used = batch->used + sizeof head + head.key_size + head.value_size;
    if (used > batch->capacity) {
        batch->capacity = used * 2;
        batch->data = mem_realloc(batch->data, batch->capacity);
    }
    if (batch->used == 0) {
        batch->told_bytes += 4 * (store->disk->family_count - 1); // rows that come first
    }
    batch_bytes(batch, bytes_of(&head, sizeof head));
    for (unsigned i = 0; i < 2; i++) {
        batch_bytes(batch, key[i]);
    }
    for (unsigned i = 0; i < 2; i++) {
        batch_bytes(batch, value[i]);
    }
    batch->told_bytes += 1 + (family > 0) + varint_size(head.key_size) + head.key_size;
    if (op == BATCH_PUT) {
        batch->told_bytes += varint_size(head.value_size) + head.value_size;
    }
}

void store_batch_put_parts(struct store_batch *batch, struct store *store, unsigned family,
                           const struct bytes key[2], const struct bytes value[2])
{
    batch_add(batch, store, BATCH_PUT, family, key, value);
}

void store_batch_put(struct store_batch *batch, struct store *store, unsigned family,
                     struct bytes key, struct bytes value)
{
    batch_add(batch, store, BATCH_PUT, family, (struct bytes[2]){key}, (struct bytes[2]){value});
}

void store_batch_delete(struct store_batch *batch, struct store *store, unsigned family,
                        struct bytes key)
{
    batch_add(batch, store, BATCH_DELETE, family, (struct bytes[2]){key}, (struct bytes[2]){0});
}

static void write_batch(struct model_disk *disk, const struct store_batch *batch)
{
    for (size_t at = 0; at < batch->used;) {
        struct batch_head head;
        memcpy(&head, batch->data + at, sizeof head);
        at += sizeof head;
        struct bytes key = bytes_of(batch->data + at, head.key_size);
        at += head.key_size;
        struct bytes value = bytes_of(batch->data + at, head.value_size);
        at += head.value_size;
        disk_put(disk, head.family, key, head.op == BATCH_PUT ? blob_new(value) : NULL);
    }
}

int store_write(struct store *store, struct store_batch *batch, struct bytes state)
{
    CHECK(state.size > 0);
    struct model_disk *disk = store->disk;
    int error = disk_fault(disk, STORE_MODEL_WRITE);
    if (error != OK) {
        return error;
    }
    disk->sequence++;
    write_batch(disk, batch);
    disk_put(disk, DISK_STATE, (struct bytes){0}, blob_new(state));
    // One that fails tells nobody but the next write.
    if (disk_chance(disk_odds()->flush) && disk_flush(disk) == OK) {
        disk_counts()->own_flushes++;
    }
    if (disk_chance(disk_odds()->beside)) {
        disk_flush_beside(disk);
    }
    if (disk_chance(disk_odds()->compaction)) {
        disk_compact_some(disk);
    }
    return OK;
}

int store_flush(struct store *store) { return disk_flush(store->disk); }

// ---- iterators ---------------------------------------------------------------------------------

static struct bytes copy_bytes(struct bytes from)
{
    return bytes_of(from.size > 0 ? mem_copy(from.data, from.size) : NULL, from.size);
}

struct store_iterator *store_iterator_open(struct store *store,
                                           const struct store_snapshot *snapshot, unsigned family,
                                           struct bytes lower, struct bytes upper)
{
    struct model_disk *disk = store->disk;
    CHECK(family < disk->family_count);
    struct store_iterator *iterator = mem_alloc(sizeof *iterator);
    *iterator = (struct store_iterator){
        .disk = disk,
        .family = family,
        .sequence = snapshot != NULL ? snapshot->sequence : disk->sequence,
        .filterings = disk->filterings,
        .lower = copy_bytes(lower),
        .upper = copy_bytes(upper),
    };
    disk_pin(disk, iterator->sequence);
    disk_iterators(disk, 1);
    return iterator;
}

struct store_iterator *store_iterator_open_once(struct store *store,
                                                const struct store_snapshot *snapshot,
                                                unsigned family, struct bytes lower,
                                                struct bytes upper)
{
    return store_iterator_open(store, snapshot, family, lower, upper);
}

void store_iterator_close(struct store_iterator *iterator)
{
    disk_unpin(iterator->disk, iterator->sequence);
    disk_iterators(iterator->disk, -1);
    mem_free((void *)iterator->lower.data);
    mem_free((void *)iterator->upper.data);
    mem_free(iterator);
}

// Moves on to the first row from here that it shows.
static void iterator_settle(struct store_iterator *iterator)
{
    iterator->version = NULL;
    for (; iterator->row != NULL; iterator->row = iterator->row->next[0]) {
        if (iterator->upper.size > 0 &&
            bytes_compare(row_key(iterator->row), iterator->upper) >= 0) {
            return;
        }
        struct row_version *version =
            row_at(iterator->row, iterator->sequence, iterator->filterings);
        if (version != NULL && version->blob != NULL) {
            iterator->error = version->damaged ? ERR_CORRUPT : OK;
            iterator->version = version->damaged ? NULL : version;
            return;
        }
    }
}

void store_iterator_seek(struct store_iterator *iterator, struct bytes key)
{
    struct bytes first = bytes_compare(key, iterator->lower) < 0 ? iterator->lower : key;
    iterator->version = NULL;
    iterator->error = disk_fault(iterator->disk, STORE_MODEL_READ);
    if (iterator->error == OK) {
        iterator->row = rows_seek(&iterator->disk->families[iterator->family], first);
        iterator_settle(iterator);
    }
}

bool store_iterator_valid(const struct store_iterator *iterator)
{
    return iterator->version != NULL;
}

void store_iterator_next(struct store_iterator *iterator)
{
    CHECK(store_iterator_valid(iterator));
    iterator->row = iterator->row->next[0];
    iterator_settle(iterator);
}

struct bytes store_iterator_key(const struct store_iterator *iterator)
{
    CHECK(store_iterator_valid(iterator));
    return row_key(iterator->row);
}

struct bytes store_iterator_value(const struct store_iterator *iterator)
{
    CHECK(store_iterator_valid(iterator));
    return bytes_of(iterator->version->blob->data, iterator->version->blob->size);
}

int store_iterator_error(const struct store_iterator *iterator) { return iterator->error; }

// ---- compaction --------------------------------------------------------------------------------

static bool is_flushed(const struct model_disk *disk, const struct row *row)
{
    return row_at(row, disk->flushed, FOR_EVER) != NULL;
}

static void end_file(struct store_files *files, struct store_file *file)
{
    if (file != NULL) {
        file->largest = arena_copy(&files->memory, file->largest);
    }
}

void store_files(struct store *store, unsigned family, struct store_files *ret_files)
{
    struct model_disk *disk = store->disk;
    CHECK(family < disk->family_count);
    const struct rows *rows = &disk->families[family];
    struct store_files files = {0};
    files.files = mem_alloc((rows->count / FILE_ROWS + 1) * sizeof files.files[0]);
    struct store_file *file = NULL;
    for (const struct row *row = rows->first[0]; row != NULL; row = row->next[0]) {
        if (!is_flushed(disk, row)) {
            continue;
        }
        struct bytes key = row_key(row);
        if (file == NULL || file->entries == FILE_ROWS) {
            end_file(&files, file);
            file = &files.files[files.count++];
            *file = (struct store_file){.level = LAST_LEVEL,
                                        .smallest = arena_copy(&files.memory, key)};
        }
        const struct blob *blob = row_at(row, disk->flushed, FOR_EVER)->blob;
        file->bytes += key.size + (blob != NULL ? blob->size : 0);
        file->entries++;
        file->largest = key;
    }
    end_file(&files, file);
    if (files.count > 0) {
        files.files[0].smallest = (struct bytes){0}; // the state row
    }
    *ret_files = files;
}

void store_files_free(struct store_files *files)
{
    mem_free(files->files);
    arena_free(&files->memory);
    *files = (struct store_files){0};
}

int store_compact(struct store *store, unsigned family, struct bytes lower, struct bytes upper)
{
    CHECK(family < store->disk->family_count);
    if (store->compact_cancelled) {
        return ERR_STOPPED;
    }
    return disk_compact(store->disk, family, lower, upper);
}

void store_compact_cancel(struct store *store) { store->compact_cancelled = true; }

void store_sizes(struct store *store, struct store_sizes *ret_sizes)
{
    const struct model_disk *disk = store->disk;
    struct store_sizes sizes = {0};
    for (unsigned family = 0; family < disk->family_count; family++) {
        uint64_t bytes = disk->families[family].bytes, new_bytes = disk->new_bytes[family];
        sizes.family_bytes[family] = bytes > new_bytes ? bytes - new_bytes : 0;
        sizes.disk_bytes += sizes.family_bytes[family];
        sizes.memtable_bytes += new_bytes;
    }
    *ret_sizes = sizes;
}

// The model rewrites in place.
uint64_t store_merge_bytes(struct store *store)
{
    (void)store;
    return 0;
}
