// SPDX-License-Identifier: Apache-2.0
// How fast a replica and a proxy apply what they missed, beside the same calls of the store alone
// (bench/floor.h) in the same round. A node is away while the root takes writes of one kind; it is
// started, alone, and catches up. Its rate is entries over its own time of applying; what it
// wrote to the disk from its start to its end stands beside the bytes that the entries change.
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "bench/conn.h"
#include "bench/floor.h"
#include "bench/interrupt.h"
#include "bench/peers.h"
#include "bench/writes.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define SECTION "apply: catching up, beside the store alone"
#define PAIRS_PART 10
#define PAIRS_MOST 300000 // of one kind in a round
#define LEAST 0.6         // of the floor
#define DISK_BLOCK 512    // the unit of ru_oublock
#define FIRST_BATCH 1000
#define ANSWER_NS (60 * NS_PER_S)

enum { SIDE_REPLICA, SIDE_PROXY, SIDE_FLOOR_REPLICA, SIDE_FLOOR_PROXY, SIDE_COUNT };
static const char *const names[SIDE_COUNT] = {"qs replica", "qs proxy", "floor of a replica",
                                              "floor of a proxy"};
static const int node_of[] = {[SIDE_REPLICA] = NODE_REPLICA, [SIDE_PROXY] = NODE_PROXY};
#define NODES 2

static const char *const kinds[FLOOR_KINDS] = {
    [FLOOR_OVERWRITE] = "overwrites", [FLOOR_INSERT] = "inserts", [FLOOR_DELETE] = "deletes"};

struct rows {
    struct sheet_row *applied, *caught_up, *written;
};

struct apply {
    struct peers *peers;
    struct nodes nodes;
    struct floor *floors[SIDE_COUNT];
    uint64_t count;      // entries of one kind in a round
    uint64_t generation; // of values
    struct rows rows[FLOOR_KINDS];
};

static double disk_bytes(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_CHILDREN, &usage) == 0);
    return (double)usage.ru_oublock * DISK_BLOCK;
}

// Index and digest of all keys and versions, as text; NULL: no answer. Owned by the caller.
static char *digest_of(const struct node *node)
{
    redisReply *reply = conn_ask(node->socket, ANSWER_NS, "QS.DIGEST");
    char *text = NULL;
    if (reply != NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements >= 2 &&
        reply->element[0]->type == REDIS_REPLY_INTEGER &&
        reply->element[1]->type == REDIS_REPLY_STRING) {
        text = mem_format("%lld %s", reply->element[0]->integer, reply->element[1]->str);
    }
    freeReplyObject(reply);
    return text;
}

static bool has_the_same(struct apply *apply, int which)
{
    struct peers *peers = apply->peers;
    char *root = digest_of(&apply->nodes.node[NODE_ROOT]);
    char *node = digest_of(&apply->nodes.node[which]);
    bool same = root != NULL && node != NULL && strcmp(root, node) == 0;
    peers->answers++;
    peers->faults += !same;
    if (!same) {
        fprintf(stderr, "qs-bench: the %s has %s, the root %s\n", apply->nodes.node[which].name,
                node != NULL ? node : "no digest", root != NULL ? root : "no digest");
    }
    mem_free(root);
    mem_free(node);
    return same;
}

// ---- one kind in one round ----------------------------------------------------------------------

// New values of the first numbers; the numbers behind them come and go.
static uint64_t first_of(const struct apply *apply, enum floor_kind kind)
{
    return kind == FLOOR_OVERWRITE ? 0 : apply->count;
}

static bool write_at_root(struct apply *apply, enum floor_kind kind)
{
    const struct writes_options options = {
        .socket = apply->nodes.node[NODE_ROOT].socket,
        .pairs = apply->peers->options->pairs,
        .first = first_of(apply, kind),
        .count = apply->count,
        .generation = ++apply->generation,
        .ends = kind == FLOOR_DELETE,
    };
    return writes_all(&options);
}

static double changed_bytes(const struct apply *apply, enum floor_kind kind)
{
    const struct pairs *pairs = apply->peers->options->pairs;
    uint64_t bytes = pairs->key_bytes + (kind == FLOOR_DELETE ? 0 : pairs->value_bytes);
    return (double)bytes / (double)pairs->count * (double)apply->count;
}

// *ret_batch = entries that came in one block.
static bool run_node(struct apply *apply, enum floor_kind kind, size_t side, double *ret_batch)
{
    struct nodes *nodes = &apply->nodes;
    const struct node *node = &nodes->node[node_of[side]];
    struct rows *rows = &apply->rows[kind];
    uint64_t began = clock_mono_ns();
    double disk = disk_bytes();
    bool fine = node_start(nodes, node_of[side], false) && nodes_settle(nodes);
    double took_ns = (double)(clock_mono_ns() - began);
    char *metrics = fine ? node_metrics(node) : NULL;
    fine = metrics != NULL && has_the_same(apply, node_of[side]);
    if (fine) {
        double entries = metrics_value(metrics, "entries_applied");
        double blocks = metrics_value(metrics, "blocks");
        *ret_batch = entries / (blocks > 0 ? blocks : 1);
        sheet_put(rows->applied, side, entries / metrics_value(metrics, "apply_ns") * 1e6);
        sheet_put(rows->caught_up, side, (double)apply->count / took_ns * 1e6);
    }
    mem_free(metrics);
    fine = (node->process == 0 || node_stop(nodes, node_of[side])) && fine;
    sheet_put(rows->written, side, (disk_bytes() - disk) / changed_bytes(apply, kind));
    return fine;
}

static bool run_floor(struct apply *apply, enum floor_kind kind, size_t side, double batch)
{
    const struct floor_work work = {
        .kind = kind,
        .pairs = apply->peers->options->pairs,
        .first = first_of(apply, kind),
        .count = apply->count,
        .batch = u64_max(1, (uint64_t)batch),
    };
    uint64_t took_ns;
    bool fine = floor_run(apply->floors[side], &work, &took_ns);
    sheet_put(apply->rows[kind].applied, side, (double)apply->count / (double)took_ns * 1e6);
    return fine;
}

static bool run_kind(struct apply *apply, enum floor_kind kind, uint64_t round)
{
    bool fine = write_at_root(apply, kind);
    double batch = 0;
    for (size_t i = 0; fine && i < NODES; i++) {
        fine = run_node(apply, kind, peers_turn(round, i, NODES), &batch);
    }
    for (size_t i = SIDE_FLOOR_REPLICA; fine && i < SIDE_COUNT; i++) {
        fine = run_floor(apply, kind, i, batch);
    }
    return fine && !interrupted();
}

// ---- all of it ----------------------------------------------------------------------------------

static void add_rows(struct apply *apply)
{
    struct sheet *sheet = &apply->peers->sheet;
    for (size_t kind = 0; kind < FLOOR_KINDS; kind++) {
        apply->rows[kind] = (struct rows){
            .applied = sheet_add(sheet, SECTION, mem_format("%s, applying", kinds[kind]),
                                 "thousand entries per second of applying", SIDE_COUNT, names,
                                 SIDE_FLOOR_REPLICA),
            .caught_up = sheet_add(sheet, SECTION, mem_format("%s, catching up", kinds[kind]),
                                   "thousand entries per second from the process's start", NODES,
                                   names, SIDE_REPLICA),
            .written = sheet_add(sheet, SECTION, mem_format("%s, to the disk", kinds[kind]),
                                 "bytes for each byte of keys and values changed, journal included",
                                 NODES, names, SIDE_REPLICA),
        };
    }
}

static void tell_rows(struct apply *apply)
{
    struct sheet *sheet = &apply->peers->sheet;
    for (size_t kind = 0; kind < FLOOR_KINDS; kind++) {
        const struct rows *rows = &apply->rows[kind];
        sheet_claim(sheet, rows->applied, SIDE_REPLICA, SHEET_LEAST, SIDE_FLOOR_REPLICA, LEAST);
        sheet_claim(sheet, rows->applied, SIDE_PROXY, SHEET_LEAST, SIDE_FLOOR_PROXY, LEAST);
        sheet_print(sheet, rows->applied);
        sheet_print(sheet, rows->caught_up);
        sheet_print(sheet, rows->written);
    }
}

static bool open_floor(struct apply *apply, size_t side, enum floor_role role)
{
    char *path = mem_format("%s/%s", apply->nodes.directory, names[side]);
    if (mkdir(path, 0700) == 0) {
        apply->floors[side] = floor_open(role, path);
    }
    mem_free(path);
    const struct floor_work work = {
        .kind = FLOOR_INSERT,
        .pairs = apply->peers->options->pairs,
        .count = apply->count,
        .batch = FIRST_BATCH,
    };
    uint64_t ignored;
    return apply->floors[side] != NULL && floor_run(apply->floors[side], &work, &ignored);
}

// What is overwritten first is everywhere.
static bool open_all(struct apply *apply)
{
    struct nodes *nodes = &apply->nodes;
    struct writes_options all = {.pairs = apply->peers->options->pairs, .count = apply->count};
    nodes->source = NODE_ROOT;
    for (size_t i = 0; i < NODE_COUNT; i++) {
        nodes->own[i] = "    memtable = " FLOOR_MEMTABLE "\n";
    }
    all.socket = nodes->node[NODE_ROOT].socket;
    return node_start(nodes, NODE_ROOT, false) && node_start(nodes, NODE_REPLICA, false) &&
           node_start(nodes, NODE_PROXY, false) && writes_all(&all) && nodes_settle(nodes) &&
           node_stop(nodes, NODE_REPLICA) && node_stop(nodes, NODE_PROXY) &&
           open_floor(apply, SIDE_FLOOR_REPLICA, FLOOR_REPLICA) &&
           open_floor(apply, SIDE_FLOOR_PROXY, FLOOR_PROXY);
}

static bool run(struct apply *apply)
{
    struct peers *peers = apply->peers;
    sheet_note(&peers->sheet,
               mem_format("apply: %llu entries of each kind in a round; digests compared with the "
                          "root's after each",
                          (unsigned long long)apply->count));
    bool fine = open_all(apply);
    add_rows(apply);
    for (uint64_t round = 0; fine && round < peers->options->rounds; round++) {
        for (size_t kind = 0; fine && kind < FLOOR_KINDS; kind++) {
            fine = run_kind(apply, (enum floor_kind)kind, round);
        }
    }
    if (fine) {
        tell_rows(apply);
    }
    return fine;
}

bool peers_apply(struct peers *peers)
{
    struct apply *apply = mem_zalloc(sizeof *apply);
    apply->peers = peers;
    apply->count = u64_min(PAIRS_MOST, peers->options->pairs->count / PAIRS_PART);
    bool fine = nodes_open(&apply->nodes, NULL, peers->options->io, NULL) && run(apply);
    for (size_t i = 0; i < SIDE_COUNT; i++) {
        if (apply->floors[i] != NULL) {
            floor_close(apply->floors[i]);
        }
    }
    fine = nodes_close(&apply->nodes, false) && fine;
    mem_free(apply);
    return fine;
}
