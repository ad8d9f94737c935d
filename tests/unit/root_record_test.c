// SPDX-License-Identifier: Apache-2.0
// The files and texts of several roots: a promise that was damaged in any bit or cut anywhere is
// not taken for one, and a record says exactly what it may.
#include "common/roots/promise.h"
#include "common/roots/root_record.h"
#include "tests/unit/support.h"

static const struct members names = {
    .count = 3, .all = {{.name = "a"}, {.name = "b.example"}, {.name = "c"}}};

// ---- the promise -------------------------------------------------------------------------------

static struct promise some_promise(void)
{
    struct promise promise = {
        .leadership = {.epoch = 7, .leader = 1},
        .generation = EPOCH_MAX,
        .blank = true,
    };
    memcpy(promise.history, test_history, HISTORY_ID_BYTES);
    return promise;
}

static void test_promise(void **unused)
{
    (void)unused;
    char *directory = test_mkdir();
    struct promise promise = some_promise(), read = {0};
    assert_int_equal(promise_load(directory, &names, &read), ERR_NOT_FOUND);
    assert_int_equal(promise_save(directory, "test", &promise, &names), OK);
    assert_int_equal(promise_load(directory, &names, &read), OK);
    assert_true(promise_equal(&promise, &read));
    promise.leadership = (struct leadership){.epoch = 8, .leader = ROOT_NOBODY};
    promise.blank = false;
    assert_int_equal(promise_save(directory, "test", &promise, &names), OK);
    assert_int_equal(promise_load(directory, &names, &read), OK);
    assert_true(promise_equal(&promise, &read));
    // Of a root that is not in `roots` any more: an epoch that nobody may be followed in.
    promise.leadership.leader = 2;
    assert_int_equal(promise_save(directory, "test", &promise, &names), OK);
    const struct members fewer = {
        .count = 2, .all = {{.name = "a"}, {.name = "b.example"}}};
    assert_int_equal(promise_load(directory, &fewer, &read), OK);
    assert_int_equal(read.leadership.leader, ROOT_NOBODY);
    assert_false(leadership_follows((struct leadership){.epoch = 8, .leader = 0},
                                    read.leadership));
    test_rmdir(directory);
}

static void test_promise_damage(void **unused)
{
    (void)unused;
    char *directory = test_mkdir();
    struct promise promise = some_promise(), read;
    assert_int_equal(promise_save(directory, "test", &promise, &names), OK);
    struct bytes whole = test_read_file(directory, "promise");
    for (size_t size = 0; size < whole.size; size++) {
        test_write_file(directory, "promise", bytes_of(whole.data, size));
        assert_int_equal(promise_load(directory, &names, &read), ERR_CORRUPT);
    }
    test_write_file(directory, "promise", whole);
    for (size_t at = 0; at < whole.size * 8; at++) {
        test_flip(directory, "promise", at / 8, at % 8);
        assert_int_equal(promise_load(directory, &names, &read), ERR_CORRUPT);
        test_flip(directory, "promise", at / 8, at % 8);
    }
    uint8_t *more = mem_zalloc(4096);
    memcpy(more, whole.data, whole.size);
    test_write_file(directory, "promise", bytes_of(more, whole.size + 1));
    assert_int_equal(promise_load(directory, &names, &read), ERR_CORRUPT);
    test_write_file(directory, "promise", bytes_of(more, 4096));
    assert_int_equal(promise_load(directory, &names, &read), ERR_CORRUPT);
    // Beside blocks it must be there and whole; without any, only whole.
    assert_int_equal(promise_open(directory, "test", false, &names, &read), ERR_CORRUPT);
    assert_int_equal(promise_open(directory, "test", true, &names, &read), ERR_CORRUPT);
    test_empty(directory);
    assert_int_equal(promise_open(directory, "test", false, &names, &read), ERR_CORRUPT);
    assert_int_equal(promise_open(directory, "test", true, &names, &read), OK);
    assert_true(read.blank);
    assert_int_equal(read.leadership.leader, ROOT_NOBODY);
    read.blank = false;
    assert_int_equal(promise_load(directory, &names, &read), OK); // it is noted
    assert_true(read.blank);
    mem_free(more);
    mem_free((void *)whole.data);
    test_rmdir(directory);
}

// ---- the record --------------------------------------------------------------------------------

#define HISTORY "\"history\": \"000102030405060708090a0b0c0d0e0f\""

static void test_record(void **unused)
{
    (void)unused;
    struct root_record record = {
        .leadership = {.epoch = EPOCH_MAX, .leader = 1},
        .in_sync = ROOT_BIT(1) | ROOT_BIT(2),
        .generation = 1,
    };
    memcpy(record.history, test_history, HISTORY_ID_BYTES);
    struct buf text = {0};
    root_record_encode(&record, &names, &text);
    struct root_record read;
    const char *reason;
    assert_int_equal(root_record_decode(buf_bytes(&text), &names, &read, &reason), OK);
    assert_true(root_record_equal(&record, &read));
    for (size_t size = 0; size < text.size; size++) {
        assert_int_equal(root_record_decode(bytes_of(text.data, size), &names, &read, &reason),
                         ERR_PROTOCOL);
        assert_non_null(reason);
    }
    // A byte of it changed is another record or none, and never harm.
    uint64_t state = 5;
    for (unsigned i = 0; i < ROUNDS(20000); i++) {
        uint8_t *at = text.data + test_random(&state) % text.size, before = *at;
        *at = (uint8_t)test_random(&state);
        if (root_record_decode(buf_bytes(&text), &names, &read, &reason) == OK) {
            assert_true(read.in_sync != 0 && read.leadership.epoch <= EPOCH_MAX);
        }
        *at = before;
    }
    buf_free(&text);
}

static void test_record_refused(void **unused)
{
    (void)unused;
    static const struct {
        const char *text, *part;
    } rows[] = {
        {"", "no JSON object"},
        {"[]", "no JSON object"},
        {"{}", "`history`"},
        {"{" HISTORY "}", "`epoch`"},
        {"{\"history\": \"x\"}", "`history`"},
        {"{\"history\": \"00010203040506070809 a0b0c0d0e0f\"}", "`history`"},
        {"{" HISTORY ", \"epoch\": 0}", "`epoch`"},
        {"{" HISTORY ", \"epoch\": -1}", "`epoch`"},
        {"{" HISTORY ", \"epoch\": 1.5}", "`epoch`"},
        {"{" HISTORY ", \"epoch\": 9000000000000000000}", "`epoch`"},
        {"{" HISTORY ", \"epoch\": 1, \"epoch\": 2}", "no JSON object"},
        {"{" HISTORY ", \"epoch\": 1, \"generation\": \"1\"}", "`generation`"},
        {"{" HISTORY ", \"epoch\": 1, \"generation\": 1}", "`leader`"},
        {"{" HISTORY ", \"epoch\": 1, \"generation\": 1, \"leader\": \"a\"}", "`in_sync`"},
        {"{" HISTORY ", \"epoch\": 1, \"generation\": 1, \"leader\": \"a\", \"in_sync\": []}",
         "no list"},
        {"{" HISTORY ", \"epoch\": 1, \"generation\": 1, \"leader\": \"a\", \"in_sync\": [3]}",
         "not in `roots`"},
        {"{" HISTORY ", \"epoch\": 1, \"generation\": 1, \"leader\": \"a\", \"in_sync\": [\"d\"]}",
         "not in `roots`"},
        {"{" HISTORY ", \"epoch\": 1, \"generation\": 1, \"leader\": \"a\", "
         "\"in_sync\": [\"a\", \"a\"]}", "twice"},
        {"{" HISTORY ", \"epoch\": 1, \"generation\": 1, \"leader\": \"a\", "
         "\"in_sync\": [\"a\"], \"more\": 1}", "not known"},
    };
    struct root_record read;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const char *reason = NULL;
        assert_int_equal(root_record_decode(bytes_text(rows[i].text), &names, &read, &reason),
                         ERR_PROTOCOL);
        if (strstr(reason, rows[i].part) == NULL) {
            fail_msg("%s: %s, and not %s", rows[i].text, reason, rows[i].part);
        }
    }
    char *large = mem_alloc(ROOT_RECORD_BYTES_MAX + 1);
    memset(large, ' ', ROOT_RECORD_BYTES_MAX + 1);
    const char *reason;
    assert_int_equal(root_record_decode(bytes_of(large, ROOT_RECORD_BYTES_MAX + 1), &names, &read,
                                        &reason), ERR_PROTOCOL);
    mem_free(large);
    // A leader that is none of the roots is nobody, so that somebody else may try.
    const char *gone = "{" HISTORY ", \"epoch\": 1, \"generation\": 1, \"leader\": \"z\", "
                       "\"in_sync\": [\"c\"]}";
    assert_int_equal(root_record_decode(bytes_text(gone), &names, &read, &reason), OK);
    assert_int_equal(read.leadership.leader, ROOT_NOBODY);
    assert_int_equal(read.in_sync, ROOT_BIT(2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_promise),
        cmocka_unit_test(test_promise_damage),
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_record_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
