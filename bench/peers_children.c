// SPDX-License-Identifier: Apache-2.0
// What it costs a source to feed 64 children: a root of qs and a primary of Redis, under the same
// writes, with 64 of them and with none; the difference is the fan-out. The children are this
// program (drains.h). The source has a core of its own, writer and children share another.
#include <stdio.h>

#include "bench/conn.h"
#include "bench/drains.h"
#include "bench/interrupt.h"
#include "bench/peers.h"
#include "bench/writes.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define SECTION "children: one source, 64 that it feeds"

#define FED_LIMIT_NS (30 * NS_PER_S)
#define FED_LOOK_NS (50 * NS_PER_MS)

enum { SIDE_QS, SIDE_REDIS, SIDE_COUNT };
static const char *const names[SIDE_COUNT] = {"qs", "redis"};
enum { ROW_ALL, ROW_NONE, ROW_SHARE, ROW_BYTE, ROW_COUNT };

struct family {
    struct peers *peers;
    struct nodes nodes;
    struct rival redis;
    struct sheet_row *rows[ROW_COUNT];
};

// One source under writes for a while.
struct stretch {
    uint64_t writes; // acknowledged
    uint64_t used_ns;
    uint64_t bytes; // that its children received
};

static pid_t process_of(const struct family *family, size_t side)
{
    return side == SIDE_QS ? family->nodes.node[NODE_ROOT].process : family->redis.process;
}

// So many does the source itself feed.
static unsigned fed(const struct family *family, size_t side)
{
    if (side == SIDE_QS) {
        return (unsigned)node_metric(&family->nodes.node[NODE_ROOT], "children");
    }
    unsigned count = 0;
    redisReply *reply = conn_ask(family->redis.socket, NS_PER_S, "INFO replication");
    const char *at = reply != NULL && reply->type == REDIS_REPLY_STRING ? reply->str : "";
    while ((at = strstr(at, "state=online")) != NULL) {
        at++;
        count++;
    }
    freeReplyObject(reply);
    return count;
}

static bool await_fed(const struct family *family, size_t side, unsigned count)
{
    uint64_t end = clock_mono_ns() + FED_LIMIT_NS;
    unsigned now;
    while ((now = fed(family, side)) != count && clock_mono_ns() < end) {
        clock_sleep_ns(FED_LOOK_NS);
    }
    if (now != count) {
        fprintf(stderr, "qs-bench: %s feeds %u children, not %u\n", names[side], now, count);
    }
    return now == count;
}

static bool open_children(struct family *family, size_t side, unsigned count,
                          struct drains *drains)
{
    bool fine = side == SIDE_QS
                    ? drains_open_qs(drains, count, family->nodes.node[NODE_ROOT].peer_port)
                    : drains_open_redis(drains, count, family->redis.port);
    return fine && await_fed(family, side, count) && drains_settle(drains);
}

// Every child was sent every write, or it is an error: keys can be compressed, values cannot.
static void count_bytes(struct family *family, const struct drains *drains,
                        const uint64_t *before, struct stretch *stretch)
{
    const struct pairs *pairs = family->peers->options->pairs;
    uint64_t least = stretch->writes * (pairs->value_bytes / pairs->count);
    for (unsigned i = 0; i < drains->count; i++) {
        uint64_t bytes = drains_bytes(drains, i) - before[i];
        family->peers->answers++;
        family->peers->faults += bytes < least ? 1 : 0;
        stretch->bytes += bytes;
    }
}

static bool write_for_a_while(struct family *family, size_t side, struct stretch *stretch)
{
    const struct peers_options *options = family->peers->options;
    struct writes_options what = {
        .socket = side == SIDE_QS ? family->nodes.node[NODE_ROOT].socket : family->redis.socket,
        .pairs = options->pairs,
        .count = options->pairs->count,
        .rate = options->writes,
    };
    struct writes writes;
    double rate;
    writes_start(&writes, &what);
    clock_sleep_ns(options->run_ms * NS_PER_MS);
    bool fine = writes_stop(&writes, &rate);
    stretch->writes = writes.done;
    return fine && writes.done > 0;
}

static bool run(struct family *family, size_t side, unsigned count, struct stretch *stretch)
{
    *stretch = (struct stretch){0};
    struct drains *drains = mem_zalloc(sizeof *drains);
    uint64_t before[DRAINS_MAX];
    bool fine = open_children(family, side, count, drains);
    for (unsigned i = 0; i < drains->count; i++) {
        before[i] = drains_bytes(drains, i);
    }
    uint64_t used_ns = cores_used_ns(process_of(family, side));
    fine = fine && write_for_a_while(family, side, stretch) && drains_settle(drains);
    stretch->used_ns = cores_used_ns(process_of(family, side)) - used_ns;
    count_bytes(family, drains, before, stretch);
    drains_close(drains);
    mem_free(drains);
    return fine && !interrupted();
}

// ---- rows ---------------------------------------------------------------------------------------

static void put(struct family *family, size_t side, const struct stretch *with,
                const struct stretch *without)
{
    double each = (double)with->used_ns / (double)with->writes;
    double alone = (double)without->used_ns / (double)without->writes;
    double fed_ns = (each - alone) * (double)with->writes;
    sheet_put(family->rows[ROW_ALL], side, each / 1e3);
    sheet_put(family->rows[ROW_NONE], side, alone / 1e3);
    sheet_put(family->rows[ROW_SHARE], side, (each - alone) / DRAINS_MAX);
    sheet_put(family->rows[ROW_BYTE], side, fed_ns * 1e3 / (double)with->bytes);
}

static bool run_rounds(struct family *family)
{
    const struct peers_options *options = family->peers->options;
    bool fine = true;
    // Round 0 warms up.
    for (uint64_t round = 0; fine && round <= options->rounds; round++) {
        for (size_t i = 0; fine && i < SIDE_COUNT; i++) {
            size_t side = peers_turn(round, i, SIDE_COUNT);
            struct stretch with, without;
            fine = run(family, side, DRAINS_MAX, &with) && run(family, side, 0, &without);
            if (fine && round > 0) {
                put(family, side, &with, &without);
            }
        }
    }
    return fine;
}

static bool report(struct family *family)
{
    static const char *const questions[ROW_COUNT][2] = {
        [ROW_ALL] = {"with 64 children", "CPU microseconds of the source for one write"},
        [ROW_NONE] = {"without any", "CPU microseconds of the source for one write"},
        [ROW_SHARE] = {"for one child", "CPU nanoseconds of the source for one write"},
        [ROW_BYTE] = {"for one byte sent to a child", "CPU picoseconds of the source"},
    };
    struct peers *peers = family->peers;
    unsigned long long rate = peers->options->writes;
    for (size_t i = 0; i < ROW_COUNT; i++) {
        char *what = mem_format("%llu writes/s, %s", rate, questions[i][0]);
        family->rows[i] = sheet_add(&peers->sheet, SECTION, what, questions[i][1], SIDE_COUNT,
                                    names, SIDE_REDIS);
    }
    bool fine = run_rounds(family);
    for (size_t i = 0; fine && i < ROW_COUNT; i++) {
        if (i >= ROW_SHARE) {
            sheet_claim(&peers->sheet, family->rows[i], SIDE_QS, SHEET_NO_WORSE, SIDE_REDIS, 1.0);
        }
        sheet_print(&peers->sheet, family->rows[i]);
    }
    return fine;
}

// ---- all of it ----------------------------------------------------------------------------------

static bool start_all(struct family *family)
{
    const struct cores *cores = &family->peers->cores;
    family->nodes.more = "loops = 1\n";
    family->nodes.own[NODE_ROOT] = "    children_max = 0\n";
    bool fine = node_start(&family->nodes, NODE_ROOT, false) &&
                rival_redis(&family->redis, "redis", family->nodes.directory, NULL);
    for (size_t i = 0; fine && i < SIDE_COUNT; i++) {
        fine = cores_pin(process_of(family, i), cores->first);
    }
    cores_pin_self(cores->last);
    return fine;
}

bool peers_children(struct peers *peers)
{
    struct family *family = mem_zalloc(sizeof *family);
    family->peers = peers;
    bool fine = nodes_open(&family->nodes, NULL, peers->options->io, NULL) && start_all(family);
    if (fine) {
        sheet_note(&peers->sheet, mem_format("children: qs writes its log to disk and applies it; "
                                             "redis %s writes nothing to disk",
                                             family->redis.version));
        fine = report(family);
    }
    rival_stop(&family->redis);
    fine = nodes_close(&family->nodes, false) && fine;
    mem_free(family);
    return fine;
}
