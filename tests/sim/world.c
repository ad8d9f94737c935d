// SPDX-License-Identifier: Apache-2.0
// The queue is a binary heap in the order (time, order of setting), with each actor knowing its
// place, so that moving one is cheap and nothing stale is ever in it. The keys stand in the heap:
// the actors lie all over memory.
#include "tests/sim/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINES 400
#define LINE_BYTES 240

struct slot {
    uint64_t at_ns;
    uint64_t order;
    struct actor *actor;
};

struct world {
    uint64_t seed;
    uint64_t chance;
    uint64_t now_ns;
    uint64_t events;
    uint64_t trace;
    uint64_t orders;
    uint32_t actors;
    struct host *host;
    jmp_buf death;
    bool mortal; // `death` is set
    struct slot queue[QUEUE_MAX]; // from 1 on
    size_t queued;
    struct list memory;
    uint64_t counts[COUNT_TOTAL];
    char lines[LINES][LINE_BYTES];
    uint64_t line_count;
    bool verbose;
};

static struct world world;

static uint64_t mix(uint64_t x)
{
    // splitmix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators").
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
    return x ^ (x >> 31);
}

void world_open(uint64_t seed, bool verbose)
{
    world.seed = seed;
    world.chance = mix(seed + 1);
    world.now_ns = NS_PER_S;
    world.events = 0;
    world.trace = 0;
    world.orders = 0;
    world.actors = 0;
    world.host = NULL;
    world.mortal = false;
    world.queued = 0;
    world.line_count = 0;
    world.verbose = verbose;
    list_init(&world.memory);
    memset(world.counts, 0, sizeof world.counts);
}

void world_close(void) { memory_drop(&world.memory); }

uint64_t world_seed(void) { return world.seed; }
uint64_t world_now_ns(void) { return world.now_ns; }
uint64_t world_events(void) { return world.events; }
uint64_t world_trace(void) { return world.trace; }
struct list *world_memory(void) { return &world.memory; }

void world_note(uint64_t what) { world.trace = mix(world.trace + what + 0x9e3779b97f4a7c15ull); }

// ---- queue -------------------------------------------------------------------------------------

static bool earlier(const struct slot *a, const struct slot *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void put(size_t place, struct slot slot)
{
    world.queue[place] = slot;
    slot.actor->place = place;
}

static void rise(size_t place, struct slot slot)
{
    while (place > 1 && earlier(&slot, &world.queue[place / 2])) {
        put(place, world.queue[place / 2]);
        place /= 2;
    }
    put(place, slot);
}

static void sink(size_t place, struct slot slot)
{
    for (;;) {
        size_t child = place * 2;
        if (child < world.queued && earlier(&world.queue[child + 1], &world.queue[child])) {
            child++;
        }
        if (child > world.queued || !earlier(&world.queue[child], &slot)) {
            break;
        }
        put(place, world.queue[child]);
        place = child;
    }
    put(place, slot);
}

void actor_init(struct actor *actor, struct host *host, void (*run)(struct actor *actor))
{
    *actor = (struct actor){.run = run, .host = host, .id = ++world.actors};
}

void actor_cancel(struct actor *actor)
{
    size_t place = actor->place;
    if (place == 0) {
        return;
    }
    actor->place = 0;
    struct slot last = world.queue[world.queued--];
    if (last.actor == actor) {
        return;
    }
    if (place > 1 && earlier(&last, &world.queue[place / 2])) {
        rise(place, last);
    } else {
        sink(place, last);
    }
}

void actor_by(struct actor *actor, uint64_t at_ns)
{
    if (actor->place != 0 && actor->at_ns <= at_ns) {
        return;
    }
    actor_cancel(actor);
    actor->at_ns = u64_max(at_ns, world.now_ns);
    actor->put_off = false;
    CHECK(world.queued + 1 < QUEUE_MAX);
    world.queued++;
    rise(world.queued,
         (struct slot){.at_ns = actor->at_ns, .order = ++world.orders, .actor = actor});
}

void actor_after(struct actor *actor, uint64_t delay_ns)
{
    actor_by(actor, delay_ns > UINT64_MAX - world.now_ns ? UINT64_MAX : world.now_ns + delay_ns);
}

void actors_cancel(const struct host *host)
{
    for (size_t i = 1; i <= world.queued; i++) {
        if (world.queue[i].actor->host == host) {
            actor_cancel(world.queue[i].actor);
            i = 0;
        }
    }
}

void host_wake(struct host *host)
{
    host->asleep_until_ns = 0;
    for (size_t i = 1; i <= world.queued; i++) {
        struct actor *actor = world.queue[i].actor;
        if (actor->host == host && actor->put_off) {
            actor_cancel(actor);
            actor_by(actor, world.now_ns);
            i = 0;
        }
    }
}

static void run_actor(void *argument)
{
    struct actor *actor = argument;
    actor->run(actor);
}

bool world_step(void)
{
    if (world.queued == 0) {
        return false;
    }
    struct actor *actor = world.queue[1].actor;
    struct host *host = actor->host;
    actor_cancel(actor);
    world.now_ns = u64_max(world.now_ns, actor->at_ns);
    if (host != NULL && host->asleep_until_ns > world.now_ns) {
        actor_by(actor, host->asleep_until_ns);
        actor->put_off = true;
        return true;
    }
    world.events++;
    world_note(actor->id ^ (world.now_ns << 16));
    if (host == NULL) {
        actor->run(actor);
    } else if (!world_enter(host, run_actor, actor)) {
        host->died(host);
    }
    return true;
}

// ---- hosts -------------------------------------------------------------------------------------

bool world_enter(struct host *host, void (*run)(void *argument), void *argument)
{
    struct host *const before = world.host;
    CHECK(before == NULL);
    world.host = host;
    world.mortal = host != NULL;
    bool alive = true;
    if (host == NULL || _setjmp(world.death) == 0) {
        run(argument);
    } else {
        alive = false;
    }
    world.mortal = false;
    world.host = NULL;
    return alive;
}

struct host *world_host(void) { return world.host; }

struct host *world_become(struct host *host)
{
    struct host *before = world.host;
    world.host = host;
    return before;
}

void world_die(void)
{
    CHECK(world.mortal);
    _longjmp(world.death, 1);
}

void world_touch_disk(void)
{
    struct host *host = world.host;
    if (host == NULL) {
        return;
    }
    world.now_ns += TOUCH_NS;
    if (world.mortal && host->deadly_steps > 0 && --host->deadly_steps == 0) {
        world_die();
    }
}

// ---- chance ------------------------------------------------------------------------------------

uint64_t chance_u64(void)
{
    world.chance += 0x9e3779b97f4a7c15ull;
    return mix(world.chance);
}

uint64_t chance_below(uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)chance_u64() * bound) >> 64);
}

uint64_t chance_between(uint64_t least, uint64_t most)
{
    return least + chance_below(most - least + 1);
}

bool chance_permille(unsigned permille) { return chance_below(1000) < permille; }

uint64_t chance_skewed(uint64_t least, uint64_t most)
{
    uint64_t shift = chance_below(12);
    return least + chance_below(((most - least) >> shift) + 1);
}

// ---- log and counts ----------------------------------------------------------------------------

void world_log(const char *who, const char *format, ...)
{
    char *line = world.lines[world.line_count++ % LINES];
    int used = snprintf(line, LINE_BYTES, "%12.6f %-8s ", (double)world.now_ns / 1e9, who);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + used, (size_t)(LINE_BYTES - used), format, arguments);
    va_end(arguments);
    if (world.verbose) {
        fprintf(stderr, "%s\n", line);
    }
}

void world_fail(const char *format, ...)
{
    uint64_t first = world.line_count > LINES ? world.line_count - LINES : 0;
    for (uint64_t i = first; i < world.line_count && !world.verbose; i++) {
        fprintf(stderr, "%s\n", world.lines[i % LINES]);
    }
    fprintf(stderr, "FAILED seed %llu at %.6f s: ", (unsigned long long)world.seed,
            (double)world.now_ns / 1e9);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\n");
    fflush(stderr);
    _exit(1);
}

void count_add(enum count what, uint64_t amount) { world.counts[what] += amount; }

void counts_take(uint64_t to[COUNT_TOTAL])
{
    for (unsigned i = 0; i < COUNT_TOTAL; i++) {
        to[i] += world.counts[i];
    }
}

const struct count_row *count_row(enum count what)
{
    static const struct count_row rows[] = {
#define COUNT(name, need, help) {#name, help, need},
#include "tests/sim/counts.inc"
    };
    return &rows[what];
}
