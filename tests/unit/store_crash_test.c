// SPDX-License-Identifier: Apache-2.0
// What the store keeps when its process is killed, its disk is full, or it is flushed and written
// at once.
//
// A process that has had RocksDB open must not fork without exec, so the writers that get killed
// are this program again, started with a role as its first argument (see main). They speak to
// the test through a pipe on standard output.
#include "tests/unit/store_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "common/base/clock.h"
#include "common/data/disk.h"

#define KILL_ROUNDS 20
#define KILL_KEYS 256
#define KILL_PUTS 8
#define SKIPPED 77
#define SMALL_DISK "size=24m"
#define BALLAST_BYTES (12 * MIB)
#define FULL_MEMTABLE (512 * KIB)
#define FLUSHES_BYTES (7 * FULL_MEMTABLE) // three in each of two families, and one to spare

// Batches of the killed writers: batch n puts n under KILL_PUTS keys in turn, in both families.
static void kill_batch(struct fixture *fixture, uint64_t number)
{
    uint8_t value[200] = {0};
    store_u64(value, number);
    for (uint64_t i = 0; i < KILL_PUTS; i++) {
        uint64_t key = 1 + (number * KILL_PUTS + i) % KILL_KEYS;
        for (unsigned family = 0; family < 2; family++) {
            store_batch_put(fixture->batch, fixture->store, family, bytes_of(&key, sizeof key),
                            bytes_of(value, sizeof value));
        }
    }
}

static int kill_write(struct fixture *fixture, uint64_t number)
{
    store_batch_clear(fixture->batch);
    kill_batch(fixture, number);
    return store_write(fixture->store, fixture->batch, bytes_of(&number, sizeof number));
}

static uint64_t state_number(struct fixture *fixture, enum store_tier tier)
{
    struct store_value got = {0};
    int error = store_state(fixture->store, tier, &got);
    CHECK(error == OK || error == ERR_NOT_FOUND);
    uint64_t number = error == OK ? load_u64(got.data.data) : 0;
    store_value_release(&got);
    return number;
}

// What `family` holds under the key of this slot, 0 when nothing.
static uint64_t slot_number(struct fixture *fixture, unsigned family, uint64_t slot)
{
    uint64_t key = 1 + slot;
    struct store_value got = {0};
    int error =
        store_get(fixture->store, NULL, family, bytes_of(&key, sizeof key), STORE_ANY, &got);
    assert_true(error == OK || error == ERR_NOT_FOUND);
    uint64_t number = error == OK ? load_u64(got.data.data) : 0;
    store_value_release(&got);
    return number;
}

// `family` holds exactly the batches up to `number`, which count from 1.
static void family_verify(struct fixture *fixture, unsigned family, uint64_t number)
{
    uint64_t cycle = KILL_KEYS / KILL_PUTS;
    for (uint64_t slot = 0; slot < KILL_KEYS; slot++) {
        uint64_t turn = slot / KILL_PUTS; // the newest batch up to `number` whose turn it was:
        uint64_t newest = number >= turn ? number - (number - turn) % cycle : 0;
        assert_int_equal(slot_number(fixture, family, slot), newest);
    }
}

// The first family holds exactly the batches up to its state; the other, too, or after a crash some
// more, which *ret_ahead tells. Returns the state.
static uint64_t kill_verify_ahead(struct fixture *fixture, uint64_t *ret_ahead)
{
    uint64_t number = state_number(fixture, STORE_ANY), ahead = number;
    for (uint64_t slot = 0; slot < KILL_KEYS; slot++) {
        ahead = u64_max(ahead, slot_number(fixture, 1, slot));
    }
    family_verify(fixture, 0, number);
    family_verify(fixture, 1, ahead);
    *ret_ahead = ahead;
    return number;
}

static uint64_t kill_verify(struct fixture *fixture)
{
    uint64_t ahead = 0, number = kill_verify_ahead(fixture, &ahead);
    assert_int_equal(ahead, number);
    return number;
}

struct flusher {
    struct fixture *fixture;
    _Atomic uint64_t written;
    _Atomic bool stop;
    bool compact; // has its flushes made by compactions
    uint64_t flushes;
    void (*flushed)(struct flusher *flusher, uint64_t number);
};

static void *flusher_main(void *argument)
{
    struct flusher *flusher = argument;
    while (!flusher->stop) {
        uint64_t number = flusher->written;
        struct store *store = flusher->fixture->store;
        struct bytes none = {0};
        CHECK((flusher->compact ? store_compact(store, 1, none, none) : store_flush(store)) == OK);
        CHECK(state_number(flusher->fixture, STORE_PERSISTED) >= number);
        flusher->flushes++;
        if (flusher->flushed != NULL) {
            flusher->flushed(flusher, number);
        }
    }
    return NULL;
}

static void test_flush_while_writing(void **state)
{
    struct fixture *fixture = *state;
    fixture->memtable_bytes = SMALL_MEMTABLE; // so that RocksDB flushes by itself, too
    fixture_reopen(fixture);
    struct flusher flusher = {.fixture = fixture};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, flusher_main, &flusher), 0);
    uint64_t number = 0;
    while (number < 1000) {
        assert_int_equal(kill_write(fixture, ++number), OK);
        flusher.written = number;
        assert_true(state_number(fixture, STORE_PERSISTED) <= number); // and they always agree
    }
    flusher.stop = true;
    pthread_join(thread, NULL);
    assert_true(flusher.flushes > 0);
    fixture_reopen(fixture);
    assert_int_equal(kill_verify(fixture), number);
}

struct report {
    uint64_t written;
    uint64_t flushed;
};

static void report_send(struct report report)
{
    CHECK(write(STDOUT_FILENO, &report, sizeof report) == sizeof report);
}

static void report_flushed(struct flusher *flusher, uint64_t number)
{
    (void)flusher;
    report_send((struct report){.flushed = number});
}

// Roles "write" and "compact": writes and flushes until it is killed.
static int writer_main(char *directory, bool compact)
{
    struct fixture fixture = {
        .directory = directory, .memtable_bytes = SMALL_MEMTABLE, .families = 2};
    CHECK(fixture_open(&fixture) == OK);
    struct flusher flusher = {.fixture = &fixture, .compact = compact, .flushed = report_flushed};
    uint64_t number = state_number(&fixture, STORE_ANY);
    flusher.written = number;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, flusher_main, &flusher) == 0);
    for (;;) {
        CHECK(kill_write(&fixture, ++number) == OK);
        flusher.written = number;
        report_send((struct report){.written = number});
    }
}

static pid_t role_start(const char *role, const char *directory, int *ret_pipe)
{
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        execl("/proc/self/exe", "store_test", role, directory, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *ret_pipe = ends[0];
    return pid;
}

static void run_kill(struct fixture *fixture, const char *role)
{
    uint64_t persisted = 0;
    for (unsigned round = 0; round < KILL_ROUNDS; round++) {
        fixture_close(fixture);
        int pipe_end;
        pid_t pid = role_start(role, fixture->directory, &pipe_end);
        struct report report;
        uint64_t written = persisted, flushed = persisted, left = 1 + random_u64() % 200;
        while (read(pipe_end, &report, sizeof report) == sizeof report) {
            written = u64_max(written, report.written);
            flushed = u64_max(flushed, report.flushed);
            if (--left == 0) {
                kill(pid, SIGKILL); // what it said before that is still read
            }
        }
        close(pipe_end);
        int status;
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        assert_int_equal(fixture_open(fixture), OK);
        uint64_t ahead = 0;
        persisted = kill_verify_ahead(fixture, &ahead);
        assert_in_range(persisted, flushed, written + 1);
        assert_in_range(ahead, persisted, written + 1);
        assert_int_equal(store_flush(fixture->store), OK); // also when nothing new was written
    }
}

static void test_kill(void **state) { run_kill(*state, "write"); }

// A compaction of one family flushes all of them.
static void test_kill_compacting(void **state) { run_kill(*state, "compact"); }

// Mounts a file system of its own over `directory`, seen by this process only.
static bool small_disk(const char *directory)
{
    return (unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("none", directory, "tmpfs", 0, SMALL_DISK) == 0;
}

// Takes space away, all that there is when `bytes` is 0.
static void ballast_fill(const char *path, uint64_t bytes)
{
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    CHECK(fd >= 0);
    if (bytes > 0) {
        CHECK(posix_fallocate(fd, 0, (off_t)bytes) == 0);
    } else {
        static const uint8_t page[4096];
        while (write(fd, page, sizeof page) > 0) {
        }
    }
    close(fd);
}

// As the applier does it.
static int large_write(struct fixture *fixture, uint64_t number)
{
    uint8_t large[64 * KIB];
    random_fill(large, sizeof large);
    store_batch_clear(fixture->batch);
    kill_batch(fixture, number);
    uint64_t key = KILL_KEYS + number;
    store_batch_put(fixture->batch, fixture->store, 0, bytes_of(&key, sizeof key),
                    bytes_of(large, sizeof large));
    bool has = store_has_room(fixture->store);
    return has ? store_write(fixture->store, fixture->batch, bytes_of(&number, sizeof number))
               : ERR_DISK_FULL;
}

// Role "damage": a compaction that meets a broken file fails, and says so; nothing is written then.
static int damage_main(char *directory)
{
    log_open(LOG_ERROR + 1);
    struct fixture fixture = {
        .directory = directory, .memtable_bytes = LARGE_MEMTABLE, .families = 2};
    CHECK(fixture_open(&fixture) == OK);
    for (uint64_t number = 1; number <= 32; number++) {
        CHECK(large_write(&fixture, number) == OK);
    }
    struct bytes none = {0};
    CHECK(store_compact(fixture.store, 0, none, none) == OK);
    fixture_close(&fixture); // what it has cached would hide the damage
    struct test_files *files = test_load(directory);
    for (size_t i = 0; i < files->count; i++) {
        if (files->contents[i].size > MIB) {
            test_flip(directory, files->names[i], files->contents[i].size / 2, 3);
        }
    }
    CHECK(fixture_open(&fixture) == OK);
    CHECK(store_compact(fixture.store, 0, none, none) == ERR_IO);
    CHECK(large_write(&fixture, 33) == ERR_CORRUPT); // the store says from then on what broke it
    _exit(0);
}

static void test_damage(void **state)
{
    struct fixture *fixture = *state;
    fixture_close(fixture);
    int pipe_end, status;
    pid_t pid = role_start("damage", fixture->directory, &pipe_end);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(pipe_end);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    test_empty(fixture->directory);
    assert_int_equal(fixture_open(fixture), OK);
}

// A disk that fills up under the store: it refuses in time, and goes on as soon as there is space.
// A compaction may still make some, until there is not enough for that either.
static uint64_t full_in_time(struct fixture *fixture, const char *ballast)
{
    ballast_fill(ballast, BALLAST_BYTES);
    uint64_t number = 0, free_bytes;
    int error = OK;
    while (error == OK) {
        error = large_write(fixture, ++number);
    }
    CHECK(error == ERR_DISK_FULL);
    const struct bytes none = {0};
    do { // what RocksDB does of its own accord takes its space for a moment
        error = store_compact(fixture->store, 0, none, none);
    } while (error == ERR_DISK_FULL);
    CHECK(error == OK);
    CHECK(disk_free(fixture->directory, &free_bytes) == OK);
    ballast_fill(ballast, BALLAST_BYTES + free_bytes - FLUSHES_BYTES);
    CHECK(store_compact(fixture->store, 0, none, none) == ERR_DISK_FULL);
    CHECK(kill_verify(fixture) == number - 1);
    CHECK(store_flush(fixture->store) == OK); // what was taken has its space
    CHECK(state_number(fixture, STORE_PERSISTED) == number - 1);
    CHECK(unlink(ballast) == 0);
    CHECK(store_write(fixture->store, fixture->batch, bytes_of(&number, sizeof number)) == OK);
    return number;
}

// A disk that others fill up at once: flushes fail until RocksDB finds that there is space again,
// which it looks for every 5 s; after that a flush must still be what it says.
static uint64_t full_at_once(struct fixture *fixture, const char *ballast, uint64_t number)
{
    CHECK(store_flush(fixture->store) == OK);
    CHECK(large_write(fixture, ++number) == OK);
    ballast_fill(ballast, 0);
    CHECK(store_flush(fixture->store) == ERR_DISK_FULL);
    CHECK(large_write(fixture, ++number) == ERR_DISK_FULL);
    CHECK(kill_verify(fixture) == number - 1);
    CHECK(state_number(fixture, STORE_PERSISTED) == number - 2);
    CHECK(unlink(ballast) == 0);
    uint64_t deadline = clock_mono_ns() + 30 * NS_PER_S;
    int error = ERR_DISK_FULL;
    while (error == ERR_DISK_FULL && clock_mono_ns() < deadline) {
        clock_sleep_ns(NS_PER_MS);
        error = store_write(fixture->store, fixture->batch, bytes_of(&number, sizeof number));
    }
    CHECK(error == OK);
    for (unsigned i = 0; i < 20; i++) {
        CHECK(store_flush(fixture->store) == OK);
        CHECK(state_number(fixture, STORE_PERSISTED) == number);
        CHECK(large_write(fixture, ++number) == OK);
    }
    return number;
}

// Roles "full" and "slow".
static int full_main(char *directory, bool slow)
{
    if (!small_disk(directory)) {
        return SKIPPED;
    }
    log_open(LOG_ERROR + 1);
    char *ballast = mem_format("%s/ballast", directory);
    char *store = mem_format("%s/store", directory);
    struct fixture fixture = {.directory = store, .memtable_bytes = FULL_MEMTABLE, .families = 2};
    CHECK(fixture_open(&fixture) == OK);
    uint64_t number = full_in_time(&fixture, ballast);
    if (slow) {
        number = full_at_once(&fixture, ballast, number);
    }
    fixture_reopen(&fixture);
    CHECK(kill_verify(&fixture) == number);
    fixture_close(&fixture);
    mem_free(store);
    mem_free(ballast);
    return 0;
}

static void run_full(struct fixture *fixture, const char *role)
{
    char *directory = mem_format("%s/full", fixture->parent);
    assert_int_equal(mkdir(directory, 0700), 0);
    int pipe_end, status;
    pid_t pid = role_start(role, directory, &pipe_end);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(pipe_end);
    rmdir(directory);
    mem_free(directory);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
        skip();
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_disk_full(void **state) { run_full(*state, "full"); }

// Takes 5 s, so it runs when TEST_SLOW is set.
static void test_disk_full_at_once(void **state)
{
    if (getenv("TEST_SLOW") == NULL) {
        skip();
    }
    run_full(*state, "slow");
}

int main(int count, char **arguments)
{
    if (count == 3) {
        const char *role = arguments[1];
        bool slow = strcmp(role, "slow") == 0, full = strcmp(role, "full") == 0;
        return strcmp(role, "damage") == 0 ? damage_main(arguments[2])
               : slow || full              ? full_main(arguments[2], slow)
                              : writer_main(arguments[2], strcmp(role, "compact") == 0);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_flush_while_writing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill_compacting, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk_full_at_once, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
