// SPDX-License-Identifier: Apache-2.0
// From the moment when a write was due at the root to the moment when a reader at a leaf three
// hops away is told of it: qs, a root and a chain of three replicas, told by a watch; Redis, a
// primary and a chain of three replicas, told by key events. Each write once and in order, and
// afterwards each value as it was written. etcd stands beside them without a hop: one member, told
// by its watch. As it does not do as many writes, all three are also asked for as many as it holds;
// as its writers are several, each write is told once, in any order. Nothing is bound to a core.
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/conn.h"
#include "bench/etcd.h"
#include "bench/hop.h"
#include "bench/interrupt.h"
#include "bench/peers.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/client/qs.h"

#define SECTION "hops: from a write at the root to a leaf three hops away"
#define CHAIN 4 // of Redis: a primary and three behind it
#define TELL_NS (10 * NS_PER_S) // after the last write was due
#define POLL_MS 100
#define CHECK_KEYS 50 // of one MGET
#define EVENTS "__keyevent@0__:set"
#define PUTTERS 16 // of etcd: connections with a put at a time
#define PROBES 3
#define PROBE_PUTS 2000

enum { SIDE_QS, SIDE_REDIS, SIDE_ETCD, SIDE_COUNT };
static const char *const names[SIDE_COUNT] = {"qs", "redis", "etcd, one member, no hops"};

struct chain {
    struct peers *peers;
    struct nodes nodes;
    struct rival redis[CHAIN], etcd;
    uint64_t written; // numbers below it have been written
};

// One side in one run.
struct run {
    const char *root, *leaf; // sockets
    unsigned port;           // of etcd
    struct hop_run hops;
};

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
    struct run *on = of;
    struct hop_run *run = &on->hops;
    struct conn conn = {0};
    uint64_t sent = 0, waiting = 0, end = hop_due_ns(run, run->count) + TELL_NS;
    bool fine = conn_open(&conn, on->root);
    while (fine && (sent < run->count || waiting > 0)) {
        uint64_t now = clock_mono_ns();
        fine = now < end;
        for (; sent < run->count && hop_due_ns(run, sent) <= now; sent++) {
            char key[HOP_KEY_BYTES];
            uint8_t value[HOP_VALUE_BYTES];
            size_t size = hop_key(run->first + sent, key);
            const struct bytes words[] = {bytes_text("SET"), bytes_of(key, size),
                                          hop_value(run->first + sent, value)};
            conn_send(&conn, ARRAY_LEN(words), words);
            waiting++;
        }
        uint64_t next = hop_due_ns(run, sent);
        struct timespec limit = {.tv_nsec = next > now ? (long)u64_min(next - now, NS_PER_MS) : 0};
        struct pollfd polled = {.fd = conn.fd, .events = POLLIN};
        fine = fine && conn_flush(&conn) && ppoll(&polled, 1, &limit, NULL) >= 0 &&
               ((polled.revents & POLLIN) == 0 || take_answers(&conn, &waiting));
    }
    atomic_store(&run->failed, !fine);
    conn_close(&conn);
    return NULL;
}

// One of etcd's connections: a put at a time, numbers are dealt out in order.
static void *put_on(void *of)
{
    struct run *on = of;
    struct hop_run *run = &on->hops;
    struct etcd *etcd = etcd_open(on->port, NULL, NULL);
    uint64_t n;
    bool fine = true;
    while (fine && !atomic_load(&run->failed) &&
           (n = atomic_fetch_add(&run->dealt, 1)) < run->count) {
        char key[HOP_KEY_BYTES];
        uint8_t value[HOP_VALUE_BYTES];
        size_t size = hop_key(run->first + n, key);
        struct bytes right = hop_value(run->first + n, value);
        uint64_t due = hop_due_ns(run, n), now = clock_mono_ns();
        if (due > now) {
            clock_sleep_ns(due - now);
        }
        fine = etcd_put(etcd, bytes_of(key, size), right);
    }
    if (!fine) {
        fprintf(stderr, "qs-bench: a put of etcd: %s\n", etcd_fault(etcd));
        atomic_store(&run->failed, true);
    }
    etcd_close(etcd);
    return NULL;
}

static void *put_all(void *of)
{
    pthread_t putters[PUTTERS];
    for (size_t i = 0; i < PUTTERS; i++) {
        CHECK(pthread_create(&putters[i], NULL, put_on, of) == 0);
    }
    for (size_t i = 0; i < PUTTERS; i++) {
        pthread_join(putters[i], NULL);
    }
    return NULL;
}

// ---- being told ---------------------------------------------------------------------------------

static bool is_over(const struct hop_run *run)
{
    return run->told >= run->count || clock_mono_ns() > hop_due_ns(run, run->count) + TELL_NS ||
           atomic_load(&run->failed);
}

// Begins to write, once whoever is told listens.
static void begin(struct run *run, void *(*write)(void *of), pthread_t *ret_writer)
{
    run->hops.began_ns = clock_mono_ns() + NS_PER_MS;
    CHECK(pthread_create(ret_writer, NULL, write, run) == 0);
}

static bool follow_qs(struct run *run)
{
    char *address = mem_format("unix:%s", run->leaf);
    struct qs *qs = NULL;
    struct qs_watch *watch = NULL;
    struct qs_result *result = qs_result_new();
    bool fine = qs_open(&qs, address, NULL) == QS_OK &&
                qs_watch_open(&watch, qs, HOP_FIRST, strlen(HOP_FIRST), NULL) == QS_OK &&
                qs_watch_next(watch, POLL_MS * 100, result) == QS_OK; // it has begun
    pthread_t writer;
    if (fine) {
        begin(run, write_on, &writer);
        while (fine && !is_over(&run->hops)) {
            int error = qs_watch_next(watch, POLL_MS, result);
            uint64_t now = clock_mono_ns();
            fine = error == QS_OK || error == QS_TIMEOUT;
            for (size_t i = 0; error == QS_OK && i < qs_count(result); i++) {
                struct qs_bytes key;
                fine = qs_key(result, i, &key) == QS_OK && fine;
                hop_tell(&run->hops, bytes_of(key.data, key.size), now);
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
            hop_tell(&run->hops, bytes_of(reply->element[2]->str, reply->element[2]->len), now);
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
        begin(run, write_on, &writer);
        while (fine && !is_over(&run->hops)) {
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

static void tell_pair(void *of, struct bytes key, struct bytes value)
{
    hop_tell_pair(of, key, value, clock_mono_ns());
}

static bool follow_etcd(struct run *run)
{
    struct etcd *etcd = etcd_open(run->port, tell_pair, &run->hops);
    bool fine = etcd_watch(etcd, bytes_text(HOP_FIRST), bytes_text(HOP_END));
    pthread_t writer;
    if (fine) {
        begin(run, put_all, &writer);
        while (fine && !is_over(&run->hops)) {
            fine = etcd_wait(etcd, POLL_MS);
        }
        pthread_join(writer, NULL);
    }
    if (!fine) {
        fprintf(stderr, "qs-bench: watching etcd: %s\n", etcd_fault(etcd));
    }
    etcd_close(etcd);
    return fine;
}

// ---- values -------------------------------------------------------------------------------------

// All values of the run as the leaf has them now.
static bool check_values(struct run *on)
{
    struct hop_run *run = &on->hops;
    struct conn conn = {0};
    bool fine = conn_open(&conn, on->leaf);
    for (uint64_t done = 0; fine && done < run->count; done += CHECK_KEYS) {
        char keys[CHECK_KEYS][HOP_KEY_BYTES];
        struct bytes words[1 + CHECK_KEYS] = {bytes_text("MGET")};
        uint64_t count = u64_min(CHECK_KEYS, run->count - done);
        for (uint64_t i = 0; i < count; i++) {
            words[1 + i] = bytes_of(keys[i], hop_key(run->first + done + i, keys[i]));
        }
        redisReply *reply = conn_call(&conn, TELL_NS, 1 + count, words);
        fine = reply != NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements == count;
        for (uint64_t i = 0; fine && i < count; i++) {
            uint8_t value[HOP_VALUE_BYTES];
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

// The same of etcd, by ranges that hold as many keys.
static bool check_etcd(struct run *on)
{
    struct hop_run found = {.first = on->hops.first, .count = on->hops.count, .rate = 1};
    found.seen = mem_zalloc(found.count * sizeof *found.seen);
    struct etcd *etcd = etcd_open(on->port, tell_pair, &found);
    bool fine = true;
    for (uint64_t done = 0; fine && done < found.count; done += CHECK_KEYS) {
        char first[HOP_KEY_BYTES], end[HOP_KEY_BYTES];
        uint64_t next = u64_min(done + CHECK_KEYS, found.count);
        fine = etcd_range(etcd, bytes_of(first, hop_key(found.first + done, first)),
                          bytes_of(end, hop_key(found.first + next, end)));
    }
    if (!fine) {
        fprintf(stderr, "qs-bench: reading etcd: %s\n", etcd_fault(etcd));
    }
    on->hops.faults += found.faults + (found.count - found.told);
    etcd_close(etcd);
    mem_free(found.seen);
    return fine;
}

// ---- runs ---------------------------------------------------------------------------------------

static const struct {
    bool (*follow)(struct run *run);
    bool (*check)(struct run *run);
} calls[SIDE_COUNT] = {
    [SIDE_QS] = {follow_qs, check_values},
    [SIDE_REDIS] = {follow_redis, check_values},
    [SIDE_ETCD] = {follow_etcd, check_etcd},
};

static struct run *run_new(const struct chain *chain, size_t side, uint64_t count, uint64_t rate)
{
    struct run *run = mem_zalloc(sizeof *run);
    bool qs = side == SIDE_QS;
    run->root = qs ? chain->nodes.node[NODE_ROOT].socket : chain->redis[0].socket;
    run->leaf = qs ? chain->nodes.node[NODE_LEAF].socket : chain->redis[CHAIN - 1].socket;
    run->port = chain->etcd.port;
    run->hops.first = chain->written;
    run->hops.count = count;
    run->hops.rate = rate;
    run->hops.seen = mem_zalloc(count * sizeof *run->hops.seen);
    return run;
}

static void run_free(struct run *run)
{
    mem_free(run->hops.seen);
    mem_free(run);
}

static bool run_side(struct peers *peers, size_t side, struct run *on)
{
    const struct hop_run *run = &on->hops;
    bool fine = calls[side].follow(on) && calls[side].check(on);
    peers->answers += 2 * run->told;
    peers->faults += run->faults + (run->count - u64_min(run->count, run->told));
    if (run->faults > 0 || run->told != run->count || atomic_load(&run->failed)) {
        fprintf(stderr, "qs-bench: %s: %llu of %llu writes told, %llu wrong\n", names[side],
                (unsigned long long)run->told, (unsigned long long)run->count,
                (unsigned long long)run->faults);
        fine = false;
    }
    return fine && !interrupted();
}

// What etcd can do in a closed loop: the best of some runs, the first of which warms it up.
static bool probe_etcd(struct chain *chain, uint64_t *ret_most)
{
    uint64_t most = 0;
    bool fine = true;
    for (size_t i = 0; fine && i < PROBES; i++) {
        // All of it is due at once.
        struct run *run = run_new(chain, SIDE_ETCD, PROBE_PUTS, NS_PER_S);
        fine = run_side(chain->peers, SIDE_ETCD, run);
        chain->written += PROBE_PUTS;
        if (fine) {
            most = u64_max(most, PROBE_PUTS * NS_PER_S / (run->hops.told_ns - run->hops.began_ns));
        }
        run_free(run);
    }
    *ret_most = most;
    return fine;
}

// ---- rows ---------------------------------------------------------------------------------------

static const struct {
    const char *name;
    double share;
} percentiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}};
#define PERCENTILES ARRAY_LEN(percentiles)

// What the first so many sides are asked, and its rows.
struct load {
    uint64_t rate;
    size_t sides;
    struct sheet_row *rows[PERCENTILES];
};

static void add_rows(struct sheet *sheet, struct load *load)
{
    for (size_t i = 0; i < PERCENTILES; i++) {
        load->rows[i] = sheet_add(
            sheet, SECTION,
            mem_format("%llu writes/s%s, %s", (unsigned long long)load->rate,
                       load->sides > SIDE_ETCD ? ", which etcd holds" : "", percentiles[i].name),
            "microseconds from when the write was due", load->sides, names, SIDE_REDIS);
    }
}

// Round 0 warms up.
static bool run_load(struct chain *chain, const struct load *load, uint64_t round)
{
    uint64_t count = u64_max(1, load->rate * chain->peers->options->run_ms / 1000);
    bool fine = true;
    for (size_t i = 0; fine && i < load->sides; i++) {
        size_t side = peers_turn(round, i, load->sides);
        struct run *run = run_new(chain, side, count, load->rate);
        fine = run_side(chain->peers, side, run);
        for (size_t j = 0; round > 0 && j < PERCENTILES; j++) {
            uint64_t ns = histogram_ns(&run->hops.latency, percentiles[j].share);
            sheet_put(load->rows[j], side, (double)ns / 1e3);
        }
        run_free(run);
    }
    chain->written += count;
    return fine;
}

static bool run_rounds(struct chain *chain, uint64_t etcd_rate)
{
    struct sheet *sheet = &chain->peers->sheet;
    const struct peers_options *options = chain->peers->options;
    struct load loads[] = {{.rate = options->writes, .sides = SIDE_ETCD},
                           {.rate = etcd_rate, .sides = SIDE_COUNT}};
    bool fine = true;
    for (size_t i = 0; i < ARRAY_LEN(loads); i++) {
        add_rows(sheet, &loads[i]);
    }
    for (uint64_t round = 0; fine && round <= options->rounds; round++) {
        for (size_t i = 0; fine && i < ARRAY_LEN(loads); i++) {
            fine = run_load(chain, &loads[i], round);
        }
    }
    for (size_t i = 0; fine && i < ARRAY_LEN(loads) * PERCENTILES; i++) {
        sheet_print(sheet, loads[i / PERCENTILES].rows[i % PERCENTILES]);
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
    return fine && rival_etcd(&chain->etcd, chain->nodes.directory) && nodes_settle(&chain->nodes);
}

// Says who does what, and runs it.
static bool measure(struct chain *chain)
{
    struct peers *peers = chain->peers;
    sheet_note(&peers->sheet,
               mem_format("hops: values of %d bytes; a write of qs is on the root's disk before it "
                          "is sent, on the leaf's before it is shown; redis %s writes nothing to "
                          "disk",
                          HOP_VALUE_BYTES, chain->redis[0].version));
    uint64_t most = 0;
    if (!probe_etcd(chain, &most)) {
        return false;
    }
    uint64_t rate = u64_max(1, u64_min(hop_rate(most), peers->options->writes));
    sheet_note(&peers->sheet,
               mem_format("hops: etcd %s: one member, no hops, each put synced, all by its JSON "
                          "gateway; in a closed loop %d connections with a put at a time did %llu "
                          "a second, so it is asked for %llu",
                          chain->etcd.version, PUTTERS, (unsigned long long)most,
                          (unsigned long long)rate));
    return run_rounds(chain, rate);
}

bool peers_hops(struct peers *peers)
{
    struct chain *chain = mem_zalloc(sizeof *chain);
    chain->peers = peers;
    bool fine = nodes_open(&chain->nodes, NULL, peers->options->io, NULL) && start_all(chain) &&
                measure(chain);
    rival_stop(&chain->etcd);
    for (size_t i = CHAIN; i > 0; i--) {
        rival_stop(&chain->redis[i - 1]);
    }
    fine = nodes_close(&chain->nodes, false) && fine;
    mem_free(chain);
    return fine;
}
