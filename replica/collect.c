// SPDX-License-Identifier: Apache-2.0
#include "replica/collect.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/base/task.h"
#include "replica/mvcc.h"

#define GARBAGE_SHARE 4        // a sweep begins when a row in so many is garbage
#ifndef HISTORY_SMALL_BYTES // simulations make it smaller
#define HISTORY_SMALL_BYTES MIB // less on disk is left to compactions of their own accord
#endif
#define REST_FACTOR 3          // the rest after a step, in times its length
#define SHOWN_NS (10 * NS_PER_MS)
#define CHECK_NS (2 * NS_PER_S) // how often the size is looked at
#define ERROR_NS (30 * NS_PER_S)
#define NOT_SWEPT UINT64_MAX
#define CUT_SLACK 64           // of 1024: how far below the limit a cut aims

void collector_open(struct collector *collector, struct history *history)
{
    *collector = (struct collector){.history = history};
}

void collector_close(struct collector *collector) { buf_free(&collector->place); }

// ---- one stretch -------------------------------------------------------------------------------

static int bottom_level(const struct store_files *files)
{
    int level = 0;
    for (size_t i = 0; i < files->count; i++) {
        level = files->files[i].level > level ? files->files[i].level : level;
    }
    return level;
}

// The end of the stretch at the sweep's place: the last key of the bottom file there. False: no
// bottom file lies behind that one, the stretch goes to the end of all keys.
static bool stretch_end(const struct store_files *files, struct bytes place, struct bytes *ret_end)
{
    int bottom = bottom_level(files);
    const struct store_file *found = NULL;
    bool more = false;
    for (size_t i = 0; i < files->count; i++) {
        const struct store_file *file = &files->files[i];
        if (bottom == 0 || file->level != bottom || bytes_compare(file->largest, place) < 0) {
            continue;
        }
        more = more || found != NULL;
        if (found == NULL || bytes_compare(file->largest, found->largest) < 0) {
            found = file;
        }
    }
    if (more) {
        *ret_end = found->largest;
    }
    return more;
}

static void sweep_end(struct collector *collector, struct store *store, uint64_t rows_in_files)
{
    struct history_size size;
    struct store_sizes sizes;
    history_size(collector->history, &size);
    store_sizes(store, &sizes);
    collector->overfull = sizes.family_bytes[REPLICA_MVCC] >
                          collector->history->instance->options->history_bytes;
    uint64_t known = collector->rows + size.added - collector->added;
    collector->kept = rows_in_files > known ? rows_in_files - known : 0;
    collector->sweeping = false;
}

static uint64_t sweep_step(struct collector *collector, struct store *store,
                           const struct store_files *files)
{
    struct instance *instance = collector->history->instance;
    struct bytes end = bytes_of(NULL, 0);
    bool more = stretch_end(files, buf_bytes(&collector->place), &end);
    uint64_t start_ns = clock_mono_ns();
    int error = store_compact(store, REPLICA_MVCC, buf_bytes(&collector->place), end);
    if (error != OK) {
        collector->sweeping = false;
        collector->floor = NOT_SWEPT;
        if (error == ERR_STOPPED) {
            return CHECK_NS; // the instance ends, or has another store
        }
        LOG_GATED(&collector->error_gate, LOG_WARN, instance->name,
                  "collecting history failed, it is tried again later: %s", error_text(error));
        return ERROR_NS;
    }
    METRIC_ADD(instance->metrics, instance, history_compactions, 1);
    buf_clear(&collector->place);
    if (more) { // behind the last key: that key and a zero byte
        buf_append_bytes(&collector->place, end);
        buf_append(&collector->place, "", 1);
    } else {
        struct store_files left;
        store_files(store, REPLICA_MVCC, &left);
        sweep_end(collector, store, history_rows(&left));
        store_files_free(&left);
    }
    return (clock_mono_ns() - start_ns) * REST_FACTOR;
}

// ---- whether to sweep --------------------------------------------------------------------------

static void sweep_begin(struct collector *collector, const struct history_size *size)
{
    collector->sweeping = true;
    collector->floor = size->floor;
    collector->rows = size->rows;
    collector->added = size->added;
    buf_clear(&collector->place);
}

// Decides on a sweep; raises the floor where even a complete one leaves too much.
static void consider(struct collector *collector, const struct store_files *files, uint64_t bytes)
{
    struct history *history = collector->history;
    uint64_t limit = history->instance->options->history_bytes;
    struct history_size size;
    history_size(history, &size);
    uint64_t in_files = history_rows(files);
    uint64_t known = size.rows + collector->kept;
    uint64_t garbage = in_files > known ? in_files - known : 0;
    bool swept = collector->floor == size.floor;
    bool full = bytes > limit;
    // By age the floor may rise during each sweep: then none is ever complete up to the newest.
    if (full && (swept || collector->overfull)) {
        collector->overfull = false;
        uint64_t excess = (uint64_t)((double)(bytes - limit) / (double)bytes * 1024);
        if (!history_cut(history, u64_min(excess + CUT_SLACK, 1024))) {
            return;
        }
    } else if (!swept && (full || garbage > in_files / GARBAGE_SHARE)) {
        sweep_begin(collector, &size);
    }
}

static uint64_t step(struct collector *collector, struct store *store)
{
    struct history *history = collector->history;
    struct instance *instance = history->instance;
    if (!history_shown(history)) {
        return SHOWN_NS; // a sweep now would have to be made again
    }
    struct store_sizes sizes;
    store_sizes(store, &sizes);
    uint64_t bytes = sizes.family_bytes[REPLICA_MVCC];
    uint64_t pause_ns = u64_min(history_pause_ns(history), CHECK_NS);
    if (bytes < HISTORY_SMALL_BYTES && bytes <= instance->options->history_bytes) {
        collector->sweeping = false;
        return pause_ns;
    }
    struct store_files files;
    store_files(store, REPLICA_MVCC, &files);
    if (!collector->sweeping) {
        consider(collector, &files, bytes);
    }
    if (!history_shown(history)) {
        pause_ns = SHOWN_NS;
    } else if (collector->sweeping) {
        pause_ns = sweep_step(collector, store, &files);
    }
    store_files_free(&files);
    return pause_ns;
}

uint64_t collector_step(struct collector *collector)
{
    struct volume *volume = instance_volume(collector->history->instance);
    uint64_t pause_ns = step(collector, volume->store);
    volume_release(volume);
    return pause_ns;
}
