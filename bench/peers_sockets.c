// SPDX-License-Identifier: Apache-2.0
// Look-ups over a unix socket: a root of qs that reads every value from its RocksDB, a proxy that
// holds every value and has room for all of them in its table of hot keys, Redis, memcached and,
// where it can be had, Valkey, all with the same pairs, one after another on the same core, the
// client on another. The qs daemons have one network thread, as the others have.
#include <stdio.h>

#include "bench/drive.h"
#include "bench/hot.h"
#include "bench/interrupt.h"
#include "bench/peers.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define SECTION "sockets: look-ups over a unix socket"
#define WARM_PART 8 // of a run, before each
#define TICK_NS (10 * NS_PER_MS)

enum { SIDE_ROOT, SIDE_PROXY, SIDE_REDIS, SIDE_MEMCACHED, SIDE_VALKEY, SIDE_COUNT };
static const char *const names[SIDE_COUNT] = {"qs root", "qs proxy", "redis", "memcached",
                                              "valkey"};

struct side {
    const char *socket;
    enum dialect dialect;
    pid_t process;
};

struct sockets {
    struct peers *peers;
    struct rival memcached, valkey;
    struct side sides[SIDE_COUNT];
    size_t count; // of sides: Valkey is the last one, and may be left out
    uint64_t hot_bytes; // of the proxy
    uint64_t sequences; // asked so far: each has a seed of its own
};

// ---- servers ------------------------------------------------------------------------------------

static bool start_memcached(struct sockets *sockets)
{
    struct peers *peers = sockets->peers;
    uint64_t began = clock_mono_ns();
    bool fine = rival_memcached(&sockets->memcached, peers->stage.nodes.directory,
                                peers->options->pairs) &&
                peers_store(peers, &sockets->memcached);
    peers->loading_ns += clock_mono_ns() - began;
    return fine;
}

// Loaded as Redis is, but later.
static bool start_valkey(struct sockets *sockets)
{
    struct peers *peers = sockets->peers;
    const char *program = peers->options->valkey;
    if (program == NULL || *program == '\0') {
        sockets->count = SIDE_VALKEY;
        return true;
    }
    uint64_t began = clock_mono_ns();
    sockets->count = SIDE_COUNT;
    bool fine = rival_valkey(&sockets->valkey, program, peers->stage.nodes.directory) &&
                peers_store(peers, &sockets->valkey);
    peers->loading_ns += clock_mono_ns() - began;
    return fine;
}

static void set_sides(struct sockets *sockets)
{
    const struct peers_stage *stage = &sockets->peers->stage;
    const struct node *root = &stage->nodes.node[NODE_ROOT];
    const struct node *proxy = &stage->nodes.node[NODE_PROXY];
    const struct rival *redis = &stage->redis, *memcached = &sockets->memcached;
    const struct rival *valkey = &sockets->valkey;
    sockets->sides[SIDE_ROOT] =
        (struct side){root->socket, DIALECT_RESP, root->process};
    sockets->sides[SIDE_PROXY] =
        (struct side){proxy->socket, DIALECT_RESP, proxy->process};
    sockets->sides[SIDE_REDIS] =
        (struct side){redis->socket, redis->dialect, redis->process};
    sockets->sides[SIDE_MEMCACHED] =
        (struct side){memcached->socket, memcached->dialect, memcached->process};
    sockets->sides[SIDE_VALKEY] =
        (struct side){valkey->socket, valkey->dialect, valkey->process};
}

static bool pin_all(struct sockets *sockets)
{
    struct peers *peers = sockets->peers;
    bool fine = true;
    for (size_t i = 0; i < sockets->count; i++) {
        fine = cores_pin(sockets->sides[i].process, peers->cores.first) && fine;
    }
    cores_pin_self(peers->cores.last);
    if (!fine) {
        fprintf(stderr, "qs-bench: a server cannot be bound to a core\n");
    }
    return fine;
}

static void note_servers(struct sockets *sockets)
{
    struct peers *peers = sockets->peers;
    const struct peers_options *options = peers->options;
    sheet_note(&peers->sheet,
               mem_format("sockets: servers on core %u, client on core %u; %llu connections to a "
                          "unix socket",
                          peers->cores.first, peers->cores.last,
                          (unsigned long long)options->connections));
    sheet_note(&peers->sheet,
               mem_format("qs: defaults but loops = 1, block_cache %.0f MB, pin_index; every write "
                          "synced; the root with hot_bytes = 0, all values read once before, the "
                          "proxy holds every value, hot_bytes %.0f MB, hot_entry %llu",
                          (double)peers->stage.cache_bytes / 1e6,
                          (double)sockets->hot_bytes / 1e6,
                          (unsigned long long)hot_entry(options->pairs)));
    sheet_note(&peers->sheet,
               mem_format("redis %s: no persistence, one thread; memcached %s: one thread, nothing "
                          "evicted",
                          peers->stage.redis.version, sockets->memcached.version));
    sheet_note(&peers->sheet,
               sockets->count > SIDE_VALKEY
                   ? mem_format("valkey %s: as redis", sockets->valkey.version)
                   : mem_text("Valkey could not be had, and is left out (--valkey names none)"));
}

// ---- one run ------------------------------------------------------------------------------------

// One side under one load, after a short one to warm caches; the server's time of a core in
// *ret_used_ns.
static bool run_side(struct sockets *sockets, const struct side *side,
                     const struct drive_options *load, struct drive_result *result,
                     uint64_t *ret_used_ns)
{
    struct drive_options options = *load;
    options.socket = side->socket;
    options.dialect = side->dialect;
    options.duration_ns = load->duration_ns / WARM_PART;
    options.seed = ~load->seed;
    struct drive_result *warm = mem_zalloc(sizeof *warm);
    bool fine = drive_run(&options, warm);
    fine = peers_count(sockets->peers, warm, fine);
    mem_free(warm);
    options.duration_ns = load->duration_ns;
    options.seed = load->seed;
    uint64_t before = cores_used_ns(side->process);
    fine = fine && !interrupted() && drive_run(&options, result);
    *ret_used_ns = u64_max(TICK_NS, cores_used_ns(side->process) - before);
    return fine && peers_count(sockets->peers, result, fine);
}

static struct drive_options load_of(struct sockets *sockets, enum drive_what what)
{
    const struct peers_options *options = sockets->peers->options;
    return (struct drive_options){
        .what = what,
        .pairs = options->pairs,
        .zipf = &sockets->peers->zipf,
        .connections = (unsigned)options->connections,
        .duration_ns = options->run_ms * NS_PER_MS,
    };
}

static struct sheet_row *add_row(struct sockets *sockets, char *what, const char *unit)
{
    return sheet_add(&sockets->peers->sheet, SECTION, what, unit, sockets->count, names,
                     SIDE_REDIS);
}

static const char *what_text(enum drive_what what)
{
    return what == DRIVE_ABSENT ? "absent keys" : "present keys, Zipf 0.99";
}

// ---- closed loop --------------------------------------------------------------------------------

// Limits that are set for qs, as ratios to the throughput of a core of Redis, and of Valkey.
static const struct limit {
    enum drive_what what;
    bool deep;
    size_t side;
    double least;
} limits[] = {
    {DRIVE_ABSENT, false, SIDE_ROOT, 1.5},  {DRIVE_ABSENT, false, SIDE_PROXY, 1.5},
    {DRIVE_ABSENT, true, SIDE_ROOT, 3.0},   {DRIVE_ABSENT, true, SIDE_PROXY, 3.0},
    {DRIVE_PRESENT, false, SIDE_ROOT, 0.7}, {DRIVE_PRESENT, true, SIDE_ROOT, 0.4},
    {DRIVE_PRESENT, false, SIDE_PROXY, 1.0}, {DRIVE_PRESENT, true, SIDE_PROXY, 1.0},
};

static void claim_closed(struct sheet *sheet, const struct sheet_row *row, enum drive_what what,
                         bool deep, size_t against)
{
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        if (limits[i].what == what && limits[i].deep == deep) {
            sheet_claim(sheet, row, limits[i].side, SHEET_LEAST, against, limits[i].least);
        }
    }
}

static bool run_closed(struct sockets *sockets, enum drive_what what, bool deep)
{
    struct peers *peers = sockets->peers;
    struct drive_options load = load_of(sockets, what);
    load.depth = deep ? (unsigned)peers->options->depth : 1;
    char *text = mem_format("%s, closed loop, depth %u", what_text(what), load.depth);
    struct sheet_row *of_core =
        add_row(sockets, text, "thousand look-ups per CPU second of the server");
    struct sheet_row *of_clock = add_row(sockets, mem_text(text), "thousand look-ups per second");
    bool fine = true;
    for (uint64_t round = 0; fine && round < peers->options->rounds; round++) {
        load.seed = ++sockets->sequences;
        for (size_t i = 0; fine && i < sockets->count; i++) {
            size_t side = peers_turn(round, i, sockets->count);
            struct drive_result *result = mem_zalloc(sizeof *result);
            uint64_t used_ns;
            fine = run_side(sockets, &sockets->sides[side], &load, result, &used_ns);
            double count = (double)result->count / 1e3;
            sheet_put(of_core, side, count / ((double)used_ns / 1e9));
            sheet_put(of_clock, side, count / ((double)u64_max(1, result->took_ns) / 1e9));
            mem_free(result);
        }
    }
    if (fine) {
        claim_closed(&peers->sheet, of_core, what, deep, SIDE_REDIS);
        if (sockets->count > SIDE_VALKEY) {
            claim_closed(&peers->sheet, of_core, what, deep, SIDE_VALKEY);
        }
        sheet_print(&peers->sheet, of_core);
        sheet_print(&peers->sheet, of_clock);
    }
    return fine;
}

// ---- open loop ----------------------------------------------------------------------------------

static const struct {
    const char *name;
    double share;
} percentiles[] = {{"p50", 0.5}, {"p99", 0.99}, {"p99.9", 0.999}};

// No worse than the other.
static void claim_open(struct sheet *sheet, const struct sheet_row *row, size_t against)
{
    sheet_claim(sheet, row, SIDE_ROOT, SHEET_NO_WORSE, against, 1);
    sheet_claim(sheet, row, SIDE_PROXY, SHEET_NO_WORSE, against, 1);
}

static bool run_open(struct sockets *sockets, enum drive_what what)
{
    struct peers *peers = sockets->peers;
    struct drive_options load = load_of(sockets, what);
    load.rate = peers->options->rate;
    struct sheet_row *rows[ARRAY_LEN(percentiles)];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        rows[i] = add_row(sockets,
                          mem_format("%s, open loop, %llu/s, %s", what_text(what),
                                     (unsigned long long)load.rate, percentiles[i].name),
                          "microseconds from when it was due");
    }
    bool fine = true;
    for (uint64_t round = 0; fine && round < peers->options->rounds; round++) {
        load.seed = ++sockets->sequences;
        for (size_t i = 0; fine && i < sockets->count; i++) {
            size_t side = peers_turn(round, i, sockets->count);
            struct drive_result *result = mem_zalloc(sizeof *result);
            uint64_t used_ns;
            fine = run_side(sockets, &sockets->sides[side], &load, result, &used_ns);
            for (size_t j = 0; j < ARRAY_LEN(rows); j++) {
                uint64_t ns = histogram_ns(&result->latency, percentiles[j].share);
                sheet_put(rows[j], side, (double)ns / 1e3);
            }
            mem_free(result);
        }
    }
    for (size_t i = 0; fine && i < ARRAY_LEN(rows); i++) {
        if (i + 1 == ARRAY_LEN(rows)) {
            claim_open(&peers->sheet, rows[i], SIDE_REDIS);
            if (sockets->count > SIDE_VALKEY) {
                claim_open(&peers->sheet, rows[i], SIDE_VALKEY);
            }
        }
        sheet_print(&peers->sheet, rows[i]);
    }
    return fine;
}

// ---- all of it ----------------------------------------------------------------------------------

static void tell_memory(struct sockets *sockets)
{
    struct sheet *sheet = &sockets->peers->sheet;
    struct sheet_row *row =
        add_row(sockets, mem_text("resident memory, all pairs loaded"),
                "MB, without the kernel's cache of files");
    for (size_t i = 0; i < sockets->count; i++) {
        sheet_put(row, i, (double)node_resident_bytes(sockets->sides[i].process) / 1e6);
    }
    sheet_print(sheet, row);
}

// What the proxy had to fetch would tell of the root, too.
static void tell_fetched(struct sockets *sockets, double fetched)
{
    struct sheet *sheet = &sockets->peers->sheet;
    struct sheet_row *row =
        sheet_add(sheet, SECTION, mem_text("values that the proxy did not hold"),
                  "look-ups of all above", 1, &names[SIDE_PROXY], 0);
    sheet_put(row, 0, fetched);
    sheet_print(sheet, row);
}

// The proxy's table begins with what it has room for, the root's cache with every block.
static bool start_all(struct sockets *sockets)
{
    struct peers *peers = sockets->peers;
    const struct pairs *pairs = peers->options->pairs;
    sockets->hot_bytes = hot_bytes_for(pairs);
    char *table = hot_options(pairs, sockets->hot_bytes, false);
    bool fine = peers_stage(peers, 0, "    hot_bytes = 0\n", table);
    mem_free(table);
    const struct node *nodes = peers->stage.nodes.node;
    uint64_t room = hot_room(pairs, sockets->hot_bytes);
    return fine && start_memcached(sockets) &&
           hot_blocks(&nodes[NODE_ROOT], pairs, &peers->answers) &&
           hot_fill(&nodes[NODE_PROXY], pairs, u64_min(room, pairs->count), &peers->answers);
}

static bool run(struct sockets *sockets)
{
    if (!start_all(sockets) || !start_valkey(sockets)) {
        return false;
    }
    set_sides(sockets);
    note_servers(sockets);
    const struct node *proxy = &sockets->peers->stage.nodes.node[NODE_PROXY];
    double before = node_metric(proxy, "fetch_misses");
    bool fine = pin_all(sockets);
    for (int deep = 0; fine && deep < 2; deep++) {
        fine = run_closed(sockets, DRIVE_ABSENT, deep) && run_closed(sockets, DRIVE_PRESENT, deep);
    }
    fine = fine && run_open(sockets, DRIVE_ABSENT) && run_open(sockets, DRIVE_PRESENT);
    if (fine) {
        tell_fetched(sockets, node_metric(proxy, "fetch_misses") - before);
        tell_memory(sockets);
    }
    return fine;
}

bool peers_sockets(struct peers *peers)
{
    struct sockets *sockets = mem_zalloc(sizeof *sockets);
    sockets->peers = peers;
    bool fine = run(sockets);
    rival_stop(&sockets->memcached);
    rival_stop(&sockets->valkey);
    mem_free(sockets);
    return fine;
}
