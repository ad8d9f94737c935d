// SPDX-License-Identifier: Apache-2.0
// What the comparison with peers stands on: the sheet, dialects, and the loops that drive a server,
// here against one that answers as it is told to.
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "bench/cores.h"
#include "bench/drive.h"
#include "bench/engines.h"
#include "bench/floor.h"
#include "bench/growth.h"
#include "bench/hot.h"
#include "bench/peers.h"
#include "bench/timing.h"
#include "common/base/clock.h"
#include "tests/unit/support.h"

// ---- the sheet ----------------------------------------------------------------------------------

static const char *const sides[] = {"ours", "theirs", "once"};

static struct sheet_row *some_row(struct sheet *sheet)
{
    static const double ours[] = {10, 40, 60}, theirs[] = {10, 20, 10};
    struct sheet_row *row =
        sheet_add(sheet, "section", mem_text("what"), "unit", ARRAY_LEN(sides), sides, 1);
    for (size_t i = 0; i < ARRAY_LEN(ours); i++) {
        sheet_put(row, 0, ours[i]);
        sheet_put(row, 1, theirs[i]);
    }
    return row;
}

static void ratios_are_of_one_round(void **state)
{
    (void)state;
    struct sheet *sheet = mem_zalloc(sizeof *sheet);
    struct sheet_row *row = some_row(sheet);
    struct sheet_ratio ratio = sheet_ratio(row, 0);
    assert_int_equal(ratio.rounds, 3);
    assert_true(ratio.least == 1 && ratio.median == 2 && ratio.most == 6); // of medians it were 4
    assert_true(sheet_median(&row->sides[0]) == 40 && sheet_median(&row->sides[1]) == 10);
    sheet_put(row, 2, 30);
    ratio = sheet_ratio(row, 2);
    assert_true(ratio.rounds == 1 && ratio.median == 3);
    sheet_close(sheet);
    mem_free(sheet);
}

// However many sides there are in all; each has its name beside its line.
static void every_side_is_drawn(void **state)
{
    (void)state;
    struct sheet *sheet = mem_zalloc(sizeof *sheet);
    static char names[SHEET_ROWS_MAX][16];
    for (size_t i = 0; i < SHEET_ROWS_MAX; i++) {
        snprintf(names[i], sizeof names[i], "side %zu", i);
        const char *const two[] = {"base", names[i]};
        struct sheet_row *row =
            sheet_add(sheet, "section", mem_text("what"), "unit", ARRAY_LEN(two), two, 0);
        sheet_put(row, 0, 1);
        sheet_put(row, 1, (double)i + 1);
    }
    char *directory = test_mkdir();
    assert_true(sheet_write_picture(sheet, directory, "many"));
    struct bytes text = test_read_file(directory, "many.svg");
    for (size_t i = 0; i < SHEET_ROWS_MAX; i++) {
        char *label = mem_format(">%s</text>", names[i]);
        assert_non_null(memmem(text.data, text.size, label, strlen(label)));
        mem_free(label);
    }
    mem_free((void *)text.data);
    test_rmdir(directory);
    sheet_close(sheet);
    mem_free(sheet);
}

static bool claimed(enum sheet_kind kind, double limit)
{
    struct sheet *sheet = mem_zalloc(sizeof *sheet);
    sheet_claim(sheet, some_row(sheet), 0, kind, 1, limit);
    bool held = sheet->claims[0].held;
    sheet_close(sheet);
    mem_free(sheet);
    return held;
}

static void claims_are_of_the_median(void **state)
{
    (void)state;
    assert_true(claimed(SHEET_LEAST, 2));
    assert_false(claimed(SHEET_LEAST, 2.01)); // though a quarter of the rounds is far above
    assert_true(claimed(SHEET_MOST, 2));
    assert_false(claimed(SHEET_MOST, 1.99));
    assert_true(claimed(SHEET_NO_WORSE, 1.91)); // five percent are not told apart
    assert_false(claimed(SHEET_NO_WORSE, 1.9));
    assert_true(claimed(SHEET_FASTER, 0.5)); // theirs are half as long, by the median
    assert_false(claimed(SHEET_FASTER, 0.51));
    assert_true(claimed(SHEET_FIGURE_MOST, 40) && claimed(SHEET_FIGURE_LEAST, 40));
    assert_false(claimed(SHEET_FIGURE_MOST, 39.9) || claimed(SHEET_FIGURE_LEAST, 40.1));
}

// Of two in the middle the mean: what is printed and what is claimed are of the same.
static void a_median_of_even_rounds_lies_between(void **state)
{
    (void)state;
    struct sheet *sheet = mem_zalloc(sizeof *sheet);
    struct sheet_row *row =
        sheet_add(sheet, "section", mem_text("what"), "unit", 2, sides, 1);
    for (size_t i = 1; i <= 4; i++) { // a quarter, two quarters, three, as long
        sheet_put(row, 0, (double)i);
        sheet_put(row, 1, 4);
    }
    assert_true(sheet_median(&row->sides[0]) == 2.5);
    struct sheet_ratio ratio = sheet_ratio(row, 0);
    assert_true(ratio.median == 0.625 && ratio.low == 0.4375 && ratio.high == 0.8125);
    sheet_claim(sheet, row, 0, SHEET_FASTER, 1, 1.6);
    sheet_claim(sheet, row, 0, SHEET_FASTER, 1, 1.61);
    sheet_claim(sheet, row, 0, SHEET_LEAST, 1, 0.625);
    sheet_claim(sheet, row, 0, SHEET_LEAST, 1, 0.63);
    assert_true(sheet->claims[0].held && sheet->claims[2].held);
    assert_false(sheet->claims[1].held || sheet->claims[3].held);
    sheet_close(sheet);
    mem_free(sheet);
}

static void every_other_round_goes_back(void **state)
{
    (void)state;
    for (size_t turn = 0; turn < 4; turn++) {
        assert_int_equal(peers_turn(0, turn, 4), turn);
        assert_int_equal(peers_turn(1, turn, 4), 3 - turn);
        assert_int_equal(peers_turn(2, turn, 4), turn);
    }
}

// ---- dialects -----------------------------------------------------------------------------------

static void assert_text(struct buf *buf, const char *text)
{
    assert_int_equal(buf->size, strlen(text));
    assert_memory_equal(buf->data, text, buf->size);
    buf_clear(buf);
}

static void dialects_are_exact(void **state)
{
    (void)state;
    struct buf to = {0};
    struct bytes key = bytes_text("k1"), value = bytes_text("0123456789");
    dialect_get(DIALECT_RESP, &to, key);
    assert_text(&to, "*2\r\n$3\r\nGET\r\n$2\r\nk1\r\n");
    dialect_set(DIALECT_RESP, &to, key, value);
    assert_text(&to, "*3\r\n$3\r\nSET\r\n$2\r\nk1\r\n$10\r\n0123456789\r\n");
    dialect_found(DIALECT_RESP, &to, key, value);
    assert_text(&to, "$10\r\n0123456789\r\n");
    dialect_get(DIALECT_MEMCACHED, &to, key);
    assert_text(&to, "get k1\r\n");
    dialect_set(DIALECT_MEMCACHED, &to, key, value);
    assert_text(&to, "set k1 0 0 10\r\n0123456789\r\n");
    dialect_found(DIALECT_MEMCACHED, &to, key, value);
    assert_text(&to, "VALUE k1 0 10\r\n0123456789\r\nEND\r\n");
    buf_free(&to);
}

// ---- a server that does as it is told -----------------------------------------------------------

enum { REQUEST_BYTES = 49, CONNECTIONS = 3, STALL_MS = 100, TROUBLE = 5 }; // a GET of a made key
enum mood { RIGHT, IN_PIECES, ONE_WRONG, ONE_TOO_MANY, GOES_AWAY, STALLS };

struct server {
    enum mood mood;
    char *directory, *path;
    int listener;
    pthread_t thread;
    atomic_bool stop;
    uint64_t asked; // in all
};

static bool answer(struct server *server, int fd)
{
    const char *text = "$-1\r\n";
    server->asked++;
    if (server->asked == TROUBLE && server->mood == GOES_AWAY) {
        return false;
    }
    if (server->asked == TROUBLE && server->mood == ONE_WRONG) {
        text = "$-1\r\r";
    }
    if (server->asked == TROUBLE && server->mood == ONE_TOO_MANY) {
        text = "$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n";
    }
    if (server->asked == 1 && server->mood == STALLS) {
        clock_sleep_ns(STALL_MS * NS_PER_MS);
    }
    size_t step = server->mood == IN_PIECES ? 1 : strlen(text);
    for (size_t at = 0; at < strlen(text); at += step) {
        if (send(fd, text + at, step, MSG_NOSIGNAL) != (ssize_t)step) {
            return false;
        }
    }
    return true;
}

static void *serve(void *of)
{
    struct server *server = of;
    struct pollfd fds[1 + CONNECTIONS] = {{.fd = server->listener, .events = POLLIN}};
    size_t count = 1, waiting[1 + CONNECTIONS] = {0};
    while (!atomic_load(&server->stop)) {
        poll(fds, count, 10);
        if (count <= CONNECTIONS && (fds[0].revents & POLLIN) != 0) {
            int fd = accept(server->listener, NULL, NULL);
            fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
        }
        for (size_t i = 1; i < count; i++) {
            char bytes[REQUEST_BYTES * 64];
            ssize_t size = fds[i].fd >= 0 ? recv(fds[i].fd, bytes, sizeof bytes, MSG_DONTWAIT) : -1;
            waiting[i] += size > 0 ? (size_t)size : 0;
            bool fine = size != 0;
            for (; fine && waiting[i] >= REQUEST_BYTES; waiting[i] -= REQUEST_BYTES) {
                fine = answer(server, fds[i].fd);
            }
            if (!fine && fds[i].fd >= 0) {
                close(fds[i].fd);
                fds[i].fd = -1;
            }
        }
    }
    for (size_t i = 1; i < count; i++) {
        if (fds[i].fd >= 0) {
            close(fds[i].fd);
        }
    }
    return NULL;
}

static void start_server(struct server *server, enum mood mood)
{
    *server = (struct server){.mood = mood, .directory = test_mkdir()};
    server->path = mem_format("%s/s", server->directory);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", server->path);
    server->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(server->listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(server->listener, CONNECTIONS), 0);
    assert_int_equal(pthread_create(&server->thread, NULL, serve, server), 0);
}

static void stop_server(struct server *server)
{
    atomic_store(&server->stop, true);
    pthread_join(server->thread, NULL);
    close(server->listener);
    mem_free(server->path);
    test_rmdir(server->directory);
}

// Drives such a server; open loop: 200 requests at 1,000 a second.
static bool drive(enum mood mood, bool open, struct drive_result *result, uint64_t *ret_asked)
{
    struct server server;
    struct pairs pairs;
    assert_true(pairs_open(&pairs, &(struct pairs_options){
                                       .seed = 1, .count = 100, .value_bytes = 100}));
    start_server(&server, mood);
    const struct drive_options options = {
        .socket = server.path,
        .what = DRIVE_ABSENT,
        .pairs = &pairs,
        .connections = CONNECTIONS,
        .depth = 4,
        .rate = open ? 1000 : 0,
        .duration_ns = (open ? 200 : 50) * NS_PER_MS,
    };
    bool fine = drive_run(&options, result);
    stop_server(&server);
    *ret_asked = server.asked;
    pairs_close(&pairs);
    return fine;
}

static void right_answers_are_counted(void **state)
{
    (void)state;
    for (int open = 0; open < 2; open++) {
        for (int mood = RIGHT; mood <= IN_PIECES; mood++) {
            struct drive_result *result = mem_zalloc(sizeof *result);
            uint64_t asked;
            assert_true(drive((enum mood)mood, open, result, &asked));
            assert_int_equal(result->count, asked);
            assert_int_equal(result->faults, 0);
            assert_true(open ? asked == 200 : asked >= CONNECTIONS * 4);
            assert_int_equal(result->latency.count, open ? asked : 0);
            mem_free(result);
        }
    }
}

static void faults_are_found(void **state)
{
    (void)state;
    static const char *const texts[] = {
        [ONE_WRONG] = "wrong answer",
        [ONE_TOO_MANY] = "an answer too many",
        [GOES_AWAY] = "no right answer",
    };
    for (int open = 0; open < 2; open++) {
        for (int mood = ONE_WRONG; mood <= GOES_AWAY; mood++) {
            struct drive_result *result = mem_zalloc(sizeof *result);
            uint64_t asked;
            assert_false(drive((enum mood)mood, open, result, &asked));
            assert_true(result->faults > 0);
            assert_non_null(strstr(result->fault, texts[mood]));
            mem_free(result);
        }
    }
}

// Whoever was due during a stall waits for its end, though nothing had been sent to wait for.
static void a_stall_is_felt_by_all_that_were_due(void **state)
{
    (void)state;
    struct drive_result *result = mem_zalloc(sizeof *result);
    uint64_t asked;
    assert_true(drive(STALLS, true, result, &asked));
    // Of 200 in as many ms the first half: a quarter of all waits for 50 ms or longer.
    assert_true(histogram_ns(&result->latency, 0.76) >= STALL_MS / 2 * NS_PER_MS * 9 / 10);
    mem_free(result);
}

static void a_seed_asks_the_same(void **state)
{
    (void)state;
    struct pairs pairs;
    struct zipf zipf;
    assert_true(pairs_open(&pairs, &(struct pairs_options){
                                       .seed = 1, .count = 1000, .value_bytes = 100}));
    zipf_open(&zipf, pairs.count);
    struct drive_options options = {.what = DRIVE_MIXED, .pairs = &pairs, .zipf = &zipf};
    struct drive_keys one, same, other;
    drive_keys_open(&one, &options);
    drive_keys_open(&same, &options);
    options.seed = 1;
    drive_keys_open(&other, &options);
    unsigned present = 0, differ = 0;
    for (unsigned i = 0; i < 11000; i++) {
        uint64_t number = drive_keys_next(&one);
        assert_int_equal(drive_keys_next(&same), number);
        differ += drive_keys_next(&other) != number;
        present += number < pairs.count;
    }
    assert_true(present > 850 && present < 1150 && differ > 10000);
    pairs_close(&pairs);
}

// ---- cores --------------------------------------------------------------------------------------

static void *wait_for_lock(void *of)
{
    pthread_mutex_lock(of);
    pthread_mutex_unlock(of);
    return NULL;
}

static void a_process_is_bound_and_its_time_told(void **state)
{
    (void)state;
    struct cores cores;
    cpu_set_t set;
    pthread_t other;
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&lock);
    assert_int_equal(pthread_create(&other, NULL, wait_for_lock, &lock), 0);
    cores_open(&cores);
    assert_true(cores.count >= 1 && cores.first <= cores.last);
    cores_pin_self(cores.last);
    assert_int_equal(sched_getcpu(), (int)cores.last);
    assert_true(cores_pin(getpid(), cores.first));
    assert_int_equal(sched_getcpu(), (int)cores.first);
    assert_int_equal(pthread_getaffinity_np(other, sizeof set, &set), 0);
    assert_true(CPU_COUNT(&set) == 1 && CPU_ISSET(cores.first, &set)); // every thread
    pthread_mutex_unlock(&lock);
    pthread_join(other, NULL);
    cores_free_self(&cores);
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    assert_true(CPU_EQUAL(&set, &cores.all));
    char name[16];
    assert_int_equal(prctl(PR_GET_NAME, name), 0);
    assert_int_equal(prctl(PR_SET_NAME, "a) R 1 2"), 0); // nothing that stands in the name counts
    uint64_t before = cores_used_ns(getpid()), begun = clock_mono_ns();
    while (cores_used_ns(getpid()) == before && clock_mono_ns() < begun + 5 * NS_PER_S) {
    }
    uint64_t used = cores_used_ns(getpid()), took = clock_mono_ns() - begun;
    assert_true(used > before && used - before <= took + 20 * NS_PER_MS); // steps of 10 ms
    assert_int_equal(prctl(PR_SET_NAME, name), 0);
}

// ---- engines ------------------------------------------------------------------------------------

static void engines_give_what_was_put(void **state)
{
    (void)state;
    static const struct engine_calls *const all[] = {&engine_lmdb, &engine_rocksdb};
    struct pairs pairs;
    assert_true(pairs_open(&pairs, &(struct pairs_options){
                                       .seed = 1, .count = 2500, .value_bytes = 100}));
    uint32_t *order = engine_order(&pairs);
    uint8_t *got = mem_alloc(PAIR_VALUE_BYTES_MAX), right[100];
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        char *directory = test_mkdir();
        struct engine *engine = all[i]->open(directory, &pairs, order);
        assert_non_null(engine);
        for (uint64_t number = 0; number < 2 * pairs.count; number++) {
            char name[PAIR_KEY_BYTES_MAX];
            struct bytes key = bytes_of(name, pair_key(&pairs, number, name));
            ssize_t size = all[i]->get(engine, key, got, sizeof right);
            assert_int_equal(size, number < pairs.count ? (ssize_t)sizeof right : -1);
            if (size > 0) {
                (void)pair_value(&pairs, number, 0, right);
                assert_memory_equal(got, right, sizeof right);
            }
        }
        all[i]->close(engine);
        test_rmdir(directory);
    }
    mem_free(order);
    mem_free(got);
    pairs_close(&pairs);
}

// ---- doors --------------------------------------------------------------------------------------

// It knows what will be asked.
struct oracle {
    struct drive_keys keys;
    uint64_t asked, generation;
    uint64_t wrong, forgets; // which answer: a byte too many; a present key is said to be absent
};

static ssize_t oracle_get(void *of, struct bytes key, uint8_t *to, size_t room)
{
    struct oracle *oracle = of;
    (void)key;
    uint64_t number = drive_keys_next(&oracle->keys);
    oracle->asked++;
    if (oracle->forgets > 0 && oracle->asked >= oracle->forgets) {
        return DOOR_ABSENT;
    }
    if (number >= oracle->keys.pairs->count) {
        return oracle->asked == oracle->wrong ? DOOR_FAILED : DOOR_ABSENT;
    }
    size_t size = pair_value(oracle->keys.pairs, number, oracle->generation, to);
    assert_true(size <= room);
    to[size - 1] ^= oracle->asked == oracle->wrong;
    return (ssize_t)size;
}

static bool timed(struct oracle *oracle, bool changing, struct timing *timing)
{
    struct pairs pairs;
    struct zipf zipf;
    assert_true(pairs_open(&pairs, &(struct pairs_options){
                                       .seed = 1, .count = 1000, .value_bytes = 100}));
    zipf_open(&zipf, pairs.count);
    struct drive_options load = {.what = DRIVE_MIXED,
                                 .pairs = &pairs,
                                 .zipf = &zipf,
                                 .seed = 3,
                                 .duration_ns = 4 * NS_PER_MS};
    drive_keys_open(&oracle->keys, &load);
    const struct door door = {.get = oracle_get, .of = oracle};
    const struct timing_options options = {.name = "o", .load = &load, .changing = changing};
    bool fine = timing_run(&door, &options, timing);
    pairs_close(&pairs);
    return fine;
}

static void every_answer_of_a_door_is_compared(void **state)
{
    (void)state;
    struct timing *timing = mem_zalloc(sizeof *timing);
    struct oracle oracle = {.wrong = 0};
    assert_true(timed(&oracle, false, timing));
    assert_true(timing->count == oracle.asked && timing->faults == 0);
    // Both parts, however short the time.
    assert_true(timing->batched >= TIMING_BATCH && timing->latency.count >= TIMING_BATCH);
    assert_true(timing->batched + timing->latency.count == timing->count);
    for (uint64_t at = 2; at < 5; at++) { // none of them is the first of a batch
        *timing = (struct timing){.count = 0};
        oracle = (struct oracle){.wrong = TIMING_BATCH + at};
        assert_false(timed(&oracle, false, timing));
        assert_int_equal(timing->faults, 1);
        assert_int_equal(timing->count, oracle.wrong);
    }
    oracle = (struct oracle){.forgets = 1};
    *timing = (struct timing){.count = 0};
    assert_false(timed(&oracle, false, timing));
    oracle = (struct oracle){.generation = 7}; // right only where somebody writes
    assert_false(timed(&oracle, false, timing));
    oracle = (struct oracle){.generation = 7};
    *timing = (struct timing){.count = 0};
    assert_true(timed(&oracle, true, timing));
    oracle = (struct oracle){.forgets = 1};
    assert_false(timed(&oracle, true, timing));
    mem_free(timing);
}

// ... or it would not be the work of a replica.
static void a_floor_reads_what_it_replaces(void **state)
{
    (void)state;
    struct pairs pairs;
    assert_true(pairs_open(&pairs, &(struct pairs_options){
                                       .seed = 1, .count = 1000, .value_bytes = 100}));
    for (int role = FLOOR_REPLICA; role <= FLOOR_PROXY; role++) {
        char *directory = test_mkdir();
        struct floor *floor = floor_open((enum floor_role)role, directory);
        struct floor_work work = {
            .kind = FLOOR_INSERT, .pairs = &pairs, .count = 100, .batch = 7};
        uint64_t ns = 0;
        assert_non_null(floor);
        assert_true(floor_run(floor, &work, &ns) && ns > 0);
        work.kind = FLOOR_OVERWRITE;
        assert_true(floor_run(floor, &work, &ns));
        work = (struct floor_work){
            .kind = FLOOR_DELETE, .pairs = &pairs, .first = 50, .count = 50, .batch = 50};
        assert_true(floor_run(floor, &work, &ns));
        assert_int_equal(floor_run(floor, &work, &ns), role == FLOOR_PROXY);
        floor_close(floor);
        test_rmdir(directory);
    }
    pairs_close(&pairs);
}

static void boards_have_room_for_what_is_asked(void **state)
{
    (void)state;
    const struct pairs pairs = {
        .count = 100000, .key_bytes = 2900000, .value_bytes = 29000000}; // 319 bytes each
    assert_int_equal(hot_entry(&pairs), 384);
    assert_true(hot_room(&pairs, hot_bytes_for(&pairs)) >= 200000); // buckets are filled unevenly
    assert_int_equal(hot_bytes_within(0), 0);
    assert_true(hot_bytes_within(UINT64_MAX) < UINT64_MAX);
    assert_int_equal(hot_bytes_within(1000000), 1000000);
}

static void growth_goes_on_as_between_two_sizes(void **state)
{
    (void)state;
    static const uint64_t sizes[2] = {10, 20};
    assert_true(growth_at(20, sizes, (const double[2]){5, 8}) == 8);
    assert_true(growth_at(40, sizes, (const double[2]){5, 8}) == 14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ratios_are_of_one_round),
        cmocka_unit_test(every_side_is_drawn),
        cmocka_unit_test(claims_are_of_the_median),
        cmocka_unit_test(a_median_of_even_rounds_lies_between),
        cmocka_unit_test(every_other_round_goes_back),
        cmocka_unit_test(dialects_are_exact),
        cmocka_unit_test(right_answers_are_counted),
        cmocka_unit_test(faults_are_found),
        cmocka_unit_test(a_stall_is_felt_by_all_that_were_due),
        cmocka_unit_test(a_seed_asks_the_same),
        cmocka_unit_test(a_process_is_bound_and_its_time_told),
        cmocka_unit_test(engines_give_what_was_put),
        cmocka_unit_test(every_answer_of_a_door_is_compared),
        cmocka_unit_test(a_floor_reads_what_it_replaces),
        cmocka_unit_test(boards_have_room_for_what_is_asked),
        cmocka_unit_test(growth_goes_on_as_between_two_sizes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
