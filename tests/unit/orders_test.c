// SPDX-License-Identifier: Apache-2.0
// Every order in which seven events can meet on one key: a read that misses, a replica's reply, an
// update, a delete, an eviction, and two fills. They go through the real rows, flights and fills
// over a real store, beside what the log says. An event that nothing caused (a reply that nobody
// asked for, a fill of what did not come) is a stray and must change nothing; an order without
// strays is causal. None may ever show a stale value.
#include "tests/unit/store_fixture.h"

#include "common/core/instance.h"
#include "proxy/fill.h"
#include "proxy/flight.h"
#include "proxy/proxy.h"
#include "proxy/recency.h"
#include "proxy/stub.h"

enum event { MISS, REPLY, UPDATE, DELETE, EVICT, FILL, FILL_AGAIN, EVENTS };

// What the log says, and what is under way.
struct play {
    struct instance instance; // its store alone
    struct store_batch *batch;
    struct bytes key;
    uint64_t index;
    uint64_t version;         // of the key now, 0 = absent
    bool keeps;               // an update's value is held at once
    struct flight_table flights;
    struct flight *flight;    // what the reply will answer
    uint64_t asked;           // the version that the read saw
    bool given;               // the read has its value
    struct record came;       // for the fills; version 0 = nothing came
    unsigned strays, stale, fills;
};

// A value says which version it is; all have one length, so that only the check can tell.
static struct bytes value_of(uint64_t version, uint8_t to[8])
{
    store_u64(to, version * 0x9e3779b97f4a7c15u);
    return bytes_of(to, 8);
}

static struct record record_of(uint64_t version, bool held, uint8_t to[8])
{
    struct bytes value = value_of(version, to);
    return (struct record){.version = version, .length = 8, .held = held,
                           .check = record_check(version, value),
                           .value = held ? value : bytes_of(NULL, 0)};
}

static void commit(struct play *play)
{
    assert_int_equal(store_write(play->instance.store, play->batch, bytes_text("state")), OK);
    store_batch_clear(play->batch);
}

static void put_row(struct play *play, const struct record *record)
{
    uint8_t head[STUB_HEAD_MAX];
    const struct bytes key[2] = {play->key, bytes_of(NULL, 0)};
    const struct bytes row[2] = {bytes_of(head, stub_head(head, record, 0)), record->value};
    store_batch_put_parts(play->batch, play->instance.store, 0, key, row);
    commit(play);
}

// The key's row now: OK with the record (its value copied to `to`), or ERR_NOT_FOUND.
static int get_row(struct play *play, struct record *ret_record, uint8_t to[8])
{
    struct store_value row = {0};
    int error = store_get(play->instance.store, NULL, 0, play->key, STORE_ANY, &row);
    if (error == OK) {
        assert_int_equal(stub_decode(row.data, ret_record), OK);
        assert_int_equal(ret_record->value.size, ret_record->held ? 8 : 0);
        memcpy(to, ret_record->value.data == NULL ? to : ret_record->value.data,
               ret_record->value.size);
        ret_record->value.data = to;
        store_value_release(&row);
    }
    return error;
}

// What any reader would see is what the log says.
static void look(struct play *play)
{
    struct record record;
    uint8_t bytes[8], expected[8];
    int error = get_row(play, &record, bytes);
    bool right = error == (play->version == 0 ? ERR_NOT_FOUND : OK);
    if (right && error == OK) {
        right = record.version == play->version &&
                (!record.held || bytes_equal(record.value, value_of(play->version, expected)));
    }
    play->stale += right ? 0 : 1;
}

// ---- events ------------------------------------------------------------------------------------

static void on_miss(struct play *play)
{
    struct record record;
    uint8_t bytes[8];
    if (get_row(play, &record, bytes) != OK || record.held) {
        return; // answered at once
    }
    play->asked = record.version;
    play->flight = flights_add(&play->flights, play->key, record.version, record.length,
                               record.check);
}

// The replica has the whole history: it gives what it was asked for, and where nobody asked
// whatever it likes, the newest value it knows of.
static void on_reply(struct play *play)
{
    uint8_t bytes[8];
    uint64_t version = play->flight != NULL ? play->asked : play->index;
    struct bytes value = value_of(version, bytes);
    struct flight *flight = flights_find(&play->flights, play->key, version);
    if (flight == NULL) {
        play->strays++;
        return;
    }
    // Another version's value is not taken for it.
    uint8_t other[8];
    play->stale += flight_fits(flight, value_of(version + 1, other)) ? 1 : 0;
    assert_true(flight_fits(flight, value));
    play->given = true;
    play->came = record_of(version, true, bytes);
    flights_remove(&play->flights, flight);
    play->flight = NULL;
}

static void on_update(struct play *play)
{
    uint8_t bytes[8];
    play->version = ++play->index;
    const struct record record = record_of(play->version, play->keeps, bytes);
    put_row(play, &record);
}

static void on_delete(struct play *play)
{
    play->index++;
    play->version = 0;
    store_batch_delete(play->batch, play->instance.store, 0, play->key);
    commit(play);
}

static void on_evict(struct play *play)
{
    struct record record;
    uint8_t bytes[8];
    if (get_row(play, &record, bytes) == OK && record.held) {
        record.held = false;
        record.value = bytes_of(NULL, 0);
        put_row(play, &record);
    }
}

static void on_fill(struct play *play)
{
    if (play->came.version == 0) {
        play->strays++;
        return;
    }
    uint8_t bytes[8];
    const struct record record = record_of(play->came.version, true, bytes);
    int error = fill_row(&play->instance, play->batch, play->key, &record, 0);
    assert_true(error == OK || error == ERR_NOT_FOUND);
    if (error == OK) {
        play->fills++;
        commit(play);
    }
}

// ---- all of them -------------------------------------------------------------------------------

static void play_order(struct fixture *fixture, const enum event order[EVENTS], bool held,
                       bool keeps, struct play *ret_play)
{
    static void (*const events[EVENTS])(struct play *play) = {
        [MISS] = on_miss,     [REPLY] = on_reply, [UPDATE] = on_update,    [DELETE] = on_delete,
        [EVICT] = on_evict,   [FILL] = on_fill,   [FILL_AGAIN] = on_fill};
    struct proxy proxy = {.recency = recency_open(64 * KIB)}; // rows are stamped with its period
    struct play play = {.instance = {.store = fixture->store, .role_state = &proxy},
                        .batch = fixture->batch,
                        .key = bytes_text("key"),
                        .index = 7,
                        .version = 7,
                        .keeps = keeps};
    uint8_t bytes[8];
    const struct record record = record_of(7, held, bytes);
    flights_open(&play.flights, 4);
    put_row(&play, &record);
    look(&play);
    for (unsigned i = 0; i < EVENTS; i++) {
        events[order[i]](&play);
        look(&play);
    }
    if (play.flight != NULL) {
        flights_remove(&play.flights, play.flight);
    }
    flights_close(&play.flights);
    recency_close(proxy.recency);
    play.instance.role_state = NULL;
    *ret_play = play;
}

// Heap's algorithm, without recursion: https://doi.org/10.1093/comjnl/6.3.293
static bool next_order(enum event order[EVENTS], unsigned counts[EVENTS])
{
    for (unsigned i = 1; i < EVENTS; i++) {
        if (counts[i] < i) {
            unsigned with = i % 2 == 0 ? 0 : counts[i];
            enum event kept = order[with];
            order[with] = order[i];
            order[i] = kept;
            counts[i]++;
            return true;
        }
        counts[i] = 0;
    }
    return false;
}

static void test_orders(void **state)
{
    struct fixture *fixture = *state;
    for (unsigned variant = 0; variant < 4; variant++) {
        bool held = (variant & 1) != 0, keeps = (variant & 2) != 0;
        enum event order[EVENTS] = {MISS, REPLY, UPDATE, DELETE, EVICT, FILL, FILL_AGAIN};
        unsigned counts[EVENTS] = {0};
        unsigned orders = 0, causal = 0, strays = 0, stale = 0, fills = 0, given = 0;
        do {
            struct play play;
            play_order(fixture, order, held, keeps, &play);
            orders++;
            causal += play.strays == 0 ? 1 : 0;
            strays += play.strays;
            stale += play.stale;
            fills += play.fills;
            given += play.given ? 1 : 0;
        } while (next_order(order, counts));
        print_message("value %s at first, updates %s: %u orders, %u causal, %u with strays "
                      "(%u strays refused), %u reads given, %u fills kept, %u stale\n",
                      held ? "held" : "missing", keeps ? "held" : "not held", orders, causal,
                      orders - causal, strays, given, fills, stale);
        assert_int_equal(orders, 5040);
        assert_int_equal(stale, 0);
        assert_true(causal > 0 && causal < orders && fills > 0 && given >= causal);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_orders, setup, teardown),
    };
    return cmocka_run_group_tests_name("orders", tests, NULL, NULL);
}
