// SPDX-License-Identifier: Apache-2.0
#include "common/core/applier.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/walk.h"
#include "common/core/writer.h"

#define RETRY_NS NS_PER_S
#define REPLAY_SLICE_NS (20 * NS_PER_MS)
#define CHECK_FLUSHED_BYTES (16 * MIB)
#define CHECKS_PER_REPLAY 4
#define IDLE_EVERY_NS (30 * NS_PER_S)

struct handed {
    struct list node;
    struct task task;
    struct instance *instance;
    struct block *block;
};

struct mended {
    struct task task;
    struct instance *instance;
    uint64_t until;
};

struct applier {
    struct instance *instance;
    struct state state;          // of the newest store write
    struct list blocks;          // struct handed, in order
    struct task again;           // the next of them
    bool coming_back;            // `again` is posted
    struct store_batch *batch;
    struct front front;
    bool front_loaded;
    struct journal_cursor cursor; // replay
    uint64_t replay_until;
    bool replaying;
    bool damaged;                // the journal goes on behind a damage: replay waits for the repair
    bool republish;              // fills are to be shown
    uint64_t unflushed_bytes;    // raw bytes applied since the persisted state was seen to move
    uint64_t unchecked_bytes;    // ... since it was looked at
    uint64_t flushed_block;
    uint64_t idle_ns; // when the last idle work was done
    struct log_gate full_gate;
};

static void publish(struct applier *applier)
{
    struct instance *instance = applier->instance;
    struct view *view = mem_zalloc(sizeof *view);
    atomic_init(&view->references, 1);
    view->store = instance->store;
    view->snapshot = store_snapshot(instance->store);
    view->place = applier->state.place;
    view->epoch = applier->state.epoch;
    view->digest = applier->state.digest;
    view->front = front_for_view(&applier->front, &view->place);
    view->history_floor = atomic_load(&instance->history_floor);
    view->window_floor = atomic_load(&instance->window_floor);
    view->published_ns = clock_mono_ns();
    views_publish(&instance->views, view);
    METRIC_SET(instance->metrics, instance, visible_index, view->place.index);
    METRIC_SET(instance->metrics, instance, keys, view->digest.keys);
    front_metrics(&applier->front, instance->metrics);
    applier->republish = false;
}

// Posts every waiter that the visible index has reached.
static void wake_waiters(struct instance *instance, uint64_t visible)
{
    pthread_mutex_lock(&instance->lock);
    LIST_FOR_EACH(node, &instance->waiters) {
        struct index_waiter *waiter = CONTAINER_OF(node, struct index_waiter, node);
        if (waiter->index <= visible) {
            list_remove(&waiter->node);
            waiter->waiting = false;
            loop_post(waiter->loop, &waiter->task);
        }
    }
    pthread_mutex_unlock(&instance->lock);
}

static int write_state(struct applier *applier, struct store_batch *batch,
                       const struct state *state)
{
    uint8_t row[STATE_ROW_BYTES];
    state_encode(state, row);
    return store_write(applier->instance->store, batch, bytes_of(row, sizeof row));
}

int instance_write_ahead(struct instance *instance, struct store_batch *batch)
{
    // A block that needs this may take long. It is in the journal: the next start applies it.
    if (atomic_load(&instance->closing)) {
        return ERR_STOPPED;
    }
    int error = write_state(instance->apply, batch, &instance->apply->state);
    store_batch_clear(batch);
    return error;
}

int instance_write_fill(struct instance *instance, struct store_batch *batch)
{
    int error = write_state(instance->apply, batch, &instance->apply->state);
    store_batch_clear(batch);
    if (error == OK) {
        instance->apply->republish = true;
    }
    return error;
}

void instance_republish(struct instance *instance) { instance->apply->republish = true; }

const struct state *applier_state(const struct instance *instance)
{
    return &instance->apply->state;
}

struct front *applier_front(struct instance *instance) { return &instance->apply->front; }

bool instance_front_wanted(const struct instance *instance)
{
    return atomic_load(&instance->apply->front.wanted);
}

void instance_store_replaced(struct instance *instance)
{
    walk_void(instance->walk);
    front_reset(&instance->apply->front);
    instance_wake_walk(instance);
}

struct mailbox *instance_applier(struct instance *instance)
{
    return worker_mailbox(instance->applier);
}

// ---- applying a block --------------------------------------------------------------------------

static struct state state_after(const struct state *before, const struct block *block)
{
    struct state after = *before;
    struct block_walk walk;
    struct entry entry;
    block_walk_start(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        digest_entry(&after.digest, &entry);
    }
    after.place = (struct journal_place){.number = block->header.number,
                                         .index = block_end(&block->header),
                                         .chain = block->header.chain};
    after.epoch = block->header.epoch;
    memcpy(after.history, block->header.history, HISTORY_ID_BYTES);
    return after;
}

// The filter knows a key before the store does.
static void learn(struct applier *applier, const struct block *block)
{
    bool wanted = atomic_load(&applier->front.wanted);
    front_add(&applier->front, block);
    if (!wanted && atomic_load(&applier->front.wanted)) {
        instance_wake_walk(applier->instance); // it has outgrown its size
    }
}

static int apply_block(struct applier *applier, const struct block *block)
{
    struct instance *instance = applier->instance;
    CHECK(block->header.number == applier->state.place.number + 1);
    uint64_t start_ns = clock_mono_ns();
    struct state after = state_after(&applier->state, block);
    store_batch_clear(applier->batch);
    learn(applier, block);
    int error = OK;
    if (block->header.batches > 0) {
        error = instance->role->apply(instance, block, applier->batch);
    }
    if (error == OK) {
        error = write_state(applier, applier->batch, &after);
    }
    if (error != OK) {
        return error;
    }
    applier->state = after;
    walk_applied(instance->walk, block);
    applier->unflushed_bytes += block->raw.size;
    applier->unchecked_bytes += block->raw.size;
    METRIC_ADD(instance->metrics, instance, entries_applied, block->header.entries);
    METRIC_ADD(instance->metrics, instance, apply_ns, clock_mono_ns() - start_ns);
    return OK;
}

// Looks at what the store has persisted by itself, flushes when a restart would have to replay too
// much, and lets the writer drop what is no longer needed.
static void check_flushed(struct applier *applier)
{
    struct instance *instance = applier->instance;
    applier->unchecked_bytes = 0;
    if (applier->unflushed_bytes >= instance->options->replay_bytes &&
        store_flush(instance->store) != OK) {
        log_line(LOG_WARN, instance->name, "the store could not be flushed, the journal is kept");
    }
    struct store_value row;
    struct state persisted;
    if (store_state(instance->store, STORE_PERSISTED, &row) != OK) {
        return;
    }
    if (state_decode(&persisted, row.data) == OK &&
        persisted.place.number > applier->flushed_block) {
        applier->flushed_block = persisted.place.number;
        applier->unflushed_bytes = 0;
        writer_trim(instance, persisted.place.number);
    }
    store_value_release(&row);
}

// True when the block is applied; false when it must be tried again later. Anything else stops
// the instance.
static bool try_apply(struct applier *applier, const struct block *block)
{
    struct instance *instance = applier->instance;
    if (instance_state(instance) == INSTANCE_STOPPED) {
        return false;
    }
    int error = apply_block(applier, block);
    atomic_store(&instance->disk_full, error == ERR_DISK_FULL);
    if (error == ERR_DISK_FULL) {
        instance_wake_writer(instance); // a root answers who waits
        LOG_GATED(&applier->full_gate, LOG_ERROR, instance->name,
                  "the disk is full: applying waits at index %llu",
                  (unsigned long long)applier->state.place.index);
        if (!atomic_load(&instance->closing)) {
            return false;
        }
    }
    if (error != OK) {
        char reason[128];
        snprintf(reason, sizeof reason, "block %llu could not be applied",
                 (unsigned long long)block->header.number);
        instance_stop_updates(instance, error, reason);
        return false;
    }
    if (applier->unchecked_bytes >=
        u64_min(CHECK_FLUSHED_BYTES, instance->options->replay_bytes / CHECKS_PER_REPLAY)) {
        check_flushed(applier);
    }
    return true;
}

// ---- replay at start ---------------------------------------------------------------------------

static void serve(struct applier *applier)
{
    struct instance *instance = applier->instance;
    applier->replaying = false;
    journal_cursor_close(&applier->cursor);
    applier->cursor = (struct journal_cursor){0};
    publish(applier);
    int loading = INSTANCE_LOADING;
    atomic_compare_exchange_strong(&instance->state, &loading, INSTANCE_SERVING);
    log_line(LOG_INFO, instance->name, "serving at index %llu, %llu keys",
             (unsigned long long)applier->state.place.index,
             (unsigned long long)applier->state.digest.keys);
    wake_waiters(instance, applier->state.place.index);
    instance_wake_walk(instance);
    if (instance->role->published != NULL) {
        instance->role->published(instance);
    }
}

// A filter that was saved may be older than the store: it learns what the log holds between. After
// that the cursor stands where the replay begins. False: it goes on at the next turn.
static bool load_front(struct applier *applier, uint64_t until_ns)
{
    struct instance *instance = applier->instance;
    struct front *front = &applier->front;
    if (!applier->front_loaded) {
        applier->front_loaded = true;
        front_load(front, instance->directory, instance->journal, &applier->state.place);
        instance->front_saved = front->covered; // nobody else looks before the first view
    }
    while (front->live != NULL && front->covered < applier->state.place.number) {
        if (clock_mono_ns() >= until_ns) {
            return false;
        }
        struct block *block;
        int error = OK;
        if (applier->cursor.journal == NULL) {
            error = journal_cursor_open(instance->journal, &applier->cursor, front->covered + 1);
        }
        if (error == OK) {
            error = journal_cursor_next(&applier->cursor, &block);
        }
        if (error != OK) {
            journal_cursor_close(&applier->cursor);
            front_reset(front);
            return true;
        }
        front_add(front, block);
        block_release(block);
    }
    return true;
}

// Reads the next block of the replay. OK, ERR_NOT_FOUND when it is complete, or what is wrong.
static int replay_next(struct applier *applier, struct block **ret_block)
{
    struct instance *instance = applier->instance;
    uint64_t next = applier->state.place.number + 1;
    if (next > applier->replay_until) {
        return ERR_NOT_FOUND;
    }
    int error = OK;
    if (applier->cursor.journal == NULL) {
        error = journal_cursor_open(instance->journal, &applier->cursor, next);
    }
    if (error == OK) {
        error = journal_cursor_next(&applier->cursor, ret_block);
    }
    return error == ERR_NOT_FOUND ? ERR_DAMAGED : error;
}

static uint64_t replay_turn(struct applier *applier)
{
    struct instance *instance = applier->instance;
    uint64_t until_ns = clock_mono_ns() + REPLAY_SLICE_NS;
    if (!load_front(applier, until_ns)) {
        return 0;
    }
    while (clock_mono_ns() < until_ns) {
        if (instance_state(instance) == INSTANCE_STOPPED) {
            return WORKER_IDLE;
        }
        struct block *block;
        int error = replay_next(applier, &block);
        if (error == ERR_NOT_FOUND) {
            if (applier->damaged) {
                return WORKER_IDLE;
            }
            serve(applier);
            return 0;
        }
        if (error != OK) {
            instance_stop_updates(instance, error, "the journal could not be replayed");
            return WORKER_IDLE;
        }
        bool applied = try_apply(applier, block);
        block_release(block);
        if (!applied) {
            journal_cursor_close(&applier->cursor);
            applier->cursor = (struct journal_cursor){0};
            return RETRY_NS;
        }
    }
    return 0;
}

static void on_mended(struct task *task)
{
    struct mended *mended = CONTAINER_OF(task, struct mended, task);
    struct applier *applier = mended->instance->apply;
    if (applier->replaying) {
        applier->damaged = false;
        applier->replay_until = mended->until;
    }
    mem_free(mended);
}

void applier_mended(struct instance *instance, uint64_t until)
{
    struct mended *mended = mem_alloc(sizeof *mended);
    *mended = (struct mended){.task.run = on_mended, .instance = instance, .until = until};
    mailbox_post(worker_mailbox(instance->applier), &mended->task);
}

// ---- blocks from the writer --------------------------------------------------------------------

static void on_handed(struct task *task)
{
    struct handed *handed = CONTAINER_OF(task, struct handed, task);
    list_append(&handed->instance->apply->blocks, &handed->node);
}

void applier_hand(struct instance *instance, struct block *block)
{
    struct handed *handed = mem_alloc(sizeof *handed);
    *handed = (struct handed){.task.run = on_handed, .instance = instance, .block = block};
    list_init(&handed->node);
    atomic_fetch_add(&instance->apply_bytes, block->stored.size + block->raw.size);
    mailbox_post(worker_mailbox(instance->applier), &handed->task);
}

static void make_room(struct instance *instance, const struct block *block)
{
    uint64_t size = block->stored.size + block->raw.size;
    uint64_t before = atomic_fetch_sub(&instance->apply_bytes, size);
    CHECK(before >= size);
    uint64_t half = instance->options->apply_queue / 2;
    if (before >= half && before - size < half) {
        instance_wake_writer(instance);
        pthread_mutex_lock(&instance->lock);
        if (instance->room != NULL) {
            notice_raise(instance->room);
        }
        pthread_mutex_unlock(&instance->lock);
    }
}

static void finish(struct handed *handed)
{
    list_remove(&handed->node);
    make_room(handed->instance, handed->block);
    block_release(handed->block);
    mem_free(handed);
}

static void show(struct applier *applier)
{
    struct instance *instance = applier->instance;
    publish(applier);
    wake_waiters(instance, applier->state.place.index);
    if (instance->answer != NULL) {
        instance->answer(instance);
    }
    if (instance->role->published != NULL) {
        instance->role->published(instance);
    }
}

// What age alone makes due, also where nothing is written.
static void idle(struct applier *applier)
{
    struct instance *instance = applier->instance;
    uint64_t now_ns = clock_mono_ns();
    if (now_ns - applier->idle_ns < IDLE_EVERY_NS) {
        return;
    }
    applier->idle_ns = now_ns;
    check_flushed(applier);
    writer_trim(instance, applier->flushed_block);
    if (instance->role->published != NULL) {
        instance->role->published(instance);
    }
}

static void on_again(struct task *task)
{
    CONTAINER_OF(task, struct applier, again)->coming_back = false;
}

// Between two blocks it is the turn of whoever else has a task here: fills, and walks, which would
// never come to an end while much is written. A task of its own, so that a stop waits for the rest.
static void come_back(struct applier *applier)
{
    if (!applier->coming_back && !list_empty(&applier->blocks)) {
        applier->coming_back = true;
        applier->again.run = on_again;
        mailbox_post(instance_applier(applier->instance), &applier->again);
    }
}

static uint64_t applier_turn(void *argument)
{
    struct applier *applier = argument;
    if (applier->replaying) {
        return replay_turn(applier);
    }
    if (!list_empty(&applier->blocks)) {
        struct handed *handed = CONTAINER_OF(applier->blocks.next, struct handed, node);
        // The replay may have read it from the journal already.
        if (handed->block->header.number > applier->state.place.number) {
            if (!try_apply(applier, handed->block)) {
                return instance_state(applier->instance) == INSTANCE_STOPPED ? WORKER_IDLE
                                                                             : RETRY_NS;
            }
            show(applier);
        }
        finish(handed);
    }
    if (applier->republish) {
        publish(applier);
    }
    idle(applier);
    come_back(applier);
    return IDLE_EVERY_NS;
}

// ---- open and close ----------------------------------------------------------------------------

int applier_open(struct instance *instance, const struct state *state, uint64_t until)
{
    struct applier *applier = mem_zalloc(sizeof *applier);
    applier->instance = instance;
    applier->state = *state;
    applier->flushed_block = state->place.number;
    applier->replay_until = until;
    applier->replaying = true;
    // Cleared by on_mended alone: the instance's own mark goes before the new end is known here.
    applier->damaged = atomic_load(&instance->damaged_first) != 0;
    applier->batch = store_batch_new();
    front_open(&applier->front, instance->options);
    list_init(&applier->blocks);
    instance->apply = applier;
    int error = worker_start(&instance->applier, "qs-applier", applier_turn, applier);
    if (error != OK) {
        instance->apply = NULL;
        front_close(&applier->front);
        store_batch_free(applier->batch);
        mem_free(applier);
    }
    return error;
}

void applier_close(struct instance *instance)
{
    struct applier *applier = instance->apply;
    if (applier == NULL) {
        return;
    }
    worker_stop(instance->applier);
    while (!list_empty(&applier->blocks)) {
        finish(CONTAINER_OF(applier->blocks.next, struct handed, node));
    }
    journal_cursor_close(&applier->cursor);
    front_close(&applier->front);
    store_batch_free(applier->batch);
    instance->apply = NULL;
    mem_free(applier);
}
