// SPDX-License-Identifier: Apache-2.0
// What lies under a model store: disks with versions of rows, what of them was flushed, who still
// reads old ones, compactions, faults. store_model.c gives it the face of common/data/store.h.
//
// A write has a sequence number. What is flushed is a number too: a crash takes back all above it.
#ifndef QS_TESTS_SIM_MODEL_DISK_H
#define QS_TESTS_SIM_MODEL_DISK_H

#include "tests/sim/model_rows.h"
#include "tests/sim/store_model.h"

#define DISK_STATE STORE_FAMILIES_MAX // the family of the state row

struct model_fault {
    bool planned;
    unsigned after;
    int error;
};

// A compaction that came by itself and is under way.
struct model_pass {
    bool under_way;
    void *own;         // the filter's
    uint64_t sequence; // it sees nothing newer
};

struct model_disk {
    struct model_disk *next;
    char *directory; // NULL: a ghost
    unsigned family_count; // 0: never opened
    const struct store_filter *filters[STORE_FAMILIES_MAX]; // of the store that has it open
    struct rows families[STORE_FAMILIES_MAX + 1];
    uint64_t new_bytes[STORE_FAMILIES_MAX]; // not flushed
    uint64_t sequence, flushed;
    uint64_t beside; // where the families other than the first are flushed; at least `flushed`
    uint64_t filterings;
    uint64_t *pins; // sequences that somebody reads at, sorted
    size_t pin_count, pin_capacity;
    unsigned iterators;
    struct stale_row *stale; // to be pruned once no iterator is open
    size_t stale_count, stale_capacity;
    struct model_pass passes[STORE_FAMILIES_MAX];
    struct model_fault faults[STORE_MODEL_CALLS];
    bool open;
    int broken; // what has failed: all writes say so until it is opened again
    bool full;
};

struct stale_row {
    unsigned family;
    struct row *row;
};

struct model_disk *disk_find(const char *directory); // made when missing
void disk_close(struct model_disk *disk);            // a ghost is freed

// Counts the call and says how it is to fail.
int disk_fault(struct model_disk *disk, enum store_model_call call) MUST_CHECK;
// True once in `odds` times.
bool disk_chance(unsigned odds);
uint64_t disk_random(void);
struct store_model_counts *disk_counts(void);
const struct store_model_odds *disk_odds(void);

// `blob` is taken; NULL deletes.
void disk_put(struct model_disk *disk, unsigned family, struct bytes key, struct blob *blob);
int disk_flush(struct model_disk *disk) MUST_CHECK;
// All families but the first, as RocksDB may in a crash between the files and what names them.
void disk_flush_beside(struct model_disk *disk);
void disk_pin(struct model_disk *disk, uint64_t sequence);
void disk_unpin(struct model_disk *disk, uint64_t sequence);
void disk_iterators(struct model_disk *disk, int change);
// Lets versions go that nobody can read any more, and the row with its last one.
void disk_prune(struct model_disk *disk, unsigned family, struct row *row);

// ---- model_compact.c ---------------------------------------------------------------------------

// Compactions that come by themselves: some step of one.
void disk_compact_some(struct model_disk *disk);
void disk_compact_end(struct model_disk *disk); // of those under way, before closing
int disk_compact(struct model_disk *disk, unsigned family, struct bytes lower,
                 struct bytes upper) MUST_CHECK;

#endif
