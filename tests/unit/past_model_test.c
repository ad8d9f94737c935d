// SPDX-License-Identifier: Apache-2.0
// The rules of reading, exhaustively: a proxy at index P with window W asks a replica at index R
// with history floor F, each 0..12, for every key now and as of every earlier index. The real
// functions (rows of both roles, answers to fetches and to looks, walks) against a naive map of
// one fixed history. And the history rule alone against 100,000 random histories of which any part
// that may be collected is.
#include "tests/unit/store_fixture.h"

#include "common/core/read.h"
#include "proxy/stub.h"
#include "replica/answer.h"
#include "replica/answer_past.h"
#include "replica/mvcc_walk.h"
#include "replica/record.h"

#define TEXT_BYTES 48

// ---- rows --------------------------------------------------------------------------------------

static void put_record(struct fixture *fixture, unsigned family, struct bytes key,
                       uint64_t version, struct bytes value)
{
    uint8_t head[REPLICA_RECORD_HEAD_MAX];
    size_t size = replica_record_head(head, version, value);
    const struct bytes keys[2] = {key, bytes_of(NULL, 0)};
    const struct bytes row[2] = {bytes_of(head, size), value};
    store_batch_put_parts(fixture->batch, fixture->store, family, keys, row);
}

static void put_history(struct fixture *fixture, struct bytes key, uint64_t valid_until,
                        uint64_t version, struct bytes value)
{
    uint8_t row_key[MVCC_KEY_MAX];
    size_t size = mvcc_key(row_key, key, valid_until);
    put_record(fixture, REPLICA_MVCC, bytes_of(row_key, size), version, value);
}

// The value of `version` of key number `key`: no two are equal.
static struct bytes value_text(char to[TEXT_BYTES], unsigned key, uint64_t version)
{
    snprintf(to, TEXT_BYTES, "value %u of %llu", key, (unsigned long long)version);
    return bytes_text(to);
}

// ---- the exhaustive model ----------------------------------------------------------------------

#define LAST 12
#define STATES (LAST + 1)

// What happens to each key at index 1, 2, ...: p put, d delete, . nothing.
static const char *const scripts[] = {
    "p...........", // once, for good
    "pppppppppppp", // always
    "pdpdpdpdpdpd", // there and gone
    "...p....d...", // a while
    ".......p...p", // late
    "pp..dp...p.d", // all of it, gone at last
    "...........p", // the newest alone
    "p..........d", // gone with the last
    "............", // never
};
#define KEYS ARRAY_LEN(scripts)

// Version of key `k` at index t, 0 = absent.
static uint64_t naive(unsigned k, uint64_t t)
{
    uint64_t version = 0;
    for (uint64_t i = 1; i <= t; i++) {
        char what = scripts[k][i - 1];
        version = what == 'p' ? i : what == 'd' ? 0 : version;
    }
    return version;
}

struct replicas {
    struct fixture *fixture;
    struct store_snapshot *at[STATES]; // by visible index
    uint64_t visible, floor;           // the one under test
    struct instance *instance;
    struct view view;
};

// Key `k` at the replica with floor `f`: each has all keys under a prefix of its own.
static struct bytes key_text(char to[8], uint64_t f, unsigned k)
{
    snprintf(to, 8, "%02u.%u", (unsigned)f, k);
    return bytes_text(to);
}

static void apply(struct fixture *fixture, uint64_t floor, unsigned k, uint64_t index)
{
    char name[8];
    char text[TEXT_BYTES];
    struct bytes key = key_text(name, floor, k);
    uint64_t before = naive(k, index - 1);
    char what = scripts[k][index - 1];
    // All that may be collected is.
    if (what != '.' && before != 0 && index - 1 >= floor) {
        put_history(fixture, key, index - 1, before, value_text(text, k, before));
    }
    if (what == 'p') {
        put_record(fixture, REPLICA_DEFAULT, key, index, value_text(text, k, index));
    } else if (what == 'd') {
        store_batch_delete(fixture->batch, fixture->store, REPLICA_DEFAULT, key);
    }
}

static void replicas_open(struct replicas *replicas, struct fixture *fixture)
{
    *replicas = (struct replicas){.fixture = fixture};
    replicas->instance = mem_zalloc(sizeof *replicas->instance);
    replicas->at[0] = store_snapshot(fixture->store);
    for (uint64_t index = 1; index <= LAST; index++) {
        for (uint64_t floor = 0; floor <= LAST; floor++) {
            for (unsigned k = 0; k < KEYS; k++) {
                apply(fixture, floor, k, index);
            }
        }
        write_state(fixture, "state");
        replicas->at[index] = store_snapshot(fixture->store);
    }
}

static void replicas_close(struct replicas *replicas)
{
    for (unsigned i = 0; i <= LAST; i++) {
        store_snapshot_release(replicas->fixture->store, replicas->at[i]);
    }
    mem_free(replicas->instance);
}

static void choose(struct replicas *replicas, uint64_t visible, uint64_t floor)
{
    replicas->visible = visible;
    replicas->floor = floor;
    replicas->view = (struct view){.store = replicas->fixture->store,
                                   .snapshot = replicas->at[visible],
                                   .place.index = visible,
                                   .history_floor = floor};
    atomic_store(&replicas->instance->history_floor, floor);
    atomic_store(&replicas->instance->store, replicas->fixture->store);
}

// The index up to which version v of a key was its newest.
static uint64_t valid_until(unsigned k, uint64_t version)
{
    uint64_t t = version;
    while (t < LAST && naive(k, t + 1) == version) {
        t++;
    }
    return t;
}

struct tally {
    uint64_t states, held, absent, exact, behind, gone, local, looked;
};

// A proxy that does not hold (key, version) asks for it.
static enum fetch_status check_fetch(struct replicas *replicas, unsigned k, uint64_t version,
                                     struct tally *tally)
{
    char name[8];
    char text[TEXT_BYTES];
    struct bytes key = key_text(name, replicas->floor, k);
    const struct fetch_ask ask = {key, version};
    enum fetch_status status = FETCH_ERROR;
    struct mvcc_finding found = {0};
    assert_int_equal(
        answer_ask(replicas->instance, &replicas->view, STORE_ANY, &ask, &status, &found), OK);
    bool newest = naive(k, replicas->visible) == version;
    bool kept = newest || valid_until(k, version) >= replicas->floor;
    enum fetch_status expected = version > replicas->visible ? FETCH_BEHIND
                                 : kept                      ? FETCH_EXACT
                                                             : FETCH_GONE;
    assert_int_equal(status, expected);
    if (status == FETCH_EXACT) {
        assert_true(bytes_equal(found.record.value, value_text(text, k, version)));
    }
    mvcc_release(&found);
    tally->exact += status == FETCH_EXACT ? 1 : 0;
    tally->behind += status == FETCH_BEHIND ? 1 : 0;
    tally->gone += status == FETCH_GONE ? 1 : 0;
    return status;
}

static enum fetch_status expected_past(const struct replicas *replicas, uint64_t t)
{
    return t > replicas->visible ? FETCH_BEHIND : t < replicas->floor ? FETCH_GONE : FETCH_EXACT;
}

static void check_row(const struct past_row *row, unsigned k, uint64_t version)
{
    char text[TEXT_BYTES];
    assert_int_equal(row->version, version);
    struct bytes expected = version != 0 ? value_text(text, k, version) : bytes_of(NULL, 0);
    assert_true(bytes_equal(row->value, expected));
    assert_true(version == 0 || row->check == record_check(version, row->value));
}

// ... and passes on what it cannot tell about index t.
static void check_look(struct replicas *replicas, unsigned k, uint64_t t, struct tally *tally)
{
    char name[8];
    struct buf keys = {0};
    past_key_append(&keys, key_text(name, replicas->floor, k));
    struct past_question question = {.at = t, .keys = buf_bytes(&keys)};
    assert_int_equal(past_answer(replicas->instance, &replicas->view, &question), OK);
    assert_int_equal(question.status, expected_past(replicas, t));
    if (question.status == FETCH_EXACT) {
        struct bytes items = buf_bytes(&question.items);
        struct past_row row = past_row_next(&items);
        check_row(&row, k, naive(k, t));
        assert_int_equal(items.size, 0);
    }
    past_question_free(&question);
    buf_free(&keys);
    tally->looked++;
}

// A proxy at `index` that holds what is newer than `window` reads key `k` now and at all times.
static void check_proxy_key(struct replicas *replicas, uint64_t index, uint64_t window, unsigned k,
                            struct tally *tally)
{
    char text[TEXT_BYTES];
    uint64_t version = naive(k, index);
    struct record record = {0};
    if (version != 0) { // the row, as a proxy writes and reads it
        struct bytes value = value_text(text, k, version);
        record = (struct record){.version = version,
                                 .length = (uint32_t)value.size,
                                 .check = record_check(version, value),
                                 .held = version > window};
        uint8_t row[STUB_HEAD_MAX + TEXT_BYTES];
        size_t size = stub_head(row, &record, 0);
        if (record.held) {
            memcpy(row + size, value.data, value.size);
            size += value.size;
        }
        assert_int_equal(stub_decode(bytes_of(row, size), &record), OK);
        assert_int_equal(record.version, version);
        tally->held += record.held ? 1 : 0;
        if (record.held) {
            assert_true(bytes_equal(record.value, value));
        } else {
            (void)check_fetch(replicas, k, version, tally);
        }
    } else {
        tally->absent++;
    }
    for (uint64_t t = 1; t <= index; t++) {
        const struct lookup lookup = {.status = version != 0 ? OK : ERR_NOT_FOUND,
                                      .record = record};
        if (lookup_says(&lookup, t)) {
            assert_int_equal(naive(k, t), version);
            tally->local++;
        } else {
            check_look(replicas, k, t, tally);
        }
    }
}

static void test_every_state(void **state)
{
    struct replicas replicas;
    replicas_open(&replicas, *state);
    struct tally tally = {0};
    for (uint64_t visible = 0; visible <= LAST; visible++) {
        for (uint64_t floor = 0; floor <= LAST; floor++) {
            choose(&replicas, visible, floor);
            for (uint64_t at = 0; at < STATES * STATES; at++) {
                tally.states++;
                for (unsigned k = 0; k < KEYS; k++) {
                    check_proxy_key(&replicas, at / STATES, at % STATES, k, &tally);
                }
            }
        }
    }
    assert_int_equal(tally.states, 28561);
    assert_true(tally.held > 0 && tally.exact > 0 && tally.behind > 0 && tally.gone > 0);
    printf("%llu states: now %llu held, %llu absent, %llu exact, %llu behind, %llu gone; as of an "
           "earlier index %llu told locally, %llu passed on; 0 mismatches\n",
           (unsigned long long)tally.states, (unsigned long long)tally.held,
           (unsigned long long)tally.absent, (unsigned long long)tally.exact,
           (unsigned long long)tally.behind, (unsigned long long)tally.gone,
           (unsigned long long)tally.local, (unsigned long long)tally.looked);
    replicas_close(&replicas);
}

// All keys at once, in pages of any size.
static void check_range(struct replicas *replicas, uint64_t t, uint64_t limit)
{
    char first[8], end[8];
    snprintf(first, sizeof first, "%02u.", (unsigned)replicas->floor);
    snprintf(end, sizeof end, "%02u/", (unsigned)replicas->floor);
    struct buf from = {0};
    buf_append_text(&from, first);
    unsigned k = 0;
    bool more = true;
    while (more) {
        struct past_question question = {
            .at = t, .start = buf_bytes(&from), .end = bytes_text(end), .limit = limit};
        assert_int_equal(past_answer(replicas->instance, &replicas->view, &question), OK);
        assert_int_equal(question.status, expected_past(replicas, t));
        if (question.status != FETCH_EXACT) {
            assert_int_equal(question.items.size + question.next.size, 0);
            buf_free(&from);
            return;
        }
        struct bytes items = buf_bytes(&question.items);
        unsigned rows;
        assert_int_equal(past_rows_check(items, &rows), OK);
        assert_true(rows <= limit);
        while (items.size > 0) {
            struct past_row row = past_row_next(&items);
            while (naive(k, t) == 0) {
                k++;
            }
            char name[8];
            assert_true(bytes_equal(row.key, key_text(name, replicas->floor, k)));
            check_row(&row, k, naive(k, t));
            k++;
        }
        more = question.next.size > 0;
        buf_clear(&from);
        buf_append_bytes(&from, buf_bytes(&question.next));
        past_question_free(&question);
    }
    while (k < KEYS) {
        assert_int_equal(naive(k++, t), 0);
    }
    buf_free(&from);
}

static void test_every_range(void **state)
{
    struct replicas replicas;
    replicas_open(&replicas, *state);
    for (uint64_t visible = 0; visible <= LAST; visible++) {
        for (uint64_t floor = 0; floor <= LAST; floor++) {
            choose(&replicas, visible, floor);
            for (uint64_t t = 0; t <= LAST; t++) {
                check_range(&replicas, t, 1 + t % 3);
                check_range(&replicas, t, 1000);
            }
        }
    }
    replicas_close(&replicas);
}

// ---- random histories --------------------------------------------------------------------------

#define HISTORIES (ROUNDS(100000) / CHUNK * CHUNK)
#define CHUNK 500 // histories with one floor
#define LENGTH 16

struct history {
    uint64_t versions[LENGTH + 1]; // at each index, 0 = absent
};

static struct bytes history_key(uint8_t to[8], unsigned number)
{
    // Bytes 0 and 1, which the encoding of history keys escapes, stand everywhere.
    for (unsigned i = 0; i < 8; i++) {
        to[i] = (uint8_t)(number >> (4 * (7 - i)) & 15);
    }
    return bytes_of(to, 8);
}

static void write_history(struct fixture *fixture, unsigned number, struct history *history,
                          uint64_t floor, uint64_t *seed)
{
    uint8_t name[8];
    char text[TEXT_BYTES];
    struct bytes key = history_key(name, number);
    uint64_t liveness = test_between(seed, 1, 4);
    history->versions[0] = 0;
    for (uint64_t index = 1; index <= LENGTH; index++) {
        uint64_t before = history->versions[index - 1];
        uint64_t what = test_random(seed) % (2 + liveness);
        uint64_t now = what == 0 ? 0 : what == 1 ? index : before;
        history->versions[index] = now;
        bool collected = index - 1 < floor && test_random(seed) % 2 == 0;
        if (before != 0 && now != before && !collected) {
            put_history(fixture, key, index - 1, before, value_text(text, number, before));
        }
    }
    uint64_t newest = history->versions[LENGTH];
    if (newest != 0) {
        put_record(fixture, REPLICA_DEFAULT, key, newest, value_text(text, number, newest));
    }
}

static void check_history(struct fixture *fixture, unsigned number, const struct history *history,
                          uint64_t floor)
{
    uint8_t name[8];
    char text[TEXT_BYTES];
    for (uint64_t t = floor; t <= LENGTH; t++) {
        struct mvcc_finding found = {0};
        int error = mvcc_read(fixture->store, NULL, history_key(name, number), t, &found);
        uint64_t version = history->versions[t];
        assert_int_equal(error, version != 0 ? OK : ERR_NOT_FOUND);
        if (version != 0) {
            assert_int_equal(found.record.version, version);
            assert_true(bytes_equal(found.record.value, value_text(text, number, version)));
        }
        mvcc_release(&found);
    }
}

struct walked {
    const struct history *histories;
    unsigned first, next;
    uint64_t t;
};

static bool walk_row(void *argument, struct bytes key, int status, const struct record *record)
{
    struct walked *walked = argument;
    uint8_t name[8];
    char text[TEXT_BYTES];
    if (status == ERR_NOT_FOUND) {
        return true;
    }
    assert_int_equal(status, OK);
    while (walked->histories[walked->next - walked->first].versions[walked->t] == 0) {
        walked->next++;
    }
    unsigned number = walked->next++;
    assert_true(bytes_equal(key, history_key(name, number)));
    const struct history *history = &walked->histories[number - walked->first];
    assert_int_equal(record->version, history->versions[walked->t]);
    assert_true(bytes_equal(record->value, value_text(text, number, record->version)));
    return true;
}

static void check_walk(struct fixture *fixture, const struct history *histories, unsigned first,
                       uint64_t t)
{
    uint8_t start[8], end[8];
    struct walked walked = {.histories = histories, .first = first, .next = first, .t = t};
    struct role_range range = {.start = history_key(start, first),
                               .end = history_key(end, first + CHUNK)};
    range.from = range.start;
    assert_int_equal(mvcc_walk(fixture->store, NULL, t, &range, walk_row, &walked), OK);
    while (walked.next < first + CHUNK) {
        assert_int_equal(histories[walked.next++ - first].versions[t], 0);
    }
}

static void test_random_histories(void **state)
{
    struct fixture *fixture = *state;
    static struct history histories[CHUNK];
    uint64_t seed = 42;
    uint64_t reads = 0;
    for (unsigned first = 0; first < HISTORIES; first += CHUNK) {
        uint64_t floor = test_between(&seed, 0, LENGTH);
        for (unsigned i = 0; i < CHUNK; i++) {
            write_history(fixture, first + i, &histories[i], floor, &seed);
        }
        write_state(fixture, "state");
        for (unsigned i = 0; i < CHUNK; i++) {
            check_history(fixture, first + i, &histories[i], floor);
        }
        for (uint64_t t = floor; t <= LENGTH; t++) {
            check_walk(fixture, histories, first, t);
        }
        reads += CHUNK * (LENGTH + 1 - floor);
    }
    printf("%u histories, %llu reads, 0 wrong\n", HISTORIES, (unsigned long long)reads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_every_state, setup, teardown),
        cmocka_unit_test_setup_teardown(test_every_range, setup, teardown),
        cmocka_unit_test_setup_teardown(test_random_histories, setup, teardown),
    };
    return cmocka_run_group_tests_name("past_model", tests, NULL, NULL);
}
