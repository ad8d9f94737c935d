// SPDX-License-Identifier: Apache-2.0
// The record at a Consul that says what a test wants: what counts as an answer, and what does not.
#include "common/roots/keeper.h"
#include "tests/unit/consul_fixture.h"

#define READ "GET /v1/kv/qs/main/record?consistent"
#define CHANGE "PUT /v1/kv/qs/main/record?cas="
#define WATCH "GET /v1/kv/qs/main/record"

static const struct members names = {.count = 2, .all = {{.name = "a"}, {.name = "b"}}};

struct place {
    struct fake_consul fake;
    struct consul_options options;
    struct node_metrics metrics;
    struct consul *consul;
    struct keeper keeper;
    unsigned reads, failures, changes, moves, looks;
    bool gone;
    uint64_t ticket, modify_index;
    bool present;
    struct root_record record;
    int result;
};

static void on_read(void *owner, uint64_t ticket, const struct root_record *record, uint64_t index)
{
    struct place *place = owner;
    place->reads++;
    place->ticket = ticket;
    place->present = record != NULL;
    place->record = record != NULL ? *record : (struct root_record){0};
    place->modify_index = index;
}

static void on_failed(void *owner, uint64_t ticket)
{
    struct place *place = owner;
    place->failures++;
    place->ticket = ticket;
}

static void on_changed(void *owner, uint64_t ticket, int result)
{
    struct place *place = owner;
    place->changes++;
    place->ticket = ticket;
    place->result = result;
}

static void on_moved(void *owner)
{
    struct place *place = owner;
    place->moves++;
}

static void on_looked(void *owner, unsigned root, bool gone)
{
    struct place *place = owner;
    assert_int_equal(root, 1);
    place->looks++;
    place->gone = gone;
}

static struct place *place_open(void)
{
    static struct place one; // for the alignment of its metrics
    struct place *place = &one;
    *place = (struct place){0};
    fake_open(&place->fake);
    place->options = (struct consul_options){.given = true, .http = place->fake.http};
    const char *reason;
    assert_int_equal(consul_open(&place->consul, &place->options, &place->metrics, &reason), OK);
    struct keeper_setup setup = {
        .scope = "main",
        .prefix = "qs/",
        .service = "qs-main",
        .names = &names,
        .owner = place,
        .read = on_read,
        .failed = on_failed,
        .changed = on_changed,
        .moved = on_moved,
        .looked = on_looked,
    };
    keeper_open(&place->keeper, &setup, place->consul);
    return place;
}

static void place_close(struct place *place)
{
    keeper_close(&place->keeper);
    consul_close(place->consul);
    fake_close(&place->fake);
}

// Until something has come, however long that takes.
static void wait_more(struct place *place, const unsigned *count, unsigned than)
{
    while (*count == than) {
        consul_wait(place->consul, NULL, 0, 100);
    }
}

// {"history":"00...00","epoch":3,"leader":"b","in_sync":["a","b"],"generation":4}
#define VALUE                                                                                      \
    "eyJoaXN0b3J5IjoiMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAiLCJlcG9jaCI6MywibGVhZGVyIjoiYiIs" \
    "ImluX3N5bmMiOlsiYSIsImIiXSwiZ2VuZXJhdGlvbiI6NH0="

static void test_read(void **unused)
{
    (void)unused;
    struct place *place = place_open();
    fake_answer(&place->fake, READ, 200, "X-Consul-KnownLeader: true\r\n",
                "[{\"LockIndex\":0,\"Key\":\"qs/main/record\",\"Flags\":0,\"Value\":\"" VALUE
                "\",\"CreateIndex\":12,\"ModifyIndex\":34}]");
    keeper_read(&place->keeper, 7);
    wait_more(place, &place->reads, 0);
    assert_true(place->present && place->ticket == 7 && place->modify_index == 34);
    assert_true(leadership_equal(place->record.leadership,
                                 (struct leadership){.epoch = 3, .leader = 1}));
    assert_true(place->record.in_sync == 3 && place->record.generation == 4);
    fake_answer(&place->fake, READ, 404, "X-Consul-KnownLeader: true\r\n", "");
    keeper_read(&place->keeper, 8);
    wait_more(place, &place->reads, 1);
    assert_true(!place->present && place->ticket == 8 && place->modify_index == 0);
    assert_int_equal(place->failures, 0);
    place_close(place);
}

// None of these says what the record is, nor that there is none.
static void test_read_refused(void **unused)
{
    (void)unused;
    static const struct {
        unsigned status;
        const char *headers, *body;
    } rows[] = {
        {404, "X-Consul-KnownLeader: false\r\n", ""},
        {403, NULL, "Permission denied"},
        {500, NULL, "No cluster leader"},
        {200, NULL, ""},
        {200, NULL, "[]"},
        {200, NULL, "[{\"ModifyIndex\":3}]"},
        {200, NULL, "[{\"ModifyIndex\":3,\"Value\":null}]"},
        {200, NULL, "[{\"ModifyIndex\":0,\"Value\":\"" VALUE "\"}]"},
        {200, NULL, "[{\"ModifyIndex\":-3,\"Value\":\"" VALUE "\"}]"},
        {200, NULL, "[{\"ModifyIndex\":3,\"Value\":\"" VALUE "=\"}]"},
        {200, NULL, "[{\"ModifyIndex\":3,\"Value\":\"====\"}]"},
        {200, NULL, "[{\"ModifyIndex\":3,\"Value\":\"e30=\"}]"},
        {200, NULL, "[{\"ModifyIndex\":3,\"Value\":\"e3*=\"}]"},
        {200, "X-Consul-KnownLeader: false\r\n",
         "[{\"ModifyIndex\":3,\"Value\":\"" VALUE "\"}]"},
    };
    struct place *place = place_open();
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        fake_answer(&place->fake, READ, rows[i].status, rows[i].headers, rows[i].body);
        keeper_read(&place->keeper, i);
        while (place->failures == i && place->reads == 0) {
            consul_wait(place->consul, NULL, 0, 100);
        }
        if (place->reads > 0 || place->ticket != i) {
            fail_msg("taken for a record: row %u", i);
        }
    }
    place_close(place);
}

static void test_change(void **unused)
{
    (void)unused;
    static const struct {
        unsigned status;
        const char *body;
        int result;
    } rows[] = {
        {200, "true\n", OK},
        {200, "false", ERR_CONFLICT},
        {200, "", ERR_PROTOCOL},
        {200, "falsehood", ERR_PROTOCOL},
        {500, "false", ERR_REFUSED},
    };
    struct place *place = place_open();
    struct root_record record = {
        .leadership = {.epoch = 3, .leader = 1}, .in_sync = 3, .generation = 4};
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        fake_answer(&place->fake, CHANGE, rows[i].status, NULL, rows[i].body);
        keeper_change(&place->keeper, 50 + i, &record, 34);
        wait_more(place, &place->changes, i);
        assert_int_equal(place->result, rows[i].result);
        assert_int_equal(place->ticket, 50 + i);
    }
    assert_int_equal(fake_asked(&place->fake, CHANGE "34 ", "\"generation\":4}"),
                     ARRAY_LEN(rows));
    // No answer at all: nobody knows. A newer request takes the place of one under way.
    fake_answer(&place->fake, CHANGE "35", 0, NULL, "");
    keeper_change(&place->keeper, 90, &record, 35);
    keeper_change(&place->keeper, 91, &record, 34);
    wait_more(place, &place->changes, ARRAY_LEN(rows));
    assert_int_equal(place->ticket, 91);
    fake_answer(&place->fake, CHANGE, 0, NULL, "");
    keeper_change(&place->keeper, 92, &record, 34);
    wait_more(place, &place->changes, ARRAY_LEN(rows) + 1);
    assert_true(place->ticket == 92 && place->result == ERR_TIMEOUT);
    place_close(place);
}

// Who is not registered, or does not serve, is gone; what says nothing of it is no answer.
static void test_look(void **unused)
{
    (void)unused;
    static const char look[] = "GET /v1/health/checks/qs-main?filter=CheckID%20==%20"
                               "%22qs-main:b:ttl%22";
    static const struct {
        unsigned status;
        const char *headers, *body;
        bool told, gone;
    } rows[] = {
        {200, NULL, "[{\"Status\":\"passing\"}]", true, false},
        {200, NULL, "[{\"Status\":\"critical\"}]", true, true},
        {200, NULL, "[{\"Status\":\"warning\"}]", true, true},
        {200, NULL, "[]", true, true},
        {200, NULL, "[{\"Status\":\"critical\"},{\"Status\":\"passing\"}]", true, false},
        {200, "X-Consul-KnownLeader: false\r\n", "[]", false, false},
        {500, NULL, "No cluster leader", false, false},
        {200, NULL, "", false, false},
        {200, NULL, "{}", false, false},
        {200, NULL, "[{\"Status\":3}]", false, false},
    };
    struct place *place = place_open();
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned before = place->looks;
        fake_answer(&place->fake, look, rows[i].status, rows[i].headers, rows[i].body);
        keeper_look(&place->keeper, 1);
        keeper_look(&place->keeper, 1); // it is asked already
        while (consul_busy(&place->keeper.look)) {
            consul_wait(place->consul, NULL, 0, 100);
        }
        bool told = place->looks != before;
        if (told != rows[i].told || (told && place->gone != rows[i].gone)) {
            fail_msg("misread: row %u", i);
        }
    }
    assert_int_equal(fake_asked(&place->fake, look, ""), ARRAY_LEN(rows));
    place_close(place);
}

// Turns the watch once more, as if a minute had passed, until it has asked once more.
static void watch_again(struct place *place)
{
    unsigned asked = fake_asked(&place->fake, WATCH, "");
    place->keeper.watch.next_ns = 0;
    (void)keeper_turn(&place->keeper, clock_mono_ns());
    while (consul_busy(&place->keeper.watch.call)) {
        consul_wait(place->consul, NULL, 0, 100);
    }
    assert_int_equal(fake_asked(&place->fake, WATCH, ""), asked + 1);
}

// An agent that has lost everything may come to the index that it had before.
static void test_same_index(void **unused)
{
    (void)unused;
    struct place *place = place_open();
    fake_answer(&place->fake, WATCH, 200, "X-Consul-Index: 5\r\n", "[]");
    watch_again(place);
    watch_again(place);
    assert_int_equal(place->moves, 1);
    consul_begin_life(place->consul);
    (void)keeper_turn(&place->keeper, clock_mono_ns());
    watch_again(place);
    assert_int_equal(place->moves, 2);
    watch_again(place);
    assert_int_equal(place->moves, 2);
    place_close(place);
}

// A read from before a change is not told any more; the watch tells once for each index.
static void test_order(void **unused)
{
    (void)unused;
    struct place *place = place_open();
    struct root_record record = {
        .leadership = {.epoch = 3, .leader = 1}, .in_sync = 3, .generation = 4};
    fake_answer(&place->fake, READ, 404, NULL, "");
    fake_answer(&place->fake, CHANGE, 200, NULL, "true");
    keeper_read(&place->keeper, 1);
    keeper_change(&place->keeper, 2, &record, 0);
    wait_more(place, &place->changes, 0);
    assert_int_equal(place->reads, 0);
    fake_answer(&place->fake, WATCH, 200, "X-Consul-Index: 5\r\n", "[]");
    (void)keeper_turn(&place->keeper, clock_mono_ns());
    wait_more(place, &place->moves, 0);
    uint64_t later_ns = clock_mono_ns() + 60 * NS_PER_S;
    fake_answer(&place->fake, WATCH, 200, "X-Consul-Index: 6\r\n", "[]");
    (void)keeper_turn(&place->keeper, later_ns);
    wait_more(place, &place->moves, 1);
    assert_int_equal(fake_asked(&place->fake, WATCH "?index=5&wait=", ""), 1);
    place_close(place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_refused),
        cmocka_unit_test(test_change),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_same_index),
        cmocka_unit_test(test_look),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
