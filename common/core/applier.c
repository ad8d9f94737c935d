// SPDX-License-Identifier: Apache-2.0
#include "common/core/applier_private.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/build.h"
#include "common/core/display.h"
#include "common/core/space.h"
#include "common/core/walk.h"
#include "common/core/writer.h"

#define CHECK_FLUSHED_BYTES (16 * MIB)
#define CHECKS_PER_REPLAY 4
#define IDLE_EVERY_NS (30 * NS_PER_S)
#define SPACE_LOOK_NS (2 * NS_PER_S) // somebody else may fill the disk
#define SPACE_WAIT_NS (NS_PER_S / 4)  // ... and free it again

struct handed {
    struct list node;
    struct task task;
    struct instance *instance;
    struct block *block;
};

void applier_publish(struct applier *applier)
{
    struct instance *instance = applier->instance;
    if (pause_end(&applier->pause, instance, applier->state.place.number) != OK) {
        instance_stop_updates(instance, ERR_IO, "what it shows cannot be made certain");
        return;
    }
    struct view *view = mem_zalloc(sizeof *view);
    atomic_init(&view->references, 1);
    view->volume = volume_hold(instance->volume);
    view->store = instance->store;
    view->snapshot = store_snapshot(instance->store);
    view->place = applier->state.place;
    memcpy(view->history, applier->state.history, HISTORY_ID_BYTES);
    view->epoch = applier->state.epoch;
    view->digest = applier->state.digest;
    view->front = front_for_view(&applier->front, &view->place);
    view->history_floor = atomic_load(&instance->history_floor);
    view->window_floor = atomic_load(&instance->window_floor);
    view->published_ns = clock_mono_ns();
    display_prepare(instance->display, view);
    struct view *shown = view_hold(view);
    views_publish(&instance->views, view);
    display_show(instance->display, shown);
    view_release(shown);
    METRIC_SET(instance->metrics, instance, visible_index, view->place.index);
    METRIC_SET(instance->metrics, instance, keys, view->digest.keys);
    front_metrics(&applier->front, instance->metrics);
    applier->republish = false;
}

void applier_wake(struct instance *instance)
{
    struct view *view = instance_pin(instance);
    pthread_mutex_lock(&instance->lock);
    LIST_FOR_EACH(node, &instance->waiters) {
        struct index_waiter *waiter = CONTAINER_OF(node, struct index_waiter, node);
        if (instance_waited(waiter, view)) {
            list_remove(&waiter->node);
            waiter->waiting = false;
            loop_post(waiter->loop, &waiter->task);
        }
    }
    pthread_mutex_unlock(&instance->lock);
    view_release(view);
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

// The filter knows a key before the store does, and who shares memory knows what changes.
static void learn(struct applier *applier, const struct block *block)
{
    bool wanted = atomic_load(&applier->front.wanted);
    front_add(&applier->front, block);
    display_learn(applier->instance->display, block);
    if (!wanted && atomic_load(&applier->front.wanted)) {
        instance_wake_walk(applier->instance); // it has outgrown its size
    }
}

// The log leads on from where the store stands: not only by numbers, which another history has too.
static int check_follows(const struct state *state, const struct block *block)
{
    struct block_header stands;
    block_genesis(&stands, block->header.history);
    if (state->place.number > 0) {
        // A fork goes on from a store that stands exactly where it says; the chain proves it.
        if (!birth_continues(block, state->history)) {
            memcpy(stands.history, state->history, HISTORY_ID_BYTES);
        }
        stands.epoch = state->epoch;
        stands.number = state->place.number;
        stands.first_index = state->place.index + 1; // block_end of a header without batches
        stands.chain = state->place.chain;
    }
    return block_follows(&stands, block) == OK ? OK : ERR_HISTORY;
}

static int apply_block(struct applier *applier, const struct block *block)
{
    struct instance *instance = applier->instance;
    CHECK(block->header.number == applier->state.place.number + 1);
    int follows = check_follows(&applier->state, block);
    if (follows != OK) {
        return follows;
    }
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
    space_grow(instance, block->raw.size + block->stored.size);
    METRIC_ADD(instance->metrics, instance, entries_applied, block->header.entries);
    METRIC_ADD(instance->metrics, instance, apply_ns, clock_mono_ns() - start_ns);
    return OK;
}

// What is not on disk in the store in use, or will be needed by the one under construction, stays.
// A store that takes no more blocks needs none once all that it has is on disk; one that did not
// fit the log has been frozen without a flush.
static void trim(struct applier *applier)
{
    birth_find(applier->instance); // while the journal has it
    uint64_t needed;
    bool building = build_needs(applier->instance, &needed);
    bool rests = applier->frozen && applier->flushed_block >= applier->state.place.number;
    if (!rests) {
        needed = building ? u64_min(needed, applier->flushed_block) : applier->flushed_block;
    }
    if (!rests || building) {
        writer_trim(applier->instance, needed);
    }
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
        trim(applier);
    }
    store_value_release(&row);
}

// May this block be applied? What may not waits in the queue, which is bounded, or in the journal.
bool applier_limited(struct applier *applier, const struct block_header *header)
{
    struct instance *instance = applier->instance;
    uint64_t limit = atomic_load(&instance->apply_limit);
    bool limited = block_end(header) > limit;
    if (limited != applier->limited) {
        applier->limited = limited;
        METRIC_SET(instance->metrics, instance, apply_limited, limited);
        log_line(LOG_WARN, instance->name, limited ? "applying waits at index %llu"
                                                   : "applying goes on behind index %llu",
                 (unsigned long long)applier->state.place.index);
    }
    return limited;
}

void instance_limit_apply(struct instance *instance, uint64_t index)
{
    atomic_store(&instance->apply_limit, index);
    notice_raise(&instance->apply->wake);
}

void applier_say_unserved(struct applier *applier)
{
    if (instance_state(applier->instance) == INSTANCE_LOADING && !applier->told_unserved) {
        applier->told_unserved = true;
        log_line(LOG_ERROR, applier->instance->name,
                 "nothing is served until another store is built: the one here ends at block %llu, "
                 "and more may have been shown",
                 (unsigned long long)applier->state.place.number);
    }
}

// NULL: it is not that the store does not fit the log.
static const char *unfit_reason(int error)
{
    switch (error) {
    case ERR_CORRUPT:
        return "a record that is to be replaced failed its check";
    case ERR_DIVERGED:
        return "an update replaces another version than is there";
    case ERR_HISTORY:
        return "the log does not lead on from it";
    default:
        return NULL;
    }
}

// True when the block is applied; false when it must be tried again later. Anything else stops
// the instance.
bool applier_try(struct applier *applier, const struct block *block)
{
    struct instance *instance = applier->instance;
    if (instance_state(instance) == INSTANCE_STOPPED) {
        return false;
    }
    space_poll(instance, false);
    // The replay is not held up: it is bounded, and without it nothing could be read.
    bool paused = !applier->replaying && atomic_load(&instance->space_level) == SPACE_RESERVE;
    bool waits = paused || (!applier->replaying && !store_has_room(instance->store));
    int error = waits ? ERR_DISK_FULL : apply_block(applier, block);
    atomic_store(&instance->disk_full, error == ERR_DISK_FULL);
    if (error == ERR_DISK_FULL) {
        instance_wake_writer(instance); // a root answers who waits
        LOG_GATED(&applier->full_gate, LOG_ERROR, instance->name,
                  "%s: applying waits at index %llu",
                  paused ? "less disk is free than the reserve" : "the disk is full",
                  (unsigned long long)applier->state.place.index);
        if (!applier->replaying) {
            pause_begin(&applier->pause, instance, applier->state.place.number);
        }
        if (!atomic_load(&instance->closing)) {
            return false;
        }
    }
    const char *unfit = unfit_reason(error);
    if (unfit != NULL && instance->options->role != ROLE_ROOT) {
        // The log is sound, the store is not: it serves what it shows, and blocks pass it by.
        instance_store_failed(instance, unfit);
        applier_say_unserved(applier);
        applier->frozen = true;
        applier->replaying = false;
        return false;
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

// ---- blocks from the writer --------------------------------------------------------------------

static void on_handed(struct task *task)
{
    struct handed *handed = CONTAINER_OF(task, struct handed, task);
    struct applier *applier = handed->instance->apply;
    applier->synced_block = handed->block->header.number;
    list_append(&applier->blocks, &handed->node);
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

void applier_pass_all(struct applier *applier)
{
    while (!list_empty(&applier->blocks)) {
        finish(CONTAINER_OF(applier->blocks.next, struct handed, node));
    }
}

static void show(struct applier *applier)
{
    struct instance *instance = applier->instance;
    applier_publish(applier);
    applier_wake(instance);
    if (instance->answer != NULL) {
        instance->answer(instance);
    }
    if (instance->role->published != NULL) {
        instance->role->published(instance);
    }
}

// How long a block took from its arrival until reads see it, smoothed.
static void measure(struct instance *instance, const struct block *block)
{
    uint64_t lag_ns = clock_mono_ns() - block->received_ns;
    uint64_t before_ns = METRIC_GET(instance->metrics, instance, lag_apply_ns);
    METRIC_SET(instance->metrics, instance, lag_apply_ns,
               before_ns == 0 ? lag_ns : (7 * before_ns + lag_ns) / 8);
}

bool applier_would_go_back(const struct applier *applier)
{
    struct view *view = instance_pin(applier->instance);
    bool back = view == NULL || applier->state.place.index < view->place.index;
    view_release(view);
    return back;
}

static void show_fills(struct applier *applier)
{
    if (applier->republish && !applier_would_go_back(applier)) {
        applier_publish(applier);
    }
}

void applier_catch_up(struct applier *applier)
{
    struct view *view = instance_pin(applier->instance);
    bool moved = view != NULL && (applier->state.place.number != view->place.number ||
                                  applier->instance->store != view->store);
    view_release(view);
    if (moved && !applier_would_go_back(applier)) {
        show(applier);
    } else {
        show_fills(applier);
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
    trim(applier);
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

// The next block as it comes from the writer. False: it has to wait.
static bool apply_next(struct applier *applier)
{
    if (!list_empty(&applier->blocks)) {
        struct handed *handed = CONTAINER_OF(applier->blocks.next, struct handed, node);
        // A frozen store lets it pass: it is in the journal for the one under construction. But
        // that would grow without a bound if nothing were waited for.
        if (applier->frozen && atomic_load(&applier->instance->space_level) == SPACE_RESERVE) {
            return false;
        }
        // The replay may have read it from the journal already.
        if (!applier->frozen &&
            handed->block->header.number > applier->state.place.number) {
            if (applier_limited(applier, &handed->block->header) ||
                !applier_try(applier, handed->block)) {
                return false;
            }
            show(applier);
            measure(applier->instance, handed->block);
        }
        finish(handed);
    }
    return true;
}

static uint64_t apply_turn(struct applier *applier)
{
    space_poll(applier->instance, false);
    // A root that refuses writes takes them again once there is room, though no block comes.
    bool full = atomic_load(&applier->instance->space_level) == SPACE_RESERVE;
    bool waits = !apply_next(applier);
    show_fills(applier);
    if (waits) {
        return instance_state(applier->instance) == INSTANCE_STOPPED ? WORKER_IDLE
                                                                     : APPLIER_RETRY_NS;
    }
    uint64_t pause_ns = display_turn(applier->instance->display);
    idle(applier);
    come_back(applier);
    return u64_min(pause_ns, full ? SPACE_WAIT_NS : SPACE_LOOK_NS);
}

static uint64_t applier_turn(void *argument)
{
    struct applier *applier = argument;
    if (applier->unserved) {
        applier->unserved = false;
        replay_serve(applier);
    }
    bool swept = volumes_sweep(&applier->instance->retired, false);
    uint64_t pause_ns = swept ? WORKER_IDLE : APPLIER_RETRY_NS;
    pause_ns = u64_min(pause_ns, applier->replaying ? replay_turn(applier) : apply_turn(applier));
    return u64_min(pause_ns, build_turn(applier->instance));
}

// ---- open and close ----------------------------------------------------------------------------

static void on_wake(struct notice *notice) { (void)notice; } // the turn after it looks

int applier_open(struct instance *instance, const struct state *state, uint64_t until, bool fits)
{
    struct applier *applier = mem_zalloc(sizeof *applier);
    applier->instance = instance;
    applier->state = *state;
    applier->flushed_block = state->place.number;
    applier->replay_until = until;
    applier->synced_block = until;
    applier->replaying = fits;
    applier->frozen = !fits;
    // An empty one would take back much.
    applier->unserved = !fits && state->place.number > 0 && !replay_is_behind(instance);
    // Cleared by on_mended alone: the instance's own mark goes before the new end is known here.
    applier->damaged = atomic_load(&instance->damaged_first) != 0;
    applier->batch = store_batch_new();
    applier->hold_block = UINT64_MAX;
    if (fits && until > state->place.number) {
        applier->hold_block = attempt_open(&applier->attempt, instance->directory, instance->name,
                                           state->place.number);
    }
    pause_open(&applier->pause, instance);
    front_open(&applier->front, instance->options);
    list_init(&applier->blocks);
    if (!fits && !applier->unserved) {
        applier_say_unserved(applier);
    }
    instance->apply = applier;
    int error = worker_start(&instance->applier, "qs-applier", applier_turn, applier);
    if (error != OK) {
        instance->apply = NULL;
        attempt_close(&applier->attempt);
        front_close(&applier->front);
        store_batch_free(applier->batch);
        mem_free(applier);
    } else {
        notice_init(&applier->wake, worker_mailbox(instance->applier), on_wake);
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
    applier_pass_all(applier);
    attempt_close(&applier->attempt);
    journal_cursor_close(&applier->cursor);
    front_close(&applier->front);
    store_batch_free(applier->batch);
    instance->apply = NULL;
    mem_free(applier);
}
