// SPDX-License-Identifier: Apache-2.0
// Compaction: the filters that it runs, and making it run.
//
// A manual compaction is never exclusive: automatic ones go on beside it, else writes would stall.
// RocksDB tells nobody how it ended; its count of background errors does.
#include "common/data/store_private.h"

// RocksDB's BottommostLevelCompaction. The optimized kind does not rewrite in the last level what
// this very compaction has just brought there; but where a range takes several steps it may end
// after the first (rocksdb#12702), so it is for what fits in one.
#define BOTTOM_FORCE 2
#define BOTTOM_FORCE_OPTIMIZED 3
#define ONE_STEP_SHARE 4 // of compact_bytes: inputs and outputs count, and sizes are estimates

struct pass {
    const struct store_filter *filter;
    void *own; // the filter's
};

static const char *filter_name(void *argument)
{
    (void)argument;
    return "qs";
}

static void pass_end(void *argument)
{
    struct pass *pass = argument;
    pass->filter->end(pass->own);
    mem_free(pass);
}

// Answers 1 for a row that goes. RocksDB copies a changed value and frees nothing.
static unsigned char pass_judge(void *argument, int level, const char *key, size_t key_size,
                                const char *value, size_t value_size, char **ret_value,
                                size_t *ret_value_size, unsigned char *ret_changed)
{
    (void)level;
    struct pass *pass = argument;
    if (key_size == 0) {
        return 0;
    }
    struct bytes changed = {0};
    enum store_verdict verdict = pass->filter->judge(
        pass->own, bytes_of(key, key_size), bytes_of(value, value_size), &changed);
    if (verdict == STORE_CHANGE) {
        *ret_value = (char *)(changed.size > 0 ? changed.data : STORE_STATE_KEY.data);
        *ret_value_size = changed.size;
        *ret_changed = 1;
    }
    return verdict == STORE_DROP;
}

static rocksdb_compactionfilter_t *pass_begin(void *argument,
                                              rocksdb_compactionfiltercontext_t *context)
{
    (void)context;
    const struct store_filter *filter = argument;
    struct pass *pass = mem_alloc(sizeof *pass);
    *pass = (struct pass){.filter = filter, .own = filter->begin(filter->argument)};
    rocksdb_compactionfilter_t *rows =
        rocksdb_compactionfilter_create(pass, pass_end, pass_judge, filter_name);
    // Anything else makes compactions fail.
    rocksdb_compactionfilter_set_ignore_snapshots(rows, 1);
    return rows;
}

static void factory_end(void *argument) { (void)argument; }

void store_filter_set(rocksdb_options_t *options, const struct store_filter *filter)
{
    // The options own the factory.
    rocksdb_options_set_compaction_filter_factory(
        options, rocksdb_compactionfilterfactory_create((void *)filter, factory_end, pass_begin,
                                                        filter_name));
}

void store_files(struct store *store, unsigned family, struct store_files *ret_files)
{
    CHECK(family < store->family_count);
    const rocksdb_livefiles_t *live = rocksdb_livefiles(store->db);
    int count = rocksdb_livefiles_count(live);
    struct store_files files = {.files = mem_alloc((size_t)count * sizeof files.files[0])};
    for (int i = 0; i < count; i++) {
        size_t size = 0;
        const char *largest = rocksdb_livefiles_largestkey(live, i, &size);
        // A file may hold the state row and nothing else.
        if (size == 0 || strcmp(rocksdb_livefiles_column_family_name(live, i),
                                store->names[family]) != 0) {
            continue;
        }
        struct store_file *file = &files.files[files.count++];
        file->level = rocksdb_livefiles_level(live, i);
        file->bytes = rocksdb_livefiles_size(live, i);
        file->entries = rocksdb_livefiles_entries(live, i);
        file->largest = arena_copy(&files.memory, bytes_of(largest, size));
        const char *smallest = rocksdb_livefiles_smallestkey(live, i, &size);
        file->smallest = arena_copy(&files.memory, bytes_of(smallest, size));
    }
    rocksdb_livefiles_destroy(live);
    *ret_files = files;
}

void store_files_free(struct store_files *files)
{
    mem_free(files->files);
    arena_free(&files->memory);
    *files = (struct store_files){0};
}

uint64_t store_merge_bytes(struct store *store)
{
    uint64_t bytes = 0;
    for (unsigned family = 0; family < store->family_count; family++) {
        uint64_t base = store_number(store, family, "rocksdb.base-level");
        struct store_files files;
        store_files(store, family, &files);
        for (size_t i = 0; i < files.count; i++) {
            bool merged = files.files[i].level == 0 || (uint64_t)files.files[i].level == base;
            bytes += merged ? files.files[i].bytes : 0;
        }
        store_files_free(&files);
    }
    return bytes;
}

// The size of all files that hold a part of the range.
static uint64_t range_bytes(struct store *store, unsigned family, struct bytes lower,
                            struct bytes upper)
{
    struct store_files files;
    store_files(store, family, &files);
    uint64_t bytes = 0;
    for (size_t i = 0; i < files.count; i++) {
        const struct store_file *file = &files.files[i];
        bool above = upper.size > 0 && bytes_compare(file->smallest, upper) > 0;
        bool below = bytes_compare(file->largest, lower) < 0;
        bytes += above || below ? 0 : file->bytes;
    }
    store_files_free(&files);
    return bytes;
}

static void compact_range(struct store *store, unsigned family, struct bytes lower,
                          struct bytes upper, bool one_step)
{
    rocksdb_compactoptions_t *options = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0);
    rocksdb_compactoptions_set_bottommost_level_compaction(
        options, one_step ? BOTTOM_FORCE_OPTIMIZED : BOTTOM_FORCE);
    rocksdb_compact_range_cf_opt(store->db, store->families[family], options,
                                 lower.size > 0 ? (const char *)lower.data : NULL, lower.size,
                                 upper.size > 0 ? (const char *)upper.data : NULL, upper.size);
    rocksdb_compactoptions_destroy(options);
}

// While a checkpoint is made nothing that is replaced goes: so one compaction at most adds to that.
static void wait_for_checkpoint(struct store *store)
{
    pthread_mutex_lock(&store->checkpoint_lock);
    pthread_mutex_unlock(&store->checkpoint_lock);
}

int store_compact(struct store *store, unsigned family, struct bytes lower, struct bytes upper)
{
    CHECK(family < store->family_count);
    if (upper.size > 0 && bytes_compare(lower, upper) > 0) {
        return OK;
    }
    uint64_t bytes = range_bytes(store, family, lower, upper);
    // Its flush must not fail, see store.c; its new files stand beside the old ones for a while.
    if (!store_has_space(store, u64_min(bytes, store->compact_bytes))) {
        return ERR_DISK_FULL;
    }
    wait_for_checkpoint(store);
    uint64_t errors = store_number(store, 0, "rocksdb.background-errors");
    compact_range(store, family, lower, upper, bytes < store->compact_bytes / ONE_STEP_SHARE);
    if (atomic_load(&store->compact_cancelled)) {
        return ERR_STOPPED;
    }
    if (store_number(store, 0, "rocksdb.background-errors") == errors) {
        return OK;
    }
    if (!store_has_space(store, 0)) {
        return ERR_DISK_FULL;
    }
    LOG_GATED(&store->write_gate, LOG_ERROR, store->scope, "store: a compaction has failed");
    return ERR_IO;
}

void store_compact_cancel(struct store *store)
{
    atomic_store(&store->compact_cancelled, true);
    rocksdb_disable_manual_compaction(store->db); // waits until the one under way has ended
}
