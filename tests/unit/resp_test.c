// SPDX-License-Identifier: Apache-2.0
// The request parser, replies, numbers and globs: the expected texts are Redis 7.0's own. Every
// input is parsed whole, cut at each place, and byte by byte, always with the same outcome.
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
// cmocka wants the four above first.
#include <cmocka.h>

#include "common/base/mem.h"
#include "common/wire/resp.h"

static const struct resp_limits limits = {
    .request_bytes = 1 << 20, .words_max = 1048576, .inline_max = 65536};

// What a run of the parser over some input came to, as text: "[word|word]" for each request.
struct outcome {
    struct buf text;
    int error;
};

static void record_request(struct outcome *outcome, const struct resp_parser *parser,
                           struct bytes data)
{
    buf_append_text(&outcome->text, "[");
    for (size_t i = 0; i < resp_word_count(parser); i++) {
        buf_append_text(&outcome->text, i == 0 ? "" : "|");
        buf_append_bytes(&outcome->text, resp_word(parser, data, i));
    }
    buf_append_text(&outcome->text, "]");
}

// Feeds `input` in pieces that end at the given places; each piece in memory of its own, so that
// the sanitizer sees a read past what has arrived.
static void run(struct outcome *outcome, struct bytes input, const size_t *cuts, size_t cut_count)
{
    struct resp_parser parser;
    resp_open(&parser, &limits);
    *outcome = (struct outcome){.error = OK};
    size_t start = 0;
    for (size_t i = 0; i <= cut_count && outcome->error == OK; i++) {
        size_t end = i < cut_count ? cuts[i] : input.size;
        uint8_t *copy = mem_copy(input.data + start, end - start);
        struct bytes rest = bytes_of(copy, end - start);
        while (rest.size > 0) {
            ssize_t used = resp_parse(&parser, rest);
            if (used < 0) {
                outcome->error = (int)used;
                buf_append_text(&outcome->text, used == ERR_PROTOCOL ? parser.error : "too large");
            }
            if (used <= 0) {
                break;
            }
            record_request(outcome, &parser, rest);
            rest = bytes_of(rest.data + used, rest.size - (size_t)used);
            start += (size_t)used;
        }
        mem_free(copy);
    }
    resp_close(&parser);
    buf_append(&outcome->text, "", 1);
}

static void expect(const char *input, size_t size, const char *expected)
{
    struct bytes data = bytes_of(input, size);
    struct outcome outcome;
    run(&outcome, data, NULL, 0);
    assert_string_equal((char *)outcome.text.data, expected);
    buf_free(&outcome.text);
    for (size_t cut = 0; cut <= size && size < 4096; cut++) {
        run(&outcome, data, &cut, 1);
        assert_string_equal((char *)outcome.text.data, expected);
        buf_free(&outcome.text);
    }
    if (size >= 4096) {
        return;
    }
    size_t *cuts = mem_alloc((size + 1) * sizeof *cuts);
    for (size_t i = 0; i < size; i++) {
        cuts[i] = i;
    }
    run(&outcome, data, cuts, size);
    assert_string_equal((char *)outcome.text.data, expected);
    buf_free(&outcome.text);
    mem_free(cuts);
}

#define EXPECT(input, expected) expect(input, sizeof(input) - 1, expected)

// What is recognised is what the parser finds; and it is recognised whole or not at all.
static void check_get(struct bytes data)
{
    uint8_t *copy = mem_copy(data.data, data.size);
    struct bytes all = bytes_of(copy, data.size), key;
    size_t size = resp_get(all, &key);
    if (size > 0) {
        struct resp_parser parser;
        resp_open(&parser, &limits);
        assert_true(resp_between(&parser));
        assert_int_equal(resp_parse(&parser, all), size);
        assert_true(resp_between(&parser));
        assert_int_equal(resp_word_count(&parser), 2);
        assert_int_equal(resp_word(&parser, all, 0).size, 3);
        assert_true(bytes_equal(resp_word(&parser, all, 1), key));
        resp_close(&parser);
    }
    mem_free(copy);
}

static size_t get_bytes(struct bytes data)
{
    struct bytes key;
    check_get(data);
    return resp_get(data, &key);
}

static struct bytes get_of(struct buf *to, size_t key_bytes)
{
    char head[64];
    buf_clear(to);
    buf_append(to, head, (size_t)snprintf(head, sizeof head, "*2\r\n$3\r\ngEt\r\n$%zu\r\n",
                                          key_bytes));
    for (size_t i = 0; i < key_bytes; i++) {
        buf_append_text(to, "\r");
    }
    buf_append_text(to, "\r\n");
    return buf_bytes(to);
}

static void test_get(void **state)
{
    (void)state;
    static const char *const others[] = {
        "*2\r\n$3\r\nGET\r\n$0\r\n\r\n",    "*2\r\n$3\r\nGET\r\n$01\r\na\r\n",
        "*2\r\n$3\r\nGEX\r\n$1\r\na\r\n",   "*2\r\n$3\r\nGET\r\n$2\r\na\r\n\r\n",
        "*3\r\n$3\r\nGET\r\n$1\r\na\r\n",   "*2\r\n$3\r\nGET\r\n$-1\r\na\r\n",
        "*2\r\n$3\r\nGET\r\n$1\r\na\rx",     "*2\r\n$3\r\nGET\r\n$1\n\na\r\n",
        "*2\r\n$4\r\nMGET\r\n$1\r\na\r\n",  "GET aaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"};
    struct buf text = {0};
    for (size_t bytes = 1; bytes <= RESP_GET_KEY_MAX + 1; bytes++) {
        struct bytes whole = get_of(&text, bytes);
        assert_int_equal(get_bytes(whole), bytes <= RESP_GET_KEY_MAX ? whole.size : 0);
        for (size_t cut = bytes < 30 ? 0 : whole.size - 1; cut < whole.size; cut++) {
            assert_int_equal(get_bytes(bytes_of(whole.data, cut)), 0);
        }
    }
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(get_bytes(bytes_text(others[i])), 0);
    }
    // Any byte of it may be another.
    struct bytes whole = get_of(&text, 12);
    for (size_t i = 0; i < whole.size; i++) {
        for (unsigned byte = 0; byte < 256; byte++) {
            uint8_t kept = text.data[i];
            text.data[i] = (uint8_t)byte;
            check_get(whole);
            text.data[i] = kept;
        }
    }
    buf_free(&text);
}

static void test_requests(void **state)
{
    (void)state;
    EXPECT("*1\r\n$4\r\nPING\r\n", "[PING]");
    EXPECT("*2\r\n$3\r\nGET\r\n$1\r\na\r\n*1\r\n$4\r\nPING\r\n", "[GET|a][PING]");
    EXPECT("*2\r\n$3\r\nGET\r\n$0\r\n\r\n", "[GET|]");
    EXPECT("*2\r\n$3\r\nGET\r\n$4\r\na\r\nb\r\n", "[GET|a\r\nb]");
    EXPECT("*0\r\n*-1\r\n*-5\r\n\r\n\n  \r\nPING\r\n", "[][][][][][][PING]");
    EXPECT("*1\r\n$4\r\nPI", "");
}

static void test_inline(void **state)
{
    (void)state;
    EXPECT("PING\r\n", "[PING]");
    EXPECT("GET a\nGET  b \r\n", "[GET|a][GET|b]");
    EXPECT("SET \"a b\" 'c\\'d'\r\n", "[SET|a b|c'd]");
    EXPECT("SET \"\\x41\\n\\\"\\xzz\" \"\"\r\n", "[SET|A\n\"xzz|]");
    EXPECT("SET a\"b c\" d\r\n", "[SET|ab c|d]");
    EXPECT("GET 'a\\nb'\r\n", "[GET|a\\nb]");
    EXPECT("GET \"a\r\n", "Protocol error: unbalanced quotes in request");
    EXPECT("GET 'a'b\r\n", "Protocol error: unbalanced quotes in request");
    EXPECT("GET \"a\"b\r\n", "Protocol error: unbalanced quotes in request");
    EXPECT("GET \"a\\\r\n", "Protocol error: unbalanced quotes in request");
    EXPECT("GET a\0b c\r\n", "[GET|a]");
}

static void test_protocol_errors(void **state)
{
    (void)state;
    EXPECT("*abc\r\n", "Protocol error: invalid multibulk length");
    EXPECT("*\r\n", "Protocol error: invalid multibulk length");
    EXPECT("*01\r\n", "Protocol error: invalid multibulk length");
    EXPECT("*1048577\r\n", "Protocol error: invalid multibulk length");
    EXPECT("*99999999999999999999\r\n", "Protocol error: invalid multibulk length");
    EXPECT("*1\rx", "Protocol error: invalid multibulk length");
    EXPECT("*1\r\n:3\r\n", "Protocol error: expected '$', got ':'");
    EXPECT("*1\r\n\r\n", "Protocol error: expected '$', got '\r'");
    EXPECT("*1\r\n$\r\n", "Protocol error: invalid bulk length");
    EXPECT("*1\r\n$-1\r\n", "Protocol error: invalid bulk length");
    EXPECT("*1\r\n$+1\r\n", "Protocol error: invalid bulk length");
    EXPECT("*1\r\n$536870913\r\n", "Protocol error: invalid bulk length");
    EXPECT("*1\r\n$1\r\nabc", "Protocol error: invalid bulk length");
    EXPECT("*1\r\n$1048570\r\n", "too large");
    EXPECT("*2\r\n$3\r\nSET\r\n$1048570\r\n", "too large");
    // The end of the word counts, too: a request of exactly the limit is the largest.
    EXPECT("*1\r\n$1048560\r\n", "");
    EXPECT("*1\r\n$1048561\r\n", "too large");
}

static void test_long_lines(void **state)
{
    (void)state;
    size_t size = 65536 + 2;
    char *text = mem_alloc(size);
    memset(text, 'a', size);
    expect(text, size, "Protocol error: too big inline request");
    expect(text, 65536, "");
    memset(text, '1', size);
    text[0] = '*';
    expect(text, size, "Protocol error: too big mbulk count string");
    memcpy(text, "*1\r\n$", 5);
    char *longer = mem_alloc(size + 4);
    memset(longer, '1', size + 4);
    memcpy(longer, text, 5);
    expect(longer, size + 4, "Protocol error: too big bulk count string");
    mem_free(longer);
    mem_free(text);
}

// Random damage to sound input: any outcome is fine but a bad memory access, and it must not
// depend on where the input is cut.
static void test_mutated(void **state)
{
    (void)state;
    static const char seed[] = "*3\r\n$3\r\nSET\r\n$2\r\nab\r\n$5\r\n12345\r\n"
                               "GET \"a\\x41\" 'b'\r\n"
                               "*2\r\n$3\r\nGET\r\n$0\r\n\r\n\r\n*-1\r\nPING\r\n";
    static const char alphabet[] = "*$\r\n\"'\\x0123456789-+ ab\0";
    uint64_t random = 88172645463325252u;
    for (int round = 0; round < 20000; round++) {
        char input[sizeof seed];
        memcpy(input, seed, sizeof seed);
        for (int i = 0; i < 1 + round % 4; i++) {
            random = random * 6364136223846793005u + 1442695040888963407u;
            input[(random >> 33) % (sizeof seed - 1)] = alphabet[(random >> 20) % sizeof alphabet];
        }
        size_t cuts[2] = {(random >> 40) % sizeof seed, sizeof seed - 1};
        struct outcome whole;
        struct outcome parts;
        run(&whole, bytes_of(input, sizeof seed - 1), NULL, 0);
        run(&parts, bytes_of(input, sizeof seed - 1), cuts, 2);
        assert_int_equal(whole.error, parts.error);
        assert_int_equal(whole.text.size, parts.text.size);
        assert_memory_equal(whole.text.data, parts.text.data, whole.text.size);
        buf_free(&whole.text);
        buf_free(&parts.text);
    }
}

static void expect_reply(struct buf *reply, const char *expected)
{
    buf_append(reply, "", 1);
    assert_string_equal((char *)reply->data, expected);
    buf_free(reply);
}

static void test_replies(void **state)
{
    (void)state;
    struct buf to = {0};
    reply_simple(&to, "OK");
    reply_integer(&to, 0);
    reply_integer(&to, -12);
    reply_integer(&to, INT64_MIN);
    reply_integer(&to, INT64_MAX);
    expect_reply(&to, "+OK\r\n:0\r\n:-12\r\n:-9223372036854775808\r\n:9223372036854775807\r\n");
    reply_error(&to, "ERR a\r\n%s", "b\nc");
    reply_error_code(&to, ERR_READONLY);
    expect_reply(&to, "-ERR a  b c\r\n-READONLY You can't write against a read only replica.\r\n");
    reply_bulk(&to, bytes_text("abc"));
    reply_bulk(&to, bytes_of(NULL, 0));
    expect_reply(&to, "$3\r\nabc\r\n$0\r\n\r\n");
    reply_nil(&to, 2);
    reply_nil(&to, 3);
    reply_nil_array(&to, 2);
    reply_nil_array(&to, 3);
    expect_reply(&to, "$-1\r\n_\r\n*-1\r\n_\r\n");
    reply_array(&to, 2);
    reply_map(&to, 2, 2);
    reply_map(&to, 2, 3);
    reply_verbatim(&to, bytes_text("ab"), 2);
    reply_verbatim(&to, bytes_text("ab"), 3);
    expect_reply(&to, "*2\r\n*4\r\n%2\r\n$2\r\nab\r\n=6\r\ntxt:ab\r\n");
    struct buf small = {.limit = 64};
    reply_bulk(&small, bytes_text("0123456789012345678901234567890123456789"));
    assert_int_equal(small.error, ERR_REPLY_SIZE);
    assert_int_equal(small.size, 0);
    buf_free(&small);
}

static void test_numbers(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool sound;
        int64_t value;
    } rows[] = {
        {"0", true, 0}, {"7", true, 7}, {"-7", true, -7}, {"9223372036854775807", true, INT64_MAX},
        {"-9223372036854775808", true, INT64_MIN}, {"9223372036854775808", false, 0},
        {"-9223372036854775809", false, 0}, {"", false, 0}, {"-", false, 0}, {"-0", false, 0},
        {"01", false, 0}, {"+1", false, 0}, {" 1", false, 0}, {"1 ", false, 0}, {"1a", false, 0},
        {"99999999999999999999999", false, 0}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int64_t value = 0;
        assert_int_equal(parse_i64(bytes_text(rows[i].text), &value), rows[i].sound);
        assert_true(value == rows[i].value);
    }
    uint64_t large;
    assert_true(parse_u64(bytes_text("18446744073709551615"), &large) && large == UINT64_MAX);
    assert_false(parse_u64(bytes_text("18446744073709551616"), &large));
    assert_false(parse_u64(bytes_text("-1"), &large));
}

static void test_globs(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *text;
        bool match;
    } rows[] = {
        {"*", "", true}, {"*", "abc", true}, {"", "", true}, {"", "a", false}, {"a", "", false},
        {"a*c", "abbc", true}, {"a*c", "abb", false}, {"a?c", "abc", true}, {"a?c", "ac", false},
        {"*b*", "abc", true}, {"**b**", "abc", true}, {"[a-c]x", "bx", true},
        {"[c-a]x", "bx", true}, {"[a-c]x", "ax", true}, {"[a-c]x", "cx", true},
        {"[c-a]x", "ax", true}, {"[c-a]x", "cx", true}, {"[b-b]", "b", true},
        {"[a-c]x", "dx", false}, {"[^a-c]x", "dx", true}, {"[^a-c]x", "ax", false},
        {"[abc]", "b", true}, {"[\\]]", "]", true}, {"\\*", "*", true}, {"\\*", "a", false},
        {"a\\", "a\\", true}, {"[a", "a", true}, {"[", "a", false}, {"[^", "a", true},
        {"user:*:name", "user:12:name", true}, {"user:*:name", "user:12:names", false},
        {"*a*b*c", "xxaxxbxxbc", true}, {"a[]b", "ab", false}, {"h[^e]llo", "hallo", true}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool match = glob_match(bytes_text(rows[i].pattern), bytes_text(rows[i].text));
        if (match != rows[i].match) {
            fail_msg("pattern %s, text %s", rows[i].pattern, rows[i].text);
        }
    }
    // A pattern that keeps a matcher with full backtracking busy for years.
    char text[1000];
    memset(text, 'a', sizeof text);
    assert_false(glob_match(bytes_text("a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b"),
                            bytes_of(text, sizeof text)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_requests),  cmocka_unit_test(test_inline),
        cmocka_unit_test(test_protocol_errors), cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_mutated),   cmocka_unit_test(test_replies),
        cmocka_unit_test(test_numbers),   cmocka_unit_test(test_globs)};
    return cmocka_run_group_tests_name("resp", tests, NULL, NULL);
}
