// SPDX-License-Identifier: Apache-2.0
// What two ways to collect history cost, side by side:
//   filter  one family; a compaction filter drops what is below the floor, and where that leaves
//           too much a hand compacts one bottom file's range after another
//   slices  a family for each range of indexes, dropped whole once the floor has passed it
//   history_cost DIR [KEYS [OVERWRITES]]
// Random keys are overwritten at full speed, each moving the replaced value into the history as a
// row (key, valid until), which lasts for KEPT_SHARE of all overwrites. Meanwhile one thread reads
// random keys at random indexes within the history and checks each answer. Only the second half is
// measured. It calls RocksDB itself, with the store's settings, as no store makes families.
#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/data/disk.h"
#include "common/data/store_settings.h"

#define RUNS 3
#define VALUE_BYTES 300
#define BATCH 100
#define KEPT_SHARE 5 // the history is a fifth of all overwrites
#define SLICES 4     // of the history
#define HANDLES 8
#define FILE_BYTES (16 * MIB)
#define CACHE_BYTES (64 * MIB)
#define PAUSE_NS (50 * NS_PER_MS)
#define HISTORY_KEY_BYTES 16 // key, valid until; both big-endian

struct bench {
    const char *directory;
    bool slices;
    uint64_t keys, overwrites, kept;
    rocksdb_t *db;
    rocksdb_options_t *options, *history_options;
    rocksdb_readoptions_t *read;
    rocksdb_writeoptions_t *write;
    rocksdb_column_family_handle_t *rows;
    rocksdb_column_family_handle_t *history[HANDLES]; // by number of the slice
    uint64_t first, end;                              // slices that exist
    pthread_rwlock_t lock;                            // of the slices
    uint64_t *versions;                               // of the keys
    _Atomic uint64_t index, floor;
    _Atomic bool measured, stop;
    uint64_t random;
    uint32_t *latencies_ns;
    size_t latency_count, latency_capacity;
    uint64_t disk_sum, disk_count, disk_max; // samples of the bytes of all files
};

struct figures {
    double disk_mean_mb, disk_max_mb, amplification, overwrites_s, p50_us, p99_us;
};
#define FIGURES (sizeof(struct figures) / sizeof(double))

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u); // splitmix64
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void must(char *text)
{
    if (text != NULL) {
        fprintf(stderr, "history_cost: %s\n", text);
        exit(1);
    }
}

// ---- the filter --------------------------------------------------------------------------------

static unsigned char filter_row(void *argument, int level, const char *key, size_t key_size,
                                const char *value, size_t value_size, char **new_value,
                                size_t *new_size, unsigned char *changed)
{
    (void)level, (void)value, (void)value_size, (void)new_value, (void)new_size, (void)changed;
    return key_size == HISTORY_KEY_BYTES && load_u64_be(key + 8) < *(uint64_t *)argument;
}

static void filter_end(void *argument) { mem_free(argument); }

static void nothing(void *argument) { (void)argument; }

static const char *filter_name(void *argument)
{
    (void)argument;
    return "floor";
}

static rocksdb_compactionfilter_t *filter_begin(void *argument,
                                                rocksdb_compactionfiltercontext_t *context)
{
    (void)context;
    const struct bench *bench = argument;
    uint64_t floor = atomic_load(&bench->floor);
    return rocksdb_compactionfilter_create(mem_copy(&floor, sizeof floor), filter_end, filter_row,
                                           filter_name);
}

// ---- families ----------------------------------------------------------------------------------

static rocksdb_options_t *make_options(rocksdb_cache_t *cache)
{
    rocksdb_options_t *base = rocksdb_options_create(), *options = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_options_set_block_based_table_factory(base, table);
    rocksdb_block_based_options_destroy(table);
    rocksdb_options_set_write_buffer_size(base, FILE_BYTES);
    rocksdb_options_set_target_file_size_base(base, FILE_BYTES);
    rocksdb_options_set_max_bytes_for_level_base(base, 4 * FILE_BYTES);
    char *text = NULL;
    rocksdb_get_options_from_string(base, store_settings, options, &text);
    must(text);
    rocksdb_options_destroy(base);
    return options;
}

// The slice for a row that was valid until `index`.
static uint64_t slice_of(const struct bench *bench, uint64_t index)
{
    return bench->slices ? index / (bench->kept / SLICES) : 0;
}

static void add_slice(struct bench *bench)
{
    char name[32];
    snprintf(name, sizeof name, "h%" PRIu64, bench->end);
    char *text = NULL;
    CHECK(bench->end - bench->first < HANDLES);
    bench->history[bench->end++ % HANDLES] =
        rocksdb_create_column_family(bench->db, bench->history_options, name, &text);
    must(text);
}

// Makes the slice that the next rows need, and drops those that nobody may read any more.
static void turn_slices(struct bench *bench)
{
    pthread_rwlock_wrlock(&bench->lock);
    while (bench->end <= slice_of(bench, bench->index + BATCH)) {
        add_slice(bench);
    }
    while (bench->first < slice_of(bench, bench->floor)) {
        rocksdb_column_family_handle_t *old = bench->history[bench->first++ % HANDLES];
        char *text = NULL;
        rocksdb_drop_column_family(bench->db, old, &text);
        must(text);
        rocksdb_column_family_handle_destroy(old);
    }
    pthread_rwlock_unlock(&bench->lock);
}

// ---- writing -----------------------------------------------------------------------------------

static void put(rocksdb_writebatch_t *batch, rocksdb_column_family_handle_t *family,
                const void *key, size_t key_size, uint64_t version, uint64_t number)
{
    uint64_t row[1 + VALUE_BYTES / sizeof(uint64_t) + 1] = {version};
    uint64_t random = version ^ (number << 32);
    for (size_t i = 1; i < ARRAY_LEN(row); i++) {
        row[i] = next_random(&random);
    }
    rocksdb_writebatch_put_cf(batch, family, key, key_size, (const char *)row,
                              sizeof version + VALUE_BYTES);
}

static void write_batch(struct bench *bench, rocksdb_writebatch_t *batch)
{
    // As in the store: a row of state in every family, so that they flush together.
    rocksdb_writebatch_put_cf(batch, bench->rows, "", 0, "state", 5);
    for (uint64_t i = bench->first; i < bench->end; i++) {
        rocksdb_writebatch_put_cf(batch, bench->history[i % HANDLES], "", 0, "state", 5);
    }
    char *text = NULL;
    rocksdb_write(bench->db, bench->write, batch, &text);
    must(text);
    rocksdb_writebatch_clear(batch);
}

static void load_keys(struct bench *bench)
{
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    for (uint64_t number = 0; number < bench->keys; number++) {
        uint8_t key[8];
        store_u64_be(key, number);
        put(batch, bench->rows, key, sizeof key, 0, number);
        if (number % 1000 == 999 || number + 1 == bench->keys) {
            write_batch(bench, batch);
        }
    }
    rocksdb_writebatch_destroy(batch);
}

static void overwrite_batch(struct bench *bench, rocksdb_writebatch_t *batch)
{
    uint64_t index = bench->index;
    for (unsigned i = 0; i < BATCH; i++) {
        uint64_t number = next_random(&bench->random) % bench->keys;
        uint8_t key[HISTORY_KEY_BYTES];
        store_u64_be(key, number);
        store_u64_be(key + 8, index);
        // Each overwrite has an index of its own, so no two rows of a key are the same.
        put(batch, bench->history[slice_of(bench, index) % HANDLES], key, sizeof key,
            bench->versions[number], number);
        bench->versions[number] = ++index;
        put(batch, bench->rows, key, 8, index, number);
    }
    write_batch(bench, batch);
    bench->index = index;
    if (index > bench->kept) {
        bench->floor = index - bench->kept;
    }
}

// ---- reading -----------------------------------------------------------------------------------

// The first history row of a key that was valid at `index` or later. False: none.
static bool find_history(struct bench *bench, uint64_t number, uint64_t index)
{
    uint8_t from[HISTORY_KEY_BYTES];
    store_u64_be(from, number);
    store_u64_be(from + 8, index);
    bool found = false;
    for (uint64_t i = slice_of(bench, index); i < bench->end && !found; i++) {
        if (i < bench->first) {
            return false;
        }
        rocksdb_iterator_t *rows =
            rocksdb_create_iterator_cf(bench->db, bench->read, bench->history[i % HANDLES]);
        rocksdb_iter_seek(rows, (const char *)from, sizeof from);
        size_t size = 0;
        const char *key = rocksdb_iter_valid(rows) ? rocksdb_iter_key(rows, &size) : NULL;
        found = key != NULL && memcmp(key, from, 8) == 0;
        if (found) {
            const char *row = rocksdb_iter_value(rows, &size);
            // Below the floor rows may be missing, and the next one answers wrongly.
            CHECK(load_u64(row) <= index || index < bench->floor);
        }
        rocksdb_iter_destroy(rows);
    }
    return found;
}

static void read_at(struct bench *bench, uint64_t number, uint64_t index)
{
    uint8_t key[8];
    store_u64_be(key, number);
    char *text = NULL;
    rocksdb_pinnableslice_t *row = rocksdb_get_pinned_cf(bench->db, bench->read, bench->rows,
                                                         (const char *)key, sizeof key, &text);
    must(text);
    CHECK(row != NULL);
    size_t size;
    uint64_t version = load_u64(rocksdb_pinnableslice_value(row, &size));
    rocksdb_pinnableslice_destroy(row);
    if (version > index) {
        CHECK(find_history(bench, number, index) || index < bench->floor);
    }
}

static void *reader_main(void *argument)
{
    struct bench *bench = argument;
    uint64_t random = 99;
    while (!bench->stop) {
        pthread_rwlock_rdlock(&bench->lock);
        uint64_t floor = bench->floor, newest = bench->index;
        uint64_t index = floor + next_random(&random) % (newest - floor + 1);
        uint64_t number = next_random(&random) % bench->keys, started_ns = clock_mono_ns();
        read_at(bench, number, index);
        uint64_t took_ns = clock_mono_ns() - started_ns;
        pthread_rwlock_unlock(&bench->lock);
        if (bench->measured && bench->latency_count < bench->latency_capacity) {
            bench->latencies_ns[bench->latency_count++] = (uint32_t)u64_min(took_ns, UINT32_MAX);
        }
    }
    return NULL;
}

// ---- the hand, and samples of the disk ---------------------------------------------------------

static uint64_t files_bytes(const char *directory)
{
    DIR *files = opendir(directory);
    CHECK(files != NULL);
    uint64_t bytes = 0;
    const struct dirent *file;
    while ((file = readdir(files)) != NULL) {
        struct stat info;
        if (strstr(file->d_name, ".sst") != NULL &&
            fstatat(dirfd(files), file->d_name, &info, 0) == 0) {
            bytes += (uint64_t)info.st_size;
        }
    }
    closedir(files);
    return bytes;
}

// Compacts the range of the next bottom file of the history after `cursor`.
static void hand_step(struct bench *bench, rocksdb_compactoptions_t *options, char cursor[64],
                      size_t *cursor_size)
{
    const rocksdb_livefiles_t *files = rocksdb_livefiles(bench->db);
    int count = rocksdb_livefiles_count(files), chosen = -1;
    for (int i = 0; i < count; i++) {
        size_t size;
        const char *largest = rocksdb_livefiles_largestkey(files, i, &size);
        if (strcmp(rocksdb_livefiles_column_family_name(files, i), "h0") == 0 &&
            rocksdb_livefiles_level(files, i) == 6 &&
            bytes_compare(bytes_of(largest, size), bytes_of(cursor, *cursor_size)) > 0) {
            chosen = i;
            break;
        }
    }
    *cursor_size = 0;
    if (chosen >= 0) {
        size_t smallest_size, size;
        const char *smallest = rocksdb_livefiles_smallestkey(files, chosen, &smallest_size);
        const char *largest = rocksdb_livefiles_largestkey(files, chosen, &size);
        rocksdb_compact_range_cf_opt(bench->db, bench->history[0], options, smallest,
                                     smallest_size, largest, size);
        memcpy(cursor, largest, size);
        *cursor_size = size;
    }
    rocksdb_livefiles_destroy(files);
}

static void *hand_main(void *argument)
{
    struct bench *bench = argument;
    rocksdb_compactoptions_t *options = rocksdb_compactoptions_create();
    rocksdb_compactoptions_set_exclusive_manual_compaction(options, 0);
    rocksdb_compactoptions_set_bottommost_level_compaction(options, 3);
    char cursor[64];
    size_t cursor_size = 0;
    uint64_t wanted = bench->kept * (VALUE_BYTES + 8 + HISTORY_KEY_BYTES) * 3 / 2;
    while (!bench->stop) {
        uint64_t bytes = files_bytes(bench->directory), history = 0;
        if (bench->measured) {
            bench->disk_sum += bytes;
            bench->disk_count++;
            bench->disk_max = u64_max(bench->disk_max, bytes);
        }
        if (!bench->slices) {
            rocksdb_property_int_cf(bench->db, bench->history[0], "rocksdb.live-sst-files-size",
                                    &history);
        }
        if (history > wanted) {
            hand_step(bench, options, cursor, &cursor_size);
        } else {
            clock_sleep_ns(PAUSE_NS);
        }
    }
    rocksdb_compactoptions_destroy(options);
    return NULL;
}

// ---- a run -------------------------------------------------------------------------------------

// All that this process has written to files, RocksDB's flushes and compactions.
static uint64_t written_bytes(void)
{
    FILE *file = fopen("/proc/self/io", "r");
    uint64_t bytes = 0;
    char line[128];
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        (void)sscanf(line, "wchar: %" SCNu64, &bytes);
    }
    CHECK(file != NULL && bytes > 0);
    fclose(file);
    return bytes;
}

static int compare_u32(const void *a, const void *b)
{
    return (*(const uint32_t *)a > *(const uint32_t *)b) -
           (*(const uint32_t *)a < *(const uint32_t *)b);
}

static void open_database(struct bench *bench, rocksdb_cache_t *cache)
{
    bench->options = make_options(cache);
    bench->history_options = make_options(cache);
    if (!bench->slices) {
        rocksdb_options_set_compaction_filter_factory(
            bench->history_options,
            rocksdb_compactionfilterfactory_create(bench, nothing, filter_begin, filter_name));
    }
    const char *name = "default";
    char *text = NULL;
    bench->db = rocksdb_open_column_families(
        bench->options, bench->directory, 1, &name,
        (const rocksdb_options_t *const *)&bench->options, &bench->rows, &text);
    must(text);
    bench->read = rocksdb_readoptions_create();
    rocksdb_readoptions_set_total_order_seek(bench->read, 1);
    bench->write = rocksdb_writeoptions_create();
    rocksdb_writeoptions_disable_WAL(bench->write, 1);
    add_slice(bench);
}

static void close_database(struct bench *bench)
{
    for (uint64_t i = bench->first; i < bench->end; i++) {
        rocksdb_column_family_handle_destroy(bench->history[i % HANDLES]);
    }
    rocksdb_column_family_handle_destroy(bench->rows);
    rocksdb_close(bench->db);
    rocksdb_options_destroy(bench->options);
    rocksdb_options_destroy(bench->history_options);
    rocksdb_readoptions_destroy(bench->read);
    rocksdb_writeoptions_destroy(bench->write);
}

static void overwrite_all(struct bench *bench, struct figures *ret_figures)
{
    rocksdb_writebatch_t *batch = rocksdb_writebatch_create();
    uint64_t half = bench->overwrites / 2, started_ns = 0, written = 0;
    while (bench->index < bench->overwrites) {
        if (!bench->measured && bench->index >= half) {
            started_ns = clock_mono_ns();
            written = written_bytes();
            bench->measured = true;
        }
        turn_slices(bench);
        overwrite_batch(bench, batch);
    }
    double took_s = (double)(clock_mono_ns() - started_ns) / NS_PER_S;
    double user = (double)(bench->overwrites - half) * (VALUE_BYTES + 8);
    ret_figures->overwrites_s = (double)(bench->overwrites - half) / took_s;
    ret_figures->amplification = (double)(written_bytes() - written) / user;
    rocksdb_writebatch_destroy(batch);
}

static struct figures run(struct bench bench, rocksdb_cache_t *cache)
{
    struct figures figures = {0};
    bench.latency_capacity = 8 * MIB;
    bench.latencies_ns = mem_alloc(bench.latency_capacity * sizeof *bench.latencies_ns);
    bench.versions = mem_zalloc(bench.keys * sizeof *bench.versions);
    pthread_rwlock_init(&bench.lock, NULL);
    open_database(&bench, cache);
    load_keys(&bench);
    pthread_t reader, hand;
    CHECK(pthread_create(&reader, NULL, reader_main, &bench) == 0);
    CHECK(pthread_create(&hand, NULL, hand_main, &bench) == 0);
    overwrite_all(&bench, &figures);
    bench.stop = true;
    pthread_join(reader, NULL);
    pthread_join(hand, NULL);
    qsort(bench.latencies_ns, bench.latency_count, sizeof *bench.latencies_ns, compare_u32);
    CHECK(bench.latency_count > 0 && bench.disk_count > 0);
    figures.p50_us = bench.latencies_ns[bench.latency_count / 2] / 1e3;
    figures.p99_us = bench.latencies_ns[bench.latency_count / 100 * 99] / 1e3;
    figures.disk_mean_mb = (double)bench.disk_sum / (double)bench.disk_count / 1e6;
    figures.disk_max_mb = (double)bench.disk_max / 1e6;
    close_database(&bench);
    CHECK(disk_remove(bench.directory) == OK);
    pthread_rwlock_destroy(&bench.lock);
    mem_free(bench.latencies_ns);
    mem_free(bench.versions);
    return figures;
}

static int compare_double(const void *a, const void *b)
{
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

// The median of each figure by itself.
static struct figures median(const struct figures runs[RUNS])
{
    double result[FIGURES];
    for (size_t i = 0; i < FIGURES; i++) {
        double values[RUNS];
        for (size_t k = 0; k < RUNS; k++) {
            values[k] = ((const double *)&runs[k])[i];
        }
        qsort(values, RUNS, sizeof values[0], compare_double);
        result[i] = values[RUNS / 2];
    }
    return *(struct figures *)result;
}

int main(int count, char **arguments)
{
    if (count < 2 || count > 4) {
        fprintf(stderr, "usage: history_cost DIR [KEYS [OVERWRITES]]\n");
        return 2;
    }
    char *directory = mem_format("%s/history_cost", arguments[1]);
    struct bench bench = {.directory = directory, .random = 1};
    bench.keys = count > 2 ? strtoull(arguments[2], NULL, 10) : 1000000;
    bench.overwrites = count > 3 ? strtoull(arguments[3], NULL, 10) : 3 * bench.keys;
    bench.kept = bench.overwrites / KEPT_SHARE;
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(CACHE_BYTES);
    struct figures all[2][RUNS];
    for (unsigned i = 0; i < RUNS; i++) { // in turn, so that a bad minute hits both
        for (unsigned slices = 0; slices < 2; slices++) {
            bench.slices = slices == 1;
            all[slices][i] = run(bench, cache);
        }
    }
    printf("%" PRIu64 " keys of %d B, %" PRIu64 " overwrites, the last %" PRIu64
           " kept as history; medians of %d runs\n",
           bench.keys, VALUE_BYTES, bench.overwrites, bench.kept, RUNS);
    printf("%-8s %10s %10s %14s %13s %9s %9s\n", "", "disk MB", "most MB", "written/user B",
           "overwrites/s", "p50 us", "p99 us");
    for (unsigned slices = 0; slices < 2; slices++) {
        struct figures f = median(all[slices]);
        printf("%-8s %10.0f %10.0f %14.2f %13.0f %9.1f %9.1f\n", slices == 1 ? "slices" : "filter",
               f.disk_mean_mb, f.disk_max_mb, f.amplification, f.overwrites_s, f.p50_us, f.p99_us);
    }
    rocksdb_cache_destroy(cache);
    mem_free(directory);
    return 0;
}
