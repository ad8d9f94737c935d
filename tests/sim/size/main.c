// SPDX-License-Identifier: Apache-2.0
// size: a tree of thousands of nodes in one process, in simulated time. Prints a table, and writes
// what a picture of it needs.
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "tests/sim/model.h"
#include "tests/sim/size/report.h"
#include "tests/sim/size/storm.h"

static const char usage[] =
    "size: runs one large tree from a seed and prints what was measured\n"
    "  --nodes N      nodes of all sites together (default 500)\n"
    "  --sites N      (default 50)\n"
    "  --seed N       (default 1)\n"
    "  --steady MS    for so long it is measured under 1,000 writes/s (default 2000)\n"
    "  --points FILE  what the picture is drawn from\n"
    "  --nearest      nodes are told of the nearest sites, also of those further from the root\n"
    "  --calm         no faults\n"
    "  --storm        instead: the nodes of one site, all empty, begin at once, in several ways\n"
    "  --verbose      the whole log, as it comes\n";

// What nodes tell a campaign's sessions and model, which are not here.
void model_catch_up(struct journal *journal, uint64_t last) { (void)journal, (void)last; }
void model_check_end(struct journal *journal) { (void)journal; }
void sessions_lost(struct node *node) { (void)node; }

static bool parse(int count, char **words, struct trial_setup *setup, const char **ret_points,
                  bool *ret_storm)
{
    static const struct option options[] = {
        {"nodes", required_argument, NULL, 'n'},  {"sites", required_argument, NULL, 's'},
        {"seed", required_argument, NULL, 'r'},   {"steady", required_argument, NULL, 't'},
        {"points", required_argument, NULL, 'p'}, {"calm", no_argument, NULL, 'c'},
        {"nearest", no_argument, NULL, 'l'},      {"storm", no_argument, NULL, 'm'},
        {"verbose", no_argument, NULL, 'v'},
        {0},
    };
    int option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        switch (option) {
        case 'n':
            setup->nodes = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 's':
            setup->sites = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'r':
            setup->seed = strtoull(optarg, NULL, 10);
            break;
        case 't':
            setup->steady_ms = strtoull(optarg, NULL, 10);
            break;
        case 'p':
            *ret_points = optarg;
            break;
        case 'l':
            setup->lists = LISTS_NEAREST;
            break;
        case 'c':
            setup->calm = true;
            break;
        case 'm':
            *ret_storm = true;
            break;
        case 'v':
            setup->verbose = true;
            break;
        default:
            return false;
        }
    }
    if (*ret_storm) {
        return optind == count && setup->nodes > 0 && setup->nodes < NODES_MAX;
    }
    return optind == count && setup->nodes <= NODES_MAX && setup->sites <= PLACES_MAX &&
           setup->sites >= 2 && setup->nodes / setup->sites >= 4 && setup->steady_ms >= 100 &&
           setup->steady_ms <= 15000;
}

static void print_cost(const struct trial *trial)
{
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    fprintf(stderr, "%.1f s simulated, %llu events, trace %016llx; %ld s of processor, %ld MB\n",
            (double)trial->simulated_ms / 1e3, (unsigned long long)trial->events,
            (unsigned long long)trial->trace, used.ru_utime.tv_sec + used.ru_stime.tv_sec,
            used.ru_maxrss / 1024);
}

int main(int count, char **words)
{
    struct trial_setup setup = {.seed = 1, .nodes = 500, .sites = 50, .steady_ms = 2000};
    const char *points = NULL;
    bool storm = false;
    if (!parse(count, words, &setup, &points, &storm)) {
        fputs(usage, stderr);
        return 2;
    }
    if (storm) {
        storm_print(setup.seed, setup.nodes, setup.verbose);
        return 0;
    }
    static struct trial trial;
    trial_run(&setup, &trial);
    report_print(&setup, &trial);
    bool written = points == NULL || report_points(points, &trial);
    print_cost(&trial);
    trial_close();
    return written ? 0 : 3;
}
