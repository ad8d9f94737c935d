// SPDX-License-Identifier: Apache-2.0
// What schedules seldom come to: single rules of docs/commit.md, one council, and facts told by
// hand.
#include "tests/unit/council_fixture.h"

static const uint8_t other_history[HISTORY_ID_BYTES] = "another history";

// ---- R4 ----------------------------------------------------------------------------------------

static void test_blank_promise(void **unused)
{
    (void)unused;
    struct council council;
    struct log_end end = {0};
    (void)elect(&council);
    struct promise blank = granting(led(2, 0), true), whole = granting(led(2, 0), false);
    council_on_answer(&council, 1, true, &blank, &end);
    struct seen seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_OPEN));
    council_on_answer(&council, 2, true, &whole, &end);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_OPEN));
}

static void test_lost_donor(void **unused)
{
    (void)unused;
    struct council council;
    (void)elect(&council);
    struct promise promise = granting(led(2, 0), false);
    struct log_end longer = {.epoch = 1, .block = 12}, same = {.epoch = 1, .block = 10};
    council_on_answer(&council, 1, true, &promise, &longer);
    struct seen seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_FETCH));
    assert_int_equal(seen.last[COUNCIL_FETCH].root, 1);
    council_fetch_failed(&council, 1);
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_OPEN)); // its promise went with its log
    council_tick(&council, false, 0);
    seen = drain(&council);
    assert_int_equal(seen.to[COUNCIL_CLAIM], 6);
    council_on_answer(&council, 2, true, &promise, &same);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_OPEN));
}

// A donor that has more to give by the second answer.
static void test_longer_donor(void **unused)
{
    (void)unused;
    struct council council;
    (void)elect(&council);
    struct promise promise = granting(led(2, 0), false);
    struct log_end end = {.epoch = 1, .block = 12};
    council_on_answer(&council, 1, true, &promise, &end);
    (void)drain(&council);
    end.block = 13;
    council_on_answer(&council, 1, true, &promise, &end);
    struct seen seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_FETCH));
    assert_int_equal(seen.last[COUNCIL_FETCH].end.block, 13);
}

// ---- R5, R9, R10 -------------------------------------------------------------------------------

static void test_epoch_block_first(void **unused)
{
    (void)unused;
    struct council council;
    (void)lead(&council);
    council_on_acknowledge(&council, 1, led(2, 0), 10);
    council_on_acknowledge(&council, 2, led(2, 0), 10);
    struct seen seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_COMMIT)); // all have 9 and 10, but not of this epoch
    sync_own(&council, 11);
    council_on_acknowledge(&council, 1, led(2, 0), 11);
    council_on_acknowledge(&council, 2, led(1, 0), 11); // of another
    council_on_acknowledge(&council, 2, led(2, 0), 12); // there is none
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_COMMIT));
    council_on_acknowledge(&council, 2, led(2, 0), 11);
    seen = drain(&council);
    assert_int_equal(seen.last[COUNCIL_COMMIT].block, 11);
    assert_int_equal(seen.last[COUNCIL_ROLE].writes, COUNCIL_WRITES_TAKEN);
}

// A root in the set that lost its disk: nothing that it acknowledges counts before it was dropped,
// which may leave too few; and then it is added.
static void test_blank_member(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = lead(&council), only = record, both = record;
    struct promise blank = granting(led(2, 0), true);
    struct log_end end = {0};
    (void)settle(&council, &record, 21);
    council_on_answer(&council, 1, true, &blank, &end);
    struct seen seen = settle(&council, &record, 21);
    assert_int_equal(seen.last[COUNCIL_CHANGE].record.in_sync, 5);
    sync_own(&council, 11);
    council_on_acknowledge(&council, 1, led(2, 0), 11);
    council_on_acknowledge(&council, 2, led(2, 0), 11);
    council_tick(&council, false, 0);
    struct seen told = drain(&council);
    assert_false(saw(&told, COUNCIL_COMMIT));
    assert_false(told.last[COUNCIL_LEAD].root == 1 && told.last[COUNCIL_LEAD].member);
    only = seen.last[COUNCIL_CHANGE].record;
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
    seen = settle(&council, &only, 22);
    assert_int_equal(seen.last[COUNCIL_COMMIT].block, 11);
    assert_int_equal(seen.last[COUNCIL_CHANGE].record.in_sync, 7);
    assert_int_equal(seen.last[COUNCIL_COUNTED].set, 7); // before the record has it
    both = seen.last[COUNCIL_CHANGE].record;
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
    (void)settle(&council, &both, 23);
    council_tick(&council, false, 4);
    seen = drain(&council);
    assert_true(seen.to[COUNCIL_LEAD] == 6 && seen.last[COUNCIL_LEAD].member);
}

static void test_small_set(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = lead(&council);
    struct promise blank = granting(led(2, 0), true);
    struct log_end end = {0};
    (void)settle(&council, &record, 21);
    council_on_answer(&council, 1, true, &blank, &end);
    council_on_answer(&council, 2, true, &blank, &end);
    struct seen seen = settle(&council, &record, 21);
    for (unsigned i = 0; i < 2; i++) { // one after the other
        record = seen.last[COUNCIL_CHANGE].record;
        assert_int_equal(record.in_sync, i == 0 ? 5 : 1);
        council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
        seen = settle(&council, &record, 22 + i);
    }
    assert_int_equal(seen.last[COUNCIL_ROLE].writes, COUNCIL_WRITES_SMALL);
    sync_own(&council, 11);
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_COMMIT));
}

// R10: added, and no answer: counted until it is known that the record lacks it.
static void test_unanswered(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = lead(&council);
    (void)settle(&council, &record, 21);
    sync_own(&council, 11);
    council_on_acknowledge(&council, 2, led(2, 0), 11);
    council_tick(&council, false, 2);
    struct seen seen = settle(&council, &record, 21);
    record = seen.last[COUNCIL_CHANGE].record;
    assert_int_equal(record.in_sync, 5);
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
    seen = settle(&council, &record, 22);
    assert_int_equal(seen.last[COUNCIL_COMMIT].block, 11);
    council_tick(&council, false, 0);
    council_on_acknowledge(&council, 1, led(2, 0), 11);
    seen = settle(&council, &record, 22);
    assert_int_equal(seen.last[COUNCIL_CHANGE].record.in_sync, 7);
    struct root_record wished = seen.last[COUNCIL_CHANGE].record;
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, ERR_TIMEOUT);
    sync_own(&council, 12);
    council_on_acknowledge(&council, 2, led(2, 0), 12);
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_COMMIT)); // root 1 does not have it
    council_tick(&council, false, 0);
    seen = settle(&council, &record, 22); // nothing has changed: it is asked again
    assert_true(saw(&seen, COUNCIL_CHANGE));
    assert_false(saw(&seen, COUNCIL_COMMIT));
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, ERR_CONFLICT); // the first had it
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_READ));
    council_record(&council, seen.last[COUNCIL_READ].ticket, &wished, 23);
    council_tick(&council, false, 0);
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_COMMIT));
    council_on_acknowledge(&council, 1, led(2, 0), 12);
    seen = drain(&council);
    assert_int_equal(seen.last[COUNCIL_COMMIT].block, 12);
}

// ---- R6 to R8 ----------------------------------------------------------------------------------

static void test_cut(void **unused)
{
    (void)unused;
    struct council council;
    open_council(&council, led(1, 1), false);
    struct seen seen = drain(&council); // it does not lead yet, as far as is known
    assert_int_equal(seen.last[COUNCIL_FOLLOW].leadership.leader, ROOT_NOBODY);
    council_on_lead(&council, 1, led(1, 1), 8, 5, false);
    seen = drain(&council);
    assert_true(leadership_equal(seen.last[COUNCIL_FOLLOW].leadership, led(1, 1)));
    council_common(&council, 1, 8);
    seen = drain(&council);
    assert_int_equal(seen.last[COUNCIL_CUT].block, 9);
    assert_false(saw(&seen, COUNCIL_ACKNOWLEDGE));
    // Somebody else claims meanwhile: not told before it is known what stays.
    council_on_claim(&council, 2, led(3, 2));
    (void)drain(&council);
    council_promised(&council);
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_ANSWER));
    struct log_end end = {.epoch = 1, .block = 8};
    council_journal(&council, &end, 8);
    council_cut(&council);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_ANSWER) && seen.last[COUNCIL_ANSWER].granted);
    assert_int_equal(seen.last[COUNCIL_ANSWER].end.block, 8);
    assert_false(saw(&seen, COUNCIL_ACKNOWLEDGE)); // what is in common is not known yet
    council_on_lead(&council, 2, led(3, 2), 8, 5, false);
    council_common(&council, 2, 7); // it lacks what is committed here
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_STOP));
    assert_false(saw(&seen, COUNCIL_CUT));
    council_on_claim(&council, 1, led(9, 1));
    council_tick(&council, true, 0);
    seen = drain(&council);
    const uint32_t idle = 1u << COUNCIL_ROLE | 1u << COUNCIL_FOLLOW;
    assert_true((seen.acts & ~idle) == 0); // takes no part any more
}

static void test_promise_first(void **unused)
{
    (void)unused;
    struct council council;
    (void)lead(&council);
    sync_own(&council, 11);
    council_on_claim(&council, 1, led(2, 1)); // the same epoch, another name
    struct seen seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_ANSWER) && !seen.last[COUNCIL_ANSWER].granted);
    council_on_claim(&council, 1, led(3, 1));
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_PROMISE) && !saw(&seen, COUNCIL_ANSWER));
    assert_int_equal(seen.last[COUNCIL_ROLE].role, COUNCIL_STANDBY);
    assert_int_equal(seen.last[COUNCIL_ROLE].writes, COUNCIL_WRITES_ELSEWHERE);
    assert_int_equal(seen.last[COUNCIL_FOLLOW].leadership.leader, ROOT_NOBODY);
    council_on_acknowledge(&council, 1, led(2, 0), 11);
    council_on_acknowledge(&council, 2, led(2, 0), 11);
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_COMMIT)); // it led
    council_on_claim(&council, 2, led(4, 2)); // while that one is written
    council_promised(&council);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_PROMISE));
    assert_true(leadership_equal(seen.last[COUNCIL_PROMISE].promise.leadership, led(4, 2)));
    assert_true(seen.to[COUNCIL_ANSWER] == ROOT_BIT(1) && !seen.last[COUNCIL_ANSWER].granted);
    council_promised(&council);
    seen = drain(&council);
    assert_true(seen.to[COUNCIL_ANSWER] == ROOT_BIT(2) && seen.last[COUNCIL_ANSWER].granted);
    assert_int_equal(seen.last[COUNCIL_FOLLOW].leadership.leader, ROOT_NOBODY);
    council_on_lead(&council, 2, led(4, 2), 8, 5, false);
    seen = drain(&council);
    assert_true(leadership_equal(seen.last[COUNCIL_FOLLOW].leadership, led(4, 2)));
}

// A connection that ended takes along what was said on it: the root behind the next one may be
// blank.
static void test_connection(void **unused)
{
    (void)unused;
    struct council council;
    (void)lead(&council);
    council_tick(&council, false, 0);
    struct seen seen = drain(&council);
    assert_int_equal(seen.to[COUNCIL_LEAD], 6);
    council_connected(&council, 1);
    council_tick(&council, false, 0);
    seen = drain(&council);
    assert_int_equal(seen.to[COUNCIL_LEAD], 4);
    assert_int_equal(seen.to[COUNCIL_CLAIM], 2);
}

// ---- R1, R12, R13 and a person -----------------------------------------------------------------

// Root 0 is about to try; what it asks of the record stands in the action that is due next.
static struct root_record begin_try(struct council *council)
{
    struct root_record record = record_of(led(1, 1), 7, 5);
    open_council(council, led(1, 1), false);
    (void)settle(council, &record, 20);
    council_tick(council, true, 0);
    struct seen seen = drain(council);
    council_record(council, seen.last[COUNCIL_READ].ticket, &record, 20);
    seen = drain(council);
    assert_true(saw(&seen, COUNCIL_PROMISE) && !saw(&seen, COUNCIL_CHANGE));
    return record;
}

static void test_no_request_before_the_promise(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = begin_try(&council);
    council_record_moved(&council);
    struct seen seen = drain(&council);
    council_record(&council, seen.last[COUNCIL_READ].ticket, &record, 20);
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_CHANGE));
    council_promised(&council);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_CHANGE));
}

// The watch speaks while a read is under way, which may be older: there is another one.
static void test_watch(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = record_of(led(1, 1), 7, 5);
    open_council(&council, led(1, 1), false);
    struct seen seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_READ));
    council_record_moved(&council);
    struct seen next = drain(&council);
    assert_false(saw(&next, COUNCIL_READ));
    council_record(&council, seen.last[COUNCIL_READ].ticket, &record, 20);
    council_tick(&council, false, 0);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_READ));
}

// R11: of two requests for one thing the first may have succeeded when the second is refused.
static void test_repeated_request(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = begin_try(&council);
    council_promised(&council);
    struct seen seen = drain(&council), before = seen;
    struct root_record wished = seen.last[COUNCIL_CHANGE].record;
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, ERR_TIMEOUT);
    council_tick(&council, true, 0);
    seen = drain(&council);
    council_record(&council, seen.last[COUNCIL_READ].ticket, &record, 20);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_CHANGE));
    council_changed(&council, before.last[COUNCIL_CHANGE].ticket, OK); // of the one given up
    assert_int_equal(council.role, COUNCIL_TRYING);
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, ERR_CONFLICT);
    seen = drain(&council);
    assert_int_equal(council.role, COUNCIL_TRYING);
    council_record(&council, seen.last[COUNCIL_READ].ticket, &wished, 21);
    assert_int_equal(council.role, COUNCIL_ELECTED);
}

static void test_blank_does_not_try(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = record_of(led(1, 1), 7, 5);
    open_council(&council, led(1, 1), true);
    (void)settle(&council, &record, 20);
    council_tick(&council, true, 0);
    struct seen seen = settle(&council, &record, 20);
    assert_false(saw(&seen, COUNCIL_CHANGE));
    assert_non_null(council_promote(&council, false));
    council_on_lead(&council, 1, led(1, 1), 8, 5, true);
    seen = settle(&council, &record, 20);
    assert_true(saw(&seen, COUNCIL_PROMISE) && !seen.last[COUNCIL_PROMISE].promise.blank);
}

// An older record than was seen, or none: nobody tries by itself, and by a person only as if it
// named all; one of another history nobody touches.
static void test_lost_record(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record older = record_of(led(1, 1), 7, 4), other = record_of(led(1, 1), 7, 9);
    memcpy(other.history, other_history, HISTORY_ID_BYTES);
    const struct root_record *records[] = {&older, NULL, &other};
    for (unsigned i = 0; i < 3; i++) {
        uint64_t modify_index = records[i] == NULL ? 0 : 20;
        open_council(&council, led(3, 1), false);
        (void)settle(&council, records[i], modify_index);
        council_tick(&council, true, 0);
        struct seen seen = settle(&council, records[i], modify_index);
        assert_false(saw(&seen, COUNCIL_CHANGE));
        assert_null(council_promote(&council, false));
        seen = settle(&council, records[i], modify_index);
        assert_true(saw(&seen, COUNCIL_CHANGE) == (i < 2));
        if (i < 2) {
            assert_int_equal(seen.last[COUNCIL_CHANGE].record.leadership.epoch, 4);
            assert_int_equal(seen.last[COUNCIL_CHANGE].record.in_sync, 7);
            assert_int_equal(seen.last[COUNCIL_CHANGE].record.generation, 6);
            assert_int_equal(seen.last[COUNCIL_CHANGE].modify_index, modify_index);
        }
    }
}

// What was said to be gone is the leader of that time, not whoever leads by the next read.
static void test_gone_leader(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = record_of(led(3, 1), 7, 4), next = record_of(led(4, 2), 7, 5);
    open_council(&council, led(3, 1), false);
    (void)settle(&council, &record, 20);
    council_tick(&council, true, 0);
    struct seen seen = settle(&council, &next, 21);
    assert_false(saw(&seen, COUNCIL_CHANGE));
    assert_int_equal(council_awaited(&council), 2);
    council_tick(&council, true, 0);
    seen = settle(&council, &next, 21);
    assert_true(saw(&seen, COUNCIL_CHANGE));
    assert_true(leadership_equal(seen.last[COUNCIL_CHANGE].record.leadership, led(5, 0)));
}

// Who is elected and cannot write its epoch block gives way, and does not try while it could not.
static void test_unable(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = elect(&council);
    council_unable(&council, true);
    struct seen seen = settle(&council, &record, 21);
    assert_int_equal(council.role, COUNCIL_STANDBY);
    council_tick(&council, true, 0);
    seen = settle(&council, &record, 21); // which names it
    assert_false(saw(&seen, COUNCIL_CHANGE) || saw(&seen, COUNCIL_CLAIM));
    council_unable(&council, false);
    council_tick(&council, true, 0);
    seen = settle(&council, &record, 21);
    assert_true(saw(&seen, COUNCIL_CHANGE));
}

// A person's wish that came while nobody led does not depose who leads since.
static void test_forced_is_over(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = record_of(led(3, 1), 7, 4);
    open_council(&council, led(3, 1), false);
    (void)settle(&council, &record, 20);
    assert_null(council_promote(&council, false));
    council_on_lead(&council, 1, led(3, 1), 0, 4, true); // before the record has been read
    struct seen seen = settle(&council, &record, 20);
    assert_false(saw(&seen, COUNCIL_CHANGE));
}

// A history is begun only where there is no record, also by a root whose directory was empty.
static void test_found(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = record_of(led(3, 1), 7, 4);
    open_council(&council, led(0, ROOT_NOBODY), true);
    (void)settle(&council, &record, 20);
    council_found(&council, other_history);
    struct seen seen = settle(&council, &record, 20);
    assert_false(saw(&seen, COUNCIL_CHANGE) || saw(&seen, COUNCIL_PROMISE));
    council_tick(&council, true, 0);
    seen = settle(&council, NULL, 0);
    assert_false(saw(&seen, COUNCIL_CHANGE)); // nobody has asked it to again
    council_found(&council, other_history);
    seen = settle(&council, NULL, 0);
    struct root_record change = seen.last[COUNCIL_CHANGE].record;
    assert_true(saw(&seen, COUNCIL_CHANGE));
    assert_int_equal(seen.last[COUNCIL_CHANGE].modify_index, 0);
    assert_memory_equal(change.history, other_history, HISTORY_ID_BYTES);
    assert_true(leadership_equal(change.leadership, led(2, 0)) && change.in_sync == 1);
    assert_false(council.promised.blank);
    council_changed(&council, seen.last[COUNCIL_CHANGE].ticket, OK);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_OPEN) && seen.last[COUNCIL_OPEN].birth);
}

static void test_hand_over(void **unused)
{
    (void)unused;
    struct council council;
    struct root_record record = lead(&council);
    (void)settle(&council, &record, 21);
    sync_own(&council, 11);
    council_on_acknowledge(&council, 1, led(2, 0), 11);
    council_on_acknowledge(&council, 2, led(2, 0), 11);
    council_journal(&council, &(struct log_end){.epoch = 2, .block = 11}, 12);
    council_on_ask(&council, 1);
    struct seen seen = drain(&council);
    assert_int_equal(seen.last[COUNCIL_ROLE].writes, COUNCIL_WRITES_HANDING);
    assert_false(saw(&seen, COUNCIL_GO));
    sync_own(&council, 12);
    council_on_acknowledge(&council, 2, led(2, 0), 12);
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_GO));
    council_on_acknowledge(&council, 1, led(2, 0), 12);
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_GO) && seen.last[COUNCIL_GO].root == 1);
    // The heir has promised itself a higher epoch: that is no reason to try above it, until the
    // hand-over has taken too long, nor is it before another one says so.
    const struct promise heirs = {.leadership = led(3, 1), .generation = 7};
    council_on_answer(&council, 1, false, &heirs, &council.end);
    council_tick(&council, false, 0);
    seen = drain(&council);
    assert_false(saw(&seen, COUNCIL_READ));
    assert_int_equal(council.role, COUNCIL_LEADING);
    struct council other = council;
    council_on_answer(&other, 2, false, &heirs, &council.end);
    council_tick(&other, false, 0);
    seen = drain(&other);
    assert_true(saw(&seen, COUNCIL_READ));
    other = council;
    council_promote_expired(&other);
    council_on_answer(&other, 1, false, &heirs, &council.end);
    council_tick(&other, false, 0);
    seen = drain(&other);
    assert_true(saw(&seen, COUNCIL_READ));
    council_promote_expired(&council);
    seen = drain(&council);
    assert_int_equal(seen.last[COUNCIL_ROLE].writes, COUNCIL_WRITES_TAKEN);
    // And the other side of it: nobody is gone, and it tries as it was told to.
    record = record_of(led(1, 1), 7, 5);
    open_council(&council, led(1, 1), false);
    (void)settle(&council, &record, 20);
    assert_null(council_promote(&council, true));
    seen = drain(&council);
    assert_true(saw(&seen, COUNCIL_ASK) && seen.last[COUNCIL_ASK].root == 1);
    council_on_go(&council, 1, led(1, 1));
    seen = settle(&council, &record, 20);
    assert_true(saw(&seen, COUNCIL_CHANGE));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blank_promise),
        cmocka_unit_test(test_lost_donor),
        cmocka_unit_test(test_longer_donor),
        cmocka_unit_test(test_epoch_block_first),
        cmocka_unit_test(test_blank_member),
        cmocka_unit_test(test_small_set),
        cmocka_unit_test(test_unanswered),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_promise_first),
        cmocka_unit_test(test_connection),
        cmocka_unit_test(test_no_request_before_the_promise),
        cmocka_unit_test(test_repeated_request),
        cmocka_unit_test(test_watch),
        cmocka_unit_test(test_blank_does_not_try),
        cmocka_unit_test(test_lost_record),
        cmocka_unit_test(test_gone_leader),
        cmocka_unit_test(test_unable),     cmocka_unit_test(test_forced_is_over),
        cmocka_unit_test(test_found),
        cmocka_unit_test(test_hand_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
