// SPDX-License-Identifier: Apache-2.0
#include "bench/results.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/claims.h"
#include "bench/nodes.h"
#include "common/base/mem.h"

#define PERCENTILES 3
static const double percentiles[PERCENTILES] = {0.5, 0.99, 0.999};
static const char *const percentile_names[PERCENTILES] = {"p50_us", "p99_us", "p999_us"};
static const char *const side_names[SIDE_COUNT] = {"replica", "proxy"};
static const char *const end_names[END_COUNT] = {"after a clean stop", "after kill -9"};
static const char *const end_keys[END_COUNT] = {"clean_stop", "kill_9"};

static double us(const struct histogram *histogram, double share)
{
    return (double)histogram_ns(histogram, share) / 1e3;
}

static double share(uint64_t part, uint64_t whole)
{
    return whole > 0 ? (double)part / (double)whole : 0;
}

static double hit_rate(const struct side *side)
{
    double present = (double)side->load.present.count;
    return present > 0 ? 1 - side->misses / present : 1;
}

// ---- tables -------------------------------------------------------------------------------------

void results_start(const struct roles_options *options)
{
    char *pairs = pairs_text(options->pairs);
    printf("qs-bench roles: replica and proxy under the same look-ups\n"
           "  %s; %d absent keys to 1 present, %llu look-ups a second "
           "over %llu connections\n"
           "  %llu pairs of runs of %llu s a cell, latencies from when a look-up was due, in "
           "microseconds\n",
           pairs, ABSENT_PER_PRESENT, (unsigned long long)options->rate,
           (unsigned long long)options->connections, (unsigned long long)options->runs,
           (unsigned long long)options->seconds);
    mem_free(pairs);
}

void results_loaded(const struct roles_options *options, uint64_t took_ns)
{
    double seconds = (double)took_ns / 1e9;
    printf("  loaded in %.0f s, %.0f pairs a second\n", seconds,
           (double)options->pairs->count / seconds);
    fflush(stdout);
}

static void print_claim(const struct claim *claim)
{
    printf("    %-8s %s\n", claim->held ? "held" : "NOT HELD", claim->text);
}

void results_claims(const struct roles *roles)
{
    uint64_t count = 0, held = 0;
    for (size_t i = 0; i < roles->site_count; i++) {
        const struct site *site = &roles->sites[i];
        for (size_t j = 0; j < site->claim_count; j++, count++) {
            held += site->claims[j].held;
        }
    }
    printf("\n%llu of %llu claims held\n", (unsigned long long)held, (unsigned long long)count);
}

static void print_disk(const char *name, const struct disk disks[SIDE_COUNT])
{
    printf("  %s\n", name);
    for (int side = 0; side < SIDE_COUNT; side++) {
        const struct disk *disk = &disks[side];
        printf("    %-8s store %9.1f MB (%5.1f %% of the replica's), history %7.1f, "
               "journal %7.1f, filter %6.1f, all %9.1f\n",
               side_names[side], (double)disk->store / 1e6,
               100 * share(disk->store, disks[SIDE_REPLICA].store), (double)disk->history / 1e6,
               (double)disk->journal / 1e6, (double)disk->filter / 1e6, (double)disk->total / 1e6);
    }
}

static void print_percentiles(const struct histogram *histogram)
{
    for (size_t i = 0; i < PERCENTILES; i++) {
        printf(" %8.0f", us(histogram, percentiles[i]));
    }
}

static void print_probe(const char *name, const struct histogram *histogram, double misses)
{
    printf("    %-24s %8llu ", name, (unsigned long long)histogram->count);
    print_percentiles(histogram);
    printf("   %8.0f\n", misses);
}

void results_site(const struct roles_options *options, const struct site *site)
{
    printf("\nworking set %llu %%: %llu of %llu pairs\n", (unsigned long long)site->percent,
           (unsigned long long)site->working_set, (unsigned long long)options->pairs->count);
    print_disk("on disk, the proxy with keys alone", site->loaded);
    const struct pairs *pairs = options->pairs;
    printf("    keys alone: %.1f %% of the replica's store, beside %.1f %% of the pairs' bytes\n",
           100 * share(site->loaded[SIDE_PROXY].store, site->loaded[SIDE_REPLICA].store),
           100 * share(pairs->key_bytes, pairs->key_bytes + pairs->value_bytes));
    print_disk("on disk, the working set read once", site->warmed);
    for (size_t i = 0; i < site->claim_count; i++) {
        print_claim(&site->claims[i]);
    }
    printf("  present keys, one after another    n      p50      p99    p99.9   misses there\n");
    print_probe("replica", &site->replica, 0);
    print_probe("proxy, value held", &site->local, site->local_misses);
    print_probe("proxy, value fetched", &site->remote, site->remote_misses);
    fflush(stdout);
}

// The roles' own p99.9 over the runs.
static void print_spread(const struct roles_options *options, const struct side *side)
{
    double sorted[RUNS_MAX];
    for (size_t i = 0; i < options->runs; i++) {
        sorted[i] = (double)side->p999_ns[i] / 1e3;
    }
    qsort(sorted, options->runs, sizeof sorted[0], claims_by_size);
    printf(" median %.0f (quartiles %.0f-%.0f)", claims_quantile(sorted, options->runs, 0.5),
           claims_quantile(sorted, options->runs, 0.25),
           claims_quantile(sorted, options->runs, 0.75));
}

void results_cell(const struct roles_options *options, const struct site *site,
                  const struct cell *cell)
{
    printf("  %s, %llu writes a second (reached %.0f)\n", cell->uniform ? "uniform" : "Zipf 0.99",
           (unsigned long long)cell->writes, cell->write_rate);
    printf("    %-8s %9s | %8s %8s %8s | %8s %8s %8s | %8s %8s %8s | %9s %8s\n", "", "look-ups",
           "all p50", "p99", "p99.9", "absent", "p99", "p99.9", "present", "p99", "p99.9", "misses",
           "hit rate");
    for (int i = 0; i < SIDE_COUNT; i++) {
        const struct side *side = &cell->sides[i];
        printf("    %-8s %9llu |", side_names[i], (unsigned long long)side->load.all.count);
        print_percentiles(&side->load.all);
        printf(" |");
        print_percentiles(&side->load.absent);
        printf(" |");
        print_percentiles(&side->load.present);
        printf(" | %7.4f %% %6.2f %%\n", 100 * side->misses / (double)side->load.all.count,
               100 * hit_rate(side));
    }
    printf("    p99.9 of runs: replica");
    print_spread(options, &cell->sides[SIDE_REPLICA]);
    printf(", proxy");
    print_spread(options, &cell->sides[SIDE_PROXY]);
    printf("\n    p99.9 proxy / replica: median %.2f of %llu pairs (quartiles %.2f-%.2f, all "
           "%.2f-%.2f)\n",
           claims_quantile(cell->ratio, options->runs, 0.5), (unsigned long long)options->runs,
           claims_quantile(cell->ratio, options->runs, 0.25),
           claims_quantile(cell->ratio, options->runs, 0.75),
           claims_quantile(cell->ratio, options->runs, 0),
           claims_quantile(cell->ratio, options->runs, 1));
    for (size_t i = site->claim_count - CLAIMS_OF_CELL; i < site->claim_count; i++) {
        print_claim(&site->claims[i]);
    }
    fflush(stdout);
}

// What a daemon says of its filter of keys and of what it evicted; nothing where it has none.
static void print_told(const char *metrics)
{
    double keys = metrics_value(metrics, "filter_keys");
    double bytes = metrics_value(metrics, "filter_bytes");
    double stopped = metrics_value(metrics, "reads_filtered");
    double passed = metrics_value(metrics, "reads_unfiltered");
    double evicted = metrics_value(metrics, "values_evicted");
    if (keys > 0 && stopped + passed > 0) {
        printf("             front filter %.1f MB, %.1f bits a key, false positives %.4f %%\n",
               bytes / 1e6, 8 * bytes / keys, 100 * passed / (stopped + passed));
    }
    if (evicted > 0) {
        printf("             %.0f values evicted, %.1f MB\n", evicted,
               metrics_value(metrics, "evicted_bytes") / 1e6);
    }
}

static void print_comeback(const struct site *site, int end)
{
    const struct comeback *comeback = &site->comebacks[end];
    double present = (double)u64_max(1, comeback->present);
    printf("    %-18s first answer after %.0f ms; of present keys %.2f %% held before it, %.2f %% "
           "after it\n",
           end_names[end], (double)comeback->first_answer_ns / 1e6,
           100 * (1 - comeback->misses_before / present),
           100 * (1 - comeback->misses_after / present));
}

void results_site_end(const struct site *site)
{
    printf("  the proxy's restarts, %llu keys\n", (unsigned long long)site->keys);
    for (int end = 0; end < END_COUNT; end++) {
        print_comeback(site, end);
    }
    print_disk("on disk, in the end", site->in_end);
    printf("  resident memory, in the end\n");
    for (int side = 0; side < SIDE_COUNT; side++) {
        printf("    %-8s %9.1f MB\n", side_names[side], (double)site->resident[side] / 1e6);
        if (site->metrics[side] != NULL) {
            print_told(site->metrics[side]);
        }
    }
    fflush(stdout);
}

// ---- JSON ---------------------------------------------------------------------------------------

static void put(json_t *to, const char *name, json_t *value)
{
    CHECK(json_object_set_new(to, name, value) == 0);
}

static json_t *integer(uint64_t number) { return json_integer((json_int_t)number); }

static json_t *histogram_json(const struct histogram *histogram)
{
    json_t *to = json_object();
    put(to, "count", integer(histogram->count));
    for (size_t i = 0; i < PERCENTILES; i++) {
        put(to, percentile_names[i], json_real(us(histogram, percentiles[i])));
    }
    return to;
}

static json_t *disk_json(const struct disk *disk)
{
    json_t *to = json_object();
    put(to, "store", integer(disk->store));
    put(to, "history", integer(disk->history));
    put(to, "journal", integer(disk->journal));
    put(to, "filter", integer(disk->filter));
    put(to, "all", integer(disk->total));
    return to;
}

static json_t *side_json(const struct roles_options *options, const struct side *side)
{
    json_t *to = json_object();
    put(to, "all", histogram_json(&side->load.all));
    put(to, "absent", histogram_json(&side->load.absent));
    put(to, "present", histogram_json(&side->load.present));
    put(to, "misses", json_real(side->misses));
    put(to, "first_look_ups", integer(side->load.firsts));
    put(to, "writes_arrived", json_real(side->arrived));
    put(to, "hit_rate", json_real(hit_rate(side)));
    put(to, "wrong", integer(side->load.wrong));
    put(to, "errors", integer(side->load.errors));
    put(to, "lost", integer(side->load.lost));
    json_t *runs = json_array();
    for (size_t i = 0; i < options->runs; i++) {
        json_array_append_new(runs, json_real((double)side->p999_ns[i] / 1e3));
    }
    put(to, "p999_us_of_runs", runs);
    return to;
}

static json_t *ratio_json(const double *sorted, uint64_t count)
{
    json_t *to = json_object();
    put(to, "median", json_real(claims_quantile(sorted, count, 0.5)));
    put(to, "quartile_low", json_real(claims_quantile(sorted, count, 0.25)));
    put(to, "quartile_high", json_real(claims_quantile(sorted, count, 0.75)));
    put(to, "least", json_real(claims_quantile(sorted, count, 0)));
    put(to, "most", json_real(claims_quantile(sorted, count, 1)));
    return to;
}

static json_t *comebacks_json(const struct site *site)
{
    json_t *to = json_object();
    for (int end = 0; end < END_COUNT; end++) {
        const struct comeback *comeback = &site->comebacks[end];
        json_t *one = json_object();
        put(one, "first_answer_ms", json_real((double)comeback->first_answer_ns / 1e6));
        put(one, "present", integer(comeback->present));
        put(one, "misses_before", json_real(comeback->misses_before));
        put(one, "misses_after", json_real(comeback->misses_after));
        put(to, end_keys[end], one);
    }
    put(to, "keys", integer(site->keys));
    return to;
}

static json_t *claims_json(const struct site *site)
{
    json_t *to = json_array();
    for (size_t i = 0; i < site->claim_count; i++) {
        json_t *one = json_object();
        put(one, "claim", json_string(site->claims[i].text));
        put(one, "held", json_boolean(site->claims[i].held));
        json_array_append_new(to, one);
    }
    return to;
}

static json_t *cell_json(const struct roles_options *options, const struct cell *cell)
{
    json_t *to = json_object();
    put(to, "distribution", json_string(cell->uniform ? "uniform" : "zipf 0.99"));
    put(to, "writes", integer(cell->writes));
    put(to, "writes_reached", json_real(cell->write_rate));
    for (int i = 0; i < SIDE_COUNT; i++) {
        put(to, side_names[i], side_json(options, &cell->sides[i]));
    }
    put(to, "p999_proxy_to_replica", ratio_json(cell->ratio, options->runs));
    put(to, "p999_proxy_to_replica_absent", ratio_json(cell->absent_ratio, options->runs));
    return to;
}

// The samples of one scrape as an object.
static json_t *metrics_json(const char *metrics)
{
    json_t *to = json_object();
    for (const char *line = metrics; line != NULL && *line != '\0';) {
        size_t size = strcspn(line, "\n");
        size_t name = strcspn(line, "{ ");
        const char *blank = memrchr(line, ' ', size);
        if (strncmp(line, "qs_", 3) == 0 && blank != NULL) {
            char *text = mem_format("%.*s", (int)name, line);
            put(to, text, json_real(strtod(blank, NULL)));
            mem_free(text);
        }
        line += size + (line[size] == '\n');
    }
    return to;
}

static json_t *site_json(const struct roles_options *options, const struct site *site)
{
    json_t *to = json_object();
    put(to, "working_set_percent", integer(site->percent));
    put(to, "working_set", integer(site->working_set));
    for (int i = 0; i < SIDE_COUNT; i++) {
        json_t *about = json_object();
        put(about, "disk_keys_alone", disk_json(&site->loaded[i]));
        put(about, "disk_working_set_read", disk_json(&site->warmed[i]));
        put(about, "disk_in_the_end", disk_json(&site->in_end[i]));
        put(about, "resident_bytes", integer(site->resident[i]));
        put(about, "metrics", metrics_json(site->metrics[i]));
        put(to, side_names[i], about);
    }
    json_t *probes = json_object();
    put(probes, "replica", histogram_json(&site->replica));
    put(probes, "proxy_held", histogram_json(&site->local));
    put(probes, "proxy_held_misses", json_real(site->local_misses));
    put(probes, "proxy_fetched", histogram_json(&site->remote));
    put(probes, "proxy_fetched_misses", json_real(site->remote_misses));
    put(to, "one_after_another", probes);
    json_t *cells = json_array();
    for (size_t i = 0; i < site->cell_count; i++) {
        json_array_append_new(cells, cell_json(options, &site->cells[i]));
    }
    put(to, "cells", cells);
    put(to, "proxy_restarts", comebacks_json(site));
    put(to, "claims", claims_json(site));
    return to;
}

// Sizes are means; of pairs that are made all values are as long as another.
static void put_pairs(json_t *to, const struct pairs *pairs)
{
    const char *file = pairs_file_name(pairs);
    double count = (double)u64_max(1, pairs->count);
    json_t *name = file != NULL ? json_string(file) : NULL; // NULL, too, when it is no UTF-8
    put(to, "file", name != NULL ? name : json_null());
    put(to, "pairs", integer(pairs->count));
    put(to, "key_bytes", json_real((double)pairs->key_bytes / count));
    put(to, "value_bytes", json_real((double)pairs->value_bytes / count));
    put(to, "seed", integer(pairs->options.seed));
}

bool results_write(const struct roles *roles)
{
    const struct roles_options *options = &roles->options;
    json_t *to = json_object();
    put_pairs(to, options->pairs);
    put(to, "look_ups_a_second", integer(options->rate));
    put(to, "connections", integer(options->connections));
    put(to, "run_seconds", integer(options->seconds));
    put(to, "pairs_of_runs", integer(options->runs));
    put(to, "cache", options->cache != NULL ? json_string(options->cache) : json_null());
    json_t *sites = json_array();
    for (size_t i = 0; i < roles->site_count; i++) {
        json_array_append_new(sites, site_json(options, &roles->sites[i]));
    }
    put(to, "sites", sites);
    char *path = mem_format("%s/%s.json", options->out, options->name);
    bool written = json_dump_file(to, path, JSON_INDENT(1) | JSON_REAL_PRECISION(6)) == 0;
    if (!written) {
        fprintf(stderr, "qs-bench: %s cannot be written\n", path);
    }
    mem_free(path);
    json_decref(to);
    return written;
}
