// SPDX-License-Identifier: Apache-2.0
#include "common/chair/chair_private.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"

static struct log_gate other_gate;

// ---- the record --------------------------------------------------------------------------------

static void on_read(void *owner, uint64_t ticket, const struct root_record *record,
                    uint64_t modify_index)
{
    struct chair *chair = owner;
    council_record(&chair->council, ticket, record, modify_index);
}

static void on_failed(void *owner, uint64_t ticket)
{
    struct chair *chair = owner;
    council_record_failed(&chair->council, ticket);
}

static void on_changed(void *owner, uint64_t ticket, int result)
{
    struct chair *chair = owner;
    council_changed(&chair->council, ticket, result);
}

static void on_moved(void *owner)
{
    struct chair *chair = owner;
    council_record_moved(&chair->council);
}

static void on_looked(void *owner, unsigned root, bool gone)
{
    struct chair *chair = owner;
    chair->gone = gone;
    chair->gone_root = root;
    chair->tick_ns = gone ? 0 : chair->tick_ns; // at once
}

// ---- what other roots say ----------------------------------------------------------------------

// One of another history speaks of blocks that this one has nothing to do with.
static bool is_foreign(const struct chair *chair, const struct tie_fact *fact)
{
    static const uint8_t nothing[HISTORY_ID_BYTES];
    const uint8_t *own = council_speaks_of(&chair->council);
    return fact->has_history && memcmp(own, nothing, HISTORY_ID_BYTES) != 0 &&
           memcmp(own, fact->history, HISTORY_ID_BYTES) != 0;
}

// It leads, or claims to, in a history that forked from that of the log here (R16).
static void on_other_history(struct chair *chair, const struct tie_fact *fact)
{
    const struct journal *journal = chair->instance->journal;
    bool leads = fact->kind == TIE_CLAIM || fact->kind == TIE_WORD;
    bool forked = leads && fact->has_ancestor && journal_has_history(journal) &&
                  memcmp(journal_history(journal), fact->ancestor, HISTORY_ID_BYTES) == 0;
    if (forked) {
        chair->seats[fact->root].heard_ns = chair->now_ns;
        council_on_fork(&chair->council, fact->root, fact->leadership, fact->history);
    } else {
        LOG_GATED(&other_gate, LOG_ERROR, chair->instance->name,
                  "root %s is in another history: nothing that it says is taken",
                  chair->names->all[fact->root].name);
    }
}

static void on_up(struct chair *chair, const struct tie_fact *fact)
{
    struct seat *seat = &chair->seats[fact->root];
    if (fact->own) {
        seat->hears = true;
    } else {
        seat->talks = true;
        seat->up_ns = chair->now_ns;
        seat->number = fact->number;
    }
    seat->greeted = true;
    seat->empty = !fact->has_history;
    council_connected(&chair->council, fact->root);
}

static void on_down(struct chair *chair, const struct tie_fact *fact)
{
    struct seat *seat = &chair->seats[fact->root];
    if (fact->own) {
        seat->hears = false;
    } else {
        seat->talks = false;
        seat->lost_ns = chair->now_ns;
    }
}

// The writer stops sequencing before the council looks whether all is committed.
static void on_ask(struct chair *chair, unsigned root)
{
    if (chair->council.role == COUNCIL_LEADING && chair->heir == ROOT_NOBODY) {
        log_line(LOG_INFO, chair->instance->name, "is to hand over to %s",
                 chair->names->all[root].name);
        chair->heir = root;
        chair->heir_told = false;
        chair->heir_ns = chair->now_ns + chair->instance->options->promote_wait * NS_PER_MS;
    }
}

static unsigned best_heir(const struct chair *chair)
{
    const struct council *council = &chair->council;
    uint32_t set = council->members & council->counted & ~ROOT_BIT(chair->names->own);
    unsigned best = ROOT_NOBODY;
    for (unsigned root = 0; root < chair->names->count; root++) {
        bool fits = set_has(set, root) && chair->seats[root].talks;
        if (fits && (best == ROOT_NOBODY ||
                     council->acknowledged[root] > council->acknowledged[best])) {
            best = root;
        }
    }
    return best;
}

bool chair_parting(struct chair *chair)
{
    unsigned heir = best_heir(chair);
    if (!chair->parts && !chair->stopped && heir != ROOT_NOBODY) {
        on_ask(chair, heir);
    }
    chair->parts = true;
    return !chair->stopped && chair->heir != ROOT_NOBODY;
}

static void on_message(struct chair *chair, const struct tie_fact *fact)
{
    struct council *council = &chair->council;
    switch (fact->kind) {
    case TIE_CLAIM:
        chair->seats[fact->root].heard_ns = chair->now_ns;
        council_on_claim(council, fact->root, fact->leadership);
        return;
    case TIE_PROMISE:
        if (fact->promise.blank) { // there may be another disk behind it than before
            instance_forget(chair->instance, fact->root);
            chair_mark(chair);
        }
        council_on_answer(council, fact->root, fact->granted, &fact->promise, &fact->end);
        return;
    case TIE_WORD:
        chair->seats[fact->root].heard_ns = chair->now_ns;
        council_on_lead(council, fact->root, fact->leadership, fact->block, fact->generation,
                        fact->member);
        return;
    case TIE_ASK:
        on_ask(chair, fact->root);
        return;
    default:
        council_on_go(council, fact->root, fact->leadership);
    }
}

void chair_hear(struct task *task)
{
    struct tie_fact *fact = CONTAINER_OF(task, struct tie_fact, task);
    struct chair *chair = fact->owner;
    struct seat *seat = &chair->seats[fact->root];
    bool old = !fact->own && fact->number < seat->number;
    if (old || chair->stopped) {
        mem_free(fact);
        return;
    }
    bool speaks = fact->kind <= TIE_WORD && fact->kind != TIE_DOWN; // of a history
    seat->foreign = speaks ? is_foreign(chair, fact) : seat->foreign;
    if (fact->kind == TIE_UP) {
        on_up(chair, fact);
    } else if (fact->kind == TIE_DOWN) {
        on_down(chair, fact);
    } else if (speaks && seat->foreign) {
        on_other_history(chair, fact);
    } else {
        on_message(chair, fact);
    }
    mem_free(fact);
}

// ---- the own journal ---------------------------------------------------------------------------

static void warn_of(const struct chair *chair, const struct council_setup *setup)
{
    if (setup->in_sync_min + setup->promote_min <= setup->roots) {
        log_line(LOG_WARN, chair->instance->name,
                 "in_sync_min (%u) and promote_min (%u) are no more than the %u roots together: "
                 "should Consul lose its data, writes that were acknowledged may be lost",
                 setup->in_sync_min, setup->promote_min, setup->roots);
    }
}

static const uint8_t nothing[HISTORY_ID_BYTES];

static void reopen(struct chair *chair, const struct promise *promise, const struct log_end *end)
{
    const struct instance *instance = chair->instance;
    unsigned in_sync_min = (unsigned)instance->options->in_sync_min;
    unsigned promote_min = (unsigned)instance->options->promote_min;
    struct council_setup setup = {.roots = chair->names->count,
                                  .self = chair->names->own,
                                  .ticket = chair->council.ticket};
    const struct journal *journal = instance->journal;
    if (journal_has_history(journal) && end->block > 0) {
        memcpy(setup.log, journal_history(journal), HISTORY_ID_BYTES);
        setup.leaves = memcmp(setup.log, promise->history, HISTORY_ID_BYTES) != 0 &&
                       memcmp(nothing, promise->history, HISTORY_ID_BYTES) != 0;
    }
    setup.in_sync_min = in_sync_min != 0 ? in_sync_min : tally_in_sync_min(setup.roots);
    setup.promote_min =
        promote_min != 0 ? promote_min : tally_promote_min(setup.roots, setup.in_sync_min);
    warn_of(chair, &setup);
    uint64_t committed = u64_min(lead_known(instance->lead).number, end->block);
    council_open(&chair->council, &setup, promise, end, committed);
}

// A blank root takes over the history that it follows; for one that changes into another, as it has
// promised, the numbers of that one begin.
static void look_at_history(struct chair *chair, const struct log_end *end)
{
    struct council *council = &chair->council;
    const struct journal *journal = chair->instance->journal;
    if (!journal_has_history(journal) || end->block == 0) {
        return;
    }
    const uint8_t *history = journal_history(journal);
    bool same = memcmp(council->wanted.history, history, HISTORY_ID_BYTES) == 0;
    if (memcmp(council->wanted.history, nothing, HISTORY_ID_BYTES) == 0) {
        council_history(council, history);
    } else if (same && council->leaves && council->role == COUNCIL_STANDBY) {
        struct promise promise = council->promised;
        reopen(chair, &promise, end);
    }
}

static void look_at_acknowledged(struct chair *chair)
{
    struct council *council = &chair->council;
    const struct lead *lead = chair->instance->lead;
    for (unsigned root = 0; root < chair->names->count && council->role == COUNCIL_LEADING;
         root++) {
        uint64_t block = lead_acknowledged(lead, root);
        if (root != chair->names->own && block > council->acknowledged[root]) {
            council_on_acknowledge(council, root, council->mine, block);
        }
    }
}

// What the writer has done of what was ordered.
static void look_at_orders(struct chair *chair)
{
    const struct lead *lead = chair->instance->lead;
    uint64_t opened = atomic_load(&lead->opened);
    if (chair->opening.leader != ROOT_NOBODY && opened != 0) {
        struct leadership leadership = chair->opening;
        chair->opening.leader = ROOT_NOBODY;
        council_opened(&chair->council, leadership, opened);
    }
    if (chair->heir != ROOT_NOBODY && !chair->heir_told && chair->gate == LEAD_GATE_WAIT) {
        chair->heir_told = true;
        council_on_ask(&chair->council, chair->heir);
        if (chair->council.heir != chair->heir) {
            chair->heir = ROOT_NOBODY; // it is none of those that have every committed block
        }
    }
}

static void look_at_journal(struct chair *chair)
{
    struct council *council = &chair->council;
    struct lead_report report = lead_look(chair->instance->lead);
    chair->marked = report.marked;
    if (report.end.block != council->end.block ||
        !hash128_equal(report.end.chain, council->end.chain)) {
        look_at_history(chair, &report.end);
        council_journal(council, &report.end, report.end.block);
    }
    if (chair_settled(chair)) {
        look_at_orders(chair);
        look_at_acknowledged(chair);
    }
}

static void on_moving(struct notice *notice) { (void)notice; } // the turn looks at everything

// ---- a person ----------------------------------------------------------------------------------

static const char *begin_request(struct chair *chair)
{
    unsigned leader = council_awaited(&chair->council);
    bool answers = leader != ROOT_NOBODY && leader != chair->names->own &&
                   !chair_is_silent(chair, leader);
    return council_promote(&chair->council, answers);
}

static void answer_person(struct chair *chair, const char *refused)
{
    pthread_mutex_lock(&chair->lock);
    chair->status.asked++;
    chair->status.refused = refused;
    pthread_mutex_unlock(&chair->lock);
}

static void on_asked(struct notice *notice)
{
    struct chair *chair = CONTAINER_OF(notice, struct chair, asked);
    answer_person(chair, chair->stopped ? "this root has stopped" : begin_request(chair));
}

void chair_promote(struct chair *chair) { notice_raise(&chair->asked); }

// What its log and its store do not hold cannot go on.
static const char *begin_loss(struct chair *chair)
{
    struct instance *instance = chair->instance;
    unsigned leader = council_awaited(&chair->council);
    uint8_t history[HISTORY_ID_BYTES];
    if (!journal_has_history(instance->journal) || atomic_load(&instance->wants_build) ||
        instance_state(instance) != INSTANCE_SERVING) {
        return "the data of this root is not whole: nothing could go on from it";
    }
    bool answers = leader != ROOT_NOBODY && leader != chair->names->own && !chair_is_gone(chair);
    random_fill(history, sizeof history);
    chair->loss_ns = chair->now_ns + instance->options->promote_wait * NS_PER_MS;
    return council_accept_loss(&chair->council, answers, history);
}

static void on_loss(struct notice *notice)
{
    struct chair *chair = CONTAINER_OF(notice, struct chair, loss);
    answer_person(chair, chair->stopped ? "this root has stopped" : begin_loss(chair));
}

void chair_accept_loss(struct chair *chair) { notice_raise(&chair->loss); }

// ---- the turn ----------------------------------------------------------------------------------

static void run_tasks(struct chair *chair)
{
    struct task *task = mailbox_take(&chair->mailbox);
    while (task != NULL) {
        struct task *next = task->next;
        task->run(task);
        task = next;
    }
}

static void publish(struct chair *chair)
{
    const struct council *council = &chair->council;
    struct instance_metrics *metrics = chair->instance->metrics;
    pthread_mutex_lock(&chair->lock);
    struct chair_status *status = &chair->status;
    status->role = council->told_role;
    status->leadership = council->told_leadership;
    status->generation = council->wanted.generation;
    status->counted = council->counted;
    status->record_known = council->record_present;
    status->in_sync = council->record_present ? council->record.in_sync : 0;
    status->writes = chair_writes_text(council->told_writes);
    status->refused = council->declined != NULL ? council->declined : status->refused;
    pthread_mutex_unlock(&chair->lock);
    METRIC_SET(metrics, instance, roots_epoch, council->told_leadership.epoch);
    METRIC_SET(metrics, instance, roots_generation, council->wanted.generation);
    METRIC_SET(metrics, instance, roots_counted, set_size(council->counted));
}

uint64_t chair_turn(struct chair *chair, uint64_t now_ns)
{
    uint64_t gap_ns = now_ns - chair->now_ns;
    chair->now_ns = now_ns;
    chair_forgive(chair, gap_ns);
    run_tasks(chair);
    if (chair->stopped || instance_state(chair->instance) == INSTANCE_STOPPED) {
        chair->stopped = true;
        return UINT64_MAX;
    }
    look_at_journal(chair);
    chair_note_awaited(chair);
    if (now_ns >= chair->tick_ns) {
        chair_tick(chair);
    }
    chair_watch_leader(chair);
    chair_end_hand_over(chair);
    chair_end_loss(chair);
    chair_gate(chair);
    chair_act(chair);
    publish(chair);
    uint64_t next_ns = u64_min(chair->tick_ns, keeper_turn(&chair->keeper, now_ns));
    return chair->heir == ROOT_NOBODY ? next_ns : u64_min(next_ns, chair->heir_ns);
}

// ---- life --------------------------------------------------------------------------------------

static void on_wake(void *argument)
{
    struct chair *chair = argument;
    pthread_mutex_lock(&chair->lock);
    if (chair->wake != NULL) {
        chair->wake(chair->owner);
    }
    pthread_mutex_unlock(&chair->lock);
}

struct chair *chair_open(const struct chair_setup *setup)
{
    struct chair *chair = mem_zalloc(sizeof *chair);
    chair->setup = *setup;
    chair->instance = setup->instance;
    chair->names = &setup->instance->lead->members;
    chair->service = mem_format("%s%s", setup->service_prefix, setup->instance->name);
    chair->opening.leader = chair->heir = chair->gone_root = ROOT_NOBODY;
    chair->mailbox = (struct mailbox){.wake = on_wake, .argument = chair};
    notice_init(&chair->moved, &chair->mailbox, on_moving);
    notice_init(&chair->asked, &chair->mailbox, on_asked);
    notice_init(&chair->loss, &chair->mailbox, on_loss);
    pthread_mutex_init(&chair->lock, NULL);
    chair->ties = ties_open(&(struct ties_setup){.instance = setup->instance,
                                                 .to = &chair->mailbox,
                                                 .run = chair_hear,
                                                 .owner = chair});
    return chair;
}

void chair_join(struct chair *chair, struct consul *consul, void (*wake)(void *owner), void *owner)
{
    struct instance *instance = chair->instance;
    struct keeper_setup setup = {
        .scope = instance->name,
        .prefix = "qs/",
        .service = chair->service,
        .names = chair->names,
        .owner = chair,
        .read = on_read,
        .failed = on_failed,
        .changed = on_changed,
        .moved = on_moved,
        .looked = on_looked,
    };
    keeper_open(&chair->keeper, &setup, consul);
    chair->now_ns = clock_mono_ns();
    for (unsigned root = 0; root < chair->names->count; root++) {
        chair->seats[root].lost_ns = chair->seats[root].heard_ns = chair->now_ns;
    }
    struct lead_report report = lead_look(instance->lead);
    reopen(chair, &instance->lead->promise, &report.end);
    pthread_mutex_lock(&chair->lock);
    chair->wake = wake;
    chair->owner = owner;
    pthread_mutex_unlock(&chair->lock);
    lead_observe(instance, &chair->moved);
}

void chair_leave(struct chair *chair)
{
    lead_observe(chair->instance, NULL);
    pthread_mutex_lock(&chair->lock);
    chair->wake = NULL;
    pthread_mutex_unlock(&chair->lock);
    keeper_close(&chair->keeper);
}

void chair_close(struct chair *chair, struct notice *closed) { ties_close(chair->ties, closed); }

void chair_free(struct chair *chair)
{
    chair->stopped = true;
    run_tasks(chair);
    ties_free(chair->ties);
    mem_free(chair->service);
    pthread_mutex_destroy(&chair->lock);
    mem_free(chair);
}

const char *chair_accept(struct chair *chair, struct link *link, const struct message_hello *hello)
{
    return ties_accept(chair->ties, link, hello);
}

struct chair_status chair_status(struct chair *chair)
{
    pthread_mutex_lock(&chair->lock);
    struct chair_status status = chair->status;
    pthread_mutex_unlock(&chair->lock);
    return status;
}
