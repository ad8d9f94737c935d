// SPDX-License-Identifier: Apache-2.0
// Parts of fetching that are pure: when to stop asking, one flight for a value however many want
// it, and what stands in the messages.
#include "tests/unit/support.h"

#include "common/wire/fetch_items.h"
#include "proxy/flight.h"
#include "proxy/retry.h"

static enum retry_verdict round_of(const enum fetch_status *statuses, unsigned count,
                                   uint64_t connected)
{
    struct retry retry = {0};
    uint64_t askable = ((uint64_t)1 << count) - 1;
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(retry_judge(&retry, askable, connected), RETRY_NEXT);
        retry_asked(&retry, i);
        retry_refused(&retry, statuses[i]);
    }
    enum retry_verdict verdict = retry_judge(&retry, askable, connected);
    assert_int_equal(retry.tried, 0);
    return verdict;
}

static void test_verdicts(void **state)
{
    (void)state;
    const enum fetch_status never[] = {FETCH_NEVER, FETCH_NEVER};
    const enum fetch_status gone[] = {FETCH_GONE, FETCH_NEVER, FETCH_GONE};
    const enum fetch_status behind[] = {FETCH_NEVER, FETCH_BEHIND};
    const enum fetch_status error[] = {FETCH_GONE, FETCH_ERROR};
    assert_int_equal(round_of(never, 2, 3), RETRY_NEVER);
    assert_int_equal(round_of(gone, 3, 7), RETRY_GONE);
    assert_int_equal(round_of(behind, 2, 3), RETRY_PAUSE);
    assert_int_equal(round_of(error, 2, 3), RETRY_PAUSE);
    // One in quarantine, which was not asked, might have it.
    assert_int_equal(round_of(never, 2, 7), RETRY_PAUSE);
    assert_int_equal(round_of(gone, 3, 15), RETRY_PAUSE);
    // A number that is another replica's now has not been asked.
    struct retry moved = {0};
    retry_asked(&moved, 0);
    retry_refused(&moved, FETCH_NEVER);
    retry_forget(&moved, 0);
    assert_int_equal(retry_judge(&moved, 1, 1), RETRY_NEXT);
    // Nobody was asked, so nobody said anything.
    struct retry retry = {0};
    assert_int_equal(retry_judge(&retry, 0, 0), RETRY_PAUSE);
}

static void test_flights(void **state)
{
    (void)state;
    struct flight_table table;
    flights_open(&table, 100);
    struct flight *flights[100];
    for (uint64_t i = 0; i < 100; i++) {
        struct bytes key = bytes_of(&i, 1 + i % 2);
        assert_null(flights_find(&table, key, i / 2));
        flights[i] = flights_add(&table, key, i / 2, (uint32_t)i, 0);
        assert_ptr_equal(flights_find(&table, key, i / 2), flights[i]);
        assert_null(flights_find(&table, key, i / 2 + 1000));
    }
    assert_null(flights_add(&table, bytes_text("more"), 1, 1, 1));
    struct flight *slots[FLIGHT_ASKS] = {NULL, NULL};
    flight_board(flights[10], &slots[0]);
    flight_board(flights[10], &slots[1]);
    assert_int_equal(flight_asks(flights[10]), 2);
    flight_leave(flights[10], &slots[0]);
    assert_null(slots[0]);
    flight_board(flights[10], &slots[0]);
    for (uint64_t i = 0; i < 100; i++) {
        struct bytes key = bytes_of(&i, 1 + i % 2);
        assert_ptr_equal(flights_find(&table, key, i / 2), flights[i]);
        flights_remove(&table, flights[i]);
        assert_null(flights_find(&table, key, i / 2));
    }
    assert_true(slots[0] == NULL && slots[1] == NULL);
    flights_close(&table);
}

static void test_forgotten_number(void **state)
{
    (void)state;
    struct flight_table table;
    flights_open(&table, 100);
    struct flight *flights[100];
    for (unsigned i = 0; i < 100; i++) {
        flights[i] = flights_add(&table, bytes_of(&i, sizeof i), 1, 10, 0);
        retry_asked(&flights[i]->retry, 3);
        retry_asked(&flights[i]->retry, 4);
    }
    flights_forget(&table, 3);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(flights[i]->retry.tried, 1u << 4);
        flights_remove(&table, flights[i]);
    }
    flights_close(&table);
}

static void test_items(void **state)
{
    (void)state;
    struct buf buf = {0};
    fetch_items_begin(&buf, 2);
    fetch_ask_append(&buf, &(struct fetch_ask){bytes_text("key"), 7});
    fetch_ask_append(&buf, &(struct fetch_ask){bytes_of("\0", 1), UINT64_MAX});
    struct fetch_ask asks[FETCH_ITEMS_MAX];
    unsigned count;
    assert_int_equal(fetch_asks_decode(buf_bytes(&buf), asks, &count), OK);
    assert_int_equal(count, 2);
    assert_true(bytes_equal_text(asks[0].key, "key") && asks[1].version == UINT64_MAX);
    for (size_t cut = 0; cut < buf.size; cut++) {
        assert_int_equal(fetch_asks_decode(bytes_of(buf.data, cut), asks, &count), ERR_PROTOCOL);
    }
    buf_clear(&buf);
    fetch_items_begin(&buf, 3);
    fetch_answer_append(&buf, &(struct fetch_answer){FETCH_EXACT, bytes_text("")});
    fetch_answer_append(&buf, &(struct fetch_answer){FETCH_EXACT, bytes_text("value")});
    fetch_answer_append(&buf, &(struct fetch_answer){FETCH_GONE, bytes_text("unused")});
    struct fetch_answer answers[FETCH_ITEMS_MAX];
    assert_int_equal(fetch_answers_decode(buf_bytes(&buf), answers, &count), OK);
    assert_int_equal(count, 3);
    assert_true(answers[0].value.size == 0 && answers[2].status == FETCH_GONE);
    assert_true(bytes_equal_text(answers[1].value, "value"));
    assert_int_equal(fetch_asks_decode(buf_bytes(&buf), asks, &count), ERR_PROTOCOL);
    buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_verdicts),
        cmocka_unit_test(test_flights),
        cmocka_unit_test(test_forgotten_number),
        cmocka_unit_test(test_items),
    };
    return cmocka_run_group_tests_name("retry", tests, NULL, NULL);
}
