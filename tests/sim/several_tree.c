// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/several_tree.h"

#include <string.h>

#include "common/core/lead.h"
#include "tests/sim/commits.h"
#include "tests/sim/keeper_sim.h"
#include "tests/sim/node_chair.h"
#include "tests/sim/seams.h"

#define CHILDREN_LEAST 2
#define CHILDREN_MOST 4

static _Alignas(64) struct node nodes[NODES_MAX];
static unsigned root_count, node_count;
static struct several_rules rules;

unsigned several_roots(void) { return root_count; }
unsigned several_nodes(void) { return node_count; }
struct node *several_node(unsigned number) { return &nodes[number]; }
const struct several_rules *several_rules(void) { return &rules; }

// ---- setting up --------------------------------------------------------------------------------

// Mostly the defaults, which keep what is committed whatever happens to the record.
static void choose_rules(void)
{
    bool plain = chance_permille(600);
    rules.in_sync_min = plain ? root_count / 2 + (root_count > 2)
                              : (unsigned)chance_between(1, root_count);
    rules.promote_min = root_count + 1 - rules.in_sync_min;
    if (!plain && chance_permille(400)) {
        rules.promote_min = (unsigned)chance_between(1, rules.promote_min);
    }
    rules.may_lose = rules.in_sync_min + rules.promote_min > root_count;
    rules.goes_on = rules.in_sync_min < root_count && rules.promote_min < root_count;
}

// What users get, or in some seeds anything.
static void choose_pace(struct node_options *to)
{
    rules.usual = chance_permille(700);
    if (rules.usual) {
        to->heartbeat = 500;
        to->silence = 2000;
        to->reconnect = 1000;
        return;
    }
    to->heartbeat = chance_between(100, 500);
    to->silence = to->heartbeat * chance_between(4, 6);
    to->reconnect = chance_between(20, 1000);
}

static void choose_options(struct node *node, const struct node_options *pace, bool small)
{
    struct instance_options *options = &node->instance_options;
    node->options.heartbeat = pace->heartbeat;
    node->options.silence = pace->silence;
    node->options.reconnect = pace->reconnect;
    options->sync = chance_permille(500) ? 2 : chance_skewed(1, 50);
    options->commit_wait = chance_permille(700) ? 3000 : chance_between(300, 6000);
    options->block_entries = chance_permille(700) ? 1000 : chance_skewed(1, 30);
    options->window = 60000;
    options->in_sync_min = rules.in_sync_min;
    options->promote_min = rules.promote_min;
    options->standby_lag = chance_permille(700) ? 5000 : chance_between(500, 5000);
    options->promote_wait = chance_between(1000, 5000);
    if (small) { // some come back too late for the log
        options->segment_bytes = chance_skewed(2 * KIB, 16 * KIB);
        options->journal_bytes = chance_skewed(8 * KIB, 128 * KIB);
        options->replay_bytes = chance_skewed(8 * KIB, 64 * KIB);
    }
    node->host.skew_ppm = (int64_t)chance_below(40001) - 20000;
    node->host.wall_ms = chance_below(1u << 31);
}

// Who feeds a child: all roots, beginning with any, and in half of all cases another child first.
static void choose_upstreams(struct node *node)
{
    if (node->number > root_count && chance_permille(500)) {
        node_upstream(node, (unsigned)chance_between(root_count, node->number - 1));
    }
    unsigned first = (unsigned)chance_below(root_count);
    for (unsigned i = 0; i < root_count; i++) {
        node_upstream(node, (first + i) % root_count);
    }
    if (node->instance_options.role == ROLE_PROXY) {
        node_source(node, root_count);
        for (unsigned i = 0; i < root_count; i++) {
            node_source(node, (first + i) % root_count);
        }
    }
}

void several_open(void)
{
    static const unsigned counts[] = {3, 3, 3, 3, 3, 3, 5, 5, 2, 2};
    root_count = counts[chance_below(ARRAY_LEN(counts))];
    node_count = root_count + (unsigned)chance_between(CHILDREN_LEAST, CHILDREN_MOST);
    struct node_options pace;
    choose_rules();
    choose_pace(&pace);
    bool small = chance_permille(200);
    net_open(node_count);
    disks_open(node_count);
    keepers_open(nodes, root_count);
    for (unsigned i = 0; i < node_count; i++) {
        int role = i < root_count                             ? ROLE_ROOT
                   : i == root_count || chance_permille(400) ? ROLE_REPLICA
                                                              : ROLE_PROXY;
        struct node *node = &nodes[i];
        node_init(node, i, role);
        choose_options(node, &pace, small);
        if (i < root_count) {
            node_roots(node, root_count);
            node->elects = true;
        } else {
            choose_upstreams(node);
        }
        node_start_after(node, chance_below(500 * NS_PER_MS));
    }
}

// ---- looking -----------------------------------------------------------------------------------

static bool takes_writes(struct node *node)
{
    if (!node_leads(node) || !node_serves(node)) {
        return false;
    }
    struct host *before = world_become(&node->host);
    struct view *view = instance_pin(node->process.instance);
    bool ready = view != NULL && lead_ready(node->process.instance->lead, view);
    view_release(view);
    world_become(before);
    return ready;
}

static uint64_t epoch_of(const struct node *node)
{
    return atomic_load(&node->process.instance->lead->epoch);
}

unsigned several_leader(void)
{
    unsigned found = SEVERAL_NOBODY;
    for (unsigned i = 0; i < root_count; i++) {
        if (takes_writes(&nodes[i]) &&
            (found == SEVERAL_NOBODY || epoch_of(&nodes[i]) > epoch_of(&nodes[found]))) {
            found = i;
        }
    }
    return found;
}

bool several_counted(void)
{
    unsigned leader = several_leader();
    if (leader == SEVERAL_NOBODY) {
        return false;
    }
    const struct council *council = node_council(&nodes[leader]);
    const struct root_record *record = keepers_record();
    uint32_t all = set_all(root_count);
    bool known = council->role == COUNCIL_LEADING && council->counted == all &&
                 council->members == all;
    return known && record != NULL && record->in_sync == all &&
           leadership_equal(record->leadership, council->mine);
}

bool several_spare(unsigned number)
{
    if (rules.promote_min >= root_count) {
        return false; // the others are too few to promise
    }
    for (unsigned i = 0; i < root_count; i++) {
        if (!node_serves(&nodes[i]) || node_council(&nodes[i])->promised.blank) {
            return false;
        }
        if (i != number && rules.in_sync_min < 2 &&
            lead_known(nodes[i].process.instance->lead).number < commits_last()) {
            return false;
        }
    }
    return true;
}

uint64_t several_generation(void)
{
    uint64_t highest = 0;
    for (unsigned i = 0; i < root_count; i++) {
        if (node_serves(&nodes[i])) {
            highest = u64_max(highest, node_council(&nodes[i])->wanted.generation);
        }
    }
    return highest;
}

bool several_promote(unsigned number)
{
    struct node *node = &nodes[number];
    if (!node_serves(node) || node_council(node)->wanted.blank) {
        return false;
    }
    struct host *before = world_become(&node->host);
    chair_promote(node->process.chair);
    world_become(before);
    return true;
}

bool several_accept_loss(unsigned number)
{
    struct node *node = &nodes[number];
    if (!node_serves(node)) {
        return false;
    }
    struct host *before = world_become(&node->host);
    chair_accept_loss(node->process.chair);
    world_become(before);
    return true;
}

bool several_leads_alone(unsigned number)
{
    return node_serves(&nodes[number]) && node_leads(&nodes[number]) &&
           node_council(&nodes[number])->role == COUNCIL_LEADING;
}

bool several_equal(void)
{
    for (unsigned i = 0; i < node_count; i++) {
        if (!node_serves(&nodes[i]) || nodes[i].visible != model_index()) {
            return false;
        }
    }
    return true;
}

static void describe(struct node *node)
{
    struct upstream_status status = {.state = "-"};
    const struct instance *instance = node->process.instance;
    if (instance->upstream != NULL) {
        follow_status(node->process.instance, &status);
    }
    world_log(node->name, "%s, state %d, index %llu of %llu, upstream: %s",
              instance_part(instance), (int)instance_state(instance),
              (unsigned long long)node->visible, (unsigned long long)model_index(), status.state);
    if (node_is_root(node)) {
        const struct council *council = node_council(node);
        world_log(node->name, "... epoch %llu of n%d from block %llu, committed %llu, gate %d",
                  (unsigned long long)epoch_of(node), atomic_load(&instance->lead->leader),
                  (unsigned long long)atomic_load(&instance->lead->opened),
                  (unsigned long long)lead_known(instance->lead).number,
                  atomic_load(&instance->lead->gate));
        world_log(node->name,
                  "... role %d, promised %llu of n%u%s, gone %d, record %llu of n%u in sync %x "
                  "generation %llu (seen %llu), granted %x, counted %x, lagging %x",
                  (int)council->role, (unsigned long long)council->promised.leadership.epoch,
                  council->promised.leadership.leader, council->promised.blank ? ", blank" : "",
                  council->leader_gone, (unsigned long long)council->record.leadership.epoch,
                  council->record.leadership.leader, council->record.in_sync,
                  (unsigned long long)council->record.generation,
                  (unsigned long long)council->wanted.generation, council->granted,
                  council->counted, council->lagging);
    }
}

void several_describe(void)
{
    for (unsigned i = 0; i < node_count; i++) {
        if (nodes[i].phase == NODE_UP && nodes[i].process.instance != NULL) {
            describe(&nodes[i]);
        } else {
            world_log(nodes[i].name, "is not up");
        }
    }
}
