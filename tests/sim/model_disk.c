// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/model_disk.h"

#define FLIP_TRIES 16

// One simulated world in a process, one thread.
static struct model_disk *disks;
static struct store_model_odds odds;
static struct store_model_counts counts;
static uint64_t random_state;

uint64_t disk_random(void) { return model_random(&random_state); }

bool disk_chance(unsigned one_in) { return one_in > 0 && disk_random() % one_in == 0; }

struct store_model_counts *disk_counts(void) { return &counts; }

static struct model_disk *find(const char *directory)
{
    struct model_disk *disk = disks;
    while (disk != NULL && strcmp(disk->directory, directory) != 0) {
        disk = disk->next;
    }
    return disk;
}

static struct model_disk *disk_new(const char *directory)
{
    struct model_disk *disk = disk_zalloc(sizeof *disk);
    size_t size = strlen(directory) + 1;
    disk->directory = disk_alloc(size);
    memcpy(disk->directory, directory, size);
    disk->next = disks;
    disks = disk;
    return disk;
}

struct model_disk *disk_find(const char *directory)
{
    struct model_disk *disk = find(directory);
    return disk != NULL ? disk : disk_new(directory);
}

static void disk_free(struct model_disk *disk)
{
    CHECK(!disk->open);
    for (unsigned family = 0; family <= DISK_STATE; family++) {
        rows_free(&disk->families[family]);
    }
    mem_free(disk->pins);
    mem_free(disk->stale);
    mem_free(disk->directory);
    mem_free(disk);
}

static void unlink_disk(struct model_disk *disk)
{
    struct model_disk **place = &disks;
    while (*place != disk) {
        place = &(*place)->next;
    }
    *place = disk->next;
}

void disk_close(struct model_disk *disk)
{
    CHECK(disk->pin_count == 0 && disk->iterators == 0);
    disk->open = false;
    if (disk->directory == NULL) {
        disk_free(disk);
    }
}

// ---- faults ------------------------------------------------------------------------------------

static int fault_of(struct model_disk *disk, enum store_model_call call)
{
    struct model_fault *fault = &disk->faults[call];
    if (fault->planned && fault->after-- == 0) {
        fault->planned = false;
        return fault->error;
    }
    bool writes = call == STORE_MODEL_WRITE || call == STORE_MODEL_FLUSH ||
                  call == STORE_MODEL_COMPACT;
    if (writes && (disk->full || disk_chance(odds.disk_full))) {
        return ERR_DISK_FULL;
    }
    return call != STORE_MODEL_OPEN && disk_chance(odds.io_error) ? ERR_IO : OK;
}

int disk_fault(struct model_disk *disk, enum store_model_call call)
{
    counts.calls[call]++;
    if (call != STORE_MODEL_READ && (disk->directory == NULL || disk->broken != OK)) {
        return disk->broken != OK ? disk->broken : ERR_IO;
    }
    int error = fault_of(disk, call);
    counts.faults += error != OK;
    if (error != OK && error != ERR_DISK_FULL && call != STORE_MODEL_READ &&
        call != STORE_MODEL_OPEN) {
        disk->broken = error;
    }
    return error;
}

void store_model_fail(const char *directory, enum store_model_call call, unsigned after, int error)
{
    disk_find(directory)->faults[call] = (struct model_fault){true, after, error};
}

void store_model_full(const char *directory, bool full) { disk_find(directory)->full = full; }

// ---- who reads what ----------------------------------------------------------------------------

// The first pin at or above `sequence`.
static size_t pin_place(const struct model_disk *disk, uint64_t sequence)
{
    size_t low = 0, high = disk->pin_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (disk->pins[middle] < sequence) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

void disk_pin(struct model_disk *disk, uint64_t sequence)
{
    if (disk->pin_count == disk->pin_capacity) {
        disk->pin_capacity = disk->pin_capacity == 0 ? 8 : 2 * disk->pin_capacity;
        disk->pins = disk_realloc(disk->pins, disk->pin_capacity * sizeof disk->pins[0]);
    }
    size_t place = pin_place(disk, sequence);
    memmove(disk->pins + place + 1, disk->pins + place,
            (disk->pin_count - place) * sizeof disk->pins[0]);
    disk->pins[place] = sequence;
    disk->pin_count++;
}

void disk_unpin(struct model_disk *disk, uint64_t sequence)
{
    size_t place = pin_place(disk, sequence);
    CHECK(place < disk->pin_count && disk->pins[place] == sequence);
    disk->pin_count--;
    memmove(disk->pins + place, disk->pins + place + 1,
            (disk->pin_count - place) * sizeof disk->pins[0]);
}

// Whether somebody reads at a sequence of [first, end); a crash reads at `flushed` and `beside`.
static bool is_pinned(const struct model_disk *disk, uint64_t first, uint64_t end)
{
    size_t place = pin_place(disk, first);
    return (place < disk->pin_count && disk->pins[place] < end) ||
           (first <= disk->flushed && disk->flushed < end) ||
           (first <= disk->beside && disk->beside < end);
}

static void stale_add(struct model_disk *disk, unsigned family, struct row *row)
{
    if (row->stale) {
        return;
    }
    if (disk->stale_count == disk->stale_capacity) {
        disk->stale_capacity = disk->stale_capacity == 0 ? 64 : 2 * disk->stale_capacity;
        disk->stale = disk_realloc(disk->stale, disk->stale_capacity * sizeof disk->stale[0]);
    }
    row->stale = true;
    disk->stale[disk->stale_count++] = (struct stale_row){family, row};
}

void disk_iterators(struct model_disk *disk, int change)
{
    disk->iterators += (unsigned)change;
    while (disk->iterators == 0 && disk->stale_count > 0) {
        struct stale_row *stale = &disk->stale[--disk->stale_count];
        stale->row->stale = false;
        disk_prune(disk, stale->family, stale->row);
    }
}

// The place of the oldest version, NULL when there is none.
static struct row_version **oldest(struct row *row)
{
    struct row_version **place = &row->newest;
    while (*place != NULL && (*place)->older != NULL) {
        place = &(*place)->older;
    }
    return *place != NULL ? place : NULL;
}

// While iterators are open they may stand at the row, and what a filter put aside is theirs.
void disk_prune(struct model_disk *disk, unsigned family, struct row *row)
{
    struct rows *rows = &disk->families[family];
    uint64_t newer = FOR_EVER;
    struct row_version **place = &row->newest;
    while (*place != NULL) {
        struct row_version *version = *place;
        bool live = version->until == FOR_EVER;
        bool needed = live ? newer == FOR_EVER || is_pinned(disk, version->sequence, newer)
                           : disk->iterators > 0;
        newer = live ? version->sequence : newer;
        if (needed) {
            place = &version->older;
        } else {
            row_take(rows, row, place);
        }
    }
    struct row_version **last = oldest(row);
    bool deleted = last == NULL || (*last)->blob == NULL; // and hides nothing
    if (disk->iterators > 0) {
        if (deleted || row->newest->older != NULL) {
            stale_add(disk, family, row);
        }
        return;
    }
    while (last != NULL && deleted) {
        row_take(rows, row, last);
        last = oldest(row);
        deleted = last == NULL || (*last)->blob == NULL;
    }
    if (last == NULL) {
        rows_remove(rows, row);
    }
}

// ---- writing -----------------------------------------------------------------------------------

void disk_put(struct model_disk *disk, unsigned family, struct bytes key, struct blob *blob)
{
    struct rows *rows = &disk->families[family];
    struct row *row = rows_add(rows, key);
    struct row_version version = {.blob = blob,
                                  .sequence = disk->sequence,
                                  .from = disk->filterings,
                                  .until = FOR_EVER};
    row_add(rows, row, &row->newest, version);
    if (family != DISK_STATE) {
        disk->new_bytes[family] += key.size + (blob != NULL ? blob->size : 0);
    }
    disk_prune(disk, family, row);
}

int disk_flush(struct model_disk *disk)
{
    int error = disk_fault(disk, STORE_MODEL_FLUSH);
    if (error == OK) {
        disk->flushed = disk->beside = disk->sequence;
        memset(disk->new_bytes, 0, sizeof disk->new_bytes);
    }
    return error;
}

void disk_flush_beside(struct model_disk *disk) { disk->beside = disk->sequence; }

// ---- the panel ---------------------------------------------------------------------------------

void store_model_reset(uint64_t seed)
{
    while (disks != NULL) {
        struct model_disk *disk = disks;
        disk->open = false;
        unlink_disk(disk);
        disk_free(disk);
    }
    odds = (struct store_model_odds){0};
    counts = (struct store_model_counts){0};
    random_state = seed;
}

void store_model_odds(const struct store_model_odds *new_odds) { odds = *new_odds; }

const struct store_model_odds *disk_odds(void) { return &odds; }

struct store_model_counts store_model_counts(void) { return counts; }

// Takes the disk from its directory.
static void remove_disk(struct model_disk *disk)
{
    unlink_disk(disk);
    if (!disk->open) {
        disk_free(disk);
        return;
    }
    mem_free(disk->directory);
    disk->directory = NULL;
}

// What is flushed in `from` as a disk of its own.
static void copy_flushed(const struct model_disk *from, struct model_disk *to)
{
    to->family_count = from->family_count;
    to->full = from->full;
    to->sequence = to->flushed = to->beside = from->flushed;
    for (unsigned family = 0; family <= DISK_STATE; family++) {
        bool beside = family > 0 && family != DISK_STATE;
        uint64_t sequence = beside ? from->beside : from->flushed;
        struct row *row = from->families[family].first[0];
        for (; row != NULL; row = row->next[0]) {
            const struct row_version *version = row_at(row, sequence, FOR_EVER);
            if (version == NULL || version->blob == NULL) {
                continue;
            }
            struct row_version copy = *version;
            copy.blob = blob_hold(version->blob);
            copy.from = 0;
            copy.sequence = u64_min(copy.sequence, to->sequence);
            struct row *copied = rows_add(&to->families[family], row_key(row));
            row_add(&to->families[family], copied, &copied->newest, copy);
        }
    }
}

void store_model_crash(const char *directory, bool ghost)
{
    struct model_disk *disk = find(directory);
    if (disk == NULL) {
        return;
    }
    disk->open &= ghost;
    counts.crashes++;
    counts.lost += disk->sequence - disk->flushed;
    counts.beside += disk->beside > disk->flushed;
    copy_flushed(disk, disk_new(directory));
    remove_disk(disk);
}

void store_model_wipe(const char *directory, bool ghost)
{
    struct model_disk *disk = find(directory);
    if (disk != NULL) {
        disk->open &= ghost;
        remove_disk(disk);
    }
}

static void each_disk(const char *prefix, void (*call)(const char *directory, bool ghost))
{
    // A crash puts a new disk in front, so those that follow are still to come.
    struct model_disk *next;
    for (struct model_disk *disk = disks; disk != NULL; disk = next) {
        next = disk->next;
        if (disk->directory != NULL && strncmp(disk->directory, prefix, strlen(prefix)) == 0) {
            char *directory = mem_text(disk->directory);
            call(directory, false);
            mem_free(directory);
        }
    }
}

static void calm(const char *directory, bool ghost)
{
    (void)ghost;
    struct model_disk *disk = disk_find(directory);
    memset(disk->faults, 0, sizeof disk->faults);
}

void store_model_calm_all(const char *prefix) { each_disk(prefix, calm); }

void store_model_crash_all(const char *prefix) { each_disk(prefix, store_model_crash); }

void store_model_wipe_all(const char *prefix) { each_disk(prefix, store_model_wipe); }

void store_model_copy(const char *from, const char *to)
{
    struct model_disk *old = find(to);
    if (old != NULL) {
        CHECK(!old->open);
        remove_disk(old);
    }
    copy_flushed(disk_find(from), disk_new(to));
}

struct bytes store_model_flip(const char *directory, unsigned family, bool silent)
{
    struct model_disk *disk = disk_find(directory);
    const struct row *row = NULL;
    struct row_version *version = NULL;
    for (unsigned tries = 0; tries < FLIP_TRIES && version == NULL; tries++) {
        row = rows_any(&disk->families[family], &random_state);
        version = row != NULL ? row_at(row, disk->flushed, FOR_EVER) : NULL;
        bool empty = version == NULL || version->blob == NULL || version->blob->size == 0;
        version = empty ? NULL : version;
    }
    if (version == NULL) {
        return (struct bytes){0};
    }
    if (silent) {
        struct blob *blob = blob_new(bytes_of(version->blob->data, version->blob->size));
        blob->data[disk_random() % blob->size] ^= (uint8_t)(1u << disk_random() % 8);
        blob_release(version->blob); // readers may hold it
        version->blob = blob;
    }
    version->damaged = !silent;
    return row_key(row);
}
