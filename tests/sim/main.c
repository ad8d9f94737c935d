// SPDX-License-Identifier: Apache-2.0
// sim: whole trees from seeds. Each worker process takes the next seed; a failing one prints what
// it knows and dies, and another process goes on. SIGINT and SIGTERM end the batch early, in order:
// what has been run counts.
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/base/base.h"
#include "tests/sim/partition.h"
#include "tests/sim/several.h"

#define JOBS_MAX 64
#define NEEDED_SEEDS 300 // a smaller batch need not have seen everything
#define FAILURES_MAX 10

struct shared {
    _Atomic uint64_t next;
    _Atomic uint64_t stopped; // the first seed that was not begun, once it is decided
    _Atomic uint64_t failures;
    _Atomic uint64_t counts[COUNT_TOTAL];
    _Atomic uint64_t at[JOBS_MAX]; // the seed under way
    struct tallies tallies;
};

static struct shared *batch; // for the signals alone

struct settings {
    uint64_t first, last;
    unsigned jobs;
    bool verbose, twice, calm, partitions, roots;
    const char *ledger;
};

static const char usage[] =
    "sim: runs whole trees from seeds, with faults, and checks every answer\n"
    "  --seeds A..B   these seeds (default 1..3000)\n"
    "  --seed N       one seed\n"
    "  --jobs N       processes (default: one a core)\n"
    "  --verbose      the whole log, as it comes\n"
    "  --twice        each seed twice: the traces must be equal\n"
    "  --calm         no faults\n"
    "  --partitions   another tree, and no faults but partitions\n"
    "  --roots        instances with several roots\n"
    "  --ledger FILE  append a line with the outcome\n";

static struct run_result run_once(const struct settings *settings, uint64_t seed,
                                  struct tallies *tallies, uint64_t counts[COUNT_TOTAL])
{
    struct run_result result;
    if (settings->partitions) {
        partition_seed(seed, settings->verbose, tallies, &result, counts);
    } else if (settings->roots) {
        several_seed(seed, settings->verbose, tallies, &result, counts);
    } else {
        run_seed(seed, settings->verbose, !settings->calm, &result, counts);
    }
    return result;
}

static void run_one(const struct settings *settings, uint64_t seed, struct shared *shared)
{
    uint64_t counts[COUNT_TOTAL] = {0};
    struct run_result result = run_once(settings, seed, &shared->tallies, counts);
    if (settings->twice) {
        static struct tallies ignored;
        uint64_t ignored_counts[COUNT_TOTAL] = {0};
        struct run_result again = run_once(settings, seed, &ignored, ignored_counts);
        if (again.trace != result.trace) {
            fprintf(stderr, "FAILED seed %llu: two runs differ\n", (unsigned long long)seed);
            _exit(1);
        }
    }
    if (settings->first == settings->last) {
        printf("seed %llu: %.1f s simulated, %llu events, trace %016llx\n",
               (unsigned long long)seed, (double)result.sim_ns / 1e9,
               (unsigned long long)result.events, (unsigned long long)result.trace);
        fflush(stdout);
    }
    for (unsigned i = 0; i < COUNT_TOTAL; i++) {
        atomic_fetch_add(&shared->counts[i], counts[i]);
    }
}

// No seed is begun any more. The first one that was not is kept.
static void stop(struct shared *shared)
{
    uint64_t next = atomic_exchange(&shared->next, UINT64_MAX / 2);
    uint64_t none = 0;
    atomic_compare_exchange_strong(&shared->stopped, &none, next);
}

static void on_signal(int number)
{
    (void)number;
    stop(batch);
}

static NORETURN void work(const struct settings *settings, unsigned job, struct shared *shared)
{
    uint64_t seed;
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    while ((seed = atomic_fetch_add(&shared->next, 1)) <= settings->last) {
        atomic_store(&shared->at[job], seed);
        run_one(settings, seed, shared);
    }
    _exit(0);
}

static pid_t start(const struct settings *settings, unsigned job, struct shared *shared)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        work(settings, job, shared);
    }
    if (pid < 0) {
        perror("fork");
        exit(3);
    }
    return pid;
}

// Runs the batch; returns when no process is left.
static void run_batch(const struct settings *settings, struct shared *shared)
{
    pid_t pids[JOBS_MAX];
    unsigned running = settings->jobs;
    for (unsigned i = 0; i < settings->jobs; i++) {
        pids[i] = start(settings, i, shared);
    }
    while (running > 0) {
        int status;
        pid_t pid = wait(&status);
        unsigned job = 0;
        while (job < settings->jobs && pids[job] != pid) {
            job++;
        }
        if (job == settings->jobs || (WIFEXITED(status) && WEXITSTATUS(status) == 0)) {
            running--;
            continue;
        }
        if (WIFSIGNALED(status)) {
            fprintf(stderr, "FAILED seed %llu: signal %d\n",
                    (unsigned long long)atomic_load(&shared->at[job]), WTERMSIG(status));
        }
        if (atomic_fetch_add(&shared->failures, 1) + 1 >= FAILURES_MAX) {
            stop(shared);
        }
        pids[job] = start(settings, job, shared);
    }
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// Prints the counts; returns how many needed ones are 0.
static unsigned print_counts(const struct settings *settings, struct shared *shared)
{
    unsigned missing = 0, family = settings->roots ? 2 : 1;
    bool strict = settings->last - settings->first + 1 >= NEEDED_SEEDS && !settings->calm &&
                  !settings->partitions;
    for (unsigned i = 0; i < COUNT_TOTAL; i++) {
        const struct count_row *row = count_row((enum count)i);
        uint64_t value = atomic_load(&shared->counts[i]);
        if (value == 0 && row->needed != 0 && (row->needed & family) == 0) {
            continue; // of the other kind of world
        }
        bool lacks = strict && (row->needed & family) != 0 && value == 0;
        missing += lacks ? 1 : 0;
        printf("  %-18s %14llu  %s%s\n", row->name, (unsigned long long)value, row->help,
               lacks ? "   <-- never happened" : "");
    }
    return missing;
}

static void write_ledger(const struct settings *settings, struct shared *shared, double seconds)
{
    char commit[64] = "unknown";
    FILE *pipe = popen("git describe --always --dirty 2>/dev/null", "r");
    if (pipe != NULL) {
        if (fgets(commit, sizeof commit, pipe) != NULL) {
            commit[strcspn(commit, "\n")] = '\0';
        }
        pclose(pipe);
    }
    char date[32];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(date, sizeof date, "%Y-%m-%d", &utc);
    FILE *file = fopen(settings->ledger, "a");
    if (file == NULL) {
        fprintf(stderr, "sim: cannot append to %s: %s\n", settings->ledger, strerror(errno));
        return;
    }
    fprintf(file, "%s\t%s\t%s%llu..%llu\t%.0f\t%llu\t%llu\n", date, commit,
            settings->partitions ? "partitions " : settings->roots ? "roots " : "",
            (unsigned long long)settings->first,
            (unsigned long long)settings->last, seconds,
            (unsigned long long)atomic_load(&shared->counts[COUNT_events]),
            (unsigned long long)atomic_load(&shared->failures));
    fclose(file);
}

static bool parse_range(const char *text, struct settings *settings)
{
    char *end;
    settings->first = strtoull(text, &end, 10);
    if (strncmp(end, "..", 2) != 0) {
        return false;
    }
    settings->last = strtoull(end + 2, &end, 10);
    return *end == '\0' && settings->first <= settings->last;
}

static int parse(int count, char **words, struct settings *settings)
{
    static const struct option options[] = {
        {"seeds", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'n'},
        {"jobs", required_argument, NULL, 'j'},  {"verbose", no_argument, NULL, 'v'},
        {"twice", no_argument, NULL, 't'},       {"calm", no_argument, NULL, 'c'},
        {"ledger", required_argument, NULL, 'l'}, {"help", no_argument, NULL, 'h'},
        {"partitions", no_argument, NULL, 'p'},  {"roots", no_argument, NULL, 'r'},
        {0},
    };
    int option;
    while ((option = getopt_long(count, words, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            if (!parse_range(optarg, settings)) {
                return 2;
            }
            break;
        case 'n':
            settings->first = settings->last = strtoull(optarg, NULL, 10);
            break;
        case 'j':
            settings->jobs = (unsigned)strtoul(optarg, NULL, 10);
            break;
        case 'v':
            settings->verbose = true;
            break;
        case 't':
            settings->twice = true;
            break;
        case 'c':
            settings->calm = true;
            break;
        case 'p':
            settings->partitions = true;
            break;
        case 'r':
            settings->roots = true;
            break;
        case 'l':
            settings->ledger = optarg;
            break;
        default:
            return 2;
        }
    }
    return optind == count && settings->jobs > 0 && settings->jobs <= JOBS_MAX ? 0 : 2;
}

int main(int count, char **words)
{
    struct settings settings = {
        .first = 1, .last = 3000, .jobs = (unsigned)sysconf(_SC_NPROCESSORS_ONLN)};
    if (parse(count, words, &settings) != 0) {
        fputs(usage, stderr);
        return 2;
    }
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        perror("sim: mmap");
        return 3;
    }
    atomic_store(&shared->next, settings.first);
    settings.jobs = settings.first == settings.last ? 1 : settings.jobs;
    batch = shared;
    signal(SIGINT, on_signal);
    signal(SIGTERM, on_signal);
    double begun = seconds_now();
    run_batch(&settings, shared);
    double seconds = seconds_now() - begun;
    uint64_t stopped = atomic_load(&shared->stopped);
    settings.last = stopped != 0 && stopped <= settings.last ? stopped - 1 : settings.last;
    unsigned missing = print_counts(&settings, shared);
    tallies_print(&shared->tallies);
    uint64_t seeds = atomic_load(&shared->counts[COUNT_seeds]);
    uint64_t failures = atomic_load(&shared->failures);
    printf("%llu seeds, %.0f simulated s, %llu events in %.1f s: %.0f seeds/s, %llu failures\n",
           (unsigned long long)seeds, (double)atomic_load(&shared->counts[COUNT_sim_ms]) / 1e3,
           (unsigned long long)atomic_load(&shared->counts[COUNT_events]), seconds,
           (double)seeds / seconds, (unsigned long long)failures);
    if (settings.ledger != NULL) {
        write_ledger(&settings, shared, seconds);
    }
    return failures == 0 && missing == 0 ? 0 : 1;
}
