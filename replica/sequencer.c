// SPDX-License-Identifier: Apache-2.0
#include "replica/sequencer.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/core/lead.h"
#include "replica/overlay.h"
#include "replica/txn.h"

// A transaction passes: incoming -> evaluated (in this turn's block) -> pending (its index is
// fixed, waiting to be visible) -> answered. Indexes in `pending` never fall, so the front is
// always the next to be answered.
struct sequencer {
    struct instance *instance; // writer thread
    struct block_builder builder;
    struct overlay overlay;
    struct txn txn;
    struct list waiting; // taken from incoming, not evaluated yet; writer thread
    uint64_t last_index; // newest sequenced
    pthread_mutex_t lock; // guards the two lists below
    struct list incoming;
    struct list pending;
    _Atomic uint64_t queued_bytes; // of everything not answered
};

static void answer(struct sequencer *sequencer, struct transaction *transaction, int status)
{
    if (status == ERR_UNKNOWN_OUTCOME && sequencer->instance != NULL) {
        METRIC_ADD(sequencer->instance->metrics, instance, writes_unknown, 1);
    }
    atomic_fetch_sub(&sequencer->queued_bytes, transaction->bytes);
    transaction->status = status;
    loop_post(transaction->loop, &transaction->done);
}

static void answer_all(struct sequencer *sequencer, struct list *list, int status)
{
    struct list *node;
    while ((node = list_take(list)) != NULL) {
        answer(sequencer, CONTAINER_OF(node, struct transaction, node), status);
    }
}

// Answers what a view at `visible` shows. Any thread.
static void answer_visible(struct sequencer *sequencer, uint64_t visible)
{
    pthread_mutex_lock(&sequencer->lock);
    while (!list_empty(&sequencer->pending)) {
        struct transaction *oldest =
            CONTAINER_OF(sequencer->pending.next, struct transaction, node);
        if (oldest->index > visible) {
            break;
        }
        list_remove(&oldest->node);
        answer(sequencer, oldest, OK);
    }
    pthread_mutex_unlock(&sequencer->lock);
}

void sequencer_answer(struct instance *instance)
{
    struct view *view = instance_pin(instance);
    answer_visible(instance->sequencer, view->place.index);
    if (instance->lead != NULL && view->place.number <= atomic_load(&instance->lead->opened)) {
        instance_wake_writer(instance); // it may be what lead_ready waits for
    }
    view_release(view);
}

int sequencer_submit(struct instance *instance, struct transaction *transaction)
{
    struct sequencer *sequencer = instance->sequencer;
    if (instance_disk_full(instance)) {
        return ERR_DISK_FULL;
    }
    switch (instance_state(instance)) {
    case INSTANCE_LOADING:
        return ERR_LOADING;
    case INSTANCE_STOPPED:
        return ERR_STOPPED;
    default:
        break;
    }
    if (!instance_leads(instance) ||
        (instance->lead != NULL && atomic_load(&instance->lead->gate) == LEAD_GATE_SHUT)) {
        return ERR_READONLY;
    }
    if (atomic_load(&instance->missing) != 0) {
        return ERR_LACKS;
    }
    transaction->submitted_ns = instance->lead == NULL ? 0 : clock_mono_ns();
    uint64_t limit = instance->options->submit_queue;
    uint64_t queued = atomic_fetch_add(&sequencer->queued_bytes, transaction->bytes);
    // One transaction always fits, or the largest could never be written.
    if (queued > 0 && queued + transaction->bytes > limit) {
        atomic_fetch_sub(&sequencer->queued_bytes, transaction->bytes);
        METRIC_ADD(instance->metrics, instance, writes_refused, 1);
        return ERR_BUSY;
    }
    pthread_mutex_lock(&sequencer->lock);
    list_append(&sequencer->incoming, &transaction->node);
    pthread_mutex_unlock(&sequencer->lock);
    instance_wake_writer(instance);
    return OK;
}

// ---- one block ---------------------------------------------------------------------------------

// Moves the net effect into the block and the overlay.
static void record_batch(struct sequencer *sequencer, uint64_t index)
{
    const struct txn *txn = &sequencer->txn;
    builder_batch(&sequencer->builder);
    for (size_t i = 0; i < txn->touch_count; i++) {
        const struct touch *touch = &txn->touches[i];
        if (!touch->written || (!touch->present && touch->before == 0)) {
            continue;
        }
        if (touch->present) {
            builder_entry(&sequencer->builder, ENTRY_PUT, touch->key, touch->value, touch->before);
            overlay_put(&sequencer->overlay, touch->key, touch->value, index);
        } else {
            builder_entry(&sequencer->builder, ENTRY_DELETE, touch->key, bytes_of(NULL, 0),
                          touch->before);
            overlay_delete(&sequencer->overlay, touch->key, index);
        }
    }
    builder_batch_end(&sequencer->builder);
}

// Evaluates one transaction; a second time when it promised an index that it does not take.
static int evaluate(struct sequencer *sequencer, struct transaction *transaction, struct view *view)
{
    struct txn *txn = &sequencer->txn;
    for (unsigned attempt = 0; attempt < 2; attempt++) {
        txn_start(txn, sequencer->instance, view, sequencer->last_index + 1, attempt > 0);
        int error = transaction->evaluate(transaction, txn);
        error = error != OK ? error : txn->error;
        if (error != OK) {
            METRIC_ADD(sequencer->instance->metrics, instance, writes_refused, 1);
            return error;
        }
        if (txn_changes(txn) || !txn->promised) {
            break;
        }
    }
    if (txn_changes(txn)) {
        sequencer->last_index++;
        record_batch(sequencer, sequencer->last_index);
        METRIC_ADD(sequencer->instance->metrics, instance, writes, 1);
    }
    transaction->index = sequencer->last_index;
    return OK;
}

// Evaluates waiting transactions until the block is full. What was evaluated goes to `done`.
static void fill_block(struct sequencer *sequencer, struct view *view, struct list *done)
{
    const struct instance_options *options = sequencer->instance->options;
    struct list *node;
    while (builder_size(&sequencer->builder) < options->block_bytes &&
           sequencer->builder.entry_count < options->block_entries &&
           (node = list_take(&sequencer->waiting)) != NULL) {
        struct transaction *transaction = CONTAINER_OF(node, struct transaction, node);
        int error = evaluate(sequencer, transaction, view);
        if (error == OK) {
            list_append(done, &transaction->node);
        } else {
            answer(sequencer, transaction, error);
        }
        txn_reset(&sequencer->txn);
    }
}

// Takes back what could not be journaled and answers it with the error.
static void revoke(struct sequencer *sequencer, uint64_t before, int error)
{
    overlay_revoke(&sequencer->overlay, before + 1);
    sequencer->last_index = before;
    struct list failed;
    list_init(&failed);
    pthread_mutex_lock(&sequencer->lock);
    LIST_FOR_EACH(node, &sequencer->pending) {
        struct transaction *transaction = CONTAINER_OF(node, struct transaction, node);
        if (transaction->index > before) {
            list_remove(node);
            list_append(&failed, node);
        }
    }
    pthread_mutex_unlock(&sequencer->lock);
    answer_all(sequencer, &failed, error);
}

// The transactions wait in `pending` before the block is handed on: its view may be published
// before instance_commit returns.
static void commit(struct sequencer *sequencer, uint64_t before, struct list *done)
{
    struct instance *instance = sequencer->instance;
    pthread_mutex_lock(&sequencer->lock);
    list_move_all(&sequencer->pending, done);
    pthread_mutex_unlock(&sequencer->lock);
    if (sequencer->builder.batch_count == 0) {
        return;
    }
    const struct block_header *last = journal_last(instance->journal);
    int error = instance_commit(
        instance, builder_finish(&sequencer->builder, last, instance_stamp(instance)));
    if (error != OK) {
        revoke(sequencer, before, error);
    }
}

// Answers what was not evaluated yet, in order.
static void refuse_waiting(struct sequencer *sequencer, int error)
{
    pthread_mutex_lock(&sequencer->lock);
    list_move_all(&sequencer->waiting, &sequencer->incoming);
    pthread_mutex_unlock(&sequencer->lock);
    answer_all(sequencer, &sequencer->waiting, error);
}

// What is journaled may or may not come to be; the rest will not: it is answered with `error`.
static void answer_ended(struct sequencer *sequencer, int error)
{
    struct list pending;
    list_init(&pending);
    pthread_mutex_lock(&sequencer->lock);
    list_move_all(&pending, &sequencer->pending);
    pthread_mutex_unlock(&sequencer->lock);
    answer_all(sequencer, &pending, ERR_UNKNOWN_OUTCOME);
    refuse_waiting(sequencer, error);
}

// ---- of several roots --------------------------------------------------------------------------

static bool expired(const struct list *list, uint64_t before_ns, uint64_t *ret_oldest_ns)
{
    if (list_empty(list)) {
        return false;
    }
    const struct transaction *oldest = CONTAINER_OF(list->next, struct transaction, node);
    *ret_oldest_ns = u64_min(*ret_oldest_ns, oldest->submitted_ns);
    return oldest->submitted_ns <= before_ns;
}

static void expire(struct sequencer *sequencer, struct list *list, uint64_t before_ns, int error,
                   uint64_t *oldest_ns)
{
    pthread_mutex_lock(&sequencer->lock);
    while (expired(list, before_ns, oldest_ns)) {
        answer(sequencer, CONTAINER_OF(list_take(list), struct transaction, node), error);
        *oldest_ns = UINT64_MAX;
    }
    pthread_mutex_unlock(&sequencer->lock);
}

// Answers what has waited for its commit for too long, and asks for a turn when the next one has.
static void expire_old(struct sequencer *sequencer)
{
    struct instance *instance = sequencer->instance;
    uint64_t wait_ns = instance->options->commit_wait * NS_PER_MS, now_ns = clock_mono_ns();
    uint64_t before_ns = now_ns > wait_ns ? now_ns - wait_ns : 0;
    uint64_t pending_ns = UINT64_MAX, waiting_ns = UINT64_MAX;
    expire(sequencer, &sequencer->pending, before_ns, ERR_UNKNOWN_OUTCOME, &pending_ns);
    expire(sequencer, &sequencer->waiting, before_ns, ERR_BUSY, &waiting_ns);
    uint64_t oldest_ns = u64_min(pending_ns, waiting_ns);
    instance->lead->due_ns = oldest_ns == UINT64_MAX ? 0 : oldest_ns + wait_ns;
}

// May it sequence now? A leader that is none any more revokes what it had sequenced.
static bool may_sequence(struct sequencer *sequencer)
{
    struct instance *instance = sequencer->instance;
    if (!instance_leads(instance)) {
        answer_ended(sequencer, ERR_READONLY);
        overlay_revoke(&sequencer->overlay, 0);
        instance->lead->due_ns = 0;
        return false;
    }
    pthread_mutex_lock(&sequencer->lock);
    list_move_all(&sequencer->waiting, &sequencer->incoming);
    pthread_mutex_unlock(&sequencer->lock);
    if (atomic_load(&instance->lead->gate) == LEAD_GATE_SHUT) {
        answer_all(sequencer, &sequencer->waiting, ERR_READONLY);
    }
    expire_old(sequencer);
    struct view *view = instance_pin(instance);
    bool ready = view != NULL && lead_ready(instance->lead, view);
    view_release(view);
    return ready;
}

bool sequencer_turn(struct instance *instance)
{
    struct sequencer *sequencer = instance->sequencer;
    sequencer->instance = instance;
    if (instance_state(instance) == INSTANCE_STOPPED) {
        answer_ended(sequencer, ERR_STOPPED);
        if (instance->lead != NULL) {
            instance->lead->due_ns = 0; // nothing is left that could expire
        }
        return false;
    }
    if (instance->lead != NULL && !may_sequence(sequencer)) {
        return false;
    }
    if (instance_disk_full(instance)) {
        refuse_waiting(sequencer, ERR_DISK_FULL);
        return false;
    }
    if (atomic_load(&instance->missing) != 0) {
        refuse_waiting(sequencer, ERR_LACKS);
        return false;
    }
    if (instance_apply_full(instance)) {
        return false; // the applier wakes the writer when there is room again
    }
    pthread_mutex_lock(&sequencer->lock);
    list_move_all(&sequencer->waiting, &sequencer->incoming);
    pthread_mutex_unlock(&sequencer->lock);
    if (list_empty(&sequencer->waiting)) {
        return false;
    }
    struct view *view = instance_pin(instance);
    CHECK(view != NULL); // transactions are refused while loading
    overlay_forget(&sequencer->overlay, view->place.index);
    sequencer->last_index = block_end(journal_last(instance->journal));
    uint64_t before = sequencer->last_index;
    builder_reset(&sequencer->builder, before + 1);
    struct list done;
    list_init(&done);
    fill_block(sequencer, view, &done);
    view_release(view);
    commit(sequencer, before, &done);
    sequencer_answer(instance); // those that changed nothing may be visible already
    return !list_empty(&sequencer->waiting);
}

// ---- open and close ----------------------------------------------------------------------------

void *sequencer_open(void)
{
    struct sequencer *sequencer = mem_zalloc(sizeof *sequencer);
    builder_open(&sequencer->builder);
    overlay_open(&sequencer->overlay);
    txn_open(&sequencer->txn, &sequencer->overlay);
    list_init(&sequencer->waiting);
    list_init(&sequencer->incoming);
    list_init(&sequencer->pending);
    pthread_mutex_init(&sequencer->lock, NULL);
    return sequencer;
}

void sequencer_close(void *opened)
{
    struct sequencer *sequencer = opened;
    sequencer->instance = NULL; // it is gone
    answer_ended(sequencer, ERR_STOPPED);
    txn_close(&sequencer->txn);
    overlay_close(&sequencer->overlay);
    builder_close(&sequencer->builder);
    pthread_mutex_destroy(&sequencer->lock);
    mem_free(sequencer);
}
