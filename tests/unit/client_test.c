// SPDX-License-Identifier: Apache-2.0
// libqs against a false daemon: short reads, connections that end at the worst moment, answers of
// the wrong shape or that say to come again, writes of which nobody knows.
#include "tests/unit/client_fixture.h"

#include <dirent.h>
#include <sys/resource.h>

#include "common/client/handle.h"

#define CALLS_MOST (FALSE_STEPS / 2)

// ---- reads -------------------------------------------------------------------------------------

static void test_reads_in_pieces(void **state)
{
    struct test *test = *state;
    for (unsigned i = 0; i < 20; i++) {
        false_step(&test->daemon, "QS.GET", DRIBBLE, "*3\r\n$5\r\nva\r\nl\r\n:7\r\n:9\r\n");
        assert_int_equal(get(test), QS_OK);
        check_value(test, "va\r\nl");
        assert_int_equal(qs_version(test->result, 0), 7);
        assert_int_equal(qs_result_index(test->result), 9);
        false_step(&test->daemon, "QS.GET", DRIBBLE, "*3\r\n$-1\r\n:0\r\n:10\r\n");
        assert_int_equal(get(test), QS_NOT_FOUND);
        assert_int_equal(qs_result_index(test->result), 10);
    }
    assert_int_equal(false_greeted(&test->daemon), 1);
}

static void test_reads_are_repeated(void **state)
{
    struct test *test = *state;
    static const char value[] = "*3\r\n$5\r\nvalue\r\n:7\r\n:10\r\n";
    false_step(&test->daemon, "QS.GET", CUT, value);
    false_step(&test->daemon, "QS.GET", CLOSE, "");
    false_step(&test->daemon, "QS.GET", WHOLE, "-LOADING Redis is loading\r\n");
    false_step(&test->daemon, "QS.GET", WHOLE,
               "-ERR a limit on work under way is reached, try again\r\n");
    false_step(&test->daemon, "QS.GET", WHOLE, value);
    assert_int_equal(get(test), QS_OK);
    check_value(test, "value");
    assert_int_equal(false_asked(&test->daemon, "QS.GET"), 5);
}

static void test_answers_of_the_wrong_shape(void **state)
{
    struct test *test = *state;
    static const char *const bad[] = {
        ":1\r\n", "*3\r\n:1\r\n:2\r\n:3\r\n", "*2\r\n$1\r\na\r\n:1\r\n", "+OK\r\n", "HTTP/1.1\r\n",
        "*3\r\n$-1\r\n:0\r\n:10\r\n:11\r\n", // one reply too many
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        false_step(&test->daemon, "QS.GET", WHOLE, bad[i]);
        assert_int_equal(get(test), QS_PROTOCOL);
    }
    // None of these connections was used again.
    assert_int_equal(get(test), QS_NOT_FOUND);
    assert_int_equal(false_greeted(&test->daemon), ARRAY_LEN(bad) + 1);
}

static void test_many_keys(void **state)
{
    struct test *test = *state;
    static const char two[] = "*2\r\n*3\r\n$1\r\nv\r\n:7\r\n:9\r\n*3\r\n$-1\r\n:0\r\n:9\r\n";
    // Keys that look like the words behind keys.
    const struct qs_bytes keys[] = {{"a", 1}, {"MININDEX", 8}, {"5", 1}, {"6", 1}};
    struct qs_bytes value;
    false_step(&test->daemon, "QS.MGET", WHOLE, two);
    assert_int_equal(qs_get_many(test->qs, 2, keys, test->result), QS_OK);
    assert_int_equal(qs_count(test->result), 2);
    check_value(test, "v");
    assert_int_equal(qs_version(test->result, 0), 7);
    assert_int_equal(qs_value(test->result, 1, &value), QS_NOT_FOUND);
    assert_int_equal(qs_value(test->result, 2, &value), QS_USAGE);
    assert_int_equal(qs_key(test->result, 0, &value), QS_USAGE);
    false_step(&test->daemon, "QS.MGET", WHOLE, two);
    assert_int_equal(qs_get_many(test->qs, 4, keys, test->result), QS_PROTOCOL);
    assert_int_equal(
        false_asked(&test->daemon, "QS.MGET a MININDEX 5 6 MININDEX " OLD_HISTORY ":9 "), 1);
    assert_int_equal(qs_get_many(test->qs, 0, keys, test->result), QS_USAGE);
}

static void test_too_long_a_reply(void **state)
{
    struct test *test = *state;
    char *answer = mem_zalloc(2 * MIB);
    int head = snprintf(answer, 64, "*3\r\n$%u\r\n", (unsigned)(2 * MIB - 100));
    memset(answer + head, 'x', 2 * MIB - 1 - (size_t)head);
    false_step(&test->daemon, "QS.GET", WHOLE, answer);
    assert_int_equal(get(test), QS_REPLY_SIZE);
    assert_int_equal(get(test), QS_NOT_FOUND);
    mem_free(answer);
}

static void test_nobody_there(void **state)
{
    struct test *test = *state;
    reopen(test, 100, 0);
    false_end(&test->daemon);
    assert_int_equal(get(test), QS_CLOSED);
    assert_non_null(strstr(qs_last_error(), test->daemon.address));
    assert_int_equal(qs_put(test->qs, "k", 1, "v", 1, NULL), QS_CLOSED);
    false_begin(&test->daemon, OLD_HISTORY, 10);
    assert_int_equal(get(test), QS_NOT_FOUND);
}

static void test_no_answer(void **state)
{
    struct test *test = *state;
    reopen(test, 100, 0);
    false_step(&test->daemon, "QS.GET", MUTE, "");
    assert_int_equal(get(test), QS_TIMEOUT);
    false_step(&test->daemon, "QS.INDEX", MUTE, "");
    uint64_t index;
    assert_int_equal(qs_index(test->qs, &index), QS_TIMEOUT);
    reopen(test, 20 * SECOND_MS, 0);
    assert_int_equal(qs_index(test->qs, &index), QS_OK);
}

// How often the caller slept in a call that is not answered in time.
static long count_sleeps(struct test *test, uint64_t busy_poll)
{
    struct qs *qs;
    struct rusage before, after;
    const struct qs_options options = {
        .size = sizeof options, .timeout_ms = 2, .busy_poll = busy_poll};
    false_step(&test->daemon, "QS.GET", MUTE, "");
    assert_int_equal(qs_open(&qs, test->daemon.address, &options), QS_OK);
    assert_int_equal(getrusage(RUSAGE_THREAD, &before), 0);
    assert_int_equal(qs_get(qs, "k", 1, test->result), QS_TIMEOUT);
    assert_int_equal(getrusage(RUSAGE_THREAD, &after), 0);
    qs_close(qs);
    return after.ru_nvcsw - before.ru_nvcsw;
}

// Who looks sleeps all the same if its core is wanted by somebody else, but not each time.
static void test_looks_in_place_of_sleeping(void **state)
{
    struct test *test = *state;
    assert_true(count_sleeps(test, 0) > 0);
    unsigned calls = 1;
    while (count_sleeps(test, 10000) > 0 && calls < CALLS_MOST) {
        calls++;
    }
    assert_true(calls < CALLS_MOST);
}

// ---- writes ------------------------------------------------------------------------------------

static void test_an_unknown_write_is_not_repeated(void **state)
{
    struct test *test = *state;
    static const enum how lost[] = {CUT, CLOSE};
    for (unsigned i = 0; i < ARRAY_LEN(lost); i++) {
        false_step(&test->daemon, "QS.PUT", lost[i], ":11\r\n");
        assert_int_equal(put(test), QS_UNKNOWN_OUTCOME);
        assert_int_equal(false_asked(&test->daemon, "QS.PUT"), i + 1);
    }
    false_step(&test->daemon, "QS.PUT", WHOLE, "+what\r\n");
    assert_int_equal(put(test), QS_UNKNOWN_OUTCOME);
    false_step(&test->daemon, "QS.PUT", WHOLE, "-UNKNOWN outcome unknown\r\n");
    assert_int_equal(put(test), QS_UNKNOWN_OUTCOME);
    assert_int_equal(false_asked(&test->daemon, "QS.PUT"), 4);
    reopen(test, 500, 0);
    false_step(&test->daemon, "QS.DELETE", MUTE, "");
    assert_int_equal(qs_delete(test->qs, "k", 1, NULL), QS_UNKNOWN_OUTCOME);
    false_step(&test->daemon, "QS.CAS", MUTE, "");
    assert_int_equal(qs_cas(test->qs, "k", 1, 0, "v", 1, NULL), QS_UNKNOWN_OUTCOME);
    assert_int_equal(false_asked(&test->daemon, "QS.DELETE"), 1);
    assert_int_equal(false_asked(&test->daemon, "QS.CAS"), 1);
}

// What the daemon cannot have, or says that it did not do, is sent again.
static void test_a_write_that_was_not_made_is_repeated(void **state)
{
    struct test *test = *state;
    uint64_t index;
    false_step(&test->daemon, "QS.PUT", LAST, ":11\r\n"); // the connection ends while it is idle
    assert_int_equal(put(test), QS_OK);
    false_end(&test->daemon);
    false_begin(&test->daemon, OLD_HISTORY, 11);
    false_step(&test->daemon, "QS.PUT", WHOLE, "-LOADING Redis is loading\r\n");
    false_step(&test->daemon, "QS.PUT", WHOLE,
               "-ERR a limit on work under way is reached, try again\r\n");
    false_step(&test->daemon, "QS.PUT", WHOLE, ":12\r\n");
    assert_int_equal(qs_put(test->qs, "k", 1, "v", 1, &index), QS_OK);
    assert_int_equal(index, 12);
    assert_int_equal(false_asked(&test->daemon, "QS.PUT"), 4);
}

// What is sent on a connection that has ended may be lost on its way, and nobody would know.
static void test_a_write_after_the_end(void **state)
{
    (void)state;
    struct false_daemon daemon;
    false_open(&daemon, true);
    struct qs *qs = open_qs(&daemon);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(qs_put(qs, "k", 1, "v", 1, NULL), QS_OK);
        false_end(&daemon);
        false_begin(&daemon, OLD_HISTORY, daemon.index);
    }
    assert_int_equal(false_greeted(&daemon), 10);
    qs_close(qs);
    false_close(&daemon);
}

static void test_a_refused_write_says_why(void **state)
{
    struct test *test = *state;
    false_step(&test->daemon, "QS.PUT", WHOLE,
               "-READONLY You can't write against a read only replica.\r\n");
    assert_int_equal(put(test), QS_READONLY);
    assert_non_null(strstr(qs_last_error(), "read only replica"));
    // The daemon does not read on once it refuses.
    char *value = mem_zalloc(16 * MIB);
    false_step(&test->daemon, "QS.PUT", EARLY, "-ERR request exceeds request_bytes\r\n");
    assert_int_equal(qs_put(test->qs, "k", 1, value, 16 * MIB, NULL), QS_REQUEST_SIZE);
    mem_free(value);
    // What no daemon takes is not even looked at.
    unsigned asked = test->daemon.asked_count;
    assert_int_equal(qs_put(test->qs, "k", 1, "v", 2 * GIB, NULL), QS_REQUEST_SIZE);
    assert_int_equal(put(test), QS_OK);
    assert_int_equal(false_asked(&test->daemon, "QS.PUT"), asked + 1);
}

static void test_a_conflict_tells_the_version(void **state)
{
    struct test *test = *state;
    uint64_t version = 0;
    false_step(&test->daemon, "QS.CAS", WHOLE, "-CONFLICT 9\r\n");
    assert_int_equal(qs_cas(test->qs, "k", 1, 4, "v", 1, &version), QS_CONFLICT);
    assert_int_equal(version, 9);
    char token[QS_TOKEN_BYTES];
    assert_int_equal(qs_token(test->qs, token), QS_OK);
    assert_string_equal(token, OLD_HISTORY ":9"); // somebody wrote that, and we know
}

// ---- parameters --------------------------------------------------------------------------------

static void test_what_cannot_be_opened(void **state)
{
    (void)state;
    struct qs *qs = NULL;
    struct qs_options options = {.size = sizeof options, .connections = 5000};
    assert_int_equal(qs_open(&qs, NULL, NULL), QS_CONFIG);
    assert_int_equal(qs_open(&qs, "nowhere", NULL), QS_CONFIG);
    assert_non_null(strstr(qs_last_error(), "nowhere"));
    assert_int_equal(qs_open(&qs, "unix:relative", NULL), QS_CONFIG);
    assert_int_equal(qs_open(&qs, "unix:/tmp/x", &options), QS_CONFIG);
    options.connections = 0;
    options.shared = 3;
    assert_int_equal(qs_open(&qs, "unix:/tmp/x", &options), QS_CONFIG);
    options.shared = 0;
    options.busy_poll = 10001;
    assert_int_equal(qs_open(&qs, "unix:/tmp/x", &options), QS_CONFIG);
    assert_non_null(strstr(qs_last_error(), "10001"));
    options.size = offsetof(struct qs_options, busy_poll); // what lies behind is not the caller's
    assert_int_equal(qs_open(&qs, "unix:/tmp/x", &options), QS_OK);
    qs_close(qs);
    qs = NULL;
    options.size = 2;
    assert_int_equal(qs_open(&qs, "unix:/tmp/x", &options), QS_CONFIG);
    assert_null(qs);
    // A program that was built with an earlier header.
    options.size = offsetof(struct qs_options, timeout_ms);
    assert_int_equal(qs_open(&qs, "unix:/tmp/x", &options), QS_OK);
    char token[QS_TOKEN_BYTES];
    assert_int_equal(qs_token(qs, token), QS_NOT_FOUND);
    qs_close(qs);
    qs_close(NULL);
    qs_result_free(NULL);
}

static void test_an_instance_that_is_not_there(void **state)
{
    struct test *test = *state;
    struct qs_options options = {.size = sizeof options, .instance = "zones"};
    qs_close(test->qs);
    assert_int_equal(qs_open(&test->qs, test->daemon.address, &options), QS_OK);
    false_step(&test->daemon, "SELECT", WHOLE, "-ERR value is not an integer or out of range\r\n");
    assert_int_equal(get(test), QS_NO_INSTANCE);
    assert_non_null(strstr(qs_last_error(), "zones"));
    false_step(&test->daemon, "SELECT", WHOLE, "+OK\r\n");
    assert_int_equal(get(test), QS_NOT_FOUND);
    // It has something else to say, and closes at once.
    struct line *line;
    false_step(&test->daemon, "SELECT", LAST, "-ERR max number of clients reached\r\n");
    assert_int_equal(handle_open_line(test->qs, clock_mono_ns() + 60 * NS_PER_S, &line),
                     ERR_CLIENTS_LIMIT);
}

// ---- descriptors -------------------------------------------------------------------------------

static unsigned open_descriptors(void)
{
    unsigned count = 0;
    DIR *directory = opendir("/proc/self/fd");
    assert_non_null(directory);
    while (readdir(directory) != NULL) {
        count++;
    }
    closedir(directory);
    return count;
}

static void send_with_fds(int to, const char *text, unsigned count)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(8 * sizeof(int))];
    } control = {.header = {.cmsg_len = CMSG_LEN(count * sizeof(int)),
                            .cmsg_level = SOL_SOCKET,
                            .cmsg_type = SCM_RIGHTS}};
    for (unsigned i = 0; i < count; i++) {
        memcpy(CMSG_DATA(&control.header) + i * sizeof to, &to, sizeof to);
    }
    struct iovec piece = {.iov_base = (void *)text, .iov_len = strlen(text)};
    struct msghdr message = {.msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = CMSG_SPACE(count * sizeof(int))};
    assert_int_equal(sendmsg(to, &message, 0), strlen(text));
}

// However many come, in however many pieces: no more than were asked for are taken, and none of the
// others stays open.
static void test_too_many_descriptors(void **state)
{
    (void)state;
    for (unsigned first = 1; first <= 8; first++) {
        int sockets[2], fds[4];
        unsigned count, before = open_descriptors();
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
        struct line line = {.fd = sockets[0], .in.data.limit = 4096};
        send_with_fds(sockets[1], ":", first);
        send_with_fds(sockets[1], "4\r\n", 3);
        uint64_t deadline_ns = clock_mono_ns() + 20 * NS_PER_S;
        assert_int_equal(line_exchange_fds(&line, deadline_ns, fds, 4, &count), OK);
        assert_int_equal(count, u64_min(first + 3, 4));
        for (unsigned i = 0; i < count; i++) {
            close(fds[i]);
        }
        line_close(&line);
        close(sockets[1]);
        assert_int_equal(open_descriptors(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reads_in_pieces),
        TEST(test_reads_are_repeated),
        TEST(test_answers_of_the_wrong_shape),
        TEST(test_many_keys),
        TEST(test_too_long_a_reply),
        TEST(test_nobody_there),
        TEST(test_no_answer),
        TEST(test_looks_in_place_of_sleeping),
        TEST(test_an_unknown_write_is_not_repeated),
        TEST(test_a_write_that_was_not_made_is_repeated),
        cmocka_unit_test(test_a_write_after_the_end),
        TEST(test_a_refused_write_says_why),
        TEST(test_a_conflict_tells_the_version),
        cmocka_unit_test(test_what_cannot_be_opened),
        TEST(test_an_instance_that_is_not_there),
        cmocka_unit_test(test_too_many_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
