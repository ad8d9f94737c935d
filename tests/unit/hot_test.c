// SPDX-License-Identifier: Apache-2.0
// The table of hot keys as the daemon's own readers use it: what it says of which state, and what
// is put there.
#include "tests/unit/display_fixture.h"

// A view that somebody still holds is told nothing of later states, and puts nothing on the board.
static void test_older_view(void **state)
{
    (void)state;
    struct scene scene;
    uint64_t version;
    scene_open(&scene, 9);
    feed_random(&scene.at, &scene.model, 5);
    struct model_key *key = present_key(&scene.model);
    struct view *older = change(&scene, key);
    note(&scene, older, model_name(key));
    assert_int_equal(look_at(older, key, &version), OK);
    uint64_t before = version;
    struct view *newer = change(&scene, key);
    note(&scene, older, model_name(key));
    assert_int_equal(look_at(older, key, &version), ERR_INCOMPLETE);
    assert_int_equal(look_at(newer, key, &version), ERR_INCOMPLETE);
    note(&scene, newer, model_name(key));
    assert_int_equal(look_at(newer, key, &version), OK);
    assert_true(version == scene.model.index && version > before);
    assert_int_equal(look_at(older, key, &version), ERR_INCOMPLETE);
    view_release(older);
    view_release(newer);
    scene_close(&scene);
}

// Once the board is well filled it takes only what is read again.
static void test_room(void **state)
{
    (void)state;
    struct scene scene;
    scene_open(&scene, 10);
    feed_random(&scene.at, &scene.model, 5);
    struct view *view = instance_pin(scene.at.instance);
    struct display *display = scene.at.instance->display;
    uint64_t room = board_room(view->board), name = 0;
    while (board_keys(view->board) < room - room / 4) {
        name++;
        display_note(display, view, bytes_of(&name, sizeof name), NULL);
    }
    uint64_t fills = METRIC_GET(scene.at.metrics, instance, hot_fills);
    name++;
    display_note(display, view, bytes_of(&name, sizeof name), NULL);
    assert_int_equal(METRIC_GET(scene.at.metrics, instance, hot_fills), fills);
    display_note(display, view, bytes_of(&name, sizeof name), NULL);
    assert_int_equal(METRIC_GET(scene.at.metrics, instance, hot_fills), fills + 1);
    assert_true(METRIC_GET(scene.at.metrics, instance, hot_keys) > 0);
    view_release(view);
    scene_close(&scene);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_older_view),
        cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
