// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/node.h"

#include <stdio.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/core/lead.h"
#include "proxy/fetch.h"
#include "proxy/proxy.h"
#include "replica/answer.h"
#include "replica/replica.h"
#include "replica/sequencer.h"
#include "tests/sim/model.h"
#include "tests/sim/node_chair.h"
#include "tests/sim/seams.h"
#include "tests/sim/store_model.h"

#define PORT 7400
#define STEP_NS (5 * NS_PER_MS)

// ---- setting up --------------------------------------------------------------------------------

static void keep(struct actor *actor);
static void on_death(struct host *host);

void node_init(struct node *node, unsigned number, int role)
{
    *node = (struct node){.number = number};
    node->host.number = number;
    node->host.died = on_death;
    list_init(&node->host.memory);
    actor_init(&node->keeper, NULL, keep);
    snprintf(node->name, sizeof node->name, "n%u", number);
    snprintf(node->data_dir, sizeof node->data_dir, "/n%u", number);
    snprintf(node->address, sizeof node->address, "10.0.%u.%u:%u", number / 256,
             number % 256, PORT);
    node->options = (struct node_options){.node = node->name,
                                          .cluster = "sim",
                                          .data_dir = node->data_dir,
                                          .peer = node->address,
                                          .peers_max = 64,
        .repair_max = 2,
                                          .heartbeat = 200,
                                          .silence = 3000,
                                          .alarm_age = 3000,
                                          .reconnect = 500};
    node->instance_options = (struct instance_options){.name = "zones",
                                                       .role = role,
                                                       .parents = node->parents,
                                                       .replicas = node->replicas,
                                                       .value_bytes = MIB,
                                                       .batch_entries = 1000,
                                                       .batch_bytes = MIB,
                                                       .block_bytes = MIB,
                                                       .block_entries = 1000,
                                                       .segment_bytes = 64 * KIB,
                                                       .journal_bytes = GIB,
                                                       .journal_age = 86400000,
                                                       .replay_bytes = 64 * MIB,
                                                       .memtable = 4 * MIB,
                                                       .apply_queue = MIB,
                                                       .apply_chunk = 64 * KIB,
                                                       .submit_queue = MIB,
                                                       .roots = node->roots,
                                                       .commit_wait = 3000,
                                                       .window = 5000,
                                                       .window_bytes = MIB,
                                                       .keep_bytes = 1000,
                                                       .fetch = 2000,
                                                       .fetch_max = 4096,
                                                       .census_max = 10000,
                                                       .history = 7200000,
                                                       .history_bytes = GIB,
                                                       .fetch_burst = MIB,
                                                       .fetch_requests = 64,
                                                       .fetch_bytes = 128 * MIB,
                                                       .replica_requests = 8,
                                                       .replica_bytes = 32 * MIB,
                                                       .reserve = SPACE_PERCENT | 1,
                                                       .recency_bytes = 8 * KIB,
                                                       .cache = {.soft_limit = SPACE_PERCENT | 10,
                                                                 .hard_limit = SPACE_PERCENT | 5},
                                                       .snapshots_max = 2,
                                                       .snapshot_rate = GIB,
                                                       .hot_bytes = 16 * KIB,
                                                       .hedge = 5,
                                                       .quarantine = 10000};
}

static void add_upstream(struct node *node, const char **list, unsigned row, unsigned number)
{
    unsigned at = 0;
    while (list[at] != NULL) {
        at++;
    }
    CHECK(at < UPSTREAMS_MAX);
    snprintf(node->texts[row][at], sizeof node->texts[row][at], "10.0.%u.%u:%u", number / 256,
             number % 256, PORT);
    list[at] = node->texts[row][at];
}

void node_upstream(struct node *node, unsigned parent)
{
    add_upstream(node, node->parents, 0, parent);
}

void node_source(struct node *node, unsigned replica)
{
    add_upstream(node, node->replicas, 1, replica);
}

void node_roots(struct node *node, unsigned count)
{
    CHECK(count <= ROOTS_MAX);
    for (unsigned i = 0; i < count; i++) {
        snprintf(node->root_texts[i], sizeof node->root_texts[i], "n%u@10.0.0.%u:%u", i, i, PORT);
        node->roots[i] = node->root_texts[i];
    }
}

bool node_leads(const struct node *node)
{
    const struct instance *instance = node->process.instance;
    return node->phase == NODE_UP && instance != NULL && node_is_root(node) &&
           instance_leads(instance);
}

static void relist(struct endpoint_feed *feed, const char *const *texts, bool all)
{
    const char *kept[UPSTREAMS_MAX + 1] = {NULL};
    unsigned count = 0;
    for (unsigned i = 0; texts[i] != NULL; i++) {
        if (all || chance_permille(500)) {
            kept[count++] = texts[i];
        }
    }
    struct endpoints *list;
    const char *bad, *reason;
    CHECK(endpoints_parse(kept, &list, &bad, &reason) == OK);
    endpoint_feed_publish(feed, list);
}

void node_relist(struct node *node, bool all)
{
    if (node->process.instance->lead != NULL) {
        return; // it follows whom `roots` names
    }
    struct host *before = world_become(&node->host);
    relist(&node->process.instance->parents, node->parents, all);
    relist(&node->process.instance->replicas, node->replicas, all);
    world_become(before);
}

// ---- starting ----------------------------------------------------------------------------------

static struct fanout *find_fanout(void *owner, struct bytes name)
{
    struct node *node = owner;
    return bytes_equal_text(name, node->instance_options.name) ? node->process.fanout : NULL;
}

static bool answer_fetches(void *owner, struct link *link, const struct message_hello *hello)
{
    struct node *node = owner;
    if (node->instance_options.role == ROLE_PROXY) {
        return false;
    }
    return answer_accept(node->process.instance, node->process.readers, link, hello);
}

// What of its journal is committed: of one of several roots what its file says; all of it where no
// other root can be what this one is.
static void opened(struct node *node)
{
    const struct instance *instance = node->process.instance;
    if (node->elects) {
        model_catch_up(instance->journal, lead_known(instance->lead).number);
    } else if (lead_founds(instance)) {
        model_check_end(instance->journal);
        model_catch_up(instance->journal, journal_end(instance->journal).number);
    }
}

static const char *talk(void *owner, struct link *link, const struct message_hello *hello)
{
    struct node *node = owner;
    struct chair *chair = node->process.chair;
    return chair != NULL ? chair_accept(chair, link, hello) : "this is no root";
}

static int open_instance(struct node *node)
{
    struct process *process = &node->process;
    bool root = node_is_root(node);
    process->beats = beats_open();
    process->sequencer = root ? sequencer_open() : NULL;
    memset(&node->metrics, 0, sizeof node->metrics);
    struct instance_setup setup = {
        .node = &node->options,
        .options = &node->instance_options,
        .role = node->instance_options.role == ROLE_PROXY ? proxy_role() : replica_role(),
        .cache = process->cache,
        .metrics = &node->metrics,
        .beats = process->beats,
        .sequencer = process->sequencer,
        .home = process->loop,
        .sequence = root ? sequencer_turn : NULL,
        .answer = root ? sequencer_answer : NULL,
        .council = node->elects,
    };
    int error = instance_open(&process->instance, &setup);
    if (error != OK) {
        return error;
    }
    if (root) {
        opened(node);
    }
    if (node->introduce != NULL) {
        node->introduce(node);
    }
    walker_add(process->walker, process->instance);
    process->fanout = fanout_open(process->instance);
    if (node->instance_options.role == ROLE_PROXY) {
        error = fetch_open(process->instance);
    }
    bool follows = !root || process->instance->lead != NULL;
    if (error == OK && follows) {
        error = follow_open(process->instance);
    }
    if (error == OK && node->elects) {
        node_chair_open(node);
    }
    return error;
}

static int open_process(struct node *node)
{
    struct process *process = &node->process;
    const char *reason = NULL;
    int error = loop_open(&process->loop, IO_EPOLL, 0, &reason);
    if (error == OK) {
        process->cache = store_cache_open(MIB);
        error = readers_open(&process->readers, 2);
    }
    if (error == OK) {
        error = walker_open(&process->walker);
    }
    if (error == OK) {
        error = open_instance(node);
    }
    if (error != OK) {
        return error;
    }
    struct peers_setup setup = {
        .node = &node->options,
        .metrics = &node->node_metrics,
        .loops = &process->loop,
        .loop_count = 1,
        .readers = process->readers,
        .owner = node,
        .find = find_fanout,
        .answer = answer_fetches,
        .talk = talk,
    };
    return peers_open(&process->peers, &setup, &reason);
}

struct start {
    struct node *node;
    int error;
};

static void start_run(void *argument)
{
    struct start *start = argument;
    start->error = open_process(start->node);
}

static void start(struct node *node)
{
    struct start start = {.node = node, .error = ERR_STOPPED};
    node->process = (struct process){0};
    node->incarnation++;
    node->stop_counted = node->shown = false;
    count_add(COUNT_starts, 1);
    node->phase = NODE_UP; // it may die while it opens
    bool alive = world_enter(&node->host, start_run, &start);
    world_log(node->name, "started: %s", alive ? error_text(start.error) : "died");
    if (!alive) {
        on_death(&node->host);
    } else if (start.error != OK) {
        count_add(COUNT_open_failures, 1);
        node_kill(node, false);
        if (node->harmed && !node_is_root(node)) {
            node_wipe(node);
            count_add(COUNT_directories_given_up, 1);
        }
        node_start_after(node, NS_PER_S);
    }
}

void node_start_after(struct node *node, uint64_t delay_ns)
{
    CHECK(node->phase == NODE_DOWN);
    actor_after(&node->keeper, delay_ns);
}

// ---- ends --------------------------------------------------------------------------------------

static void close_descriptor(struct fd *fd)
{
    if (fd->kind == FD_FILE || fd->kind == FD_FOLDER) {
        file_close(fd);
    }
    fd_free(fd_number(fd));
}

static void bury(struct node *node)
{
    actors_cancel(&node->host);
    fds_each(&node->host, close_descriptor);
    memory_drop(&node->host.memory);
    node->process = (struct process){0};
    node->phase = NODE_DOWN;
    node->busy = 0;
    node->host.deadly_steps = 0;
    actor_cancel(&node->keeper);
}

void node_store(const struct node *node, bool building, char to[NODE_STORE_BYTES])
{
    uint64_t number = 0;
    if (node->phase == NODE_UP) {
        const struct shelf *shelf = &node->process.instance->shelf;
        number = building && shelf->building != 0 ? shelf->building : shelf->serving;
    }
    int used = snprintf(to, NODE_STORE_BYTES, "%s/%s/store", node->data_dir,
                        node->instance_options.name);
    if (number > 0) {
        snprintf(to + used, NODE_STORE_BYTES - (size_t)used, "-%llu", (unsigned long long)number);
    }
}

void node_stores(const struct node *node, char to[NODE_STORE_BYTES])
{
    snprintf(to, NODE_STORE_BYTES, "%s/", node->data_dir);
}

static void crash_stores(const struct node *node)
{
    char prefix[NODE_STORE_BYTES];
    node_stores(node, prefix);
    store_model_crash_all(prefix);
}

void node_kill(struct node *node, bool power)
{
    if (node->phase == NODE_DOWN) {
        return;
    }
    world_log(node->name, power ? "loses power" : "is killed");
    sessions_lost(node);
    node_harvest(node);
    net_drop(&node->host, power);
    bury(node);
    crash_stores(node);
    if (power) {
        disk_power_cut(node->number);
        node->host.born_ns = world_now_ns();
    }
    count_add(power ? COUNT_power_cuts : COUNT_kills, 1);
}

static void on_death(struct host *host)
{
    struct node *node = node_of(host);
    count_add(COUNT_kills_in_step, 1);
    node_kill(node, !node->power_kept);
    node_start_after(node, chance_skewed(10, 4000) * NS_PER_MS);
}

void node_wipe(struct node *node)
{
    char prefix[NODE_STORE_BYTES];
    CHECK(node->phase == NODE_DOWN);
    snprintf(prefix, sizeof prefix, "%s/", node->data_dir);
    store_model_wipe_all(prefix);
    disk_wipe(node->number);
    node->visible = 0;
    node->wiped_ns = world_now_ns();
    node->harmed = false;
    count_add(COUNT_wipes, 1);
}

// ---- graceful stop -----------------------------------------------------------------------------

static void gate_wake(void *argument) { CHECK(argument != NULL); }

static void gate_pass(struct notice *notice)
{
    CONTAINER_OF(notice, struct gate, closed)->passed = true;
}

static void gate_open(struct gate *gate)
{
    gate->mailbox = (struct mailbox){.wake = gate_wake, .argument = gate};
    notice_init(&gate->closed, &gate->mailbox, gate_pass);
    gate->passed = false;
}

static bool gate_passed(struct gate *gate)
{
    struct task *next;
    for (struct task *task = mailbox_take(&gate->mailbox); task != NULL; task = next) {
        next = task->next;
        task->run(task);
    }
    return gate->passed;
}

static void close_process(struct node *node)
{
    struct process *process = &node->process;
    peers_free(process->peers);
    if (process->chair != NULL) {
        chair_free(process->chair);
    }
    node->left_open = instance_close(process->instance) != INSTANCE_CLOSED;
    fanout_close(process->fanout);
    if (process->sequencer != NULL) {
        sequencer_close(process->sequencer);
    }
    beats_close(process->beats);
    walker_close(process->walker);
    readers_close(process->readers);
    store_cache_close(process->cache);
    loop_close(process->loop);
}

// The steps of a stop: each begins something and waits for its gate.
enum {
    STOP_CHAIR,
    STOP_FOLLOW,
    STOP_FETCH,
    STOP_PEERS,
    STOP_LOOP,
    STOP_WALKER,
    STOP_CLOSE,
    STOP_OVER,
};

static void stop_step(void *argument)
{
    struct node *node = argument;
    struct process *process = &node->process;
    gate_open(&node->gate);
    switch (node->stop_step) {
    case STOP_CHAIR:
        node->gate.passed = !node->elects;
        if (node->elects) {
            node_chair_close(node, &node->gate.closed);
        }
        break;
    case STOP_FOLLOW:
        atomic_store(&process->instance->closing, true);
        node->gate.passed = process->instance->upstream == NULL;
        if (!node->gate.passed) {
            follow_close(process->instance, &node->gate.closed);
        }
        break;
    case STOP_FETCH:
        node->gate.passed = node->instance_options.role != ROLE_PROXY;
        if (!node->gate.passed) {
            fetch_close(process->instance, &node->gate.closed);
        }
        break;
    case STOP_PEERS:
        peers_close(process->peers, &node->gate.closed);
        break;
    case STOP_LOOP:
        loop_stop(process->loop);
        break;
    case STOP_WALKER:
        walker_remove(process->walker, process->instance, &node->gate.closed);
        break;
    default:
        close_process(node);
        break;
    }
}

static bool step_over(struct node *node)
{
    struct loop *loop = node->process.loop;
    if (node->stop_step == STOP_LOOP) {
        return loop->watches == 0 && loop->deferred == NULL && mailbox_empty(&loop->mailbox);
    }
    return gate_passed(&node->gate);
}

static void stopped(struct node *node)
{
    size_t left = memory_count(&node->host.memory);
    if (node->left_open) {
        crash_stores(node);
        count_add(COUNT_left_open, 1);
        left = 0;
    }
    WORLD_CHECK(left == 0, "n%u: %zu pieces of memory are left after a graceful stop",
                node->number, left);
    uint64_t down_ns = node->down_ns;
    net_drop(&node->host, false);
    bury(node);
    world_log(node->name, "has stopped");
    if (down_ns != UINT64_MAX) {
        node_start_after(node, down_ns);
    }
}

static void take_steps(struct node *node)
{
    while (node->stop_step != STOP_CLOSE && step_over(node)) {
        node->stop_step++;
        if (!world_enter(&node->host, stop_step, node)) {
            on_death(&node->host);
            return;
        }
        if (node->stop_step == STOP_CLOSE) {
            node_harvest(node);
            stopped(node);
            return;
        }
    }
    actor_after(&node->keeper, STEP_NS);
}

void node_stop(struct node *node, uint64_t down_ns)
{
    if (node->phase != NODE_UP) {
        return;
    }
    world_log(node->name, "is asked to stop");
    node->phase = NODE_STOPPING;
    node->down_ns = down_ns;
    node->stop_step = UINT32_MAX;
    count_add(COUNT_stops, 1);
    actor_after(&node->keeper, STEP_NS);
}

// Does it hand over before it ends? It may die meanwhile.
static bool parts(struct node *node)
{
    struct parting parting = {.node = node};
    if (!node->elects) {
        return false;
    }
    if (!world_enter(&node->host, node_chair_part, &parting)) {
        on_death(&node->host);
        return true;
    }
    if (parting.parts) {
        node_chair_wake(node);
        actor_after(&node->keeper, STEP_NS);
    }
    return parting.parts;
}

static void keep(struct actor *actor)
{
    struct node *node = CONTAINER_OF(actor, struct node, keeper);
    if (node->phase == NODE_DOWN) {
        start(node);
        return;
    }
    if (node->busy > 0 || node->host.asleep_until_ns > world_now_ns()) {
        // Its clients go first.
        actor_by(actor, u64_max(world_now_ns() + STEP_NS, node->host.asleep_until_ns));
        return;
    }
    if (node->stop_step == UINT32_MAX && parts(node)) {
        return;
    }
    if (node->stop_step == UINT32_MAX) {
        node->stop_step = STOP_CHAIR;
        if (!world_enter(&node->host, stop_step, node)) {
            on_death(&node->host);
            return;
        }
    }
    take_steps(node);
}
