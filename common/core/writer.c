// SPDX-License-Identifier: Apache-2.0
#include "common/core/writer.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/applier.h"
#include "common/core/lead.h"

#define RETRY_NS NS_PER_S

struct received {
    struct list node;
    struct task task;
    struct instance *instance;
    struct block *block;
    uint64_t link; // of a standby to its leader, by which it came
};

// A posted order with one number: trim, recheck.
struct order {
    struct task task;
    struct instance *instance;
    uint64_t number;
};

struct adoption {
    struct task task;
    struct instance *instance;
    uint8_t history[HISTORY_ID_BYTES];
};

struct writer {
    struct instance *instance;
    struct list incoming; // struct received: not appended yet
    struct list unsynced; // struct received: appended, to be handed over after the sync
    struct adoption *adoption; // a history that the journal shall begin with
    uint64_t unsynced_since_ns;
    uint64_t retry_at_ns; // the disk is full: not before
    struct log_gate full_gate;
};

static size_t block_memory(const struct block *block)
{
    return block->stored.size + block->raw.size;
}

static void drop(struct received *received)
{
    atomic_fetch_sub(&received->instance->receive_bytes, block_memory(received->block));
    block_release(received->block);
    mem_free(received);
}

// ---- follower: blocks from a parent -------------------------------------------------------------

static void on_received(struct task *task)
{
    struct received *received = CONTAINER_OF(task, struct received, task);
    list_append(&received->instance->write->incoming, &received->node);
}

void instance_receive(struct instance *instance, struct block *block)
{
    struct received *received = mem_alloc(sizeof *received);
    *received = (struct received){.task.run = on_received, .instance = instance, .block = block};
    if (instance->lead != NULL) {
        received->link = atomic_load(&instance->lead->links);
    }
    list_init(&received->node);
    atomic_fetch_add(&instance->receive_bytes, block_memory(block));
    mailbox_post(worker_mailbox(instance->writer), &received->task);
}

static int sync_journal(struct instance *instance)
{
    uint64_t start_ns = clock_mono_ns();
    int error = journal_sync(instance->journal);
    METRIC_ADD(instance->metrics, instance, journal_syncs, 1);
    METRIC_ADD(instance->metrics, instance, journal_sync_ns, clock_mono_ns() - start_ns);
    if (error != OK) {
        // Never retried: after a failed fdatasync nobody knows what the disk holds.
        instance_stop_updates(instance, error, "fdatasync of the journal failed");
        return error;
    }
    atomic_store(&instance->synced, block_end(journal_last(instance->journal)));
    return OK;
}

static void clear_damage(struct instance *instance)
{
    atomic_store(&instance->damaged_first, 0);
    atomic_store(&instance->damaged_last, 0);
}

static void patch(struct instance *instance, struct block *block)
{
    struct journal_report report = {0};
    int error = journal_patch(instance->journal, block, &report);
    if (error == ERR_NOT_FOUND || error == OK || error == ERR_DAMAGED) {
        METRIC_ADD(instance->metrics, instance, journal_repaired, 1);
    }
    if (error == OK) {
        // What is shown must be synced, what was appended last too; and progress counts from there.
        if (sync_journal(instance) != OK) {
            return;
        }
        clear_damage(instance);
        log_line(LOG_INFO, instance->name, "the journal is whole again: block %llu was the last "
                 "damaged one", (unsigned long long)block->header.number);
        journal_publish(instance->journal);
        // Of several roots the rest is not known to be committed.
        applier_mended(instance, instance->lead != NULL
                                     ? journal_end(instance->journal).number
                                     : journal_last(instance->journal)->number);
    } else if (error == ERR_DAMAGED) {
        instance_damaged(instance, &report);
    } else if (error != ERR_NOT_FOUND) {
        log_line(LOG_WARN, instance->name, "block %llu does not mend the journal: %s",
                 (unsigned long long)block->header.number, error_text(error));
        if (journal_has_failed(instance->journal)) {
            instance_stop_updates(instance, error, "the journal could not be mended");
        }
    }
}

static void sync_received(struct writer *writer);

// Of several roots a standby: whether the block is to be appended.
static enum lead_verdict judge(struct writer *writer, const struct received *received)
{
    struct instance *instance = writer->instance;
    if (instance->lead == NULL || instance_state(instance) == INSTANCE_STOPPED ||
        !journal_has_history(instance->journal)) {
        return LEAD_TAKE;
    }
    bool known = received->block->header.number <= journal_last(instance->journal)->number;
    if (known && !list_empty(&writer->unsynced)) {
        sync_received(writer); // it may have to be compared with these
    }
    return lead_judge(instance->lead, received->link, received->block);
}

// True when the block was dealt with for good (appended, patched or dropped).
static bool take(struct writer *writer, struct received *received, uint64_t now_ns)
{
    struct instance *instance = writer->instance;
    struct block *block = received->block;
    uint64_t damaged_last = atomic_load(&instance->damaged_last);
    if (damaged_last != 0 && block->header.number <= damaged_last &&
        block->header.number >= atomic_load(&instance->damaged_first)) {
        patch(instance, block);
        drop(received);
        return true;
    }
    enum lead_verdict verdict = judge(writer, received);
    if (verdict == LEAD_WAIT) {
        writer->retry_at_ns = now_ns + RETRY_NS;
        list_append(&writer->incoming, &received->node);
        return false;
    }
    if (verdict == LEAD_DROP || instance_state(instance) == INSTANCE_STOPPED ||
        !journal_has_history(instance->journal) ||
        block->header.number != journal_last(instance->journal)->number + 1) {
        drop(received); // known already, or it will be asked for again
        return true;
    }
    int error = journal_append(instance->journal, block);
    if (error == ERR_DAMAGED) {
        drop(received); // what stands before it must be mended first; it will be asked for again
        return true;
    }
    if (error == ERR_DISK_FULL) {
        LOG_GATED(&writer->full_gate, LOG_ERROR, instance->name,
                  "the disk is full: replication waits");
        writer->retry_at_ns = now_ns + RETRY_NS;
        list_append(&writer->incoming, &received->node);
        return false;
    }
    if (error != OK) {
        instance_stop_updates(instance, error, "a block could not be appended to the journal");
        drop(received);
        return true;
    }
    METRIC_ADD(instance->metrics, instance, blocks, 1);
    METRIC_ADD(instance->metrics, instance, journal_bytes_written, block->stored.size);
    if (list_empty(&writer->unsynced)) {
        writer->unsynced_since_ns = now_ns;
    }
    list_append(&writer->unsynced, &received->node);
    return true;
}

// A block is synced. Takes the reference over.
static void hand(struct instance *instance, struct block *block)
{
    if (instance->lead != NULL) {
        lead_synced(instance->lead, block);
    } else {
        applier_hand(instance, block);
    }
}

static void sync_received(struct writer *writer)
{
    struct instance *instance = writer->instance;
    bool synced = sync_journal(instance) == OK;
    struct list *node;
    while ((node = list_take(&writer->unsynced)) != NULL) {
        struct received *received = CONTAINER_OF(node, struct received, node);
        if (synced) {
            hand(instance, block_hold(received->block));
        }
        drop(received);
    }
}

// Gives the journal its history. False: the disk is full, what came waits.
static bool begin(struct writer *writer, uint64_t now_ns)
{
    struct instance *instance = writer->instance;
    if (now_ns < writer->retry_at_ns) {
        return false;
    }
    int error = OK;
    if (!journal_has_history(instance->journal)) {
        error = journal_begin(instance->journal, writer->adoption->history);
    }
    if (error == ERR_DISK_FULL) {
        LOG_GATED(&writer->full_gate, LOG_ERROR, instance->name,
                  "the disk is full: the journal cannot be begun yet");
        writer->retry_at_ns = now_ns + RETRY_NS;
        return false;
    }
    if (error != OK) {
        instance_stop_updates(instance, error, "the journal could not be begun");
    } else {
        journal_publish(instance->journal);
    }
    mem_free(writer->adoption);
    writer->adoption = NULL;
    return true;
}

// Appends what came, forwards it at once, and syncs when enough or long enough unsynced.
static uint64_t follower_turn(struct writer *writer)
{
    struct instance *instance = writer->instance;
    uint64_t now_ns = clock_mono_ns();
    uint64_t sync_ns = instance->lead == NULL ? instance->options->sync * NS_PER_MS : 0;
    if (writer->adoption != NULL && !begin(writer, now_ns)) {
        return RETRY_NS;
    }
    struct list work;
    list_init(&work);
    if (now_ns >= writer->retry_at_ns) {
        list_move_all(&work, &writer->incoming);
    }
    struct list *node;
    bool more = true;
    while (more && (node = list_take(&work)) != NULL) {
        more = take(writer, CONTAINER_OF(node, struct received, node), now_ns);
        if (journal_unsynced(instance->journal) >= JOURNAL_GROUP_BYTES &&
            !list_empty(&writer->unsynced)) {
            journal_publish(instance->journal);
            sync_received(writer);
        }
    }
    list_move_all(&writer->incoming, &work);
    if (list_empty(&writer->unsynced)) {
        return list_empty(&writer->incoming) ? WORKER_IDLE : RETRY_NS;
    }
    journal_publish(instance->journal);
    uint64_t due_ns = writer->unsynced_since_ns + sync_ns;
    if (due_ns <= now_ns) {
        sync_received(writer);
        return list_empty(&writer->incoming) ? WORKER_IDLE : RETRY_NS;
    }
    return due_ns - now_ns;
}

// ---- root --------------------------------------------------------------------------------------

int instance_commit(struct instance *instance, struct block *block)
{
    int error = journal_append(instance->journal, block);
    if (error != OK) {
        if (error != ERR_DISK_FULL) {
            instance_stop_updates(instance, error, "a block could not be appended to the journal");
        }
        block_release(block);
        return error;
    }
    METRIC_ADD(instance->metrics, instance, blocks, 1);
    METRIC_ADD(instance->metrics, instance, journal_bytes_written, block->stored.size);
    if (instance->lead != NULL) {
        journal_reveal(instance->journal); // standbys write it while it is synced here
    }
    if (sync_journal(instance) != OK) {
        block_release(block);
        return ERR_UNKNOWN_OUTCOME;
    }
    journal_publish(instance->journal);
    hand(instance, block);
    return OK;
}

bool instance_apply_full(const struct instance *instance)
{
    uint64_t waiting = instance->lead == NULL ? 0 : instance->lead->tail.bytes;
    return atomic_load(&instance->apply_bytes) + waiting >= instance->options->apply_queue;
}

void instance_wake_writer(struct instance *instance)
{
    // An empty order: the turn after it looks at everything.
    notice_raise(&instance->writer_wake);
}

static void on_wake(struct notice *notice) { (void)notice; }

// Leader or standby: what the one has to do finds nothing at the other. Writes of a leader that is
// none any more are answered before another's blocks can be shown at their indexes.
static uint64_t one_of_several(struct writer *writer)
{
    struct instance *instance = writer->instance;
    if (instance->sequence != NULL && !instance_leads(instance)) {
        (void)instance->sequence(instance);
    }
    uint64_t pause_ns = follower_turn(writer);
    lead_settle(instance->lead);
    if (instance->sequence != NULL && instance->sequence(instance)) {
        return 0;
    }
    uint64_t due_ns = instance->lead->due_ns, now_ns = clock_mono_ns();
    uint64_t wait_ns = due_ns == 0 ? WORKER_IDLE : due_ns > now_ns ? due_ns - now_ns : 0;
    return u64_min(pause_ns, wait_ns);
}

// The only root fetches what it lacks. What it was given meanwhile becomes its log before anything
// is sequenced behind it.
static uint64_t lacking_turn(struct writer *writer)
{
    struct instance *instance = writer->instance;
    uint64_t missing = atomic_load(&instance->missing);
    if (missing != 0) {
        (void)instance->sequence(instance); // refuses what waits
    }
    uint64_t pause_ns = follower_turn(writer);
    uint64_t end = journal_last(instance->journal)->number;
    if (!list_empty(&writer->unsynced) || !list_empty(&writer->incoming) || end < missing) {
        return pause_ns;
    }
    if (missing != 0 && atomic_compare_exchange_strong(&instance->missing, &missing, 0)) {
        METRIC_SET(instance->metrics, instance, lacks, 0);
        log_line(LOG_WARN, instance->name,
                 "what this root lacked is here, up to block %llu: writes are taken again",
                 (unsigned long long)end);
    }
    return 0;
}

static uint64_t writer_turn(void *argument)
{
    struct writer *writer = argument;
    bool given = !list_empty(&writer->unsynced) || !list_empty(&writer->incoming);
    if (writer->instance->lead != NULL) {
        return one_of_several(writer);
    }
    if (writer->instance->sequence != NULL) {
        if (given || atomic_load(&writer->instance->missing) != 0) {
            return lacking_turn(writer);
        }
        return writer->instance->sequence(writer->instance) ? 0 : WORKER_IDLE;
    }
    return follower_turn(writer);
}

// ---- orders ------------------------------------------------------------------------------------

static void post_order(struct instance *instance, void (*run)(struct task *), uint64_t number)
{
    struct order *order = mem_alloc(sizeof *order);
    *order = (struct order){.task.run = run, .instance = instance, .number = number};
    mailbox_post(worker_mailbox(instance->writer), &order->task);
}

static void on_trim(struct task *task)
{
    struct order *order = CONTAINER_OF(task, struct order, task);
    struct instance *instance = order->instance;
    journal_trim(instance->journal, order->number);
    // Damage that left with its segment needs no repair, and perhaps nobody has those blocks still.
    uint64_t damaged_last = atomic_load(&instance->damaged_last);
    if (damaged_last != 0 && damaged_last <= journal_oldest(instance->journal).number) {
        clear_damage(instance);
    }
    mem_free(order);
}

void writer_trim(struct instance *instance, uint64_t flushed_block)
{
    post_order(instance, on_trim, flushed_block);
}

static void on_recheck(struct task *task)
{
    struct order *order = CONTAINER_OF(task, struct order, task);
    struct journal_report report = {0};
    int error = journal_recheck(order->instance->journal, order->number, &report);
    if (error == ERR_DAMAGED) {
        instance_damaged(order->instance, &report);
    }
    mem_free(order);
}

void instance_recheck(struct instance *instance, uint64_t number)
{
    post_order(instance, on_recheck, number);
}

static void on_adopt(struct task *task)
{
    struct adoption *adoption = CONTAINER_OF(task, struct adoption, task);
    struct writer *writer = adoption->instance->write;
    mem_free(writer->adoption);
    writer->adoption = adoption;
}

void instance_adopt(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES])
{
    struct adoption *adoption = mem_alloc(sizeof *adoption);
    *adoption = (struct adoption){.task.run = on_adopt, .instance = instance};
    memcpy(adoption->history, history, HISTORY_ID_BYTES);
    mailbox_post(worker_mailbox(instance->writer), &adoption->task);
}

static void drop_all(struct list *received)
{
    struct list *node;
    while ((node = list_take(received)) != NULL) {
        drop(CONTAINER_OF(node, struct received, node));
    }
}

// One of several roots keeps what others may count on: its log while it leads, and what it has
// acknowledged beyond that place. A tail of an earlier epoch than that committed place counts no
// more: what is committed of it is before that. It is set aside.
static int leave_log(struct instance *instance, const struct block_header *before,
                     const struct birth *birth)
{
    const struct journal *journal = instance->journal;
    struct lead *lead = instance->lead;
    if (lead == NULL || instance_leads(instance)) {
        return lead == NULL ? OK : ERR_BUSY;
    }
    bool same = journal_has_history(journal) &&
                memcmp(journal_history(journal), before->history, HISTORY_ID_BYTES) == 0;
    if (!same && journal_has_history(journal)) {
        return lead_may_join(instance, before->history) ? lead_leave_history(lead, birth)
                                                        : ERR_BUSY;
    }
    if (same && before->epoch > journal_last(journal)->epoch) {
        return lead_leave_tail(lead);
    }
    return same && before->number < journal_last(journal)->number ? ERR_BUSY : OK;
}

static void on_restart(struct task *task)
{
    struct restart_order *order = CONTAINER_OF(task, struct restart_order, task);
    struct instance *instance = order->instance;
    const struct block_header *before = &order->before;
    order->error = leave_log(instance, before, &order->birth);
    if (order->error == OK) {
        order->error = journal_restart(instance->journal, before);
    }
    if (order->error == ERR_BUSY) {
        log_line(LOG_INFO, instance->name,
                 "the journal is not begun anew behind block %llu: this root holds more",
                 (unsigned long long)before->number);
    } else if (order->error == ERR_DISK_FULL) {
        log_line(LOG_ERROR, instance->name, "the disk is full: the journal cannot be begun anew");
    } else if (order->error != OK) {
        instance_stop_updates(instance, order->error, "the journal could not be begun anew");
    } else {
        log_line(LOG_WARN, instance->name,
                 "the journal is begun anew behind block %llu, index %llu",
                 (unsigned long long)before->number, (unsigned long long)block_end(before));
        drop_all(&instance->write->unsynced);
        drop_all(&instance->write->incoming);
        if (instance->lead != NULL) {
            lead_restarted(instance->lead, before);
        }
        if (order->birth.size > 0) {
            birth_set(instance, &order->birth);
        }
        atomic_store(&instance->synced, block_end(before));
        clear_damage(instance);
        applier_restarted(instance, before->number);
    }
    loop_post(order->loop, &order->answered);
}

void instance_restart_journal(struct restart_order *order)
{
    order->task.run = on_restart;
    mailbox_post(worker_mailbox(order->instance->writer), &order->task);
}

// ---- open and close ----------------------------------------------------------------------------

int writer_open(struct instance *instance)
{
    struct writer *writer = mem_zalloc(sizeof *writer);
    writer->instance = instance;
    list_init(&writer->incoming);
    list_init(&writer->unsynced);
    instance->write = writer;
    int error = worker_start(&instance->writer, "qs-writer", writer_turn, writer);
    if (error != OK) {
        instance->write = NULL;
        mem_free(writer);
        return error;
    }
    notice_init(&instance->writer_wake, worker_mailbox(instance->writer), on_wake);
    return OK;
}

void writer_close(struct instance *instance)
{
    struct writer *writer = instance->write;
    if (writer == NULL) {
        return;
    }
    worker_stop(instance->writer);
    if (!list_empty(&writer->unsynced)) {
        sync_received(writer);
    }
    struct list *node;
    while ((node = list_take(&writer->incoming)) != NULL) {
        drop(CONTAINER_OF(node, struct received, node));
    }
    mem_free(writer->adoption);
    instance->write = NULL;
    mem_free(writer);
}
