// SPDX-License-Identifier: Apache-2.0
#include "bench/mixed_judge.h"

#include <inttypes.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define UNCHECKED_MAX 65536 // rows whose index the writer does not know yet
#define KNOWN_LIMIT_NS (120 * NS_PER_S)

static void judge_row(struct mixed *mixed, const struct mixed_row *row)
{
    struct model_state truth = model_at(mixed->model, row->key, row->index);
    if (row->serial == truth.serial && (row->serial == 0 || row->version == truth.version)) {
        return;
    }
    const char *what = "wrong";
    if (row->serial == 0) {
        what = "absent but present";
        atomic_fetch_add(&mixed->absent_but_present, 1);
    } else if (row->version < truth.version) {
        what = "stale";
        atomic_fetch_add(&mixed->stale, 1);
    } else {
        atomic_fetch_add(&mixed->wrong, 1);
    }
    mixed_fault(mixed,
                "%s: session %u at %s, key %" PRIu64 " at index %" PRIu64 ": write %" PRIu64
                " of version %" PRIu64 ", truth: write %" PRIu64 " of version %" PRIu64,
                what, row->session, mixed->options->nodes[row->node], row->key, row->index,
                row->serial, row->version, truth.serial, truth.version);
}

void mixed_judge_open(struct mixed_judge *judge, struct mixed *mixed)
{
    *judge = (struct mixed_judge){.mixed = mixed};
    judge->rows = mem_alloc(UNCHECKED_MAX * sizeof *judge->rows);
}

void mixed_judge_known(struct mixed_judge *judge)
{
    uint64_t known = model_known(judge->mixed->model);
    while (judge->count > 0 && judge->rows[judge->first].index <= known) {
        judge_row(judge->mixed, &judge->rows[judge->first]);
        judge->first = (judge->first + 1) % UNCHECKED_MAX;
        judge->count--;
    }
}

// Waits until there is room for `rows` more: the writer hears of an index later than readers do,
// but not for long; where it has to find the root again, for as long as that takes.
static void make_room(struct mixed_judge *judge, size_t rows)
{
    uint64_t end = clock_mono_ns() + KNOWN_LIMIT_NS;
    mixed_judge_known(judge);
    while (judge->count + rows > UNCHECKED_MAX) {
        bool late = clock_mono_ns() > end;
        if (late) {
            mixed_fault(judge->mixed, "index %" PRIu64 " was shown, the root did not answer it",
                        judge->rows[judge->first].index);
        }
        if (late || atomic_load(&judge->mixed->failed)) {
            judge->count = 0;
            return;
        }
        clock_sleep_ns(NS_PER_MS);
        mixed_judge_known(judge);
    }
}

void mixed_judge_add(struct mixed_judge *judge, const struct mixed_row *row)
{
    if (judge->count == UNCHECKED_MAX) {
        make_room(judge, 1);
    }
    judge->rows[(judge->first + judge->count++) % UNCHECKED_MAX] = *row;
}

void mixed_judge_close(struct mixed_judge *judge)
{
    make_room(judge, UNCHECKED_MAX);
    CHECK(judge->count == 0);
    mem_free(judge->rows);
}

void mixed_see(struct mixed *mixed, unsigned session, size_t node, uint64_t *seen, uint64_t index,
               const char *how)
{
    if (index < *seen) {
        atomic_fetch_add(&mixed->backward, 1);
        mixed_fault(mixed, "backward: session %u at %s sees %" PRIu64 " by %s after %" PRIu64,
                    session, mixed->options->nodes[node], index, how, *seen);
    }
    *seen = u64_max(*seen, index);
    _Atomic uint64_t *shown = &mixed->shown[node];
    uint64_t before = atomic_load(shown);
    while (before < index && !atomic_compare_exchange_weak(shown, &before, index)) {
    }
}
