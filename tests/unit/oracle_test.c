// SPDX-License-Identifier: Apache-2.0
// Which parent is chosen, as a table; and how often it changes under links that flap, simulated.
#include "tests/unit/support.h"

#include <limits.h>

#include "common/tree/oracle.h"

#define S NS_PER_S
#define MS NS_PER_MS
#define T0 (1000 * S)
#define UNIT (10 * S)
#define HOLD_NS (ORACLE_HOLD * UNIT)
#define REST_NS (ORACLE_REST * UNIT)
#define REST_MAX_NS (ORACLE_REST_MAX * UNIT)

// ---- the order ---------------------------------------------------------------------------------

#define PLAIN .rtt_ns = 20 * MS, .age_ns = S, .depth = 3
#define LATER PLAIN, .order = 9

struct preference {
    const char *what;
    struct prospect first, second;
};

// `first` stands behind in the finder's order but for what is named.
static const struct preference preferences[] = {
    {"the finder's order", {PLAIN}, {LATER}},
    {"deeper hops", {LATER, .hops = 2}, {PLAIN, .hops = 1}},
    {"load", {LATER, .children = 3, .children_max = 8}, {PLAIN, .children = 7, .children_max = 8}},
    {"depth before load",
     {.rtt_ns = MS, .age_ns = S, .depth = 2, .children = 5, .children_max = 8, .order = 9},
     {.rtt_ns = MS, .age_ns = S, .depth = 3}},
    {"a crowded one after depth", {LATER},
     {.rtt_ns = 20 * MS, .age_ns = S, .depth = 1, .children = 6, .children_max = 8}},
    {"the way before a crowded one", {LATER, .children = 8, .children_max = 8},
     {.rtt_ns = 90 * MS, .age_ns = S, .depth = 3}},
    {"no root before depth", {.rtt_ns = MS, .depth = 5, .order = 9},
     {.rtt_ns = MS, .depth = 1, .root = true}},
    {"a near root before a far node", {.rtt_ns = MS, .depth = 1, .root = true, .order = 9},
     {.rtt_ns = 8 * MS, .depth = 2}},
    {"old data after far ways", {.rtt_ns = 200 * MS, .age_ns = S, .order = 9},
     {.rtt_ns = MS, .age_ns = 20 * S, .own_site = true}},
    {"of old data the newer", {.rtt_ns = MS, .age_ns = 20 * S, .order = 9},
     {.rtt_ns = MS, .age_ns = 100 * S}},
    {"young data is all the same", {.rtt_ns = MS, .age_ns = 9 * S}, {.rtt_ns = MS, .order = 9}},
    {"round trips", {.rtt_ns = 20 * MS, .depth = 7, .order = 9}, {.rtt_ns = 60 * MS, .depth = 2}},
    {"... but not by little", {.rtt_ns = 30 * MS}, {.rtt_ns = 20 * MS, .order = 9}},
    {"known before unknown", {.rtt_ns = 300 * MS, .order = 9}, {.rtt_ns = UINT64_MAX}},
    {"no detour before near ways", {.rtt_ns = 200 * MS, .order = 9},
     {.rtt_ns = MS, .detour = DETOUR_SOME}},
    {"a shorter detour before near ways", {.rtt_ns = 90 * MS, .detour = DETOUR_SOME, .order = 9},
     {.rtt_ns = MS, .detour = DETOUR_LONG}},
    {"own site before detours", {.own_site = true, .detour = DETOUR_LONG, .order = 9},
     {.rtt_ns = MS}},
    {"detours before old data", {.rtt_ns = MS, .detour = DETOUR_LONG, .age_ns = S, .order = 9},
     {.rtt_ns = MS, .age_ns = 20 * S}},
    {"own site before the way", {.own_site = true, .rtt_ns = UINT64_MAX, .order = 9},
     {.rtt_ns = MS}},
    {"old data before one's own", {.rtt_ns = 200 * MS, .age_ns = 99 * S, .order = 9},
     {.below = true, .own_site = true, .rtt_ns = MS}},
    {"a lost one last", {.below = true, .rtt_ns = UINT64_MAX, .age_ns = 99 * S, .order = 9},
     {.rests = true, .own_site = true, .rtt_ns = MS}},
};

static void test_order(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(preferences); i++) {
        const struct preference *row = &preferences[i];
        bool right = oracle_before(&row->first, &row->second) &&
                     !oracle_before(&row->second, &row->first) &&
                     !oracle_before(&row->first, &row->first);
        if (!right) {
            fail_msg("%s: not in this order", row->what);
        }
    }
}

// ---- moves -------------------------------------------------------------------------------------

struct change {
    const char *what;
    struct prospect used, other;
    bool worth;
};

static const struct change changes[] = {
    {"half the way", {.rtt_ns = 50 * MS}, {.rtt_ns = 20 * MS}, true},
    {"not half", {.rtt_ns = 50 * MS}, {.rtt_ns = 26 * MS}, false},
    {"half of next to nothing", {.rtt_ns = 4 * MS}, {.rtt_ns = MS / 10}, false},
    {"an unknown way", {.rtt_ns = 50 * MS}, {.rtt_ns = UINT64_MAX}, false},
    {"from an unknown way", {.rtt_ns = UINT64_MAX}, {.rtt_ns = MS}, false},
    {"into the own site", {.rtt_ns = 2 * MS}, {.own_site = true, .rtt_ns = 3 * MS}, true},
    {"out of it", {.own_site = true, .rtt_ns = 50 * MS}, {.rtt_ns = MS}, false},
    {"away from a root", {.root = true, .rtt_ns = MS}, {.rtt_ns = MS}, false},
    {"to one that is full", {.rtt_ns = 50 * MS}, {.rtt_ns = MS, .children = 8, .children_max = 8},
     false},
    {"to one that was lost", {.rtt_ns = 50 * MS}, {.rtt_ns = MS, .rests = true}, false},
    {"to old data", {.rtt_ns = 50 * MS}, {.rtt_ns = MS, .age_ns = 11 * S}, false},
    {"from old data", {.rtt_ns = MS, .own_site = true, .age_ns = 30 * S},
     {.rtt_ns = 90 * MS, .age_ns = S}, true},
    {"from old to unknown data", {.rtt_ns = MS, .age_ns = 30 * S},
     {.rtt_ns = MS, .age_ns = UINT64_MAX}, false},
    {"from a long detour", {.rtt_ns = MS, .detour = DETOUR_LONG}, {.rtt_ns = 90 * MS}, true},
    {"from a little one", {.rtt_ns = MS, .detour = DETOUR_SOME}, {.rtt_ns = 90 * MS}, false},
    {"from one detour to another", {.rtt_ns = 90 * MS, .detour = DETOUR_LONG},
     {.rtt_ns = MS, .detour = DETOUR_SOME}, false},
    {"to a near one that makes a detour", {.rtt_ns = 50 * MS},
     {.rtt_ns = MS, .detour = DETOUR_SOME}, false},
    {"into the own site by a detour", {.rtt_ns = 2 * MS},
     {.own_site = true, .rtt_ns = 3 * MS, .detour = DETOUR_LONG}, true},
    {"to a place that is kept for orphans", {.rtt_ns = 50 * MS},
     {.rtt_ns = MS, .children = 6, .children_max = 8}, false},
    {"to the last one that is not", {.rtt_ns = 50 * MS},
     {.rtt_ns = MS, .children = 5, .children_max = 8}, true},
    {"to one who keeps none, having few", {.rtt_ns = 50 * MS},
     {.rtt_ns = MS, .children = 1, .children_max = 2}, true},
    {"to one who feeds any number", {.rtt_ns = 50 * MS}, {.rtt_ns = MS, .children = 900}, true},
    {"into the own site, to the last place", {.rtt_ns = 50 * MS},
     {.own_site = true, .children = 7, .children_max = 8}, true},
    {"from old data to the last place", {.rtt_ns = MS, .age_ns = 30 * S},
     {.rtt_ns = MS, .age_ns = S, .children = 7, .children_max = 8}, true},
};

static void test_worth_a_move(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(changes); i++) {
        const struct change *row = &changes[i];
        if (oracle_much_better(&row->other, &row->used) != row->worth) {
            fail_msg("%s: should be %d", row->what, row->worth);
        }
    }
}

static void test_patience(void **state)
{
    (void)state;
    struct oracle oracle = {0};
    const struct prospect far = {.rtt_ns = 80 * MS}, near = {.rtt_ns = 5 * MS};
    assert_false(oracle_look(&oracle, &far, NULL, UNIT, T0));
    // It must be the better one all the time.
    assert_false(oracle_look(&oracle, &far, &near, UNIT, T0));
    assert_false(oracle_look(&oracle, &far, &near, UNIT, T0 + HOLD_NS - 1));
    assert_false(oracle_look(&oracle, &far, &far, UNIT, T0 + HOLD_NS));
    assert_false(oracle_look(&oracle, &far, &near, UNIT, T0 + HOLD_NS));
    assert_true(oracle_look(&oracle, &far, &near, UNIT, T0 + 2 * HOLD_NS));
    // The next move comes no sooner than a pause that doubles.
    uint64_t now = T0 + 2 * HOLD_NS, moved = now, before = 0;
    for (unsigned moves = 0; moves < 12; now += S) {
        if (oracle_look(&oracle, &far, &near, UNIT, now)) {
            uint64_t pause = now - moved;
            assert_true(pause >= u64_min(before * 2, REST_MAX_NS));
            assert_true(pause <= REST_MAX_NS + HOLD_NS);
            before = moves == 0 ? REST_NS : u64_min(before * 2, REST_MAX_NS);
            moved = now;
            moves++;
        }
    }
    // After a long quiet time all is forgotten.
    now += ORACLE_FORGET * UNIT;
    assert_false(oracle_look(&oracle, &far, &near, UNIT, now));
    assert_true(oracle_look(&oracle, &far, &near, UNIT, now + HOLD_NS));
    assert_true(oracle_rests(&oracle.moves, UNIT, now + HOLD_NS + REST_NS - 1));
    assert_false(oracle_rests(&oracle.moves, UNIT, now + HOLD_NS + REST_NS));
}

// ---- whole ways ---------------------------------------------------------------------------------

#define UNKNOWN UINT64_MAX

struct comparison {
    const char *what;
    struct prospect used, others[2];
    enum detour expected[3]; // of the one in use, and of the others
};

static const struct comparison comparisons[] = {
    {"none is known", {.way_ns = UNKNOWN}, {{.way_ns = UNKNOWN}, {.way_ns = UNKNOWN}}, {0}},
    {"one is known", {.way_ns = UNKNOWN}, {{.way_ns = 90 * MS}, {.way_ns = UNKNOWN}}, {0}},
    {"a quarter and a little", {.way_ns = 40 * MS}, {{.way_ns = 55 * MS}, {.way_ns = 55 * MS + 1}},
     {DETOUR_NONE, DETOUR_NONE, DETOUR_SOME}},
    {"half and a little", {.way_ns = 65 * MS}, {{.way_ns = 40 * MS}, {.way_ns = 65 * MS - 1}},
     {DETOUR_LONG, DETOUR_NONE, DETOUR_SOME}},
    {"in the root's site all is near", {.way_ns = 5 * MS}, {{.way_ns = 1}, {.way_ns = 5 * MS + 2}},
     {DETOUR_NONE, DETOUR_NONE, DETOUR_LONG}},
    {"out of the own site leads no way", {.way_ns = 80 * MS, .own_site = true},
     {{.way_ns = 10 * MS}, {.way_ns = 70 * MS, .own_site = true}}, {0}},
    {"whoever is of the own site", {.way_ns = 80 * MS},
     {{.way_ns = 10 * MS, .own_site = true}, {.way_ns = 70 * MS}}, {0}},
    {"what is made up", {.way_ns = UINT64_MAX - 1}, {{.way_ns = UINT64_MAX / 2}, {.way_ns = 1}},
     {DETOUR_LONG, DETOUR_LONG, DETOUR_NONE}},
};

static void test_detours(void **state)
{
    (void)state;
    for (unsigned i = 0; i < ARRAY_LEN(comparisons); i++) {
        struct comparison row = comparisons[i];
        oracle_compare_ways(&row.used, row.others, ARRAY_LEN(row.others));
        if (row.used.detour != row.expected[0] || row.others[0].detour != row.expected[1] ||
            row.others[1].detour != row.expected[2]) {
            fail_msg("%s: %d, %d, %d", row.what, row.used.detour, row.others[0].detour,
                     row.others[1].detour);
        }
    }
}

static uint64_t draw(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

// Whatever the ways are, while they stay as they are a few moves end at one that makes no detour.
static void test_moves_come_to_an_end(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (unsigned run = 0; run < 20000; run++) {
        struct prospect nodes[6] = {0};
        unsigned used = 0, moves = 0;
        for (unsigned i = 0; i < ARRAY_LEN(nodes); i++) {
            nodes[i].rtt_ns = draw(&seed) % (300 * MS);
            nodes[i].way_ns = nodes[i].rtt_ns / 2 + draw(&seed) % (200 * MS);
        }
        for (unsigned i = 0; i < ARRAY_LEN(nodes); i++) {
            struct prospect others[ARRAY_LEN(nodes)], seen = nodes[used];
            memcpy(others, nodes, sizeof nodes); // itself is none that it would move to
            oracle_compare_ways(&seen, others, ARRAY_LEN(others));
            if (oracle_much_better(&others[i], &seen)) {
                used = i;
                assert_true(++moves < 12); // one out of a detour, then each time half the way
                i = UINT_MAX; // all again
            }
        }
        struct prospect seen = nodes[used];
        oracle_compare_ways(&seen, nodes, ARRAY_LEN(nodes));
        assert_int_not_equal(seen.detour, DETOUR_LONG);
    }
}

// ---- links that flap ---------------------------------------------------------------------------

// One child, a near parent whose link is up for `up` and down for `down`, a far one that is always
// there; looked at every second. Returns the changes of parent.
static unsigned run_flapping(uint64_t up_ns, uint64_t down_ns, uint64_t for_ns)
{
    struct oracle oracle = {0};
    struct oracle_rest lost = {0};
    bool near_used = true;
    unsigned changed = 0;
    for (uint64_t at = 0; at < for_ns; at += S) {
        uint64_t now = T0 + at;
        bool up = at % (up_ns + down_ns) < up_ns;
        const struct prospect far = {.rtt_ns = 80 * MS};
        const struct prospect near = {.rtt_ns = 2 * MS, .rests = oracle_rests(&lost, UNIT, now)};
        if (near_used && !up) {
            oracle_rest_begin(&lost, UNIT, now);
            near_used = false;
            changed++;
        } else if (!near_used && oracle_look(&oracle, &far, up ? &near : NULL, UNIT, now)) {
            near_used = true;
            changed++;
        }
    }
    return changed;
}

static void test_flapping(void **state)
{
    (void)state;
    static const uint64_t phases_s[] = {1, 3, 10, 15, 30, 60, 120, 300};
    unsigned most = 0;
    for (unsigned i = 0; i < ARRAY_LEN(phases_s); i++) {
        for (unsigned j = 0; j < ARRAY_LEN(phases_s); j++) {
            unsigned changed = run_flapping(phases_s[i] * S, phases_s[j] * S, 3600 * S);
            most = changed > most ? changed : most;
            // It is left at once, whatever comes, and used again in the end where it is there.
            assert_true(changed >= 1);
        }
    }
    print_message("at most %u changes of parent in an hour of flapping\n", most);
    assert_true(most <= 24);
    // A link that is lost once is used again soon.
    assert_int_equal(run_flapping(300 * S, 5 * S, 400 * S), 2);
}

static void test_round_trips(void **state)
{
    (void)state;
    uint64_t rtt = oracle_smooth_rtt(UINT64_MAX, 30 * MS);
    assert_int_equal(rtt, 30 * MS);
    rtt = oracle_smooth_rtt(rtt, 20 * MS);
    assert_int_equal(rtt, 20 * MS);
    // One sample that was disturbed counts little, a way that became longer counts in time.
    assert_true(oracle_smooth_rtt(rtt, 100 * MS) == 30 * MS);
    for (unsigned i = 0; i < 40; i++) {
        rtt = oracle_smooth_rtt(rtt, 100 * MS);
    }
    assert_true(rtt > 95 * MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),    cmocka_unit_test(test_worth_a_move),
        cmocka_unit_test(test_patience), cmocka_unit_test(test_detours),
        cmocka_unit_test(test_moves_come_to_an_end),
        cmocka_unit_test(test_flapping), cmocka_unit_test(test_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
