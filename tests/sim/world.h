// SPDX-License-Identifier: Apache-2.0
// The simulated world: one clock, one generator of random numbers, one queue of events, all from
// one seed, on one thread. Everything that would be a thread, a socket or a disk in a daemon is an
// actor here: it has a time at which it wants to run, and runs to its end.
//
// Code of a node runs inside world_enter, which says whose memory, clock and files are meant. A
// node may die at any point where it touches its disk (world_die): the stack is left where it is
// and world_enter returns false. Memory of a node is dropped whole.
//
// One world at a time in a process; the seams (clock, memory, threads, files, sockets) reach it
// through these functions, since the interfaces that they stand in for carry no argument.
#ifndef QS_TESTS_SIM_WORLD_H
#define QS_TESTS_SIM_WORLD_H

#include "common/base/list.h"
#include "tests/sim/pace.h"

struct host;

struct actor {
    void (*run)(struct actor *actor);
    struct host *host; // whose code it runs, NULL: the world's own
    uint64_t at_ns;    // when it wants to run
    size_t place;      // in the queue, 0 = not queued
    bool put_off;      // it wanted to run before, when its host slept
    uint32_t id;
};

// A machine as the world sees it: what of it must be known to run its code. Nodes embed it.
struct host {
    unsigned number;
    struct list memory;      // every allocation of its process
    uint64_t born_ns;        // its monotonic clock began then ...
    int64_t skew_ppm;        // ... and runs this much too fast
    uint64_t wall_ms;        // what its wall clock said then
    uint64_t asleep_until_ns; // nothing of it runs before
    uint64_t deadly_steps;   // touches of the disk until it dies, 0 = lives on
    bool held; // it said that it stops before a block at which its starts died
    void (*died)(struct host *host); // it did so while one of its actors ran
};

// ---- life of a world ---------------------------------------------------------------------------

void world_open(uint64_t seed, bool verbose);
void world_close(void); // frees what is left
uint64_t world_seed(void);
uint64_t world_now_ns(void);
uint64_t world_events(void);
uint64_t world_trace(void); // a hash of everything that happened, in order

// Runs the next event. False: nothing is queued.
bool world_step(void);

// ---- actors ------------------------------------------------------------------------------------

void actor_init(struct actor *actor, struct host *host, void (*run)(struct actor *actor));
// Runs at `at_ns`, or earlier when it is queued for earlier.
void actor_by(struct actor *actor, uint64_t at_ns);
void actor_after(struct actor *actor, uint64_t delay_ns);
void actor_cancel(struct actor *actor);
// Takes every queued actor of a host out.
void actors_cancel(const struct host *host);

// A host that is asleep wakes up, now.
void host_wake(struct host *host);

// ---- hosts -------------------------------------------------------------------------------------

// Runs `run` as code of `host` (NULL: the world's own). False: the host died meanwhile.
bool world_enter(struct host *host, void (*run)(void *argument), void *argument) MUST_CHECK;
struct host *world_host(void); // whose code runs now
// As code of `host` for a few lines that cannot die: returns who it was before.
struct host *world_become(struct host *host);
// The running host touches its disk: it may die here.
void world_touch_disk(void);
NORETURN void world_die(void);

// ---- chance ------------------------------------------------------------------------------------

uint64_t chance_u64(void);
uint64_t chance_below(uint64_t bound);                     // [0, bound)
uint64_t chance_between(uint64_t least, uint64_t most);    // [least, most]
bool chance_permille(unsigned permille);
// Mostly near `least`, now and then near `most`: for delays.
uint64_t chance_skewed(uint64_t least, uint64_t most);

// ---- what happened -----------------------------------------------------------------------------

void world_note(uint64_t what); // goes into the trace

#define WORLD_NAME_MAX 16
void world_log(const char *who, const char *format, ...) PRINTF_LIKE(2, 3);

// The seed shows a bug: prints it with the last lines of the log, and ends the process.
NORETURN void world_fail(const char *format, ...) PRINTF_LIKE(1, 2);

#define WORLD_CHECK(condition, ...) ((condition) ? (void)0 : world_fail(__VA_ARGS__))

enum count {
#define COUNT(name, need, help) COUNT_##name,
#include "tests/sim/counts.inc"
    COUNT_TOTAL
};
void count_add(enum count what, uint64_t amount);
void counts_take(uint64_t to[COUNT_TOTAL]); // adds to `to`
struct count_row {
    const char *name;
    const char *help;
    unsigned needed; // by which families: counts.inc
};
const struct count_row *count_row(enum count what);

// ---- memory of the running host (tests/sim/memory.c) -------------------------------------------

void memory_drop(struct list *memory); // frees every allocation on the list
size_t memory_count(const struct list *memory);
// The same allocator, always the world's own: for what outlives processes (disks).
void *world_alloc(size_t size);
void *world_zalloc(size_t size);
void *world_realloc(void *memory, size_t size);
void *world_copy(const void *data, size_t size);
char *world_text(const char *text);
struct list *world_memory(void);

#endif
