// SPDX-License-Identifier: Apache-2.0
// R15 to R18 of docs/commit.md: one history ends and another goes on. One council, and facts told
// by hand.
#include "tests/unit/council_fixture.h"

static const uint8_t other_history[HISTORY_ID_BYTES] = "another history";
static const uint8_t third_history[HISTORY_ID_BYTES] = "a third history";

static struct root_record record_of_other(struct leadership leadership, uint64_t generation)
{
    struct root_record record = record_of(leadership, ROOT_BIT(leadership.leader), generation);
    memcpy(record.history, other_history, HISTORY_ID_BYTES);
    return record;
}

// Root 1 led in epoch 8 with root 2, and both are gone; root 0 was left out of the set.
static struct root_record left_over(struct council *council)
{
    struct root_record record = record_of(led(8, 1), 6, 9);
    open_council(council, led(3, 1), false);
    (void)settle(council, &record, 20);
    council_tick(council, true, 6);
    (void)settle(council, &record, 20);
    return record;
}

// ... and a person has accepted that: the record is to be changed.
static struct root_record ask(struct council *council, struct seen *ret_seen)
{
    struct root_record record = left_over(council);
    assert_null(council_accept_loss(council, false, other_history));
    *ret_seen = settle(council, &record, 20);
    return record;
}

// ... and is; root 2 is connected after all.
static struct root_record elect_for(struct council *council)
{
    struct seen seen;
    (void)ask(council, &seen);
    council_tick(council, true, 2);
    struct root_record record = seen.last[COUNCIL_CHANGE].record;
    council_changed(council, seen.last[COUNCIL_CHANGE].ticket, OK);
    return record;
}

// ---- R15 ---------------------------------------------------------------------------------------

static void test_one_forks(void **unused)
{
    (void)unused;
    struct council council;
    struct seen seen;
    struct root_record record = ask(&council, &seen);
    assert_true(saw(&seen, COUNCIL_PROMISE) && saw(&seen, COUNCIL_CHANGE));
    assert_memory_equal(council.promised.history, other_history, HISTORY_ID_BYTES);
    assert_memory_equal(council_speaks_of(&council), test_history, HISTORY_ID_BYTES);
    struct root_record change = seen.last[COUNCIL_CHANGE].record;
    assert_memory_equal(change.history, other_history, HISTORY_ID_BYTES);
    assert_true(leadership_equal(change.leadership, led(9, 0)));
    assert_true(change.in_sync == 1 && change.generation == 10);
    assert_int_equal(seen.last[COUNCIL_CHANGE].modify_index, 20);
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
    seen = settle(&council, &change, 21);
    assert_int_equal(seen.to[COUNCIL_CLAIM], 6); // of the old history, as everything here is
    assert_true(saw(&seen, COUNCIL_OPEN) && seen.last[COUNCIL_OPEN].forks);
    assert_false(seen.last[COUNCIL_OPEN].birth);
    struct log_end end = {.epoch = 9, .block = 10};
    council_journal(&council, &end, 10); // a tail without its epoch block is no longer than before
    council_opened(&council, led(9, 0), 10);
    seen = settle(&council, &change, 21);
    assert_int_equal(seen.last[COUNCIL_ROLE].role, COUNCIL_LEADING);
    assert_int_equal(seen.last[COUNCIL_ROLE].writes, COUNCIL_WRITES_SMALL);
    assert_int_equal(council.committed, 10);
    assert_memory_equal(council_speaks_of(&council), other_history, HISTORY_ID_BYTES);
    assert_non_null(council_accept_loss(&council, false, third_history)); // it leads
    // One that has come into the new history is added as ever.
    council_tick(&council, false, 0);
    struct promise promise = granting(led(9, 0), true);
    council_on_answer(&council, 2, true, &promise, &(struct log_end){0});
    council_on_acknowledge(&council, 2, led(9, 0), 10);
    seen = settle(&council, &change, 21);
    assert_int_equal(seen.last[COUNCIL_CHANGE].record.in_sync, 5);
    assert_memory_equal(seen.last[COUNCIL_CHANGE].record.history, other_history, HISTORY_ID_BYTES);
    assert_int_equal(seen.last[COUNCIL_ROLE].writes, COUNCIL_WRITES_TAKEN);
    (void)record;
}

// A loss is accepted of those that are gone.
static void test_all_that_can_be_reached(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = elect_for(&council);
    struct seen seen = settle(&council, &record, 21);
    assert_false(saw(&seen, COUNCIL_OPEN));
    struct promise promise = granting(led(9, 0), false);
    struct log_end longer = {.epoch = 1, .block = 12};
    council_on_answer(&council, 2, true, &promise, &longer);
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_OPEN));
    assert_true(saw(&seen, COUNCIL_FETCH) && seen.last[COUNCIL_FETCH].root == 2);
    council_fetch_failed(&council, 2); // it is there still
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_OPEN));
    council_on_answer(&council, 2, true, &promise, &longer);
    (void)drain(&council);
    council_journal(&council, &longer, 12);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_OPEN) && seen.last[COUNCIL_OPEN].forks);
    // A higher promise is tried above, in the same history.
    record = elect_for(&council);
    (void)settle(&council, &record, 21);
    promise = granting(led(30, 1), false);
    council_on_answer(&council, 2, false, &promise, &longer);
    seen = settle(&council, &record, 21);
    assert_true(saw(&seen, COUNCIL_CHANGE));
    assert_true(leadership_equal(seen.last[COUNCIL_CHANGE].record.leadership, led(31, 0)));
    assert_memory_equal(seen.last[COUNCIL_CHANGE].record.history, other_history,
                        HISTORY_ID_BYTES);
}

// One that connects between two ticks can be reached.
static void test_one_comes_back(void **unused)
{
    (void)unused;
    struct council council;
    struct seen seen;
    (void)ask(&council, &seen); // the last tick said: both are away
    struct root_record record = seen.last[COUNCIL_CHANGE].record;
    council_connected(&council, 2);
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
    seen = settle(&council, &record, 21);
    assert_false(saw(&seen, COUNCIL_OPEN));
    struct promise promise = granting(led(9, 0), false);
    council_on_answer(&council, 2, true, &promise, &(struct log_end){.epoch = 1, .block = 9});
    seen = settle(&council, &record, 21);
    assert_true(saw(&seen, COUNCIL_OPEN) && seen.last[COUNCIL_OPEN].forks);
}

// What has been ordered cannot be taken back: the journal may be the new history's.
static void test_no_way_back(void **unused)
{
    (void)unused;
    struct council council;
    struct seen seen;
    (void)ask(&council, &seen);
    struct root_record record = seen.last[COUNCIL_CHANGE].record;
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
    seen = settle(&council, &record, 21);
    assert_true(saw(&seen, COUNCIL_OPEN));
    council_on_claim(&council, 2, led(30, 2));
    council_on_fork(&council, 2, led(30, 2), third_history);
    struct root_record third = record_of_other(led(9, 0), 10);
    seen = settle(&council, &third, 21);
    assert_false(saw(&seen, COUNCIL_PROMISE) || saw(&seen, COUNCIL_ANSWER));
    assert_memory_equal(council.promised.history, other_history, HISTORY_ID_BYTES);
    council_unable(&council, true); // it has not begun, and does not now
    council_on_claim(&council, 2, led(30, 2));
    seen = settle(&council, &third, 21);
    assert_true(seen.last[COUNCIL_ANSWER].granted);
    assert_memory_equal(council.promised.history, test_history, HISTORY_ID_BYTES);
}

// On the record that the person saw, or not at all.
static void test_once(void **unused)
{
    (void)unused;
    struct council council;
    struct seen seen;
    struct root_record record = ask(&council, &seen);
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, ERR_CONFLICT);
    struct root_record third = record_of_other(led(9, 2), 10);
    memcpy(third.history, third_history, HISTORY_ID_BYTES);
    for (unsigned i = 0; i < 3; i++) {
        council_tick(&council, true, 6);
        seen = settle(&council, &third, 21);
        assert_false(saw(&seen, COUNCIL_CHANGE) || saw(&seen, COUNCIL_OPEN));
    }
    assert_non_null(council.declined);
    assert_memory_equal(council.promised.history, test_history, HISTORY_ID_BYTES);
    assert_non_null(council_accept_loss(&council, true, other_history));
    assert_null(council.declined); // that was of the one before
    council.declined = "of the one before";
    council.role = COUNCIL_TRYING;
    assert_non_null(council_promote(&council, false));
    assert_null(council.declined);
    // Not when its leader is there, and not when the moment has passed.
    record = left_over(&council);
    assert_non_null(council_accept_loss(&council, true, other_history));
    seen = settle(&council, &record, 20);
    assert_false(saw(&seen, COUNCIL_CHANGE));
    assert_null(council_accept_loss(&council, false, other_history));
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_READ)); // and Consul does not answer
    council_loss_expired(&council);
    assert_non_null(council.declined);
    assert_false(council.loss);
    council_record(&council, seen.last[COUNCIL_READ].ticket, &record, 20);
    seen = settle(&council, &record, 20);
    assert_false(saw(&seen, COUNCIL_CHANGE));
    // The read shows another leader than the one that was found gone.
    record = left_over(&council);
    assert_null(council_accept_loss(&council, false, other_history));
    record.leadership = led(9, 2);
    record.generation++;
    seen = settle(&council, &record, 21);
    assert_false(saw(&seen, COUNCIL_CHANGE));
    assert_true(council.loss && council.promised.leadership.leader != 0); // nor was it begun
}

// A change that got no answer is not sent again once the person waits no more, or the leader is
// back.
static void check_late(bool expired, bool gone, bool again)
{
    struct council council;
    struct seen seen;
    struct root_record record = ask(&council, &seen);
    assert_true(saw(&seen, COUNCIL_CHANGE));
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, ERR_TIMEOUT);
    if (expired) {
        council_loss_expired(&council);
    }
    council_tick(&council, gone, 0);
    seen = settle(&council, &record, 20);
    assert_int_equal(saw(&seen, COUNCIL_CHANGE), again);
    assert_int_equal(council.declined == NULL, again);
    assert_memory_equal(council.promised.history, again ? other_history : test_history,
                        HISTORY_ID_BYTES);
    for (unsigned i = 0; i < 3 && !again; i++) {
        council_tick(&council, gone, 6);
        council_record_moved(&council);
        seen = settle(&council, &record, 20);
        assert_false(saw(&seen, COUNCIL_CHANGE));
    }
}

static void test_late(void **unused)
{
    (void)unused;
    check_late(false, true, true);
    check_late(true, false, false);
    check_late(true, true, false);
    check_late(false, false, false);
    // Nor is it sent at all, where the promise was long on its way to the disk.
    struct council council;
    struct seen seen;
    struct root_record record = left_over(&council);
    assert_null(council_accept_loss(&council, false, other_history));
    seen = drain(&council);
    council_record(&council, seen.last[COUNCIL_READ].ticket, &record, 20);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_PROMISE) && !saw(&seen, COUNCIL_CHANGE));
    council_loss_expired(&council);
    council_promised(&council);
    seen = settle(&council, &record, 20);
    assert_false(saw(&seen, COUNCIL_CHANGE));
    assert_int_equal(seen.last[COUNCIL_ROLE].role, COUNCIL_STANDBY);
    assert_non_null(council.declined);
    // It had happened after all: that is what the person asked for.
    (void)ask(&council, &seen);
    record = seen.last[COUNCIL_CHANGE].record;
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, ERR_TIMEOUT);
    council_loss_expired(&council);
    council_tick(&council, false, 6);
    seen = settle(&council, &record, 21);
    assert_true(saw(&seen, COUNCIL_OPEN) && seen.last[COUNCIL_OPEN].forks);
}

// A root that is not known to have what was committed has nothing to offer, and keeps its mark.
static void test_blank(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = record_of(led(8, 1), 7, 9);
    open_council(&council, led(8, 1), true);
    (void)settle(&council, &record, 20);
    council_tick(&council, true, 6);
    (void)settle(&council, &record, 20);
    assert_non_null(council_accept_loss(&council, false, other_history));
    struct seen seen = settle(&council, &record, 20);
    assert_false(saw(&seen, COUNCIL_PROMISE) || saw(&seen, COUNCIL_CHANGE));
    // It becomes blank after it was asked: it left for another history.
    record = left_over(&council);
    assert_null(council_accept_loss(&council, false, third_history));
    record = record_of_other(led(9, 2), 10);
    seen = drain(&council);
    council_record(&council, seen.last[COUNCIL_READ].ticket, &record, 21);
    council_on_fork(&council, 2, led(9, 2), other_history);
    (void)settle(&council, &record, 21);
    assert_true(council.promised.blank);
    council_tick(&council, true, 6);
    seen = settle(&council, &record, 21);
    assert_false(saw(&seen, COUNCIL_CHANGE));
    assert_true(council.promised.blank);
}

// Who died before it had gathered goes on; a root of the old history that claims ends that.
static void test_a_fork_that_was_left(void **unused)
{
    (void)unused;
    struct council council;
    struct council_setup setup = {
        .roots = 3, .in_sync_min = 2, .promote_min = 2, .leaves = true};
    struct promise promise = {.leadership = led(9, 0), .generation = 9, .alone = true};
    struct log_end end = {.epoch = 1, .block = 10};
    memcpy(setup.log, test_history, HISTORY_ID_BYTES);
    memcpy(promise.history, other_history, HISTORY_ID_BYTES);
    struct root_record record = record_of_other(led(9, 0), 10);
    council_open(&council, &setup, &promise, &end, 8);
    council_tick(&council, false, 6);
    struct seen seen = settle(&council, &record, 21);
    assert_true(leadership_equal(seen.last[COUNCIL_CHANGE].record.leadership, led(10, 0)));
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
    record = seen.last[COUNCIL_CHANGE].record;
    seen = settle(&council, &record, 22);
    assert_true(saw(&seen, COUNCIL_OPEN) && seen.last[COUNCIL_OPEN].forks);
    // The change was never made.
    record = record_of(led(8, 1), 6, 9);
    council_open(&council, &setup, &promise, &end, 8);
    council_tick(&council, true, 6);
    seen = settle(&council, &record, 20);
    assert_false(saw(&seen, COUNCIL_CHANGE));
    council_on_claim(&council, 1, led(9, 1)); // not above what it has promised
    seen = settle(&council, &record, 20);
    assert_false(seen.last[COUNCIL_ANSWER].granted);
    council_on_claim(&council, 1, led(10, 1));
    seen = settle(&council, &record, 20);
    assert_true(seen.last[COUNCIL_ANSWER].granted);
    assert_memory_equal(council.promised.history, test_history, HISTORY_ID_BYTES);
}

// Only what it made alone: else others may have what its log, which is of elsewhere, lacks.
static void test_not_alone(void **unused)
{
    (void)unused;
    struct council council;
    struct council_setup setup = {
        .roots = 3, .in_sync_min = 2, .promote_min = 2, .leaves = true};
    struct promise promise = {.leadership = led(9, 0), .generation = 12};
    struct log_end end = {.epoch = 1, .block = 10};
    memcpy(setup.log, test_history, HISTORY_ID_BYTES);
    memcpy(promise.history, other_history, HISTORY_ID_BYTES);
    struct root_record record = record_of_other(led(9, 0), 12);
    record.in_sync = 7;
    council_open(&council, &setup, &promise, &end, 8);
    council_tick(&council, false, 6);
    struct seen seen = settle(&council, &record, 21);
    assert_true(saw(&seen, COUNCIL_CHANGE));
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
    record = seen.last[COUNCIL_CHANGE].record;
    seen = settle(&council, &record, 22);
    assert_int_equal(seen.last[COUNCIL_ROLE].role, COUNCIL_ELECTED);
    assert_false(saw(&seen, COUNCIL_OPEN));
}

// The root that made it, as it starts again: it needs nobody, until it has added one.
static void test_alone(void **unused)
{
    (void)unused;
    struct council council;
    const struct council_setup setup = {.roots = 3, .in_sync_min = 2, .promote_min = 2};
    struct promise promise = {.leadership = led(9, 0), .generation = 10, .alone = true};
    struct log_end end = {.epoch = 9, .block = 10};
    memcpy(promise.history, other_history, HISTORY_ID_BYTES);
    struct root_record record = record_of_other(led(9, 0), 10);
    council_open(&council, &setup, &promise, &end, 10);
    assert_null(council_accept_loss(&council, false, third_history)); // it is not done once more
    struct seen seen = settle(&council, &record, 21);
    record = seen.last[COUNCIL_CHANGE].record;
    assert_memory_equal(record.history, other_history, HISTORY_ID_BYTES);
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
    seen = settle(&council, &record, 22);
    assert_true(saw(&seen, COUNCIL_OPEN));
    assert_false(seen.last[COUNCIL_OPEN].forks || seen.last[COUNCIL_OPEN].birth);
    council_journal(&council, &(struct log_end){.epoch = 10, .block = 11}, 11);
    council_opened(&council, led(10, 0), 11);
    promise = granting(led(10, 0), true);
    council_on_answer(&council, 2, true, &promise, &(struct log_end){0});
    council_on_acknowledge(&council, 2, led(10, 0), 11);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_PROMISE) && !seen.last[COUNCIL_PROMISE].promise.alone);
    assert_false(saw(&seen, COUNCIL_CHANGE)); // before that is on the disk
    assert_int_equal(council.counted, 1);
    council_promised(&council);
    seen = drain(&council);
    assert_int_equal(seen.last[COUNCIL_CHANGE].record.in_sync, 5);
    // It is alone no more: others may have what it lacks.
    promise = council.promised;
    council_open(&council, &setup, &promise, &end, 10);
    council_tick(&council, false, 6);
    seen = settle(&council, &record, 23);
    record = seen.last[COUNCIL_CHANGE].record;
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
    seen = settle(&council, &record, 24);
    assert_false(saw(&seen, COUNCIL_OPEN));
}

// ---- R16 ---------------------------------------------------------------------------------------

static void test_adopt(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = record_of(led(8, 1), 7, 9);
    open_council(&council, led(8, 1), false);
    (void)settle(&council, &record, 20);
    council_on_lead(&council, 1, led(8, 1), 8, 9, true);
    council_common(&council, 1, 10);
    struct seen seen = settle(&council, &record, 20);
    assert_true(saw(&seen, COUNCIL_ACKNOWLEDGE));
    // Its word is not enough, nor what the record said before.
    council_on_fork(&council, 2, led(5, 2), other_history);
    seen = settle(&council, &record, 20);
    assert_false(saw(&seen, COUNCIL_PROMISE));
    struct root_record third = record_of_other(led(5, 1), 11);
    memcpy(third.history, third_history, HISTORY_ID_BYTES);
    record = record_of_other(led(5, 2), 10);
    council_record_moved(&council);
    (void)settle(&council, &record, 21);
    council_on_fork(&council, 2, led(5, 2), other_history);
    seen = settle(&council, &third, 22);
    assert_false(saw(&seen, COUNCIL_PROMISE));
    council_on_fork(&council, 2, led(5, 2), other_history);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_READ));
    council_record(&council, seen.last[COUNCIL_READ].ticket, &record, 21);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_PROMISE)); // of a lower epoch: another history's
    assert_memory_equal(seen.last[COUNCIL_PROMISE].promise.history, other_history,
                        HISTORY_ID_BYTES);
    assert_true(seen.last[COUNCIL_PROMISE].promise.blank);
    council_journal(&council, &(struct log_end){.epoch = 8, .block = 11}, 11);
    council_on_lead(&council, 2, led(5, 2), 4, 10, false);
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_ACKNOWLEDGE)); // neither the old one, nor before it is durable
    assert_false(saw(&seen, COUNCIL_FOLLOW) && seen.last[COUNCIL_FOLLOW].leadership.leader == 2);
    council_promised(&council);
    council_on_lead(&council, 2, led(5, 2), 4, 10, false);
    seen = drain(&council);
    assert_int_equal(seen.last[COUNCIL_FOLLOW].leadership.leader, 2);
    assert_memory_equal(council_speaks_of(&council), other_history, HISTORY_ID_BYTES);
    assert_true(council.leaves);
}

// The same root and epoch as was promised while it gathered: durable once more all the same.
static void test_adopt_who_was_promised(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = record_of_other(led(9, 2), 10);
    open_council(&council, led(9, 2), false);
    (void)settle(&council, &record, 21);
    council_on_fork(&council, 2, led(9, 2), other_history);
    struct seen seen = drain(&council);
    council_record(&council, seen.last[COUNCIL_READ].ticket, &record, 21);
    council_on_lead(&council, 2, led(9, 2), 4, 10, false);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_PROMISE));
    assert_int_not_equal(seen.last[COUNCIL_FOLLOW].leadership.leader, 2);
    council_promised(&council);
    council_on_lead(&council, 2, led(9, 2), 4, 10, false);
    seen = drain(&council);
    assert_int_equal(seen.last[COUNCIL_FOLLOW].leadership.leader, 2);
}

// A council that begins again in the same life hears no answers to the one before.
static void test_tickets(void **unused)
{
    (void)unused;
    struct council council;
    struct council_setup setup = {.roots = 3, .in_sync_min = 2, .promote_min = 2, .ticket = 7};
    struct promise promise = {.leadership = led(9, 1), .generation = 9};
    memcpy(promise.history, test_history, HISTORY_ID_BYTES);
    council_open(&council, &setup, &promise, &(struct log_end){.epoch = 1, .block = 10}, 8);
    struct seen seen = drain(&council);
    assert_int_equal(seen.last[COUNCIL_READ].ticket, 8);
}

// ---- R17 ---------------------------------------------------------------------------------------

static void test_ended(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = lead(&council);
    (void)settle(&council, &record, 21);
    record = record_of_other(led(9, 2), 10);
    council_record_moved(&council);
    struct seen seen = settle(&council, &record, 22);
    assert_int_equal(seen.last[COUNCIL_ROLE].role, COUNCIL_STANDBY);
    assert_int_equal(seen.last[COUNCIL_FOLLOW].root, ROOT_NOBODY);
    assert_false(saw(&seen, COUNCIL_STOP) || saw(&seen, COUNCIL_CHANGE));
    for (unsigned i = 0; i < 3; i++) {
        council_tick(&council, true, 0);
        seen = settle(&council, &record, 22);
        assert_false(saw(&seen, COUNCIL_CHANGE));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_forks),
        cmocka_unit_test(test_all_that_can_be_reached),
        cmocka_unit_test(test_one_comes_back),
        cmocka_unit_test(test_no_way_back),
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_blank),
        cmocka_unit_test(test_a_fork_that_was_left),
        cmocka_unit_test(test_not_alone),
        cmocka_unit_test(test_alone),
        cmocka_unit_test(test_adopt),
        cmocka_unit_test(test_adopt_who_was_promised),
        cmocka_unit_test(test_tickets),
        cmocka_unit_test(test_ended),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
