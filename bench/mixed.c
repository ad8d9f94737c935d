// SPDX-License-Identifier: Apache-2.0
#include "bench/mixed.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

#include "bench/conn.h"
#include "bench/mixed_private.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define TICK_NS (100 * NS_PER_MS)
#define FAULTS_SAID 20
#define ASK_LIMIT_NS (10 * NS_PER_S)

// ---- values -------------------------------------------------------------------------------------

struct bytes mixed_key(uint64_t number, char *to)
{
    int size = snprintf(to, MIXED_KEY_BYTES, "mixed:%" PRIu64, number);
    return bytes_of(to, (size_t)size);
}

// key, serial, and bytes that follow from both; the length too follows from the serial.
size_t mixed_value(const struct mixed *mixed, uint64_t key, uint64_t serial, uint8_t *to)
{
    struct draw draw = {.state = draw_mix(serial)};
    uint64_t room = mixed->options->value_bytes - MIXED_VALUE_BYTES_LEAST;
    size_t size = MIXED_VALUE_BYTES_LEAST + (size_t)draw_below(&draw, room + 1);
    store_u64(to, key);
    store_u64(to + 8, serial);
    for (size_t at = MIXED_VALUE_BYTES_LEAST; at < size; at += 8) {
        uint64_t bits = draw_u64(&draw);
        memcpy(to + at, &bits, size - at < sizeof bits ? size - at : sizeof bits);
    }
    return size;
}

uint64_t mixed_serial(const struct mixed *mixed, uint64_t key, struct bytes value)
{
    if (value.size < MIXED_VALUE_BYTES_LEAST || value.size > mixed->options->value_bytes) {
        return 0;
    }
    uint64_t serial = load_u64(value.data + 8);
    uint8_t *made = mem_alloc(mixed->options->value_bytes);
    size_t size = mixed_value(mixed, key, serial, made);
    bool same = bytes_equal(bytes_of(made, size), value);
    mem_free(made);
    return same ? serial : 0;
}

void mixed_fault(struct mixed *mixed, const char *format, ...)
{
    static atomic_uint said;
    atomic_store(&mixed->failed, true);
    if (atomic_fetch_add(&said, 1) < FAULTS_SAID) {
        va_list arguments;
        va_start(arguments, format);
        char text[512];
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        fprintf(stderr, "qs-bench mixed: %s\n", text);
    }
}

// ---- threads ------------------------------------------------------------------------------------

struct reader_thread {
    struct mixed *mixed;
    pthread_t thread;
    uint64_t number;
};

static void *read_on(void *of)
{
    struct reader_thread *reader = of;
    mixed_reader_run(reader->mixed, reader->number);
    return NULL;
}

static void *handle_on(void *of)
{
    struct reader_thread *reader = of;
    mixed_handle_run(reader->mixed, reader->number);
    return NULL;
}

static void *write_on(void *writer)
{
    mixed_writer_run(writer);
    return NULL;
}

static void show(struct mixed *mixed, uint64_t took_ns, bool last)
{
    if (!last) {
        printf("{\"reads\": %" PRIu64 "}\n", atomic_load(&mixed->reads));
    } else {
        printf("{");
#define COUNT(name) printf("\"" #name "\": %" PRIu64 ", ", atomic_load(&mixed->name));
        MIXED_COUNTS(COUNT)
#undef COUNT
        printf("\"shown\": [");
        for (size_t i = 0; i < mixed->options->node_count; i++) {
            printf("%s%" PRIu64, i == 0 ? "" : ", ", atomic_load(&mixed->shown[i]));
        }
        printf("], \"batches\": %" PRIu64 ", \"single\": %" PRIu64 ", \"entries\": %" PRIu64
               ", \"taken\": %" PRIu64 ", \"index\": %" PRIu64
               ", \"seconds\": %.3f, \"write_seconds\": %.3f}\n",
               mixed->batches, mixed->single, mixed->entries, mixed->taken,
               model_known(mixed->model), (double)took_ns / 1e9, (double)mixed->write_ns / 1e9);
    }
    fflush(stdout);
}

// Until all is read, the time is over, or something was wrong. Returns the time it took.
static uint64_t watch(struct mixed *mixed)
{
    uint64_t began = clock_mono_ns();
    uint64_t end = began + mixed->options->limit_seconds * NS_PER_S;
    while (atomic_load(&mixed->reads) < mixed->options->reads && !atomic_load(&mixed->failed)) {
        clock_sleep_ns(TICK_NS);
        show(mixed, 0, false);
        if (clock_mono_ns() > end) {
            mixed_fault(mixed, "%" PRIu64 " of %" PRIu64 " keys were read in %" PRIu64 " s",
                        atomic_load(&mixed->reads), mixed->options->reads,
                        mixed->options->limit_seconds);
        }
    }
    return clock_mono_ns() - began;
}

static void run(struct mixed *mixed, struct mixed_writer *writer)
{
    pthread_t writing;
    CHECK(pthread_create(&writing, NULL, write_on, writer) == 0);
    struct reader_thread readers[MIXED_READERS + 2 * MIXED_HANDLES_MAX];
    size_t count = MIXED_READERS + mixed->options->handles + mixed->options->mapped;
    for (uint64_t i = 0; i < count; i++) {
        bool handle = i >= MIXED_READERS;
        readers[i] = (struct reader_thread){.mixed = mixed,
                                            .number = handle ? i - MIXED_READERS : i};
        CHECK(pthread_create(&readers[i].thread, NULL, handle ? handle_on : read_on,
                             &readers[i]) == 0);
    }
    uint64_t took_ns = watch(mixed);
    // The writer goes on to its last answer first: readers then know every index they saw.
    atomic_store(&mixed->stop_writing, true);
    pthread_join(writing, NULL);
    atomic_store(&mixed->stop_reading, true);
    for (size_t i = 0; i < count; i++) {
        pthread_join(readers[i].thread, NULL);
    }
    show(mixed, took_ns, true);
}

// The root's history, and that nothing was written before: the model begins at index 0.
static char *ask_history(struct mixed *mixed)
{
    redisReply *reply = conn_ask(mixed->options->root, ASK_LIMIT_NS, "QS.INDEX TOKEN");
    const char *colon = reply != NULL && reply->type == REDIS_REPLY_STRING
                            ? strchr(reply->str, ':')
                            : NULL;
    char *history = NULL;
    if (colon == NULL || strcmp(colon, ":0") != 0) {
        mixed_fault(mixed, "%s: not an empty root", mixed->options->root);
    } else {
        history = mem_format("%.*s", (int)(colon - reply->str), reply->str);
    }
    freeReplyObject(reply);
    return history;
}

int mixed_run(const struct mixed_options *options)
{
    struct mixed *mixed = mem_zalloc(sizeof *mixed);
    mixed->options = options;
    mixed->model = model_open(mixed_keys(mixed));
    atomic_init(&mixed->fresh, options->keys);
    char *history = ask_history(mixed);
    mixed->history = history;
    struct mixed_writer *writer = mixed_writer_open(mixed);
    if (history != NULL && mixed_writer_fill(writer)) {
        run(mixed, writer);
    }
    int code = atomic_load(&mixed->failed) ? 1 : 0;
    mixed_writer_close(writer);
    model_close(mixed->model);
    mem_free(history);
    mem_free(mixed);
    return code;
}
