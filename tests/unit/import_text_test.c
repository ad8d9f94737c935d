// SPDX-License-Identifier: Apache-2.0
// Pairs as text: what each form means, what is refused and why, and that whatever is exported is
// read back byte for byte.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/wire/import_text.h"

typedef const char *parse_line(struct bytes line, struct buf *scratch,
                               struct import_pair *ret_pair);

#define LINE(text) bytes_of(text, sizeof(text) - 1)

static void expect_pair(parse_line *parse, struct bytes line, struct bytes key, struct bytes value)
{
    struct buf scratch = {0};
    struct import_pair pair;
    const char *reason = parse(line, &scratch, &pair);
    if (reason != NULL) {
        fail_msg("%.*s: %s", (int)line.size, (const char *)line.data, reason);
    }
    assert_true(bytes_equal(pair.key, key));
    assert_true(bytes_equal(pair.value, value));
    buf_free(&scratch);
}

static void expect_refused(parse_line *parse, struct bytes line, const char *words)
{
    struct buf scratch = {0};
    struct import_pair pair = {LINE("untouched"), LINE("untouched")};
    const char *reason = parse(line, &scratch, &pair);
    if (reason == NULL || strstr(reason, words) == NULL) {
        fail_msg("%.*s: %s", (int)line.size, (const char *)line.data, reason == NULL ? "" : reason);
    }
    assert_true(bytes_equal_text(pair.key, "untouched"));
    buf_free(&scratch);
}

static void tsv_lines(void **state)
{
    (void)state;
    expect_pair(import_tsv, LINE("a\tb"), LINE("a"), LINE("b"));
    expect_pair(import_tsv, LINE("a\t"), LINE("a"), LINE(""));
    expect_pair(import_tsv, LINE("a b\tc d\r"), LINE("a b"), LINE("c d"));
    expect_pair(import_tsv, LINE("\\ta\t\\n\\r\\\\\\0\\x41\\xfFz"), LINE("\ta"),
                LINE("\n\r\\\0A\377z"));
    expect_pair(import_tsv, LINE("a\0b\tc\0"), LINE("a\0b"), LINE("c\0"));
    expect_pair(import_tsv, LINE(""), LINE(""), LINE(""));
    expect_pair(import_tsv, LINE("\r"), LINE(""), LINE(""));
    expect_refused(import_tsv, LINE("a"), "no tab");
    expect_refused(import_tsv, LINE("\tb"), "key is empty");
    expect_refused(import_tsv, LINE("a\tb\tc"), "second tab");
    expect_refused(import_tsv, LINE("a\\\tb"), "in the key");
    expect_refused(import_tsv, LINE("a\tb\\"), "in the value");
    expect_refused(import_tsv, LINE("a\t\\q"), "in the value");
    expect_refused(import_tsv, LINE("a\t\\x4"), "in the value");
    expect_refused(import_tsv, LINE("a\t\\x4g"), "in the value");
    expect_refused(import_tsv, LINE("a\t\\\0"), "in the value");
}

static void json_lines(void **state)
{
    (void)state;
    expect_pair(import_jsonl, LINE("{\"key\":\"a\",\"value\":\"b\"}"), LINE("a"), LINE("b"));
    expect_pair(import_jsonl, LINE(" {\"value\" : \"\" , \"key\" : \"\\u00e4\\n\"} \r"),
                LINE("\303\244\n"), LINE(""));
    expect_pair(import_jsonl, LINE("{\"key\":\"a\\u0000b\",\"value\":\"\\u0000\"}"), LINE("a\0b"),
                LINE("\0"));
    expect_pair(import_jsonl, LINE("{\"key_base64\":\"/w==\",\"value_base64\":\"AAEC\"}"),
                LINE("\377"), LINE("\0\1\2"));
    expect_pair(import_jsonl, LINE(""), LINE(""), LINE(""));
    expect_refused(import_jsonl, LINE("{\"key\":\"a\",\"value\":\"b\""), "not JSON");
    expect_refused(import_jsonl, LINE("{\"key\":\"a\",\"value\":\"b\"} x"), "not JSON");
    expect_refused(import_jsonl, LINE("{\"key\":\"\377\",\"value\":\"b\"}"), "not JSON");
    expect_refused(import_jsonl, LINE("[1]"), "not a JSON object");
    expect_refused(import_jsonl, LINE("{\"key\":\"a\"}"), "\"value\"");
    expect_refused(import_jsonl, LINE("{\"value\":\"a\"}"), "\"key\"");
    expect_refused(import_jsonl, LINE("{\"key\":1,\"value\":\"b\"}"), "\"key\"");
    expect_refused(import_jsonl, LINE("{\"key\":\"a\",\"value\":null}"), "\"value\"");
    expect_refused(import_jsonl, LINE("{\"key\":\"\",\"value\":\"b\"}"), "key is empty");
    expect_refused(import_jsonl, LINE("{\"key\":\"a\",\"key\":\"a\",\"value\":\"b\"}"), "not JSON");
    expect_refused(import_jsonl, LINE("{\"key\":\"a\",\"key_base64\":\"YQ==\",\"value\":\"b\"}"),
                   "one text \"key\"");
    expect_refused(import_jsonl, LINE("{\"key\":\"a\",\"value\":\"b\",\"ttl\":\"5\"}"),
                   "member other");
    expect_refused(import_jsonl, LINE("{\"key\":\"a\",\"value_base64\":\"YQ=\"}"), "base64");
    expect_refused(import_jsonl, LINE("{\"key\":\"a\",\"value_base64\":\"YR==\"}"), "base64");
    expect_refused(import_jsonl, LINE("{\"key\":\"a\",\"value_base64\":\"Y===\"}"), "base64");
    expect_refused(import_jsonl, LINE("{\"key\":\"a\",\"value_base64\":\"YQ==YQ==\"}"), "base64");
}

static void formats_are_guessed(void **state)
{
    (void)state;
    assert_int_equal(import_guess(LINE("a\tb\n")), IMPORT_TSV);
    assert_int_equal(import_guess(LINE("")), IMPORT_TSV);
    assert_int_equal(import_guess(LINE("\n{\"key\"")), IMPORT_JSONL);
    assert_int_equal(import_guess(LINE("*3\r\n$3\r\nSET\r\n")), IMPORT_RESP);
    assert_int_equal(import_guess(LINE("*3\tx\n")), IMPORT_TSV);
    assert_int_equal(import_guess(LINE("*")), IMPORT_TSV);
    enum import_format format = IMPORT_AUTO;
    assert_true(import_format_of("jsonl", &format));
    assert_int_equal(format, IMPORT_JSONL);
    assert_false(import_format_of("csv", &format));
    assert_string_equal(import_format_text(IMPORT_RESP), "resp");
}

static uint64_t next_random(uint64_t *seed) // xorshift64*
{
    *seed ^= *seed >> 12;
    *seed ^= *seed << 25;
    *seed ^= *seed >> 27;
    return *seed * 0x2545F4914F6CDD1Dull;
}

static size_t random_field(uint8_t *to, size_t max, uint64_t *seed)
{
    static const uint8_t often[] = "\t\n\r\\\0\"{}\377ab";
    size_t size = next_random(seed) % max;
    bool ascii = next_random(seed) % 2 == 0;
    for (size_t i = 0; i < size; i++) {
        uint64_t random = next_random(seed);
        uint8_t byte =
            random % 3 == 0 ? often[(random >> 8) % sizeof often] : (uint8_t)(random >> 16);
        to[i] = ascii ? byte & 0x7f : byte;
    }
    return size;
}

static void whatever_is_exported_is_read_back(void **state)
{
    (void)state;
    uint64_t seed = 99;
    struct buf line = {0};
    for (unsigned round = 0; round < 4000; round++) {
        uint8_t key[40], value[200];
        key[0] = 'k';
        struct bytes k = bytes_of(key, 1 + random_field(key + 1, 39, &seed));
        struct bytes v = bytes_of(value, random_field(value, 200, &seed));
        buf_clear(&line);
        export_tsv(&line, k, v);
        assert_int_equal(line.data[line.size - 1], '\n');
        assert_null(memchr(line.data, '\n', line.size - 1));
        expect_pair(import_tsv, bytes_of(line.data, line.size - 1), k, v);
        buf_clear(&line);
        export_jsonl(&line, k, v);
        assert_null(memchr(line.data, '\n', line.size - 1));
        expect_pair(import_jsonl, bytes_of(line.data, line.size - 1), k, v);
    }
    buf_free(&line);
}

static void random_lines_never_crash(void **state)
{
    (void)state;
    static const char start[] = "{\"key\":\"a\\u00e4\",\"value_base64\":\"YWJj\"}";
    uint64_t seed = 7;
    struct buf scratch = {0};
    for (unsigned round = 0; round < 20000; round++) {
        size_t size = sizeof start - 1 - next_random(&seed) % 5;
        uint8_t *line = mem_copy(start, size); // its own memory, so that ASan sees its end
        for (uint64_t changes = next_random(&seed) % 4; changes > 0; changes--) {
            line[next_random(&seed) % size] = "\\\t\"{x=\0"[next_random(&seed) % 7];
        }
        struct import_pair pair;
        (void)!import_tsv(bytes_of(line, size), &scratch, &pair);
        (void)!import_jsonl(bytes_of(line, size), &scratch, &pair);
        mem_free(line);
    }
    buf_free(&scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tsv_lines),
        cmocka_unit_test(json_lines),
        cmocka_unit_test(formats_are_guessed),
        cmocka_unit_test(whatever_is_exported_is_read_back),
        cmocka_unit_test(random_lines_never_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
