// SPDX-License-Identifier: Apache-2.0
// The store on RocksDB 7.8's C interface: the only file that calls it.
//
// The state row ends with the number of the write, which store_flush needs: after RocksDB has once
// recovered from a full disk, its flush says "OK" at once for ever: so one is believed only when
// that number is read back from the files. A flush that fails while another is queued can block
// RocksDB's recovery, and its close, for good: so writes are refused before the disk is full.
#include "common/data/store.h"

#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/disk.h"
#include "common/data/store_settings.h"

#define TIERS 3
#define NUMBER_BYTES sizeof(uint64_t) // at the end of the state row
#define FILE_BYTES_MIN (4 * MIB)
#define FILE_BYTES_MAX (64 * MIB)
#define FLUSH_AGAIN_NS NS_PER_S
#define FLUSH_LIMIT_NS (120 * NS_PER_S)

static const struct bytes state_key = {.data = (const uint8_t *)"", .size = 0};
// The smallest key after the state row's.
static const uint8_t first_user_key[1] = {0};

struct store_snapshot {
    const rocksdb_snapshot_t *sequence;
    rocksdb_readoptions_t *read[TIERS];
};

struct store {
    char *directory;
    char *flush_directory; // of the checkpoint that a flush makes, beside `directory`
    char *scope;
    rocksdb_options_t *options;
    rocksdb_t *db;
    unsigned family_count;
    rocksdb_column_family_handle_t *families[STORE_FAMILIES_MAX];
    rocksdb_readoptions_t *read[TIERS]; // shared by all readers, who only look at them
    rocksdb_writeoptions_t *write;
    pthread_mutex_t flush_lock; // one flush at a time, they share the directory
    _Atomic uint64_t written;   // number of the newest write
    uint64_t reserve_bytes;     // of disk that must be free for a write
    struct log_gate read_gate;
    struct log_gate write_gate;
};

struct store_iterator {
    struct store *store;
    rocksdb_readoptions_t *read;
    rocksdb_iterator_t *rows; // NULL when upper <= lower
    uint8_t bounds[];         // RocksDB keeps pointers into them
};

// A cache and a batch are RocksDB's own objects under our names.
static rocksdb_cache_t *lru_of(struct store_cache *cache) { return (rocksdb_cache_t *)cache; }

static rocksdb_writebatch_t *rows_of(const struct store_batch *batch)
{
    return (rocksdb_writebatch_t *)batch;
}

// The number for an error text of RocksDB. One error may be wrapped in another's text.
static int error_of(const char *text)
{
    if (strstr(text, "Corruption") != NULL) {
        return ERR_CORRUPT;
    }
    if (strstr(text, "No space left") != NULL || strstr(text, "quota exceeded") != NULL) {
        return ERR_DISK_FULL;
    }
    bool wrapped = strstr(text, "IO error") != NULL;
    return !wrapped && strstr(text, "Result incomplete") != NULL ? ERR_INCOMPLETE : ERR_IO;
}

// Takes the text, logs it, and returns its number.
static int error_logged(const char *scope, struct log_gate *gate, const char *what, char *text)
{
    int error = error_of(text);
    if (error != ERR_INCOMPLETE) {
        LOG_GATED(gate, LOG_ERROR, scope, "store: %s: %s", what, text);
    }
    rocksdb_free(text);
    return error;
}

struct store_cache *store_cache_open(uint64_t bytes)
{
    return (struct store_cache *)rocksdb_cache_create_lru(bytes);
}

void store_cache_close(struct store_cache *cache) { rocksdb_cache_destroy(lru_of(cache)); }

static rocksdb_options_t *make_options(const struct store_options *from, uint64_t file_bytes)
{
    rocksdb_options_t *base = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, lru_of(from->cache));
    rocksdb_options_set_block_based_table_factory(base, table);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_set_write_buffer_size(base, from->memtable_bytes);
    rocksdb_options_set_target_file_size_base(base, file_bytes);
    rocksdb_options_set_max_bytes_for_level_base(base, 4 * file_bytes);
    rocksdb_options_t *options = rocksdb_options_create();
    char *text = NULL;
    rocksdb_get_options_from_string(base, store_settings, options, &text);
    CHECK(text == NULL);
    rocksdb_options_destroy(base);
    return options;
}

_Static_assert(STORE_ANY == 0 && STORE_CACHED == 1 && STORE_PERSISTED == 2,
               "the tiers are RocksDB's kReadAllTier, kBlockCacheTier, kPersistedTier");

static void make_reads(rocksdb_readoptions_t *read[TIERS], const rocksdb_snapshot_t *sequence)
{
    for (int tier = 0; tier < TIERS; tier++) {
        read[tier] = rocksdb_readoptions_create();
        rocksdb_readoptions_set_read_tier(read[tier], tier);
        rocksdb_readoptions_set_snapshot(read[tier], sequence);
    }
}

// Like all destroyers here but those of handles, databases and iterators, this takes NULL.
static void free_reads(rocksdb_readoptions_t *read[TIERS])
{
    for (int tier = 0; tier < TIERS; tier++) {
        rocksdb_readoptions_destroy(read[tier]);
    }
}

// What a flush left behind pins the space of deleted files.
static int flush_clean(struct store *store)
{
    char *unfinished = mem_format("%s.tmp", store->flush_directory); // RocksDB's name for it
    int error = disk_remove(unfinished);
    mem_free(unfinished);
    if (error == OK) {
        error = disk_remove(store->flush_directory);
    }
    if (error != OK) {
        log_line(LOG_ERROR, store->scope, "store: cannot remove %s: %s", store->flush_directory,
                 error_text(error));
    }
    return error;
}

static void store_free(struct store *store)
{
    free_reads(store->read);
    if (store->db != NULL) {
        // Handles go before the database, else it aborts.
        for (unsigned i = 0; i < store->family_count; i++) {
            rocksdb_column_family_handle_destroy(store->families[i]);
        }
        rocksdb_close(store->db);
    }
    rocksdb_options_destroy(store->options);
    rocksdb_writeoptions_destroy(store->write);
    pthread_mutex_destroy(&store->flush_lock);
    mem_free(store->directory);
    mem_free(store->flush_directory);
    mem_free(store->scope);
    mem_free(store);
}

static struct store *store_new(const struct store_options *options)
{
    struct store *store = mem_zalloc(sizeof *store);
    size_t length = strlen(options->directory);
    while (length > 1 && options->directory[length - 1] == '/') {
        length--;
    }
    store->directory = mem_format("%.*s", (int)length, options->directory);
    store->flush_directory = mem_format("%s.flush", store->directory);
    store->scope = options->scope != NULL ? mem_text(options->scope) : NULL;
    store->family_count = options->family_count;
    pthread_mutex_init(&store->flush_lock, NULL);
    return store;
}

static int read_row(struct store *store, const rocksdb_readoptions_t *read, unsigned family,
                    struct bytes key, struct store_value *ret_value)
{
    char *text = NULL;
    rocksdb_pinnableslice_t *pin = rocksdb_get_pinned_cf(
        store->db, read, store->families[family], (const char *)key.data, key.size, &text);
    if (text != NULL) {
        return error_logged(store->scope, &store->read_gate, "read", text);
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
    make_reads(snapshot->read, snapshot->sequence);
    return snapshot;
}

void store_snapshot_release(struct store *store, struct store_snapshot *snapshot)
{
    if (snapshot == NULL) {
        return;
    }
    free_reads(snapshot->read);
    rocksdb_release_snapshot(store->db, snapshot->sequence);
    mem_free(snapshot);
}

// The number of the write that left this state row, 0 when there is none.
static uint64_t row_number(const struct store_value *row)
{
    size_t size = row->data.size;
    return size > NUMBER_BYTES ? load_u64(row->data.data + size - NUMBER_BYTES) : 0;
}

// Reads the state row of every family through `read` and lends the oldest of them, which is empty
// when a family has none. *ret_newest is the number of the newest: the families agree when it is
// that of the oldest, too.
static int state_rows(struct store *store, const rocksdb_readoptions_t *read,
                      struct store_value *ret_oldest, uint64_t *ret_newest)
{
    struct store_value rows[STORE_FAMILIES_MAX] = {0};
    unsigned oldest = 0;
    uint64_t newest = 0;
    int error = OK;
    for (unsigned i = 0; i < store->family_count && error == OK; i++) {
        int found = read_row(store, read, i, state_key, &rows[i]);
        error = found == ERR_NOT_FOUND ? OK : found;
        oldest = row_number(&rows[i]) < row_number(&rows[oldest]) ? i : oldest;
        newest = u64_max(newest, row_number(&rows[i]));
    }
    if (error == OK) {
        *ret_oldest = rows[oldest];
        *ret_newest = newest;
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
    uint64_t newest = 0;
    int error = state_rows(store, read, &row, &newest);
    store_snapshot_release(store, snapshot);
    if (error != OK) {
        return error;
    }
    bool damaged = row.pin != NULL && row_number(&row) == 0;
    if (damaged || (tier != STORE_PERSISTED && newest != row_number(&row))) {
        log_line(LOG_ERROR, store->scope, "store: the families do not stand at the same block");
        store_value_release(&row);
        return ERR_CORRUPT;
    }
    if (row.pin == NULL) {
        return ERR_NOT_FOUND;
    }
    row.data.size -= NUMBER_BYTES;
    *ret_state = row;
    return OK;
}

struct store_batch *store_batch_new(void)
{
    return (struct store_batch *)rocksdb_writebatch_create();
}

void store_batch_free(struct store_batch *batch) { rocksdb_writebatch_destroy(rows_of(batch)); }

void store_batch_clear(struct store_batch *batch) { rocksdb_writebatch_clear(rows_of(batch)); }

size_t store_batch_bytes(const struct store_batch *batch)
{
    size_t size = 0;
    (void)rocksdb_writebatch_data(rows_of(batch), &size);
    return size;
}

void store_batch_put(struct store_batch *batch, struct store *store, unsigned family,
                     struct bytes key, struct bytes value)
{
    CHECK(family < store->family_count);
    CHECK(key.size > 0);
    rocksdb_writebatch_put_cf(rows_of(batch), store->families[family], (const char *)key.data,
                              key.size, (const char *)value.data, value.size);
}

static void put_parts(struct store_batch *batch, struct store *store, unsigned family,
                      const struct bytes key[2], const struct bytes value[2])
{
    const char *keys[2] = {(const char *)key[0].data, (const char *)key[1].data};
    const char *values[2] = {(const char *)value[0].data, (const char *)value[1].data};
    const size_t key_sizes[2] = {key[0].size, key[1].size};
    const size_t value_sizes[2] = {value[0].size, value[1].size};
    rocksdb_writebatch_putv_cf(rows_of(batch), store->families[family], 2, keys, key_sizes, 2,
                               values, value_sizes);
}

void store_batch_put_parts(struct store_batch *batch, struct store *store, unsigned family,
                           const struct bytes key[2], const struct bytes value[2])
{
    CHECK(family < store->family_count);
    CHECK(key[0].size + key[1].size > 0);
    put_parts(batch, store, family, key, value);
}

void store_batch_delete(struct store_batch *batch, struct store *store, unsigned family,
                        struct bytes key)
{
    CHECK(family < store->family_count);
    CHECK(key.size > 0);
    rocksdb_writebatch_delete_cf(rows_of(batch), store->families[family], (const char *)key.data,
                                 key.size);
}

static bool has_space(struct store *store)
{
    uint64_t free_bytes = 0;
    if (disk_free(store->directory, &free_bytes) != OK || free_bytes >= store->reserve_bytes) {
        return true;
    }
    LOG_GATED(&store->write_gate, LOG_ERROR, store->scope, "store: the disk is nearly full");
    return false;
}

int store_write(struct store *store, struct store_batch *batch, struct bytes state)
{
    CHECK(state.size > 0);
    if (!has_space(store)) {
        return ERR_DISK_FULL;
    }
    uint64_t number = atomic_load(&store->written) + 1;
    struct bytes value[2] = {state, bytes_of(&number, sizeof number)};
    rocksdb_writebatch_set_save_point(rows_of(batch));
    for (unsigned i = 0; i < store->family_count; i++) {
        put_parts(batch, store, i, (struct bytes[2]){state_key, state_key}, value);
    }
    char *text = NULL;
    rocksdb_write(store->db, store->write, rows_of(batch), &text);
    // The batch is again what the caller built, who may write it once more.
    char *rollback_text = NULL;
    rocksdb_writebatch_rollback_to_save_point(rows_of(batch), &rollback_text);
    CHECK(rollback_text == NULL);
    if (text != NULL) {
        int error = error_logged(store->scope, &store->write_gate, "write", text);
        return error == ERR_INCOMPLETE ? ERR_IO : error;
    }
    atomic_store(&store->written, number);
    return OK;
}

static int checkpoint(struct store *store)
{
    int error = flush_clean(store);
    if (error != OK) {
        return error;
    }
    char *text = NULL;
    rocksdb_checkpoint_t *maker = rocksdb_checkpoint_object_create(store->db, &text);
    if (text == NULL) {
        // 0 = flush whatever the size of its log: the only value that is right without a log.
        rocksdb_checkpoint_create(maker, store->flush_directory, 0, &text);
        rocksdb_checkpoint_object_destroy(maker);
    }
    if (text != NULL) {
        error = error_logged(store->scope, &store->write_gate, "flush", text);
    }
    (void)flush_clean(store); // the next flush cleans again, and fails if it cannot
    return error;
}

// The numbers of the newest writes that all families have, and that any has; 0 in a fresh store.
static int read_numbers(struct store *store, enum store_tier tier, uint64_t *ret_all,
                        uint64_t *ret_any)
{
    struct store_value row = {0};
    int error = state_rows(store, store->read[tier], &row, ret_any);
    if (error == OK) {
        *ret_all = row_number(&row);
        store_value_release(&row);
    }
    return error;
}

// Until the files of all families show the write `number`.
static int flush_until(struct store *store, uint64_t number)
{
    uint64_t all = 0, any = 0, started_ns = clock_mono_ns(), asked_ns = 0;
    int error;
    while ((error = read_numbers(store, STORE_PERSISTED, &all, &any)) == OK && all < number) {
        uint64_t now_ns = clock_mono_ns();
        if (now_ns - started_ns > FLUSH_LIMIT_NS) {
            log_line(LOG_ERROR, store->scope, "store: a flush does not end");
            return ERR_TIMEOUT;
        }
        if (asked_ns == 0 || now_ns - asked_ns > FLUSH_AGAIN_NS) {
            asked_ns = now_ns;
            error = checkpoint(store);
            if (error != OK) {
                return error;
            }
        } else {
            clock_sleep_ns(NS_PER_MS);
        }
    }
    return error;
}

int store_flush(struct store *store)
{
    pthread_mutex_lock(&store->flush_lock);
    int error = flush_until(store, atomic_load(&store->written));
    pthread_mutex_unlock(&store->flush_lock);
    return error;
}

int store_open(struct store **ret_store, const struct store_options *options)
{
    CHECK(options->family_count >= 1 && options->family_count <= STORE_FAMILIES_MAX);
    CHECK(strcmp(options->families[0], "default") == 0);
    struct store *store = store_new(options);
    uint64_t file_bytes = u64_min(u64_max(options->memtable_bytes, FILE_BYTES_MIN), FILE_BYTES_MAX);
    store->reserve_bytes =
        options->family_count * STORE_MEMTABLES_MAX * options->memtable_bytes + file_bytes;
    store->options = make_options(options, file_bytes);
    const rocksdb_options_t *family_options[STORE_FAMILIES_MAX] = {store->options, store->options};
    char *text = NULL;
    store->db = rocksdb_open_column_families(store->options, store->directory,
                                             (int)store->family_count, options->families,
                                             family_options, store->families, &text);
    make_reads(store->read, NULL);
    store->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(store->write, 1);
    // Cleaned only now: before the open another process may be the one that flushes.
    int error = text != NULL ? error_logged(store->scope, &store->read_gate, "open", text)
                             : flush_clean(store);
    uint64_t all = 0, any = 0;
    if (error == OK) {
        error = read_numbers(store, STORE_ANY, &all, &any);
    }
    if (error != OK) {
        store_free(store);
        return error;
    }
    atomic_store(&store->written, any);
    *ret_store = store;
    return OK;
}

bool store_close(struct store *store)
{
    // RocksDB flushes on closing too, but tells nobody when that fails, and may then wait for ever.
    int error = store_flush(store);
    if (error != OK) {
        log_line(LOG_ERROR, store->scope, "store: left without a flush, the journal has it all: %s",
                 error_text(error));
        return false;
    }
    store_free(store);
    return true;
}

struct store_iterator *store_iterator_open(struct store *store,
                                           const struct store_snapshot *snapshot, unsigned family,
                                           struct bytes lower, struct bytes upper)
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
    rocksdb_readoptions_set_snapshot(iterator->read, snapshot != NULL ? snapshot->sequence : NULL);
    rocksdb_readoptions_set_iterate_lower_bound(iterator->read, bounds, lower.size);
    iterator->rows = rocksdb_create_iterator_cf(store->db, iterator->read, store->families[family]);
    return iterator;
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
    return error_logged(iterator->store->scope, &iterator->store->read_gate, "scan", text);
}

static uint64_t number_of(struct store *store, unsigned family, const char *property)
{
    uint64_t number = 0;
    int code = rocksdb_property_int_cf(store->db, store->families[family], property, &number);
    CHECK(code == 0);
    return number;
}

void store_sizes(struct store *store, struct store_sizes *ret_sizes)
{
    struct store_sizes sizes = {0};
    for (unsigned i = 0; i < store->family_count; i++) {
        sizes.family_bytes[i] = number_of(store, i, "rocksdb.live-sst-files-size");
        sizes.memtable_bytes += number_of(store, i, "rocksdb.cur-size-all-mem-tables");
        sizes.pending_bytes += number_of(store, i, "rocksdb.estimate-pending-compaction-bytes");
    }
    sizes.write_stopped = number_of(store, 0, "rocksdb.is-write-stopped") != 0;
    *ret_sizes = sizes;
}
