// SPDX-License-Identifier: Apache-2.0
#include "bench/load.h"

#include <poll.h>
#include <stdio.h>
#include <time.h>

#include "bench/conn.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define DRAIN_NS (10 * NS_PER_S)
// Look-ups of one connection that wait for their answer; beyond it the role has lost.
#define WAITING_MAX 16384
#define WARM_KEYS 50 // of one MGET: the largest values fit into a reply, too

struct asked {
    struct lookup lookup;
    uint64_t due_ns;
};

// A connection and what it still has to answer, a ring in the order of asking.
struct lane {
    struct conn conn;
    struct asked *asked;
    unsigned first, count;
};

struct load {
    const struct load_options *options;
    struct load_result *result;
    struct lane lanes[LOAD_CONNECTIONS_MAX];
    unsigned turn;
    uint64_t waiting;
};

// ---- one answer ---------------------------------------------------------------------------------

static void fault(struct load_result *result, const char *what, const struct lookup *lookup)
{
    if (result->fault[0] == '\0') {
        snprintf(result->fault, sizeof result->fault, "%s (%s key %llu)", what,
                 lookup->present ? "present" : "absent", (unsigned long long)lookup->number);
    }
}

static void judge(const struct load_options *options, const struct lookup *lookup,
                  const redisReply *reply, struct load_result *result)
{
    if (reply->type == REDIS_REPLY_ERROR) {
        result->errors++;
        fault(result, reply->str, lookup);
        return;
    }
    bool right = lookup->present
                     ? reply->type == REDIS_REPLY_STRING &&
                           pair_value_fits(options->pairs, lookup->number,
                                           bytes_of(reply->str, reply->len))
                     : reply->type == REDIS_REPLY_NIL;
    if (!right) {
        result->wrong++;
        fault(result, "wrong answer", lookup);
    }
}

static void ask(struct conn *conn, const struct pairs *pairs, uint64_t number)
{
    char key[PAIR_KEY_BYTES_MAX];
    struct bytes words[] = {bytes_text("GET"), bytes_of(key, pair_key(pairs, number, key))};
    conn_send(conn, ARRAY_LEN(words), words);
}

// ---- the open loop ------------------------------------------------------------------------------

static void answered(struct load *load, struct lane *lane, const redisReply *reply, uint64_t now)
{
    CHECK(lane->count > 0);
    const struct asked *asked = &lane->asked[lane->first];
    uint64_t took = now > asked->due_ns ? now - asked->due_ns : 0;
    struct load_result *result = load->result;
    result->firsts += asked->lookup.first ? 1 : 0;
    histogram_add(&result->all, took);
    histogram_add(asked->lookup.present ? &result->present : &result->absent, took);
    judge(load->options, &asked->lookup, reply, result);
    lane->first = (lane->first + 1) % WAITING_MAX;
    lane->count--;
    load->waiting--;
}

// A lane that fails loses what it was asked, and is asked nothing more.
static void lane_lose(struct load *load, struct lane *lane)
{
    if (lane->count > 0) {
        fault(load->result, "no answer", &lane->asked[lane->first].lookup);
    }
    load->result->lost += lane->count;
    load->waiting -= lane->count;
    lane->count = 0;
    conn_close(&lane->conn);
}

static void lane_read(struct load *load, struct lane *lane)
{
    bool fine = conn_fill(&lane->conn);
    uint64_t now = clock_mono_ns();
    redisReply *reply = NULL;
    while (fine && (fine = conn_take(&lane->conn, &reply)) && reply != NULL) {
        answered(load, lane, reply, now);
        freeReplyObject(reply);
    }
    if (!fine) {
        lane_lose(load, lane);
    }
}

static void send_one(struct load *load, struct lookup lookup, uint64_t due_ns)
{
    struct lane *lane = &load->lanes[load->turn];
    load->turn = (load->turn + 1) % load->options->connections;
    if (!lane->conn.open || lane->count == WAITING_MAX) {
        load->result->lost++;
        fault(load->result, "not asked", &lookup);
        return;
    }
    ask(&lane->conn, load->options->pairs, lookup.number);
    unsigned last = (lane->first + lane->count) % WAITING_MAX;
    lane->asked[last] = (struct asked){.lookup = lookup, .due_ns = due_ns};
    lane->count++;
    load->waiting++;
}

static void wait_and_read(struct load *load, uint64_t until_ns)
{
    struct pollfd fds[LOAD_CONNECTIONS_MAX];
    for (unsigned i = 0; i < load->options->connections; i++) {
        struct lane *lane = &load->lanes[i];
        if (lane->conn.open && conn_unsent(&lane->conn) && !conn_flush(&lane->conn)) {
            lane_lose(load, lane);
        }
        short out = lane->conn.open && conn_unsent(&lane->conn) ? POLLOUT : 0;
        fds[i] = (struct pollfd){
            .fd = lane->conn.open ? lane->conn.fd : -1,
            .events = (short)(POLLIN | out),
        };
    }
    uint64_t now = clock_mono_ns();
    uint64_t left = until_ns > now ? until_ns - now : 0;
    struct timespec limit = {
        .tv_sec = (time_t)(left / NS_PER_S),
        .tv_nsec = (long)(left % NS_PER_S),
    };
    ppoll(fds, load->options->connections, &limit, NULL);
    for (unsigned i = 0; i < load->options->connections; i++) {
        if ((fds[i].revents & ~POLLOUT) != 0) {
            lane_read(load, &load->lanes[i]);
        }
    }
}

static bool open_lanes(struct load *load)
{
    CHECK(load->options->connections <= LOAD_CONNECTIONS_MAX);
    for (unsigned i = 0; i < load->options->connections; i++) {
        struct lane *lane = &load->lanes[i];
        lane->asked = mem_alloc(WAITING_MAX * sizeof *lane->asked);
        if (!conn_open(&lane->conn, load->options->socket)) {
            return false;
        }
    }
    return true;
}

static void close_lanes(struct load *load)
{
    for (unsigned i = 0; i < load->options->connections; i++) {
        lane_lose(load, &load->lanes[i]);
        mem_free(load->lanes[i].asked);
    }
}

bool load_run(struct lookups *lookups, const struct load_options *options,
              struct load_result *result)
{
    struct load *load = mem_zalloc(sizeof *load);
    load->options = options;
    load->result = result;
    bool opened = open_lanes(load);
    uint64_t began = clock_mono_ns();
    uint64_t total = (uint64_t)((double)options->duration_ns / 1e9 * (double)options->rate);
    uint64_t sent = 0;
    uint64_t due_ns = began;
    while (opened && sent < total) {
        for (; sent < total && due_ns <= clock_mono_ns(); sent++) {
            send_one(load, lookups_next(lookups), due_ns);
            due_ns = began + (sent + 1) * NS_PER_S / options->rate;
        }
        wait_and_read(load, due_ns);
    }
    uint64_t end = clock_mono_ns() + DRAIN_NS;
    while (load->waiting > 0 && clock_mono_ns() < end) {
        wait_and_read(load, end);
    }
    close_lanes(load);
    mem_free(load);
    return opened;
}

// ---- one after another --------------------------------------------------------------------------

bool load_each(const struct load_options *options, uint64_t first, uint64_t count,
               struct histogram *histogram, struct load_result *result)
{
    struct conn conn = {0};
    bool fine = conn_open(&conn, options->socket);
    for (uint64_t i = first; fine && i < first + count; i++) {
        char key[PAIR_KEY_BYTES_MAX];
        struct bytes words[] = {bytes_text("GET"), bytes_of(key, pair_key(options->pairs, i, key))};
        uint64_t began = clock_mono_ns();
        redisReply *reply = conn_call(&conn, DRAIN_NS, ARRAY_LEN(words), words);
        histogram_add(histogram, clock_mono_ns() - began);
        fine = reply != NULL;
        if (fine) {
            judge(options, &(struct lookup){.number = i, .present = true}, reply, result);
        }
        freeReplyObject(reply);
    }
    conn_close(&conn);
    return fine;
}

// ---- warming ------------------------------------------------------------------------------------

bool load_warm(const struct load_options *options, uint64_t count, struct load_result *result)
{
    struct conn conn = {0};
    bool fine = conn_open(&conn, options->socket);
    for (uint64_t first = 0; fine && first < count; first += WARM_KEYS) {
        char keys[WARM_KEYS][PAIR_KEY_BYTES_MAX];
        struct bytes words[1 + WARM_KEYS] = {bytes_text("MGET")};
        uint64_t size = u64_min(WARM_KEYS, count - first);
        for (uint64_t i = 0; i < size; i++) {
            words[1 + i] = bytes_of(keys[i], pair_key(options->pairs, first + i, keys[i]));
        }
        redisReply *reply = conn_call(&conn, DRAIN_NS, 1 + size, words);
        fine = reply != NULL;
        for (uint64_t i = 0; fine && i < size; i++) {
            struct lookup lookup = {.number = first + i, .present = true};
            bool row = reply->type == REDIS_REPLY_ARRAY && reply->elements == size;
            judge(options, &lookup, row ? reply->element[i] : reply, result);
        }
        freeReplyObject(reply);
    }
    conn_close(&conn);
    return fine;
}
