// SPDX-License-Identifier: Apache-2.0
// The model of the store beside RocksDB: random sequences of calls get the same answers from both.
//
// Only filters differ: which rows they have seen, and when, is chance on both sides. So rows below
// the bound are the same with and without what the filter does to them. What is flushed must be the
// same too, so here the model flushes nothing by itself.
//
// STORE_MODEL_SEED and STORE_MODEL_SEQUENCES choose another run and its length.
#include "tests/unit/store_leftover.h"

#include <stdatomic.h>

#include "tests/sim/store_calls.h"
#include "tests/sim/store_model.h"

#define SEQUENCES ROUNDS(10000)
#define OPERATIONS 50
#define DATABASE_SEQUENCES 50
#define SNAPSHOTS 4
#define HELD 4
#define KEYS 20
#define FILLER_MAX 40
#define REAL 0
#define MODEL 1

static const struct bytes none;

// Stubs (family 0) or drops (family 1) rows whose number is below the bound.
struct rule {
    struct store_filter filter;
    struct run *run;
    enum store_verdict verdict;
    _Atomic uint64_t ruled;
};

struct side {
    const struct store_calls *calls;
    struct rule rules[2];
    char *directory;
    struct store_cache *cache;
    struct store *store;
    struct store_batch *batch;
    struct store_snapshot *snapshots[SNAPSHOTS];
    struct store_iterator *iterator;
    struct store_value held[HELD];
};

struct run {
    struct side sides[2];
    char *parent;
    uint64_t random;
    uint64_t databases; // opened so far, for names
    uint64_t number;    // of the newest put
    _Atomic uint64_t bound;
    uint8_t prefix;         // of the keys of this sequence
    unsigned long_family;   // of the open iterators
    bool flushed_unknown;   // RocksDB may have flushed more than the model
    uint64_t crashes, rows, differences;
};

struct pass {
    struct rule *rule;
    uint64_t bound, stub;
};

static void *rule_begin(void *argument)
{
    struct rule *rule = argument;
    struct pass *pass = mem_zalloc(sizeof *pass);
    *pass = (struct pass){.rule = rule, .bound = rule->run->bound};
    return pass;
}

static enum store_verdict rule_judge(void *argument, struct bytes key, struct bytes value,
                                     struct bytes *ret_value)
{
    struct pass *pass = argument;
    CHECK(key.size > 0);
    if (value.size < sizeof pass->stub || load_u64(value.data) >= pass->bound) {
        return STORE_KEEP;
    }
    pass->stub = load_u64(value.data);
    *ret_value = bytes_of(&pass->stub, sizeof pass->stub);
    pass->rule->ruled++;
    return pass->rule->verdict;
}

static void rule_end(void *argument) { mem_free(argument); }

// ---- both sides at once ------------------------------------------------------------------------

#define EACH_SIDE(run, side)                                                                       \
    for (struct side *side = (run)->sides; side < (run)->sides + 2; side++)

static uint64_t roll(struct run *run, uint64_t low, uint64_t high)
{
    return test_between(&run->random, low, high);
}

static void open_side(struct side *side)
{
    struct store_options options = {
        .directory = side->directory,
        .scope = "test",
        .families = {"default", "mvcc"},
        .filters = {&side->rules[0].filter, &side->rules[1].filter},
        .family_count = 2,
        .cache = side->cache,
        .memtable_bytes = 8 * MIB,
    };
    assert_int_equal(side->calls->open(&side->store, &options), OK);
}

static bool is_below(struct run *run, struct bytes value)
{
    return value.size >= sizeof(uint64_t) && load_u64(value.data) < run->bound;
}

// Both values, or both the same row with at most one of them stubbed.
static void same_value(struct run *run, unsigned family, struct bytes a, struct bytes b)
{
    if (bytes_equal(a, b)) {
        return;
    }
    run->differences++;
    assert_true(family == 0 && is_below(run, a) && is_below(run, b));
    assert_int_equal(load_u64(a.data), load_u64(b.data));
    assert_true(a.size == sizeof(uint64_t) || b.size == sizeof(uint64_t));
}

static void same_answer(struct run *run, unsigned family, const int errors[2],
                          const struct store_value values[2])
{
    run->rows++;
    if (errors[REAL] == OK && errors[MODEL] == OK) {
        same_value(run, family, values[REAL].data, values[MODEL].data);
    } else if (errors[REAL] != errors[MODEL]) {
        unsigned present = errors[REAL] == OK ? REAL : MODEL;
        run->differences++;
        assert_int_equal(errors[present], OK);
        assert_int_equal(errors[1 - present], ERR_NOT_FOUND);
        assert_true(family == 1 && is_below(run, values[present].data));
    } else {
        assert_int_equal(errors[REAL], ERR_NOT_FOUND);
    }
}

// A key of this sequence; its length varies, so that keys are prefixes of others.
static struct bytes any_key(struct run *run, uint8_t memory[4])
{
    uint64_t number = roll(run, 0, KEYS - 1);
    memory[0] = run->prefix;
    memory[1] = (uint8_t)(number / 3);
    memory[2] = memory[3] = 0;
    return bytes_of(memory, 2 + number % 3);
}

// ---- operations --------------------------------------------------------------------------------

static void do_write(struct run *run)
{
    for (uint64_t left = roll(run, 0, 6); left > 0; left--) {
        uint8_t key_memory[4], value[sizeof run->number + FILLER_MAX];
        struct bytes key = any_key(run, key_memory);
        unsigned family = (unsigned)roll(run, 0, 1);
        bool delete = roll(run, 0, 3) == 0, parts = roll(run, 0, 3) == 0;
        store_u64(value, ++run->number);
        memset(value + sizeof run->number, (int)run->number, FILLER_MAX);
        size_t size = roll(run, 0, 9) == 0 ? 0 : roll(run, sizeof run->number + 1, sizeof value);
        size_t cut = roll(run, 0, key.size), value_cut = roll(run, 0, size);
        EACH_SIDE (run, side) {
            if (delete) {
                side->calls->batch_delete(side->batch, side->store, family, key);
            } else if (parts) {
                side->calls->batch_put_parts(
                    side->batch, side->store, family,
                    (struct bytes[2]){bytes_of(key.data, cut),
                                      bytes_of(key.data + cut, key.size - cut)},
                    (struct bytes[2]){bytes_of(value, value_cut),
                                      bytes_of(value + value_cut, size - value_cut)});
            } else {
                side->calls->batch_put(side->batch, side->store, family, key,
                                       bytes_of(value, size));
            }
        }
    }
    uint64_t state[2] = {roll(run, 0, UINT64_MAX - 1), 0};
    size_t state_size = roll(run, 1, sizeof state);
    size_t bytes[2];
    EACH_SIDE (run, side) {
        assert_int_equal(
            side->calls->write(side->store, side->batch, bytes_of(state, state_size)), OK);
        bytes[side - run->sides] = side->calls->batch_bytes(side->batch);
        side->calls->batch_clear(side->batch);
    }
    assert_int_equal(bytes[REAL], bytes[MODEL]);
}

static void get_both(struct run *run, unsigned family, struct bytes key, enum store_tier tier,
                     const unsigned *snapshot, struct store_value ret_values[2])
{
    int errors[2];
    EACH_SIDE (run, side) {
        const struct store_snapshot *at = snapshot != NULL ? side->snapshots[*snapshot] : NULL;
        struct store_value *value = &ret_values[side - run->sides];
        *value = (struct store_value){0};
        int error = side->calls->get(side->store, at, family, key, tier, value);
        if (error == ERR_INCOMPLETE) {
            assert_int_equal(tier, STORE_CACHED);
            assert_null(value->pin);
            error = side->calls->get(side->store, at, family, key, STORE_ANY, value);
        }
        errors[side - run->sides] = error;
    }
    same_answer(run, family, errors, ret_values);
}

static void do_get(struct run *run)
{
    uint8_t memory[4];
    struct bytes key = any_key(run, memory);
    enum store_tier tier = (enum store_tier)roll(run, STORE_ANY, STORE_PERSISTED);
    unsigned snapshot = (unsigned)roll(run, 0, 2 * SNAPSHOTS - 1);
    bool newest = snapshot >= SNAPSHOTS || run->sides[REAL].snapshots[snapshot] == NULL;
    if (tier == STORE_PERSISTED && run->flushed_unknown) {
        tier = STORE_ANY;
    }
    struct store_value values[2];
    get_both(run, (unsigned)roll(run, 0, 1), key, tier, newest ? NULL : &snapshot, values);
    EACH_SIDE (run, side) {
        side->calls->value_release(&values[side - run->sides]);
    }
}

// A value is held over what comes, or seen to be what it was and given back.
static void do_hold(struct run *run)
{
    unsigned slot = (unsigned)roll(run, 0, HELD - 1);
    struct store_value *real = &run->sides[REAL].held[slot];
    struct store_value *model = &run->sides[MODEL].held[slot];
    if (real->pin == NULL && model->pin == NULL) {
        uint8_t memory[4];
        struct store_value values[2];
        get_both(run, 0, any_key(run, memory), STORE_ANY, NULL, values);
        *real = values[REAL];
        *model = values[MODEL];
        return;
    }
    same_value(run, 0, real->data, model->data);
    EACH_SIDE (run, side) {
        side->calls->value_release(&side->held[slot]);
        assert_null(side->held[slot].pin);
    }
}

static void do_snapshot(struct run *run)
{
    unsigned slot = (unsigned)roll(run, 0, SNAPSHOTS - 1);
    EACH_SIDE (run, side) {
        struct store_snapshot *old = side->snapshots[slot];
        side->calls->snapshot_release(side->store, old);
        side->snapshots[slot] = old == NULL ? side->calls->snapshot(side->store) : NULL;
    }
}

// Moves on to a row that both must show. False at the end.
static bool settle(struct run *run, struct side *side, struct store_iterator *iterator,
                   unsigned family)
{
    const struct store_calls *calls = side->calls;
    while (calls->iterator_valid(iterator) && family == 1 &&
           is_below(run, calls->iterator_value(iterator))) {
        calls->iterator_next(iterator);
    }
    bool valid = calls->iterator_valid(iterator);
    assert_int_equal(calls->iterator_error(iterator), OK);
    return valid;
}

// Compares up to `count` rows from where the iterators stand. False at the end.
static bool compare_rows(struct run *run, struct store_iterator *iterators[2], unsigned family,
                         uint64_t count)
{
    for (; count > 0; count--) {
        struct bytes keys[2], values[2];
        bool valid[2];
        EACH_SIDE (run, side) {
            size_t i = (size_t)(side - run->sides);
            valid[i] = settle(run, side, iterators[i], family);
            keys[i] = valid[i] ? side->calls->iterator_key(iterators[i]) : none;
            values[i] = valid[i] ? side->calls->iterator_value(iterators[i]) : none;
        }
        assert_int_equal(valid[REAL], valid[MODEL]);
        if (!valid[REAL]) {
            return false;
        }
        run->rows++;
        assert_true(keys[REAL].size > 0 && bytes_equal(keys[REAL], keys[MODEL]));
        same_value(run, family, values[REAL], values[MODEL]);
        EACH_SIDE (run, side) {
            side->calls->iterator_next(iterators[side - run->sides]);
        }
    }
    return true;
}

static void open_iterators(struct run *run, unsigned family, struct store_iterator *ret_both[2])
{
    uint8_t lower_memory[4], upper_memory[4], seek_memory[4];
    struct bytes lower = any_key(run, lower_memory), upper = any_key(run, upper_memory);
    struct bytes seek = any_key(run, seek_memory);
    lower = roll(run, 0, 1) == 0 ? bytes_of(lower_memory, 1) : lower;
    lower = roll(run, 0, 9) == 0 ? none : lower;
    upper = roll(run, 0, 1) == 0 ? none : upper;
    seek = roll(run, 0, 1) == 0 ? none : seek;
    unsigned snapshot = (unsigned)roll(run, 0, 2 * SNAPSHOTS - 1);
    EACH_SIDE (run, side) {
        struct store_snapshot *at = snapshot < SNAPSHOTS ? side->snapshots[snapshot] : NULL;
        ret_both[side - run->sides] =
            side->calls->iterator_open(side->store, at, family, lower, upper);
        side->calls->iterator_seek(ret_both[side - run->sides], seek);
    }
}

static void do_scan(struct run *run)
{
    unsigned family = (unsigned)roll(run, 0, 1);
    struct store_iterator *iterators[2];
    open_iterators(run, family, iterators);
    (void)compare_rows(run, iterators, family, 2 * KEYS);
    EACH_SIDE (run, side) {
        side->calls->iterator_close(iterators[side - run->sides]);
    }
}

static void close_long_scan(struct run *run)
{
    EACH_SIDE (run, side) {
        if (side->iterator != NULL) {
            side->calls->iterator_close(side->iterator);
            side->iterator = NULL;
        }
    }
}

// An iterator that stays open while the store changes: it shows what was there when it was opened.
static void do_long_scan(struct run *run)
{
    struct store_iterator *both[2];
    if (run->sides[REAL].iterator == NULL) {
        run->long_family = (unsigned)roll(run, 0, 1);
        open_iterators(run, run->long_family, both);
        run->sides[REAL].iterator = both[REAL];
        run->sides[MODEL].iterator = both[MODEL];
        return;
    }
    both[REAL] = run->sides[REAL].iterator;
    both[MODEL] = run->sides[MODEL].iterator;
    if (!compare_rows(run, both, run->long_family, 4)) {
        close_long_scan(run);
    }
}

static void do_state(struct run *run)
{
    enum store_tier tier = (enum store_tier)roll(run, STORE_ANY, STORE_PERSISTED);
    if (tier == STORE_PERSISTED && run->flushed_unknown) {
        tier = STORE_ANY;
    }
    struct store_value values[2] = {0};
    int errors[2];
    EACH_SIDE (run, side) {
        size_t i = (size_t)(side - run->sides);
        errors[i] = side->calls->state(side->store, tier, &values[i]);
        if (tier == STORE_CACHED && errors[i] == ERR_INCOMPLETE) {
            errors[i] = side->calls->state(side->store, STORE_ANY, &values[i]);
        }
    }
    assert_int_equal(errors[REAL], errors[MODEL]);
    assert_true(errors[REAL] == OK || errors[REAL] == ERR_NOT_FOUND);
    assert_true(bytes_equal(values[REAL].data, values[MODEL].data));
    EACH_SIDE (run, side) {
        side->calls->value_release(&values[side - run->sides]);
    }
}

static void do_flush(struct run *run)
{
    EACH_SIDE (run, side) {
        assert_int_equal(side->calls->flush(side->store), OK);
    }
    run->flushed_unknown = false;
}

// The whole family, a range, or a file of either side.
static void do_compact(struct run *run)
{
    uint8_t lower_memory[4], upper_memory[4];
    struct bytes lower = any_key(run, lower_memory), upper = any_key(run, upper_memory);
    unsigned family = (unsigned)roll(run, 0, 1);
    const struct side *chosen = &run->sides[roll(run, 0, 1)];
    struct store_files files;
    chosen->calls->files(chosen->store, family, &files);
    uint64_t kind = roll(run, 0, 2);
    if (kind == 0) {
        lower = upper = none;
    } else if (kind == 1 && files.count > 0) {
        const struct store_file *file = &files.files[roll(run, 0, files.count - 1)];
        lower = file->smallest;
        upper = file->largest;
    }
    EACH_SIDE (run, side) {
        assert_int_equal(side->calls->compact(side->store, family, lower, upper), OK);
    }
    chosen->calls->files_free(&files);
    run->flushed_unknown = lower.size > 0 && upper.size > 0;
}

static void let_go(struct run *run)
{
    close_long_scan(run);
    EACH_SIDE (run, side) {
        for (unsigned i = 0; i < SNAPSHOTS; i++) {
            side->calls->snapshot_release(side->store, side->snapshots[i]);
            side->snapshots[i] = NULL;
        }
        for (unsigned i = 0; i < HELD; i++) {
            side->calls->value_release(&side->held[i]);
        }
    }
}

static char *new_directory(struct run *run)
{
    char *directory = mem_format("%s/%llu", run->parent, (unsigned long long)run->databases++);
    assert_int_equal(mkdir(directory, 0700), 0);
    return directory;
}

static void do_crash(struct run *run)
{
    let_go(run);
    if (run->flushed_unknown) {
        do_flush(run);
    }
    struct side *real = &run->sides[REAL], *model = &run->sides[MODEL];
    char *left = new_directory(run);
    leftover_copy(real->directory, left);
    store_model_crash(model->directory, true);
    EACH_SIDE (run, side) {
        assert_true(side->calls->close(side->store));
    }
    test_rmdir(real->directory);
    real->directory = left;
    EACH_SIDE (run, side) {
        open_side(side);
    }
    run->crashes++;
}

static void do_reopen(struct run *run)
{
    let_go(run);
    EACH_SIDE (run, side) {
        assert_true(side->calls->close(side->store));
        open_side(side);
    }
    run->flushed_unknown = false;
}

static void do_bound(struct run *run) { run->bound = roll(run, run->bound, run->number); }

static const struct {
    unsigned share; // of 10,000
    void (*run)(struct run *run);
} operations[] = {
    {3000, do_write}, {3500, do_get},     {1000, do_scan}, {700, do_long_scan}, {700, do_snapshot},
    {500, do_hold},   {400, do_state},    {156, do_bound}, {20, do_flush},      {20, do_compact},
    {2, do_crash},    {2, do_reopen},
};

// ---- the run -----------------------------------------------------------------------------------

static void open_database(struct run *run)
{
    run->sides[REAL].directory = new_directory(run);
    run->sides[MODEL].directory = mem_text(run->sides[REAL].directory);
    EACH_SIDE (run, side) {
        open_side(side);
    }
    run->bound = 0;
    run->flushed_unknown = false;
}

static void close_database(struct run *run)
{
    let_go(run);
    EACH_SIDE (run, side) {
        assert_true(side->calls->close(side->store));
    }
    store_model_wipe(run->sides[MODEL].directory, false);
    mem_free(run->sides[MODEL].directory);
    test_rmdir(run->sides[REAL].directory);
}

static void run_sequence(struct run *run)
{
    for (unsigned i = 0; i < OPERATIONS; i++) {
        uint64_t rolled = roll(run, 0, 9999);
        size_t chosen = 0;
        while (rolled >= operations[chosen].share) {
            rolled -= operations[chosen++].share;
        }
        operations[chosen].run(run);
    }
    let_go(run);
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = getenv(variable);
    return text != NULL ? strtoull(text, NULL, 10) : otherwise;
}

static void test_same_answers(void **state)
{
    (void)state;
    static const struct store_calls real_calls = STORE_CALLS;
    static struct run run; // outlives the stack of a failed test, as RocksDB's threads do
    run = (struct run){.random = number_from("STORE_MODEL_SEED", 1), .parent = test_mkdir()};
    store_model_reset(run.random);
    store_model_odds(&(struct store_model_odds){.incomplete = 4, .compaction = 4, .missed = 8});
    EACH_SIDE (&run, side) {
        side->calls = side == &run.sides[REAL] ? &real_calls : &model_store_calls;
        side->cache = side->calls->cache_open(16 * MIB);
        side->batch = side->calls->batch_new();
        for (unsigned family = 0; family < 2; family++) {
            struct rule *rule = &side->rules[family];
            rule->filter = (struct store_filter){rule_begin, rule_judge, rule_end, rule};
            rule->run = &run;
            rule->verdict = family == 0 ? STORE_CHANGE : STORE_DROP;
        }
    }
    uint64_t sequences = number_from("STORE_MODEL_SEQUENCES", SEQUENCES);
    for (uint64_t i = 0; i < sequences; i++) {
        if (i % DATABASE_SEQUENCES == 0) {
            open_database(&run);
        }
        run.prefix = (uint8_t)(i % DATABASE_SEQUENCES);
        run_sequence(&run);
        if (i % DATABASE_SEQUENCES == DATABASE_SEQUENCES - 1 || i + 1 == sequences) {
            close_database(&run);
        }
    }
    struct store_model_counts counts = store_model_counts();
    print_message("%llu rows compared, %llu differ by a filter, %llu crashes\n",
                  (unsigned long long)run.rows, (unsigned long long)run.differences,
                  (unsigned long long)run.crashes);
    assert_true(sequences < SEQUENCES || (run.crashes > 0 && counts.incomplete > 0));
    EACH_SIDE (&run, side) {
        for (unsigned family = 0; family < 2; family++) {
            assert_true(sequences < SEQUENCES || side->rules[family].ruled > 0);
        }
        side->calls->batch_free(side->batch);
        side->calls->cache_close(side->cache);
    }
    store_model_reset(0);
    assert_int_equal(rmdir(run.parent), 0);
    mem_free(run.parent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
