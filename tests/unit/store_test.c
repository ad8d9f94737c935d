// SPDX-License-Identifier: Apache-2.0
// The store against the real RocksDB: what is visible when, what survives a kill, a full disk.
//
// A process that has had RocksDB open must not fork without exec, so the writers that get killed
// are this program again, started with a role as its first argument (see main). They speak to
// the test through a pipe on standard output.
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/store.h"

#define SMALL_MEMTABLE (64 * KIB) // the least that RocksDB takes
#define LARGE_MEMTABLE (8 * MIB)
#define KILL_ROUNDS 20
#define KILL_KEYS 256
#define KILL_PUTS 8
#define SKIPPED 77

static const struct bytes none;

struct fixture {
    char *parent;
    char *directory;
    uint64_t memtable_bytes;
    unsigned families;
    struct store_cache *cache;
    struct store *store;
    struct store_batch *batch;
};

static int fixture_open(struct fixture *fixture)
{
    fixture->cache = store_cache_open(16 * MIB);
    struct store_options options = {
        .directory = fixture->directory,
        .scope = "test",
        .families = {"default", "mvcc"},
        .family_count = fixture->families,
        .cache = fixture->cache,
        .memtable_bytes = fixture->memtable_bytes,
    };
    fixture->batch = store_batch_new();
    fixture->store = NULL;
    return store_open(&fixture->store, &options);
}

static void fixture_close(struct fixture *fixture)
{
    store_batch_free(fixture->batch);
    store_close(fixture->store);
    store_cache_close(fixture->cache); // cold at the next open
}

static void fixture_reopen(struct fixture *fixture)
{
    fixture_close(fixture);
    assert_int_equal(fixture_open(fixture), OK);
}

static void files_remove(const char *path)
{
    DIR *directory = opendir(path);
    if (directory == NULL) {
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL) {
        unlinkat(dirfd(directory), entry->d_name, 0);
    }
    closedir(directory);
    rmdir(path);
}

static int setup(void **state)
{
    struct fixture *fixture = mem_zalloc(sizeof *fixture);
    const char *base = getenv("TMPDIR");
    fixture->parent = mem_format("%s/qs-store-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(fixture->parent) == NULL) {
        return -1;
    }
    fixture->directory = mem_format("%s/store", fixture->parent);
    fixture->memtable_bytes = LARGE_MEMTABLE;
    fixture->families = 2;
    *state = fixture;
    return fixture_open(fixture);
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    fixture_close(fixture);
    files_remove(fixture->directory);
    if (rmdir(fixture->parent) != 0) {
        return -1; // something was left beside the store
    }
    mem_free(fixture->directory);
    mem_free(fixture->parent);
    mem_free(fixture);
    return 0;
}

static void put(struct fixture *fixture, unsigned family, const char *key, const char *value)
{
    store_batch_put(fixture->batch, fixture->store, family, bytes_text(key), bytes_text(value));
}

static void write_state(struct fixture *fixture, const char *state)
{
    assert_int_equal(store_write(fixture->store, fixture->batch, bytes_text(state)), OK);
    store_batch_clear(fixture->batch);
}

static void expect(struct fixture *fixture, const struct store_snapshot *snapshot, unsigned family,
                   const char *key, enum store_tier tier, const char *value)
{
    struct store_value got = {0};
    int error = store_get(fixture->store, snapshot, family, bytes_text(key), tier, &got);
    if (value == NULL) {
        assert_int_equal(error, ERR_NOT_FOUND);
        assert_null(got.pin);
        return;
    }
    assert_int_equal(error, OK);
    assert_true(bytes_equal_text(got.data, value));
    store_value_release(&got);
}

static void expect_state(struct fixture *fixture, enum store_tier tier, const char *state)
{
    struct store_value got = {0};
    int error = store_state(fixture->store, tier, &got);
    if (state == NULL) {
        assert_int_equal(error, ERR_NOT_FOUND);
        return;
    }
    assert_int_equal(error, OK);
    assert_true(bytes_equal_text(got.data, state));
    store_value_release(&got);
}

static void test_reads_and_writes(void **state)
{
    struct fixture *fixture = *state;
    expect_state(fixture, STORE_ANY, NULL);
    expect_state(fixture, STORE_PERSISTED, NULL);
    expect(fixture, NULL, 0, "a", STORE_ANY, NULL);
    put(fixture, 0, "a", "1");
    put(fixture, 1, "a", "other family");
    put(fixture, 0, "empty", "");
    write_state(fixture, "s1");
    expect(fixture, NULL, 0, "a", STORE_ANY, "1");
    expect(fixture, NULL, 0, "a", STORE_CACHED, "1");
    expect(fixture, NULL, 1, "a", STORE_ANY, "other family");
    expect(fixture, NULL, 0, "empty", STORE_ANY, "");
    expect(fixture, NULL, 1, "empty", STORE_ANY, NULL);
    store_batch_delete(fixture->batch, fixture->store, 0, bytes_text("a"));
    store_batch_delete(fixture->batch, fixture->store, 0, bytes_text("never there"));
    write_state(fixture, "s2");
    expect(fixture, NULL, 0, "a", STORE_ANY, NULL);
    expect(fixture, NULL, 1, "a", STORE_ANY, "other family");
    expect_state(fixture, STORE_CACHED, "s2");
    fixture_reopen(fixture);
    expect(fixture, NULL, 0, "a", STORE_ANY, NULL);
    expect(fixture, NULL, 1, "a", STORE_ANY, "other family");
    expect_state(fixture, STORE_ANY, "s2");
    expect_state(fixture, STORE_PERSISTED, "s2");
}

static void test_batches(void **state)
{
    struct fixture *fixture = *state;
    size_t empty_size = store_batch_bytes(fixture->batch);
    struct bytes key[2] = {bytes_text("ke"), bytes_text("y")};
    struct bytes value[2] = {bytes_text("val"), bytes_text("ue")};
    store_batch_put_parts(fixture->batch, fixture->store, 0, key, value);
    struct bytes half[2] = {none, bytes_text("half")};
    struct bytes nothing[2] = {none, none};
    store_batch_put_parts(fixture->batch, fixture->store, 1, half, nothing);
    size_t size = store_batch_bytes(fixture->batch);
    assert_in_range(size, empty_size + 12, empty_size + 64);
    assert_int_equal(store_write(fixture->store, fixture->batch, bytes_text("s")), OK);
    // What is written beside the caller's rows is not left in the batch.
    assert_int_equal(store_batch_bytes(fixture->batch), size);
    expect(fixture, NULL, 0, "key", STORE_ANY, "value");
    expect(fixture, NULL, 1, "half", STORE_ANY, "");
    store_batch_clear(fixture->batch);
    assert_int_equal(store_batch_bytes(fixture->batch), empty_size);
    put(fixture, 0, "twice", "first");
    put(fixture, 0, "twice", "second");
    write_state(fixture, "t");
    expect(fixture, NULL, 0, "twice", STORE_ANY, "second");
    write_state(fixture, "an empty batch moves the state");
    expect_state(fixture, STORE_ANY, "an empty batch moves the state");
}

static void test_persisted(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, 0, "a", "1");
    write_state(fixture, "s1");
    expect(fixture, NULL, 0, "a", STORE_PERSISTED, NULL);
    expect_state(fixture, STORE_PERSISTED, NULL);
    assert_int_equal(store_flush(fixture->store), OK);
    expect(fixture, NULL, 0, "a", STORE_PERSISTED, "1");
    expect_state(fixture, STORE_PERSISTED, "s1");
    put(fixture, 0, "a", "2");
    write_state(fixture, "s2");
    expect(fixture, NULL, 0, "a", STORE_PERSISTED, "1");
    expect(fixture, NULL, 0, "a", STORE_ANY, "2");
    expect_state(fixture, STORE_PERSISTED, "s1");
    expect_state(fixture, STORE_ANY, "s2");
    assert_int_equal(store_flush(fixture->store), OK);
    assert_int_equal(store_flush(fixture->store), OK); // nothing to do
    expect(fixture, NULL, 0, "a", STORE_PERSISTED, "2");
    expect_state(fixture, STORE_PERSISTED, "s2");
}

static void test_snapshots(void **state)
{
    struct fixture *fixture = *state;
    put(fixture, 0, "a", "1");
    write_state(fixture, "s1");
    struct store_snapshot *first = store_snapshot(fixture->store);
    put(fixture, 0, "a", "2");
    put(fixture, 0, "b", "2");
    write_state(fixture, "s2");
    struct store_snapshot *second = store_snapshot(fixture->store);
    store_batch_delete(fixture->batch, fixture->store, 0, bytes_text("a"));
    write_state(fixture, "s3");
    assert_int_equal(store_flush(fixture->store), OK); // what snapshots see outlives a flush
    expect(fixture, first, 0, "a", STORE_ANY, "1");
    expect(fixture, first, 0, "b", STORE_ANY, NULL);
    expect(fixture, second, 0, "a", STORE_ANY, "2");
    expect(fixture, second, 0, "b", STORE_CACHED, "2");
    expect(fixture, NULL, 0, "a", STORE_ANY, NULL);
    struct store_iterator *rows = store_iterator_open(fixture->store, first, 0, none, none);
    store_iterator_seek(rows, none);
    assert_true(store_iterator_valid(rows));
    assert_true(bytes_equal_text(store_iterator_value(rows), "1"));
    store_iterator_next(rows);
    assert_false(store_iterator_valid(rows));
    store_iterator_close(rows);
    store_snapshot_release(fixture->store, second);
    store_snapshot_release(fixture->store, first);
}

// The keys from `seek` on within [lower, upper), in one word each.
static void expect_rows(struct fixture *fixture, struct bytes lower, struct bytes upper,
                        struct bytes seek, const char *keys)
{
    char found[64];
    size_t used = 0;
    struct store_iterator *rows = store_iterator_open(fixture->store, NULL, 0, lower, upper);
    assert_false(store_iterator_valid(rows));
    store_iterator_seek(rows, seek);
    while (store_iterator_valid(rows)) {
        struct bytes key = store_iterator_key(rows);
        assert_true(key.size > 0 && used + key.size < sizeof found);
        assert_true(bytes_equal(store_iterator_value(rows), key));
        memcpy(found + used, key.data, key.size);
        used += key.size;
        store_iterator_next(rows);
    }
    assert_int_equal(store_iterator_error(rows), OK);
    store_iterator_close(rows);
    found[used] = '\0';
    assert_string_equal(found, keys);
}

static void expect_all_rows(struct fixture *fixture)
{
    uint8_t zeros[2] = {0};
    expect_rows(fixture, none, none, none, "abbbcd");
    expect_rows(fixture, bytes_of(zeros, 1), none, none, "abbbcd");
    expect_rows(fixture, bytes_of(zeros, 2), none, bytes_of(zeros, 1), "abbbcd");
    expect_rows(fixture, bytes_text("b"), bytes_text("d"), none, "bbbc");
    expect_rows(fixture, bytes_text("b"), bytes_text("d"), bytes_text("a"), "bbbc");
    expect_rows(fixture, bytes_text("b"), bytes_text("d"), bytes_text("ba"), "bbc");
    expect_rows(fixture, bytes_text("b"), bytes_text("d"), bytes_text("d"), "");
    expect_rows(fixture, bytes_text("b"), bytes_text("d"), bytes_text("z"), "");
    expect_rows(fixture, bytes_text("bc"), none, bytes_text("c"), "cd");
    expect_rows(fixture, none, bytes_text("b"), none, "a");
    expect_rows(fixture, none, bytes_text("a"), none, "");
    expect_rows(fixture, none, bytes_of(zeros, 1), none, "");
    expect_rows(fixture, bytes_text("d"), bytes_text("b"), bytes_text("c"), "");
    expect_rows(fixture, bytes_text("b"), bytes_text("b"), none, "");
    expect_rows(fixture, bytes_text("x"), none, none, "");
}

static void test_iterators(void **state)
{
    struct fixture *fixture = *state;
    expect_rows(fixture, none, none, none, "");
    const char *const keys[] = {"d", "bb", "a", "c", "b"};
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        put(fixture, 0, keys[i], keys[i]);
    }
    put(fixture, 1, "aa", "of the other family");
    write_state(fixture, "s");
    expect_all_rows(fixture);
    assert_int_equal(store_flush(fixture->store), OK);
    expect_all_rows(fixture);
    write_state(fixture, "state rows in memtable and file");
    expect_all_rows(fixture);
    uint8_t zero = 0;
    store_batch_put(fixture->batch, fixture->store, 0, bytes_of(&zero, 1), bytes_of(&zero, 1));
    write_state(fixture, "s");
    struct store_iterator *rows = store_iterator_open(fixture->store, NULL, 0, none, none);
    store_iterator_seek(rows, none);
    assert_true(bytes_equal(store_iterator_key(rows), bytes_of(&zero, 1))); // the smallest key
    store_iterator_close(rows);
}

static void test_cold_cache(void **state)
{
    struct fixture *fixture = *state;
    char key[32], value[200];
    memset(value, 'v', sizeof value);
    for (unsigned i = 0; i < 2000; i++) {
        int length = snprintf(key, sizeof key, "key-%06u", i);
        store_batch_put(fixture->batch, fixture->store, 0, bytes_of(key, (size_t)length),
                        bytes_of(value, sizeof value));
    }
    write_state(fixture, "s");
    fixture_reopen(fixture);
    struct store_value got = {0};
    assert_int_equal(
        store_get(fixture->store, NULL, 0, bytes_text("key-000777"), STORE_CACHED, &got),
        ERR_INCOMPLETE);
    assert_null(got.pin);
    assert_int_equal(store_state(fixture->store, STORE_CACHED, &got), ERR_INCOMPLETE);
    for (enum store_tier tier = STORE_ANY; tier <= STORE_PERSISTED; tier++) {
        int error = store_get(fixture->store, NULL, 0, bytes_text("key-000777"), tier, &got);
        assert_int_equal(error, OK);
        assert_true(bytes_equal(got.data, bytes_of(value, sizeof value)));
        store_value_release(&got);
    }
    // The filter is in memory now and answers alone.
    expect(fixture, NULL, 0, "no such key", STORE_CACHED, NULL);
}

static void test_sizes(void **state)
{
    struct fixture *fixture = *state;
    struct store_sizes before, after;
    uint8_t value[4096];
    for (uint32_t i = 0; i < 512; i++) {
        random_fill(value, sizeof value);
        store_batch_put(fixture->batch, fixture->store, 0, bytes_of(&i, sizeof i),
                        bytes_of(value, sizeof value));
    }
    write_state(fixture, "s");
    store_sizes(fixture->store, &before);
    assert_int_equal(before.family_bytes[0], 0);
    assert_in_range(before.memtable_bytes, 2 * MIB, 6 * MIB);
    assert_int_equal(store_flush(fixture->store), OK);
    store_sizes(fixture->store, &after);
    assert_in_range(after.family_bytes[0], 2 * MIB, 3 * MIB);
    assert_in_range(after.family_bytes[1], 1, 16 * KIB); // its state row
    assert_true(after.memtable_bytes < before.memtable_bytes);
    assert_int_equal(after.pending_compaction_bytes, 0);
    assert_false(after.write_stopped);
}

static void test_open_fails(void **state)
{
    struct fixture *fixture = *state;
    struct fixture second = *fixture;
    log_open(LOG_ERROR + 1);
    assert_int_equal(fixture_open(&second), ERR_IO); // it is locked
    store_batch_free(second.batch);
    store_cache_close(second.cache);
    // A store that once had one family only has no state in the other.
    second.directory = mem_format("%s/second/", fixture->parent);
    second.families = 1;
    assert_int_equal(fixture_open(&second), OK);
    put(&second, 0, "a", "1");
    write_state(&second, "s");
    expect_state(&second, STORE_ANY, "s");
    second.families = 2;
    fixture_reopen(&second);
    struct store_value got = {0};
    assert_int_equal(store_state(second.store, STORE_ANY, &got), ERR_CORRUPT);
    assert_int_equal(store_state(second.store, STORE_PERSISTED, &got), ERR_CORRUPT);
    write_state(&second, "t");
    expect_state(&second, STORE_ANY, "t");
    log_open(LOG_INFO);
    fixture_close(&second);
    files_remove(second.directory);
    mem_free(second.directory);
}

static void test_left_over_flush(void **state)
{
    struct fixture *fixture = *state;
    static const char *const names[] = {"flush", "flush.tmp"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        char *path = mem_format("%s.%s", fixture->directory, names[i]);
        char *file = mem_format("%s/000001.sst", path);
        assert_int_equal(mkdir(path, 0700), 0);
        int fd = open(file, O_CREAT | O_WRONLY, 0600);
        assert_true(fd >= 0);
        close(fd);
        fixture_reopen(fixture);
        assert_int_not_equal(access(path, F_OK), 0);
        mem_free(path);
        mem_free(file);
    }
}

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

// Both families hold exactly the batches up to their state. Returns that state.
static uint64_t kill_verify(struct fixture *fixture)
{
    uint64_t number = state_number(fixture, STORE_ANY);
    uint64_t cycle = KILL_KEYS / KILL_PUTS;
    for (uint64_t slot = 0; slot < KILL_KEYS; slot++) {
        uint64_t key = 1 + slot, turn = slot / KILL_PUTS;
        // The newest batch up to `number` whose turn it was; batches count from 1.
        uint64_t newest = number >= turn ? number - (number - turn) % cycle : 0;
        for (unsigned family = 0; family < 2; family++) {
            struct store_value got = {0};
            int error = store_get(fixture->store, NULL, family, bytes_of(&key, sizeof key),
                                  STORE_ANY, &got);
            assert_int_equal(error, newest == 0 ? ERR_NOT_FOUND : OK);
            assert_int_equal(error == OK ? load_u64(got.data.data) : 0, newest);
            store_value_release(&got);
        }
    }
    return number;
}

struct flusher {
    struct fixture *fixture;
    _Atomic uint64_t written;
    _Atomic bool stop;
    uint64_t flushes;
    void (*flushed)(struct flusher *flusher, uint64_t number);
};

static void *flusher_main(void *argument)
{
    struct flusher *flusher = argument;
    while (!flusher->stop) {
        uint64_t number = flusher->written;
        CHECK(store_flush(flusher->fixture->store) == OK);
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

// Role "write": writes and flushes until it is killed.
static int writer_main(char *directory)
{
    struct fixture fixture = {
        .directory = directory, .memtable_bytes = SMALL_MEMTABLE, .families = 2};
    CHECK(fixture_open(&fixture) == OK);
    struct flusher flusher = {.fixture = &fixture, .flushed = report_flushed};
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

static void test_kill(void **state)
{
    struct fixture *fixture = *state;
    uint64_t persisted = 0;
    for (unsigned round = 0; round < KILL_ROUNDS; round++) {
        fixture_close(fixture);
        int pipe_end;
        pid_t pid = role_start("write", fixture->directory, &pipe_end);
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
        persisted = kill_verify(fixture);
        assert_in_range(persisted, flushed, written + 1);
    }
}

// Role "full": a file system of its own that fills up, in a mount namespace of its own.
static int full_main(const char *directory)
{
    if ((unshare(CLONE_NEWNS) != 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("none", directory, "tmpfs", 0, "size=12m") != 0) {
        return SKIPPED;
    }
    log_open(LOG_ERROR + 1);
    char *ballast = mem_format("%s/ballast", directory);
    int fd = open(ballast, O_CREAT | O_WRONLY, 0600);
    CHECK(fd >= 0 && posix_fallocate(fd, 0, 8 * MIB) == 0);
    close(fd);
    struct fixture fixture = {.directory = mem_format("%s/store", directory),
                              .memtable_bytes = 512 * KIB, .families = 2};
    CHECK(fixture_open(&fixture) == OK);
    uint64_t number = 0;
    int error = OK;
    while (error == OK) {
        uint8_t large[64 * KIB];
        random_fill(large, sizeof large);
        store_batch_clear(fixture.batch);
        kill_batch(&fixture, ++number);
        uint64_t key = KILL_KEYS + number;
        store_batch_put(fixture.batch, fixture.store, 0, bytes_of(&key, sizeof key),
                        bytes_of(large, sizeof large));
        error = store_write(fixture.store, fixture.batch, bytes_of(&number, sizeof number));
    }
    CHECK(error == ERR_DISK_FULL);
    CHECK(store_flush(fixture.store) == ERR_DISK_FULL);
    CHECK(kill_verify(&fixture) == number - 1); // the failed batch is not there, nor lost the others
    CHECK(state_number(&fixture, STORE_PERSISTED) < number);
    CHECK(unlink(ballast) == 0);
    uint64_t deadline = clock_mono_ns() + 30 * NS_PER_S;
    while (error == ERR_DISK_FULL && clock_mono_ns() < deadline) {
        clock_sleep_ns(5 * NS_PER_MS);
        error = store_write(fixture.store, fixture.batch, bytes_of(&number, sizeof number));
    }
    CHECK(error == OK);
    CHECK(store_flush(fixture.store) == OK);
    CHECK(state_number(&fixture, STORE_PERSISTED) == number);
    fixture_reopen(&fixture);
    CHECK(kill_verify(&fixture) == number);
    fixture_close(&fixture);
    return 0;
}

static void test_disk_full(void **state)
{
    struct fixture *fixture = *state;
    char *directory = mem_format("%s/full", fixture->parent);
    assert_int_equal(mkdir(directory, 0700), 0);
    int pipe_end;
    pid_t pid = role_start("full", directory, &pipe_end);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    close(pipe_end);
    rmdir(directory);
    mem_free(directory);
    if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED) {
        skip();
    }
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(int count, char **arguments)
{
    if (count == 3) {
        return strcmp(arguments[1], "full") == 0 ? full_main(arguments[2])
                                                 : writer_main(arguments[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reads_and_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_batches, setup, teardown),
        cmocka_unit_test_setup_teardown(test_persisted, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_iterators, setup, teardown),
        cmocka_unit_test_setup_teardown(test_cold_cache, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sizes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_open_fails, setup, teardown),
        cmocka_unit_test_setup_teardown(test_left_over_flush, setup, teardown),
        cmocka_unit_test_setup_teardown(test_flush_while_writing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_kill, setup, teardown),
        cmocka_unit_test_setup_teardown(test_disk_full, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
