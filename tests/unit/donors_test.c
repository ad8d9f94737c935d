// SPDX-License-Identifier: Apache-2.0
// Whom a node asks for a snapshot, round by round, and when it waits no longer.
#include "tests/unit/support.h"

#include <stdio.h>

#include "common/base/mem.h"
#include "common/tree/donors.h"

#define S NS_PER_S
#define T0 (1000 * S)
#define PATIENCE (3600 * S)

static struct parents parents;
static struct donors donors;

// Listed: two of other sites, and one of the own site between them; port 1, 2 and 3.
static int setup(void **state)
{
    (void)state;
    struct endpoints *list = endpoints_new(3);
    for (unsigned i = 0; i < 3; i++) {
        struct endpoint *endpoint = &list->endpoint[i];
        const char *reason;
        snprintf(endpoint->address, sizeof endpoint->address, "127.0.0.1:%u", i + 1);
        assert_int_equal(address_parse(&endpoint->parsed, endpoint->address, &reason), OK);
        snprintf(endpoint->site, sizeof endpoint->site, "%s", i == 1 ? "east" : "west");
        endpoint->own_site = i == 1;
    }
    snprintf(parents.site, sizeof parents.site, "east");
    assert_true(parents_take(&parents, list));
    endpoints_release(list);
    donors = (struct donors){0};
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    donors_forget(&donors, &parents);
    assert_int_equal(parents.count, 3);
    parents_close(&parents);
    return 0;
}

// Whose turn it is, by its port; 0: the round is over.
static unsigned asked(uint64_t now_ns)
{
    unsigned port = 0;
    if (donors_choose(&donors, &parents, PATIENCE, now_ns)) {
        assert_int_equal(sscanf(donors.at->endpoint.address, "127.0.0.1:%u", &port), 1);
    }
    return port;
}

static void refuses(void)
{
    donors_refused(&donors);
    donors_pass(&donors, &parents);
}

// It puts this node off, and names the one at `port` of the own site, 0 = nobody.
static void puts_off(enum hello_answer answer, unsigned port)
{
    bool near = donors.at->endpoint.own_site || donors.at->named_donor;
    struct buf named = {0};
    if (port > 0) {
        buf_format(&named, "127.0.0.1:%u", port);
        buf_append(&named, "", 1);
        buf_format(&named, "n%u", port);
        buf_append(&named, "\0east", 6);
    }
    struct message_welcome welcome = {.answer = answer,
                                      .site = bytes_text(near ? "east" : "west"),
                                      .elsewhere = buf_bytes(&named)};
    donors_told(&donors, &parents, &welcome, "n9");
    donors_pass(&donors, &parents);
    buf_free(&named);
}

static bool new_round(uint64_t now_ns) { return donors_new_round(&donors, &parents, now_ns); }

static void test_own_site_first(void **state)
{
    (void)state;
    assert_int_equal(asked(T0), 2);
    assert_int_equal(asked(T0), 2); // until it has had its turn
    refuses();
    assert_int_equal(asked(T0), 1);
    refuses();
    assert_int_equal(asked(T0), 3);
    refuses();
    assert_int_equal(asked(T0), 0);
    assert_false(new_round(T0));
    assert_int_equal(asked(T0), 2);
    assert_int_equal(donors_insist(&donors, PATIENCE, T0), INSISTS_NOT);
}

// A node of ours is given already: no other site is asked for the same.
static void test_site_waits(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 3; round++) {
        assert_int_equal(asked(T0), 2);
        refuses();
        assert_int_equal(asked(T0), 1);
        puts_off(ANSWER_WAIT, 0);
        assert_int_equal(asked(T0), 0);
        assert_int_equal(new_round(T0), round == 0);
    }
}

// One that is merely full says nothing about the others.
static void test_far_and_full(void **state)
{
    (void)state;
    assert_int_equal(asked(T0), 2);
    refuses();
    assert_int_equal(asked(T0), 1);
    puts_off(ANSWER_FULL, 0);
    assert_int_equal(asked(T0), 3);
}

static void test_own_site_is_full(void **state)
{
    (void)state;
    assert_int_equal(asked(T0), 2);
    puts_off(ANSWER_FULL, 0);
    assert_int_equal(asked(T0), 0); // it will give
    assert_true(new_round(T0));
    assert_int_equal(donors_insist(&donors, PATIENCE, T0), INSISTS_NOT);
    assert_int_equal(asked(T0 + PATIENCE - 1), 2);
    puts_off(ANSWER_FULL, 0);
    assert_int_equal(asked(T0 + PATIENCE - 1), 0);
    assert_false(new_round(T0 + PATIENCE - 1));
    assert_int_equal(asked(T0 + PATIENCE), 2);
    puts_off(ANSWER_FULL, 0);
    assert_int_equal(asked(T0 + PATIENCE), 1); // not for ever
    assert_int_equal(donors_insist(&donors, PATIENCE, T0 + PATIENCE), INSISTS_MUCH);
    donors_gave(&donors);
    assert_int_equal(donors_insist(&donors, PATIENCE, T0 + PATIENCE), INSISTS_NOT);
}

// Somebody who is named is asked at once, then first in each round, until it has nothing.
static void test_named(void **state)
{
    (void)state;
    assert_int_equal(asked(T0), 2);
    refuses();
    assert_int_equal(asked(T0), 1);
    puts_off(ANSWER_WAIT, 7);
    assert_int_equal(asked(T0), 7);
    puts_off(ANSWER_FULL, 8);
    assert_int_equal(asked(T0), 8);
    puts_off(ANSWER_FULL, 9); // this node itself
    assert_int_equal(asked(T0), 0);
    assert_true(new_round(T0));
    assert_int_equal(donors_insist(&donors, PATIENCE, T0), INSISTS_NOT);
    assert_int_equal(asked(T0), 7);
    refuses();
    assert_int_equal(asked(T0), 8);
    refuses();
    assert_int_equal(parents.count, 3);
    assert_int_equal(asked(T0), 2);
    refuses();
    assert_int_equal(asked(T0), 1);
    puts_off(ANSWER_WAIT, 8);
    assert_int_equal(asked(T0), 8);
    refuses();
    assert_int_equal(asked(T0), 0);
    // Those who were named have nothing: the other site is told so.
    assert_false(new_round(T0));
    assert_int_equal(donors_insist(&donors, PATIENCE, T0), INSISTS);
}

static void test_named_are_bounded(void **state)
{
    (void)state;
    assert_int_equal(asked(T0), 2);
    for (unsigned port = 10; port < 200; port++) {
        puts_off(ANSWER_FULL, port);
        assert_true(parents.count <= 3 + PARENTS_DONORS_MAX);
        assert_true(donors_choose(&donors, &parents, PATIENCE, T0) || port > 20);
        if (donors.at == NULL) {
            new_round(T0);
            assert_true(donors_choose(&donors, &parents, PATIENCE, T0));
        }
    }
    assert_int_equal(parents.count, 3 + PARENTS_DONORS_MAX);
    // A list without any of them leaves nothing but those.
    struct endpoints *list = endpoints_new(0);
    assert_false(parents_take(&parents, list));
    endpoints_release(list);
    assert_int_equal(parents.count, PARENTS_DONORS_MAX);
    donors_forget(&donors, &parents);
    assert_int_equal(parents.count, 0);
    parents_close(&parents);
    assert_int_equal(setup(NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_own_site_first, setup, teardown),
        cmocka_unit_test_setup_teardown(test_site_waits, setup, teardown),
        cmocka_unit_test_setup_teardown(test_far_and_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_own_site_is_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_named, setup, teardown),
        cmocka_unit_test_setup_teardown(test_named_are_bounded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
