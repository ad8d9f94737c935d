// SPDX-License-Identifier: Apache-2.0
// The small parts that several roots stand on: the list of them, what a leader counts, and the file
// that says what is committed, with every bit of it flipped once.
#include "tests/unit/support.h"

#include "common/base/log.h"
#include "common/roots/commit.h"
#include "common/roots/members.h"
#include "common/roots/tally.h"

#define RECORD_BYTES 128
#define SPACING 4096

// ---- the list ----------------------------------------------------------------------------------

static void check_refused(const char *const *texts, const char *bad, const char *words)
{
    struct members members = {.count = 99};
    const char *ret_bad = NULL, *reason = NULL;
    assert_int_equal(members_parse(&members, texts, "a", &ret_bad, &reason), ERR_CONFIG);
    assert_int_equal(members.count, 99);
    assert_string_equal(ret_bad, bad);
    assert_non_null(strstr(reason, words));
}

#define REFUSED(bad, words, ...)                                                                   \
    check_refused((const char *const[]){__VA_ARGS__, NULL}, bad, words)

static void test_members(void **unused)
{
    (void)unused;
    static const char *const texts[] = {"c@127.0.0.1:7003", "a@127.0.0.1:7001", "b@[::1]:7002",
                                        NULL};
    struct members members;
    const char *bad, *reason;
    assert_int_equal(members_parse(&members, texts, "a", &bad, &reason), OK);
    assert_int_equal(members.count, 3);
    assert_int_equal(members.own, 0);
    assert_int_equal(members.first, 2);
    assert_string_equal(members.all[1].name, "b");
    assert_string_equal(members.all[1].address, "[::1]:7002");
    assert_int_equal(members_find(&members, bytes_text("c")), 2);
    assert_int_equal(members_find(&members, bytes_text("d")), -1);
    assert_int_equal(members_find(&members, bytes_text("")), -1);
    assert_int_equal(members_all(&members), 7);
    REFUSED("", "not among them", "b@127.0.0.1:1", "c@127.0.0.1:2");
    REFUSED("a@127.0.0.1:2", "named before", "a@127.0.0.1:1", "a@127.0.0.1:2");
    REFUSED("b@localhost:1", "address is named before", "a@127.0.0.1:1", "b@localhost:1");
    REFUSED("b", "name@host:port", "a@127.0.0.1:1", "b");
    REFUSED("b@unix:/x", "name@host:port", "a@127.0.0.1:1", "b@unix:/x");
    REFUSED("@127.0.0.1:2", "no name", "a@127.0.0.1:1", "@127.0.0.1:2");
    REFUSED("b c@127.0.0.1:2", "no name", "a@127.0.0.1:1", "b c@127.0.0.1:2");
    REFUSED("b@0.0.0.0:2", "nobody", "a@127.0.0.1:1", "b@0.0.0.0:2");
    REFUSED("b@127.0.0.1:0", "nobody", "a@127.0.0.1:1", "b@127.0.0.1:0");
    REFUSED("h@1.1.1.1:8", "more than 7", "a@1.1.1.1:1", "b@1.1.1.1:2", "c@1.1.1.1:3",
            "d@1.1.1.1:4", "e@1.1.1.1:5", "f@1.1.1.1:6", "g@1.1.1.1:7", "h@1.1.1.1:8");
}

// ---- counting ----------------------------------------------------------------------------------

static void test_tally(void **unused)
{
    (void)unused;
    struct tally tally = {0};
    assert_int_equal(tally_in_sync_min(2), 1);
    assert_int_equal(tally_in_sync_min(3), 2);
    assert_int_equal(tally_in_sync_min(5), 3);
    assert_int_equal(tally_promote_min(3, 2), 2);
    assert_int_equal(tally_committed(&tally), 0);
    tally_begin(&tally, 4, 10, 2, 7);
    tally_acknowledge(&tally, 0, 12);
    tally_acknowledge(&tally, 1, 11);
    assert_int_equal(tally_committed(&tally), 0); // all of the set, not most
    tally_acknowledge(&tally, 2, 9);
    assert_int_equal(tally_committed(&tally), 0); // not before the epoch's own first block
    tally_acknowledge(&tally, 2, 10);
    assert_int_equal(tally_committed(&tally), 10);
    tally_acknowledge(&tally, 2, 8);
    assert_int_equal(tally_committed(&tally), 10);
    tally_count(&tally, 3);
    assert_int_equal(tally_committed(&tally), 11);
    tally_count(&tally, 1);
    assert_int_equal(tally_committed(&tally), 0); // fewer than in_sync_min
    tally_begin(&tally, 5, 13, 2, 3);
    assert_int_equal(tally_committed(&tally), 0); // an epoch knows nothing of the one before
    tally_end(&tally);
    assert_int_equal(tally_committed(&tally), 0);
}

// ---- the file ----------------------------------------------------------------------------------

static struct journal_place place_at(uint64_t number)
{
    return (struct journal_place){
        .number = number, .index = number * 3, .chain = {.low = number, .high = ~number}};
}

static void assert_place(struct journal_place found, uint64_t number)
{
    struct journal_place wanted = place_at(number);
    assert_int_equal(found.number, number);
    assert_int_equal(found.index, number == 0 ? 0 : wanted.index);
    assert_true(number == 0 || hash128_equal(found.chain, wanted.chain));
}

static void advance(struct commit *commit, uint64_t number)
{
    struct journal_place place = place_at(number);
    assert_int_equal(commit_advance(commit, test_history, &place), OK);
}

static struct commit_record reopen(const char *path, struct commit **commit)
{
    struct commit_record record;
    commit_close(*commit);
    assert_int_equal(commit_open(commit, path, "test", &record), OK);
    return record;
}

static void test_commit(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    struct commit *commit = NULL;
    struct commit_record record = reopen(path, &commit);
    assert_false(record.found);
    assert_place(record.place, 0);
    assert_true(reopen(path, &commit).found);
    for (uint64_t number = 1; number < 20; number += 1 + number % 3) {
        advance(commit, number);
        advance(commit, number - 1); // it never falls
        assert_place(commit_known(commit), number);
        record = reopen(path, &commit);
        assert_place(record.place, number);
        assert_memory_equal(record.history, test_history, HISTORY_ID_BYTES);
        assert_place(commit_known(commit), number);
    }
    // Another history begins where it begins.
    uint8_t other[HISTORY_ID_BYTES] = {9};
    struct journal_place place = place_at(2);
    assert_int_equal(commit_advance(commit, other, &place), OK);
    record = reopen(path, &commit);
    assert_place(record.place, 2);
    assert_memory_equal(record.history, other, HISTORY_ID_BYTES);
    commit_close(commit);
    test_rmdir(path);
}

static int try_open(const char *path, struct commit_record *ret_record)
{
    struct commit *commit;
    int error = commit_open(&commit, path, "test", ret_record);
    if (error == OK) {
        commit_close(commit);
    }
    return error;
}

static void save(const char *file, const uint8_t *content, size_t size)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, content, size), size);
    close(fd);
}

static void test_damage(void **unused)
{
    (void)unused;
    char *path = test_mkdir();
    char *file = mem_format("%s/commit", path);
    struct commit *commit = NULL;
    struct commit_record record;
    (void)reopen(path, &commit);
    advance(commit, 5);
    advance(commit, 6);
    commit_close(commit);
    static uint8_t content[2 * SPACING], changed[2 * SPACING];
    int fd = open(file, O_RDONLY);
    assert_int_equal(read(fd, content, sizeof content), sizeof content);
    close(fd);
    // The newest record stands first: whichever bit of it is bad, the one before is believed.
    for (size_t bit = 0; bit < RECORD_BYTES * 8; bit++) {
        memcpy(changed, content, sizeof content);
        changed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        save(file, changed, sizeof changed);
        assert_int_equal(try_open(path, &record), OK);
        assert_place(record.place, 5);
        changed[SPACING + bit / 8] ^= (uint8_t)(1u << bit % 8);
        save(file, changed, sizeof changed);
        assert_int_equal(try_open(path, &record), ERR_CORRUPT);
    }
    for (size_t size = 0; size < sizeof content; size += 100) {
        save(file, content, size);
        assert_int_equal(try_open(path, &record), ERR_CORRUPT);
    }
    memcpy(changed, content, sizeof content);
    memset(changed + 64, 0, RECORD_BYTES - 64); // torn
    save(file, changed, sizeof changed);
    (void)reopen(path, (commit = NULL, &commit));
    assert_place(commit_known(commit), 5);
    advance(commit, 7);
    assert_place(reopen(path, &commit).place, 7);
    commit_close(commit);
    mem_free(file);
    test_rmdir(path);
}

int main(void)
{
    log_open((enum log_level)(LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_tally),
        cmocka_unit_test(test_commit),
        cmocka_unit_test(test_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
