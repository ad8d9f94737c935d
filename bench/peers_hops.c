// SPDX-License-Identifier: Apache-2.0
// From the moment when a write was due at the root to the moment when a reader at a leaf three
// hops away is told of it: qs, a root and a chain of three replicas, told by a watch; Redis, a
// primary and a chain of three replicas, told by key events. Each write once and in order, and
// afterwards each value as it was written. Nothing is bound to a core.
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/conn.h"
#include "bench/histogram.h"
#include "bench/interrupt.h"
#include "bench/peers.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/client/qs.h"

#define SECTION "hops: from a write at the root to a leaf three hops away"
#define CHAIN 4 // of Redis: a primary and three behind it
#define PREFIX "hop:"
#define KEY_BYTES 24
#define VALUE_BYTES 290
#define TELL_NS (10 * NS_PER_S) // after the last write was due
#define POLL_MS 100
#define CHECK_KEYS 50 // of one MGET
#define EVENTS "__keyevent@0__:set"

enum { SIDE_QS, SIDE_REDIS, SIDE_COUNT };
static const char *const names[SIDE_COUNT] = {"qs", "redis"};

struct chain {
    struct peers *peers;
    struct nodes nodes;
    struct rival redis[CHAIN];
    uint64_t written; // numbers below it have been written on both sides
};

// One side in one run.
struct run {
    const char *root, *leaf; // sockets
    uint64_t first, count;   // numbers
    uint64_t rate, began_ns;
    uint64_t told; // so many
    uint64_t faults;
    struct histogram latency;
    atomic_bool failed; // the writer
};

// ---- pairs --------------------------------------------------------------------------------------

static size_t hop_key(uint64_t number, char *to)
{
    return (size_t)snprintf(to, KEY_BYTES, PREFIX "%016llx", (unsigned long long)number);
}

static struct bytes hop_value(uint64_t number, uint8_t *to)
{
    struct draw draw = {.state = draw_mix(number)};
    for (size_t at = 0; at < VALUE_BYTES; at++) {
        to[at] = (uint8_t)draw_u64(&draw);
    }
    return bytes_of(to, VALUE_BYTES);
}

// ---- writing ------------------------------------------------------------------------------------

// Takes the answers that have come; all must be OK.
static bool take_answers(struct conn *conn, uint64_t *waiting)
{
    redisReply *reply = NULL;
    bool fine = conn_fill(conn);
    while (fine && (fine = conn_take(conn, &reply)) && reply != NULL) {
        fine = reply->type == REDIS_REPLY_STATUS;
        --*waiting;
        freeReplyObject(reply);
    }
    return fine;
}

static void *write_on(void *of)
{
    struct run *run = of;
    struct conn conn = {0};
    uint64_t sent = 0, waiting = 0;
    uint64_t end = run->began_ns + run->count * NS_PER_S / run->rate + TELL_NS;
    bool fine = conn_open(&conn, run->root);
    while (fine && (sent < run->count || waiting > 0)) {
        uint64_t now = clock_mono_ns();
        fine = now < end;
        for (; sent < run->count && run->began_ns + sent * NS_PER_S / run->rate <= now; sent++) {
            char key[KEY_BYTES];
            uint8_t value[VALUE_BYTES];
            size_t size = hop_key(run->first + sent, key);
            const struct bytes words[] = {bytes_text("SET"), bytes_of(key, size),
                                          hop_value(run->first + sent, value)};
            conn_send(&conn, ARRAY_LEN(words), words);
            waiting++;
        }
        uint64_t next = run->began_ns + sent * NS_PER_S / run->rate;
        struct timespec limit = {.tv_nsec = next > now ? (long)u64_min(next - now, NS_PER_MS) : 0};
        struct pollfd polled = {.fd = conn.fd, .events = POLLIN};
        fine = fine && conn_flush(&conn) && ppoll(&polled, 1, &limit, NULL) >= 0 &&
               ((polled.revents & POLLIN) == 0 || take_answers(&conn, &waiting));
    }
    atomic_store(&run->failed, !fine);
    conn_close(&conn);
    return NULL;
}

// ---- being told ---------------------------------------------------------------------------------

// A key that the leaf has shown at `now`: the next one, or it is wrong.
static void tell(struct run *run, struct bytes key, uint64_t now)
{
    char right[KEY_BYTES];
    size_t size = hop_key(run->first + run->told, right);
    if (!bytes_equal(key, bytes_of(right, size))) {
        run->faults++;
    }
    uint64_t due = run->began_ns + run->told * NS_PER_S / run->rate;
    histogram_add(&run->latency, now > due ? now - due : 0);
    run->told++;
}

static bool is_over(const struct run *run)
{
    uint64_t end = run->began_ns + run->count * NS_PER_S / run->rate + TELL_NS;
    return run->told >= run->count || clock_mono_ns() > end || atomic_load(&run->failed);
}

// Begins to write, once whoever is told listens.
static void begin(struct run *run, pthread_t *ret_writer)
{
    run->began_ns = clock_mono_ns() + NS_PER_MS;
    CHECK(pthread_create(ret_writer, NULL, write_on, run) == 0);
}

static bool follow_qs(struct run *run)
{
    char *address = mem_format("unix:%s", run->leaf);
    struct qs *qs = NULL;
    struct qs_watch *watch = NULL;
    struct qs_result *result = qs_result_new();
    bool fine = qs_open(&qs, address, NULL) == QS_OK &&
                qs_watch_open(&watch, qs, PREFIX, sizeof PREFIX - 1, NULL) == QS_OK &&
                qs_watch_next(watch, POLL_MS * 100, result) == QS_OK; // it has begun
    pthread_t writer;
    if (fine) {
        begin(run, &writer);
        while (fine && !is_over(run)) {
            int error = qs_watch_next(watch, POLL_MS, result);
            uint64_t now = clock_mono_ns();
            fine = error == QS_OK || error == QS_TIMEOUT;
            for (size_t i = 0; error == QS_OK && i < qs_count(result); i++) {
                struct qs_bytes key;
                fine = qs_key(result, i, &key) == QS_OK && fine;
                tell(run, bytes_of(key.data, key.size), now);
            }
        }
        pthread_join(writer, NULL);
    }
    if (!fine) {
        fprintf(stderr, "qs-bench: watching the leaf: %s\n", qs_last_error());
    }
    qs_result_free(result);
    qs_watch_close(watch);
    qs_close(qs);
    mem_free(address);
    return fine;
}

static bool ask(struct conn *conn, const char *text)
{
    struct bytes words[8];
    size_t count = bytes_words(text, words, ARRAY_LEN(words));
    redisReply *reply = conn_call(conn, TELL_NS, count, words);
    bool fine = reply != NULL && reply->type != REDIS_REPLY_ERROR;
    freeReplyObject(reply);
    return fine;
}

static bool take_events(struct conn *conn, struct run *run)
{
    redisReply *reply = NULL;
    bool fine = conn_fill(conn);
    uint64_t now = clock_mono_ns();
    while (fine && (fine = conn_take(conn, &reply)) && reply != NULL) {
        fine = reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 &&
               reply->element[2]->type == REDIS_REPLY_STRING;
        if (fine) {
            tell(run, bytes_of(reply->element[2]->str, reply->element[2]->len), now);
        }
        freeReplyObject(reply);
    }
    return fine;
}

static bool follow_redis(struct run *run)
{
    struct conn conn = {0};
    bool fine = conn_open(&conn, run->leaf) &&
                ask(&conn, "CONFIG SET notify-keyspace-events E$") &&
                ask(&conn, "SUBSCRIBE " EVENTS);
    pthread_t writer;
    if (fine) {
        begin(run, &writer);
        while (fine && !is_over(run)) {
            struct pollfd polled = {.fd = conn.fd, .events = POLLIN};
            poll(&polled, 1, POLL_MS);
            fine = polled.revents == 0 || take_events(&conn, run);
        }
        pthread_join(writer, NULL);
    }
    if (!fine) {
        fprintf(stderr, "qs-bench: the leaf of redis is lost\n");
    }
    conn_close(&conn);
    return fine;
}

// All values of the run as the leaf has them now.
static bool check_values(struct run *run)
{
    struct conn conn = {0};
    bool fine = conn_open(&conn, run->leaf);
    for (uint64_t done = 0; fine && done < run->count; done += CHECK_KEYS) {
        char keys[CHECK_KEYS][KEY_BYTES];
        struct bytes words[1 + CHECK_KEYS] = {bytes_text("MGET")};
        uint64_t count = u64_min(CHECK_KEYS, run->count - done);
        for (uint64_t i = 0; i < count; i++) {
            words[1 + i] = bytes_of(keys[i], hop_key(run->first + done + i, keys[i]));
        }
        redisReply *reply = conn_call(&conn, TELL_NS, 1 + count, words);
        fine = reply != NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements == count;
        for (uint64_t i = 0; fine && i < count; i++) {
            uint8_t value[VALUE_BYTES];
            const redisReply *row = reply->element[i];
            run->faults += row->type != REDIS_REPLY_STRING ||
                           !bytes_equal(bytes_of(row->str, row->len),
                                        hop_value(run->first + done + i, value));
        }
        freeReplyObject(reply);
    }
    conn_close(&conn);
    return fine;
}

// ---- rows ---------------------------------------------------------------------------------------

static const struct {
    const char *name;
    double share;
} percentiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}};
#define PERCENTILES ARRAY_LEN(percentiles)

static bool run_side(struct chain *chain, size_t side, uint64_t count, struct run *run)
{
    struct peers *peers = chain->peers;
    bool qs = side == SIDE_QS;
    run->root = qs ? chain->nodes.node[NODE_ROOT].socket : chain->redis[0].socket;
    run->leaf = qs ? chain->nodes.node[NODE_LEAF].socket : chain->redis[CHAIN - 1].socket;
    run->rate = peers->options->writes;
    run->first = chain->written;
    run->count = count;
    bool fine = (qs ? follow_qs : follow_redis)(run) && check_values(run);
    peers->answers += 2 * run->told;
    peers->faults += run->faults + (run->count - u64_min(run->count, run->told));
    if (run->faults > 0 || run->told != count || atomic_load(&run->failed)) {
        fprintf(stderr, "qs-bench: %s: %llu of %llu writes told, %llu wrong\n", names[side],
                (unsigned long long)run->told, (unsigned long long)count,
                (unsigned long long)run->faults);
        fine = false;
    }
    return fine && !interrupted();
}

static bool run_rounds(struct chain *chain)
{
    struct peers *peers = chain->peers;
    const struct peers_options *options = peers->options;
    struct sheet_row *rows[PERCENTILES];
    for (size_t i = 0; i < PERCENTILES; i++) {
        rows[i] = sheet_add(&peers->sheet, SECTION,
                            mem_format("%llu writes/s, %s", (unsigned long long)options->writes,
                                       percentiles[i].name),
                            "microseconds from when the write was due", SIDE_COUNT, names,
                            SIDE_REDIS);
    }
    uint64_t count = u64_max(1, options->writes * options->run_ms / 1000);
    bool fine = true;
    // Round 0 warms up.
    for (uint64_t round = 0; fine && round <= options->rounds; round++) {
        for (size_t i = 0; fine && i < SIDE_COUNT; i++) {
            size_t side = peers_turn(round, i, SIDE_COUNT);
            struct run *run = mem_zalloc(sizeof *run);
            fine = run_side(chain, side, count, run);
            for (size_t j = 0; round > 0 && j < PERCENTILES; j++) {
                uint64_t ns = histogram_ns(&run->latency, percentiles[j].share);
                sheet_put(rows[j], side, (double)ns / 1e3);
            }
            mem_free(run);
        }
        chain->written += count;
    }
    for (size_t i = 0; fine && i < PERCENTILES; i++) {
        sheet_print(&peers->sheet, rows[i]);
    }
    return fine;
}

// ---- all of it ----------------------------------------------------------------------------------

static bool start_all(struct chain *chain)
{
    static const int nodes[] = {NODE_ROOT, NODE_REPLICA, NODE_MIDDLE, NODE_LEAF};
    static const char *const rivals[CHAIN] = {"redis-1", "redis-2", "redis-3", "redis-4"};
    bool fine = true;
    for (size_t i = 0; fine && i < ARRAY_LEN(nodes); i++) {
        fine = node_start(&chain->nodes, nodes[i], false);
    }
    for (size_t i = 0; fine && i < CHAIN; i++) {
        fine = rival_redis(&chain->redis[i], rivals[i], chain->nodes.directory,
                           i > 0 ? &chain->redis[i - 1] : NULL);
    }
    return fine && nodes_settle(&chain->nodes);
}

bool peers_hops(struct peers *peers)
{
    struct chain *chain = mem_zalloc(sizeof *chain);
    chain->peers = peers;
    bool fine = nodes_open(&chain->nodes, NULL, peers->options->io, NULL) && start_all(chain);
    if (fine) {
        sheet_note(&peers->sheet,
                   mem_format("hops: values of %d bytes; a write of qs is on the root's disk "
                              "before it is sent, on the leaf's before it is shown; redis %s "
                              "writes nothing to disk",
                              VALUE_BYTES, chain->redis[0].version));
        fine = run_rounds(chain);
    }
    for (size_t i = CHAIN; i > 0; i--) {
        rival_stop(&chain->redis[i - 1]);
    }
    fine = nodes_close(&chain->nodes, false) && fine;
    mem_free(chain);
    return fine;
}
