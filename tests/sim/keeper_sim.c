// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/keeper_sim.h"

#include <string.h>

#include "common/roots/keeper.h"
#include "tests/sim/node_chair.h"
#include "tests/sim/seams.h"

#define REQUESTS_MAX 512
#define QUICK_NS (5 * NS_PER_MS)      // mostly, there and back
#define LATE_NS (6 * NS_PER_S)        // when one that was lost may land yet
#define LATE_PERMILLE 500
#define BACKUP_PERMILLE 150           // of the changes come right after one
#define BEATS 3                       // of a root's health within its time to live
#define TTL_NS (2 * NS_PER_S)
#define LOOK_NS (100 * NS_PER_MS)

enum kind { KIND_READ, KIND_CHANGE, KIND_LOOK, KIND_MOVED };

// On its way to the store, then back.
struct request {
    struct actor actor; // not queued: free
    enum kind kind;
    unsigned host;
    struct keeper *keeper; // of the host's process, which may be gone
    uint64_t life, ticket, modify_index;
    uint64_t committed; // by its sender
    struct root_record record;
    bool present, gone;
    int result;
    unsigned root;
};

struct kept {
    bool present;
    struct root_record record;
    uint64_t modify_index, last_index;
};

static struct {
    struct node *nodes;
    unsigned count;
    struct kept now, backup;
    struct request requests[REQUESTS_MAX];
    unsigned next;
    uint64_t cut_until_ns[HOSTS_MAX];
    struct keeper *keepers[HOSTS_MAX]; // that watch
    uint64_t lives[HOSTS_MAX];         // of its processes, that in which it was opened
    uint64_t changes, told[HOSTS_MAX], told_life[HOSTS_MAX]; // of the watches
    uint64_t dropped_ns[HOSTS_MAX];    // from the record
    uint64_t alive_ns[HOSTS_MAX];      // when its health was last said, 0 = it is not registered
    unsigned lost_permille;
    uint64_t delay_ns;
    bool lost; // its data, at some time
    struct actor pulse;
} store;

static void pulse(struct actor *actor);
static void tell(unsigned host);

void keepers_open(struct node *nodes, unsigned count)
{
    memset(&store, 0, sizeof store);
    store.nodes = nodes;
    store.count = count;
    store.delay_ns = QUICK_NS;
    actor_init(&store.pulse, NULL, pulse);
    actor_after(&store.pulse, LOOK_NS);
}

const struct root_record *keepers_record(void)
{
    return store.now.present ? &store.now.record : NULL;
}

// ---- what befalls it ---------------------------------------------------------------------------

void keepers_cut(unsigned host, uint64_t until_ns)
{
    store.cut_until_ns[host] = u64_max(store.cut_until_ns[host], until_ns);
}

void keepers_weather(unsigned lost_permille, uint64_t delay_ns)
{
    store.lost_permille = lost_permille;
    store.delay_ns = u64_max(delay_ns, QUICK_NS);
}

void keepers_calm(void)
{
    memset(store.cut_until_ns, 0, sizeof store.cut_until_ns);
    keepers_weather(0, QUICK_NS);
}

void keepers_back_up(void) { store.backup = store.now; }

static bool reaches(unsigned host) { return store.cut_until_ns[host] <= world_now_ns(); }

// ---- health ------------------------------------------------------------------------------------

// Does its process run, and say that it serves?
static bool says(const struct node *node)
{
    bool runs = node->phase == NODE_UP && node->process.instance != NULL &&
                node->host.asleep_until_ns <= world_now_ns();
    return runs && reaches(node->number) &&
           instance_state(node->process.instance) == INSTANCE_SERVING;
}

static void pulse(struct actor *actor)
{
    for (unsigned i = 0; i < store.count; i++) {
        uint64_t age_ns = world_now_ns() - store.alive_ns[i];
        if (says(&store.nodes[i]) && age_ns >= TTL_NS / BEATS) {
            store.alive_ns[i] = world_now_ns();
        }
        tell(i);
    }
    actor_after(actor, LOOK_NS);
}

static bool is_gone(unsigned host)
{
    uint64_t said_ns = store.alive_ns[host];
    return said_ns == 0 || world_now_ns() - said_ns > TTL_NS;
}

// Is the process of a machine still the one of that time, with its keeper?
static bool lives(unsigned host, uint64_t life)
{
    const struct node *node = &store.nodes[host];
    return node->phase != NODE_DOWN && node->incarnation == life && store.lives[host] == life &&
           store.keepers[host] != NULL;
}

// ---- on the way --------------------------------------------------------------------------------

static void arrive(struct actor *actor);
static void answer(struct actor *actor);

static struct request *new_request(enum kind kind, struct keeper *keeper, uint64_t ticket)
{
    struct request *request = NULL;
    for (unsigned i = 0; i < REQUESTS_MAX; i++) {
        request = &store.requests[store.next++ % REQUESTS_MAX];
        if (request->actor.place == 0) {
            break;
        }
    }
    CHECK(request->actor.place == 0);
    unsigned host = world_host()->number;
    *request = (struct request){.kind = kind,
                                .host = host,
                                .keeper = keeper,
                                .life = store.nodes[host].incarnation,
                                .ticket = ticket,
                                .result = ERR_TIMEOUT};
    return request;
}

static uint64_t delay_ns(void) { return chance_skewed(NS_PER_MS / 2, store.delay_ns); }

static bool is_lost(const struct request *request)
{
    return !reaches(request->host) || chance_permille(store.lost_permille);
}

// Its answer comes to the machine after `after_ns`.
static void send_back(struct request *request, uint64_t after_ns)
{
    actor_init(&request->actor, &store.nodes[request->host].host, answer);
    actor_after(&request->actor, after_ns);
}

// The caller's own limit of time is over, wherever the request is.
static void send_failure(const struct request *lost)
{
    struct host *before = world_become(&store.nodes[lost->host].host);
    struct request *failure = new_request(lost->kind, lost->keeper, lost->ticket);
    failure->life = lost->life;
    failure->root = lost->root;
    world_become(before);
    send_back(failure, KEEPER_TIMEOUT_MS * NS_PER_MS);
}

static void send_off(struct request *request)
{
    bool lost = is_lost(request);
    if (lost) {
        send_failure(request);
        count_add(COUNT_record_unanswered, request->kind == KIND_CHANGE);
    }
    if (!lost || (request->kind == KIND_CHANGE && chance_permille(LATE_PERMILLE))) {
        request->result = lost ? ERR_TIMEOUT : OK;
        actor_init(&request->actor, NULL, arrive);
        actor_after(&request->actor, lost ? chance_below(LATE_NS) : delay_ns());
    }
}

// ---- at the store ------------------------------------------------------------------------------

// A watch asks again when its answer was lost, so it is told in the end.
static void tell(unsigned host)
{
    uint64_t life = store.nodes[host].incarnation;
    bool known = store.told[host] == store.changes && store.told_life[host] == life;
    if (known || !lives(host, life) || !reaches(host)) {
        return;
    }
    struct host *before = world_become(&store.nodes[host].host);
    struct request *moved = new_request(KIND_MOVED, store.keepers[host], 0);
    world_become(before);
    send_back(moved, delay_ns());
    store.told[host] = store.changes;
    store.told_life[host] = life;
}

static void tell_all(void)
{
    store.changes++;
    for (unsigned i = 0; i < store.count; i++) {
        tell(i);
    }
}

static void count_change(const struct root_record *record, bool late)
{
    const struct root_record *before = &store.now.record;
    bool same = store.now.present && leadership_equal(before->leadership, record->leadership);
    count_add(COUNT_drops, same && (before->in_sync & ~record->in_sync) != 0);
    count_add(COUNT_adds, same && (record->in_sync & ~before->in_sync) != 0);
    count_add(COUNT_record_anew, store.lost && !store.now.present);
    count_add(COUNT_record_late, late);
}

// R10. Whoever is added has all that its leader had committed by then. Of a root that has lost its
// disk the leader need not know before it has dropped it.
static void check_added(const struct request *request)
{
    const struct root_record *before = &store.now.record, *record = &request->record;
    bool same = store.now.present && leadership_equal(before->leadership, record->leadership);
    for (unsigned i = 0; i < store.count && same; i++) {
        if (set_has(before->in_sync & ~record->in_sync, i)) {
            store.dropped_ns[i] = world_now_ns();
        }
        const struct node *node = &store.nodes[i];
        bool added = set_has(record->in_sync & ~before->in_sync, i);
        bool told = node->wiped_ns == 0 || node->wiped_ns < store.dropped_ns[i];
        bool up = node->phase == NODE_UP && node->process.instance != NULL;
        WORLD_CHECK(!added || !told || !up ||
                        journal_tail(node->process.instance->journal).number >=
                            request->committed,
                    "n%u is added to the record without block %llu, which is committed", i,
                    (unsigned long long)request->committed);
    }
}

static void change(struct request *request)
{
    uint64_t index = store.now.present ? store.now.modify_index : 0;
    bool wins = request->modify_index == index;
    count_add(COUNT_record_refused, !wins);
    if (wins && chance_permille(BACKUP_PERMILLE)) {
        keepers_back_up();
    }
    if (wins) {
        const struct root_record *record = &request->record;
        count_change(record, request->result != OK);
        check_added(request);
        store.now.present = true;
        store.now.record = *record;
        store.now.modify_index = ++store.now.last_index;
        world_log("store", "epoch %llu of n%u, in sync %x, generation %llu, by n%u",
                  (unsigned long long)record->leadership.epoch, record->leadership.leader,
                  record->in_sync, (unsigned long long)record->generation, request->host);
        tell_all();
    }
    request->result = request->result != OK ? request->result : wins ? OK : ERR_CONFLICT;
}

static void arrive(struct actor *actor)
{
    struct request *request = CONTAINER_OF(actor, struct request, actor);
    bool heard = request->result == OK; // else its sender has given up
    switch (request->kind) {
    case KIND_READ:
        request->present = store.now.present;
        request->record = store.now.record;
        request->modify_index = store.now.present ? store.now.modify_index : 0;
        break;
    case KIND_CHANGE:
        change(request);
        break;
    default:
        request->gone = is_gone(request->root);
        break;
    }
    if (!heard) {
        return;
    }
    if (is_lost(request)) {
        count_add(COUNT_record_unanswered, request->kind == KIND_CHANGE);
        request->result = ERR_TIMEOUT;
        send_back(request, KEEPER_TIMEOUT_MS * NS_PER_MS);
        return;
    }
    send_back(request, delay_ns());
}

void keepers_lose(void)
{
    world_log("store", "loses its data");
    store.now = (struct kept){0};
    store.lost = true;
    count_add(COUNT_record_lost, 1);
    tell_all();
}

void keepers_back(void)
{
    world_log("store", "goes back to a backup");
    store.now = store.backup;
    count_add(COUNT_record_back, 1);
    tell_all();
}

// ---- common/roots/keeper.h ---------------------------------------------------------------------

static void answer(struct actor *actor)
{
    struct request request = *CONTAINER_OF(actor, struct request, actor);
    struct keeper *keeper = request.keeper;
    if (!lives(request.host, request.life)) {
        return;
    }
    node_chair_wake(&store.nodes[request.host]);
    const struct keeper_setup *setup = &keeper->setup;
    switch (request.kind) {
    case KIND_READ:
        if (request.ticket != keeper->read_ticket) {
            return;
        }
        if (request.result == OK) {
            setup->read(setup->owner, request.ticket, request.present ? &request.record : NULL,
                        request.modify_index);
        } else {
            setup->failed(setup->owner, request.ticket);
        }
        break;
    case KIND_CHANGE:
        if (request.ticket == keeper->change_ticket) {
            setup->changed(setup->owner, request.ticket, request.result);
        }
        break;
    case KIND_LOOK:
        keeper->looked_at = UINT32_MAX;
        if (request.result == OK) {
            setup->looked(setup->owner, request.root, request.gone);
        }
        break;
    case KIND_MOVED:
        setup->moved(setup->owner);
        break;
    }
}

void keeper_open(struct keeper *keeper, const struct keeper_setup *setup, struct consul *consul)
{
    unsigned host = world_host()->number;
    *keeper = (struct keeper){.setup = *setup, .consul = consul, .looked_at = UINT32_MAX};
    store.keepers[host] = keeper;
    store.lives[host] = store.nodes[host].incarnation;
}

void keeper_close(struct keeper *keeper)
{
    (void)keeper;
    store.keepers[world_host()->number] = NULL;
}

void keeper_read(struct keeper *keeper, uint64_t ticket)
{
    keeper->read_ticket = ticket;
    send_off(new_request(KIND_READ, keeper, ticket));
}

void keeper_change(struct keeper *keeper, uint64_t ticket, const struct root_record *record,
                   uint64_t modify_index)
{
    keeper->change_ticket = ticket;
    keeper->read_ticket = 0; // what is under way may show what was there before
    struct request *request = new_request(KIND_CHANGE, keeper, ticket);
    request->record = *record;
    request->modify_index = modify_index;
    request->committed = node_council(node_of(world_host()))->committed;
    send_off(request);
}

void keeper_look(struct keeper *keeper, unsigned root)
{
    if (keeper->looked_at != UINT32_MAX) {
        return;
    }
    keeper->looked_at = root;
    struct request *request = new_request(KIND_LOOK, keeper, 0);
    request->root = root;
    send_off(request);
}

uint64_t keeper_turn(struct keeper *keeper, uint64_t now_ns)
{
    (void)keeper, (void)now_ns;
    return UINT64_MAX; // it is told of each change
}
