// SPDX-License-Identifier: Apache-2.0
// Tokens as text, and what a view has to say of them.
#include "tests/unit/support.h"

#include "qs/token.h"

static const uint8_t history[HISTORY_ID_BYTES] = {0x00, 0x09, 0x0a, 0x9f, 0xf0, 0xff, [15] = 0x1e};

#define HISTORY_WORDS "00090a9ff0ff0000000000000000001e"

static void test_text(void **state)
{
    (void)state;
    static const uint64_t indexes[] = {0, 7, UINT64_MAX};
    for (unsigned i = 0; i < ARRAY_LEN(indexes); i++) {
        char text[TOKEN_BYTES];
        struct token token;
        token_text(history, indexes[i], text);
        assert_memory_equal(text, HISTORY_WORDS ":", 2 * HISTORY_ID_BYTES + 1);
        assert_int_equal(token_parse(bytes_text(text), &token), OK);
        assert_true(token.named && token.index == indexes[i]);
        assert_memory_equal(token.history, history, HISTORY_ID_BYTES);
    }
    struct token token;
    assert_int_equal(token_parse(bytes_text("00090A9FF0FF0000000000000000001E:5"), &token), OK);
    assert_memory_equal(token.history, history, HISTORY_ID_BYTES);
    assert_int_equal(token_parse(bytes_text("12"), &token), OK);
    assert_true(!token.named && token.index == 12);
}

static void test_nonsense(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        "x",
                                        "-1",
                                        "1:2",
                                        "18446744073709551616",
                                        HISTORY_WORDS,
                                        HISTORY_WORDS ":",
                                        HISTORY_WORDS ":x",
                                        HISTORY_WORDS ":18446744073709551616",
                                        HISTORY_WORDS "0:1",
                                        "g0090a9ff0ff0000000000000000001e:1",
                                        "0009 a9ff0ff0000000000000000001e:1"};
    for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
        struct token token = {.index = 77};
        assert_int_equal(token_parse(bytes_text(texts[i]), &token), ERR_USAGE);
        assert_int_equal(token.index, 77);
    }
}

// A token is of the view's history to its last bit, or it says nothing about this view.
static void test_check(void **state)
{
    (void)state;
    struct view view = {.place.number = 1, .place.index = 3};
    memcpy(view.history, history, HISTORY_ID_BYTES);
    const struct token bare = {.index = 9};
    struct token named = {.index = 2, .named = true};
    memcpy(named.history, history, HISTORY_ID_BYTES);
    assert_int_equal(token_check(&named, &view), OK);
    for (unsigned bit = 0; bit < 8 * HISTORY_ID_BYTES; bit++) {
        named.history[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(token_check(&named, &view), ERR_HISTORY);
        named.history[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    const struct view empty = {.place.number = 0};
    assert_int_equal(token_check(&named, &empty), ERR_LOADING);
    assert_int_equal(token_check(&named, NULL), ERR_LOADING);
    assert_int_equal(token_check(&bare, &view), OK);
    assert_int_equal(token_check(&bare, NULL), OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
