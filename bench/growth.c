// SPDX-License-Identifier: Apache-2.0
#include "bench/growth.h"

#include <stdio.h>
#include <sys/prctl.h>

#include "bench/cores.h"
#include "bench/hot.h"
#include "bench/interrupt.h"
#include "bench/sheet.h"
#include "bench/timing.h"
#include "bench/writes.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define SECTION "growth: a root with more and more keys"
#define FILTER_BITS 16 // the default
#define WALK_RATE (64 * MIB) // bytes a second; likewise
#define WHOLE_LIMIT_NS (900 * NS_PER_S)
#define WHOLE_POLL_NS (100 * NS_PER_MS)
#define HOT_PART 10    // of the data's bytes
#define MAP_LOOKUPS 64 // after which libqs has mapped what the daemon shares
#define WARM_PART 8    // of a run, before each

enum { DOOR_MAP, DOOR_SOCKET, DOOR_COUNT };
static const struct load {
    size_t door;
    enum drive_what what;
    const char *text;
} loads[] = {
    {DOOR_MAP, DRIVE_ABSENT, "absent keys, shared memory"},
    {DOOR_MAP, DRIVE_PRESENT, "present keys, Zipf 0.99, 10 % mapped"},
    {DOOR_SOCKET, DRIVE_ABSENT, "absent keys, socket"},
    {DOOR_SOCKET, DRIVE_PRESENT, "present keys, Zipf 0.99, socket"},
};

enum { FIGURE_MEAN, FIGURE_P50, FIGURE_P99, FIGURE_COUNT };
static const char *const figure_names[FIGURE_COUNT] = {"mean", "p50", "p99"};

// One figure of each size.
enum told {
    TOLD_ANONYMOUS,
    TOLD_FILTER,
    TOLD_BITS,
    TOLD_WHOLE,
    TOLD_STORE,
    TOLD_START,
    TOLD_KILLED,
    TOLD_COUNT
};
static const struct {
    const char *what, *unit;
} told[TOLD_COUNT] = {
    [TOLD_ANONYMOUS] = {"memory of its own", "MB resident"},
    [TOLD_FILTER] = {"front filter", "MB"},
    [TOLD_BITS] = {"front filter, bits a key", "bits"},
    [TOLD_WHOLE] = {"front filter has its bits, after the last key", "seconds"},
    [TOLD_STORE] = {"disk", "MB, store and journal"},
    [TOLD_START] = {"start after a stop in order", "ms to the first answer"},
    [TOLD_KILLED] = {"start after kill -9", "ms to the first answer"},
};

struct growth {
    const struct growth_options *options;
    struct sheet sheet;
    struct cores cores;
    struct sheet_row *timed[ARRAY_LEN(loads)][FIGURE_COUNT];
    struct sheet_row *told[TOLD_COUNT];
    char *names[GROWTH_SIZES]; // of the sides
    uint64_t answers, faults;
};

// One size while it is measured.
struct stand {
    struct growth *growth;
    size_t at; // the side
    struct pairs pairs;
    struct zipf zipf;
    struct nodes nodes;
    struct door doors[DOOR_COUNT];
    char *root_options;
};

double growth_at(double keys, const uint64_t sizes[2], const double figures[2])
{
    double slope = (figures[1] - figures[0]) / ((double)sizes[1] - (double)sizes[0]);
    return figures[1] + slope * (keys - (double)sizes[1]);
}

// ---- look-ups -----------------------------------------------------------------------------------

static bool time_load(struct stand *stand, const struct load *load, uint64_t seed,
                      uint64_t duration_ns, struct timing *timing)
{
    struct growth *growth = stand->growth;
    const struct drive_options drive = {
        .what = load->what,
        .pairs = &stand->pairs,
        .zipf = &stand->zipf,
        .seed = seed,
        .duration_ns = duration_ns,
    };
    const struct timing_options options = {.name = load->text, .load = &drive};
    bool fine = timing_run(&stand->doors[load->door], &options, timing);
    growth->answers += timing->count;
    growth->faults += timing->faults;
    return fine && !interrupted();
}

// A sequence of its own for each: one root is asked by both doors, and has it on its board by then.
static bool run_load(struct stand *stand, size_t which, uint64_t round)
{
    struct growth *growth = stand->growth;
    struct sheet_row *const *rows = growth->timed[which];
    uint64_t duration_ns = growth->options->run_ms * NS_PER_MS;
    uint64_t seed = draw_mix(round * ARRAY_LEN(loads) + which);
    struct timing *warm = mem_zalloc(sizeof *warm), *timing = mem_zalloc(sizeof *timing);
    bool fine = time_load(stand, &loads[which], ~seed, duration_ns / WARM_PART, warm) &&
                time_load(stand, &loads[which], seed, duration_ns, timing);
    if (fine) {
        sheet_put(rows[FIGURE_MEAN], stand->at, timing_mean_ns(timing));
        sheet_put(rows[FIGURE_P50], stand->at, (double)histogram_ns(&timing->latency, 0.5));
        sheet_put(rows[FIGURE_P99], stand->at, (double)histogram_ns(&timing->latency, 0.99));
    }
    mem_free(warm);
    mem_free(timing);
    return fine;
}

// ---- what a size takes --------------------------------------------------------------------------

static void tell(struct stand *stand, enum told what, double figure)
{
    sheet_put(stand->growth->told[what], stand->at, figure);
}

static void tell_memory(struct stand *stand)
{
    const struct node *root = &stand->nodes.node[NODE_ROOT];
    double filter = node_metric(root, "filter_bytes"), keys = node_metric(root, "filter_keys");
    tell(stand, TOLD_ANONYMOUS, node_status_bytes(root->process, "RssAnon") / 1e6);
    tell(stand, TOLD_FILTER, filter / 1e6);
    tell(stand, TOLD_BITS, keys > 0 ? 8 * filter / keys : 0);
    tell(stand, TOLD_STORE, (double)node_disk_bytes(root, "") / 1e6);
}

static bool tell_starts(struct stand *stand)
{
    struct nodes *nodes = &stand->nodes;
    const struct node *root = &nodes->node[NODE_ROOT];
    bool fine = node_stop(nodes, NODE_ROOT) && node_start(nodes, NODE_ROOT, false);
    if (fine) {
        tell(stand, TOLD_START, (double)root->start_ns / 1e6);
        node_kill(nodes, NODE_ROOT);
        fine = node_start(nodes, NODE_ROOT, false);
        tell(stand, TOLD_KILLED, (double)root->start_ns / 1e6);
    }
    return fine;
}

// ---- one size -----------------------------------------------------------------------------------

// A filter that has become too small is built anew by a walk at a bounded rate (walk_rate): until
// then it takes more and more absent keys for present.
static bool await_filter(struct stand *stand, uint64_t since_ns)
{
    const struct node *root = &stand->nodes.node[NODE_ROOT];
    uint64_t end_ns = clock_mono_ns() + WHOLE_LIMIT_NS;
    while (!interrupted() && node_metric(root, "filter_bits") < FILTER_BITS) {
        if (clock_mono_ns() >= end_ns) {
            fprintf(stderr, "qs-bench: the filter has not its bits after %.0f s (filter_bytes?)\n",
                    (double)WHOLE_LIMIT_NS / 1e9);
            return false;
        }
        clock_sleep_ns(WHOLE_POLL_NS);
    }
    tell(stand, TOLD_WHOLE, (double)(clock_mono_ns() - since_ns) / 1e9);
    return !interrupted();
}

// Everything is on the disk, and what has room on the board is there.
static bool load_root(struct stand *stand)
{
    struct nodes *nodes = &stand->nodes;
    struct node *root = &nodes->node[NODE_ROOT];
    struct writes_options all = {
        .socket = root->socket, .pairs = &stand->pairs, .count = stand->pairs.count};
    uint64_t data = stand->pairs.key_bytes + stand->pairs.value_bytes;
    stand->root_options = hot_options(&stand->pairs, hot_bytes_within(data / HOT_PART), true);
    nodes->more = "loops = 1\n";
    nodes->own[NODE_ROOT] = stand->root_options;
    bool fine = node_start(nodes, NODE_ROOT, false) && writes_all(&all);
    uint64_t since_ns = clock_mono_ns();
    fine = fine && node_stop(nodes, NODE_ROOT) && node_start(nodes, NODE_ROOT, false);
    fine = fine && await_filter(stand, since_ns);
    if (fine) {
        node_wait_still(root, "store_bytes", NODE_STORE_LOOKS);
    }
    return fine && door_libqs(&stand->doors[DOOR_MAP], root->socket, true, 0) &&
           door_libqs(&stand->doors[DOOR_SOCKET], root->socket, false, 0);
}

static bool fill_board(struct stand *stand)
{
    struct growth *growth = stand->growth;
    const struct pairs *pairs = &stand->pairs;
    struct door *door = &stand->doors[DOOR_MAP];
    bool fine = true;
    for (uint64_t i = 0; fine && i < MAP_LOOKUPS; i++) {
        char name[PAIR_KEY_BYTES_MAX];
        uint8_t value[PAIR_VALUE_BYTES_LEAST];
        struct bytes key = bytes_of(name, pair_key(pairs, pairs->count + i, name));
        fine = door->get(door->of, key, value, sizeof value) == DOOR_ABSENT;
    }
    uint64_t data = pairs->key_bytes + pairs->value_bytes;
    uint64_t room = hot_room(pairs, hot_bytes_within(data / HOT_PART));
    return fine && hot_fill(&stand->nodes.node[NODE_ROOT], pairs, u64_min(room, pairs->count),
                            &growth->answers);
}

static bool run_stand(struct stand *stand)
{
    struct growth *growth = stand->growth;
    const struct cores *cores = &growth->cores;
    cores_free_self(cores);
    bool fine = load_root(stand) && fill_board(stand) &&
                cores_pin(stand->nodes.node[NODE_ROOT].process, cores->first);
    cores_pin_self(cores->last);
    for (uint64_t round = 0; fine && round < growth->options->rounds; round++) {
        for (size_t i = 0; fine && i < ARRAY_LEN(loads); i++) {
            fine = run_load(stand, i, round);
        }
    }
    if (fine) {
        tell_memory(stand);
    }
    cores_free_self(cores);
    for (size_t i = 0; i < DOOR_COUNT; i++) {
        door_close(&stand->doors[i]);
    }
    return fine && tell_starts(stand);
}

static bool run_size(struct growth *growth, size_t at)
{
    const struct growth_options *options = growth->options;
    const struct pairs_options of = {
        .seed = options->seed, .count = options->keys[at], .value_bytes = options->value_bytes};
    struct stand *stand = mem_zalloc(sizeof *stand);
    *stand = (struct stand){.growth = growth, .at = at};
    uint64_t began = clock_mono_ns();
    if (!pairs_open(&stand->pairs, &of)) {
        mem_free(stand);
        return false;
    }
    zipf_open(&stand->zipf, stand->pairs.count);
    bool fine = nodes_open(&stand->nodes, NULL, options->io, NULL) && run_stand(stand);
    fine = nodes_close(&stand->nodes, false) && fine;
    fprintf(stderr, "qs-bench: %s: %.0f s\n", growth->names[at],
            (double)(clock_mono_ns() - began) / 1e9);
    pairs_close(&stand->pairs);
    mem_free(stand->root_options);
    mem_free(stand);
    return fine;
}

// ---- rows ---------------------------------------------------------------------------------------

static void add_rows(struct growth *growth)
{
    struct sheet *sheet = &growth->sheet;
    size_t count = growth->options->count;
    const char *names[GROWTH_SIZES];
    for (size_t i = 0; i < count; i++) {
        growth->names[i] =
            mem_format("%.3g M keys", (double)growth->options->keys[i] / 1e6);
        names[i] = growth->names[i];
    }
    for (size_t i = 0; i < ARRAY_LEN(loads); i++) {
        for (size_t j = 0; j < FIGURE_COUNT; j++) {
            growth->timed[i][j] =
                sheet_add(sheet, SECTION, mem_format("%s, %s", loads[i].text, figure_names[j]),
                          "nanoseconds of a look-up", count, names, 0);
        }
    }
    for (size_t i = 0; i < TOLD_COUNT; i++) {
        growth->told[i] =
            sheet_add(sheet, SECTION, mem_text(told[i].what), told[i].unit, count, names, 0);
    }
}

// Of what grows by the key; the filter is what it takes at the bits that were asked for.
static void note_far(struct growth *growth)
{
    const struct growth_options *options = growth->options;
    if (options->count < 2) {
        return;
    }
    const uint64_t *sizes = &options->keys[options->count - 2];
    double figures[TOLD_COUNT];
    for (size_t i = 0; i < TOLD_COUNT; i++) {
        const struct sheet_side *sides = &growth->told[i]->sides[options->count - 2];
        const double two[2] = {sheet_median(&sides[0]), sheet_median(&sides[1])};
        figures[i] = growth_at((double)GROWTH_FAR, sizes, two);
    }
    sheet_note(&growth->sheet,
               mem_format("%.0f G keys, by arithmetic from the last two sizes: disk %.1f TB, "
                          "memory of its own %.1f GB, start %.1f s, a walk %.1f hours; filter "
                          "%.0f GB, if filter_bytes allows it",
                          (double)GROWTH_FAR / 1e9, figures[TOLD_STORE] / 1e6,
                          figures[TOLD_ANONYMOUS] / 1e3, figures[TOLD_START] / 1e3,
                          figures[TOLD_STORE] * 1e6 / (double)WALK_RATE / 3600,
                          figures[TOLD_FILTER] / 1e3));
}

static void print_rows(const struct growth *growth)
{
    for (size_t i = 0; i < growth->sheet.row_count; i++) {
        sheet_print(&growth->sheet, &growth->sheet.rows[i]);
    }
}

int growth_run(const struct growth_options *options)
{
    for (size_t i = 1; i < options->count; i++) {
        if (options->keys[i] <= options->keys[i - 1]) {
            fprintf(stderr, "qs-bench: --keys: sizes ascend\n");
            return 2;
        }
    }
    interrupt_catch();
    prctl(PR_SET_TIMERSLACK, 1); // ns: what is due is not put off to save wake-ups
    struct growth *growth = mem_zalloc(sizeof *growth);
    growth->options = options;
    growth->sheet.title = "qs with more and more keys";
    cores_open(&growth->cores);
    add_rows(growth);
    bool fine = true;
    for (size_t i = 0; fine && i < options->count; i++) {
        fine = run_size(growth, i);
    }
    if (fine) {
        print_rows(growth);
        note_far(growth);
    }
    if (fine && options->out != NULL) {
        fine = sheet_write_json(&growth->sheet, options->out, options->name) &&
               sheet_write_picture(&growth->sheet, options->out, options->name);
    }
    printf("%llu answers compared, %llu wrong, missing or errors\n",
           (unsigned long long)growth->answers, (unsigned long long)growth->faults);
    fine = fine && growth->faults == 0;
    sheet_close(&growth->sheet);
    for (size_t i = 0; i < options->count; i++) {
        mem_free(growth->names[i]);
    }
    mem_free(growth);
    return fine ? 0 : 1;
}
