// SPDX-License-Identifier: Apache-2.0
// One council, root 0 of three, and facts told by hand: what it wants done since it was asked last,
// and the ways to an elected and a leading one.
#ifndef QS_TESTS_UNIT_COUNCIL_FIXTURE_H
#define QS_TESTS_UNIT_COUNCIL_FIXTURE_H

#include "common/roots/council.h"
#include "tests/unit/support.h"

struct seen {
    uint32_t acts; // bits of council_act
    struct council_action last[COUNCIL_ACTS];
    uint32_t to[COUNCIL_ACTS]; // sets of roots
};

SUPPORT struct seen drain(struct council *council)
{
    struct seen seen = {0};
    struct council_action action;
    while (council_next(council, &action)) {
        seen.acts |= (uint32_t)1 << action.act;
        seen.last[action.act] = action;
        seen.to[action.act] |= action.root == ROOT_NOBODY ? 0 : ROOT_BIT(action.root);
    }
    return seen;
}

SUPPORT bool saw(const struct seen *seen, enum council_act act)
{
    return (seen->acts & ((uint32_t)1 << act)) != 0;
}

SUPPORT struct leadership led(uint64_t epoch, unsigned leader)
{
    return (struct leadership){.epoch = epoch, .leader = leader};
}

// Root 0 of three, which promised `promised`; blocks to 10, of them 8 committed.
SUPPORT void open_council(struct council *council, struct leadership promised, bool blank)
{
    const struct council_setup setup = {.roots = 3, .in_sync_min = 2, .promote_min = 2};
    struct promise promise = {.leadership = promised, .generation = 5, .blank = blank};
    memcpy(promise.history, test_history, HISTORY_ID_BYTES);
    struct log_end end = {.epoch = 1, .block = 10};
    council_open(council, &setup, &promise, &end, 8);
}

SUPPORT struct root_record record_of(struct leadership leadership, uint32_t set,
                                    uint64_t generation)
{
    struct root_record record = {
        .leadership = leadership, .in_sync = set, .generation = generation};
    memcpy(record.history, test_history, HISTORY_ID_BYTES);
    return record;
}

// Answers reads with the record, and keeps promises, until there is neither.
SUPPORT struct seen settle(struct council *council, const struct root_record *record,
                          uint64_t modify_index)
{
    struct seen all = {0};
    for (;;) {
        struct seen seen = drain(council);
        all.acts |= seen.acts;
        for (unsigned i = 0; i < COUNCIL_ACTS; i++) {
            all.to[i] |= seen.to[i];
            if (saw(&seen, i)) {
                all.last[i] = seen.last[i];
            }
        }
        if (saw(&seen, COUNCIL_PROMISE)) {
            council_promised(council);
        }
        if (saw(&seen, COUNCIL_READ)) {
            council_record(council, seen.last[COUNCIL_READ].ticket, record, modify_index);
        }
        if (!saw(&seen, COUNCIL_PROMISE) && !saw(&seen, COUNCIL_READ)) {
            return all;
        }
    }
}

SUPPORT struct promise granting(struct leadership leadership, bool blank)
{
    return (struct promise){.leadership = leadership, .blank = blank};
}

// Root 0 is elected in epoch 2 by the record's set {0, 1, 2}.
SUPPORT struct root_record elect(struct council *council)
{
    struct root_record record = record_of(led(1, 1), 7, 5);
    open_council(council, led(1, 1), false);
    (void)settle(council, &record, 20);
    council_tick(council, true, 0);
    struct seen seen = settle(council, &record, 20);
    assert_true(saw(&seen, COUNCIL_CHANGE));
    assert_int_equal(seen.last[COUNCIL_CHANGE].modify_index, 20);
    record = seen.last[COUNCIL_CHANGE].record;
    assert_true(leadership_equal(record.leadership, led(2, 0)));
    assert_int_equal(record.generation, 6);
    council_changed(council, seen.last[COUNCIL_CHANGE].ticket, OK);
    seen = settle(council, &record, 21);
    assert_int_equal(seen.last[COUNCIL_ROLE].role, COUNCIL_ELECTED);
    assert_int_equal(seen.to[COUNCIL_CLAIM], 6);
    return record;
}

// ... and leads; the others have promised, and their blocks end where its own do.
SUPPORT struct root_record lead(struct council *council)
{
    struct root_record record = elect(council);
    struct promise promise = granting(led(2, 0), false);
    struct log_end end = {.epoch = 1, .block = 10};
    council_on_answer(council, 1, true, &promise, &end);
    council_on_answer(council, 2, true, &promise, &end);
    struct seen seen = drain(council);
    assert_true(saw(&seen, COUNCIL_OPEN));
    end = (struct log_end){.epoch = 1, .block = 10};
    council_journal(council, &end, 11);
    council_opened(council, led(2, 0), 11);
    return record;
}

SUPPORT void sync_own(struct council *council, uint64_t block)
{
    struct log_end end = {.epoch = 2, .block = block};
    council_journal(council, &end, block);
}

#endif
