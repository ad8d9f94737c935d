// SPDX-License-Identifier: Apache-2.0
// History: the order and prefix-freeness of its keys, and random logs applied by a whole replica,
// compared with a naive model for every key at every index, before and after a restart; and that a
// store which does not fit the log takes no more of it.
#include "tests/unit/instance_fixture.h"

#include "replica/answer.h"
#include "replica/mvcc_walk.h"
#include "replica/replica.h"

// ---- keys --------------------------------------------------------------------------------------

static struct bytes random_key(uint64_t *seed, uint8_t *to)
{
    static const uint8_t alphabet[] = {0, 1, 2, 3, 0xfe, 0xff};
    size_t size = (size_t)test_between(seed, 1, 6);
    for (size_t i = 0; i < size; i++) {
        to[i] = alphabet[test_random(seed) % sizeof alphabet];
    }
    return bytes_of(to, size);
}

static int sign(int number) { return (number > 0) - (number < 0); }

static void test_encoding(void **state)
{
    (void)state;
    uint64_t seed = 1;
    for (unsigned i = 0; i < 200000; i++) {
        uint8_t data[2][6];
        struct bytes keys[2] = {random_key(&seed, data[0]), random_key(&seed, data[1])};
        uint8_t encoded[2][MVCC_KEY_MAX];
        struct bytes prefixes[2], rows[2];
        uint64_t until[2] = {test_random(&seed) >> (i % 64), test_random(&seed) >> (i % 61)};
        for (unsigned j = 0; j < 2; j++) {
            rows[j] = bytes_of(encoded[j], mvcc_key(encoded[j], keys[j], until[j]));
            prefixes[j] = bytes_of(encoded[j], rows[j].size - 8);
            uint8_t back[KEY_BYTES_MAX];
            size_t size;
            uint64_t valid_until;
            assert_int_equal(mvcc_key_decode(rows[j], back, &size, &valid_until), OK);
            assert_true(bytes_equal(bytes_of(back, size), keys[j]));
            assert_int_equal(valid_until, until[j]);
        }
        int order = sign(bytes_compare(keys[0], keys[1]));
        if (order != 0) {
            assert_false(bytes_prefix(rows[0], prefixes[1]));
            assert_false(bytes_prefix(rows[1], prefixes[0]));
        } else {
            order = (until[0] > until[1]) - (until[0] < until[1]);
        }
        assert_int_equal(sign(bytes_compare(rows[0], rows[1])), order);
    }
}

static void test_longest_key(void **state)
{
    (void)state;
    static uint8_t key[KEY_BYTES_MAX], encoded[MVCC_KEY_MAX], back[KEY_BYTES_MAX];
    size_t size;
    uint64_t until;
    assert_int_equal(mvcc_key(encoded, bytes_of(key, sizeof key), 5), MVCC_KEY_MAX);
    struct bytes whole = bytes_of(encoded, sizeof encoded);
    assert_int_equal(mvcc_key_decode(whole, back, &size, &until), OK);
    assert_true(bytes_equal(bytes_of(back, size), bytes_of(key, sizeof key)));
    for (size_t cut = 0; cut < sizeof encoded; cut++) {
        assert_int_equal(mvcc_key_decode(bytes_of(encoded, cut), back, &size, &until), ERR_CORRUPT);
    }
    const uint8_t bad[] = {1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    assert_int_equal(mvcc_key_decode(bytes_of(bad, sizeof bad), back, &size, &until), ERR_CORRUPT);
}

// ---- whole histories ---------------------------------------------------------------------------

static void check_key(struct instance *instance, const struct view *view,
                      const struct model_key *key)
{
    for (uint64_t t = 0; t <= view->place.index; t++) {
        const struct model_version *expected = model_at(key, t);
        struct mvcc_finding found = {0};
        int error = mvcc_read(view->store, view->snapshot, model_name(key), t, &found);
        assert_int_equal(error, expected != NULL ? OK : ERR_NOT_FOUND);
        if (expected != NULL) {
            assert_int_equal(found.record.version, expected->version);
            assert_true(bytes_equal(found.record.value, bytes_of(expected->value, expected->size)));
        }
        mvcc_release(&found);

        // A proxy that stands at t has the version of t, and no other index is a version.
        bool is_version = expected != NULL && expected->version == t;
        enum fetch_status status = FETCH_ERROR;
        const struct fetch_ask ask = {model_name(key), t};
        assert_int_equal(answer_ask(instance, view, STORE_ANY, &ask, &status, &found), OK);
        assert_int_equal(status, is_version ? FETCH_EXACT : FETCH_NEVER);
        if (is_version) {
            assert_true(bytes_equal(found.record.value, bytes_of(expected->value, expected->size)));
        }
        mvcc_release(&found);
    }
    enum fetch_status status = FETCH_ERROR;
    struct mvcc_finding found = {0};
    const struct fetch_ask ask = {model_name(key), view->place.index + 1};
    assert_int_equal(answer_ask(instance, view, STORE_CACHED, &ask, &status, &found), OK);
    assert_int_equal(status, FETCH_BEHIND);
}

// ---- walks -------------------------------------------------------------------------------------

struct walked {
    const struct model *model;
    uint64_t t;
    uint64_t seen, found;
    uint64_t stop_after; // keys
    uint8_t last[KEY_BYTES_MAX];
    size_t last_size;
};

static const struct model_key *key_named(const struct model *model, struct bytes name)
{
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        if (bytes_equal(model_name(&model->keys[i]), name)) {
            return &model->keys[i];
        }
    }
    fail_msg("a walk gave a key that nobody wrote");
    return NULL;
}

static bool check_row(void *argument, struct bytes name, int status, const struct record *record)
{
    struct walked *walked = argument;
    const struct model_key *key = key_named(walked->model, name);
    const struct model_version *expected = model_at(key, walked->t);
    assert_true(bytes_compare(bytes_of(walked->last, walked->last_size), name) < 0);
    memcpy(walked->last, name.data, name.size);
    walked->last_size = name.size;
    assert_int_equal(status, expected != NULL ? OK : ERR_NOT_FOUND);
    if (expected != NULL) {
        assert_int_equal(record->version, expected->version);
        assert_true(bytes_equal(record->value, bytes_of(expected->value, expected->size)));
        walked->found++;
    }
    walked->seen++;
    return walked->seen < walked->stop_after;
}

// A walk from a random place on, over a random range, finds every key of the model that was there.
static void check_walk(const struct view *view, const struct model *model, uint64_t t,
                       uint64_t *seed)
{
    struct bytes none = bytes_of(NULL, 0);
    struct bytes ends[3];
    for (unsigned i = 0; i < 3; i++) {
        ends[i] = test_random(seed) % 3 == 0
                      ? none
                      : model_name(&model->keys[test_random(seed) % MODEL_KEYS]);
    }
    struct role_range range = {.start = ends[0], .end = ends[1], .from = ends[2]};
    if (bytes_compare(range.from, range.start) < 0) {
        range.from = range.start;
    }
    if (range.end.size > 0 && bytes_compare(range.end, range.start) < 0) {
        range.end = none;
    }
    uint64_t expected = 0;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        struct bytes name = model_name(&model->keys[i]);
        bool inside = bytes_compare(name, range.from) >= 0 &&
                      (range.end.size == 0 || bytes_compare(name, range.end) < 0);
        expected += inside && model_at(&model->keys[i], t) != NULL ? 1 : 0;
    }
    struct walked walked = {.model = model, .t = t, .stop_after = UINT64_MAX};
    assert_int_equal(mvcc_walk(view->store, view->snapshot, t, &range, check_row, &walked), OK);
    assert_int_equal(walked.found, expected);
    if (walked.seen > 1) {
        struct walked cut = {
            .model = model, .t = t, .stop_after = test_between(seed, 1, walked.seen - 1)};
        assert_int_equal(mvcc_walk(view->store, view->snapshot, t, &range, check_row, &cut), OK);
        assert_int_equal(cut.seen, cut.stop_after);
    }
}

static uint64_t count_rows(const struct view *view, unsigned family)
{
    struct bytes none = bytes_of(NULL, 0);
    struct store_iterator *rows =
        store_iterator_open(view->store, view->snapshot, family, none, none);
    uint64_t count = 0;
    for (store_iterator_seek(rows, none); store_iterator_valid(rows); store_iterator_next(rows)) {
        count++;
    }
    store_iterator_close(rows);
    return count;
}

static void check_all(struct test_instance *at, const struct model *model)
{
    struct view *view = test_view(at, model->index);
    assert_non_null(view);
    uint64_t live = 0, replaced = 0;
    for (unsigned i = 0; i < MODEL_KEYS; i++) {
        const struct model_key *key = &model->keys[i];
        check_key(at->instance, view, key);
        live += model_at(key, UINT64_MAX) != NULL ? 1 : 0;
        for (size_t j = 0; j + 1 < key->count; j++) {
            replaced += key->versions[j].put ? 1 : 0;
        }
    }
    uint64_t seed = model->seed;
    for (uint64_t t = 0; t <= view->place.index; t++) {
        check_walk(view, model, t, &seed);
        check_walk(view, model, t, &seed);
    }
    assert_int_equal(count_rows(view, REPLICA_DEFAULT), live);
    assert_int_equal(count_rows(view, REPLICA_MVCC), replaced);
    assert_int_equal(view->digest.keys, live);
    view_release(view);
}

static void test_random_histories(void **state)
{
    (void)state;
    struct test_node node;
    test_node_open(&node);
    struct model model;
    model_open(&model, 77);
    struct test_instance at = {.options = test_options("replica", ROLE_REPLICA)};
    test_instance_open(&node, &at, replica_role());
    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < 25; i++) {
            struct block *block = model_block(&model, test_between(&model.seed, 1, 6));
            test_feed(&at, block);
            block_release(block);
        }
        check_all(&at, &model);
        instance_close(at.instance);
        test_instance_open(&node, &at, replica_role());
        check_all(&at, &model);
    }
    test_node_stop(&node);
    instance_close(at.instance);
    test_instance_end(&at);
    model_close(&model);
    test_node_close(&node);
}

// A view keeps showing its own state whatever is applied after it.
static void test_old_view(void **state)
{
    (void)state;
    struct test_node node;
    test_node_open(&node);
    struct model model;
    model_open(&model, 5);
    struct test_instance at = {.options = test_options("replica", ROLE_REPLICA)};
    test_instance_open(&node, &at, replica_role());
    struct view *views[20];
    for (unsigned i = 0; i < ARRAY_LEN(views); i++) {
        struct block *block = model_block(&model, 3);
        test_feed(&at, block);
        block_release(block);
        views[i] = test_view(&at, model.index);
    }
    for (unsigned i = 0; i < ARRAY_LEN(views); i++) {
        for (unsigned j = 0; j < MODEL_KEYS; j++) {
            check_key(at.instance, views[i], &model.keys[j]);
        }
        view_release(views[i]);
    }
    test_node_stop(&node);
    instance_close(at.instance);
    test_instance_end(&at);
    model_close(&model);
    test_node_close(&node);
}

// A version that is not found may have been collected since the view was pinned: only at or above
// the newest floor is its absence proof that it never was.
static void test_floor(void **state)
{
    (void)state;
    struct test_node node;
    test_node_open(&node);
    struct model model;
    model_open(&model, 6);
    struct test_instance at = {.options = test_options("replica", ROLE_REPLICA)};
    test_instance_open(&node, &at, replica_role());
    struct block *block = model_block(&model, 10);
    test_feed(&at, block);
    block_release(block);
    struct view *view = test_view(&at, 10);
    atomic_store(&at.instance->history_floor, 5);
    for (uint64_t version = 1; version <= 10; version++) {
        const struct fetch_ask ask = {bytes_text("a key that never was"), version};
        enum fetch_status status = FETCH_ERROR;
        struct mvcc_finding found = {0};
        assert_int_equal(answer_ask(at.instance, view, STORE_ANY, &ask, &status, &found), OK);
        assert_int_equal(status, version < 5 ? FETCH_GONE : FETCH_NEVER);
    }
    view_release(view);
    test_node_stop(&node);
    instance_close(at.instance);
    test_instance_end(&at);
    model_close(&model);
    test_node_close(&node);
}

// ---- divergence --------------------------------------------------------------------------------

struct wrong_entry {
    enum entry_op op;
    const char *key;
    uint64_t replaced;
};

// The view at an index; NULL once the store was found to be other than the log says.
static struct view *view_unless_unfit(struct test_instance *at, uint64_t index)
{
    for (;;) {
        bool unfit = atomic_load(&at->instance->wants_build);
        struct view *view = instance_pin(at->instance);
        if (view != NULL && view->place.index >= index) {
            return view;
        }
        view_release(view);
        if (unfit) {
            return NULL;
        }
        sched_yield();
    }
}

// Feeds, after a block that puts `a` at 1 and `b` at 2, a block with two batches of one entry each.
static bool is_accepted(const struct wrong_entry entries[2])
{
    struct test_node node;
    test_node_open(&node);
    struct test_instance at = {.options = test_options("replica", ROLE_REPLICA)};
    test_instance_open(&node, &at, replica_role());
    struct block_builder builder;
    builder_open(&builder);
    struct block_header last;
    block_genesis(&last, test_history);
    const struct wrong_entry all[4] = {
        {ENTRY_PUT, "a", 0}, {ENTRY_PUT, "b", 0}, entries[0], entries[1]};
    for (unsigned i = 0; i < 4; i++) {
        if (i % 2 == 0) {
            builder_reset(&builder, i + 1);
        }
        builder_batch(&builder);
        struct bytes value = all[i].op == ENTRY_PUT ? bytes_text("value") : bytes_of(NULL, 0);
        builder_entry(&builder, all[i].op, bytes_text(all[i].key), value, all[i].replaced);
        builder_batch_end(&builder);
        if (i % 2 == 1) {
            struct block_stamp stamp = {.epoch = 1, .root_ms = 1};
            struct block *block = builder_finish(&builder, &last, stamp);
            last = block->header;
            test_feed(&at, block);
            block_release(block);
        }
    }
    struct view *view = view_unless_unfit(&at, 4);
    bool accepted = view != NULL;
    view_release(view);
    // Another store is wanted, and the log goes on for it.
    assert_int_equal(atomic_load(&at.instance->wants_build), !accepted);
    assert_int_equal(instance_state(at.instance), INSTANCE_SERVING);
    // Whatever was wrong, what was right before is still shown.
    view = test_view(&at, 2);
    assert_non_null(view);
    view_release(view);
    builder_close(&builder);
    test_node_stop(&node);
    instance_close(at.instance);
    test_instance_end(&at);
    test_node_close(&node);
    return accepted;
}

static void test_divergence(void **state)
{
    (void)state;
    const struct {
        struct wrong_entry entries[2];
        bool accepted;
    } cases[] = {
        {{{ENTRY_PUT, "a", 1}, {ENTRY_DELETE, "a", 3}}, true},
        {{{ENTRY_DELETE, "a", 1}, {ENTRY_PUT, "a", 0}}, true},
        {{{ENTRY_PUT, "a", 2}, {ENTRY_PUT, "b", 2}}, false},    // another version in the store
        {{{ENTRY_DELETE, "c", 1}, {ENTRY_PUT, "b", 2}}, false}, // not in the store
        {{{ENTRY_PUT, "a", 1}, {ENTRY_PUT, "a", 1}}, false},    // another version in the block
        {{{ENTRY_PUT, "a", 1}, {ENTRY_PUT, "a", 0}}, false},    // present in the block
        {{{ENTRY_DELETE, "a", 1}, {ENTRY_DELETE, "a", 3}}, false}, // deleted in the block
    };
    for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
        assert_int_equal(is_accepted(cases[i].entries), cases[i].accepted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_encoding),  cmocka_unit_test(test_longest_key),
        cmocka_unit_test(test_random_histories), cmocka_unit_test(test_old_view),
        cmocka_unit_test(test_floor),     cmocka_unit_test(test_divergence),
    };
    return cmocka_run_group_tests_name("mvcc", tests, NULL, NULL);
}
