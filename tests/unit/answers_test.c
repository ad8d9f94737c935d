// SPDX-License-Identifier: Apache-2.0
// Replies of a daemon: whatever pieces they come in, and whatever is wrong with them.
#include "tests/unit/support.h"

#include "common/client/answers.h"
#include "common/client/fault.h"
#include "common/wire/resp.h"

static const char nested[] = "*3\r\n$8\r\nqs.watch\r\n:7\r\n*3\r\n$3\r\nput\r\n$1\r\nk\r\n$-1\r\n"
                             "-BEHIND 12\r\n+OK\r\n";

static void feed(struct answers *answers, const char *text, size_t size)
{
    buf_append(&answers->data, text, size);
}

static int parse(struct answers *answers, const char *text, unsigned wanted)
{
    feed(answers, text, strlen(text));
    return answers_parse(answers, wanted);
}

static void check_nested(const struct answers *answers)
{
    assert_int_equal(answers->whole, 3);
    assert_int_equal(answers->count, 9);
    assert_int_equal(answers->starts[1], 7);
    assert_int_equal(answers->starts[2], 8);
    assert_int_equal(answers->items[2].number, 7);
    assert_non_null(answers_item(answers, 3, '*'));
    assert_null(answers_item(answers, 6, '$')); // nil
    const struct answer *word = answers_item(answers, 1, '$');
    assert_true(bytes_equal_text(answer_bytes(answers, word), "qs.watch"));
    const struct answer *error = answers_item(answers, 7, '-');
    assert_true(bytes_equal_text(answer_bytes(answers, error), "BEHIND 12"));
}

static void test_in_any_pieces(void **state)
{
    (void)state;
    struct answers answers = {0};
    assert_int_equal(parse(&answers, nested, 3), 1);
    check_nested(&answers);
    uint64_t random = 3;
    for (unsigned round = 0; round < ROUNDS(300); round++) {
        answers_clear(&answers);
        size_t at = 0;
        while (at < sizeof nested - 1) {
            assert_int_equal(answers_parse(&answers, 3), 0);
            size_t size = test_between(&random, 1, round == 0 ? 1 : 9);
            size = u64_min(size, sizeof nested - 1 - at);
            feed(&answers, nested + at, size);
            at += size;
        }
        assert_int_equal(answers_parse(&answers, 3), 1);
        check_nested(&answers);
    }
    answers_free(&answers);
}

static void test_what_stands_behind_stays(void **state)
{
    (void)state;
    struct answers answers = {0};
    assert_int_equal(parse(&answers, ":1\r\n:2\r\n:", 1), 1);
    assert_int_equal(answers.items[0].number, 1);
    answers_next(&answers);
    assert_int_equal(answers_parse(&answers, 1), 1);
    assert_int_equal(answers.items[0].number, 2);
    answers_next(&answers);
    assert_int_equal(answers_parse(&answers, 1), 0);
    assert_int_equal(parse(&answers, "3\r\n", 1), 1);
    assert_int_equal(answers.items[0].number, 3);
    answers_free(&answers);
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "x\r\n",  "\r\n",          ":\r\n",       ":1\n",          "$-2\r\n", "$x\r\n",
        "*-2\r\n", "$2\r\nabc\r\n", "_\r\n",       "%1\r\n:1\r\n:1\r\n", ": 1\r\n", "$2\r\nabXX",
        "*99999999999\r\n", "$99999999999\r\n", "HTTP/1.1 200 OK\r\n",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct answers answers = {0};
        assert_int_equal(parse(&answers, bad[i], 1), ERR_PROTOCOL);
        answers_free(&answers);
    }
    struct answers endless = {0};
    int code = 0;
    for (unsigned i = 0; i < 5000 && code == 0; i++) {
        code = parse(&endless, "+", 1);
    }
    assert_int_equal(code, ERR_PROTOCOL);
    answers_free(&endless);
}

// A count costs nothing before what it counts is there.
static void test_counts_are_not_believed(void **state)
{
    (void)state;
    struct answers answers = {0};
    assert_int_equal(parse(&answers, "*2147483647\r\n", 1), 0);
    assert_int_equal(parse(&answers, "*2147483647\r\n$2147483647\r\n", 1), 0);
    assert_true(answers.capacity < 100);
    assert_true(answers.data.capacity < 1000);
    answers_free(&answers);
}

static void test_mutations(void **state)
{
    (void)state;
    uint64_t random = 11;
    for (unsigned round = 0; round < ROUNDS(20000); round++) {
        struct answers answers = {0};
        feed(&answers, nested, sizeof nested - 1);
        for (uint64_t i = test_between(&random, 1, 4); i > 0; i--) {
            uint64_t at = test_random(&random) % (sizeof nested - 1);
            answers.data.data[at] = (uint8_t)test_random(&random);
        }
        int code = answers_parse(&answers, 3);
        assert_true(code == 0 || code == 1 || code == ERR_PROTOCOL);
        for (size_t i = 0; i < answers.count; i++) {
            const struct answer *item = &answers.items[i];
            assert_true(item->offset + item->size <= answers.data.size);
        }
        answers_free(&answers);
    }
}

static void test_errors_of_replies(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        int error;
    } rows[] = {
        {"READONLY You can't write against a read only replica.", ERR_READONLY},
        {"READONLY in other words", ERR_READONLY},
        {"READONLY the root that takes writes is not reached from here now: nothing was written",
         ERR_NO_LEADER},
        {"ERR a limit on work under way is reached, try again", ERR_BUSY},
        {"LOADING Redis is loading the dataset in memory", ERR_LOADING},
        {"LOADING", ERR_LOADING},
        {"HISTORY the token belongs to another history", ERR_HISTORY},
        {"HISTORY the data here became that of another history: connect again", ERR_FORKED},
        {"UNKNOWN whatever", ERR_UNKNOWN_OUTCOME},
        {"ERR something new", ERR_REFUSED},
        {"ERR no such key", ERR_REFUSED},
        {"ERR the connection was closed by the other side", ERR_REFUSED},
        {"ERR timed out", ERR_REFUSED},
        {"ERR", ERR_REFUSED},
        {"", ERR_REFUSED},
        {"BEHIND 17", ERR_BEHIND},
        {"CONFLICT 9", ERR_CONFLICT},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t number = 1;
        assert_int_equal(fault_of_reply(bytes_text(rows[i].line), &number), rows[i].error);
        bool counted = rows[i].error == ERR_BEHIND || rows[i].error == ERR_CONFLICT;
        assert_int_equal(number, !counted ? 1 : rows[i].error == ERR_BEHIND ? 17 : 9);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_any_pieces),
        cmocka_unit_test(test_what_stands_behind_stays),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_counts_are_not_believed),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_errors_of_replies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
