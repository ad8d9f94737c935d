// SPDX-License-Identifier: Apache-2.0
// One handle of libqs under many threads: sessions ADDRESS READERS, until standard input ends. A
// writer counts up in one key; readers look in every way there is and may never see the count go
// back, nor less than any thread has seen before they began; and the mark of each count, a key of
// its own that was written before it, must be there. A watcher must be told each count, once and in
// order. The daemon may be killed meanwhile. Prints figures; the first fault ends it.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/client/qs.h"
#include "common/wire/resp.h"

#define READERS_MAX 64
#define NUMBER_TEXT 24
#define TIMEOUT_MS 60000
#define FAR 1000000000

static const char key[] = "counter";
#define KEY key, sizeof key - 1

struct shared {
    struct qs *qs;
    atomic_bool over;
    _Atomic uint64_t newest;       // count that any thread has seen
    _Atomic uint64_t acknowledged; // count that was written for certain
    _Atomic uint64_t reads, unknown;
};

static NORETURN void fail(const char *what, int error, uint64_t found, uint64_t least)
{
    fprintf(stderr, "%s: %s (%s), found %llu, least %llu\n", what, qs_error_text(error),
            qs_last_error(), (unsigned long long)found, (unsigned long long)least);
    _exit(1);
}

static void raise_to(_Atomic uint64_t *newest, uint64_t number)
{
    uint64_t now = atomic_load(newest);
    while (now < number && !atomic_compare_exchange_weak(newest, &now, number)) {
    }
}

static uint64_t number_of(struct qs_bytes value)
{
    uint64_t number;
    if (!parse_u64(bytes_of(value.data, value.size), &number)) {
        fail("a value that nobody wrote", QS_OK, 0, 0);
    }
    return number;
}

static uint64_t row_of(const struct qs_result *result)
{
    struct qs_bytes value;
    return qs_value(result, 0, &value) == QS_OK ? number_of(value) : 0;
}

// A new key for each count: the first look-up of one is of a key that was absent just before.
static size_t mark_of(uint64_t number, char text[NUMBER_TEXT])
{
    return (size_t)snprintf(text, NUMBER_TEXT, "m%llu", (unsigned long long)number);
}

// ---- the writer --------------------------------------------------------------------------------

// Where the count is, for a writer that does not know what became of its last write. If that
// arrives later all the same, the version that it was for has gone.
static void look_again(struct shared *shared, struct qs_result *result, uint64_t *ret_number,
                       uint64_t *ret_version)
{
    int error = qs_get(shared->qs, KEY, result);
    if (error != QS_OK && error != QS_NOT_FOUND) {
        fail("look again", error, 0, 0);
    }
    *ret_number = row_of(result);
    *ret_version = qs_version(result, 0);
}

// The mark of a count that nobody has seen: written as often as it takes.
static bool put_mark(struct shared *shared, uint64_t number)
{
    char mark[NUMBER_TEXT];
    size_t size = mark_of(number, mark);
    int error = qs_put(shared->qs, mark, size, "x", 1, NULL);
    if (error != QS_OK && error != QS_UNKNOWN_OUTCOME && error != QS_NO_LEADER) {
        fail("mark", error, number, 0);
    }
    return error == QS_OK;
}

static void *write_on(void *argument)
{
    struct shared *shared = argument;
    struct qs_result *result = qs_result_new();
    char text[NUMBER_TEXT];
    uint64_t number = 0, version = 0;
    while (!atomic_load(&shared->over)) {
        if (!put_mark(shared, number + 1)) {
            clock_sleep_ns(NS_PER_MS);
            continue;
        }
        int size = snprintf(text, sizeof text, "%llu", (unsigned long long)number + 1);
        int error = qs_cas(shared->qs, KEY, version, text, (size_t)size, &version);
        if (error == QS_OK) {
            number++;
            raise_to(&shared->newest, number);
            atomic_store(&shared->acknowledged, number);
        } else if (error == QS_UNKNOWN_OUTCOME || error == QS_CONFLICT) {
            atomic_fetch_add(&shared->unknown, error == QS_UNKNOWN_OUTCOME ? 1 : 0);
            look_again(shared, result, &number, &version);
        } else if (error == QS_NO_LEADER) { // nothing was written
            clock_sleep_ns(NS_PER_MS);
        } else {
            fail("count", error, number, version);
        }
    }
    qs_result_free(result);
    return NULL;
}

// ---- readers -----------------------------------------------------------------------------------

static int by_range(struct qs *qs, uint64_t *ret_number)
{
    struct qs_range *range;
    struct qs_bytes value;
    int error = qs_range_open(&range, qs, KEY, "d", 1, 0);
    if (error == QS_OK) {
        error = qs_range_next(range, NULL, &value);
        *ret_number = error == QS_OK ? number_of(value) : 0;
        qs_range_close(range);
    }
    return error;
}

// One look, in the way `way`; QS_NOT_FOUND: nothing was written yet.
static int look(struct qs *qs, unsigned way, struct qs_result *result, uint64_t *ret_number)
{
    struct qs_bytes keys[] = {{KEY}, {"none", 4}};
    char token[QS_TOKEN_BYTES];
    int error;
    switch (way % 8) {
    case 0:
        return by_range(qs, ret_number);
    case 1:
        error = qs_get_many(qs, 2, keys, result);
        break;
    case 2:
        error = qs_token(qs, token);
        error = error == QS_OK ? qs_get_min(qs, KEY, token, result) : error;
        break;
    default:
        error = qs_get(qs, KEY, result);
        break;
    }
    *ret_number = error == QS_OK ? row_of(result) : 0;
    return error;
}

// What was written before the count is there; nobody has written what comes long after it.
static void look_for_marks(struct shared *shared, uint64_t number, struct qs_result *result)
{
    char mark[NUMBER_TEXT];
    int error = number == 0 ? QS_OK : qs_get(shared->qs, mark, mark_of(number, mark), result);
    if (error != QS_OK) {
        fail("a mark", error, 0, number);
    }
    error = qs_get(shared->qs, mark, mark_of(number + FAR, mark), result);
    if (error != QS_NOT_FOUND) {
        fail("a mark of the future", error, 0, number);
    }
}

static void *read_on(void *argument)
{
    struct shared *shared = argument;
    struct qs_result *result = qs_result_new();
    for (unsigned way = 0; !atomic_load(&shared->over); way++) {
        uint64_t least = atomic_load(&shared->newest), number = 0;
        int error = look(shared->qs, way, result, &number);
        if ((error != QS_OK && error != QS_NOT_FOUND) || number < least) {
            fail("look", error, number, least);
        }
        if (number > 0 && way % 8 == 3 && qs_exists(shared->qs, KEY) != QS_OK) {
            fail("exists", QS_NOT_FOUND, 0, number);
        }
        look_for_marks(shared, number, result);
        raise_to(&shared->newest, number);
        atomic_fetch_add(&shared->reads, 1);
    }
    qs_result_free(result);
    return NULL;
}

// ---- the watcher -------------------------------------------------------------------------------

static void *watch_on(void *argument)
{
    struct shared *shared = argument;
    struct qs_result *result = qs_result_new();
    struct qs_watch *watch;
    uint64_t told = 0, index = 0;
    if (qs_watch_open(&watch, shared->qs, KEY, "1") != QS_OK) {
        fail("watch", QS_USAGE, 0, 0);
    }
    while (!atomic_load(&shared->over) || told < atomic_load(&shared->acknowledged)) {
        int error = qs_watch_next(watch, 100, result);
        if (error == QS_TIMEOUT || error == QS_CLOSED || error == QS_LOADING) {
            continue;
        }
        bool changed = error == QS_OK && qs_count(result) > 0;
        uint64_t number = changed ? row_of(result) : told;
        bool next = number == told + (changed ? 1 : 0);
        if (error != QS_OK || !next || qs_result_index(result) < index) {
            fail("watch", error, number, told);
        }
        told = number;
        index = qs_result_index(result);
    }
    qs_watch_close(watch);
    qs_result_free(result);
    return NULL;
}

static void wait_for_end(void)
{
    char byte;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
}

int main(int count, char **words)
{
    int64_t readers = 0;
    bool sound = count == 3 && parse_i64(bytes_text(words[2]), &readers);
    struct shared shared = {.qs = NULL};
    struct qs_options options = {
        .size = sizeof options, .timeout_ms = TIMEOUT_MS, .connections = 5};
    sound = sound && readers > 0 && readers <= READERS_MAX;
    if (!sound || qs_open(&shared.qs, words[1], &options) != QS_OK) {
        fprintf(stderr, "usage: sessions ADDRESS READERS\n%s\n", qs_last_error());
        return 2;
    }
    pthread_t threads[READERS_MAX + 2];
    pthread_create(&threads[0], NULL, write_on, &shared);
    pthread_create(&threads[1], NULL, watch_on, &shared);
    for (int64_t i = 0; i < readers; i++) {
        pthread_create(&threads[i + 2], NULL, read_on, &shared);
    }
    wait_for_end();
    atomic_store(&shared.over, true);
    for (int64_t i = 0; i < readers + 2; i++) {
        pthread_join(threads[i], NULL);
    }
    printf("%llu reads, %llu counts, %llu unknown\n", (unsigned long long)shared.reads,
           (unsigned long long)shared.acknowledged, (unsigned long long)shared.unknown);
    qs_close(shared.qs);
    return 0;
}
