// SPDX-License-Identifier: Apache-2.0
// The loss of a parent, where others look as if they could take its place: whoever is fed by the
// lost one too, or by nobody, is left for one that hears of the root, long before a heartbeat is
// missed, and be it the lost one itself, come back; and so is a parent that is there but hears of
// nobody.
#include "tests/unit/tree_fixture.h"

#define SILENCE_MS 60000 // nobody is left for it in this test
#define SHORT_SILENCE_MS 1000
#define SEED 5 // of a log that several have
#define BAD 1  // a block

static struct site *replica_new(const char *name, const char *first, const char *second,
                                const char *third)
{
    struct site *site = site_new(name, ROLE_REPLICA);
    const char *parents[] = {first, second, third};
    for (unsigned i = 0; i < ARRAY_LEN(parents) && parents[i] != NULL; i++) {
        site_parent(site, parents[i]);
    }
    site->node.silence = SILENCE_MS;
    return site;
}

static struct site *replica_open(const char *name, const char *parent)
{
    struct site *site = replica_new(name, parent, NULL, NULL);
    site_open(site);
    return site;
}

static bool has_path(struct site *site, const char *path, size_t size)
{
    struct beat beat;
    return beats_newest(site->beats, &beat) &&
           bytes_equal(bytes_of(beat.path, beat.path_size), bytes_of(path, size));
}

struct top {
    struct site *root, *lost, *good;
    struct author author;
};

static struct top top_open(uint64_t seed)
{
    struct top top = {.root = site_new("root", ROLE_ROOT)};
    root_open(top.root, &top.author, seed, 3);
    top.lost = replica_open("lost", top.root->address);
    top.good = replica_open("good", top.root->address);
    AWAIT(site_follows(top.lost, "root") && site_follows(top.good, "root"));
    return top;
}

static void top_close(struct top *top)
{
    site_close(top->good);
    root_close(top->root, &top->author);
}

// The child comes to the one that hears of the root, and was without a parent only once.
static void await_good(struct top *top, struct site *child, unsigned losses)
{
    AWAIT(site_follows(child, "good"));
    author_feed(&top->author, top->root, 3, 100);
    AWAIT(site_shows(child, top->author.last.number));
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_moves), 1);
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_lost), losses);
}

// It follows a fellow's child meanwhile: whose log comes from the lost one, and whose own parent
// is still there.
static void test_fed_by_the_lost_one(void **state)
{
    (void)state;
    struct top top = top_open(1);
    struct site *fellow = replica_open("fellow", top.lost->address);
    struct site *below = replica_open("below", fellow->address);
    AWAIT(has_path(below, "root\0lost\0fellow", 16));
    struct site *child =
        replica_new("child", top.lost->address, below->address, top.good->address);
    site_open(child);
    AWAIT(site_follows(child, "lost"));
    site_close(top.lost);
    await_good(&top, child, 1);
    site_close(child);
    site_close(below);
    site_close(fellow);
    top_close(&top);
}

// It follows one meanwhile that another parent fed, which is lost too.
static void test_fed_by_nobody(void **state)
{
    (void)state;
    struct top top = top_open(2);
    struct site *other = replica_open("other", top.root->address);
    struct site *orphan = replica_open("orphan", other->address);
    struct site *child =
        replica_new("child", top.lost->address, orphan->address, top.good->address);
    AWAIT(site_follows(orphan, "other"));
    site_open(child);
    AWAIT(site_follows(child, "lost"));
    site_close(other);
    AWAIT(METRIC_GET(orphan->metrics, instance, parent_lost) == 1);
    site_close(top.lost);
    await_good(&top, child, 1);
    site_close(child);
    site_close(orphan);
    top_close(&top);
}

// Its parent is there and sends what it knows, but nothing new.
static void test_no_news(void **state)
{
    (void)state;
    struct top top = top_open(3);
    struct site *orphan = replica_open("orphan", top.lost->address);
    AWAIT(site_shows(orphan, top.author.last.number));
    struct site *child = replica_new("child", orphan->address, top.good->address, NULL);
    child->node.silence = SHORT_SILENCE_MS;
    site_open(child);
    AWAIT(site_follows(child, "orphan") && has_path(child, "root\0lost\0orphan", 16));
    site_close(top.lost);
    await_good(&top, child, 0);
    site_close(child);
    site_close(orphan);
    top_close(&top);
}

// It knows none but the lost one and who follows itself: that one knows somebody else.
static void test_knows_only_those_below(void **state)
{
    (void)state;
    struct top top = top_open(5);
    struct site *child = replica_open("child", top.lost->address);
    struct site *below = replica_open("below", child->address);
    AWAIT(site_follows(child, "lost") && has_path(below, "root\0lost\0child", 15));
    struct endpoints *list;
    const char *bad, *reason;
    const char *known[] = {top.lost->address, below->address, NULL};
    assert_int_equal(endpoints_parse(known, &list, &bad, &reason), OK);
    endpoint_feed_publish(&child->instance->parents, list);
    const char *others[] = {child->address, top.good->address, NULL};
    assert_int_equal(endpoints_parse(others, &list, &bad, &reason), OK);
    endpoint_feed_publish(&below->instance->parents, list);
    site_close(top.lost);
    AWAIT(site_follows(child, "good"));
    author_feed(&top.author, top.root, 3, 100);
    AWAIT(site_shows(below, top.author.last.number));
    assert_true(site_follows(below, "child"));
    assert_int_equal(METRIC_GET(below->metrics, instance, parent_changes), 0);
    site_close(below);
    site_close(child);
    top_close(&top);
}

// All that it knows were fed by the root, and so it was itself. The root is back: who hears of it,
// and the root before all, is trusted, though every log passes by the lost one.
static void test_the_root_is_back(void **state)
{
    (void)state;
    struct author author;
    struct site *root = site_new("root", ROLE_ROOT);
    root_open(root, &author, 6, 3);
    struct site *fellow = replica_open("fellow", root->address);
    AWAIT(site_shows(fellow, author.last.number));
    struct site *child = replica_new("child", root->address, fellow->address, NULL);
    site_open(child);
    AWAIT(site_follows(child, "root"));
    struct endpoints *list;
    const char *bad, *reason;
    const char *nobody[] = {"127.0.0.1:1", NULL};
    assert_int_equal(endpoints_parse(nobody, &list, &bad, &reason), OK);
    endpoint_feed_publish(&fellow->instance->parents, list);
    site_stop(root);
    AWAIT(site_follows(child, "fellow"));
    root->node.peer = root->address; // a port of its own no more
    site_open(root);
    AWAIT(site_follows(child, "root"));
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_lost), 1);
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_moves), 1);
    site_close(child);
    site_close(fellow);
    root_close(root, &author);
}

// Its parent brings no news, and all places at the root are taken, by one that lets nobody in.
static void test_no_room_at_the_top(void **state)
{
    (void)state;
    struct author author;
    struct site *root = site_new("root", ROLE_ROOT);
    root->options.children_max = 1;
    root_open(root, &author, 4, 3);
    struct site *taker = replica_new("taker", root->address, NULL, NULL);
    taker->node.peers_max = 0;
    site_open(taker);
    AWAIT(site_follows(taker, "root"));
    struct site *lost = replica_open("lost", root->address);
    struct site *orphan = replica_open("orphan", lost->address);
    AWAIT(site_shows(orphan, author.last.number));
    struct site *child = replica_new("child", orphan->address, root->address, NULL);
    child->node.silence = SHORT_SILENCE_MS;
    site_open(child);
    AWAIT(site_follows(child, "orphan") && has_path(child, "root\0lost\0orphan", 16));
    site_close(lost);
    AWAIT(site_follows(child, "root"));
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_lost), 0);
    author_feed(&author, root, 3, 100);
    AWAIT(site_shows(child, author.last.number));
    site_close(child);
    site_close(orphan);
    site_close(taker);
    root_close(root, &author);
}

// One no longer has the log and will not have it soon, the other has no room: that one is insisted
// on without the pause that the first would be worth.
static void test_too_old_and_full(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_REPLICA); // of the one log that all are given
    root->options.children_max = 1;
    site_open(root);
    site_feed(root, SEED, TRIMMED_END, 1000);
    struct site *taker = replica_new("taker", root->address, NULL, NULL);
    taker->node.peers_max = 0;
    site_open(taker);
    struct site *past = site_short("past");
    site_open(past);
    site_feed_trimmed(past, SEED, 1000);
    AWAIT(site_follows(taker, "root"));
    struct site *child = replica_new("child", past->address, root->address, NULL);
    child->node.reconnect = SILENCE_MS;
    site_open_instance(child);
    site_feed(child, SEED, 5, 1000);
    site_open_links(child);
    AWAIT(site_follows(child, "root") && site_shows(child, TRIMMED_END));
    site_close(child);
    site_close(past);
    site_close(taker);
    site_close(root);
}

// The one that the full root names cannot give a block that has gone bad here; the root could.
static void test_repair_from_a_full_one(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_REPLICA);
    root->options.children_max = 1;
    site_open(root);
    site_feed(root, SEED, TRIMMED_END, 1000);
    struct site *middle = site_short("middle");
    middle->node.silence = SILENCE_MS;
    site_parent(middle, root->address);
    site_open_instance(middle);
    site_feed_trimmed(middle, SEED, 1000);
    site_open_links(middle);
    AWAIT(site_follows(middle, "root"));
    struct site *child = replica_new("child", root->address, NULL, NULL);
    site_open_instance(child);
    site_feed(child, SEED, TRIMMED_END, 1000);
    site_spoil(child);
    instance_recheck(child->instance, BAD);
    AWAIT(atomic_load(&child->instance->damaged_first) == BAD);
    site_open_links(child);
    AWAIT(atomic_load(&child->instance->damaged_first) == 0);
    site_close(child);
    site_close(middle);
    site_close(root);
}

// Who cannot give a block that has gone bad here is left for the other one: that gets its log from
// here, and so would this node be without any.
static void test_repair_that_nobody_can_make(void **state)
{
    (void)state;
    struct author author;
    struct site *top = site_short("top");
    top->node.silence = SILENCE_MS;
    site_open(top);
    author_open(&author, SEED);
    author_feed(&author, top, TRIMMED_END, 1000);
    site_trim(top);
    struct site *child = replica_new("child", top->address, NULL, NULL);
    child->node.silence = SHORT_SILENCE_MS; // the block is asked for again after that
    site_open_instance(child);
    site_feed(child, SEED, TRIMMED_END, 1000);
    site_open_links(child);
    struct site *below = replica_open("below", child->address);
    AWAIT(site_follows(child, "top") && site_shows(below, author.last.number));
    struct endpoints *list;
    const char *bad, *reason;
    const char *known[] = {top->address, below->address, NULL};
    assert_int_equal(endpoints_parse(known, &list, &bad, &reason), OK);
    endpoint_feed_publish(&child->instance->parents, list);
    site_spoil(child);
    instance_recheck(child->instance, BAD);
    AWAIT(METRIC_GET(below->node_metrics, node, peers_refused) > 0); // it was left for that one
    author_feed(&author, top, 3, 100);
    AWAIT(site_shows(below, author.last.number));
    assert_int_equal(atomic_load(&child->instance->damaged_first), BAD);
    site_close(below);
    site_close(child);
    site_close(top);
    builder_close(&author.builder);
}

int main(void)
{
    log_open(getenv("QS_TEST_LOG") != NULL ? LOG_DEBUG : (enum log_level)(LOG_ERROR + 1));
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fed_by_the_lost_one),
        cmocka_unit_test(test_fed_by_nobody),
        cmocka_unit_test(test_no_news),
        cmocka_unit_test(test_knows_only_those_below),
        cmocka_unit_test(test_the_root_is_back),
        cmocka_unit_test(test_no_room_at_the_top),
        cmocka_unit_test(test_too_old_and_full),
        cmocka_unit_test(test_repair_from_a_full_one),
        cmocka_unit_test(test_repair_that_nobody_can_make),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
