// SPDX-License-Identifier: Apache-2.0
// What a handle of libqs has seen binds all that comes later: on other connections, from daemons
// that stand lower or have other data, for many threads, in watches, and at the door.
#include "tests/unit/client_fixture.h"

#include "common/client/handle.h"

#define THREADS 8

// ---- nothing older than what was seen ----------------------------------------------------------

static void test_not_back_on_another_connection(void **state)
{
    struct test *test = *state;
    false_show(&test->daemon, OLD_HISTORY, 100, 50);
    assert_int_equal(get(test), QS_NOT_FOUND);
    assert_int_equal(qs_result_index(test->result), 50);
    uint64_t index;
    assert_int_equal(qs_put(test->qs, "k", 1, "v", 1, &index), QS_OK);
    assert_int_equal(index, 101);
    assert_int_equal(get(test), QS_NOT_FOUND); // the same connection has not shown it yet
    assert_int_equal(qs_result_index(test->result), 101);
    assert_int_equal(false_asked(&test->daemon, "QS.GET k MININDEX " OLD_HISTORY ":101"), 1);
    assert_int_equal(get(test), QS_NOT_FOUND);
    assert_int_equal(false_asked(&test->daemon, "QS.GET k MININDEX"), 1);
    // Another one begins lower.
    false_end(&test->daemon);
    false_begin(&test->daemon, OLD_HISTORY, 101);
    assert_int_equal(qs_exists(test->qs, "k", 1), QS_NOT_FOUND);
    assert_int_equal(false_asked(&test->daemon, "QS.WAITINDEX " OLD_HISTORY ":101"), 1);
    assert_int_equal(qs_index(test->qs, &index), QS_OK);
    assert_int_equal(index, 101);
}

static void test_a_daemon_that_stands_lower(void **state)
{
    struct test *test = *state;
    false_show(&test->daemon, OLD_HISTORY, 100, 0);
    assert_int_equal(get(test), QS_NOT_FOUND);
    false_end(&test->daemon);
    false_begin(&test->daemon, OLD_HISTORY, 60);
    uint64_t index = 7;
    struct qs_bytes key = {.data = "k", .size = 1};
    assert_int_equal(get(test), QS_BEHIND);
    assert_int_equal(qs_exists(test->qs, "k", 1), QS_BEHIND);
    assert_int_equal(qs_get_many(test->qs, 1, &key, test->result), QS_BEHIND);
    assert_int_equal(qs_index(test->qs, &index), QS_BEHIND);
    assert_int_equal(qs_wait(test->qs, "70", 0, &index), QS_BEHIND);
    assert_int_equal(index, 7);
    struct qs_range *range;
    assert_int_equal(qs_range_open(&range, test->qs, "", 0, "", 0, 0), QS_OK);
    assert_int_equal(qs_range_next(range, NULL, NULL), QS_BEHIND);
    qs_range_close(range);
    false_show(&test->daemon, OLD_HISTORY, 100, 0);
    assert_int_equal(get(test), QS_NOT_FOUND);
    assert_int_equal(qs_result_index(test->result), 100);
    false_show(&test->daemon, OLD_HISTORY, 60, 0);
    qs_forget(test->qs);
    assert_int_equal(get(test), QS_NOT_FOUND);
    assert_int_equal(qs_result_index(test->result), 60);
}

static void test_another_history(void **state)
{
    struct test *test = *state;
    assert_int_equal(get(test), QS_NOT_FOUND);
    false_end(&test->daemon);
    false_begin(&test->daemon, NEW_HISTORY, 500);
    assert_int_equal(get(test), QS_HISTORY);
    assert_int_equal(put(test), QS_HISTORY);
    assert_int_equal(false_asked(&test->daemon, "QS.PUT"), 0);
    assert_int_equal(qs_get_min(test->qs, "k", 1, OLD_HISTORY ":3", test->result), QS_HISTORY);
    qs_forget(test->qs);
    assert_int_equal(get(test), QS_NOT_FOUND);
    assert_int_equal(qs_get_min(test->qs, "k", 1, OLD_HISTORY ":3", test->result), QS_HISTORY);
    assert_int_equal(qs_get_min(test->qs, "k", 1, "nonsense", test->result), QS_USAGE);
    // What came late of the session before is nothing to this one.
    handle_saw(test->qs, test->qs->session - 1, 10000);
    assert_int_equal(get(test), QS_NOT_FOUND);
    // The data becomes another one's while connections are open.
    false_step(&test->daemon, "QS.GET", LAST,
               "-HISTORY the data here became that of another history: connect again\r\n");
    false_show(&test->daemon, OLD_HISTORY, 500, 0);
    assert_int_equal(get(test), QS_HISTORY);
}

struct reader {
    struct test *test;
    _Atomic uint64_t *newest; // any thread has seen this
    unsigned rounds;
    unsigned faults;
};

static void *read_on(void *argument)
{
    struct reader *reader = argument;
    struct qs_result *result = qs_result_new();
    for (unsigned i = 0; i < reader->rounds; i++) {
        uint64_t before = atomic_load(reader->newest);
        int code = i % 16 == 0 ? qs_put(reader->test->qs, "k", 1, "v", 1, NULL)
                               : qs_get(reader->test->qs, "k", 1, result);
        if (i % 16 == 0) {
            reader->faults += code != QS_OK;
            continue;
        }
        uint64_t index = qs_result_index(result);
        reader->faults += code != QS_NOT_FOUND || index < before;
        while (before < index && !atomic_compare_exchange_weak(reader->newest, &before, index)) {
        }
    }
    qs_result_free(result);
    return NULL;
}

// Each connection shows as little as it may.
static void test_threads_share_what_they_saw(void **state)
{
    struct test *test = *state;
    _Atomic uint64_t newest = 0;
    false_show(&test->daemon, OLD_HISTORY, 1000, 900);
    reopen(test, 20 * SECOND_MS, 4);
    struct reader readers[THREADS];
    pthread_t threads[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        readers[i] = (struct reader){.test = test, .newest = &newest, .rounds = ROUNDS(800)};
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &readers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(readers[i].faults, 0);
    }
    assert_true(false_greeted(&test->daemon) <= 4);
}

// All connections taken: the next caller waits, and is told so; and has the first that comes back.
static void test_no_connection_free(void **state)
{
    struct test *test = *state;
    reopen(test, 100, 2);
    struct line *lines[2];
    uint64_t newest;
    uint64_t late_ns = clock_mono_ns() + 60 * NS_PER_S;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(handle_take(test->qs, late_ns, &lines[i], &newest), OK);
    }
    assert_int_equal(get(test), QS_TIMEOUT);
    assert_non_null(strstr(qs_last_error(), "all 2 connections"));
    handle_give(test->qs, lines[0], true, 0);
    assert_int_equal(get(test), QS_NOT_FOUND);
    handle_give(test->qs, lines[1], false, 0);
    assert_int_equal(handle_take(test->qs, late_ns, &lines[0], &newest), OK);
    assert_int_equal(handle_take(test->qs, late_ns, &lines[1], &newest), OK);
    handle_give(test->qs, lines[0], true, 0);
    handle_give(test->qs, lines[1], true, 0);
    assert_int_equal(get(test), QS_NOT_FOUND);
}

// ---- watches -----------------------------------------------------------------------------------

static const char changes[] = "*3\r\n$8\r\nqs.watch\r\n:11\r\n*6\r\n"
                              "$3\r\nput\r\n$1\r\na\r\n$1\r\n1\r\n"
                              "$6\r\ndelete\r\n$1\r\nb\r\n$-1\r\n";

static void test_a_watch_goes_on(void **state)
{
    struct test *test = *state;
    struct qs_watch *watch;
    struct qs_bytes bytes;
    false_step(&test->daemon, "QS.WATCH", LAST, changes);
    false_step(&test->daemon, "QS.WATCH", LAST, "*2\r\n$11\r\nqs.progress\r\n:20\r\n");
    false_step(&test->daemon, "QS.WATCH", LAST, "-GONE the history does not reach back\r\n");
    assert_int_equal(qs_watch_open(&watch, test->qs, "p", 1, NULL), QS_OK);
    assert_int_equal(qs_watch_next(watch, 20 * SECOND_MS, test->result), QS_OK);
    assert_int_equal(qs_count(test->result), 2);
    assert_int_equal(qs_result_index(test->result), 11);
    check_value(test, "1");
    assert_int_equal(qs_key(test->result, 1, &bytes), QS_OK);
    assert_memory_equal(bytes.data, "b", 1);
    assert_int_equal(qs_value(test->result, 1, &bytes), QS_NOT_FOUND);
    assert_int_equal(qs_watch_next(watch, 20 * SECOND_MS, test->result), QS_OK);
    assert_int_equal(qs_count(test->result), 0);
    assert_int_equal(qs_result_index(test->result), 20);
    assert_int_equal(qs_watch_next(watch, 20 * SECOND_MS, test->result), QS_GONE);
    qs_watch_close(watch);
    assert_int_equal(false_asked(&test->daemon, "QS.WATCH p FROM " OLD_HISTORY ":11"), 1);
    assert_int_equal(false_asked(&test->daemon, "QS.WATCH p FROM " OLD_HISTORY ":12"), 1);
    assert_int_equal(false_asked(&test->daemon, "QS.WATCH p FROM " OLD_HISTORY ":21"), 1);
    // What was told counts as seen.
    char token[QS_TOKEN_BYTES];
    assert_int_equal(qs_token(test->qs, token), QS_OK);
    assert_string_equal(token, OLD_HISTORY ":20");
}

static void test_a_watch_without_news(void **state)
{
    struct test *test = *state;
    struct qs_watch *watch;
    false_step(&test->daemon, "QS.WATCH", MUTE, "");
    assert_int_equal(qs_watch_open(&watch, test->qs, "p", 1, "5"), QS_OK);
    assert_int_equal(qs_watch_next(watch, 0, test->result), QS_TIMEOUT);
    static const char asked[] = "QS.WATCH p FROM " OLD_HISTORY ":5";
    for (unsigned i = 0; i < 20 * SECOND_MS && false_asked(&test->daemon, asked) == 0; i++) {
        assert_int_equal(qs_watch_next(watch, 1, test->result), QS_TIMEOUT);
    }
    qs_watch_close(watch);
    assert_int_equal(false_asked(&test->daemon, asked), 1);
    // What was told already is not told again, whatever comes.
    static const char twice[] = "*3\r\n$8\r\nqs.watch\r\n:11\r\n*0\r\n"
                                "*3\r\n$8\r\nqs.watch\r\n:11\r\n*0\r\n";
    false_step(&test->daemon, "QS.WATCH", WHOLE, twice);
    assert_int_equal(qs_watch_open(&watch, test->qs, "p", 1, "5"), QS_OK);
    assert_int_equal(qs_watch_next(watch, 20 * SECOND_MS, test->result), QS_OK);
    assert_int_equal(qs_watch_next(watch, 20 * SECOND_MS, test->result), QS_PROTOCOL);
    qs_watch_close(watch);
}

// ---- the door ----------------------------------------------------------------------------------

struct false_door {
    struct door door;
    uint64_t index; // at which it answers
    uint64_t least; // asked for last
    uint64_t spent_ns;
    int code;
    unsigned forgotten, closed;
};

static int door_get(struct door *door, struct bytes key, uint64_t least, struct qs_result *result,
                    struct door_answer *ret_answer)
{
    struct false_door *own = CONTAINER_OF(door, struct false_door, door);
    own->least = least;
    *ret_answer = (struct door_answer){.index = own->index, .spent_ns = own->spent_ns};
    if (own->code == ERR_INCOMPLETE) {
        return ERR_INCOMPLETE;
    }
    result_one(result, key, own->code == OK ? 150 : 0, own->index);
    return own->code;
}

static int door_exists(struct door *door, struct bytes key, uint64_t least,
                       struct door_answer *ret_answer)
{
    struct qs_result scratch = {0};
    int code = door_get(door, key, least, &scratch, ret_answer);
    result_close(&scratch);
    return code;
}

static void door_forget(struct door *door)
{
    CONTAINER_OF(door, struct false_door, door)->forgotten++;
}

static void door_close(struct door *door)
{
    CONTAINER_OF(door, struct false_door, door)->closed++;
}

static void test_the_door_comes_first(void **state)
{
    static const struct door_calls calls = {
        .get = door_get, .exists = door_exists, .forget = door_forget, .close = door_close};
    struct test *test = *state;
    struct false_door door = {.door.calls = &calls, .code = ERR_INCOMPLETE};
    test->qs->door = &door.door;
    false_show(&test->daemon, OLD_HISTORY, 300, 180);
    assert_int_equal(get(test), QS_NOT_FOUND);
    assert_int_equal(qs_result_index(test->result), 120);
    door.code = OK;
    door.index = 200;
    assert_int_equal(get(test), QS_OK);
    check_value(test, "k");
    assert_int_equal(qs_version(test->result, 0), 150);
    assert_int_equal(door.least, 120);
    door.code = ERR_NOT_FOUND;
    door.index = 250;
    assert_int_equal(qs_exists(test->qs, "k", 1), QS_NOT_FOUND);
    assert_int_equal(door.least, 200);
    // The socket shows nothing before what the door showed.
    door.code = ERR_INCOMPLETE;
    door.spent_ns = 19 * NS_PER_S;
    assert_int_equal(get(test), QS_NOT_FOUND);
    assert_int_equal(qs_result_index(test->result), 250);
    // The time that the door has taken is the call's: of 20 s there is one left.
    const char *asked = strstr(test->daemon.asked[test->daemon.asked_count - 1], "MININDEX ");
    assert_non_null(asked);
    assert_true(strtoull(strrchr(asked, ' '), NULL, 10) < SECOND_MS);
    qs_forget(test->qs);
    assert_int_equal(door.forgotten, 1);
    reopen(test, SECOND_MS, 1);
    assert_int_equal(door.closed, 1);
}

static void ask_until(struct test *test, unsigned maps)
{
    while (false_asked(&test->daemon, "QS.MAP") < maps) {
        assert_int_equal(get(test), QS_NOT_FOUND);
    }
}

// A daemon that shares nothing is asked once. Whatever comes in its place is asked, too, once.
static void test_not_shared(void **state)
{
    static const char *const answers[] = {"-ERR unknown command 'QS.MAP'\r\n", ":4\r\n"};
    struct test *test = *state;
    struct qs_options options = {.size = sizeof options, .connections = 1};
    qs_close(test->qs);
    assert_int_equal(qs_open(&test->qs, test->daemon.address, &options), QS_OK);
    for (unsigned i = 0; i < ARRAY_LEN(answers); i++) {
        for (unsigned j = 0; j < 10; j++) {
            false_step(&test->daemon, "QS.MAP", WHOLE, answers[i]);
        }
        ask_until(test, i + 1);
        uint64_t until_ns = clock_mono_ns() + 400 * NS_PER_MS; // or it would be asked again
        while (clock_mono_ns() < until_ns) {
            assert_int_equal(get(test), QS_NOT_FOUND);
            clock_sleep_ns(NS_PER_MS);
        }
        assert_int_equal(false_asked(&test->daemon, "QS.MAP"), i + 1);
        false_end(&test->daemon);
        test->daemon.step_count = 0;
        false_begin(&test->daemon, OLD_HISTORY, 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_not_back_on_another_connection),
        TEST(test_a_daemon_that_stands_lower),
        TEST(test_another_history),
        TEST(test_threads_share_what_they_saw),
        TEST(test_no_connection_free),
        TEST(test_a_watch_goes_on),
        TEST(test_a_watch_without_news),
        TEST(test_the_door_comes_first),
        TEST(test_not_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
