// SPDX-License-Identifier: Apache-2.0
// The census: which saying counts, what is told when and how much of it, who is lost and forgotten,
// and the picture that goes down page by page. Times are made up but in the last test.
#include "tests/unit/tree_fixture.h"

#include "common/tree/census.h"
#include "common/tree/picture.h"

#define S NS_PER_S
// Children's links, which are but names.
static const char left[] = "left", right[] = "right";

static struct site *town_open(const char *name, uint64_t census_max)
{
    struct site *site = site_new(name, ROLE_ROOT);
    site->options.census_max = census_max;
    site_open_instance(site);
    return site;
}

static void town_close(struct site *site)
{
    site_put_away(site);
    site_free(site);
}

static struct census_item said(const char *node, const char *parent, uint64_t ago_ns)
{
    return (struct census_item){.node = bytes_text(node),
                                .parent = bytes_text(parent),
                                .role = ROLE_REPLICA,
                                .state = INSTANCE_SERVING,
                                .age_ns = UINT64_MAX,
                                .network_ns = UINT64_MAX,
                                .ago_ns = ago_ns};
}

static void take(struct site *site, const void *via, struct census_item item, uint64_t now_ns)
{
    struct buf items = {0};
    census_item_append(&items, &item);
    assert_int_equal(census_take(site->instance->census, via, buf_bytes(&items), now_ns), OK);
    buf_free(&items);
}

// What is known of `node`; false: nothing. Its names are not to be looked at.
static bool find(struct site *site, const char *node, uint64_t now_ns, struct census_item *ret_item)
{
    struct buf items = {0};
    census_list(site->instance->census, &items, now_ns);
    struct unpacker from = unpacker_of(buf_bytes(&items));
    bool found = false;
    struct census_item item;
    while (census_item_next(&from, &item)) {
        if (bytes_equal_text(item.node, node)) {
            found = true;
            *ret_item = item;
        }
    }
    assert_int_equal(unpack_end(&from), OK);
    buf_free(&items);
    return found;
}

static bool is_lost(struct site *site, const char *node, uint64_t now_ns)
{
    struct census_item item;
    assert_true(find(site, node, now_ns, &item));
    return (item.flags & CENSUS_LOST) != 0;
}

// How many items one report holds; `first` is the name of the first one.
static unsigned told(struct site *site, uint64_t now_ns, char first[NODE_NAME_MAX + 1])
{
    struct buf items = {0};
    census_tell(site->instance->census, &items, now_ns);
    assert_true(items.size <= CENSUS_REPORT_BYTES);
    struct unpacker from = unpacker_of(buf_bytes(&items));
    struct census_item item;
    unsigned count = 0;
    while (census_item_next(&from, &item)) {
        if (count++ == 0) {
            memcpy(first, item.node.data, item.node.size);
            first[item.node.size] = '\0';
        }
    }
    buf_free(&items);
    return count;
}

static void test_the_later_saying_counts(void **state)
{
    (void)state;
    struct site *site = town_open("top", 100);
    struct census_item item = said("a", "x", 2 * S), seen;
    item.visible = 7;
    take(site, left, item, 100 * S);
    assert_true(find(site, "a", 101 * S, &seen) && seen.visible == 7);
    assert_int_equal(seen.ago_ns, 3 * S);
    // One from before that comes later, on another way, changes nothing; one from after does.
    item = said("a", "y", 10 * S);
    item.visible = 5;
    take(site, right, item, 102 * S);
    assert_true(find(site, "a", 102 * S, &seen) && seen.visible == 7);
    item = said("a", "y", 1 * S);
    item.visible = 9;
    take(site, right, item, 103 * S);
    assert_true(find(site, "a", 103 * S, &seen) && seen.visible == 9);
    // Of itself a node knows best.
    take(site, left, said("top", "x", 0), 104 * S);
    assert_true(find(site, "top", 104 * S, &seen) && seen.parent.size == 0);
    town_close(site);
}

static void test_lost_by_whom(void **state)
{
    (void)state;
    struct site *site = town_open("top", 100);
    take(site, left, said("a", "x", 0), 100 * S);
    take(site, left, said("below", "a", 0), 100 * S);
    take(site, right, said("other", "y", 0), 100 * S);
    // It moved; then its parent before says that it is lost, and that one's link ends.
    take(site, right, said("a", "y", 0), 101 * S);
    struct census_item lost = said("a", "x", 0);
    lost.flags = CENSUS_LOST;
    take(site, left, lost, 101 * S);
    assert_false(is_lost(site, "a", 101 * S));
    census_lose(site->instance->census, left);
    assert_false(is_lost(site, "a", 101 * S));
    assert_true(is_lost(site, "below", 101 * S));
    assert_false(is_lost(site, "other", 101 * S));
    // The same saying on the way by which it is reached now.
    take(site, right, said("below", "a", 2 * S), 102 * S);
    assert_false(is_lost(site, "below", 102 * S));
    // By its own parent it is lost.
    lost = said("a", "y", 2 * S);
    lost.flags = CENSUS_LOST;
    take(site, right, lost, 103 * S);
    assert_true(is_lost(site, "a", 103 * S));
    town_close(site);
}

static void test_silence(void **state)
{
    (void)state;
    struct site *site = town_open("top", 100);
    struct census_item seen;
    take(site, left, said("a", "x", 0), 1000 * S);
    assert_false(is_lost(site, "a", 1000 * S + CENSUS_SILENT_NS - 1));
    assert_true(is_lost(site, "a", 1000 * S + CENSUS_SILENT_NS));
    assert_true(find(site, "a", 1000 * S + CENSUS_FORGET_NS - 1, &seen));
    assert_false(find(site, "a", 1000 * S + CENSUS_FORGET_NS, &seen));
    assert_int_equal(METRIC_GET(site->metrics, instance, census_nodes), 0);
    // What is told of one that long silent is not even taken.
    take(site, left, said("a", "x", CENSUS_FORGET_NS), 2000 * S);
    assert_false(find(site, "a", 2000 * S, &seen));
    town_close(site);
}

#define MANY 1000u

static void name_of(char to[8], unsigned number) { snprintf(to, 8, "n%05u", number); }

static void test_reports_are_bounded(void **state)
{
    (void)state;
    struct site *site = town_open("top", MANY);
    char name[8], first[NODE_NAME_MAX + 1] = "";
    for (unsigned i = 0; i < MANY; i++) {
        name_of(name, i);
        take(site, left, said(name, "x", 0), 100 * S);
    }
    unsigned sum = 0, count;
    while ((count = told(site, 101 * S, first)) > 0) {
        sum += count;
    }
    assert_int_equal(sum, MANY);
    // All say something new. In the middle of it one is lost: that comes first.
    for (unsigned i = 0; i < MANY; i++) {
        name_of(name, i);
        take(site, left, said(name, "x", 0), 102 * S);
    }
    sum = told(site, 103 * S, first);
    assert_true(sum < MANY / 2);
    struct census_item lost = said(first, "x", 1 * S);
    lost.flags = CENSUS_LOST;
    take(site, left, lost, 103 * S);
    memcpy(name, first, sizeof name);
    sum += told(site, 103 * S, first);
    assert_string_equal(first, name);
    while ((count = told(site, 103 * S, first)) > 0) {
        sum += count;
    }
    assert_int_equal(sum, MANY + 1);
    // The same once more is no news; another saying is, and so is all to another parent.
    take(site, right, said("n00001", "x", 1 * S), 103 * S);
    assert_int_equal(told(site, 103 * S, first), 0);
    take(site, right, said("n00001", "x", 0), 105 * S);
    assert_int_equal(told(site, 105 * S, first), 1);
    census_tell_all(site->instance->census);
    for (sum = 0; (count = told(site, 106 * S, first)) > 0;) {
        sum += count;
    }
    assert_int_equal(sum, MANY);
    town_close(site);
}

static void test_everybody_has_a_turn(void **state)
{
    (void)state;
    // Everything is said anew before each report, which holds but a part: nobody is left out.
    struct site *site = town_open("top", MANY);
    char name[8], first[NODE_NAME_MAX + 1];
    unsigned begun[MANY] = {0}, rounds = 0;
    for (unsigned i = 0; i < MANY; i++) {
        name_of(name, i);
        take(site, left, said(name, "x", 0), 100 * S);
    }
    while (told(site, 100 * S, first) > 0) {
    }
    for (unsigned sum = 0; sum < 10 * MANY; rounds++) {
        for (unsigned i = 0; i < MANY; i++) {
            name_of(name, i);
            take(site, left, said(name, "x", 0), (105 + rounds) * S);
        }
        sum += told(site, (105 + rounds) * S, first);
        begun[strtoul(first + 1, NULL, 10)]++;
    }
    unsigned different = 0;
    for (unsigned i = 0; i < MANY; i++) {
        different += begun[i] > 0;
    }
    // Reports began in ten rounds through the table at ever other places, not at the first again.
    assert_true(different > rounds / 2);
    town_close(site);
}

static void test_a_circle_grows_quiet(void **state)
{
    (void)state;
    struct site *a = town_open("a", 100), *b = town_open("b", 100);
    struct site *from = a, *to = b;
    take(a, left, said("x", "y", 0), 100 * S);
    uint64_t now_ns = 100 * S;
    unsigned rounds = 0;
    for (size_t size = 1; size > 0; rounds++) {
        assert_true(rounds < 10);
        struct buf items = {0};
        now_ns += S;
        census_tell(from->instance->census, &items, now_ns);
        size = items.size;
        // What is on the way is not counted: it looks the younger by that.
        now_ns += 20 * NS_PER_MS;
        assert_int_equal(census_take(to->instance->census, from, buf_bytes(&items), now_ns), OK);
        buf_free(&items);
        struct site *other = from;
        from = to;
        to = other;
    }
    town_close(a);
    town_close(b);
}

static void test_full(void **state)
{
    (void)state;
    struct site *site = town_open("top", 2);
    struct census_item seen;
    take(site, left, said("a", "x", 0), 1000 * S);
    take(site, left, said("b", "x", 300 * S), 1000 * S);
    assert_true(find(site, "top", 1000 * S, &seen) && (seen.flags & CENSUS_CUT) == 0);
    take(site, left, said("c", "x", 0), 1001 * S);
    assert_false(find(site, "c", 1001 * S, &seen));
    assert_int_equal(METRIC_GET(site->metrics, instance, census_refused), 1);
    // Those who are known are heard on; who is forgotten makes room.
    take(site, left, said("a", "y", 0), 1200 * S);
    assert_true(find(site, "a", 1200 * S, &seen) && seen.ago_ns == 0);
    take(site, left, said("c", "x", 0), 1301 * S);
    assert_true(find(site, "c", 1301 * S, &seen));
    assert_false(find(site, "b", 1301 * S, &seen));
    town_close(site);
}

static uint64_t draw(uint64_t *seed)
{
    uint64_t x = *seed += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static void test_mutations(void **state)
{
    (void)state;
    struct site *site = town_open("top", 100);
    struct buf sound = {0};
    for (unsigned i = 0; i < 4; i++) {
        char name[8];
        name_of(name, i);
        struct census_item item = said(name, i == 0 ? "" : "n00000", i);
        item.age_ns = UINT64_MAX;
        census_item_append(&sound, &item);
    }
    uint64_t seed = 4;
    unsigned refused = 0;
    for (unsigned i = 0; i < 20000; i++) {
        size_t size = draw(&seed) % 4 == 0 ? draw(&seed) % (sound.size + 1) : sound.size;
        uint8_t *copy = mem_alloc(size + 1); // exact: what reads beyond it is found
        memcpy(copy, sound.data, size);
        for (uint64_t flips = draw(&seed) % 4; flips > 0 && size > 0; flips--) {
            copy[draw(&seed) % size] = (uint8_t)draw(&seed);
        }
        refused += census_take(site->instance->census, left, bytes_of(copy, size), i * S) != OK;
        mem_free(copy);
        struct census_item seen;
        assert_true(find(site, "top", i * S, &seen));
    }
    assert_true(refused > 1000);
    buf_free(&sound);
    town_close(site);
}

// ---- pictures ----------------------------------------------------------------------------------

struct onlooker {
    struct picture_waiter waiter;
    struct mailbox mailbox;
    sem_t seen;
};

static void on_wake(void *argument) { sem_post(&((struct onlooker *)argument)->seen); }
static void on_picture(struct task *task) { (void)task; }

static struct picture *look(struct site *site, uint64_t patience_ns)
{
    struct onlooker onlooker = {.waiter.task.run = on_picture};
    onlooker.mailbox = (struct mailbox){.wake = on_wake, .argument = &onlooker};
    onlooker.waiter.mailbox = &onlooker.mailbox;
    sem_init(&onlooker.seen, 0, 0);
    picture_want(site->instance->desk, &onlooker.waiter, patience_ns);
    sem_wait(&onlooker.seen);
    sem_destroy(&onlooker.seen);
    assert_non_null(mailbox_take(&onlooker.mailbox));
    return onlooker.waiter.picture;
}

// Whether the picture is the root's, and how many nodes it shows, each once, in order.
static bool look_at(struct site *site, size_t *ret_count)
{
    struct picture *picture = look(site, 60 * S);
    struct unpacker from = unpacker_of(buf_bytes(&picture->items));
    struct census_item item;
    struct bytes before = bytes_of("", 0);
    size_t count = 0;
    while (census_item_next(&from, &item)) {
        assert_true(bytes_compare(before, item.node) < 0);
        before = item.node;
        count++;
    }
    assert_int_equal(unpack_end(&from), OK);
    assert_int_equal(count, picture->count);
    bool whole = picture->reason[0] == '\0';
    picture_release(picture);
    *ret_count = count;
    return whole;
}

static struct site *site_below(const char *name, struct site *parent)
{
    struct site *site = site_new(name, ROLE_REPLICA);
    site->options.census_max = 5 * MANY;
    site_parent(site, parent->address);
    site_open(site);
    return site;
}

static void test_a_picture_comes_down_in_pages(void **state)
{
    (void)state;
    struct site *root = site_new("root", ROLE_ROOT);
    root->options.census_max = 5 * MANY;
    struct author author;
    root_open(root, &author, 3, 3);
    struct site *middle = site_below("middle", root), *leaf = site_below("leaf", middle);
    AWAIT(site_shows(leaf, author.last.number));
    for (unsigned i = 0; i < 2 * MANY; i++) {
        char name[8];
        name_of(name, i);
        take(root, left, said(name, "root", 0), clock_mono_ns());
    }
    size_t count;
    AWAIT(look_at(leaf, &count) && count == 2 * MANY + 3);
    // The node between was asked for as much. Below the leaf there is nobody.
    assert_true(look_at(middle, &count) && count == 2 * MANY + 3);
    assert_int_equal(METRIC_GET(leaf->metrics, instance, census_nodes), 0);
    assert_int_equal(METRIC_GET(middle->metrics, instance, census_nodes), 1);
    // Without the node between each shows what it knows, and says that it is not all.
    site_close(middle);
    AWAIT(!look_at(leaf, &count));
    assert_int_equal(count, 1);
    AWAIT(look_at(root, &count) && is_lost(root, "middle", clock_mono_ns()));
    assert_true(is_lost(root, "leaf", clock_mono_ns()));
    site_close(leaf);
    root_close(root, &author);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_later_saying_counts),
        cmocka_unit_test(test_lost_by_whom),
        cmocka_unit_test(test_silence),
        cmocka_unit_test(test_reports_are_bounded),
        cmocka_unit_test(test_everybody_has_a_turn),
        cmocka_unit_test(test_a_circle_grows_quiet),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_a_picture_comes_down_in_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
