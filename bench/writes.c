// SPDX-License-Identifier: Apache-2.0
#include "bench/writes.h"

#include <poll.h>
#include <stdio.h>

#include "bench/conn.h"
#include "bench/pairs.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define LOAD_PAIRS 500   // pairs of one MSET
#define LOAD_REQUESTS 32 // ... of which so many may wait for their answer
#define WAITING_MAX 20000
#define ANSWER_LIMIT_NS (60 * NS_PER_S)
#define TURN_MS 1000

// Takes replies that are there; false: an error reply or a lost connection.
static bool take_all(struct conn *conn, uint64_t *waiting)
{
    redisReply *reply = NULL;
    while (conn_take(conn, &reply)) {
        if (reply == NULL) {
            return true;
        }
        bool fine = reply->type != REDIS_REPLY_ERROR;
        if (!fine) {
            fprintf(stderr, "qs-bench: a write failed: %s\n", reply->str);
        }
        freeReplyObject(reply);
        if (!fine) {
            return false;
        }
        --*waiting;
    }
    return false;
}

// Sends what is queued, waits for at most `limit_ms` and takes what has come.
static bool turn(struct conn *conn, uint64_t *waiting, int limit_ms)
{
    if (!conn_flush(conn)) {
        return false;
    }
    struct pollfd polled = {.fd = conn->fd, .events = POLLIN};
    polled.events |= (short)(conn_unsent(conn) ? POLLOUT : 0);
    poll(&polled, 1, limit_ms);
    if ((polled.revents & ~POLLOUT) == 0) {
        return true;
    }
    return conn_fill(conn) && take_all(conn, waiting);
}

// Waits until at most `most` answers are missing.
static bool finish(struct conn *conn, uint64_t *waiting, uint64_t most)
{
    uint64_t end = clock_mono_ns() + ANSWER_LIMIT_NS;
    while (*waiting > most && clock_mono_ns() < end && turn(conn, waiting, TURN_MS)) {
    }
    if (*waiting > most) {
        fprintf(stderr, "qs-bench: the root does not answer\n");
    }
    return *waiting <= most;
}

// ---- the whole data -----------------------------------------------------------------------------

struct pair {
    char key[PAIR_KEY_BYTES];
    uint8_t value[PAIR_VALUE_BYTES_MAX];
};

static void send_some(struct conn *conn, const struct writes_options *options, uint64_t first,
                      uint64_t count, struct pair *pairs)
{
    struct bytes words[1 + 2 * LOAD_PAIRS] = {bytes_text("MSET")};
    for (uint64_t i = 0; i < count; i++) {
        pair_key(options->seed, first + i, pairs[i].key);
        pair_value(options->seed, first + i, 0, pairs[i].value, options->value_bytes);
        words[1 + 2 * i] = bytes_of(pairs[i].key, sizeof pairs[i].key);
        words[2 + 2 * i] = bytes_of(pairs[i].value, options->value_bytes);
    }
    conn_send(conn, 1 + 2 * count, words);
}

bool writes_all(const struct writes_options *options)
{
    struct conn conn = {0};
    struct pair *pairs = mem_alloc(LOAD_PAIRS * sizeof *pairs);
    uint64_t waiting = 0;
    bool fine = conn_open(&conn, options->socket);
    for (uint64_t next = 0; fine && next < options->pairs; next += LOAD_PAIRS) {
        send_some(&conn, options, next, u64_min(LOAD_PAIRS, options->pairs - next), pairs);
        waiting++;
        fine = finish(&conn, &waiting, LOAD_REQUESTS);
    }
    fine = fine && finish(&conn, &waiting, 0);
    conn_close(&conn);
    mem_free(pairs);
    return fine;
}

// ---- at a fixed rate ----------------------------------------------------------------------------

static void send_one(struct conn *conn, const struct writes_options *options, struct draw *draw,
                     uint64_t generation, struct pair *pair)
{
    uint64_t number = draw_below(draw, options->pairs);
    pair_key(options->seed, number, pair->key);
    pair_value(options->seed, number, generation, pair->value, options->value_bytes);
    struct bytes words[] = {
        bytes_text("SET"),
        bytes_of(pair->key, sizeof pair->key),
        bytes_of(pair->value, options->value_bytes),
    };
    conn_send(conn, ARRAY_LEN(words), words);
}

static void *write_on(void *of)
{
    struct writes *writes = of;
    const struct writes_options *options = &writes->options;
    struct conn conn = {0};
    struct pair *pair = mem_alloc(sizeof *pair);
    struct draw draw = {.state = options->seed + 1};
    uint64_t began = clock_mono_ns();
    uint64_t sent = 0, waiting = 0;
    bool fine = conn_open(&conn, options->socket);
    while (fine && !atomic_load(&writes->stop)) {
        double due = (double)(clock_mono_ns() - began) / 1e9 * (double)options->rate;
        for (; (double)sent < due && waiting < WAITING_MAX; sent++, waiting++) {
            send_one(&conn, options, &draw, sent + 1, pair);
        }
        fine = turn(&conn, &waiting, 1);
        if (waiting == 0) {
            clock_sleep_ns(NS_PER_MS / 2);
        }
    }
    fine = fine && finish(&conn, &waiting, 0);
    writes->took_ns = clock_mono_ns() - began;
    writes->done = sent - waiting;
    writes->failed = !fine;
    conn_close(&conn);
    mem_free(pair);
    return NULL;
}

void writes_start(struct writes *writes, const struct writes_options *options)
{
    *writes = (struct writes){.options = *options};
    if (options->rate > 0) {
        CHECK(pthread_create(&writes->thread, NULL, write_on, writes) == 0);
    }
}

bool writes_stop(struct writes *writes, double *ret_rate)
{
    *ret_rate = 0;
    if (writes->options.rate == 0) {
        return true;
    }
    atomic_store(&writes->stop, true);
    pthread_join(writes->thread, NULL);
    if (writes->took_ns > 0) {
        *ret_rate = (double)writes->done / ((double)writes->took_ns / 1e9);
    }
    return !writes->failed;
}
