// SPDX-License-Identifier: Apache-2.0
// Compactions of a model disk, which run filters: those that come by themselves, and on request.
#include "tests/sim/model_disk.h"

#define SOME_ROWS 8 // at most in one step

// Shows a version to the filter and does what it says. False: the row is damaged.
static bool filter_version(struct model_disk *disk, unsigned family, void *own, struct row *row,
                           struct row_version **place)
{
    struct row_version *version = *place;
    if (version->damaged) {
        disk->broken = ERR_CORRUPT;
        return false;
    }
    struct bytes changed = {0};
    struct bytes value = bytes_of(version->blob->data, version->blob->size);
    enum store_verdict verdict =
        disk->filters[family]->judge(own, row_key(row), value, &changed);
    disk_counts()->seen++;
    if (verdict == STORE_KEEP) {
        return true;
    }
    disk_counts()->changed += verdict == STORE_CHANGE;
    disk_counts()->dropped += verdict == STORE_DROP;
    disk->filterings++;
    struct row_version filtered = *version;
    filtered.blob = verdict == STORE_CHANGE ? blob_new(changed) : NULL;
    filtered.from = disk->filterings;
    version->until = disk->filterings;
    row_add(&disk->families[family], row, place, filtered);
    return true;
}

// The version that a compaction sees of a row when it sees nothing above `sequence`; sometimes an
// older one, as the files with the newer ones may have no part in it.
static struct row_version **visible_place(struct row *row, uint64_t sequence, bool any_subset)
{
    struct row_version **found = NULL;
    for (struct row_version **at = &row->newest; *at != NULL; at = &(*at)->older) {
        if ((*at)->until != FOR_EVER || (*at)->sequence > sequence) {
            continue;
        }
        if (found != NULL && !disk_chance(4)) {
            break;
        }
        found = at;
        if (!any_subset) {
            break;
        }
    }
    return found != NULL && (*found)->blob != NULL ? found : NULL;
}

// False: it met damage.
static bool compact_row(struct model_disk *disk, unsigned family, const struct model_pass *pass,
                        struct row *row, bool any_subset)
{
    bool intact = true;
    if (disk->filters[family] != NULL) {
        struct row_version **place = visible_place(row, pass->sequence, any_subset);
        intact = place == NULL || filter_version(disk, family, pass->own, row, place);
    }
    disk_prune(disk, family, row);
    return intact;
}

static void pass_begin(struct model_disk *disk, unsigned family, struct model_pass *ret_pass)
{
    const struct store_filter *filter = disk->filters[family];
    *ret_pass = (struct model_pass){.under_way = true, .sequence = disk->flushed};
    ret_pass->own = filter != NULL ? filter->begin(filter->argument) : NULL;
}

static void pass_end(struct model_disk *disk, unsigned family, struct model_pass *pass)
{
    if (disk->filters[family] != NULL) {
        disk->filters[family]->end(pass->own);
    }
    *pass = (struct model_pass){0};
}

void disk_compact_some(struct model_disk *disk)
{
    unsigned family = (unsigned)(disk_random() % disk->family_count);
    struct model_pass *pass = &disk->passes[family];
    if (!pass->under_way) {
        disk_counts()->own_compactions++;
        pass_begin(disk, family, pass);
    }
    for (uint64_t left = disk_random() % (SOME_ROWS + 1); left > 0; left--) {
        uint64_t chosen = disk_random();
        struct row *row = rows_any(&disk->families[family], &chosen);
        if (row == NULL || !compact_row(disk, family, pass, row, true)) {
            break;
        }
    }
    if (disk_chance(2)) {
        pass_end(disk, family, pass);
    }
}

void disk_compact_end(struct model_disk *disk)
{
    for (unsigned family = 0; family < disk->family_count; family++) {
        if (disk->passes[family].under_way) {
            pass_end(disk, family, &disk->passes[family]);
        }
    }
}

static bool in_range(const struct row *row, struct bytes upper)
{
    return row != NULL && (upper.size == 0 || bytes_compare(row_key(row), upper) <= 0);
}

int disk_compact(struct model_disk *disk, unsigned family, struct bytes lower, struct bytes upper)
{
    struct row *first = rows_seek(&disk->families[family], lower);
    // Without bounds the state row is in the range, or RocksDB does not look.
    bool unflushed = (lower.size == 0 || upper.size == 0) && disk->sequence > disk->flushed;
    for (const struct row *row = first; in_range(row, upper); row = row->next[0]) {
        unflushed |= row->newest != NULL && row->newest->sequence > disk->flushed;
    }
    int error = disk_fault(disk, STORE_MODEL_COMPACT);
    uint64_t left = error == OK ? FOR_EVER : disk_random() % SOME_ROWS;
    if (error == OK && unflushed) {
        error = disk_flush(disk);
        left = error == OK ? FOR_EVER : 0;
    }
    struct model_pass pass;
    pass_begin(disk, family, &pass);
    for (struct row *row = first, *next; in_range(row, upper) && left > 0; row = next, left--) {
        next = row->next[0];
        if (!disk_chance(disk_odds()->missed) && !compact_row(disk, family, &pass, row, false)) {
            error = ERR_IO;
            break;
        }
    }
    pass_end(disk, family, &pass);
    return error;
}
