// SPDX-License-Identifier: Apache-2.0
// Lists of endpoints and their feed.
#include "tests/unit/support.h"

#include "common/discovery/endpoints.h"

static struct endpoints *parsed(const char *const *texts)
{
    struct endpoints *endpoints = NULL;
    const char *bad = NULL, *reason = NULL;
    assert_int_equal(endpoints_parse(texts, &endpoints, &bad, &reason), OK);
    return endpoints;
}

static void test_parse(void **state)
{
    (void)state;
    struct endpoints *none = parsed(NULL);
    assert_int_equal(none->count, 0);
    struct endpoints *two = parsed((const char *[]){"127.0.0.1:7400", "[::1]:7401", NULL});
    assert_int_equal(two->count, 2);
    assert_string_equal(two->endpoint[1].address, "[::1]:7401");
    assert_int_equal(two->endpoint[1].parsed.storage.ss_family, AF_INET6);
    assert_true(two->endpoint[0].depth == UINT32_MAX && two->endpoint[0].distance_ns == UINT64_MAX);
    struct endpoints *wrong = NULL;
    const char *texts[] = {"127.0.0.1:7400", "127.0.0.1:port", NULL};
    const char *bad = NULL, *reason = NULL;
    assert_int_equal(endpoints_parse(texts, &wrong, &bad, &reason), ERR_CONFIG);
    assert_string_equal(bad, "127.0.0.1:port");
    assert_non_null(reason);
    assert_null(wrong);
    endpoints_release(none);
    endpoints_release(two);
}

static void test_same(void **state)
{
    (void)state;
    struct endpoints *a = parsed((const char *[]){"127.0.0.1:1", "127.0.0.1:2", NULL});
    struct endpoints *b = parsed((const char *[]){"127.0.0.1:2", "127.0.0.1:1", NULL});
    struct endpoints *c = parsed((const char *[]){"127.0.0.1:2", "127.0.0.1:2", NULL});
    assert_true(endpoints_same(a, b));
    assert_false(endpoints_same(a, c));
    b->endpoint[0].depth = 3;
    b->endpoint[0].distance_ns = 17;
    assert_true(endpoints_same(a, b));
    b->endpoint[0].kind = ENDPOINT_ROOT;
    assert_false(endpoints_same(a, b));
    endpoints_release(a);
    endpoints_release(b);
    endpoints_release(c);
}

static unsigned looked;

static void look(struct notice *notice)
{
    (void)notice;
    looked++;
}

static void wake(void *argument) { (void)argument; }

static void run(struct mailbox *mailbox)
{
    struct task *task = mailbox_take(mailbox);
    while (task != NULL) {
        struct task *next = task->next;
        task->run(task);
        task = next;
    }
}

static void test_feed(void **state)
{
    (void)state;
    struct mailbox mailbox = {.wake = wake};
    struct notice notice;
    notice_init(&notice, &mailbox, look);
    struct endpoint_feed feed;
    endpoint_feed_open(&feed);
    endpoint_feed_subscribe(&feed, &notice);
    struct endpoints *before = endpoint_feed_get(&feed);
    assert_int_equal(before->count, 0);
    endpoint_feed_publish(&feed, parsed((const char *[]){"127.0.0.1:1", NULL}));
    endpoint_feed_publish(&feed, parsed((const char *[]){"127.0.0.1:2", NULL}));
    run(&mailbox);
    assert_int_equal(looked, 1);
    struct endpoints *after = endpoint_feed_get(&feed);
    assert_string_equal(after->endpoint[0].address, "127.0.0.1:2");
    endpoint_feed_unsubscribe(&feed, &notice);
    endpoint_feed_publish(&feed, endpoints_new(0));
    run(&mailbox);
    assert_int_equal(looked, 1);
    assert_int_equal(after->count, 1); // held
    endpoints_release(before);
    endpoints_release(after);
    endpoint_feed_close(&feed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_feed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
