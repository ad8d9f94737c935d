// SPDX-License-Identifier: Apache-2.0
// A tree that grows and heals: nodes that know the root alone find a place below it, however few
// children each may have; a better parent is moved to without a word too much; no circles.
#include "tests/unit/tree_fixture.h"

#include "common/tree/fanout.h"

static bool following(struct site *site, char *ret_parent)
{
    struct upstream_status status;
    follow_status(site->instance, &status);
    memcpy(ret_parent, status.node, sizeof status.node);
    return status.connected;
}

struct standstill {
    struct task task;
    uint64_t for_ns;
    sem_t over;
};

static void stand_still(struct task *task)
{
    struct standstill *standstill = CONTAINER_OF(task, struct standstill, task);
    clock_sleep_ns(standstill->for_ns);
    sem_post(&standstill->over);
}

// ---- growing -----------------------------------------------------------------------------------

#define CROWD 14
#define CHILDREN_MAX 2

static unsigned number_of(const char *name) { return (unsigned)strtoul(name + 1, NULL, 10); }

// The length of the way up to the root, 0 = it does not lead there.
static unsigned depth_of(struct site **crowd, unsigned number)
{
    for (unsigned depth = 1; depth <= CROWD; depth++) {
        char parent[NODE_NAME_MAX + 1];
        if (!following(crowd[number], parent)) {
            return 0;
        }
        if (strcmp(parent, "root") == 0) {
            return depth;
        }
        number = number_of(parent);
    }
    return 0;
}

static bool all_below(struct site **crowd, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (crowd[i] != NULL && depth_of(crowd, i) == 0) {
            return false;
        }
    }
    return true;
}

static void test_growing(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    root->options.children_max = CHILDREN_MAX;
    root->node.peers_max = 64;
    struct author author;
    root_open(root, &author, 1, 5);
    struct site *crowd[CROWD];
    for (unsigned i = 0; i < CROWD; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%u", i);
        crowd[i] = site_new(name, ROLE_REPLICA);
        crowd[i]->options.children_max = CHILDREN_MAX;
        site_parent(crowd[i], root->address);
        site_open(crowd[i]);
    }
    AWAIT(all_below(crowd, CROWD));
    unsigned deepest = 0;
    for (unsigned i = 0; i < CROWD; i++) {
        AWAIT(site_shows(crowd[i], author.last.number));
        AWAIT(METRIC_GET(crowd[i]->metrics, instance, children) <= CHILDREN_MAX);
        deepest = depth_of(crowd, i) > deepest ? depth_of(crowd, i) : deepest;
    }
    AWAIT(METRIC_GET(root->metrics, instance, children) <= CHILDREN_MAX);
    assert_true(METRIC_GET(root->metrics, instance, children_sent_on) > 0);
    assert_in_range(deepest, 3, 7); // 2 + 4 + 8: three levels hold them all
    print_message("%u nodes below a root of %u children: %u levels\n", CROWD, CHILDREN_MAX,
                  deepest);

    // One that feeds others goes: all find another place, and nothing is missing.
    unsigned gone = 0;
    while (METRIC_GET(crowd[gone]->metrics, instance, children) == 0) {
        gone++;
    }
    site_close(crowd[gone]);
    crowd[gone] = NULL;
    author_feed(&author, root, 5, 1000);
    for (unsigned i = 0; i < CROWD; i++) {
        AWAIT(crowd[i] == NULL || site_shows(crowd[i], author.last.number));
    }
    AWAIT(METRIC_GET(root->metrics, instance, children) <= CHILDREN_MAX);
    for (unsigned i = CROWD; i-- > 0;) {
        if (crowd[i] != NULL) {
            assert_same_blocks(root, crowd[i], 1);
            site_close(crowd[i]);
        }
    }
    root_close(root, &author);
}

// Where no child can take anybody (nobody listens there), the next one is taken after all.
static void test_nobody_to_send_to(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    root->options.children_max = 1;
    site_open(root);
    struct site *leaves[3];
    for (unsigned i = 0; i < 3; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%u", i);
        leaves[i] = site_new(name, ROLE_REPLICA);
        leaves[i]->deaf = true;
        site_parent(leaves[i], root->address);
        site_open(leaves[i]);
        AWAIT(site_follows(leaves[i], "root"));
    }
    assert_int_equal(METRIC_GET(root->metrics, instance, children), 3);
    assert_int_equal(METRIC_GET(root->metrics, instance, children_sent_on), 0);
    for (unsigned i = 0; i < 3; i++) {
        site_close(leaves[i]);
    }
    site_close(root);
}

// Nobody is let in beyond what a node may feed while a child can feed it.
static void test_sent_on(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    root->options.children_max = 1;
    struct author author;
    root_open(root, &author, 4, 5);
    struct site *middle = site_new("middle", ROLE_REPLICA), *leaf = site_new("leaf", ROLE_REPLICA);
    site_parent(middle, root->address);
    site_parent(leaf, root->address);
    site_open(middle);
    AWAIT(site_shows(middle, author.last.number));
    site_open(leaf);
    AWAIT(site_follows(leaf, "middle"));
    assert_int_equal(METRIC_GET(root->metrics, instance, children_sent_on), 1);
    assert_int_equal(METRIC_GET(leaf->metrics, instance, parent_changes), 0);
    site_close(leaf);
    site_close(middle);
    root_close(root, &author);
}

// Those that were taken beyond what a node may feed go to the first one that has room.
static void test_making_room(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    root->options.children_max = 1;
    struct author author;
    root_open(root, &author, 2, 5);
    struct site *leaves[2];
    for (unsigned i = 0; i < 2; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%u", i);
        leaves[i] = site_new(name, ROLE_REPLICA);
        leaves[i]->deaf = true;
        site_parent(leaves[i], root->address);
        site_open(leaves[i]);
        AWAIT(site_follows(leaves[i], "root"));
    }
    struct site *middle = site_new("middle", ROLE_REPLICA);
    site_parent(middle, root->address);
    site_open(middle);
    AWAIT(site_follows(leaves[0], "middle") && site_follows(leaves[1], "middle"));
    assert_true(site_follows(middle, "root"));
    author_feed(&author, root, 5, 1000);
    for (unsigned i = 0; i < 2; i++) {
        AWAIT(site_shows(leaves[i], author.last.number));
        assert_int_equal(METRIC_GET(leaves[i]->metrics, instance, parent_moves), 1);
        assert_int_equal(METRIC_GET(leaves[i]->metrics, instance, parent_lost), 0);
        site_close(leaves[i]);
    }
    site_close(middle);
    root_close(root, &author);
}

// The place of one that has fallen silent is free, long before its link is given up.
static void test_place_of_a_silent_one(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    root->options.children_max = 2;
    root->node.silence = 400;
    struct author author;
    root_open(root, &author, 3, 5);
    struct site *silent = site_new("silent", ROLE_REPLICA);
    struct site *other = site_new("other", ROLE_REPLICA);
    silent->node.silence = 60000;
    site_parent(silent, root->address);
    site_parent(other, root->address);
    site_open(silent);
    site_open(other);
    AWAIT(fanout_count(root->fanout) == 2);
    struct standstill standstill = {.task.run = stand_still, .for_ns = NS_PER_S};
    sem_init(&standstill.over, 0, 0);
    loop_post(silent->loop, &standstill.task);
    AWAIT(fanout_count(root->fanout) == 1);
    struct site *next = site_new("next", ROLE_REPLICA);
    site_parent(next, root->address);
    site_open(next);
    AWAIT(site_follows(next, "root"));
    assert_int_equal(METRIC_GET(root->metrics, instance, children_sent_on), 0);
    sem_wait(&standstill.over);
    sem_destroy(&standstill.over);
    // When it speaks again there are too many, for a moment.
    AWAIT(METRIC_GET(root->metrics, instance, children) == 2);
    AWAIT(fanout_count(root->fanout) == 2);
    author_feed(&author, root, 5, 1000);
    AWAIT(site_shows(silent, author.last.number));
    site_close(next);
    site_close(other);
    site_close(silent);
    root_close(root, &author);
}

// ---- a better parent ---------------------------------------------------------------------------

static void test_move(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    root->node.site = "there";
    struct author author;
    root_open(root, &author, 1, 5);
    struct site *middle = site_new("middle", ROLE_REPLICA);
    middle->node.site = "here";
    site_parent(middle, root->address);
    site_open(middle);
    AWAIT(site_shows(middle, author.last.number));

    struct site *child = site_new("child", ROLE_REPLICA);
    child->node.site = "here";
    child->options.probe = 30;
    site_parent(child, root->address);
    site_parent(child, middle->address);
    site_open(child);
    AWAIT(site_follows(child, "middle"));
    author_feed(&author, root, 5, 1000);
    AWAIT(site_shows(child, author.last.number));
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_moves), 1);
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_changes), 1);
    assert_same_blocks(root, child, 1);
    // There it stays, and goes on looking.
    uint64_t probes = METRIC_GET(child->metrics, instance, parent_probes);
    AWAIT(METRIC_GET(child->metrics, instance, parent_probes) > probes + 5);
    assert_true(site_follows(child, "middle"));
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_moves), 1);
    // Who is probed holds nothing of it.
    AWAIT(METRIC_GET(root->metrics, instance, children) == 1);
    // The middle one goes: the next one at once.
    site_close(middle);
    AWAIT(site_follows(child, "root"));
    site_close(child);
    AWAIT(METRIC_GET(root->node_metrics, node, peers) == 0);
    root_close(root, &author);
}

static uint64_t said_way(struct site *site)
{
    struct greeting greeting;
    greeting_about(&greeting, site->fanout, false);
    return greeting.welcome.way_ns;
}

// A near parent that hears of the root late is left for another one, and what a way is worth is
// told from hop to hop.
static void test_detour(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    root->node.heartbeat = 60000; // the ways are told by the test alone
    struct author author;
    root_open(root, &author, 1, 5);
    struct site *middle = site_new("middle", ROLE_REPLICA);
    site_parent(middle, root->address);
    site_open(middle);
    struct beat beat = {0};
    AWAIT(site_shows(middle, author.last.number) && beats_newest(middle->beats, &beat));
    assert_int_equal(said_way(root), WAY_AT_ROOT_NS);
    assert_int_equal(said_way(middle), beat.way_ns);

    struct site *child = site_new("child", ROLE_REPLICA);
    child->options.probe = 30;
    site_parent(child, middle->address);
    site_parent(child, root->address);
    site_open(child);
    AWAIT(METRIC_GET(child->metrics, instance, parent_probes) > 5);
    assert_true(site_follows(child, "middle"));
    beat.way_ns = NS_PER_S;
    beat.sequence++;
    beats_add(middle->beats, &beat);
    AWAIT(beats_newest(child->beats, &beat) && beat.way_ns > NS_PER_S);
    AWAIT(site_follows(child, "root"));
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_moves), 1);
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_lost), 0);
    // Without a parent nothing is known of the way.
    assert_int_equal(said_way(middle), NS_PER_S);
    site_close(child);
    root_close(root, &author);
    AWAIT(!site_follows(middle, "root"));
    assert_int_equal(said_way(middle), 0);
    site_close(middle);
}

// Two of one site want each other rather than the far root: one of them must not.
static void test_no_circle(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    root->node.site = "there";
    struct author author;
    root_open(root, &author, 1, 5);
    struct site *pair[2] = {site_new("left", ROLE_REPLICA), site_new("right", ROLE_REPLICA)};
    char *paths[2];
    for (unsigned i = 0; i < 2; i++) {
        paths[i] = mem_format("unix:%s/peer", pair[i]->directory);
        pair[i]->node.peer = paths[i];
        pair[i]->node.site = "here";
        pair[i]->node.silence = 300;
        pair[i]->options.probe = 20;
    }
    for (unsigned i = 0; i < 2; i++) {
        site_parent(pair[i], root->address);
        site_parent(pair[i], paths[1 - i]);
        site_open(pair[i]);
    }
    AWAIT((site_follows(pair[0], "root") && site_follows(pair[1], "left")) ||
          (site_follows(pair[1], "root") && site_follows(pair[0], "right")));
    for (unsigned i = 0; i < 20; i++) {
        author_feed(&author, root, 1, 1000);
        AWAIT(site_shows(pair[0], author.last.number));
        AWAIT(site_shows(pair[1], author.last.number));
    }
    for (unsigned i = 0; i < 2; i++) {
        site_close(pair[i]);
        mem_free(paths[i]);
    }
    root_close(root, &author);
}

// ---- silence -----------------------------------------------------------------------------------

// The whole machine stands still for much longer than `silence`: nobody has heard anybody, and that
// is no silence of anybody.
static void test_standing_still(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    site_open(root);
    struct author author;
    author_open(&author, 1);
    author_join(&author, root);
    struct site *child = site_new("child", ROLE_REPLICA);
    child->node.silence = 300;
    site_parent(child, root->address);
    site_open(child);
    AWAIT(site_follows(child, "root"));
    // The child wakes first, so that it finds nothing from its parent.
    struct standstill standstills[2] = {{.for_ns = 1550 * NS_PER_MS}, {.for_ns = 1500 * NS_PER_MS}};
    for (unsigned i = 0; i < 2; i++) {
        standstills[i].task.run = stand_still;
        sem_init(&standstills[i].over, 0, 0);
        loop_post(i == 0 ? root->loop : child->loop, &standstills[i].task);
    }
    for (unsigned i = 0; i < 2; i++) {
        sem_wait(&standstills[i].over);
        sem_destroy(&standstills[i].over);
    }
    author_feed(&author, root, 3, 1000);
    AWAIT(site_shows(child, author.last.number));
    assert_int_equal(METRIC_GET(child->metrics, instance, parent_lost), 0);
    site_close(child);
    root_close(root, &author);
}

int main(void)
{
    log_open(getenv("QS_TEST_LOG") != NULL ? LOG_DEBUG : (enum log_level)(LOG_ERROR + 1));
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growing),
        cmocka_unit_test(test_nobody_to_send_to),
        cmocka_unit_test(test_sent_on),
        cmocka_unit_test(test_making_room),
        cmocka_unit_test(test_place_of_a_silent_one),
        cmocka_unit_test(test_move),
        cmocka_unit_test(test_detour),
        cmocka_unit_test(test_no_circle),
        cmocka_unit_test(test_standing_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
