// SPDX-License-Identifier: Apache-2.0
// Boards that are shared with other processes: what they say, and when they are dead. The memory
// itself: tests/unit/region_test.c; what an instance does with it: tests/unit/display_test.c.
#include "tests/unit/support.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "common/shared/board.h"
#include "common/shared/incarnation.h"
#include "common/shared/look.h"

#define HOT_BYTES 65536

// ---- boards ------------------------------------------------------------------------------------

struct fixture {
    char *directory;
    struct incarnation incarnation;
    struct board *board;
    struct look look;
};

static struct bytes text(const char *from) { return bytes_text(from); }

static void fixture_board(struct fixture *fixture)
{
    struct board_setup setup = {.incarnation = fixture->incarnation.number,
                                .history = test_history,
                                .hot_bytes = HOT_BYTES,
                                .index = 5,
                                .shared = true};
    assert_int_equal(board_open(&fixture->board, &setup), OK);
}

static int fixture_look(struct fixture *fixture, bool stays)
{
    int fds[] = {[LOOK_INCARNATION] = fixture->incarnation.fd,
                 [LOOK_BOARD] = board_fd(fixture->board),
                 [LOOK_MARKS] = board_marks_fd(fixture->board)};
    return look_open(&fixture->look, fds, LOOK_FILTER, stays);
}

static void fixture_open(struct fixture *fixture)
{
    *fixture = (struct fixture){.directory = test_mkdir()};
    assert_int_equal(incarnation_raise(&fixture->incarnation, fixture->directory, true), OK);
    fixture_board(fixture);
    assert_int_equal(fixture_look(fixture, false), OK);
}

static void fixture_close(struct fixture *fixture)
{
    look_close(&fixture->look);
    if (fixture->board != NULL) {
        board_retire(fixture->board);
        board_release(fixture->board);
    }
    incarnation_close(&fixture->incarnation);
    test_rmdir(fixture->directory);
}

static void expect_found(const struct fixture *fixture, const char *key, uint64_t version,
                         const char *value)
{
    struct look_answer answer;
    assert_int_equal(look_up(&fixture->look, text(key), 0, &answer), OK);
    assert_int_equal(answer.version, version);
    assert_true(bytes_equal_text(look_value(&answer), value));
}

static void expect_nothing(const struct fixture *fixture, const char *key)
{
    struct look_answer answer;
    assert_int_equal(look_up(&fixture->look, text(key), 0, &answer), ERR_INCOMPLETE);
}

static void test_slots(void **state)
{
    (void)state;
    struct fixture fixture;
    struct look_answer answer;
    fixture_open(&fixture);
    expect_nothing(&fixture, "a");
    assert_true(board_put(fixture.board, text("a"), 5, 3, text("value")));
    assert_true(board_put(fixture.board, text("b"), 5, 0, text("")));
    assert_true(board_put(fixture.board, text("c"), 5, 4, text("")));
    expect_found(&fixture, "a", 3, "value");
    expect_found(&fixture, "c", 4, "");
    expect_nothing(&fixture, "");
    assert_int_equal(look_up(&fixture.look, text("b"), 5, &answer), ERR_NOT_FOUND);
    assert_int_equal(answer.index, 5);
    assert_int_equal(look_up(&fixture.look, text("b"), 6, &answer), ERR_INCOMPLETE);
    board_forget(fixture.board, text("a"));
    expect_nothing(&fixture, "a");
    board_show(fixture.board, 7, 0);
    assert_true(board_put(fixture.board, text("a"), 7, 7, text("new")));
    assert_true(board_put(fixture.board, text("a"), 7, 7, text("newer")));
    assert_int_equal(board_keys(fixture.board), 3);
    expect_found(&fixture, "a", 7, "newer");
    // What is said of a later state than is visible does not count yet.
    assert_true(board_put(fixture.board, text("d"), 8, 8, text("x")));
    expect_nothing(&fixture, "d");
    board_show(fixture.board, 8, 0);
    expect_found(&fixture, "d", 8, "x");
    uint8_t large[HOT_SLOT_BYTES - HOT_HEAD_BYTES] = {1};
    assert_true(board_put(fixture.board, text("e"), 8, 8, bytes_of(large, sizeof large - 1)));
    assert_int_equal(look_up(&fixture.look, text("e"), 0, &answer), OK);
    assert_true(bytes_equal(look_value(&answer), bytes_of(large, sizeof large - 1)));
    assert_false(board_put(fixture.board, text("f"), 8, 8, bytes_of(large, sizeof large)));
    fixture_close(&fixture);
}

// A filter counts from its own state on, as long as it is the one that is fed.
static void test_filter(void **state)
{
    (void)state;
    struct fixture fixture;
    struct look look;
    struct look_answer answer;
    struct region filter;
    fixture_open(&fixture);
    assert_int_equal(region_create(&filter, REGION_READ, SHARED_HEAD_BYTES + 4 * 64), OK);
    *(struct filter_page *)filter.memory = (struct filter_page){
        .magic = FILTER_MAGIC, .version = SHARED_VERSION, .generation = 7, .lines = 4, .since = 9};
    struct bloom bloom = {.lines = (struct bloom_line *)((char *)filter.memory + SHARED_HEAD_BYTES),
                          .count = 4};
    bloom_add(&bloom, text("there"));
    int fds[LOOK_FDS] = {fixture.incarnation.fd, board_fd(fixture.board),
                         board_marks_fd(fixture.board), filter.fd};
    assert_int_equal(look_open(&look, fds, LOOK_FDS, false), OK);
    board_show(fixture.board, 8, 7);
    assert_int_equal(look_up(&look, text("none"), 0, &answer), ERR_INCOMPLETE);
    board_show(fixture.board, 9, 7);
    assert_int_equal(look_up(&look, text("none"), 0, &answer), ERR_NOT_FOUND);
    assert_int_equal(answer.index, 9);
    assert_int_equal(look_up(&look, text("there"), 0, &answer), ERR_INCOMPLETE);
    assert_int_equal(look_state(&look), LOOK_CURRENT);
    char longest[SHARED_KEY_BYTES_MAX + 1] = {1};
    assert_int_equal(look_up(&look, bytes_of(longest, sizeof longest - 1), 0, &answer),
                     ERR_NOT_FOUND);
    assert_int_equal(look_up(&look, bytes_of(longest, sizeof longest), 0, &answer),
                     ERR_INCOMPLETE);
    board_show(fixture.board, 10, 8);
    assert_int_equal(look_up(&look, text("none"), 0, &answer), ERR_INCOMPLETE);
    assert_int_equal(look_state(&look), LOOK_OUTGROWN);
    board_show(fixture.board, 11, 0); // there is none: nothing better is to be had
    assert_int_equal(look_up(&look, text("none"), 0, &answer), ERR_INCOMPLETE);
    assert_int_equal(look_state(&look), LOOK_CURRENT);
    look_close(&look);
    region_close(&filter);
    fixture_close(&fixture);
}

#define TORN_VALUE_BYTES 400

struct torn {
    struct fixture fixture;
    _Atomic bool over;
    _Atomic uint64_t read;
};

// A value is a version of its own: any mixture shows.
static void *read_whole(void *argument)
{
    struct torn *torn = argument;
    struct look_answer answer;
    while (!atomic_load(&torn->over)) {
        if (look_up(&torn->fixture.look, text("a"), 0, &answer) != OK) {
            continue;
        }
        struct bytes value = look_value(&answer);
        CHECK(value.size == TORN_VALUE_BYTES - answer.version % 64);
        for (size_t i = 0; i < value.size; i++) {
            CHECK(value.data[i] == (uint8_t)answer.version);
        }
        atomic_fetch_add_explicit(&torn->read, 1, memory_order_relaxed);
    }
    return NULL;
}

static void test_torn(void **state)
{
    (void)state;
    struct torn torn = {.over = false};
    fixture_open(&torn.fixture);
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, read_whole, &torn);
    }
    uint8_t value[TORN_VALUE_BYTES];
    for (uint64_t version = 1;
         version < ROUNDS(300000) || atomic_load(&torn.read) < ROUNDS(100000); version++) {
        memset(value, (int)version, sizeof value);
        struct bytes bytes = bytes_of(value, sizeof value - version % 64);
        assert_true(board_put(torn.fixture.board, text("a"), 5, version, bytes));
        if (version % 16 == 0) {
            board_forget(torn.fixture.board, text("a"));
        }
    }
    atomic_store(&torn.over, true);
    for (unsigned i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
    fixture_close(&torn.fixture);
}

struct used {
    unsigned count;
    uint64_t bytes;
};

static void on_used(void *argument, struct bytes key, uint64_t value_bytes)
{
    struct used *used = argument;
    assert_true(key.size == 1 && key.data[0] == 'a');
    used->count++;
    used->bytes += value_bytes;
}

// What was used is told, once each time, and keeps its place while others come and go.
static void test_use(void **state)
{
    (void)state;
    struct fixture fixture;
    struct look_answer answer;
    struct used used = {0};
    fixture_open(&fixture);
    assert_true(board_put(fixture.board, text("a"), 5, 3, text("value")));
    assert_true(board_put(fixture.board, text("b"), 5, 0, text("")));
    assert_int_equal(board_sweep(fixture.board, on_used, &used), 0);
    expect_found(&fixture, "a", 3, "value");
    expect_found(&fixture, "a", 3, "value");
    assert_int_equal(look_up(&fixture.look, text("b"), 5, &answer), ERR_NOT_FOUND);
    assert_int_equal(board_sweep(fixture.board, on_used, &used), 1);
    assert_int_equal(board_sweep(fixture.board, on_used, &used), 0);
    assert_int_equal(used.count, 1);
    assert_int_equal(used.bytes, 5);
    for (uint64_t i = 0; i < 10000; i++) {
        assert_true(board_put(fixture.board, bytes_of(&i, sizeof i), 5, 1, text("x")));
        if (i % 8 == 0) {
            expect_found(&fixture, "a", 3, "value");
        }
    }
    assert_true(board_keys(fixture.board) <= HOT_BYTES / HOT_SLOT_BYTES);
    fixture_close(&fixture);
}

// Of what nobody asks for, each bucket keeps what came last.
static void test_turns(void **state)
{
    (void)state;
    enum { KEYS = 5000, BUCKETS = 64 };
    struct board_setup setup = {.history = test_history, .hot_bytes = HOT_BYTES, .index = 5};
    struct board *board;
    struct look_answer answer;
    assert_int_equal(board_open(&board, &setup), OK);
    uint64_t buckets = board_room(board) / HOT_WAYS;
    assert_in_range(buckets, 2, BUCKETS);
    for (uint64_t i = 0; i < KEYS; i++) {
        assert_true(board_put(board, bytes_of(&i, sizeof i), 5, 1, text("x")));
    }
    unsigned later[BUCKETS] = {0}; // keys of a bucket
    for (uint64_t i = KEYS; i-- > 0;) {
        struct bytes key = bytes_of(&i, sizeof i);
        struct hash128 hash = hash128(key, 0);
        bool last = later[hot_bucket_of(hash, buckets)]++ < HOT_WAYS;
        assert_int_equal(board_look(board, hash, key, 5, &answer), last ? OK : ERR_INCOMPLETE);
    }
    board_retire(board);
    board_release(board);
}

static void cut_file(const struct fixture *fixture)
{
    char *path = mem_format("%s/incarnation", fixture->directory);
    assert_int_equal(truncate(path, 0), 0);
    mem_free(path);
}

static void expect_look(const struct board *board, const char *key, uint64_t index, int code,
                        const char *value)
{
    struct look_answer answer;
    assert_int_equal(board_look(board, hash128(text(key), 0), text(key), index, &answer), code);
    if (code == OK) {
        assert_true(bytes_equal_text(look_value(&answer), value));
    }
}

// More than the machine has, where the kernel counts what it promises: an error, not the end.
static void test_too_large(void **state)
{
    (void)state;
    char mode = '1';
    int fd = open("/proc/sys/vm/overcommit_memory", O_RDONLY);
    if (fd < 0 || read(fd, &mode, 1) != 1 || close(fd) != 0 || mode == '1') {
        skip(); // it promises anything
    }
    struct board *board = NULL;
    struct board_setup setup = {.history = test_history, .hot_bytes = UINT64_MAX};
    assert_int_equal(board_open(&board, &setup), ERR_MEMORY);
    assert_null(board);
}

// The daemon's own looks, of a board that nobody else sees: each says of which state it asks, and
// what is used keeps its place though nobody sweeps.
static void test_own(void **state)
{
    (void)state;
    struct board_setup setup = {.history = test_history, .hot_bytes = HOT_BYTES, .index = 5};
    struct board *board;
    assert_int_equal(board_open(&board, &setup), OK);
    expect_look(board, "a", 5, ERR_INCOMPLETE, NULL);
    assert_true(board_put(board, text("a"), 5, 3, text("value")));
    assert_true(board_put(board, text("b"), 7, 0, text("")));
    expect_look(board, "a", 4, ERR_INCOMPLETE, NULL);
    expect_look(board, "a", 5, OK, "value");
    expect_look(board, "a", 9, OK, "value");
    expect_look(board, "b", 6, ERR_INCOMPLETE, NULL);
    expect_look(board, "b", 7, ERR_NOT_FOUND, NULL);
    board_forget(board, text("a"));
    expect_look(board, "a", 5, ERR_INCOMPLETE, NULL);
    assert_true(board_put(board, text("a"), 5, 3, text("value")));
    for (uint64_t i = 0; i < 10000; i++) {
        assert_true(board_put(board, bytes_of(&i, sizeof i), 5, 1, text("x")));
        expect_look(board, "a", 5, OK, "value");
    }
    assert_true(board_keys(board) <= board_room(board));
    assert_true(board_room(board) <= HOT_BYTES / HOT_SLOT_BYTES);
    assert_int_equal(board_sweep(board, NULL, NULL), 0);
    board_retire(board);
    board_release(board);
}

static void test_dead(void **state)
{
    (void)state;
    struct fixture fixture;
    fixture_open(&fixture);
    assert_true(board_put(fixture.board, text("a"), 5, 3, text("value")));
    expect_found(&fixture, "a", 3, "value");
    assert_int_equal(look_state(&fixture.look), LOOK_CURRENT);
    board_retire(fixture.board);
    expect_nothing(&fixture, "a");
    assert_int_equal(look_state(&fixture.look), LOOK_OVER);
    board_release(fixture.board);
    look_close(&fixture.look);

    // While it is alive nobody looks at the file, whatever becomes of that.
    for (unsigned stays = 0; stays < 2; stays++) {
        fixture_board(&fixture);
        assert_int_equal(fixture_look(&fixture, stays != 0), OK);
        cut_file(&fixture);
        assert_true(board_put(fixture.board, text("a"), 5, 3, text("value")));
        expect_found(&fixture, "a", 3, "value");
        assert_int_equal(look_state(&fixture.look), LOOK_CURRENT);
        board_retire(fixture.board);
        expect_nothing(&fixture, "a");
        board_release(fixture.board);
        fixture.board = NULL;
        look_close(&fixture.look);
    }
    fixture_close(&fixture);
}

// Of a board the memory is taken apart before it is looked at.
static void test_malformed(void **state)
{
    (void)state;
    struct fixture fixture;
    struct look look;
    fixture_open(&fixture);
    int fds[LOOK_FDS] = {fixture.incarnation.fd, board_fd(fixture.board),
                         board_marks_fd(fixture.board), board_fd(fixture.board)};
    assert_int_equal(look_open(&look, fds, LOOK_FDS, false), ERR_PROTOCOL); // that is no filter
    assert_int_equal(look_open(&look, fds, LOOK_MARKS, false), ERR_PROTOCOL);
    struct region small;
    assert_int_equal(region_create(&small, REGION_READ, SHARED_HEAD_BYTES), OK);
    fds[LOOK_BOARD] = small.fd;
    assert_int_equal(look_open(&look, fds, LOOK_FILTER, false), ERR_PROTOCOL);
    *(struct board_page *)small.memory =
        (struct board_page){.magic = BOARD_MAGIC, .version = SHARED_VERSION, .buckets = 1,
                            .slot_bytes = HOT_SLOT_BYTES};
    assert_int_equal(look_open(&look, fds, LOOK_FILTER, false), ERR_PROTOCOL); // cut off
    region_close(&small);
    fixture_close(&fixture);
}

// ---- the end of a process ----------------------------------------------------------------------

struct packet {
    struct msghdr message;
    struct iovec vector;
    char byte;
    _Alignas(struct cmsghdr) char control[CMSG_SPACE(2 * sizeof(int))];
};

static void packet_init(struct packet *packet)
{
    *packet = (struct packet){.byte = 'x'};
    packet->vector = (struct iovec){.iov_base = &packet->byte, .iov_len = 1};
    packet->message = (struct msghdr){.msg_iov = &packet->vector,
                                      .msg_iovlen = 1,
                                      .msg_control = packet->control,
                                      .msg_controllen = sizeof packet->control};
}

// In the child: makes a board and waits to be killed.
static void be_a_daemon(struct fixture *fixture, int socket)
{
    struct packet packet;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    fixture_board(fixture);
    CHECK(board_put(fixture->board, text("a"), 5, 3, text("value")));
    packet_init(&packet);
    struct cmsghdr *header = CMSG_FIRSTHDR(&packet.message);
    *header = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(2 * sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    int fds[2] = {board_fd(fixture->board), board_marks_fd(fixture->board)};
    memcpy(CMSG_DATA(header), fds, sizeof fds);
    CHECK(sendmsg(socket, &packet.message, 0) == 1);
    for (;;) {
        pause();
    }
}

// By SIGKILL, which lets nobody say goodbye.
static void test_killed(void **state)
{
    struct fixture fixture = {.directory = test_mkdir()};
    assert_int_equal(incarnation_raise(&fixture.incarnation, fixture.directory, true), OK);
    int sockets[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    pid_t child = fork();
    if (child == 0) {
        be_a_daemon(&fixture, sockets[1]);
    }
    struct packet packet;
    packet_init(&packet);
    assert_int_equal(recvmsg(sockets[0], &packet.message, 0), 1);
    int given[2];
    memcpy(given, CMSG_DATA(CMSG_FIRSTHDR(&packet.message)), sizeof given);
    int fds[] = {fixture.incarnation.fd, given[0], given[1]};
    struct look stays;
    assert_int_equal(look_open(&fixture.look, fds, LOOK_FILTER, false), OK);
    assert_int_equal(look_open(&stays, fds, LOOK_FILTER, true), OK);
    expect_found(&fixture, "a", 3, "value");
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    expect_nothing(&fixture, "a");
    assert_int_equal(look_state(&fixture.look), LOOK_OVER);
    struct look_answer answer;
    assert_int_equal(look_up(&stays, text("a"), 0, &answer), OK);
    assert_int_equal(look_state(&stays), LOOK_LEFT);
    // What is no daemon's any more may be cut, as by who restores a directory; or another begins.
    bool cut = *state != NULL;
    struct incarnation next = {.fd = -1};
    if (cut) {
        cut_file(&fixture);
    } else {
        assert_int_equal(incarnation_raise(&next, fixture.directory, true), OK);
    }
    assert_int_equal(look_up(&stays, text("a"), 0, &answer), ERR_INCOMPLETE);
    assert_int_equal(look_state(&stays), LOOK_OVER);
    look_close(&stays);
    incarnation_close(&next);
    expect_nothing(&fixture, "a");
    assert_int_equal(look_state(&fixture.look), LOOK_OVER);
    for (unsigned i = 0; i < 2; i++) {
        close(given[i]);
        close(sockets[i]);
    }
    fixture_close(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_filter),
        cmocka_unit_test(test_torn),
        cmocka_unit_test(test_use),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_own),
        cmocka_unit_test(test_too_large),
        cmocka_unit_test(test_dead),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_killed),
        cmocka_unit_test_prestate(test_killed, (void *)"cut"),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
