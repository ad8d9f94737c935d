// SPDX-License-Identifier: Apache-2.0
// The store on RocksDB 7.8's C interface: its life, and writing.
//
// The state row ends with the number of the write, which store_flush needs. A flush that fails
// while another is queued can block RocksDB's recovery, and its close, for good: so writes are
// refused before the disk is full.
#include <stdlib.h>

#include "common/data/disk.h"
#include "common/data/store_private.h"
#include "common/data/store_settings.h"

#define FILE_BYTES_MIN (128 * KIB)
#define FILE_BYTES_MAX (64 * MIB)
#define MANIFEST_FILES 4 // so large does the manifest grow, in files: every flush copies it
#define MANIFEST_BYTES_MAX (8 * MIB)
// The index and filters of every file stay in the cache, also when it is full of them.
#define PINNED "block_based_table_factory={metadata_cache_options={unpartitioned_pinning=kAll}}"
#define COMPACT_FILES 6 // the most that one step of a compaction takes, about

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

int store_error(const char *scope, struct log_gate *gate, const char *what, char *text)
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

// What `settings` say in place of what `base` does, which is destroyed.
static rocksdb_options_t *with_settings(rocksdb_options_t *base, const char *settings)
{
    rocksdb_options_t *options = rocksdb_options_create();
    char *text = NULL;
    rocksdb_get_options_from_string(base, settings, options, &text);
    CHECK(text == NULL);
    rocksdb_options_destroy(base);
    return options;
}

static rocksdb_options_t *make_options(const struct store_options *from, unsigned family,
                                       uint64_t file_bytes)
{
    rocksdb_options_t *base = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, lru_of(from->cache));
    rocksdb_options_set_block_based_table_factory(base, table);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_set_write_buffer_size(base, from->memtable_bytes);
    rocksdb_options_set_target_file_size_base(base, file_bytes);
    rocksdb_options_set_max_bytes_for_level_base(base, 4 * file_bytes);
    rocksdb_options_set_max_compaction_bytes(base, COMPACT_FILES * file_bytes);
    rocksdb_options_set_max_manifest_file_size(
        base, u64_min(MANIFEST_FILES * file_bytes, MANIFEST_BYTES_MAX));
    rocksdb_options_t *options = with_settings(base, store_settings);
    if (from->pin_index) {
        options = with_settings(options, PINNED);
    }
    if (from->filters[family] != NULL) {
        store_filter_set(options, from->filters[family]);
    }
    return options;
}

static void store_free(struct store *store)
{
    store_reads_free(store->read);
    if (store->db != NULL) {
        // Handles go before the database, else it aborts.
        for (unsigned i = 0; i < store->family_count; i++) {
            rocksdb_column_family_handle_destroy(store->families[i]);
        }
        rocksdb_close(store->db);
    }
    for (unsigned i = 0; i < store->family_count; i++) {
        rocksdb_options_destroy(store->options[i]);
        mem_free(store->names[i]);
    }
    rocksdb_writeoptions_destroy(store->write);
    pthread_mutex_destroy(&store->flush_lock);
    pthread_mutex_destroy(&store->checkpoint_lock);
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
    for (unsigned i = 0; i < options->family_count; i++) {
        store->names[i] = mem_text(options->families[i]);
    }
    pthread_mutex_init(&store->flush_lock, NULL);
    pthread_mutex_init(&store->checkpoint_lock, NULL);
    return store;
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

// The rows of one batch go into the memtables one after another, those of `default` last of all
// first ones. RocksDB 7.8 chooses the families of a flush without stopping the writer, those with
// an empty memtable not among them: so a flush during the first batch after another flush may leave
// out the families that the batch has not come to yet. By this order that can only be `default`,
// and a store whose other families are ahead of it is whole (see store_open).
static void batch_begin(struct store_batch *batch, struct store *store)
{
    if (rocksdb_writebatch_count(rows_of(batch)) > 0) {
        return;
    }
    const struct bytes nothing[2] = {STORE_STATE_KEY, STORE_STATE_KEY};
    for (unsigned i = store->family_count - 1; i > 0; i--) {
        put_parts(batch, store, i, nothing, nothing); // store_write puts the state row over it
    }
}

void store_batch_put_parts(struct store_batch *batch, struct store *store, unsigned family,
                           const struct bytes key[2], const struct bytes value[2])
{
    CHECK(family < store->family_count);
    CHECK(key[0].size + key[1].size > 0);
    batch_begin(batch, store);
    put_parts(batch, store, family, key, value);
}

void store_batch_put(struct store_batch *batch, struct store *store, unsigned family,
                     struct bytes key, struct bytes value)
{
    const struct bytes keys[2] = {key, STORE_STATE_KEY}, values[2] = {value, STORE_STATE_KEY};
    store_batch_put_parts(batch, store, family, keys, values);
}

void store_batch_delete(struct store_batch *batch, struct store *store, unsigned family,
                        struct bytes key)
{
    CHECK(family < store->family_count);
    CHECK(key.size > 0);
    batch_begin(batch, store);
    rocksdb_writebatch_delete_cf(rows_of(batch), store->families[family], (const char *)key.data,
                                 key.size);
}

static bool is_free(const struct store *store, uint64_t bytes)
{
    uint64_t free_bytes = 0;
    return disk_free(store->directory, &free_bytes) != OK ||
           free_bytes >= store->reserve_bytes + bytes;
}

bool store_has_space(struct store *store, uint64_t bytes)
{
    bool is = is_free(store, bytes);
    if (!is) {
        LOG_GATED(&store->write_gate, LOG_ERROR, store->scope, "store: the disk is nearly full");
    }
    return is;
}

bool store_is_crowded(struct store *store)
{
    bool crowded = false;
    for (unsigned i = 0; i < store->family_count; i++) {
        char *text = rocksdb_property_value_cf(store->db, store->families[i],
                                               "rocksdb.num-files-at-level0");
        CHECK(text != NULL);
        crowded = crowded || strtoull(text, NULL, 10) + 1 >= STORE_FRESH_FILES;
        rocksdb_free(text);
    }
    return crowded;
}

static int write_rows(struct store *store, struct store_batch *batch, struct bytes state)
{
    uint64_t number = atomic_load(&store->written) + 1;
    struct bytes value[2] = {state, bytes_of(&number, sizeof number)};
    rocksdb_writebatch_set_save_point(rows_of(batch));
    batch_begin(batch, store);
    for (unsigned i = 0; i < store->family_count; i++) {
        put_parts(batch, store, i, (struct bytes[2]){STORE_STATE_KEY, STORE_STATE_KEY}, value);
    }
    char *text = NULL;
    rocksdb_write(store->db, store->write, rows_of(batch), &text);
    // The batch is again what the caller built, who may write it once more.
    char *rollback_text = NULL;
    rocksdb_writebatch_rollback_to_save_point(rows_of(batch), &rollback_text);
    CHECK(rollback_text == NULL);
    if (text != NULL) {
        int error = store_error(store->scope, &store->write_gate, "write", text);
        return error == ERR_INCOMPLETE ? ERR_IO : error;
    }
    atomic_store(&store->written, number);
    return OK;
}

// A compaction writes no more than there is.
bool store_has_room(struct store *store)
{
    if (is_free(store, store->compact_bytes)) {
        return true;
    }
    struct store_sizes sizes;
    store_sizes(store, &sizes);
    return store_has_space(
        store, u64_min(store->compact_bytes, sizes.disk_bytes + sizes.memtable_bytes));
}

int store_write(struct store *store, struct store_batch *batch, struct bytes state)
{
    CHECK(state.size > 0);
    return store_has_space(store, 0) ? write_rows(store, batch, state) : ERR_DISK_FULL;
}

// A crash may have left other families ahead of `default` (see batch_begin), which is the one that
// says how far the store has come: what they hold beyond that is written once more when it is
// applied again, and until then nobody asks for it. All get its state under a number above all.
static int level(struct store *store)
{
    struct store_numbers numbers = {0};
    struct store_value state = {0};
    int error = store_numbers(store, STORE_ANY, &numbers);
    atomic_store(&store->written, numbers.newest);
    if (error != OK || numbers.oldest == numbers.newest) {
        return error;
    }
    error = store_state(store, STORE_ANY, &state);
    if (error == OK || error == ERR_NOT_FOUND) { // not even the first batch came to `default`
        struct store_batch *batch = store_batch_new();
        error = write_rows(store, batch, state.data);
        store_batch_free(batch);
    }
    store_value_release(&state);
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
    store->compact_bytes = COMPACT_FILES * file_bytes;
    for (unsigned i = 0; i < options->family_count; i++) {
        store->options[i] = make_options(options, i, file_bytes);
    }
    char *text = NULL;
    store->db = rocksdb_open_column_families(
        store->options[0], store->directory, (int)store->family_count, options->families,
        (const rocksdb_options_t *const *)store->options, store->families, &text);
    store_reads_make(store->read, NULL);
    store->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(store->write, 1);
    // Cleaned only now: before the open another process may be the one that flushes.
    int error = text != NULL ? store_error(store->scope, &store->read_gate, "open", text)
                             : store_flush_clean(store);
    if (error == OK) {
        error = level(store);
    }
    if (error != OK) {
        store_free(store);
        return error;
    }
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

uint64_t store_number(struct store *store, unsigned family, const char *property)
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
        sizes.disk_bytes += store_number(store, i, "rocksdb.total-sst-files-size");
        sizes.family_bytes[i] = store_number(store, i, "rocksdb.live-sst-files-size");
        sizes.memtable_bytes += store_number(store, i, "rocksdb.cur-size-all-mem-tables");
        sizes.pending_bytes += store_number(store, i, "rocksdb.estimate-pending-compaction-bytes");
    }
    sizes.write_stopped = store_number(store, 0, "rocksdb.is-write-stopped") != 0;
    *ret_sizes = sizes;
}
