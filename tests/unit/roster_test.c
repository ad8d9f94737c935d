// SPDX-License-Identifier: Apache-2.0
// What an answer adds, what it takes away, and when: nobody for an answer that is empty, a part or
// alone; and the file in which it outlives the process.
#include "common/base/file.h"
#include "common/discovery/roster.h"
#include "common/discovery/saved.h"
#include "tests/unit/support.h"

#define START_NS (1000 * NS_PER_S)
#define MINUTE_NS (60 * NS_PER_S)

// Nodes first .. first + count - 1, at 10.0.0.x:7400.
static struct endpoints *nodes(unsigned first, unsigned count)
{
    struct endpoints *list = endpoints_new(count);
    for (unsigned i = 0; i < count; i++) {
        struct endpoint *endpoint = &list->endpoint[i];
        const char *reason;
        snprintf(endpoint->address, sizeof endpoint->address, "10.0.%u.%u:7400", (first + i) / 250,
                 (first + i) % 250);
        snprintf(endpoint->node, sizeof endpoint->node, "n%u", first + i);
        assert_int_equal(address_parse(&endpoint->parsed, endpoint->address, &reason), OK);
    }
    return list;
}

static void take(struct roster *roster, unsigned first, unsigned count, bool whole,
                 uint64_t now_ns)
{
    struct endpoints *named = nodes(first, count);
    roster_take(roster, named, whole, now_ns);
    endpoints_release(named);
}

static bool holds(const struct roster *roster, unsigned number)
{
    char address[32];
    snprintf(address, sizeof address, "10.0.%u.%u:7400", number / 250, number % 250);
    return roster_find(roster, address) != NULL;
}

static void nobody_leaves_for_an_answer_that_names_nobody(void **state)
{
    (void)state;
    struct roster roster = {0};
    take(&roster, 0, 40, true, START_NS);
    for (unsigned i = 1; i <= 100; i++) {
        take(&roster, 0, 0, true, START_NS + i * MINUTE_NS);
    }
    assert_int_equal(roster.count, 40);
    assert_int_equal(roster.missed, 0);
    roster_free(&roster);
}

static void who_is_missed_goes_behind_and_leaves_late(void **state)
{
    (void)state;
    struct roster roster = {0};
    take(&roster, 0, 40, true, START_NS);
    take(&roster, 37, 3, true, START_NS + MINUTE_NS); // 3 of 40
    assert_int_equal(roster.count, 40);
    assert_int_equal(roster.missed, 37);
    assert_string_equal(roster.entries[0].endpoint.node, "n37");
    assert_string_equal(roster.entries[3].endpoint.node, "n0");
    for (unsigned i = 2; i <= 10; i++) {
        take(&roster, 37, 3, true, START_NS + i * MINUTE_NS);
        assert_int_equal(roster.count, 40);
    }
    // Ten minutes of answers agree: a third at a time.
    take(&roster, 37, 3, true, START_NS + 11 * MINUTE_NS);
    assert_int_equal(roster.count, 27);
    take(&roster, 37, 3, true, START_NS + 12 * MINUTE_NS);
    assert_int_equal(roster.count, 18);
    for (unsigned i = 13; i < 30; i++) {
        take(&roster, 37, 3, true, START_NS + i * MINUTE_NS);
    }
    assert_int_equal(roster.count, 3);
    assert_int_equal(roster.missed, 0);
    roster_free(&roster);
}

static void who_comes_back_is_not_missed_any_more(void **state)
{
    (void)state;
    struct roster roster = {0};
    take(&roster, 0, 4, true, START_NS);
    for (unsigned i = 1; i <= 60; i++) { // it flaps, and never stays away for long
        take(&roster, i % 9 == 0 ? 0 : 1, i % 9 == 0 ? 4 : 3, true, START_NS + i * MINUTE_NS);
        assert_int_equal(roster.count, 4);
    }
    roster_free(&roster);
}

static void time_without_answers_does_not_count(void **state)
{
    (void)state;
    struct roster roster = {0};
    take(&roster, 0, 4, true, START_NS);
    take(&roster, 0, 3, true, START_NS + MINUTE_NS);
    take(&roster, 0, 3, true, START_NS + 600 * MINUTE_NS); // Consul was away for ten hours
    assert_int_equal(roster.count, 4);
    assert_int_equal(roster.entries[3].missed_ns, ROSTER_STEP_NS);
    roster_free(&roster);
}

static void a_part_only_adds(void **state)
{
    (void)state;
    struct roster roster = {0};
    take(&roster, 0, 4, true, START_NS);
    for (unsigned i = 1; i <= 30; i++) { // as from a server that knows no leader
        take(&roster, 3, 2, false, START_NS + i * MINUTE_NS);
    }
    assert_int_equal(roster.count, 5);
    assert_int_equal(roster.missed, 0);
    assert_true(holds(&roster, 0) && holds(&roster, 4));
    roster_free(&roster);
}

static void a_changed_node_is_known_by_its_address(void **state)
{
    (void)state;
    struct roster roster = {0};
    take(&roster, 0, 2, true, START_NS);
    struct endpoints *named = nodes(1, 1);
    named->endpoint[0].depth = 5;
    roster_take(&roster, named, true, START_NS + 1);
    endpoints_release(named);
    assert_int_equal(roster.count, 2);
    assert_int_equal(roster.entries[0].endpoint.depth, 5);
    struct endpoints *twice = nodes(7, 2);
    twice->endpoint[1] = twice->endpoint[0];
    roster_take(&roster, twice, true, START_NS + 2);
    endpoints_release(twice);
    assert_int_equal(roster.count, 3);
    roster_free(&roster);
}

static void it_is_bounded(void **state)
{
    (void)state;
    struct roster roster = {0};
    take(&roster, 0, 1000, true, START_NS);
    take(&roster, 2000, 1000, true, START_NS + 1); // all addresses have changed
    assert_int_equal(roster.count, ROSTER_MAX);
    assert_true(holds(&roster, 2000) && holds(&roster, 2999)); // those that are named stay
    roster_remember(&roster, &roster.entries[0].endpoint);
    assert_int_equal(roster.count, ROSTER_MAX);
    roster_free(&roster);
}

static void what_is_remembered_is_missed(void **state)
{
    (void)state;
    struct roster roster = {0};
    struct endpoints *old = nodes(0, 3);
    for (size_t i = 0; i < old->count; i++) {
        roster_remember(&roster, &old->endpoint[i]);
        roster_remember(&roster, &old->endpoint[i]);
    }
    endpoints_release(old);
    assert_int_equal(roster.count, 3);
    take(&roster, 2, 1, true, START_NS);
    assert_int_equal(roster.missed, 2);
    for (unsigned i = 1; i <= 9; i++) {
        take(&roster, 2, 1, true, START_NS + i * MINUTE_NS);
    }
    assert_int_equal(roster.count, 3);
    for (unsigned i = 10; i <= 11; i++) { // one at a time is the third of so few
        take(&roster, 2, 1, true, START_NS + i * MINUTE_NS);
    }
    assert_int_equal(roster.count, 1);
    roster_free(&roster);
}

// ---- the file ----------------------------------------------------------------------------------

struct seen {
    unsigned count;
    struct endpoint last;
    char list[16];
};

static void see(void *argument, const char *list, const struct endpoint *endpoint)
{
    struct seen *seen = argument;
    seen->count++;
    seen->last = *endpoint;
    snprintf(seen->list, sizeof seen->list, "%s", list);
}

static void what_was_saved_is_read(void **state)
{
    (void)state;
    char *directory = test_mkdir();
    char *path = mem_format("%s/FOUND", directory);
    struct seen seen = {0};
    assert_int_equal(saved_read(path, see, &seen), ERR_NOT_FOUND);
    struct endpoints *list = nodes(5, 2);
    list->endpoint[1].kind = ENDPOINT_INTERMEDIATE;
    list->endpoint[1].own_site = true;
    snprintf(list->endpoint[1].site, sizeof list->endpoint[1].site, "dc-1");
    list->endpoint[0].node[0] = '\0';
    struct buf lines = {0};
    saved_add(&lines, "nodes", &list->endpoint[0]);
    saved_add(&lines, "replicas", &list->endpoint[1]);
    assert_int_equal(saved_write(path, &lines), OK);
    assert_int_equal(saved_read(path, see, &seen), OK);
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.list, "replicas");
    assert_string_equal(seen.last.address, "10.0.0.6:7400");
    assert_string_equal(seen.last.node, "n6");
    assert_string_equal(seen.last.site, "dc-1");
    assert_true(seen.last.own_site && seen.last.kind == ENDPOINT_INTERMEDIATE);
    assert_int_equal(seen.last.parsed.storage.ss_family, AF_INET);
    // No flipped bit and no shorter file passes for it.
    uint8_t content[512];
    size_t size;
    assert_int_equal(file_load(path, content, sizeof content, &size), OK);
    seen = (struct seen){0};
    for (size_t i = 0; i < size; i++) {
        content[i] ^= 4;
        assert_int_equal(file_save(path, bytes_of(content, size)), OK);
        assert_int_equal(saved_read(path, see, &seen), ERR_CORRUPT);
        content[i] ^= 4;
        assert_int_equal(file_save(path, bytes_of(content, i)), OK);
        assert_int_equal(saved_read(path, see, &seen), ERR_CORRUPT);
    }
    assert_int_equal(seen.count, 0);
    buf_free(&lines);
    // A line that another version wrote is passed over.
    buf_append_text(&lines, "moons 10.0.0.1:1 far out 77 1\nnodes nowhere a b 1 1\n\nnodes");
    assert_int_equal(saved_write(path, &lines), OK);
    assert_int_equal(saved_read(path, see, &seen), OK);
    assert_int_equal(seen.count, 0);
    buf_free(&lines);
    endpoints_release(list);
    mem_free(path);
    test_rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_leaves_for_an_answer_that_names_nobody),
        cmocka_unit_test(who_is_missed_goes_behind_and_leaves_late),
        cmocka_unit_test(who_comes_back_is_not_missed_any_more),
        cmocka_unit_test(time_without_answers_does_not_count),
        cmocka_unit_test(a_part_only_adds),
        cmocka_unit_test(a_changed_node_is_known_by_its_address),
        cmocka_unit_test(it_is_bounded),
        cmocka_unit_test(what_is_remembered_is_missed),
        cmocka_unit_test(what_was_saved_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
