// SPDX-License-Identifier: Apache-2.0
// A change of history at one of several roots (docs/commit.md, R15 and R17): the one that makes it
// goes on from its own log, the others leave theirs. Writer's thread.
#include <inttypes.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/applier.h"
#include "common/core/lead.h"

#define ASIDE_BYTES (32 * MIB) // of one file, and of the last block in it

// ---- forking -----------------------------------------------------------------------------------

struct fork_order {
    struct rest_order rest;
    struct task task;
    struct lead *lead;
    uint64_t epoch;
    uint8_t history[HISTORY_ID_BYTES];
    bool rested;
};

// What the new history begins with: its birth, then what is not known to be committed of the log.
struct beginning {
    struct block **blocks;
    size_t count;
};

static void release(struct beginning *beginning)
{
    for (size_t i = 0; i < beginning->count; i++) {
        block_release(beginning->blocks[i]);
    }
    mem_free(beginning->blocks);
}

// Blocks without batches say who led the history before: they stay behind.
static struct beginning begin(const struct fork_order *order, const struct block_header *before,
                              const uint8_t ancestor[HISTORY_ID_BYTES])
{
    const struct lead *lead = order->lead;
    struct beginning beginning = {0};
    beginning.blocks = mem_alloc((lead->tail.count + 1) * sizeof *beginning.blocks);
    struct block *last = birth_fork(lead->instance, before, ancestor, order->epoch);
    beginning.blocks[beginning.count++] = last;
    const struct block *block;
    for (uint64_t n = before->number + 1; (block = tail_find(&lead->tail, n)) != NULL; n++) {
        if (block->header.batches > 0) {
            struct block_stamp stamp = {.epoch = order->epoch,
                                        .commit_index = block_end(before),
                                        .root_ms = block->header.root_ms};
            last = block_restamp(block, &last->header, stamp);
            beginning.blocks[beginning.count++] = last;
        }
    }
    return beginning;
}

// The journal is the new history's from here on. Its blocks are the tail, as after a crash.
static void take_over(struct lead *lead, const struct block_header *before,
                      const struct beginning *beginning)
{
    struct instance *instance = lead->instance;
    struct birth birth;
    (void)tail_drop(&lead->tail, 0);
    for (size_t i = 0; i < beginning->count; i++) {
        tail_add(&lead->tail, block_hold(beginning->blocks[i]));
    }
    if (birth_decode(&birth, beginning->blocks[0]->stored) == OK) {
        birth_set(instance, &birth);
    }
    atomic_store(&instance->synced, block_end(lead_end(lead)));
    log_line(LOG_WARN, instance->name,
             "a new history begins behind block %" PRIu64 ", index %" PRIu64 ", as was asked for: "
             "it has %zu blocks of the one before that were not known to be committed",
             before->number, block_end(before), beginning->count - 1);
}

static int fork_journal(const struct fork_order *order)
{
    struct lead *lead = order->lead;
    struct journal *journal = lead->instance->journal;
    struct block_header before;
    uint8_t ancestor[HISTORY_ID_BYTES];
    int error = journal_header(journal, order->rest.number, &before);
    if (error != OK) {
        return error;
    }
    memcpy(ancestor, before.history, HISTORY_ID_BYTES);
    memcpy(before.history, order->history, HISTORY_ID_BYTES);
    struct beginning beginning = begin(order, &before, ancestor);
    error = journal_fork(journal, &before, beginning.blocks, beginning.count);
    if (error == OK) {
        take_over(lead, &before, &beginning);
    }
    release(&beginning);
    return error;
}

// Everything behind the place where it forked, as long as the birth block is not known to be
// committed: then nobody has led in it yet.
static void commit_beginning(struct lead *lead)
{
    struct birth birth;
    birth_get(lead->instance, &birth);
    if (birth.size > 0 && birth.placed &&
        commit_known(lead->commit).number == birth.from.number) {
        lead_commit(lead, lead_end(lead)->number);
    }
}

static bool is_there(const struct fork_order *order)
{
    const uint8_t *history = journal_history(order->lead->instance->journal);
    return memcmp(history, order->history, HISTORY_ID_BYTES) == 0;
}

// Another order may have come while the store came to rest.
static bool is_overtaken(const struct fork_order *order)
{
    const struct lead *lead = order->lead;
    return order->rested && (atomic_load(&lead->epoch) != order->epoch ||
                             atomic_load(&lead->leader) != (int)lead->members.own);
}

// ERR_BUSY: not now.
static int carry_out(struct fork_order *order)
{
    struct lead *lead = order->lead;
    bool still = order->rest.number == commit_known(lead->commit).number;
    int error = is_overtaken(order) ? ERR_BUSY : OK;
    if (error == OK && !is_there(order)) {
        error = !still ? ERR_BUSY : order->rest.error != OK ? order->rest.error
                                                            : fork_journal(order);
    }
    if (error != OK) {
        return error;
    }
    commit_beginning(lead);
    lead_begin(lead, order->epoch, 0);
    return OK;
}

static void on_rested(struct task *task);

// Nobody's log is taken from here on, and while the store comes to rest nothing is committed.
static void rest(struct fork_order *order)
{
    struct lead *lead = order->lead;
    lead_follow(lead, order->epoch, (int)lead->members.own, LEAD_NOBODY);
    order->rested = true;
    order->rest = (struct rest_order){.instance = lead->instance,
                                      .number = commit_known(lead->commit).number,
                                      .then.run = on_rested};
    applier_rest(&order->rest);
}

static void on_fork(struct task *task)
{
    struct fork_order *order = CONTAINER_OF(task, struct fork_order, task);
    struct lead *lead = order->lead;
    struct instance *instance = lead->instance;
    bool leads = atomic_load(&lead->opened) != 0 && atomic_load(&lead->epoch) == order->epoch;
    bool idle = leads || instance_state(instance) == INSTANCE_STOPPED ||
                !journal_has_history(instance->journal);
    if (!idle && !is_there(order) && !order->rested) {
        rest(order);
        return;
    }
    int error = idle ? OK : carry_out(order);
    if (error == ERR_IO || error == ERR_CORRUPT || error == ERR_DAMAGED) {
        instance_stop_updates(instance, error, "the new history could not be begun");
    } else if (error != OK) {
        log_line(LOG_INFO, instance->name, "the new history is not begun yet: %s",
                 error_text(error));
    }
    mem_free(order);
}

static void on_rested(struct task *task)
{
    struct rest_order *rest = CONTAINER_OF(task, struct rest_order, then);
    on_fork(&CONTAINER_OF(rest, struct fork_order, rest)->task);
}

void instance_fork(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES],
                   uint64_t epoch)
{
    struct fork_order *order = mem_zalloc(sizeof *order);
    order->lead = instance->lead;
    order->epoch = epoch;
    memcpy(order->history, history, HISTORY_ID_BYTES);
    order->task.run = on_fork;
    mailbox_post(worker_mailbox(instance->writer), &order->task);
}

// ---- leaving -----------------------------------------------------------------------------------

// The first block that the other history lacks, as far as the log here tells: from where that one
// forked, if this log leads there; else what nobody knows to be committed.
static uint64_t first_lost(const struct lead *lead, const struct birth *birth)
{
    struct journal *journal = lead->instance->journal;
    uint64_t oldest = journal_oldest(journal).number;
    uint64_t first = commit_known(lead->commit).number + 1;
    struct block_header header;
    if (birth->size > 0 && birth->placed && birth->from.number < first) {
        uint64_t from = u64_max(birth->from.number, oldest);
        bool before = from > birth->from.number; // trimmed: all that is here lies behind it
        bool leads = journal_header(journal, from, &header) == OK &&
                     (before || hash128_equal(header.chain, birth->from.chain));
        first = leads ? from + 1 : first;
    }
    return u64_max(first, oldest + 1);
}

int lead_leave_history(struct lead *lead, const struct birth *birth)
{
    struct instance *instance = lead->instance;
    struct journal *journal = instance->journal;
    uint64_t first = first_lost(lead, birth), last = journal_tail(journal).number;
    uint64_t known = commit_known(lead->commit).number;
    int error = OK;
    for (uint64_t next = first; error == OK && next <= last;) {
        struct block_header header;
        char *path = NULL;
        error = journal_tail_header(journal, next, &header);
        if (error == OK) {
            error = lead_aside_path(lead, &header, &path);
        }
        if (error == OK) {
            error = journal_copy(journal, next, ASIDE_BYTES, path, &next);
        }
        if (error == OK) {
            log_line(LOG_WARN, instance->name,
                     "blocks up to number %" PRIu64 " are not in the history that takes this one's "
                     "place: set aside in %s", next - 1, path);
        }
        mem_free(path);
    }
    if (error == OK && first <= last) {
        uint64_t lost = known < first ? 0 : known - first + 1;
        atomic_fetch_add(&lead->set_aside, last - first + 1);
        METRIC_ADD(instance->metrics, instance, set_aside, last - first + 1);
        log_line(lost > 0 ? LOG_ERROR : LOG_WARN, instance->name,
                 "%" PRIu64 " blocks were set aside, of which %" PRIu64 " had been committed: a "
                 "person has accepted their loss", last - first + 1, lost);
    }
    return error;
}
