// SPDX-License-Identifier: Apache-2.0
// What a look-up costs one client that makes them one after another: by libqs from memory that a
// daemon shares, with a tenth of the data's bytes for hot keys (the root) or with room for all
// values (the proxy); by libqs over the root's socket; in LMDB and RocksDB in this process; in
// Redis over its socket. Where there is a server it has the first core, and the client the last or
// the same. A client of memory looks for a while for what it had to ask the socket for before it
// sleeps; one more sleeps at once, and one more of Redis looks: what that brings is to be seen.
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench/hot.h"
#include "bench/lookups.h"
#include "bench/interrupt.h"
#include "bench/peers.h"
#include "bench/timing.h"
#include "bench/writes.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define SECTION "engines: one client's look-ups, one after another"
#define WARM_PART 8          // of a run, before each
#define HOT_PART 10          // of the data's bytes
#define BUSY_US 100          // of two cores one is the daemon's
#define MAP_LOOKUPS 64       // after which libqs has mapped what the daemon shares
#define OF_LOOKUPS 100000.0  // unit of the share that goes on to the socket
#define CHURN 10000          // writes a second
#define CHURN_LEAST 0.95     // of them
#define CHURN_MOST 1.3       // times the mean without them

enum {
    DOOR_HOT,
    DOOR_ALL,
    DOOR_SOCKET,
    DOOR_LMDB,
    DOOR_ROCKSDB,
    DOOR_REDIS,
    DOOR_TOLD, // the memory of those before; those that follow are others to the same
    DOOR_HOT_ASLEEP = DOOR_TOLD,
    DOOR_REDIS_AWAKE,
    DOOR_COUNT,
};
static const char *const door_names[DOOR_TOLD] = {
    "libqs, 10 % mapped", "libqs, all mapped",  "libqs by its socket",
    "LMDB in process",    "RocksDB in process", "redis",
};

enum {
    HOT_TWO,
    HOT_ONE,
    ALL_TWO,
    ALL_ONE,
    SOCKET_TWO,
    SOCKET_ONE,
    LMDB,
    ROCKSDB,
    REDIS_TWO,
    REDIS_ONE,
    HOT_ASLEEP,
    REDIS_AWAKE,
    SIDE_COUNT
};
static const struct side {
    const char *name;
    size_t door;
    bool one_core;
} sides[SIDE_COUNT] = {
    [HOT_TWO] = {"libqs, 10 % mapped, two cores", DOOR_HOT, false},
    [HOT_ONE] = {"libqs, 10 % mapped, one core", DOOR_HOT, true},
    [ALL_TWO] = {"libqs, all mapped, two cores", DOOR_ALL, false},
    [ALL_ONE] = {"libqs, all mapped, one core", DOOR_ALL, true},
    [SOCKET_TWO] = {"libqs by its socket, two cores", DOOR_SOCKET, false},
    [SOCKET_ONE] = {"libqs by its socket, one core", DOOR_SOCKET, true},
    [LMDB] = {"LMDB in process", DOOR_LMDB, false},
    [ROCKSDB] = {"RocksDB in process", DOOR_ROCKSDB, false},
    [REDIS_TWO] = {"redis, two cores", DOOR_REDIS, false},
    [REDIS_ONE] = {"redis, one core", DOOR_REDIS, true},
    [HOT_ASLEEP] = {"libqs, 10 % mapped, two cores, sleeps at once", DOOR_HOT_ASLEEP, false},
    [REDIS_AWAKE] = {"redis, two cores, looks before it sleeps", DOOR_REDIS_AWAKE, false},
};

enum { FIGURE_MEAN, FIGURE_P50, FIGURE_P99, FIGURE_COUNT };
static const char *const figure_names[FIGURE_COUNT] = {"mean", "p50", "p99"};

// Loads, and who is asked.
static const size_t mixed_sides[] = {HOT_TWO,    HOT_ONE, ALL_TWO, ALL_ONE,   SOCKET_TWO,
                                     SOCKET_ONE, LMDB,    ROCKSDB, REDIS_TWO, REDIS_ONE,
                                     HOT_ASLEEP, REDIS_AWAKE};
static const size_t every_side[] = {HOT_TWO, HOT_ONE, ALL_TWO, ALL_ONE,   SOCKET_TWO, SOCKET_ONE,
                                    LMDB,    ROCKSDB, REDIS_TWO, REDIS_ONE};
static const size_t mapped_sides[] = {ALL_TWO, HOT_TWO};
static const struct load {
    enum drive_what what;
    const char *text;
    const size_t *sides;
    size_t count;
    size_t base; // place among them
} loads[] = {
    {DRIVE_MIXED, "10 absent to 1 present, Zipf 0.99", mixed_sides, ARRAY_LEN(mixed_sides), 8},
    {DRIVE_ABSENT, "absent keys alone", every_side, ARRAY_LEN(every_side), 8},
    {DRIVE_PRESENT, "present keys alone, Zipf 0.99", every_side, ARRAY_LEN(every_side), 8},
    {DRIVE_ABSENT_ZIPF, "absent keys alone, Zipf 0.99", mapped_sides, ARRAY_LEN(mapped_sides), 0},
};

// Limits that were set for qs: of times, and of how many times as fast.
static const struct limit {
    enum drive_what what;
    size_t figure, side;
    enum sheet_kind kind;
    size_t against;
    double limit;
} limits[] = {
    {DRIVE_MIXED, FIGURE_MEAN, HOT_TWO, SHEET_FASTER, REDIS_TWO, 60},
    {DRIVE_MIXED, FIGURE_MEAN, HOT_TWO, SHEET_FASTER, REDIS_AWAKE, 60},
    {DRIVE_MIXED, FIGURE_MEAN, HOT_ASLEEP, SHEET_FASTER, REDIS_TWO, 60},
    {DRIVE_MIXED, FIGURE_MEAN, ALL_TWO, SHEET_FASTER, REDIS_TWO, 200},
    {DRIVE_MIXED, FIGURE_MEAN, ALL_ONE, SHEET_FASTER, REDIS_ONE, 20},
    {DRIVE_MIXED, FIGURE_MEAN, ALL_TWO, SHEET_FASTER, LMDB, 5},
    {DRIVE_MIXED, FIGURE_MEAN, ALL_TWO, SHEET_FASTER, ROCKSDB, 3},
    {DRIVE_ABSENT, FIGURE_MEAN, HOT_TWO, SHEET_FASTER, LMDB, 5},
    {DRIVE_ABSENT, FIGURE_MEAN, HOT_TWO, SHEET_FASTER, ROCKSDB, 2},
    {DRIVE_ABSENT, FIGURE_P50, HOT_TWO, SHEET_FIGURE_MOST, HOT_TWO, 200},
    {DRIVE_ABSENT, FIGURE_P99, HOT_TWO, SHEET_FIGURE_MOST, HOT_TWO, 700},
};

struct engines {
    struct peers *peers;
    struct door doors[DOOR_COUNT];
    double anonymous[DOOR_COUNT], shared[DOOR_COUNT], file[DOOR_COUNT]; // bytes of memory
    uint64_t hot_bytes[DOOR_COUNT];
    uint64_t sequences;
    bool changing; // somebody writes
    uint64_t fresh; // of keys that are written and deleted again
};

// ---- one run ------------------------------------------------------------------------------------

static const struct node *node_of(const struct engines *engines, size_t door)
{
    const struct node *node = engines->peers->stage.nodes.node;
    return door == DOOR_ALL ? &node[NODE_PROXY]
           : door == DOOR_HOT || door == DOOR_SOCKET || door == DOOR_HOT_ASLEEP ? &node[NODE_ROOT]
                                                                                 : NULL;
}

static bool is_mapped(size_t door) { return door == DOOR_HOT || door == DOOR_ALL; }

static bool time_side(struct engines *engines, const struct side *side,
                      const struct drive_options *load, struct timing *timing)
{
    const struct timing_options options = {
        .name = side->name, .load = load, .changing = engines->changing};
    bool fine = timing_run(&engines->doors[side->door], &options, timing);
    engines->peers->answers += timing->count;
    engines->peers->faults += timing->faults;
    return fine && !interrupted();
}

// After a short one to warm caches; *ret_asked = look-ups that a daemon was asked, of OF_LOOKUPS.
static bool run_side(struct engines *engines, const struct side *side,
                     const struct drive_options *load, struct timing *timing, double *ret_asked)
{
    const struct cores *cores = &engines->peers->cores;
    const struct node *node = is_mapped(side->door) ? node_of(engines, side->door) : NULL;
    cores_pin_self(side->one_core ? cores->first : cores->last);
    struct drive_options warm = *load;
    warm.seed = ~load->seed;
    warm.duration_ns /= WARM_PART;
    struct timing *ignored = mem_zalloc(sizeof *ignored);
    bool fine = time_side(engines, side, &warm, ignored);
    mem_free(ignored);
    double before = node != NULL ? node_metric(node, "reads") : 0;
    fine = fine && time_side(engines, side, load, timing);
    double asked = node != NULL ? node_metric(node, "reads") - before : 0;
    *ret_asked = asked / (double)u64_max(1, timing->count) * OF_LOOKUPS;
    return fine;
}

// A sequence of its own for each run: who is asked the same again has it on its board by then.
static struct drive_options load_of(struct engines *engines, enum drive_what what)
{
    struct peers *peers = engines->peers;
    return (struct drive_options){
        .what = what,
        .pairs = peers->options->pairs,
        .zipf = &peers->zipf,
        .seed = ++engines->sequences,
        .duration_ns = peers->options->run_ms * NS_PER_MS,
    };
}

static void put_figures(struct sheet_row *const *rows, size_t at, const struct timing *timing)
{
    sheet_put(rows[FIGURE_MEAN], at, timing_mean_ns(timing));
    sheet_put(rows[FIGURE_P50], at, (double)histogram_ns(&timing->latency, 0.5));
    sheet_put(rows[FIGURE_P99], at, (double)histogram_ns(&timing->latency, 0.99));
}

// ---- rows ---------------------------------------------------------------------------------------

static size_t place_of(const struct load *load, size_t side)
{
    size_t place = 0;
    while (place < load->count && load->sides[place] != side) {
        place++;
    }
    CHECK(place < load->count);
    return place;
}

static void claim(struct engines *engines, const struct load *load, struct sheet_row *const *rows)
{
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        const struct limit *limit = &limits[i];
        if (limit->what == load->what) {
            sheet_claim(&engines->peers->sheet, rows[limit->figure], place_of(load, limit->side),
                        limit->kind, place_of(load, limit->against), limit->limit);
        }
    }
}

static void add_rows(struct engines *engines, const struct load *load, struct sheet_row **rows)
{
    const char *names[SIDE_COUNT];
    for (size_t i = 0; i < load->count; i++) {
        names[i] = sides[load->sides[i]].name;
    }
    for (size_t i = 0; i < FIGURE_COUNT; i++) {
        rows[i] = sheet_add(&engines->peers->sheet, SECTION,
                            mem_format("%s, %s", load->text, figure_names[i]),
                            "nanoseconds of a look-up", load->count, names, load->base);
    }
}

static struct sheet_row *add_asked(struct engines *engines, const struct load *load)
{
    static const char *const names[] = {"libqs, 10 % mapped", "libqs, all mapped"};
    return sheet_add(&engines->peers->sheet, SECTION,
                     mem_format("%s, went on to the socket", load->text), "of 100,000 look-ups",
                     ARRAY_LEN(names), names, 0);
}

static bool run_load(struct engines *engines, const struct load *load)
{
    struct peers *peers = engines->peers;
    struct sheet_row *rows[FIGURE_COUNT], *asked_row;
    add_rows(engines, load, rows);
    asked_row = add_asked(engines, load);
    bool fine = true;
    for (uint64_t round = 0; fine && round < peers->options->rounds; round++) {
        for (size_t i = 0; fine && i < load->count; i++) {
            struct drive_options of = load_of(engines, load->what);
            size_t at = peers_turn(round, i, load->count), side = load->sides[at];
            struct timing *timing = mem_zalloc(sizeof *timing);
            double asked;
            fine = run_side(engines, &sides[side], &of, timing, &asked);
            put_figures(rows, at, timing);
            if (side == HOT_TWO || side == ALL_TWO) {
                sheet_put(asked_row, side == ALL_TWO, asked);
            }
            mem_free(timing);
        }
    }
    if (fine) {
        claim(engines, load, rows);
        for (size_t i = 0; i < FIGURE_COUNT; i++) {
            sheet_print(&peers->sheet, rows[i]);
        }
        sheet_print(&peers->sheet, asked_row);
    }
    return fine;
}

// ---- beside writes ------------------------------------------------------------------------------

// A run with somebody who writes at the root, on the servers' core.
static bool run_beside_writes(struct engines *engines, const struct side *side,
                              const struct drive_options *load, struct timing *timing,
                              double *ret_rate)
{
    struct peers *peers = engines->peers;
    const struct writes_options options = {
        .socket = peers->stage.nodes.node[NODE_ROOT].socket,
        .pairs = load->pairs,
        .count = load->pairs->count,
        .rate = CHURN,
        .churn = true,
        .fresh = engines->fresh,
    };
    struct writes writes;
    double asked;
    engines->changing = true;
    cores_pin_self(peers->cores.first);
    writes_start(&writes, &options);
    bool fine = run_side(engines, side, load, timing, &asked);
    fine = writes_stop(&writes, ret_rate) && fine;
    engines->fresh += writes.done;
    return fine;
}

static bool run_round(struct engines *engines, uint64_t round, struct sheet_row *row,
                      struct sheet_row *written)
{
    // Each without writes and with them, in the order of the row's sides.
    static const size_t asked_sides[] = {HOT_TWO, HOT_TWO, ALL_TWO, ALL_TWO};
    bool fine = true;
    for (size_t i = 0; fine && i < ARRAY_LEN(asked_sides); i++) {
        struct drive_options load = load_of(engines, DRIVE_MIXED);
        size_t at = peers_turn(round, i, ARRAY_LEN(asked_sides));
        const struct side *side = &sides[asked_sides[at]];
        struct timing *timing = mem_zalloc(sizeof *timing);
        double value;
        if (at % 2 == 0) {
            fine = run_side(engines, side, &load, timing, &value);
        } else {
            fine = run_beside_writes(engines, side, &load, timing, &value);
            sheet_put(written, at / 2, value);
        }
        sheet_put(row, at, timing_mean_ns(timing));
        mem_free(timing);
    }
    return fine;
}

static bool run_writes(struct engines *engines)
{
    static const char *const names[] = {
        "libqs, 10 % mapped, no writes",
        "libqs, 10 % mapped, 10,000 writes/s",
        "libqs, all mapped, no writes",
        "libqs, all mapped, 10,000 writes/s",
    };
    struct peers *peers = engines->peers;
    struct sheet_row *row = sheet_add(
        &peers->sheet, SECTION, mem_text("10 absent to 1 present beside writes of all kinds, mean"),
        "nanoseconds of a look-up", ARRAY_LEN(names), names, 0);
    struct sheet_row *written =
        sheet_add(&peers->sheet, SECTION, mem_text("... writes meanwhile"),
                  "a second, a third each overwrites, inserts, deletes", 2, door_names, 0);
    bool fine = true;
    for (uint64_t round = 0; fine && round < peers->options->rounds; round++) {
        fine = run_round(engines, round, row, written);
    }
    if (fine) {
        sheet_claim(&peers->sheet, row, 1, SHEET_MOST, 0, CHURN_MOST);
        sheet_claim(&peers->sheet, row, 3, SHEET_MOST, 2, CHURN_MOST);
        for (size_t i = 0; i < 2; i++) {
            sheet_claim(&peers->sheet, written, i, SHEET_FIGURE_LEAST, i, CHURN_LEAST * CHURN);
        }
        sheet_print(&peers->sheet, row);
        sheet_print(&peers->sheet, written);
    }
    return fine;
}

// ---- memory -------------------------------------------------------------------------------------

static void note_memory(struct engines *engines, size_t door, pid_t process, double sign)
{
    engines->anonymous[door] += sign * node_status_bytes(process, "RssAnon");
    engines->shared[door] += sign * node_status_bytes(process, "RssShmem");
    engines->file[door] += sign * node_status_bytes(process, "RssFile");
}

static void tell_row(struct engines *engines, const char *what, const char *unit,
                     const double *bytes)
{
    struct sheet *sheet = &engines->peers->sheet;
    struct sheet_row *row =
        sheet_add(sheet, SECTION, mem_text(what), unit, DOOR_TOLD, door_names, DOOR_REDIS);
    for (size_t i = 0; i < DOOR_TOLD; i++) {
        sheet_put(row, i, bytes[i] / 1e6);
    }
    sheet_print(sheet, row);
}

static void tell_memory(struct engines *engines)
{
    for (size_t i = 0; i < DOOR_TOLD; i++) {
        const struct node *node = node_of(engines, i);
        if (node != NULL) {
            note_memory(engines, i, node->process, 1);
        }
    }
    note_memory(engines, DOOR_REDIS, engines->peers->stage.redis.process, 1);
    tell_row(engines, "memory of its own, all pairs loaded", "MB resident; libqs: of the daemon",
             engines->anonymous);
    tell_row(engines, "memory that it shares", "MB resident: front filter and hot keys",
             engines->shared);
    tell_row(engines, "files that it has mapped", "MB resident, of the kernel's cache of files",
             engines->file);
}

static void note_node(struct engines *engines, size_t door)
{
    const struct node *node = node_of(engines, door);
    const struct pairs *pairs = engines->peers->options->pairs;
    char *metrics = node_metrics(node);
    if (metrics != NULL) {
        double keys = metrics_value(metrics, "hot_keys"), count = (double)pairs->count;
        double filter = metrics_value(metrics, "filter_bytes");
        double data = (double)(pairs->key_bytes + pairs->value_bytes);
        sheet_note(&engines->peers->sheet,
                   mem_format("%s: the %s, hot_bytes %.1f MB (%.1f %% of the data), hot_entry "
                              "%llu: %.0f keys (%.1f %%) on its board; filter %.1f MB, %.1f "
                              "bits a key",
                              door_names[door], node->name, (double)engines->hot_bytes[door] / 1e6,
                              100 * (double)engines->hot_bytes[door] / data,
                              (unsigned long long)hot_entry(pairs), keys,
                              100 * keys / count, filter / 1e6,
                              8 * filter / metrics_value(metrics, "filter_keys")));
    }
    mem_free(metrics);
}

// ---- opening ------------------------------------------------------------------------------------

// A run of look-ups brings in what a store reads before its memory is counted.
static bool warm_up(struct engines *engines, size_t side)
{
    struct drive_options load = load_of(engines, DRIVE_MIXED);
    struct timing *ignored = mem_zalloc(sizeof *ignored);
    double asked;
    bool fine = run_side(engines, &sides[side], &load, ignored, &asked);
    mem_free(ignored);
    return fine;
}

static bool open_engine(struct engines *engines, size_t side, const struct engine_calls *calls,
                        const uint32_t *order)
{
    struct peers *peers = engines->peers;
    size_t door = sides[side].door;
    char *path = mem_format("%s/%s", peers->stage.nodes.directory, sides[side].name);
    malloc_trim(0); // what was freed is not a store's
    note_memory(engines, door, getpid(), -1);
    bool fine = mkdir(path, 0700) == 0;
    if (!fine) {
        fprintf(stderr, "qs-bench: %s: %s\n", path, strerror(errno));
    }
    cores_free_self(&peers->cores);
    fine = fine && door_engine(&engines->doors[door], calls, path, peers->options->pairs, order) &&
           warm_up(engines, side);
    malloc_trim(0);
    note_memory(engines, door, getpid(), 1);
    mem_free(path);
    return fine;
}

static bool open_engines(struct engines *engines)
{
    uint64_t began = clock_mono_ns();
    uint32_t *order = engine_order(engines->peers->options->pairs);
    bool fine = open_engine(engines, LMDB, &engine_lmdb, order) &&
                open_engine(engines, ROCKSDB, &engine_rocksdb, order);
    mem_free(order);
    engines->peers->loading_ns += clock_mono_ns() - began;
    return fine;
}

// Maps what the daemon shares, then has it put there what it has room for.
static bool fill_board(struct engines *engines, size_t door)
{
    struct peers *peers = engines->peers;
    const struct pairs *pairs = peers->options->pairs;
    const struct node *node = node_of(engines, door);
    uint64_t room = hot_room(pairs, engines->hot_bytes[door]);
    bool fine = true;
    for (uint64_t i = 0; fine && i < MAP_LOOKUPS; i++) {
        char name[PAIR_KEY_BYTES_MAX];
        uint8_t value[PAIR_VALUE_BYTES_LEAST]; // too short for any: nothing was asked before
        struct bytes key = bytes_of(name, pair_key(pairs, pairs->count + i, name));
        struct door *to = &engines->doors[door];
        fine = to->get(to->of, key, value, sizeof value) == DOOR_ABSENT;
    }
    if (!fine || node_metric(node, "maps") < 1) {
        fprintf(stderr, "qs-bench: the %s shares no memory\n", node->name);
        return false;
    }
    return hot_fill(node, pairs, u64_min(room, pairs->count), &peers->answers);
}

static bool open_libqs(struct engines *engines, size_t door)
{
    const struct node *node = node_of(engines, door);
    unsigned busy_us = is_mapped(door) ? BUSY_US : 0;
    return door_libqs(&engines->doors[door], node->socket, is_mapped(door), busy_us) &&
           (!is_mapped(door) || fill_board(engines, door)) &&
           cores_pin(node->process, engines->peers->cores.first);
}

static bool serve(struct engines *engines)
{
    struct peers *peers = engines->peers;
    const struct pairs *pairs = peers->options->pairs;
    uint64_t hot = hot_bytes_within((pairs->key_bytes + pairs->value_bytes) / HOT_PART);
    uint64_t all = hot_bytes_for(pairs);
    engines->hot_bytes[DOOR_HOT] = engines->hot_bytes[DOOR_SOCKET] = hot;
    engines->hot_bytes[DOOR_ALL] = all;
    char *root = hot_options(pairs, hot, true), *proxy = hot_options(pairs, all, true);
    bool fine = peers_stage(peers, BUSY_US, root, proxy);
    uint64_t began = clock_mono_ns();
    fine = fine && hot_blocks(&peers->stage.nodes.node[NODE_ROOT], pairs, &peers->answers);
    for (size_t door = DOOR_HOT; fine && door <= DOOR_SOCKET; door++) {
        fine = open_libqs(engines, door);
    }
    const struct rival *redis = &peers->stage.redis;
    const struct node *hot_node = node_of(engines, DOOR_HOT_ASLEEP);
    fine = fine && door_libqs(&engines->doors[DOOR_HOT_ASLEEP], hot_node->socket, true, 0) &&
           door_redis(&engines->doors[DOOR_REDIS_AWAKE], redis->socket, BUSY_US) &&
           door_redis(&engines->doors[DOOR_REDIS], redis->socket, 0) &&
           cores_pin(redis->process, peers->cores.first);
    peers->loading_ns += clock_mono_ns() - began;
    struct nodes *nodes = &peers->stage.nodes;
    nodes->own[NODE_ROOT] = nodes->own[NODE_PROXY] = NULL;
    mem_free(root);
    mem_free(proxy);
    return fine;
}

// LMDB and RocksDB map their files: what does not fit into memory beside the servers is waited for.
static double disk_waits(void)
{
    struct rusage usage;
    CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
    return (double)usage.ru_majflt;
}

static bool run(struct engines *engines)
{
    struct peers *peers = engines->peers;
    if (!serve(engines) || !open_engines(engines)) {
        return false;
    }
    bool fine = warm_up(engines, HOT_TWO) && warm_up(engines, ALL_TWO);
    note_node(engines, DOOR_HOT);
    note_node(engines, DOOR_ALL);
    sheet_note(&peers->sheet,
               mem_format("engines: qs: loops = 1, block_cache %.0f MB, all values read once "
                          "before, pin_index, busy_poll %d us, as is that of the clients of memory",
                          (double)peers->stage.cache_bytes / 1e6, BUSY_US));
    sheet_note(&peers->sheet,
               mem_format("engines: means of batches of %d, percentiles of single look-ups with "
                          "two looks at the clock in them, %llu ns",
                          TIMING_BATCH, (unsigned long long)timing_clock_ns()));
    double waits = disk_waits();
    for (size_t i = 0; fine && i < ARRAY_LEN(loads); i++) {
        fine = run_load(engines, &loads[i]);
    }
    fine = fine && run_writes(engines);
    if (fine) {
        sheet_note(&peers->sheet,
                   mem_format("engines: the stores in process waited for the disk %.0f times: "
                              "beyond some the machine has too little memory for all sides at once",
                              disk_waits() - waits));
        tell_memory(engines);
    }
    return fine;
}

bool peers_engines(struct peers *peers)
{
    struct engines *engines = mem_zalloc(sizeof *engines);
    engines->peers = peers;
    engines->fresh = peers->options->pairs->count * (ABSENT_SPACE + 1);
    bool fine = run(engines);
    for (size_t i = 0; i < DOOR_COUNT; i++) {
        door_close(&engines->doors[i]);
    }
    mem_free(engines);
    return fine;
}
