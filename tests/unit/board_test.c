// SPDX-License-Identifier: Apache-2.0
// Boards of other sizes than the usual one, and memory that only says that it is a board.
#include "tests/unit/support.h"

#include "common/shared/board.h"
#include "common/shared/look.h"
#include "common/shared/region.h"

#define HOT_BYTES (256 * KIB)
#define INDEX 5
#define VERSION_OF(number) ((number) + 1)

static const uint8_t history[SHARED_HISTORY_BYTES] = {1, 2, 3};

static int open_look(struct look *look, int board, const struct board *marks)
{
    const int fds[] = {
        [LOOK_INCARNATION] = -1, [LOOK_BOARD] = board, [LOOK_MARKS] = board_marks_fd(marks)};
    return look_open(look, fds, LOOK_FILTER, false);
}

static struct board *open_board(uint64_t slot_bytes)
{
    struct board *board;
    const struct board_setup setup = {.history = history,
                                      .hot_bytes = HOT_BYTES,
                                      .slot_bytes = slot_bytes,
                                      .index = INDEX,
                                      .shared = true};
    assert_int_equal(board_open(&board, &setup), OK);
    return board;
}

static void close_board(struct board *board)
{
    board_retire(board);
    board_release(board);
}

static struct bytes key_of(const uint64_t *number) { return bytes_of(number, sizeof *number); }

static void put_all(struct board *board, uint64_t count, size_t size)
{
    uint8_t value[HOT_SLOT_BYTES_MAX];
    for (uint64_t i = 0; i < count; i++) {
        memset(value, (int)(i % 251), sizeof value);
        assert_true(board_put(board, key_of(&i), INDEX, VERSION_OF(i), bytes_of(value, size)));
        assert_false(
            board_put(board, key_of(&i), INDEX, VERSION_OF(i), bytes_of(value, size + 1)));
    }
}

static uint64_t count_right(const struct look *look, uint64_t count, size_t size)
{
    uint8_t value[HOT_SLOT_BYTES_MAX];
    uint64_t found = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct look_answer answer;
        memset(value, (int)(i % 251), sizeof value);
        if (look_up(look, key_of(&i), 0, &answer) == OK) {
            assert_int_equal(answer.version, VERSION_OF(i));
            assert_true(bytes_equal(look_value(&answer), bytes_of(value, size)));
            found++;
        }
    }
    return found;
}

// Twice as many pairs as there are slots, each as long as one holds: none runs into its neighbour.
static void fill(uint64_t slot_bytes, size_t data_bytes)
{
    struct board *board = open_board(slot_bytes);
    struct look look;
    assert_int_equal(open_look(&look, board_fd(board), board), OK);
    assert_int_equal(board_data_bytes(board), data_bytes);
    uint64_t room = board_room(board);
    assert_in_range(room, HOT_BYTES / 2 / (HOT_HEAD_BYTES + data_bytes),
                    HOT_BYTES / (HOT_HEAD_BYTES + data_bytes));
    put_all(board, 2 * room, data_bytes - sizeof(uint64_t));
    uint64_t found = count_right(&look, 2 * room, data_bytes - sizeof(uint64_t));
    assert_int_equal(found, board_keys(board));
    assert_in_range(found, room / 2, room);
    look_close(&look);
    close_board(board);
}

static void test_sizes(void **state)
{
    (void)state;
    fill(0, HOT_SLOT_BYTES - HOT_HEAD_BYTES);
    fill(1, 32);
    fill(64, 32);
    fill(65, 96);
    fill(351, 352);
    fill(HOT_SLOT_BYTES_MAX, HOT_SLOT_BYTES_MAX - HOT_HEAD_BYTES);
}

static void refuse(uint64_t buckets, uint64_t slot_bytes, size_t missing)
{
    struct board *board = open_board(0);
    struct region region;
    struct look look;
    size_t bytes = board_bytes(buckets, slot_bytes) - missing;
    assert_int_equal(region_create(&region, REGION_READ, bytes), OK);
    struct board_page *page = region.memory;
    page->magic = BOARD_MAGIC;
    page->version = SHARED_VERSION;
    page->buckets = buckets;
    page->slot_bytes = slot_bytes;
    assert_int_equal(open_look(&look, region.fd, board), ERR_PROTOCOL);
    region_close(&region);
    close_board(board);
}

static void test_shapes(void **state)
{
    (void)state;
    refuse(0, HOT_SLOT_BYTES, 0);
    refuse(1, 0, 0);
    refuse(1, 100, 0);
    refuse(1, HOT_SLOT_BYTES_MAX + SHARED_LINE_BYTES, 0);
    refuse(2, HOT_SLOT_BYTES, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
