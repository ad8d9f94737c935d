// SPDX-License-Identifier: Apache-2.0
#include "bench/writes.h"

#include <poll.h>
#include <stdio.h>

#include "bench/conn.h"
#include "bench/interrupt.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define LOAD_PAIRS 500       // pairs of one MSET
#define LOAD_BYTES (4 * MIB) // ... and their bytes
#define LOAD_REQUESTS 32     // ... of which so many may wait for their answer
#define PAIR_BYTES_MAX (PAIR_KEY_BYTES_MAX + PAIR_VALUE_BYTES_MAX)
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

// A pair into `to`, which has room for PAIR_BYTES_MAX: two words; a key that is not in the data
// gets the value of another one. Returns what it took.
static size_t put_pair(const struct pairs *pairs, uint64_t number, uint64_t generation, uint8_t *to,
                       struct bytes *words)
{
    words[0] = bytes_of(to, pair_key(pairs, number, (char *)to));
    to += words[0].size;
    words[1] = bytes_of(to, pair_value(pairs, number % pairs->count, generation, to));
    return words[0].size + words[1].size;
}

// One MSET or DEL of the pairs from the next one on, as many as fit; returns how many.
static uint64_t send_some(struct conn *conn, const struct writes_options *options, uint64_t next,
                          uint8_t *room)
{
    struct bytes words[2 + 2 * LOAD_PAIRS] = {bytes_text(options->ends ? "DEL" : "MSET")};
    size_t step = options->ends ? 1 : 2; // the next key takes the place of a value
    uint64_t most = u64_min(LOAD_PAIRS, options->count - next), count = 0;
    for (size_t used = 0; count < most && used + PAIR_BYTES_MAX <= LOAD_BYTES; count++) {
        used += put_pair(options->pairs, options->first + next + count, options->generation,
                         room + used, &words[1 + step * count]);
    }
    conn_send(conn, 1 + step * count, words);
    return count;
}

bool writes_all(const struct writes_options *options)
{
    struct conn conn = {0};
    uint8_t *room = mem_alloc(LOAD_BYTES);
    uint64_t next = 0, waiting = 0;
    bool fine = conn_open(&conn, options->socket);
    while (fine && next < options->count && !interrupted()) {
        next += send_some(&conn, options, next, room);
        waiting++;
        fine = finish(&conn, &waiting, LOAD_REQUESTS);
    }
    fine = fine && finish(&conn, &waiting, 0);
    conn_close(&conn);
    mem_free(room);
    return fine && next == options->count;
}

// ---- at a fixed rate ----------------------------------------------------------------------------

// The sent-th write.
static void send_one(struct conn *conn, const struct writes_options *options, struct draw *draw,
                     uint64_t sent, uint8_t *room)
{
    enum { OVERWRITE, INSERT, DELETE, KINDS };
    uint64_t kind = options->churn ? sent % KINDS : OVERWRITE;
    uint64_t number = kind == OVERWRITE ? draw_below(draw, options->count)
                                        : options->fresh + sent / KINDS;
    struct bytes words[3] = {bytes_text(kind == DELETE ? "DEL" : "SET")};
    put_pair(options->pairs, number, sent + 1, room, &words[1]);
    conn_send(conn, kind == DELETE ? 2 : 3, words);
}

static void *write_on(void *of)
{
    struct writes *writes = of;
    const struct writes_options *options = &writes->options;
    struct conn conn = {0};
    uint8_t *room = mem_alloc(PAIR_BYTES_MAX);
    struct draw draw = {.state = options->pairs->options.seed + 1};
    uint64_t began = clock_mono_ns();
    uint64_t sent = 0, waiting = 0;
    bool fine = conn_open(&conn, options->socket);
    while (fine && !atomic_load(&writes->stop)) {
        double due = (double)(clock_mono_ns() - began) / 1e9 * (double)options->rate;
        for (; (double)sent < due && waiting < WAITING_MAX; sent++, waiting++) {
            send_one(&conn, options, &draw, sent, room);
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
    mem_free(room);
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
