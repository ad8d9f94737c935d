// SPDX-License-Identifier: Apache-2.0
#include "bench/roles.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "bench/claims.h"
#include "bench/conn.h"
#include "bench/interrupt.h"
#include "bench/nodes.h"
#include "bench/picture.h"
#include "bench/results.h"
#include "bench/writes.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define COMEBACK_WRITES 10000 // a second, before the proxy ends
#define RENEWED_A_MINUTE 0.01 // of the working set
#define WARM_UP_NS NS_PER_S
#define FILL_LOOKS 2

static const int node_of[SIDE_COUNT] = {NODE_REPLICA, NODE_PROXY};

static void say(const char *what) { fprintf(stderr, "qs-bench: %s\n", what); }

// Store and history are live files; what a compaction is writing or has not yet removed counts in
// the total alone.
static struct disk measure(const struct node *node)
{
    char *metrics = node_metrics(node);
    struct disk disk = {
        .journal = node_disk_bytes(node, "journal"),
        .filter = node_disk_bytes(node, "front"),
        .total = node_disk_bytes(node, ""),
    };
    if (metrics != NULL) {
        disk.history = (uint64_t)metrics_value(metrics, "history_rows_bytes");
        disk.store = (uint64_t)metrics_value(metrics, "store_bytes") - disk.history;
    }
    mem_free(metrics);
    return disk;
}

// ---- one cell -----------------------------------------------------------------------------------

struct stage {
    const struct roles_options *options;
    struct nodes *nodes;
    struct site *site;
    struct lookups lookups;
    uint64_t joinable; // numbers from here on are for probes: never in the working set
};

static struct load_options load_of(const struct stage *stage, int side, uint64_t duration_ns)
{
    return (struct load_options){
        .socket = stage->nodes->node[node_of[side]].socket,
        .connections = (unsigned)stage->options->connections,
        .rate = stage->options->rate,
        .duration_ns = duration_ns,
        .pairs = stage->options->pairs,
    };
}

static void merge(struct load_result *to, const struct load_result *from)
{
    histogram_merge(&to->all, &from->all);
    histogram_merge(&to->absent, &from->absent);
    histogram_merge(&to->present, &from->present);
    to->firsts += from->firsts;
    to->wrong += from->wrong;
    to->errors += from->errors;
    to->lost += from->lost;
    if (to->fault[0] == '\0') {
        memcpy(to->fault, from->fault, sizeof to->fault);
    }
}

static bool run_side(struct stage *stage, struct cell *cell, int side, unsigned run,
                     struct lookups *lookups)
{
    const struct node *proxy = &stage->nodes->node[NODE_PROXY];
    struct load_options load = load_of(stage, side, stage->options->seconds * NS_PER_S);
    struct load_result *result = mem_zalloc(sizeof *result);
    double before = node_metric(proxy, "fetch_misses");
    bool fine = load_run(lookups, &load, result);
    cell->sides[side].absent_p999_ns[run] = histogram_ns(&result->absent, 0.999);
    cell->sides[side].misses +=
        side == SIDE_PROXY ? node_metric(proxy, "fetch_misses") - before : 0;
    cell->sides[side].p999_ns[run] = histogram_ns(&result->all, 0.999);
    merge(&cell->sides[side].load, result);
    mem_free(result);
    return fine;
}

static double ratio_of(uint64_t a, uint64_t b) { return b > 0 ? (double)a / (double)b : 0; }

static bool run_pair(struct stage *stage, struct cell *cell, unsigned run)
{
    int first = run % 2 == 0 ? SIDE_REPLICA : SIDE_PROXY;
    struct lookups copy;
    lookups_copy(&copy, &stage->lookups);
    bool fine = !interrupted() && run_side(stage, cell, first, run, &copy) &&
                run_side(stage, cell, SIDE_COUNT - 1 - first, run, &stage->lookups);
    lookups_close(&copy);
    const struct side *replica = &cell->sides[SIDE_REPLICA], *proxy = &cell->sides[SIDE_PROXY];
    cell->ratio[run] = ratio_of(proxy->p999_ns[run], replica->p999_ns[run]);
    cell->absent_ratio[run] = ratio_of(proxy->absent_p999_ns[run], replica->absent_p999_ns[run]);
    return fine;
}

static bool warm_up(struct stage *stage)
{
    struct load_result *ignored = mem_zalloc(sizeof *ignored);
    struct load_options replica = load_of(stage, SIDE_REPLICA, WARM_UP_NS);
    struct load_options proxy = load_of(stage, SIDE_PROXY, WARM_UP_NS);
    struct lookups copy;
    lookups_copy(&copy, &stage->lookups);
    bool fine = load_run(&copy, &replica, ignored) && load_run(&stage->lookups, &proxy, ignored);
    lookups_close(&copy);
    mem_free(ignored);
    return fine;
}

// What the stores of both roles have taken so far.
static void count_arrived(struct stage *stage, double sign, struct cell *cell)
{
    for (int side = 0; side < SIDE_COUNT; side++) {
        const struct node *node = &stage->nodes->node[node_of[side]];
        cell->sides[side].arrived += sign * node_metric(node, "entries_applied");
    }
}

static void start_writes(const struct stage *stage, uint64_t rate, struct writes *ret_writes)
{
    writes_start(ret_writes, &(struct writes_options){
                                 .socket = stage->nodes->node[NODE_ROOT].socket,
                                 .pairs = stage->options->pairs,
                                 .count = stage->joinable,
                                 .rate = rate,
                             });
}

static bool run_cell(struct stage *stage, struct cell *cell)
{
    struct writes writes;
    uint64_t began = clock_mono_ns();
    count_arrived(stage, -1, cell);
    start_writes(stage, cell->writes, &writes);
    bool fine = warm_up(stage);
    for (unsigned run = 0; fine && run < stage->options->runs; run++) {
        fine = run_pair(stage, cell, run);
    }
    fine = writes_stop(&writes, &cell->write_rate) && fine && nodes_settle(stage->nodes);
    count_arrived(stage, 1, cell);
    for (int side = 0; side < SIDE_COUNT; side++) {
        cell->sides[side].arrived /= (double)(clock_mono_ns() - began) / 1e9;
    }
    qsort(cell->ratio, stage->options->runs, sizeof cell->ratio[0], claims_by_size);
    qsort(cell->absent_ratio, stage->options->runs, sizeof cell->ratio[0], claims_by_size);
    return fine;
}

static bool run_cells(struct stage *stage)
{
    const struct roles_options *options = stage->options;
    struct site *site = stage->site;
    site->cells = mem_zalloc(CELLS_MAX * sizeof *site->cells);
    for (int uniform = 0; uniform < 2; uniform++) {
        for (size_t i = 0; i < options->writes_count; i++) {
            if (uniform ? !options->uniform : !options->zipf) {
                continue;
            }
            struct cell *cell = &site->cells[site->cell_count];
            *cell = (struct cell){.uniform = uniform, .writes = options->writes[i]};
            stage->lookups.uniform = uniform;
            if (!run_cell(stage, cell)) {
                return false;
            }
            claims_of_cell(options, site, cell);
            results_cell(options, site, cell);
            site->cell_count++;
        }
    }
    return true;
}

// ---- one site -----------------------------------------------------------------------------------

static bool restart(struct stage *stage, int which, bool keys_only)
{
    return !interrupted() && node_stop(stage->nodes, which) &&
           node_start(stage->nodes, which, keys_only);
}

// A proxy that has every key and no value yet: built anew from the replica.
static bool begin_proxy(struct stage *stage)
{
    say("building the proxy");
    struct nodes *nodes = stage->nodes;
    if (nodes->node[NODE_PROXY].process != 0 && !node_stop(nodes, NODE_PROXY)) {
        return false;
    }
    if (!node_clear(nodes, NODE_PROXY) || !node_start(nodes, NODE_PROXY, true) ||
        !nodes_settle(nodes) || !restart(stage, NODE_REPLICA, false) ||
        !restart(stage, NODE_PROXY, true)) {
        return false;
    }
    for (int side = 0; side < SIDE_COUNT; side++) {
        node_wait_still(&nodes->node[node_of[side]], "store_bytes", NODE_STORE_LOOKS);
        stage->site->loaded[side] = measure(&nodes->node[node_of[side]]);
    }
    return restart(stage, NODE_PROXY, false);
}

// The working set is asked for; a restart brings what was kept onto the disk; then once more, so
// that both roles have it in memory.
static bool warm(struct stage *stage)
{
    say("warming");
    struct site *site = stage->site;
    for (int pass = 0; pass < 2; pass++) {
        for (int side = 0; side < SIDE_COUNT; side++) {
            struct load_options load = load_of(stage, side, 0);
            if (!load_warm(&load, site->working_set, &site->probes)) {
                return false;
            }
        }
        node_wait_still(&stage->nodes->node[NODE_PROXY], "fills", FILL_LOOKS);
        for (int side = 0; pass == 0 && side < SIDE_COUNT; side++) {
            const struct node *node = &stage->nodes->node[node_of[side]];
            if (!restart(stage, node_of[side], false)) {
                return false;
            }
            node_wait_still(node, "store_bytes", NODE_STORE_LOOKS);
            site->warmed[side] = measure(node);
        }
    }
    return true;
}

// Values that the proxy does not hold, one after another; the same again when it holds them. What
// its own count of misses says tells whether each class is pure.
static bool probe(struct stage *stage)
{
    const struct node *proxy = &stage->nodes->node[NODE_PROXY];
    struct site *site = stage->site;
    uint64_t first = stage->joinable, count = stage->options->probes;
    struct load_options replica = load_of(stage, SIDE_REPLICA, 0);
    struct load_options load = load_of(stage, SIDE_PROXY, 0);
    double start = node_metric(proxy, "fetch_misses");
    struct histogram *cold = mem_zalloc(sizeof *cold); // the replica reads them from the disk once
    bool read = load_each(&replica, first, count, cold, &site->probes);
    mem_free(cold);
    if (!read || !load_each(&replica, first, count, &site->replica, &site->probes) ||
        !load_each(&load, first, count, &site->remote, &site->probes)) {
        return false;
    }
    node_wait_still(proxy, "fills", FILL_LOOKS);
    double between = node_metric(proxy, "fetch_misses");
    if (!load_each(&load, first, count, &site->local, &site->probes)) {
        return false;
    }
    site->remote_misses = between - start;
    site->local_misses = node_metric(proxy, "fetch_misses") - between;
    return true;
}

static bool write_some(const struct stage *stage)
{
    struct writes writes;
    double rate;
    start_writes(stage, COMEBACK_WRITES, &writes);
    clock_sleep_ns(stage->options->seconds * NS_PER_S);
    return writes_stop(&writes, &rate) && nodes_settle(stage->nodes);
}

// The misses of the same look-ups before the proxy ends and after it has come back, and how long it
// takes to its first answer. Writes before it leave a journal to be replayed.
static bool come_back(struct stage *stage, int end)
{
    struct comeback *comeback = &stage->site->comebacks[end];
    const struct node *proxy = &stage->nodes->node[NODE_PROXY];
    struct load_options load = load_of(stage, SIDE_PROXY, stage->options->seconds * NS_PER_S);
    struct load_result *result = &stage->site->probes;
    struct lookups copy;
    lookups_copy(&copy, &stage->lookups);
    uint64_t present = result->present.count;
    bool fine = write_some(stage);
    double before = node_metric(proxy, "fetch_misses");
    fine = fine && load_run(&copy, &load, result);
    lookups_close(&copy);
    comeback->misses_before = node_metric(proxy, "fetch_misses") - before;
    comeback->present = result->present.count - present;
    if (fine && end == END_KILL) {
        node_kill(stage->nodes, NODE_PROXY);
    }
    fine = fine && (end == END_KILL || node_stop(stage->nodes, NODE_PROXY)) && !interrupted() &&
           node_start(stage->nodes, NODE_PROXY, false);
    comeback->first_answer_ns = proxy->start_ns;
    before = node_metric(proxy, "fetch_misses");
    fine = fine && load_run(&stage->lookups, &load, result);
    comeback->misses_after = node_metric(proxy, "fetch_misses") - before;
    return fine;
}

// Memory first; a restart then brings everything onto the disk.
static bool take_stock(struct stage *stage)
{
    for (int side = 0; side < SIDE_COUNT; side++) {
        const struct node *node = &stage->nodes->node[node_of[side]];
        stage->site->resident[side] = node_resident_bytes(node->process);
        stage->site->metrics[side] = node_metrics(node);
        stage->site->keys = (uint64_t)node_metric(node, "keys");
        if (!restart(stage, node_of[side], false)) {
            return false;
        }
        node_wait_still(node, "store_bytes", NODE_STORE_LOOKS);
        stage->site->in_end[side] = measure(node);
    }
    return true;
}

static bool run_site(const struct roles_options *options, struct nodes *nodes, struct site *site)
{
    struct stage stage = {
        .options = options,
        .nodes = nodes,
        .site = site,
        .joinable = options->pairs->count - options->probes,
    };
    site->working_set = options->pairs->count * site->percent / 100;
    lookups_open(&stage.lookups,
                 &(struct lookups_options){
                     .seed = options->pairs->options.seed,
                     .pairs = options->pairs->count,
                     .working_set = site->working_set,
                     .limit = stage.joinable,
                     .renewal = RENEWED_A_MINUTE * (double)site->working_set /
                                (60 * (double)options->rate),
                 });
    bool fine = begin_proxy(&stage) && warm(&stage) && probe(&stage);
    if (fine) {
        claims_of_stores(options->pairs, site);
        results_site(options, site);
        say("measuring");
        fine = run_cells(&stage) && come_back(&stage, END_STOP) && come_back(&stage, END_KILL) &&
               take_stock(&stage);
    }
    if (fine) {
        results_site_end(site);
    }
    lookups_close(&stage.lookups);
    return fine;
}

// ---- the data -----------------------------------------------------------------------------------

// The file that says that a kept directory has been loaded, and with what.
static bool is_loaded(const char *path, const char *with)
{
    char text[128] = "";
    FILE *file = fopen(path, "re");
    bool same = file != NULL && fgets(text, sizeof text, file) != NULL && strcmp(text, with) == 0;
    if (file != NULL) {
        fclose(file);
    }
    return same;
}

static bool note_loaded(const char *path, const char *with)
{
    FILE *file = fopen(path, "we");
    bool noted = file != NULL && fputs(with, file) >= 0;
    return file != NULL && fclose(file) == 0 && noted;
}

static bool load_all(const struct roles_options *options, struct nodes *nodes)
{
    struct writes_options all = {
        .socket = nodes->node[NODE_ROOT].socket,
        .pairs = options->pairs,
        .count = options->pairs->count,
    };
    say("loading");
    redisReply *reply = conn_ask(all.socket, NS_PER_S, "DBSIZE");
    bool empty = reply != NULL && reply->type == REDIS_REPLY_INTEGER && reply->integer == 0;
    freeReplyObject(reply);
    if (!empty) {
        fprintf(stderr, "qs-bench: %s holds other or unfinished data: remove it\n",
                nodes->directory);
    }
    return empty && writes_all(&all) && nodes_settle(nodes);
}

// Root and replica with all pairs, loaded now or by a run before.
static bool load_data(const struct roles_options *options, struct nodes *nodes)
{
    char *path = mem_format("%s/loaded", nodes->directory);
    char *with = pairs_identity(options->pairs);
    uint64_t began = clock_mono_ns();
    bool fine = node_start(nodes, NODE_ROOT, false) && node_start(nodes, NODE_REPLICA, false);
    if (fine && !is_loaded(path, with)) {
        fine = load_all(options, nodes) && note_loaded(path, with);
        results_loaded(options, clock_mono_ns() - began);
    }
    mem_free(path);
    mem_free(with);
    return fine;
}

// ---- all of it ----------------------------------------------------------------------------------

static uint64_t faults(const struct load_result *result)
{
    if (result->fault[0] != '\0') {
        fprintf(stderr, "qs-bench: %s\n", result->fault);
    }
    return result->wrong + result->errors + result->lost;
}

static uint64_t count_faults(const struct roles *roles)
{
    uint64_t count = 0;
    for (size_t i = 0; i < roles->site_count; i++) {
        const struct site *site = &roles->sites[i];
        count += faults(&site->probes);
        for (size_t j = 0; j < site->cell_count; j++) {
            for (int side = 0; side < SIDE_COUNT; side++) {
                count += faults(&site->cells[j].sides[side].load);
            }
        }
    }
    return count;
}

int roles_run(const struct roles_options *options)
{
    interrupt_catch();
    prctl(PR_SET_TIMERSLACK, 1); // ns: a look-up that is due is not put off to save wake-ups
    struct roles *roles = mem_zalloc(sizeof *roles);
    roles->options = *options;
    bool fine = true;
    results_start(options);
    struct nodes nodes;
    fine = nodes_open(&nodes, options->data, options->io, options->cache) &&
           load_data(options, &nodes);
    for (size_t i = 0; fine && i < options->working_set_count; i++) {
        struct site *site = &roles->sites[roles->site_count++];
        site->percent = options->working_set[i];
        fine = run_site(options, &nodes, site);
    }
    fine = nodes_close(&nodes, options->keep || options->data != NULL) && fine;
    if (fine && options->out != NULL) {
        fine = results_write(roles) && picture_write(roles);
    }
    if (interrupted()) {
        say("interrupted");
    }
    results_claims(roles);
    uint64_t wrong = count_faults(roles);
    printf("\n%llu answers wrong, missing or errors\n", (unsigned long long)wrong);
    for (size_t i = 0; i < roles->site_count; i++) {
        mem_free(roles->sites[i].cells);
        mem_free(roles->sites[i].metrics[SIDE_REPLICA]);
        mem_free(roles->sites[i].metrics[SIDE_PROXY]);
    }
    mem_free(roles);
    return fine && wrong == 0 ? 0 : 1;
}
