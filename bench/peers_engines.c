// SPDX-License-Identifier: Apache-2.0
// What a look-up costs inside a process, in LMDB and RocksDB, beside one through libqs over its
// socket to a proxy that holds every value: what a door without a socket could save, and cannot.
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/stat.h>

#include "bench/drive.h"
#include "bench/engines.h"
#include "bench/interrupt.h"
#include "bench/peers.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/client/qs.h"

#define SECTION "engines: one look-up after another, in process and through libqs"
#define CLOCK_LOOKS 64 // look-ups between two looks at whether time is over

enum { SIDE_LIBQS, SIDE_ONE_CORE, SIDE_LMDB, SIDE_ROCKSDB, SIDE_COUNT };
static const char *const names[SIDE_COUNT] = {
    "libqs to a proxy, two cores",
    "libqs to a proxy, one core",
    "LMDB in process",
    "RocksDB in process",
};

struct side {
    const struct engine_calls *calls; // NULL: libqs
    struct engine *engine;
    double anonymous, file; // bytes of memory that came with it
};

struct engines {
    struct peers *peers;
    struct nodes nodes;
    struct qs *qs;
    struct qs_result *result;
    struct side sides[SIDE_COUNT];
    uint8_t *got, *right;
    uint64_t sequences;
};

// ---- one look-up --------------------------------------------------------------------------------

// As the `get` of an engine.
static ssize_t get_libqs(struct engines *engines, struct bytes key, uint8_t *to)
{
    struct qs_bytes value;
    int error = qs_get(engines->qs, key.data, key.size, engines->result);
    if (error != QS_OK) {
        return error == QS_NOT_FOUND ? -1 : -2;
    }
    if (qs_value(engines->result, 0, &value) != QS_OK || value.size > PAIR_VALUE_BYTES_MAX) {
        return -2;
    }
    memcpy(to, value.data, value.size);
    return (ssize_t)value.size;
}

static bool is_right(struct engines *engines, uint64_t number, ssize_t size)
{
    const struct pairs *pairs = engines->peers->options->pairs;
    if (number >= pairs->count) {
        return size == -1;
    }
    size_t right = pair_value(pairs, number, 0, engines->right);
    return size == (ssize_t)right && memcmp(engines->got, engines->right, right) == 0;
}

// One run of a side: its latencies, with the two looks at the clock in them.
static bool run_side(struct engines *engines, size_t which, const struct drive_options *load,
                     struct histogram *latency)
{
    struct peers *peers = engines->peers;
    struct side *side = &engines->sides[which];
    cores_pin_self(which == SIDE_ONE_CORE ? peers->cores.first : peers->cores.last);
    struct drive_keys keys;
    drive_keys_open(&keys, load);
    uint64_t end = clock_mono_ns() + load->duration_ns, now = 0;
    for (uint64_t i = 0; i % CLOCK_LOOKS != 0 || now < end; i++) {
        char name[PAIR_KEY_BYTES_MAX];
        uint64_t number = drive_keys_next(&keys);
        struct bytes key = bytes_of(name, pair_key(load->pairs, number, name));
        uint64_t began = clock_mono_ns();
        ssize_t size = side->calls != NULL ? side->calls->get(side->engine, key, engines->got)
                                           : get_libqs(engines, key, engines->got);
        now = clock_mono_ns();
        histogram_add(latency, now - began);
        peers->answers++;
        if (!is_right(engines, number, size)) {
            peers->faults++;
            fprintf(stderr, "qs-bench: %s: wrong answer for key %llu %s\n", names[which],
                    (unsigned long long)number, side->calls == NULL ? qs_last_error() : "");
            return false;
        }
    }
    return !interrupted();
}

// ---- rows ---------------------------------------------------------------------------------------

static const struct {
    const char *name;
    double share;
} percentiles[] = {{"p50", 0.5}, {"p99", 0.99}};

static bool run_load(struct engines *engines, enum drive_what what, const char *text)
{
    struct peers *peers = engines->peers;
    struct drive_options load = {
        .what = what,
        .pairs = peers->options->pairs,
        .zipf = &peers->zipf,
        .duration_ns = peers->options->run_ms * NS_PER_MS,
    };
    struct sheet_row *rows[ARRAY_LEN(percentiles)];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        rows[i] = sheet_add(&peers->sheet, SECTION, mem_format("%s, %s", text, percentiles[i].name),
                            "nanoseconds of a look-up", SIDE_COUNT, names, SIDE_LIBQS);
    }
    bool fine = true;
    for (uint64_t round = 0; fine && round < peers->options->rounds; round++) {
        load.seed = ++engines->sequences;
        for (size_t i = 0; fine && i < SIDE_COUNT; i++) {
            size_t side = peers_turn(round, i, SIDE_COUNT);
            struct histogram *latency = mem_zalloc(sizeof *latency);
            fine = run_side(engines, side, &load, latency);
            for (size_t j = 0; j < ARRAY_LEN(rows); j++) {
                sheet_put(rows[j], side, (double)histogram_ns(latency, percentiles[j].share));
            }
            mem_free(latency);
        }
    }
    for (size_t i = 0; fine && i < ARRAY_LEN(rows); i++) {
        sheet_print(&peers->sheet, rows[i]);
    }
    return fine;
}

static void tell_memory(struct engines *engines)
{
    struct sheet *sheet = &engines->peers->sheet;
    struct sheet_row *anonymous =
        sheet_add(sheet, SECTION, mem_text("memory of its own, all pairs loaded"),
                  "MB; libqs: the daemon's resident", SIDE_COUNT, names, SIDE_LIBQS);
    struct sheet_row *file =
        sheet_add(sheet, SECTION, mem_text("pages of files that it has mapped"),
                  "MB; shared with the kernel's cache", SIDE_COUNT, names, SIDE_LIBQS);
    for (size_t i = 0; i < SIDE_COUNT; i++) {
        sheet_put(anonymous, i, engines->sides[i].anonymous / 1e6);
        sheet_put(file, i, engines->sides[i].file / 1e6);
    }
    sheet_print(sheet, anonymous);
    sheet_print(sheet, file);
}

// ---- stores -------------------------------------------------------------------------------------

// A line of this process's status, in bytes.
static double status_bytes(const char *name)
{
    malloc_trim(0); // what was freed is not a store's
    FILE *file = fopen("/proc/self/status", "re");
    char line[256];
    unsigned long long kilobytes = 0;
    size_t size = strlen(name);
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, name, size) == 0 && sscanf(line + size, ": %llu", &kilobytes) == 1) {
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return 1024 * (double)kilobytes;
}

// A run of look-ups brings in what a store reads before its memory is counted.
static bool warm_up(struct engines *engines, size_t side)
{
    const struct peers_options *options = engines->peers->options;
    struct drive_options load = {
        .what = DRIVE_MIXED,
        .pairs = options->pairs,
        .zipf = &engines->peers->zipf,
        .duration_ns = options->run_ms * NS_PER_MS,
    };
    struct histogram *ignored = mem_zalloc(sizeof *ignored);
    bool fine = run_side(engines, side, &load, ignored);
    mem_free(ignored);
    return fine;
}

static bool open_engine(struct engines *engines, size_t which, const char *folder,
                        const uint32_t *order)
{
    struct side *side = &engines->sides[which];
    cores_free_self(&engines->peers->cores);
    char *path = mem_format("%s/%s", engines->nodes.directory, folder);
    double anonymous = status_bytes("RssAnon"), file = status_bytes("RssFile");
    bool fine = mkdir(path, 0700) == 0;
    if (fine) {
        side->engine = side->calls->open(path, engines->peers->options->pairs, order);
        fine = side->engine != NULL && warm_up(engines, which);
    } else {
        fprintf(stderr, "qs-bench: %s: %s\n", path, strerror(errno));
    }
    side->anonymous = status_bytes("RssAnon") - anonymous;
    side->file = status_bytes("RssFile") - file;
    mem_free(path);
    return fine;
}

static bool open_libqs(struct engines *engines)
{
    const struct peers *peers = engines->peers;
    struct nodes *nodes = &engines->nodes;
    cores_free_self(&peers->cores);
    if (!peers_serve(peers, nodes)) {
        return false;
    }
    const struct node *proxy = &nodes->node[NODE_PROXY];
    char *address = mem_format("unix:%s", proxy->socket);
    const struct qs_options options = {.size = sizeof options, .timeout_ms = 10000};
    bool fine = qs_open(&engines->qs, address, &options) == QS_OK &&
                cores_pin(proxy->process, peers->cores.first);
    mem_free(address);
    engines->result = qs_result_new();
    fine = fine && warm_up(engines, SIDE_LIBQS);
    double resident = (double)node_resident_bytes(proxy->process);
    engines->sides[SIDE_LIBQS].anonymous = engines->sides[SIDE_ONE_CORE].anonymous = resident;
    return fine;
}

static bool run(struct engines *engines)
{
    uint32_t *order = engine_order(engines->peers->options->pairs);
    bool fine = open_engine(engines, SIDE_LMDB, "lmdb", order) &&
                open_engine(engines, SIDE_ROCKSDB, "rocksdb", order);
    mem_free(order);
    fine = fine && open_libqs(engines) &&
           run_load(engines, DRIVE_MIXED, "10 absent to 1 present, Zipf 0.99") &&
           run_load(engines, DRIVE_ABSENT, "absent keys alone") &&
           run_load(engines, DRIVE_PRESENT, "present keys alone, Zipf 0.99");
    if (fine) {
        tell_memory(engines);
    }
    return fine;
}

bool peers_engines(struct peers *peers)
{
    struct engines *engines = mem_zalloc(sizeof *engines);
    *engines = (struct engines){
        .peers = peers,
        .sides = {[SIDE_LMDB].calls = &engine_lmdb, [SIDE_ROCKSDB].calls = &engine_rocksdb},
        .got = mem_alloc(PAIR_VALUE_BYTES_MAX),
        .right = mem_alloc(PAIR_VALUE_BYTES_MAX),
    };
    bool fine = nodes_open(&engines->nodes, NULL, peers->options->io, NULL);
    fine = fine && run(engines);
    for (size_t i = 0; i < SIDE_COUNT; i++) {
        if (engines->sides[i].engine != NULL) {
            engines->sides[i].calls->close(engines->sides[i].engine);
        }
    }
    qs_result_free(engines->result);
    qs_close(engines->qs);
    fine = nodes_close(&engines->nodes, false) && fine;
    mem_free(engines->got);
    mem_free(engines->right);
    mem_free(engines);
    return fine;
}
