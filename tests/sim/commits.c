// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/commits.h"

#include <string.h>

#include "common/core/instance.h"
#include "common/roots/commit.h"

#define REFUSED_MAX 65536
#define MARK_BYTES 8 // of a value that tell its write

#define HISTORIES_MAX 8

// The log of one history.
struct log {
    uint8_t history[HISTORY_ID_BYTES];
    struct hash128 *chains; // by number; zeroes: not known
    uint64_t capacity, last;
};

static struct {
    struct log logs[HISTORIES_MAX]; // in the order in which they began
    unsigned log_count;
    uint64_t refused[REFUSED_MAX]; // marks, open addressing; 0 = free
    unsigned refused_count;
} commits;

void commits_open(void)
{
    memset(&commits, 0, sizeof commits);
}

uint64_t commits_last(void)
{
    return commits.log_count == 0 ? 0 : commits.logs[commits.log_count - 1].last;
}

// ---- blocks ------------------------------------------------------------------------------------

static void grow(struct log *log, uint64_t number)
{
    uint64_t before = log->capacity;
    while (number >= log->capacity) {
        log->capacity = log->capacity == 0 ? 1024 : log->capacity * 2;
    }
    if (log->capacity > before) {
        log->chains = world_realloc(log->chains, log->capacity * sizeof *log->chains);
        memset(log->chains + before, 0, (log->capacity - before) * sizeof *log->chains);
    }
}

static struct log *log_of(const uint8_t history[HISTORY_ID_BYTES])
{
    for (unsigned i = 0; i < commits.log_count; i++) {
        if (memcmp(commits.logs[i].history, history, HISTORY_ID_BYTES) == 0) {
            return &commits.logs[i];
        }
    }
    WORLD_CHECK(commits.log_count < HISTORIES_MAX, "too many histories");
    struct log *log = &commits.logs[commits.log_count++];
    memcpy(log->history, history, HISTORY_ID_BYTES);
    return log;
}

void commits_know(const uint8_t history[HISTORY_ID_BYTES], uint64_t number, struct hash128 chain)
{
    static const struct hash128 nothing;
    const struct node *node = node_of(world_host());
    if (number == 0) {
        return;
    }
    struct log *log = log_of(history);
    grow(log, number);
    struct hash128 *known = &log->chains[number];
    WORLD_CHECK(hash128_equal(*known, nothing) || hash128_equal(*known, chain),
                "n%u takes another block %llu for committed than somebody before", node->number,
                (unsigned long long)number);
    WORLD_CHECK(number <= log->last || node_is_root(node),
                "n%u has block %llu, roots have committed up to block %llu", node->number,
                (unsigned long long)number, (unsigned long long)log->last);
    *known = chain;
    log->last = u64_max(log->last, number);
}

int __real_commit_advance(struct commit *commit, const uint8_t history[HISTORY_ID_BYTES],
                          const struct journal_place *place);
int __wrap_commit_advance(struct commit *commit, const uint8_t history[HISTORY_ID_BYTES],
                          const struct journal_place *place);
int __wrap_commit_advance(struct commit *commit, const uint8_t history[HISTORY_ID_BYTES],
                          const struct journal_place *place)
{
    int error = __real_commit_advance(commit, history, place);
    if (error == OK) {
        commits_know(history, place->number, place->chain);
    }
    return error;
}

// ---- writes that were refused ------------------------------------------------------------------

// The place of a mark, or the free one where it would stand.
static uint64_t *find(uint64_t mark)
{
    size_t at = (size_t)(mark * 0x9e3779b97f4a7c15ull >> 48) % REFUSED_MAX;
    while (commits.refused[at] != 0 && commits.refused[at] != mark) {
        at = (at + 1) % REFUSED_MAX;
    }
    return &commits.refused[at];
}

static uint64_t mark_of(struct bytes value)
{
    uint64_t mark = 0;
    if (value.size >= MARK_BYTES) {
        memcpy(&mark, value.data, MARK_BYTES);
    }
    return mark;
}

static bool in_log(const struct model_key *key, struct bytes value)
{
    for (size_t i = 0; i < key->count; i++) {
        if (key->versions[i].put && bytes_equal(key->versions[i].value, value)) {
            return true;
        }
    }
    return false;
}

void commits_refused(const struct write *write)
{
    for (unsigned i = 0; i < write->count; i++) {
        struct bytes value = write_value(write, i);
        if (!write->operations[i].put || mark_of(value) == 0) {
            continue;
        }
        WORLD_CHECK(!in_log(model_key(write->operations[i].key), value),
                    "a write was refused, and is in the log");
        WORLD_CHECK(commits.refused_count++ < REFUSED_MAX / 2, "too many refused writes");
        *find(mark_of(value)) = mark_of(value);
    }
}

void commits_check(struct bytes value, uint64_t index)
{
    uint64_t mark = mark_of(value);
    WORLD_CHECK(mark == 0 || *find(mark) == 0, "index %llu holds a write that was refused",
                (unsigned long long)index);
}
