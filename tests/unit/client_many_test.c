// SPDX-License-Identifier: Apache-2.0
// Several keys at once, of which memory that is shared knows some and a socket the others: all of
// one state, or all by the socket.
#include "tests/unit/client_fixture.h"

#include "common/shared/board.h"
#include "common/shared/incarnation.h"

#define HOT_BYTES 65536
#define SHOWN 12

// A daemon that shares a board without a filter, and a handle that has mapped it.
struct scene {
    struct test test;
    char *directory;
    struct incarnation incarnation;
    struct board *board;
};

static void put_hot(struct scene *scene, const char *key, uint64_t since, const char *value)
{
    assert_true(board_put(scene->board, bytes_text(key), since, value == NULL ? 0 : since,
                          bytes_text(value == NULL ? "" : value)));
}

static unsigned asked(struct scene *scene)
{
    return false_asked(&scene->test.daemon, "QS.MGET");
}

static int get_three(struct scene *scene)
{
    struct qs_bytes keys[] = {{"a", 1}, {"b", 1}, {"c", 1}};
    return qs_get_many(scene->test.qs, 3, keys, scene->test.result);
}

static void expect_row(struct scene *scene, size_t row, uint64_t version, const char *value)
{
    struct qs_bytes found;
    int code = qs_value(scene->test.result, row, &found);
    assert_int_equal(code, value == NULL ? QS_NOT_FOUND : QS_OK);
    assert_int_equal(qs_version(scene->test.result, row), version);
    assert_true(value == NULL ||
                bytes_equal_text(bytes_of(found.data, found.size), value));
}

static int scene_open(void **state)
{
    struct scene *scene = mem_zalloc(sizeof *scene);
    uint8_t history[HISTORY_ID_BYTES];
    for (unsigned i = 0; i < sizeof history; i++) { // OLD_HISTORY
        history[i] = (uint8_t)(i * 0x11);
    }
    scene->directory = test_mkdir();
    assert_int_equal(incarnation_raise(&scene->incarnation, scene->directory, true), OK);
    struct board_setup setup = {.incarnation = scene->incarnation.number,
                                .history = history,
                                .hot_bytes = HOT_BYTES,
                                .index = SHOWN,
                                .shared = true};
    assert_int_equal(board_open(&scene->board, &setup), OK);
    false_open(&scene->test.daemon, false);
    int given[FALSE_GIVEN] = {scene->incarnation.fd, board_fd(scene->board),
                              board_marks_fd(scene->board)};
    memcpy(scene->test.daemon.given, given, sizeof given);
    scene->test.result = qs_result_new();
    struct qs_options options = {.size = sizeof options, .timeout_ms = 20 * SECOND_MS};
    assert_int_equal(qs_open(&scene->test.qs, scene->test.daemon.address, &options), QS_OK);
    false_step(&scene->test.daemon, "QS.MAP", GIVES, ":3\r\n");
    while (false_asked(&scene->test.daemon, "QS.MAP") == 0) {
        assert_int_equal(get(&scene->test), QS_NOT_FOUND);
    }
    *state = scene;
    return 0;
}

static void drop_board(struct scene *scene)
{
    if (scene->board != NULL) {
        board_retire(scene->board);
        board_release(scene->board);
        scene->board = NULL;
    }
}

static int scene_close(void **state)
{
    struct scene *scene = *state;
    qs_result_free(scene->test.result);
    qs_close(scene->test.qs);
    false_close(&scene->test.daemon);
    drop_board(scene);
    incarnation_close(&scene->incarnation);
    test_rmdir(scene->directory);
    mem_free(scene);
    return 0;
}

static void test_all_known(void **state)
{
    struct scene *scene = *state;
    put_hot(scene, "a", 10, "1");
    put_hot(scene, "b", 11, NULL);
    put_hot(scene, "c", 12, "");
    assert_int_equal(get_three(scene), QS_OK);
    assert_int_equal(asked(scene), 0);
    assert_int_equal(qs_count(scene->test.result), 3);
    assert_int_equal(qs_result_index(scene->test.result), SHOWN);
    expect_row(scene, 0, 10, "1");
    expect_row(scene, 1, 0, NULL);
    expect_row(scene, 2, 12, "");
    struct qs_bytes none;
    assert_int_equal(qs_value(scene->test.result, 3, &none), QS_USAGE);
    char token[QS_TOKEN_BYTES];
    assert_int_equal(qs_token(scene->test.qs, token), QS_OK);
    assert_string_equal(token, OLD_HISTORY ":12"); // it has been seen
}

// The socket's rows between the others, in the order of the keys; of the index that it names, which
// need not be the visible one.
static void test_rest_is_asked(void **state)
{
    struct scene *scene = *state;
    put_hot(scene, "a", 10, "1");
    put_hot(scene, "c", 11, "3");
    false_step(&scene->test.daemon, "QS.MGET", WHOLE, "*1\r\n*3\r\n$1\r\nx\r\n:5\r\n:11\r\n");
    assert_int_equal(get_three(scene), QS_OK);
    assert_int_equal(false_asked(&scene->test.daemon, "QS.MGET b"), 1);
    assert_int_equal(asked(scene), 1);
    assert_int_equal(qs_result_index(scene->test.result), 11);
    expect_row(scene, 0, 10, "1");
    expect_row(scene, 1, 5, "x");
    expect_row(scene, 2, 11, "3");
}

static const char all_three[] = "*3\r\n*3\r\n$1\r\np\r\n:9\r\n:13\r\n*3\r\n$-1\r\n:0\r\n:13\r\n"
                                "*3\r\n$1\r\nq\r\n:13\r\n:13\r\n";

static void expect_all_asked(struct scene *scene)
{
    unsigned before = false_asked(&scene->test.daemon, "QS.MGET a b c");
    false_step(&scene->test.daemon, "QS.MGET", WHOLE, all_three);
    assert_int_equal(get_three(scene), QS_OK);
    assert_int_equal(false_asked(&scene->test.daemon, "QS.MGET a b c"), before + 1);
    assert_int_equal(qs_result_index(scene->test.result), 13);
    expect_row(scene, 0, 9, "p");
    expect_row(scene, 1, 0, NULL);
    expect_row(scene, 2, 13, "q");
}

// What is known of a later state than the socket's is nothing to that one.
static void test_changed_since(void **state)
{
    struct scene *scene = *state;
    put_hot(scene, "a", 10, "1");
    put_hot(scene, "c", 12, "3");
    false_step(&scene->test.daemon, "QS.MGET", WHOLE, "*1\r\n*3\r\n$-1\r\n:0\r\n:11\r\n");
    expect_all_asked(scene);
}

// The socket shows what the memory has not reached: whether it will change is not known there.
static void test_not_reached(void **state)
{
    struct scene *scene = *state;
    put_hot(scene, "a", 10, "1");
    false_step(&scene->test.daemon, "QS.MGET", WHOLE,
               "*2\r\n*3\r\n$-1\r\n:0\r\n:13\r\n*3\r\n$-1\r\n:0\r\n:13\r\n");
    expect_all_asked(scene);
}

static void test_nothing_known(void **state)
{
    struct scene *scene = *state;
    expect_all_asked(scene);
    assert_int_equal(asked(scene), 1);
    // It has been seen: the memory, which is behind that, is not believed.
    put_hot(scene, "a", 10, "1");
    put_hot(scene, "b", 10, "1");
    put_hot(scene, "c", 10, "1");
    expect_all_asked(scene);
    assert_int_equal(asked(scene), 2);
}

static void test_dead(void **state)
{
    struct scene *scene = *state;
    put_hot(scene, "a", 10, "1");
    drop_board(scene);
    expect_all_asked(scene);
    assert_int_equal(asked(scene), 1);
}

#define SCENE(name) cmocka_unit_test_setup_teardown(name, scene_open, scene_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCENE(test_all_known),     SCENE(test_rest_is_asked), SCENE(test_changed_since),
        SCENE(test_not_reached),   SCENE(test_nothing_known), SCENE(test_dead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
