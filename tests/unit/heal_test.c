// SPDX-License-Identifier: Apache-2.0
// The loss of a parent, where others look as if they could take its place: whoever is fed by the
// lost one too, or by nobody, is left for one that hears of the root, long before a heartbeat is
// missed; and so is a parent that is there but hears of nobody.
#include "tests/unit/tree_fixture.h"

#define SILENCE_MS 60000 // nobody is left for it in this test
#define SHORT_SILENCE_MS 1000

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

static bool follows(struct site *site, const char *parent)
{
    struct upstream_status upstream;
    follow_status(site->instance, &upstream);
    return upstream.connected && strcmp(upstream.node, parent) == 0;
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
    site_open(top.root);
    author_open(&top.author, seed);
    author_join(&top.author, top.root);
    author_feed(&top.author, top.root, 3, 100);
    top.lost = replica_open("lost", top.root->address);
    top.good = replica_open("good", top.root->address);
    AWAIT(follows(top.lost, "root") && follows(top.good, "root"));
    return top;
}

static void top_close(struct top *top)
{
    site_close(top->good);
    site_close(top->root);
    builder_close(&top->author.builder);
}

// The child comes to the one that hears of the root, and was without a parent only once.
static void await_good(struct top *top, struct site *child, unsigned losses)
{
    AWAIT(follows(child, "good"));
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
    AWAIT(follows(child, "lost"));
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
    AWAIT(follows(orphan, "other"));
    site_open(child);
    AWAIT(follows(child, "lost"));
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
    struct site *child = replica_new("child", orphan->address, top.good->address, NULL);
    child->node.silence = SHORT_SILENCE_MS;
    site_open(child);
    AWAIT(follows(child, "orphan") && has_path(child, "root\0lost\0orphan", 16));
    site_close(top.lost);
    await_good(&top, child, 0);
    site_close(child);
    site_close(orphan);
    top_close(&top);
}

int main(void)
{
    log_open(getenv("QS_TEST_LOG") != NULL ? LOG_DEBUG : (enum log_level)(LOG_ERROR + 1));
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fed_by_the_lost_one),
        cmocka_unit_test(test_fed_by_nobody),
        cmocka_unit_test(test_no_news),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
