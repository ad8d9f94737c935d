// SPDX-License-Identifier: Apache-2.0
// Filters and compaction on request, against the real RocksDB: what a filter sees and when, what
// readers see of its verdicts, and that nothing else changes.
#include "tests/unit/store_fixture.h"

#include <pthread.h>
#include <sched.h>

#include "common/base/clock.h"
#include "common/data/store_private.h"

#define ROWS 20000
#define FILLER 600 // random bytes after the number of a row: 12 MB, so several files

static const struct bytes none;

// Drops or stubs rows whose number is below the bound. The state row would crash it.
struct rule {
    struct store_filter filter;
    enum store_verdict verdict;
    bool lend; // the stub is the first part of the value; else it is the pass's memory
    _Atomic uint64_t bound;
    _Atomic uint64_t seen, begun, ended;
    _Atomic bool slow;
};

struct rule_pass {
    struct rule *rule;
    uint64_t bound;
    uint64_t stub;
};

static void *rule_begin(void *argument)
{
    struct rule *rule = argument;
    struct rule_pass *pass = mem_zalloc(sizeof *pass);
    pass->rule = rule;
    pass->bound = rule->bound;
    rule->begun++;
    return pass;
}

static enum store_verdict rule_judge(void *argument, struct bytes key, struct bytes value,
                                     struct bytes *ret_value)
{
    struct rule_pass *pass = argument;
    CHECK(key.size == sizeof(uint64_t) && value.size >= sizeof(uint64_t));
    pass->rule->seen++;
    if (pass->rule->slow) {
        clock_sleep_ns(NS_PER_MS);
    }
    pass->stub = load_u64(value.data);
    if (pass->stub >= pass->bound || value.size == sizeof pass->stub) {
        return STORE_KEEP;
    }
    *ret_value = pass->rule->lend ? bytes_of(value.data, sizeof pass->stub)
                                  : bytes_of(&pass->stub, sizeof pass->stub);
    return pass->rule->verdict;
}

static void rule_end(void *argument)
{
    struct rule_pass *pass = argument;
    pass->rule->ended++;
    mem_free(pass);
}

struct rules {
    struct fixture fixture; // first: the shared helpers take it
    struct rule rules[2];
};

static void rule_init(struct rule *rule, enum store_verdict verdict)
{
    rule->filter = (struct store_filter){rule_begin, rule_judge, rule_end, rule};
    rule->verdict = verdict;
}

// Family 0 stubs values, family 1 drops rows.
static int setup_rules(void **state)
{
    if (setup(state) != OK) {
        return -1;
    }
    struct rules *rules = mem_zalloc(sizeof *rules);
    rules->fixture = *(struct fixture *)*state;
    mem_free(*state);
    *state = rules;
    rule_init(&rules->rules[0], STORE_CHANGE);
    rule_init(&rules->rules[1], STORE_DROP);
    rules->fixture.filters[0] = &rules->rules[0].filter;
    rules->fixture.filters[1] = &rules->rules[1].filter;
    fixture_reopen(&rules->fixture);
    return OK;
}

// Keys that sort as their numbers do.
static uint64_t key_of(uint64_t number) { return __builtin_bswap64(number + 1); }

static void put_number(struct fixture *fixture, unsigned family, uint64_t place, uint64_t number)
{
    uint8_t value[sizeof number + FILLER];
    random_fill(value, sizeof value);
    store_u64(value, number);
    uint64_t key = key_of(place);
    store_batch_put(fixture->batch, fixture->store, family, bytes_of(&key, sizeof key),
                    bytes_of(value, sizeof value));
}

// Rows [first, end) of both families, each with its place as its number.
static void fill(struct fixture *fixture, uint64_t first, uint64_t end)
{
    for (uint64_t place = first; place < end; place++) {
        put_number(fixture, 0, place, place);
        put_number(fixture, 1, place, place);
        if (place % 1000 == 0 || place + 1 == end) {
            write_state(fixture, "filled");
        }
    }
}

static void compact(struct fixture *fixture, unsigned family)
{
    assert_int_equal(store_compact(fixture->store, family, none, none), OK);
}

enum look { LOOK_FULL, LOOK_STUB, LOOK_ABSENT };

static enum look look_at(struct fixture *fixture, const struct store_snapshot *snapshot,
                         unsigned family, uint64_t place, uint64_t number)
{
    uint64_t key = key_of(place);
    struct store_value got = {0};
    int error = store_get(fixture->store, snapshot, family, bytes_of(&key, sizeof key), STORE_ANY,
                          &got);
    if (error == ERR_NOT_FOUND) {
        return LOOK_ABSENT;
    }
    assert_int_equal(error, OK);
    assert_int_equal(load_u64(got.data.data), number);
    size_t size = got.data.size;
    store_value_release(&got);
    assert_true(size == sizeof number || size == sizeof number + FILLER);
    return size == sizeof number ? LOOK_STUB : LOOK_FULL;
}

// Both families hold rows [0, end), those below the bound as the rules leave them.
static void expect_bound(struct fixture *fixture, uint64_t end, uint64_t bound)
{
    for (uint64_t place = 0; place < end; place++) {
        assert_int_equal(look_at(fixture, NULL, 0, place, place),
                         place < bound ? LOOK_STUB : LOOK_FULL);
        assert_int_equal(look_at(fixture, NULL, 1, place, place),
                         place < bound ? LOOK_ABSENT : LOOK_FULL);
    }
    expect_state(fixture, STORE_ANY, "filled");
}

static void test_verdicts(void **state)
{
    struct rules *rules = *state;
    struct fixture *fixture = &rules->fixture;
    fill(fixture, 0, 3000);
    rules->rules[0].bound = 1000;
    rules->rules[1].bound = 1000;
    compact(fixture, 0);
    // Each row was seen once, and only in that family.
    assert_int_equal(rules->rules[0].seen, 3000);
    assert_int_equal(rules->rules[1].seen, 0);
    compact(fixture, 1);
    assert_int_equal(rules->rules[1].seen, 3000);
    expect_bound(fixture, 3000, 1000);
    rules->rules[0].lend = true;
    rules->rules[0].bound = 2000;
    rules->rules[1].bound = 2000;
    compact(fixture, 0);
    compact(fixture, 1);
    assert_int_equal(rules->rules[0].seen, 6000);
    assert_int_equal(rules->rules[1].seen, 5000); // what was dropped is seen no more
    expect_bound(fixture, 3000, 2000);
    fill(fixture, 2500, 2501); // a new file above the last level: still each row once
    compact(fixture, 0);
    assert_int_equal(rules->rules[0].seen, 9000);
    fixture_reopen(fixture);
    expect_bound(fixture, 3000, 2000);
    for (unsigned family = 0; family < 2; family++) {
        assert_true(rules->rules[family].begun >= 2);
        assert_int_equal(rules->rules[family].begun, rules->rules[family].ended);
    }
}

// The lone first file of a store would only be moved if RocksDB had its way.
static void test_one_new_file(void **state)
{
    struct rules *rules = *state;
    struct fixture *fixture = &rules->fixture;
    fill(fixture, 0, 100);
    assert_int_equal(store_flush(fixture->store), OK);
    assert_int_equal(rules->rules[0].seen, 0); // a flush has no filter
    rules->rules[0].bound = 50;
    rules->rules[1].bound = 50;
    compact(fixture, 0);
    compact(fixture, 1);
    expect_bound(fixture, 100, 50);
}

static void expect_files(struct fixture *fixture, const struct store_files *files)
{
    uint64_t entries = 0, bytes = 0;
    for (size_t i = 0; i < files->count; i++) {
        const struct store_file *file = &files->files[i];
        assert_true(file->level > 0);
        assert_int_equal(file->largest.size, sizeof(uint64_t));
        assert_int_equal(file->smallest.size, i == 0 ? 0 : sizeof(uint64_t)); // the state row
        assert_true(i == 0 || bytes_compare(files->files[i - 1].largest, file->smallest) < 0);
        entries += file->entries;
        bytes += file->bytes;
    }
    assert_int_equal(entries, ROWS + 1);
    struct store_sizes sizes;
    store_sizes(fixture->store, &sizes);
    assert_int_equal(bytes, sizes.family_bytes[0]);
    assert_true(bytes > ROWS * FILLER);
}

// Nothing runs by itself on an idle store; asked for, it runs on the files of a range, no others.
static void test_idle(void **state)
{
    struct rules *rules = *state;
    struct fixture *fixture = &rules->fixture;
    struct rule *rule = &rules->rules[0];
    fixture->memtable_bytes = MIB; // and so large are files
    fixture_reopen(fixture);
    fill(fixture, 0, ROWS);
    compact(fixture, 0);
    struct store_files files;
    store_files(fixture->store, 0, &files);
    assert_true(files.count >= 3);
    expect_files(fixture, &files);
    struct store_file *middle = &files.files[1];
    uint64_t first = load_u64(middle->smallest.data), last = load_u64(middle->largest.data);
    first = __builtin_bswap64(first) - 1;
    last = __builtin_bswap64(last) - 1;
    assert_int_equal(last - first + 1, middle->entries);
    rule->seen = 0;
    rule->bound = ROWS;
    assert_int_equal(store_compact(fixture->store, 0, middle->smallest, middle->largest), OK);
    assert_int_equal(rule->seen, middle->entries);
    for (uint64_t place = 0; place < ROWS; place++) {
        assert_int_equal(look_at(fixture, NULL, 0, place, place),
                         place >= first && place <= last ? LOOK_STUB : LOOK_FULL);
    }
    // A range between keys, and one that is none.
    assert_int_equal(store_compact(fixture->store, 0, bytes_text("~"), bytes_text("~~")), OK);
    assert_int_equal(store_compact(fixture->store, 0, bytes_text("b"), bytes_text("a")), OK);
    assert_int_equal(rule->seen, middle->entries);
    store_files_free(&files);
    assert_int_equal(files.count, 0);
}

static void test_only_state(void **state)
{
    struct rules *rules = *state;
    struct fixture *fixture = &rules->fixture;
    fill(fixture, 0, 100);
    rules->rules[1].bound = UINT64_MAX;
    compact(fixture, 1);
    struct store_files files;
    store_files(fixture->store, 1, &files);
    assert_int_equal(files.count, 0); // the file with the state row is nobody's business
    store_files_free(&files);
    fixture_reopen(fixture);
    expect_state(fixture, STORE_PERSISTED, "filled");
    expect_bound(fixture, 0, 0);
    assert_int_equal(look_at(fixture, NULL, 0, 7, 7), LOOK_FULL);
    assert_int_equal(look_at(fixture, NULL, 1, 7, 7), LOOK_ABSENT);
}

static uint64_t count_rows(struct store_iterator *rows)
{
    uint64_t count = 0;
    for (; store_iterator_valid(rows); store_iterator_next(rows)) {
        assert_int_equal(store_iterator_value(rows).size, sizeof(uint64_t) + FILLER);
        count++;
    }
    assert_int_equal(store_iterator_error(rows), OK);
    return count;
}

// Filters see no snapshots: a read at an older one sees what they did to the newest rows, while
// rows that had been replaced since stay as they were. An open iterator keeps its files.
static void test_older_readers(void **state)
{
    struct rules *rules = *state;
    struct fixture *fixture = &rules->fixture;
    fill(fixture, 0, 5000);
    struct store_snapshot *snapshot = store_snapshot(fixture->store);
    put_number(fixture, 0, 7, 9000);
    put_number(fixture, 1, 7, 9000);
    write_state(fixture, "filled");
    assert_int_equal(store_flush(fixture->store), OK);
    struct store_iterator *rows[2];
    for (unsigned family = 0; family < 2; family++) {
        rules->rules[family].bound = 9000;
        rows[family] = store_iterator_open(fixture->store, snapshot, family, none, none);
        store_iterator_seek(rows[family], none);
        compact(fixture, family);
        assert_int_equal(look_at(fixture, snapshot, family, 7, 7), LOOK_FULL);
        assert_int_equal(look_at(fixture, NULL, family, 7, 9000), LOOK_FULL);
        assert_int_equal(look_at(fixture, snapshot, family, 8, 8),
                         family == 0 ? LOOK_STUB : LOOK_ABSENT);
    }
    struct store_sizes pinned, released;
    store_sizes(fixture->store, &pinned);
    assert_true(pinned.disk_bytes > pinned.family_bytes[0] + pinned.family_bytes[1] + MIB);
    for (unsigned family = 0; family < 2; family++) {
        assert_int_equal(count_rows(rows[family]), 5000);
        store_iterator_close(rows[family]);
    }
    store_sizes(fixture->store, &released);
    assert_int_equal(released.disk_bytes, released.family_bytes[0] + released.family_bytes[1]);
    store_snapshot_release(fixture->store, snapshot);
}

// A range of many steps, of which newer rows fill the first: all of it must be seen. Takes
// 150 MB, so it runs when TEST_SLOW is set.
static void test_many_steps(void **state)
{
    if (getenv("TEST_SLOW") == NULL) {
        skip();
    }
    struct rules *rules = *state;
    struct fixture *fixture = &rules->fixture;
    fixture->memtable_bytes = MIB; // so a step takes 6 MiB
    fixture_reopen(fixture);
    uint64_t rows = 250000;
    for (uint64_t place = 0; place < rows; place++) {
        put_number(fixture, 0, place, rows - place);
        if (place % 1000 == 999) {
            write_state(fixture, "filled");
        }
    }
    compact(fixture, 0);
    put_number(fixture, 0, 0, rows);
    put_number(fixture, 0, rows / 2, rows / 2);
    write_state(fixture, "filled");
    rules->rules[0].bound = rows / 4; // so the first of the files stay large
    compact(fixture, 0);
    for (uint64_t place = 0; place < rows; place++) {
        assert_int_equal(look_at(fixture, NULL, 0, place, rows - place),
                         rows - place < rows / 4 ? LOOK_STUB : LOOK_FULL);
    }
}

struct compactor {
    struct fixture *fixture;
    int error;
};

static void *compactor_main(void *argument)
{
    struct compactor *compactor = argument;
    compactor->error = store_compact(compactor->fixture->store, 0, none, none);
    return NULL;
}

static void test_cancel(void **state)
{
    struct rules *rules = *state;
    struct fixture *fixture = &rules->fixture;
    struct rule *rule = &rules->rules[0];
    fill(fixture, 0, ROWS);
    assert_int_equal(store_flush(fixture->store), OK);
    rule->bound = ROWS;
    rule->slow = true;
    rule->seen = 0;
    struct compactor compactor = {.fixture = fixture};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, compactor_main, &compactor), 0);
    while (rule->seen == 0) {
        sched_yield();
    }
    store_compact_cancel(fixture->store);
    uint64_t seen = rule->seen;
    pthread_join(thread, NULL);
    assert_int_equal(compactor.error, ERR_STOPPED);
    assert_int_equal(rule->seen, seen);
    assert_true(seen < ROWS);
    assert_int_equal(rule->begun, rule->ended);
    rule->slow = false;
    assert_int_equal(store_compact(fixture->store, 0, none, none), ERR_STOPPED);
    assert_int_equal(rule->seen, seen);
    fill(fixture, ROWS, ROWS + 1); // the store itself goes on
    for (uint64_t place = 0; place <= ROWS; place++) {
        assert_int_equal(look_at(fixture, NULL, 0, place, place), LOOK_FULL);
    }
    fixture_reopen(fixture);
    compact(fixture, 0);
    assert_int_equal(look_at(fixture, NULL, 0, 0, 0), LOOK_STUB);
}

// While a checkpoint is made no file goes: a compaction waits, and can be cancelled meanwhile.
static void test_beside_a_checkpoint(void **state)
{
    struct rules *rules = *state;
    struct fixture *fixture = &rules->fixture;
    struct rule *rule = &rules->rules[0];
    for (int turn = 0; turn < 2; turn++) {
        fill(fixture, 0, 1000);
        assert_int_equal(store_flush(fixture->store), OK);
        rule->seen = 0;
        pthread_mutex_lock(&fixture->store->checkpoint_lock);
        struct compactor compactor = {.fixture = fixture};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, compactor_main, &compactor), 0);
        clock_sleep_ns(100 * NS_PER_MS); // that nothing happens cannot be waited for
        assert_int_equal(rule->seen, 0);
        if (turn > 0) {
            store_compact_cancel(fixture->store);
        }
        pthread_mutex_unlock(&fixture->store->checkpoint_lock);
        pthread_join(thread, NULL);
        assert_int_equal(compactor.error, turn > 0 ? ERR_STOPPED : OK);
        assert_true(turn > 0 ? rule->seen == 0 : rule->seen >= 1000);
    }
}

// Rows are overwritten with rising numbers while they are compacted under a rising bound.
#define TURNS 200
#define TURN_ROWS 100

static void *writer_main(void *argument)
{
    struct rules *rules = argument;
    struct fixture *fixture = &rules->fixture;
    for (uint64_t turn = 1; turn <= TURNS; turn++) {
        for (uint64_t i = 0; i < TURN_ROWS; i++) {
            put_number(fixture, 0, i, turn);
            put_number(fixture, 1, i, turn);
        }
        write_state(fixture, "filled");
        rules->rules[0].bound = turn - 1; // the newest two of a row are above it
        rules->rules[1].bound = turn - 1;
    }
    return NULL;
}

static void test_while_writing(void **state)
{
    struct rules *rules = *state;
    struct fixture *fixture = &rules->fixture;
    fixture->memtable_bytes = SMALL_MEMTABLE;
    fixture_reopen(fixture);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, writer_main, rules), 0);
    unsigned turns = 0;
    while (rules->rules[0].bound < TURNS - 1) {
        compact(fixture, turns++ % 2);
        for (unsigned family = 0; family < 2; family++) {
            struct store_snapshot *snapshot = store_snapshot(fixture->store);
            struct store_iterator *rows =
                store_iterator_open(fixture->store, snapshot, family, none, none);
            store_iterator_seek(rows, none);
            uint64_t count = 0;
            for (; store_iterator_valid(rows); store_iterator_next(rows)) {
                count++;
            }
            store_iterator_close(rows);
            store_snapshot_release(fixture->store, snapshot);
            // Of the family that drops, a snapshot's row may have fallen below the bound since.
            assert_true(family == 1 || count == 0 || count == TURN_ROWS);
        }
    }
    pthread_join(thread, NULL);
    assert_true(turns > 0 && rules->rules[0].seen > 0 && rules->rules[1].seen > 0);
    fixture_reopen(fixture);
    for (uint64_t place = 0; place < TURN_ROWS; place++) {
        assert_int_equal(look_at(fixture, NULL, 0, place, TURNS), LOOK_FULL);
        assert_int_equal(look_at(fixture, NULL, 1, place, TURNS), LOOK_FULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_verdicts, setup_rules, teardown),
        cmocka_unit_test_setup_teardown(test_one_new_file, setup_rules, teardown),
        cmocka_unit_test_setup_teardown(test_idle, setup_rules, teardown),
        cmocka_unit_test_setup_teardown(test_only_state, setup_rules, teardown),
        cmocka_unit_test_setup_teardown(test_older_readers, setup_rules, teardown),
        cmocka_unit_test_setup_teardown(test_many_steps, setup_rules, teardown),
        cmocka_unit_test_setup_teardown(test_cancel, setup_rules, teardown),
        cmocka_unit_test_setup_teardown(test_beside_a_checkpoint, setup_rules, teardown),
        cmocka_unit_test_setup_teardown(test_while_writing, setup_rules, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
