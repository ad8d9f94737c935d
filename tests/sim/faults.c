// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/faults.h"

#include <stdio.h>
#include <string.h>

#include "common/core/record.h"
#include "common/wire/slice_items.h"
#include "tests/sim/seams.h"
#include "tests/sim/several_faults.h"
#include "tests/sim/store_model.h"

#define SOON_MS 2000 // to a fault that comes on top of another
#define OPERATOR_NS (300 * NS_PER_MS)

struct fault {
    const char *name;
    unsigned weight[FAULTS_SETS];
    bool (*strike)(struct node *node); // false: not possible now
};

static struct {
    struct node *nodes;
    struct node *last; // struck
    unsigned count;
    enum faults_set set;
    uint64_t every_ns;
    uint64_t struck;
    struct actor striker, operator, weather, lister, filler, presser;
    unsigned lies;    // still to be told
    unsigned full;    // number of the node whose disk is full
    unsigned pressed; // ... whose disk others fill
} faults;

static uint64_t away_ns(void) { return chance_skewed(5, 6000) * NS_PER_MS; }

static uint64_t until_ns(uint64_t most_ms)
{
    return world_now_ns() + chance_skewed(20, most_ms) * NS_PER_MS;
}

// ---- processes ---------------------------------------------------------------------------------

static bool strike_kill(struct node *node)
{
    if (node->phase == NODE_DOWN) {
        return false;
    }
    node_kill(node, false);
    node_start_after(node, away_ns());
    return true;
}

static bool strike_power(struct node *node)
{
    if (node->phase == NODE_DOWN) {
        disk_power_cut(node->number); // what the process left in the page cache
        count_add(COUNT_power_cuts, 1);
        return true;
    }
    node_kill(node, true);
    node_start_after(node, away_ns());
    return true;
}

static bool strike_step(struct node *node)
{
    if (node->phase == NODE_DOWN) {
        return false;
    }
    node->power_kept = chance_permille(400);
    node->host.deadly_steps = chance_skewed(1, 300);
    return true;
}

// Dies while it starts.
static bool strike_start(struct node *node)
{
    if (node->phase == NODE_DOWN) {
        return false;
    }
    node_kill(node, chance_permille(500));
    node->power_kept = chance_permille(300);
    node->host.deadly_steps = chance_skewed(1, 60);
    node_start_after(node, away_ns());
    return true;
}

// Comes back with an empty disk. A root would found another history.
static bool strike_wipe(struct node *node)
{
    if (node->phase == NODE_DOWN || node_is_root(node)) {
        return false;
    }
    node_kill(node, true);
    node_wipe(node);
    node_start_after(node, away_ns());
    return true;
}

static bool strike_stop(struct node *node)
{
    if (node->phase != NODE_UP) {
        return false;
    }
    node_stop(node, away_ns());
    return true;
}

static bool strike_pause(struct node *node)
{
    node->host.asleep_until_ns = until_ns(8000);
    count_add(COUNT_pauses, 1);
    return node->phase == NODE_UP;
}

static bool strike_wall(struct node *node)
{
    node->host.wall_ms = chance_below(1u << 31);
    count_add(COUNT_wall_jumps, 1);
    return true;
}

// ---- network -----------------------------------------------------------------------------------

static bool strike_clog(struct node *node)
{
    unsigned other = (unsigned)chance_below(faults.count);
    uint64_t until = until_ns(6000);
    net_block(node->number, other, until);
    net_block(other, node->number, until);
    count_add(COUNT_clogs, 2);
    return true;
}

// Clogs a random part of the tree one by one; each opens again in another order.
static bool strike_swizzle(struct node *node)
{
    for (unsigned i = 0; i < faults.count; i++) {
        if (i == node->number || chance_permille(500)) {
            uint64_t until = until_ns(5000);
            for (unsigned j = 0; j < faults.count; j++) {
                net_block(i, j, until);
                net_block(j, i, until);
            }
        }
    }
    count_add(COUNT_swizzles, 1);
    return true;
}

// Some rows of the next snapshots are not what their donor has, under checksums that are right:
// nothing but the digest of the whole can tell.
static bool strike_lies(struct node *node)
{
    (void)node;
    faults.lies = (unsigned)chance_between(1, 3);
    return true;
}

void __real_slice_item_append(struct buf *to, const struct slice_item *item);
void __wrap_slice_item_append(struct buf *to, const struct slice_item *item);
void __wrap_slice_item_append(struct buf *to, const struct slice_item *item)
{
    struct slice_item told = *item;
    if (faults.lies > 0 && chance_permille(50)) {
        faults.lies--;
        count_add(COUNT_lies, 1);
        if (chance_permille(300)) {
            return;
        }
        told.version = chance_between(1, item->version);
        told.check = item->held ? record_check(told.version, item->value) : item->check;
    }
    __real_slice_item_append(to, &told);
}

static bool strike_cut(struct node *node)
{
    net_block(node->number, (unsigned)chance_below(faults.count), until_ns(10000));
    count_add(COUNT_cuts, 1);
    return true;
}

static bool strike_reset(struct node *node)
{
    (void)node;
    bool reset = net_reset_one();
    count_add(COUNT_resets, reset);
    return reset;
}

static void relist(struct actor *actor)
{
    (void)actor;
    for (unsigned i = 0; i < faults.count; i++) {
        if (faults.nodes[i].phase == NODE_UP) {
            node_relist(&faults.nodes[i], true);
        }
    }
}

// Whoever finds nodes says less than there are, perhaps nothing.
static bool strike_lists(struct node *node)
{
    if (node->phase != NODE_UP || node_is_root(node)) {
        return false;
    }
    node_relist(node, false);
    actor_by(&faults.lister, until_ns(4000));
    count_add(COUNT_lists, 1);
    return true;
}

static void calm(struct actor *actor)
{
    (void)actor;
    net_weather(0, 0, 2 * NS_PER_MS);
}

static bool strike_weather(struct node *node)
{
    (void)node;
    net_weather(chance_permille(500) ? (unsigned)chance_below(20000) : 0,
                chance_permille(500) ? (unsigned)chance_below(600) : 0,
                chance_skewed(1, 400) * NS_PER_MS);
    actor_by(&faults.weather, until_ns(4000));
    return true;
}

// ---- disks -------------------------------------------------------------------------------------

static void empty(struct actor *actor)
{
    (void)actor;
    disk_set_full(faults.full, false);
}

static bool strike_full(struct node *node)
{
    if (faults.filler.place != 0) {
        return false;
    }
    faults.full = node->number;
    disk_set_full(node->number, true);
    actor_by(&faults.filler, until_ns(4000));
    count_add(COUNT_disk_full, 1);
    return true;
}

static void relieve(struct actor *actor)
{
    (void)actor;
    disk_set_free(faults.pressed, 500);
}

// Others take most of a disk: down to the soft limit, the hard one, or the reserve.
static bool strike_pressure(struct node *node)
{
    static const unsigned permille[] = {80, 80, 30, 30, 5};
    if (faults.presser.place != 0) {
        return false;
    }
    faults.pressed = node->number;
    disk_set_free(node->number, permille[chance_below(ARRAY_LEN(permille))]);
    actor_by(&faults.presser, until_ns(8000));
    count_add(COUNT_pressure, 1);
    return true;
}

static bool strike_sync(struct node *node)
{
    disk_set_fault(node->number, DISK_FAULT_SYNC);
    return true;
}

static bool strike_io(struct node *node)
{
    disk_set_fault(node->number, chance_permille(500) ? DISK_FAULT_READ : DISK_FAULT_WRITE);
    return true;
}

// Some call of the store fails soon.
static bool strike_store(struct node *node)
{
    static const enum store_model_call calls[] = {STORE_MODEL_WRITE, STORE_MODEL_FLUSH,
                                                  STORE_MODEL_COMPACT, STORE_MODEL_OPEN};
    char path[NODE_STORE_BYTES];
    node_store(node, chance_permille(500), path);
    store_model_fail(path, calls[chance_below(ARRAY_LEN(calls))], (unsigned)chance_below(20),
                     chance_permille(500) ? ERR_IO : ERR_DISK_FULL);
    return true;
}

// A root does not guess: it would wait for a person.
static bool strike_flip(struct node *node)
{
    bool flipped = !node_is_root(node) && disk_flip(node->number);
    node->rotten = node->rotten || flipped;
    return flipped;
}

// While it is down, a file beside journal and store goes bad.
static bool strike_file(struct node *node)
{
    if (node->phase == NODE_DOWN) {
        return false;
    }
    node_kill(node, chance_permille(500));
    node->harmed = disk_harm(node->number, node_is_root(node)) || node->harmed;
    node_start_after(node, away_ns());
    return node->harmed;
}

// A row of the store in use can be read no more; or, of a replica, it says something else and only
// its own check tells.
static bool strike_row(struct node *node)
{
    if (node_is_root(node) || node->phase != NODE_UP) {
        return false;
    }
    char path[NODE_STORE_BYTES];
    node_store(node, false, path);
    bool silent = node->instance_options.role == ROLE_REPLICA && chance_permille(600);
    unsigned family = silent && chance_permille(300) ? 1 : 0;
    bool flipped = store_model_flip(path, family, silent).size > 0;
    node->decayed = node->decayed || flipped;
    count_add(silent ? COUNT_flips_silent : COUNT_flips_row, flipped);
    return flipped;
}

static const struct fault table[] = {
    {"kill", {10, 12, 5}, strike_kill},
    {"power cut", {10, 12, 8}, strike_power},
    {"kill in step", {12, 14, 10}, strike_step},
    {"kill in start", {6, 6, 4}, strike_start},
    {"wipe", {3, 3, 0}, strike_wipe},
    {"stop", {6, 6, 0}, strike_stop},
    {"pause", {6, 10, 8}, strike_pause},
    {"wall clock", {2, 2, 0}, strike_wall},
    {"clog", {8, 8, 0}, strike_clog},
    {"swizzle", {4, 5, 0}, strike_swizzle},
    {"cut", {8, 10, 5}, strike_cut},
    {"lying donor", {4, 0, 0}, strike_lies},
    {"reset", {8, 8, 8}, strike_reset},
    {"weather", {6, 5, 12}, strike_weather},
    {"lists", {6, 3, 0}, strike_lists},
    {"disk full", {5, 5, 2}, strike_full},
    {"pressure", {6, 0, 0}, strike_pressure},
    {"sync error", {4, 5, 3}, strike_sync},
    {"I/O error", {2, 3, 0}, strike_io},
    {"flip", {3, 0, 0}, strike_flip},
    {"bad file", {4, 0, 0}, strike_file},
    {"store error", {4, 0, 0}, strike_store},
    {"bad row", {5, 0, 0}, strike_row},
    {"leader", {0, 15, 40}, strike_leader},
    {"roots apart", {0, 12, 15}, strike_apart},
    {"root alone", {0, 8, 10}, strike_alone},
    {"root from children", {0, 4, 0}, strike_children},
    {"record away", {0, 10, 8}, strike_record_away},
    {"record slow", {0, 12, 12}, strike_record_slow},
    {"record lost", {0, 6, 14}, strike_record_lost},
    {"blank root", {0, 6, 16}, strike_blank},
    {"hand-over", {0, 6, 20}, strike_hand_over},
};

static void strike(struct actor *actor)
{
    unsigned total = 0;
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        total += table[i].weight[faults.set];
    }
    uint64_t chosen = chance_below(total);
    const struct fault *fault = table;
    while (chosen >= fault->weight[faults.set]) {
        chosen -= fault++->weight[faults.set];
    }
    // Misfortunes seldom come singly.
    bool again = chance_permille(300);
    struct node *node = again ? faults.last : &faults.nodes[chance_below(faults.count)];
    faults.last = node;
    if (fault->strike(node)) {
        world_log("fault", "%s on n%u", fault->name, node->number);
        faults.struck++;
    }
    actor_after(actor, chance_permille(300) ? chance_skewed(1, SOON_MS) * NS_PER_MS
                                            : chance_below(2 * faults.every_ns));
}

// ---- the operator ------------------------------------------------------------------------------

static void look_after(struct node *node)
{
    if (node->phase != NODE_UP) {
        return;
    }
    struct instance *instance = node->process.instance;
    if (node->host.held) {
        char path[NODE_STORE_BYTES];
        snprintf(path, sizeof path, "%s/%s/REPLAYING", node->data_dir, instance->name);
        node_kill(node, false);
        disk_lose(node->number, path);
        node->host.held = false;
        node_start_after(node, NS_PER_S);
        return;
    }
    if (instance_state(instance) == INSTANCE_STOPPED) {
        if (!node->stop_counted) {
            node->stop_counted = true;
            count_add(COUNT_instances_stopped, 1);
        }
        node_stop(node, NS_PER_S);
    }
}

static void operate(struct actor *actor)
{
    for (unsigned i = 0; i < faults.count; i++) {
        look_after(&faults.nodes[i]);
    }
    actor_after(actor, OPERATOR_NS);
}

void faults_leave(uint64_t ns)
{
    actor_cancel(&faults.operator);
    actor_after(&faults.operator, ns);
}

void faults_begin(enum faults_set set, uint64_t every_ns)
{
    faults.set = set;
    faults.every_ns = every_ns;
    actor_after(&faults.striker, chance_below(2 * every_ns));
}

void faults_open(struct node *nodes, unsigned count, uint64_t every_ns)
{
    memset(&faults, 0, sizeof faults);
    faults.nodes = faults.last = nodes;
    faults.count = count;
    actor_init(&faults.striker, NULL, strike);
    actor_init(&faults.operator, NULL, operate);
    actor_init(&faults.weather, NULL, calm);
    actor_init(&faults.lister, NULL, relist);
    actor_init(&faults.filler, NULL, empty);
    actor_init(&faults.presser, NULL, relieve);
    actor_after(&faults.operator, OPERATOR_NS);
    if (every_ns > 0) {
        faults_begin(FAULTS_TREE, every_ns);
    }
}

void faults_heal(void)
{
    actor_cancel(&faults.striker);
    actor_cancel(&faults.weather);
    actor_cancel(&faults.lister);
    actor_cancel(&faults.filler);
    actor_cancel(&faults.presser);
    faults.lies = 0;
    calm(NULL);
    relist(NULL);
    net_heal();
    for (unsigned i = 0; i < faults.count; i++) {
        struct node *node = &faults.nodes[i];
        node->host.asleep_until_ns = 0;
        node->host.deadly_steps = 0;
        disk_set_full(i, false);
        disk_set_free(i, 500);
        char path[NODE_STORE_BYTES];
        node_stores(node, path);
        store_model_calm_all(path);
        disk_set_fault(i, DISK_FAULT_NONE);
        if (node->phase == NODE_DOWN) {
            node_start_after(node, 10 * NS_PER_MS);
        }
    }
}

void faults_doubt(void)
{
    for (unsigned i = 0; i < faults.count; i++) {
        struct node *node = &faults.nodes[i];
        if (node->decayed && node->phase == NODE_UP) {
            struct host *before = world_become(&node->host);
            atomic_store(&node->process.instance->doubted, true);
            instance_wake_walk(node->process.instance);
            world_become(before);
        }
    }
}

uint64_t faults_struck(void) { return faults.struck; }
