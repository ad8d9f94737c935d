// SPDX-License-Identifier: Apache-2.0
// Kyoto Tycoon's table of 2020 (Cloudflare, "Introducing Quicksilver"): a reader asks for 20 small
// keys again and again while nobody, one or two others write values of 40 kB to the same server,
// each the next one when the last is acknowledged. Here requests are due at a fixed rate, and
// latency counts from there. Nothing is bound to a core.
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#include "bench/conn.h"
#include "bench/histogram.h"
#include "bench/interrupt.h"
#include "bench/peers.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define SECTION "writers: MGET of 20 small keys beside writers of 40 kB values"
#define SMALL_KEYS 20
#define SMALL_BYTES 24
#define LARGE_BYTES 40000
#define LARGE_KEYS 1000 // of each writer, in turn
#define WRITERS_MAX 2
#define RATE 1000 // requests of the reader a second
#define ANSWER_NS (10 * NS_PER_S)

enum { SIDE_ROOT, SIDE_REDIS, SIDE_COUNT };
static const char *const names[SIDE_COUNT] = {"qs root", "redis"};

struct writer {
    pthread_t thread;
    const char *socket;
    unsigned number;
    atomic_bool stop;
    uint64_t done; // acknowledged
    bool failed;
};

struct section {
    struct peers *peers;
    struct nodes nodes;
    struct rival redis;
    const char *sockets[SIDE_COUNT];
};

// ---- writing ------------------------------------------------------------------------------------

static bool is_ok(const redisReply *reply)
{
    return reply != NULL && reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "OK") == 0;
}

static void *write_on(void *of)
{
    struct writer *writer = of;
    struct conn conn = {0};
    uint8_t *value = mem_alloc(LARGE_BYTES);
    struct draw draw = {.state = draw_mix(writer->number)};
    for (size_t at = 0; at < LARGE_BYTES; at += sizeof(uint64_t)) {
        store_u64(value + at, draw_u64(&draw)); // incompressible
    }
    bool fine = conn_open(&conn, writer->socket);
    for (uint64_t i = 0; fine && !atomic_load(&writer->stop); i++) {
        char key[32];
        int size = snprintf(key, sizeof key, "large:%u:%03u", writer->number,
                            (unsigned)(i % LARGE_KEYS));
        store_u64(value, i);
        const struct bytes words[] = {bytes_text("SET"), bytes_of(key, (size_t)size),
                                      bytes_of(value, LARGE_BYTES)};
        redisReply *reply = conn_call(&conn, ANSWER_NS, ARRAY_LEN(words), words);
        fine = is_ok(reply);
        writer->done += fine;
        freeReplyObject(reply);
    }
    writer->failed = !fine;
    conn_close(&conn);
    mem_free(value);
    return NULL;
}

static void start_writer(struct writer *writer, const char *socket, unsigned number)
{
    *writer = (struct writer){.socket = socket, .number = number};
    CHECK(pthread_create(&writer->thread, NULL, write_on, writer) == 0);
}

static bool stop_writer(struct writer *writer)
{
    atomic_store(&writer->stop, true);
    pthread_join(writer->thread, NULL);
    return !writer->failed;
}

// ---- reading ------------------------------------------------------------------------------------

static size_t small_pair(unsigned number, char *key, char *value)
{
    snprintf(key, SMALL_BYTES, "small:%02u", number);
    snprintf(value, SMALL_BYTES, "value of small:%02u", number);
    return strlen(key);
}

static bool put_small(const char *socket)
{
    bool fine = true;
    for (unsigned i = 0; fine && i < SMALL_KEYS; i++) {
        char key[SMALL_BYTES], value[SMALL_BYTES];
        (void)small_pair(i, key, value);
        struct conn conn = {0};
        const struct bytes words[] = {bytes_text("SET"), bytes_text(key), bytes_text(value)};
        redisReply *reply = conn_open(&conn, socket)
                                ? conn_call(&conn, ANSWER_NS, ARRAY_LEN(words), words)
                                : NULL;
        fine = is_ok(reply);
        freeReplyObject(reply);
        conn_close(&conn);
    }
    return fine;
}

static bool is_right(const redisReply *reply)
{
    bool right = reply->type == REDIS_REPLY_ARRAY && reply->elements == SMALL_KEYS;
    for (unsigned i = 0; right && i < SMALL_KEYS; i++) {
        char key[SMALL_BYTES], value[SMALL_BYTES];
        (void)small_pair(i, key, value);
        const redisReply *row = reply->element[i];
        right = row->type == REDIS_REPLY_STRING &&
                bytes_equal_text(bytes_of(row->str, row->len), value);
    }
    return right;
}

struct reader {
    struct conn conn;
    struct bytes words[1 + SMALL_KEYS];
    char keys[SMALL_KEYS][SMALL_BYTES];
    uint64_t began_ns, sent, answered, wrong;
    struct histogram latency;
};

static uint64_t due_ns(const struct reader *reader, uint64_t number)
{
    return reader->began_ns + number * NS_PER_S / RATE;
}

// Takes what has come. Answers are in the order of the requests.
static bool take(struct reader *reader)
{
    bool fine = conn_fill(&reader->conn);
    uint64_t now = clock_mono_ns();
    redisReply *reply = NULL;
    while (fine && (fine = conn_take(&reader->conn, &reply)) && reply != NULL) {
        reader->wrong += !is_right(reply);
        histogram_add(&reader->latency, now - due_ns(reader, reader->answered++));
        freeReplyObject(reply);
    }
    return fine;
}

static bool read_on(struct reader *reader, uint64_t duration_ns)
{
    uint64_t total = duration_ns / (NS_PER_S / RATE);
    reader->began_ns = clock_mono_ns();
    uint64_t end_ns = reader->began_ns + duration_ns + ANSWER_NS;
    bool fine = true;
    while (fine && reader->answered < total && clock_mono_ns() < end_ns) {
        uint64_t now = clock_mono_ns();
        for (; reader->sent < total && due_ns(reader, reader->sent) <= now; reader->sent++) {
            conn_send(&reader->conn, ARRAY_LEN(reader->words), reader->words);
        }
        uint64_t next = reader->sent < total ? due_ns(reader, reader->sent) : now + NS_PER_MS;
        uint64_t left = next > now ? next - now : 0;
        struct timespec limit = {.tv_sec = 0, .tv_nsec = (long)u64_min(left, NS_PER_S - 1)};
        struct pollfd polled = {.fd = reader->conn.fd, .events = POLLIN};
        fine = conn_flush(&reader->conn) && ppoll(&polled, 1, &limit, NULL) >= 0 &&
               ((polled.revents & POLLIN) == 0 || take(reader));
    }
    return fine && reader->answered == total;
}

// ---- one run ------------------------------------------------------------------------------------

static bool run_side(struct section *section, size_t side, unsigned writers,
                     struct histogram *ret_latency, double *ret_written)
{
    struct peers *peers = section->peers;
    struct writer busy[WRITERS_MAX];
    for (unsigned i = 0; i < writers; i++) {
        start_writer(&busy[i], section->sockets[side], i);
    }
    struct reader *reader = mem_zalloc(sizeof *reader);
    reader->words[0] = bytes_text("MGET");
    for (unsigned i = 0; i < SMALL_KEYS; i++) {
        char value[SMALL_BYTES];
        size_t size = small_pair(i, reader->keys[i], value);
        reader->words[1 + i] = bytes_of(reader->keys[i], size);
    }
    uint64_t began = clock_mono_ns();
    bool fine = conn_open(&reader->conn, section->sockets[side]) &&
                read_on(reader, peers->options->run_ms * NS_PER_MS);
    conn_close(&reader->conn);
    *ret_written = 0;
    for (unsigned i = 0; i < writers; i++) {
        fine = stop_writer(&busy[i]) && fine;
        *ret_written += (double)busy[i].done;
    }
    *ret_written /= (double)(clock_mono_ns() - began) / 1e9;
    *ret_latency = reader->latency;
    peers->answers += reader->answered;
    peers->faults += reader->wrong + !fine;
    if (!fine || reader->wrong > 0) {
        fprintf(stderr, "qs-bench: %s: a wrong answer, or none\n", names[side]);
    }
    mem_free(reader);
    return fine && !interrupted();
}

static const struct {
    const char *name;
    double share;
} percentiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}};
#define PERCENTILES ARRAY_LEN(percentiles)

static bool run_writers(struct section *section, unsigned writers)
{
    struct peers *peers = section->peers;
    struct sheet_row *rows[PERCENTILES], *written = NULL;
    for (size_t i = 0; i < PERCENTILES; i++) {
        rows[i] = sheet_add(&peers->sheet, SECTION,
                            mem_format("writers: %u, %s", writers, percentiles[i].name),
                            "microseconds from when it was due", SIDE_COUNT, names, SIDE_REDIS);
    }
    if (writers > 0) {
        written = sheet_add(&peers->sheet, SECTION, mem_format("writers: %u, writes", writers),
                            "writes of 40 kB a second, acknowledged", SIDE_COUNT, names,
                            SIDE_REDIS);
    }
    bool fine = true;
    for (uint64_t round = 0; fine && round < peers->options->rounds; round++) {
        for (size_t i = 0; fine && i < SIDE_COUNT; i++) {
            size_t side = peers_turn(round, i, SIDE_COUNT);
            struct histogram latency;
            double rate;
            fine = run_side(section, side, writers, &latency, &rate);
            for (size_t j = 0; j < PERCENTILES; j++) {
                uint64_t ns = histogram_ns(&latency, percentiles[j].share);
                sheet_put(rows[j], side, (double)ns / 1e3);
            }
            if (written != NULL) {
                sheet_put(written, side, rate);
            }
        }
    }
    for (size_t i = 0; fine && i < PERCENTILES; i++) {
        sheet_print(&peers->sheet, rows[i]);
    }
    if (fine && written != NULL) {
        sheet_print(&peers->sheet, written);
    }
    return fine;
}

// ---- all of it ----------------------------------------------------------------------------------

static bool run(struct section *section)
{
    struct nodes *nodes = &section->nodes;
    if (!node_start(nodes, NODE_ROOT, false) ||
        !rival_redis(&section->redis, "redis", nodes->directory, NULL)) {
        return false;
    }
    section->sockets[SIDE_ROOT] = nodes->node[NODE_ROOT].socket;
    section->sockets[SIDE_REDIS] = section->redis.socket;
    bool fine = true;
    for (size_t i = 0; fine && i < SIDE_COUNT; i++) {
        fine = put_small(section->sockets[i]);
    }
    struct peers *peers = section->peers;
    sheet_note(&peers->sheet,
               mem_format("writers: %d requests a second; qs syncs each write before it is "
                          "acknowledged, redis %s writes nothing to disk",
                          RATE, section->redis.version));
    sheet_note(&peers->sheet,
               mem_text("writers: Kyoto Tycoon itself, published in 2020 from another machine, ms: "
                        "p99 9, 154, 701 and p99.9 15, 250, 1215 with 0, 1, 2 writers"));
    for (unsigned writers = 0; fine && writers <= WRITERS_MAX; writers++) {
        fine = run_writers(section, writers);
    }
    return fine;
}

bool peers_writers(struct peers *peers)
{
    struct section *section = mem_zalloc(sizeof *section);
    section->peers = peers;
    bool fine = nodes_open(&section->nodes, NULL, peers->options->io, NULL);
    fine = fine && run(section);
    rival_stop(&section->redis);
    fine = nodes_close(&section->nodes, false) && fine;
    mem_free(section);
    return fine;
}
