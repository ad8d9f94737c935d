// SPDX-License-Identifier: Apache-2.0
#include "common/core/lead.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/applier.h"

#define SET_ASIDE_MAX 1000 // tails of one place

static struct log_gate full_gate, other_gate;

struct block_stamp instance_stamp(const struct instance *instance)
{
    const struct block_header *last = journal_last(instance->journal);
    const struct lead *lead = instance->lead;
    return (struct block_stamp){
        .epoch = lead == NULL ? last->epoch : atomic_load(&lead->epoch),
        .commit_index = lead == NULL ? block_end(last) : commit_known(lead->commit).index,
        .root_ms = clock_wall_ms()};
}

// The last block that is synced: the tail's, or the last one that is committed.
static struct journal_place synced_place(const struct lead *lead)
{
    const struct tail *tail = &lead->tail;
    struct journal_place known = commit_known(lead->commit);
    const struct block *newest = tail_find(tail, known.number + tail->count);
    return newest == NULL ? known
                          : (struct journal_place){.number = newest->header.number,
                                                   .index = block_end(&newest->header),
                                                   .chain = newest->header.chain};
}

static void announce(struct lead *lead, bool changed)
{
    struct instance *instance = lead->instance;
    pthread_mutex_lock(&instance->lock);
    if (changed && lead->changed != NULL) {
        notice_raise(lead->changed);
    }
    if (lead->observer != NULL) {
        notice_raise(lead->observer);
    }
    pthread_mutex_unlock(&instance->lock);
}

// ---- committing --------------------------------------------------------------------------------

static void write_down(struct lead *lead, const struct block_header *header)
{
    struct journal_place place = {
        .number = header->number, .index = block_end(header), .chain = header->chain};
    int error = commit_advance(lead->commit, header->history, &place);
    if (error != OK) {
        instance_stop_updates(lead->instance, error,
                              "what is committed could not be written down");
    }
}

void lead_restarted(struct lead *lead, const struct block_header *before)
{
    (void)tail_drop(&lead->tail, 0);
    write_down(lead, before);
    lead->link = lead->told = 0;
    lead->common = before->number;
}

void lead_commit(struct lead *lead, uint64_t number)
{
    struct instance *instance = lead->instance;
    const struct block *last = tail_find(&lead->tail, number);
    if (last == NULL || instance_state(instance) == INSTANCE_STOPPED) {
        return;
    }
    write_down(lead, &last->header);
    if (instance_state(instance) == INSTANCE_STOPPED) {
        return;
    }
    journal_release(instance->journal, number);
    struct block *block;
    while ((block = tail_take(&lead->tail, number)) != NULL) {
        applier_hand(instance, block);
    }
}

static struct log_end synced_end(const struct lead *lead)
{
    if (!journal_has_history(lead->instance->journal) || lead_end(lead)->number == 0) {
        return (struct log_end){0};
    }
    const struct block_header *last = lead_end(lead);
    return (struct log_end){.epoch = last->epoch,
                            .block = last->number,
                            .index = block_end(last),
                            .chain = last->chain};
}

bool lead_tell_end(struct lead *lead)
{
    struct log_end end = synced_end(lead);
    if (instance_state(lead->instance) == INSTANCE_STOPPED) {
        return false; // nobody knows what the disk holds
    }
    pthread_mutex_lock(&lead->instance->lock);
    bool news = !hash128_equal(end.chain, lead->report.end.chain);
    lead->report.end = end;
    pthread_mutex_unlock(&lead->instance->lock);
    return news;
}

// A journal that was begun anew holds nothing of what lies before it: that is here once the store
// is built, and until then nobody may count on this root.
static bool is_whole(const struct lead *lead)
{
    struct instance *instance = lead->instance;
    uint64_t oldest = journal_oldest(instance->journal).number;
    if (oldest == 0 || !atomic_load(&instance->wants_build)) {
        return true;
    }
    struct view *view = instance_pin(instance);
    bool whole = view != NULL && view->place.number >= oldest &&
                 memcmp(view->history, journal_history(instance->journal), HISTORY_ID_BYTES) == 0;
    view_release(view);
    return whole;
}

// What a standby may acknowledge: all of the leader's log that is synced here.
static bool set_word(struct lead *lead)
{
    struct lead_word word = {.epoch = atomic_load(&lead->epoch)};
    if (lead->link != 0 && is_whole(lead)) {
        word.link = lead->link;
        const struct block *common = tail_find(&lead->tail, lead->common);
        word.place = commit_known(lead->commit);
        if (common != NULL) {
            word.place = (struct journal_place){.number = lead->common,
                                                .index = block_end(&common->header),
                                                .chain = common->header.chain};
        }
    }
    pthread_mutex_lock(&lead->instance->lock);
    bool news = word.link != lead->word.link || word.place.number != lead->word.place.number;
    lead->word = word;
    pthread_mutex_unlock(&lead->instance->lock);
    return news;
}

void lead_settle(struct lead *lead)
{
    uint64_t before = commit_known(lead->commit).number;
    uint64_t committed = u64_min(lead->told, lead->common);
    if (atomic_load(&lead->opened) != 0) {
        committed = lead->council ? lead->told : tally_committed(&lead->tally);
    }
    if (committed > before) {
        lead_commit(lead, committed);
    }
    METRIC_SET(lead->instance->metrics, instance, uncommitted, lead->tail.count);
    bool news = set_word(lead), moved = lead_tell_end(lead);
    if (news || moved || commit_known(lead->commit).number != before) {
        announce(lead, news);
    }
}

static void count(struct lead *lead, unsigned root, uint64_t block)
{
    tally_acknowledge(&lead->tally, root, block);
    atomic_store(&lead->acknowledged[root], lead->tally.acknowledged[root]);
}

void lead_synced(struct lead *lead, struct block *block)
{
    tail_add(&lead->tail, block);
    if (lead->link != 0) {
        lead->common = block->header.number;
    } else if (atomic_load(&lead->opened) != 0) {
        count(lead, lead->members.own, block->header.number);
    }
    lead_settle(lead);
}

// ---- taking ------------------------------------------------------------------------------------

// A name that no tail has yet.
static char *aside_path(const struct lead *lead, const struct block_header *first)
{
    char history[2 * HISTORY_ID_BYTES + 1];
    for (size_t i = 0; i < HISTORY_ID_BYTES; i++) {
        snprintf(history + 2 * i, 3, "%02x", first->history[i]);
    }
    char *path = mem_format("%s/set-aside/%s-%" PRIu64 "-%" PRIu64 ".qsj",
                            lead->instance->directory, history, first->epoch, first->number);
    for (unsigned i = 2; access(path, F_OK) == 0 && i < SET_ASIDE_MAX; i++) {
        mem_free(path);
        path = mem_format("%s/set-aside/%s-%" PRIu64 "-%" PRIu64 "-%u.qsj",
                          lead->instance->directory, history, first->epoch, first->number, i);
    }
    return path;
}

int lead_aside_path(const struct lead *lead, const struct block_header *first, char **ret_path)
{
    const struct instance *instance = lead->instance;
    char *directory = mem_format("%s/set-aside", instance->directory);
    bool made = mkdir(directory, 0750) == 0 || errno == EEXIST;
    int error = made ? file_sync_directory(instance->directory) : error_from_errno(errno);
    mem_free(directory);
    *ret_path = error == OK ? aside_path(lead, first) : NULL;
    return error;
}

static int set_aside(struct lead *lead, uint64_t number)
{
    struct instance *instance = lead->instance;
    char *path;
    CHECK(number > commit_known(lead->commit).number);
    int error = lead_aside_path(lead, &tail_find(&lead->tail, number)->header, &path);
    if (error == OK) {
        error = journal_cut(instance->journal, number, path);
    }
    if (error == OK) {
        size_t count = tail_drop(&lead->tail, number);
        atomic_fetch_add(&lead->set_aside, count);
        METRIC_ADD(instance->metrics, instance, set_aside, count);
        log_line(LOG_WARN, instance->name,
                 "%zu blocks from number %" PRIu64 " on were never committed here and are not, or "
                 "not all, in the leader's log: set aside in %s", count, number, path);
        atomic_store(&instance->synced, block_end(lead_end(lead)));
    } else if (error == ERR_DISK_FULL) {
        LOG_GATED(&full_gate, LOG_ERROR, instance->name,
                  "the disk is full: blocks that are to be set aside are kept, replication waits");
    } else {
        instance_stop_updates(instance, error, "what the leader's log lacks could not be cut");
    }
    mem_free(path);
    return error;
}

int lead_leave_tail(struct lead *lead)
{
    uint64_t known = commit_known(lead->commit).number;
    return tail_find(&lead->tail, known + 1) == NULL ? OK : set_aside(lead, known + 1);
}

enum lead_verdict lead_judge(struct lead *lead, uint64_t link, const struct block *block)
{
    const struct block_header *header = &block->header;
    // One of a later epoch comes from a leader that was elected again: not before that is promised.
    if (lead->link == 0 || link != lead->link || header->epoch > atomic_load(&lead->epoch) ||
        header->number <= commit_known(lead->commit).number) {
        return LEAD_DROP;
    }
    const struct block *own = tail_find(&lead->tail, header->number);
    if (own != NULL && hash128_equal(own->header.chain, header->chain)) {
        lead->common = u64_max(lead->common, header->number); // all before it are the same too
        return LEAD_DROP;
    }
    if (own == NULL) { // behind all that was compared
        return synced_place(lead).number == lead->common ? LEAD_TAKE : LEAD_DROP;
    }
    if (header->number != lead->common + 1) {
        return LEAD_DROP;
    }
    int error = set_aside(lead, header->number);
    return error == OK ? LEAD_TAKE : error == ERR_DISK_FULL ? LEAD_WAIT : LEAD_DROP;
}

// ---- orders ------------------------------------------------------------------------------------

struct lead_order {
    struct task task;
    struct lead *lead;
    uint64_t epoch, link, number, shared;
    uint32_t set;
    int root, serves;
    struct hash128 chain;
    uint8_t history[HISTORY_ID_BYTES];
};

static void post(struct instance *instance, struct lead_order given, void (*run)(struct task *))
{
    struct lead_order *order = mem_alloc(sizeof *order);
    *order = given;
    order->task.run = run;
    order->lead = instance->lead;
    mailbox_post(worker_mailbox(instance->writer), &order->task);
}

static struct lead_order take_order(struct task *task)
{
    struct lead_order *order = CONTAINER_OF(task, struct lead_order, task);
    struct lead_order taken = *order;
    mem_free(order);
    return taken;
}

// Whom to follow: the list has one name or none.
static void publish_leader(struct lead *lead, int leader)
{
    const char *texts[2] = {NULL, NULL};
    const char *bad, *reason;
    struct endpoints *list;
    if (leader != LEAD_NOBODY && leader != (int)lead->members.own) {
        texts[0] = lead->members.all[leader].address;
    }
    CHECK(endpoints_parse(texts, &list, &bad, &reason) == OK); // parsed before
    endpoint_feed_publish(&lead->instance->parents, list);
}

void lead_follow(struct lead *lead, uint64_t epoch, int leader, int serves)
{
    atomic_store(&lead->serves, serves);
    atomic_store(&lead->opened, 0);
    METRIC_SET(lead->instance->metrics, instance, leads, 0);
    tally_end(&lead->tally);
    for (unsigned i = 0; i < ROOTS_MAX; i++) {
        atomic_store(&lead->acknowledged[i], 0);
    }
    lead->link = lead->told = 0;
    lead->common = commit_known(lead->commit).number;
    atomic_store(&lead->epoch, epoch);
    atomic_store(&lead->leader, leader);
    publish_leader(lead, leader);
    (void)set_word(lead);
    (void)lead_tell_end(lead);
    journal_reveal(lead->instance->journal); // links of another epoch end
    announce(lead, true);
}

static void on_stand(struct task *task)
{
    struct lead_order order = take_order(task);
    struct lead *lead = order.lead;
    bool leads = instance_leads(lead->instance);
    if (!leads && order.epoch == atomic_load(&lead->epoch) &&
        order.root == atomic_load(&lead->leader) && order.serves == atomic_load(&lead->serves)) {
        return; // what has been compared by this link stays so
    }
    if (leads) {
        log_line(LOG_WARN, lead->instance->name, "leads no more: stands by in epoch %" PRIu64,
                 order.epoch);
    }
    lead_follow(lead, order.epoch, order.root, order.serves);
}

void instance_stand(struct instance *instance, uint64_t epoch, int leader)
{
    post(instance, (struct lead_order){.epoch = epoch, .root = leader, .serves = leader}, on_stand);
}

void instance_take_over(struct instance *instance, uint64_t epoch, int donor)
{
    post(instance, (struct lead_order){.epoch = epoch, .root = donor, .serves = LEAD_NOBODY},
         on_stand);
}

void instance_promise(struct instance *instance, uint64_t epoch, int root)
{
    post(instance, (struct lead_order){.epoch = epoch, .root = LEAD_NOBODY, .serves = root},
         on_stand);
}

// The first block of an epoch says who wrote it.
static int open_epoch(struct lead *lead, uint64_t epoch)
{
    struct instance *instance = lead->instance;
    struct buf payload = {0};
    epoch_encode(&payload, bytes_text(instance->node->node));
    struct block *block = block_mark(lead_end(lead), instance_stamp(instance), buf_bytes(&payload));
    buf_free(&payload);
    CHECK(block->header.epoch == epoch);
    return instance_commit(instance, block);
}

void lead_begin(struct lead *lead, uint64_t epoch, uint32_t counted)
{
    struct instance *instance = lead->instance;
    lead_follow(lead, epoch, (int)lead->members.own, LEAD_NOBODY);
    if (!journal_has_history(instance->journal) || lead_end(lead)->epoch > epoch) {
        log_line(LOG_ERROR, instance->name,
                 "cannot lead in epoch %" PRIu64 ": the log is empty, or of a later one",
                 epoch);
        return;
    }
    int error = lead_end(lead)->epoch < epoch ? open_epoch(lead, epoch) : OK;
    if (error != OK) {
        log_line(LOG_ERROR, instance->name, "cannot lead in epoch %" PRIu64 ": %s", epoch,
                 error_text(error));
        return;
    }
    uint64_t opened = lead_end(lead)->number;
    tally_begin(&lead->tally, epoch, opened, lead_least(lead), counted);
    count(lead, lead->members.own, opened);
    atomic_store(&lead->opened_ns, clock_mono_ns());
    atomic_store(&lead->opened, opened);
    METRIC_SET(instance->metrics, instance, leads, 1);
    log_line(LOG_INFO, instance->name, "leads in epoch %" PRIu64 " from block %" PRIu64 " on",
             epoch, opened);
    announce(lead, true);
}

static void on_lead(struct task *task)
{
    struct lead_order order = take_order(task);
    lead_begin(order.lead, order.epoch, order.set);
}

void instance_lead(struct instance *instance, uint64_t epoch, uint32_t counted)
{
    post(instance, (struct lead_order){.epoch = epoch, .set = counted}, on_lead);
}

static void on_found(struct task *task)
{
    struct lead_order order = take_order(task);
    struct instance *instance = order.lead->instance;
    int error = birth_found(instance, order.history, order.epoch);
    if (error == OK) {
        lead_begin(order.lead, order.epoch, order.set);
    } else {
        log_line(LOG_ERROR, instance->name, "cannot found a history: %s", error_text(error));
    }
}

void instance_found(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES],
                    uint64_t epoch, uint32_t counted)
{
    struct lead_order order = {.epoch = epoch, .set = counted};
    memcpy(order.history, history, HISTORY_ID_BYTES);
    post(instance, order, on_found);
}

static void on_gate(struct task *task)
{
    struct lead_order order = take_order(task);
    atomic_store(&order.lead->gate, order.root); // the sequencer's turn comes after this
}

void instance_gate(struct instance *instance, enum lead_gate gate)
{
    post(instance, (struct lead_order){.root = (int)gate}, on_gate);
}

static void on_mark(struct task *task)
{
    struct lead_order order = take_order(task);
    struct lead *lead = order.lead;
    (void)lead_tell_end(lead);
    pthread_mutex_lock(&lead->instance->lock);
    lead->report.marked = order.number;
    pthread_mutex_unlock(&lead->instance->lock);
    announce(lead, false);
}

void instance_mark(struct instance *instance, uint64_t number)
{
    post(instance, (struct lead_order){.number = number}, on_mark);
}

static void on_committed(struct task *task)
{
    struct lead_order order = take_order(task);
    if (atomic_load(&order.lead->opened) != 0) {
        order.lead->told = u64_max(order.lead->told, order.number);
    }
}

void instance_committed(struct instance *instance, uint64_t number)
{
    post(instance, (struct lead_order){.number = number}, on_committed);
}

static void on_count(struct task *task)
{
    struct lead_order order = take_order(task);
    tally_count(&order.lead->tally, order.set);
}

void instance_count(struct instance *instance, uint32_t counted)
{
    post(instance, (struct lead_order){.set = counted}, on_count);
}

static void on_acknowledged(struct task *task)
{
    struct lead_order order = take_order(task);
    struct lead *lead = order.lead;
    if (order.epoch != atomic_load(&lead->epoch) || atomic_load(&lead->opened) == 0 ||
        order.link != atomic_load(&lead->takers[order.root]) ||
        lead_forgot(lead, (unsigned)order.root, order.link)) {
        return;
    }
    const struct block *own = tail_find(&lead->tail, order.number);
    bool known = order.number <= commit_known(lead->commit).number;
    if (own != NULL && !hash128_equal(own->header.chain, order.chain)) {
        LOG_GATED(&other_gate, LOG_ERROR, lead->instance->name,
                  "%s acknowledges block %" PRIu64 " of another log",
                  lead->members.all[order.root].name, order.number);
    } else if (own != NULL || known) {
        count(lead, (unsigned)order.root, order.number);
        announce(lead, false);
    }
}

void instance_acknowledged(struct instance *instance, unsigned root, uint64_t taker, uint64_t epoch,
                           uint64_t number, struct hash128 chain)
{
    CHECK(root < instance->lead->members.count);
    post(instance,
         (struct lead_order){.root = (int)root, .link = taker, .epoch = epoch, .number = number,
                             .chain = chain},
         on_acknowledged);
}

static void on_taken(struct task *task)
{
    struct lead_order order = take_order(task);
    struct lead *lead = order.lead;
    lead->tally.acknowledged[order.root] = 0;
    atomic_store(&lead->acknowledged[order.root], 0);
}

// Zero before any later link of that root can be counted: it comes after what is told to it, and
// that after a mark.
void instance_forget(struct instance *instance, unsigned root)
{
    struct lead *lead = instance->lead;
    CHECK(root < lead->members.count);
    atomic_store(&lead->forgotten[root], atomic_load(&lead->takers[root]));
    post(instance, (struct lead_order){.root = (int)root}, on_taken);
}

uint64_t instance_taken(struct instance *instance, unsigned root)
{
    CHECK(root < instance->lead->members.count);
    uint64_t taker = atomic_fetch_add(&instance->lead->takers[root], 1) + 1;
    post(instance, (struct lead_order){.root = (int)root}, on_taken);
    return taker;
}

// The first word on a link is that it is of the epoch stood by in: its blocks are taken.
static void on_told(struct task *task)
{
    struct lead_order order = take_order(task);
    struct lead *lead = order.lead;
    if (order.epoch != atomic_load(&lead->epoch) || order.link != atomic_load(&lead->links) ||
        atomic_load(&lead->leader) == (int)lead->members.own) {
        return;
    }
    if (lead->link != order.link) {
        const struct block *shared = tail_find(&lead->tail, order.shared);
        bool here = shared != NULL && hash128_equal(shared->header.chain, order.chain);
        lead->link = order.link;
        lead->common = here ? order.shared : commit_known(lead->commit).number;
    }
    lead->told = u64_max(lead->told, order.number);
}

void instance_told(struct instance *instance, uint64_t link, uint64_t epoch, uint64_t number,
                   const struct journal_place *shared)
{
    post(instance,
         (struct lead_order){.link = link, .epoch = epoch, .number = number,
                             .shared = shared->number, .chain = shared->chain},
         on_told);
}
