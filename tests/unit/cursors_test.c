// SPDX-License-Identifier: Apache-2.0
// SCAN's places: found by their number and only by their own instance, the page before the last one
// once more, and in a full table the one unused for longest goes.
#include "tests/unit/support.h"

#include "qs/cursors.h"

static const char here, elsewhere; // two instances

static bool is_at(struct cursors *cursors, uint64_t number, const void *owner, const char *key)
{
    struct arena arena = {0};
    struct bytes found = {0};
    bool known = cursor_find(cursors, number, owner, &arena, &found);
    bool same = known && bytes_equal_text(found, key);
    arena_free(&arena);
    return same;
}

static void test_pages(void **state)
{
    (void)state;
    struct cursors *cursors = cursors_open(2);
    assert_false(is_at(cursors, 0, &here, ""));
    uint64_t first = cursor_add(cursors, 0, &here, bytes_text("b"));
    assert_true(is_at(cursors, first, &here, "b"));
    assert_false(is_at(cursors, first, &elsewhere, "b"));
    assert_false(is_at(cursors, first + 1, &here, "b"));
    uint64_t second = cursor_add(cursors, first, &here, bytes_text("c"));
    assert_true(second != first && is_at(cursors, second, &here, "c"));
    assert_true(is_at(cursors, first, &here, "b"));
    // A page asked for again leads on from there once more.
    uint64_t again = cursor_add(cursors, first, &here, bytes_text("c"));
    assert_true(is_at(cursors, again, &here, "c") && is_at(cursors, first, &here, "b"));
    assert_false(is_at(cursors, second, &here, "c"));
    uint64_t third = cursor_add(cursors, again, &here, bytes_text("d"));
    assert_true(is_at(cursors, third, &here, "d") && is_at(cursors, again, &here, "c"));
    assert_false(is_at(cursors, first, &here, "b"));
    cursors_close(cursors);
}

static void test_full(void **state)
{
    (void)state;
    struct cursors *cursors = cursors_open(2);
    uint64_t one = cursor_add(cursors, 0, &here, bytes_text("1"));
    uint64_t two = cursor_add(cursors, 0, &elsewhere, bytes_text("2"));
    assert_true(is_at(cursors, one, &here, "1"));
    uint64_t three = cursor_add(cursors, 0, &here, bytes_text("3"));
    assert_true(is_at(cursors, one, &here, "1") && is_at(cursors, three, &here, "3"));
    assert_false(is_at(cursors, two, &elsewhere, "2") || is_at(cursors, two, &here, "2"));
    cursors_close(cursors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pages), cmocka_unit_test(test_full)};
    return cmocka_run_group_tests_name("cursors", tests, NULL, NULL);
}
