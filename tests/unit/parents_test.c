// SPDX-License-Identifier: Apache-2.0
// Lists of nodes that change while they are used: what is known of a parent stays with its address,
// a follower waits for a first list, keeps its link when its parent has left the list, and goes to
// the listed ones afterwards.
#include "tests/unit/tree_fixture.h"

#include "common/tree/parents.h"

static struct endpoints *list_of(const char *const *texts)
{
    struct endpoints *endpoints;
    const char *bad, *reason;
    assert_int_equal(endpoints_parse(texts, &endpoints, &bad, &reason), OK);
    return endpoints;
}

static bool take(struct parents *parents, const char *a, const char *b, const char *c)
{
    struct endpoints *list = list_of((const char *[]){a, b, c, NULL});
    bool added = parents_take(parents, list);
    endpoints_release(list);
    return added;
}

#define A "127.0.0.1:1"
#define B "127.0.0.1:2"
#define C "127.0.0.1:3"

static void test_what_is_known_stays(void **state)
{
    (void)state;
    struct parents parents = {0};
    assert_null(parents_choose(&parents, 0, 50));
    assert_true(take(&parents, A, B, C));
    struct parent *a = parents.all[0], *b = parents.all[1], *held = NULL;
    b->bad_block = 7;
    parents_hold(&parents, &held, a);
    // A is held, so it stays, as no one to be tried; C is gone; B is what it was.
    assert_false(take(&parents, B, NULL, NULL));
    assert_int_equal(parents.count, 2);
    assert_ptr_equal(parents.all[0], b);
    assert_int_equal(b->bad_block, 7);
    assert_false(a->listed);
    assert_ptr_equal(parents_choose(&parents, 0, 50), b);
    // It comes back as itself; and goes with its last holder.
    assert_true(take(&parents, C, A, NULL));
    assert_ptr_equal(parents.all[1], a);
    assert_false(take(&parents, C, NULL, NULL));
    assert_true(take(&parents, C, A, NULL)); // as it was held: new to the list all the same
    assert_false(take(&parents, C, NULL, NULL));
    parents_hold(&parents, &held, NULL);
    assert_int_equal(parents.count, 1);
    // One that is listed twice is one.
    assert_true(take(&parents, B, B, NULL));
    assert_int_equal(parents.count, 1);
    assert_false(take(&parents, NULL, NULL, NULL));
    assert_int_equal(parents.count, 0);
    parents_close(&parents);
}

static void test_rounds(void **state)
{
    (void)state;
    struct parents parents = {.unit_ns = 10};
    take(&parents, A, B, C);
    struct parent *a = parents.all[0], *b = parents.all[1], *c = parents.all[2];
    assert_ptr_equal(parents_choose(&parents, 0, 50), a);
    oracle_rest_begin(&a->lost, 10, 50);
    assert_ptr_equal(parents_choose(&parents, 0, 50), b);
    b->tried = true;
    c->bad_count = 2; // it is left: the one that was lost is better
    assert_ptr_equal(parents_choose(&parents, 0, 50), a);
    a->tried = true;
    assert_null(parents_choose(&parents, 0, 50));
    parents_new_round(&parents);
    assert_ptr_equal(parents_choose(&parents, 0, 50), b);
    assert_int_equal(c->bad_count, 2);
    // A round in vain: whoever is left gets another chance, though others are not left.
    a->no_repair = b->no_repair = 9;
    c->tried = true;
    assert_true(parents_may_mend(&parents, 9, 50));
    assert_null(parents_choose(&parents, 9, 50));
    parents_in_vain(&parents, 9, 50);
    assert_int_equal(c->bad_count, 0);
    assert_false(parents_may_mend(&parents, 9, 50));
    assert_true(parents_may_mend(&parents, 8, 50)); // of another block that is not known
    assert_ptr_equal(parents_choose(&parents, 9, 50), b);
    // Some time later all are asked again who has the block.
    assert_true(parents_may_mend(&parents, 9, 100 * NS_PER_S));
    assert_ptr_equal(parents_choose(&parents, 9, 100 * NS_PER_S), a);
    parents_close(&parents);
}

#define NOW (1000 * NS_PER_S)
#define MS NS_PER_MS

static struct parent *told(struct parents *parents, unsigned at, uint64_t rtt_ms, uint64_t way_ms)
{
    struct parent *parent = parents->all[at];
    struct message_welcome welcome = {.answer = ANSWER_RESUME,
                                      .role = ROLE_REPLICA,
                                      .path = bytes_text("root"),
                                      .children = 1,
                                      .children_max = 8,
                                      .way_ns = way_ms == 0 ? 0 : (way_ms - rtt_ms / 2) * MS};
    parent->rtt_ns = UINT64_MAX;
    parent_learn(parents, parent, &welcome, 2 * rtt_ms * MS, NOW);
    return parent;
}

static struct parent *best_beside(const struct parents *parents, const struct parent *used,
                                  enum detour *ret_detour)
{
    struct prospect seen = parent_prospect(parents, used, NOW), other;
    struct parent *best = parents_best(parents, used, &seen, NOW, &other);
    *ret_detour = seen.detour;
    return best;
}

// Who has a parent looks for the nearest one without a detour; who has none takes the nearest.
static void test_whole_ways(void **state)
{
    (void)state;
    struct parents parents = {.unit_ns = NS_PER_S};
    take(&parents, A, B, C);
    struct parent *a = told(&parents, 0, 2, 60), *b = told(&parents, 1, 40, 32);
    struct parent *c = told(&parents, 2, 60, 31);
    assert_int_equal(a->way_ns, 60 * MS);
    enum detour detour;
    assert_ptr_equal(best_beside(&parents, a, &detour), b);
    assert_int_equal(detour, DETOUR_LONG);
    assert_ptr_equal(best_beside(&parents, b, &detour), c);
    assert_int_equal(detour, DETOUR_NONE);
    assert_ptr_equal(parents_choose(&parents, 0, NOW), a);
    // One whose last places are left for others is no measure either.
    b->children = c->children = 6;
    assert_null(best_beside(&parents, a, &detour));
    assert_int_equal(detour, DETOUR_NONE);
    b->children = 5;
    assert_ptr_equal(best_beside(&parents, a, &detour), b);
    assert_int_equal(detour, DETOUR_LONG);
    // Of an older node's way nothing is known: then the nearest is as good as any.
    told(&parents, 0, 2, 0);
    assert_true(a->way_ns == UINT64_MAX);
    assert_ptr_equal(best_beside(&parents, b, &detour), a);
    assert_int_equal(detour, DETOUR_NONE);
    parents_close(&parents);
}

static void put(struct buf *to, const char *address, const char *node, const char *site)
{
    buf_append(to, address, strlen(address) + 1);
    buf_append(to, node, strlen(node) + 1);
    buf_append(to, site, strlen(site) + 1);
}

// A full node names others: tried in this round, those furthest down first, never twice.
static void test_named(void **state)
{
    (void)state;
    struct parents parents = {.unit_ns = 10, .site = "here"};
    take(&parents, A, NULL, NULL);
    struct parent *a = parents.all[0];
    struct buf list = {0};
    put(&list, B, "b", "there");
    put(&list, A, "a", "");
    put(&list, "127.0.0.1:9", "self", "here");
    put(&list, C, "c", "here");
    a->tried = true;
    assert_int_equal(parents_named(&parents, a, buf_bytes(&list), "self"), 2);
    struct parent *c = parents_choose(&parents, 0, 50);
    assert_string_equal(c->endpoint.address, C); // of this site
    c->tried = true;
    assert_int_equal(parents_named(&parents, c, buf_bytes(&list), "self"), 0);
    buf_clear(&list);
    put(&list, "127.0.0.1:4", "d", "there");
    assert_int_equal(parents_named(&parents, c, buf_bytes(&list), "self"), 1);
    struct parent *d = parents_choose(&parents, 0, 50), *held = NULL;
    assert_string_equal(d->endpoint.node, "d"); // further down than b
    // After the round only the one in use is left of them, and it is not tried again.
    parents_hold(&parents, &held, d);
    parents_new_round(&parents);
    assert_int_equal(parents.count, 2);
    assert_ptr_equal(parents_choose(&parents, 0, 50), a);
    parents_hold(&parents, &held, NULL);
    // However much is named: at once so many, in a round so many.
    for (unsigned round = 0; round < 20; round++) {
        buf_clear(&list);
        for (unsigned i = 0; i < 20; i++) {
            char text[32];
            snprintf(text, sizeof text, "127.0.0.1:%u", 100 + round * 20 + i);
            put(&list, text, "x", "");
        }
        unsigned added = parents_named(&parents, a, buf_bytes(&list), "self");
        assert_int_equal(added, round < PARENTS_NAMED_MAX / 8 ? 8 : 0);
    }
    assert_int_equal(parents.count, 1 + PARENTS_NAMED_MAX);
    parents_new_round(&parents);
    // What is no list is none: cut anywhere, no address, too long.
    buf_clear(&list);
    put(&list, B, "b", "there");
    for (size_t size = 0; size < list.size; size++) {
        assert_int_equal(parents_named(&parents, a, bytes_of(list.data, size), "self"), 0);
    }
    char longer[200] = {0};
    memset(longer, 'x', sizeof longer - 1);
    buf_clear(&list);
    put(&list, "nowhere", "b", "");
    assert_int_equal(parents_named(&parents, a, buf_bytes(&list), "self"), 0);
    buf_clear(&list);
    put(&list, B, longer, "");
    assert_int_equal(parents_named(&parents, a, buf_bytes(&list), "self"), 0);
    buf_free(&list);
    parents_close(&parents);
}

static void publish(struct site *site, const char *a, const char *b)
{
    endpoint_feed_publish(&site->instance->parents, list_of((const char *[]){a, b, NULL}));
}

static void test_follower_of_a_changing_list(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    struct author author;
    root_open(root, &author, 1, 5);
    struct site *middle = site_new("middle", ROLE_REPLICA);
    site_parent(middle, root->address);
    site_open(middle);
    AWAIT(site_shows(middle, author.last.number));

    struct site *child = site_new("child", ROLE_REPLICA);
    site_open(child);
    AWAIT(site_state_is(child, "no parents are known"));
    publish(child, middle->address, NULL);
    AWAIT(site_follows(child, "middle"));
    AWAIT(site_shows(child, author.last.number));
    // Its parent is listed no more: nothing happens to a link that works.
    publish(child, root->address, NULL);
    author_feed(&author, root, 5, 1000);
    AWAIT(site_shows(child, author.last.number));
    assert_true(site_follows(child, "middle"));
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_lost), 0);
    // Not even an empty list does anything; and the next one is tried when the link is lost.
    publish(child, NULL, NULL);
    site_close(middle);
    AWAIT(site_state_is(child, "no parents are known"));
    publish(child, root->address, NULL);
    AWAIT(site_follows(child, "root"));
    author_feed(&author, root, 5, 1000);
    AWAIT(site_shows(child, author.last.number));
    // The very parent that was lost while nobody was listed comes back, and is tried at once.
    publish(child, NULL, NULL);
    char address[ADDRESS_TEXT_BYTES];
    memcpy(address, root->address, sizeof address);
    site_stop(root);
    AWAIT(site_state_is(child, "no parents are known"));
    root->node.peer = address;
    site_open(root);
    publish(child, address, NULL);
    AWAIT(site_follows(child, "root"));
    site_close(child);
    root_close(root, &author);
}

static void test_bad_address(void **state)
{
    (void)state;
    struct site *site = site_new("node", ROLE_REPLICA);
    site_parent(site, "nowhere");
    struct instance_setup setup = {.node = &site->node,
                                   .options = &site->options,
                                   .role = &bare_role,
                                   .metrics = site->metrics};
    assert_int_equal(instance_open(&site->instance, &setup), ERR_CONFIG);
    site_free(site);
}

// Who does not say where a node stands lets Consul say it.
static void test_own_site(void **state)
{
    (void)state;
    struct site *site = site_new("node", ROLE_REPLICA);
    site->node.site = "here";
    site_open(site);
    assert_true(follow_is_own_site(site->instance, bytes_text("here")));
    assert_false(follow_is_own_site(site->instance, bytes_text("east")));
    assert_false(follow_is_own_site(site->instance, bytes_text("")));
    struct endpoints *list = list_of((const char *[]){A, NULL});
    snprintf(list->endpoint[0].site, sizeof list->endpoint[0].site, "east");
    list->endpoint[0].own_site = true;
    endpoint_feed_publish(&site->instance->parents, list);
    AWAIT(follow_is_own_site(site->instance, bytes_text("east")));
    site_close(site);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_site),
        cmocka_unit_test(test_what_is_known_stays),
        cmocka_unit_test(test_rounds),
        cmocka_unit_test(test_whole_ways),
        cmocka_unit_test(test_named),
        cmocka_unit_test(test_follower_of_a_changing_list),
        cmocka_unit_test(test_bad_address),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
