// SPDX-License-Identifier: Apache-2.0
// From the journal into the store: what a start has to catch up with, and likewise a store that was
// taken into use in place of another. Nothing is shown before the end, or a limit, is reached.
// Applier's thread.
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/file.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/applier_private.h"
#include "common/core/build.h"
#include "common/core/walk.h"

#define REPLAY_SLICE_NS (20 * NS_PER_MS)

struct mended {
    struct task task;
    struct instance *instance;
    uint64_t until;
};

// ---- replay at start ---------------------------------------------------------------------------

static void close_cursor(struct applier *applier)
{
    journal_cursor_close(&applier->cursor);
    applier->cursor = (struct journal_cursor){0};
}

static char *behind_path(const struct instance *instance)
{
    return mem_format("%s/BEHIND", instance->directory);
}

bool replay_is_behind(const struct instance *instance)
{
    char *path = behind_path(instance);
    bool is = access(path, F_OK) == 0;
    mem_free(path);
    return is;
}

static int mark_behind(const struct instance *instance)
{
    char *path = behind_path(instance);
    int error = file_save(path, bytes_text("what was shown here is not in the store any more\n"));
    if (error != OK) {
        log_line(LOG_ERROR, instance->name, "cannot write %s: %s", path, error_text(error));
    }
    mem_free(path);
    return error;
}

static void unmark_behind(const struct instance *instance)
{
    char *path = behind_path(instance);
    if (unlink(path) != 0 && errno != ENOENT) {
        log_line(LOG_WARN, instance->name, "cannot remove %s: %s", path, strerror(errno));
    }
    mem_free(path);
}

void replay_serve(struct applier *applier)
{
    struct instance *instance = applier->instance;
    unmark_behind(instance);
    applier->replaying = false;
    close_cursor(applier);
    attempt_close(&applier->attempt);
    applier_publish(applier);
    int loading = INSTANCE_LOADING;
    atomic_compare_exchange_strong(&instance->state, &loading, INSTANCE_SERVING);
    log_line(LOG_INFO, instance->name, "serving at index %llu, %llu keys",
             (unsigned long long)applier->state.place.index,
             (unsigned long long)applier->state.digest.keys);
    applier_wake(instance);
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
        instance->front_saved_as = front->live;
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

// The replay stands at a limit: what there is so far is served, and fills are shown. At a root the
// blocks behind it are acknowledged writes that no view shows, so it takes no more.
static bool stops_before(struct applier *applier, const struct block *block)
{
    struct instance *instance = applier->instance;
    if (block->header.number == applier->hold_block) {
        atomic_store(&instance->apply_limit, applier->state.place.index);
        applier->hold_block = UINT64_MAX; // once: somebody may raise the limit
    }
    if (!applier_limited(applier, &block->header)) {
        return false;
    }
    if (instance_state(instance) == INSTANCE_LOADING) {
        replay_serve(applier);
        applier->replaying = true;
        if (instance->options->role == ROLE_ROOT) {
            instance_stop_updates(instance, ERR_STOPPED, "applying waits at a limit");
        }
    } else {
        applier_catch_up(applier);
    }
    close_cursor(applier);
    return true;
}

// The disk is full. Where applying waited for that before this start, what there is has been all
// that was shown, and is served. A root waits: what it would take stands behind blocks that its
// sequencer does not know.
static void waits_for_space(struct applier *applier)
{
    struct instance *instance = applier->instance;
    close_cursor(applier);
    if (atomic_load(&instance->disk_full) && instance_state(instance) == INSTANCE_LOADING &&
        instance->options->role != ROLE_ROOT &&
        pause_covers(&applier->pause, applier->state.place.number)) {
        replay_serve(applier);
        applier->replaying = true;
    }
}

uint64_t replay_turn(struct applier *applier)
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
            replay_serve(applier);
            return 0;
        }
        if (error != OK) {
            instance_stop_updates(instance, error, "the journal could not be replayed");
            return WORKER_IDLE;
        }
        if (stops_before(applier, block)) {
            block_release(block);
            return APPLIER_RETRY_NS;
        }
        attempt_block(&applier->attempt, block->header.number);
        bool applied = applier_try(applier, block);
        block_release(block);
        if (!applied) {
            waits_for_space(applier);
            return APPLIER_RETRY_NS;
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
    applier->synced_block = mended->until;
    mem_free(mended);
}

void applier_mended(struct instance *instance, uint64_t until)
{
    struct mended *mended = mem_alloc(sizeof *mended);
    *mended = (struct mended){.task.run = on_mended, .instance = instance, .until = until};
    mailbox_post(worker_mailbox(instance->applier), &mended->task);
}

// ---- changing to another store -----------------------------------------------------------------

// A replay at rest may stay there for ever: it waits for a repair, or stands at a limit.
static bool rests(const struct applier *applier)
{
    bool mending = applier->damaged && applier->state.place.number >= applier->replay_until;
    return mending || applier->limited;
}

int applier_freeze(struct instance *instance)
{
    struct applier *applier = instance->apply;
    // What it goes on to show would not be on disk when the journal goes; so it ends first.
    if (applier->replaying && !rests(applier)) {
        return ERR_BUSY;
    }
    if (applier->replaying) {
        applier_say_unserved(applier);
    }
    applier->frozen = true;
    applier->replaying = false;
    // Whoever asked may have done so before another store took its place.
    atomic_store(&instance->wants_build, true);
    int error = store_flush(instance->store);
    if (error == OK) {
        applier->flushed_block = applier->state.place.number;
    }
    // A store that a bad row keeps from being flushed is one of those that are built anew: it must
    // not be what stands in the way.
    bool rotten = error == ERR_CORRUPT;
    bool hidden = !applier->unserved && applier_would_go_back(applier) &&
                  applier->state.place.number > 0;
    if (rotten || (error == OK && hidden)) {
        return mark_behind(instance); // the next start sees no journal that would tell
    }
    if (error == ERR_IO) {
        // For ever, until it is opened again; and no block will come that tells.
        instance_stop_updates(instance, error, "the store could not be flushed");
    }
    return error;
}

static void on_rest(struct task *task)
{
    struct rest_order *order = CONTAINER_OF(task, struct rest_order, task);
    struct applier *applier = order->instance->apply;
    bool there = !applier->replaying && !applier->frozen &&
                 applier->state.place.number == order->number;
    order->error = there ? store_flush(order->instance->store) : ERR_BUSY;
    if (order->error == OK) {
        applier->flushed_block = order->number;
        applier->unflushed_bytes = 0;
    }
    mailbox_post(worker_mailbox(order->instance->writer), &order->then);
}

void applier_rest(struct rest_order *order)
{
    order->task.run = on_rest;
    mailbox_post(worker_mailbox(order->instance->applier), &order->task);
}

uint64_t applier_synced(const struct instance *instance) { return instance->apply->synced_block; }

const uint8_t *applier_history(const struct instance *instance)
{
    return instance->apply->state.history;
}

bool applier_is_fork(const struct instance *instance, const uint8_t history[HISTORY_ID_BYTES])
{
    const struct state *state = &instance->apply->state;
    return state->place.number > 0 && memcmp(state->history, history, HISTORY_ID_BYTES) != 0;
}

static void on_restarted(struct task *task)
{
    struct mended *restarted = CONTAINER_OF(task, struct mended, task);
    struct applier *applier = restarted->instance->apply;
    CHECK(applier->frozen && !applier->replaying);
    applier_pass_all(applier); // they are of the journal before
    applier->synced_block = restarted->until;
    applier->damaged = false;
    close_cursor(applier);
    build_journal_restarted(restarted->instance);
    mem_free(restarted);
}

void applier_restarted(struct instance *instance, uint64_t number)
{
    struct mended *restarted = mem_alloc(sizeof *restarted);
    *restarted =
        (struct mended){.task.run = on_restarted, .instance = instance, .until = number};
    mailbox_post(worker_mailbox(instance->applier), &restarted->task);
}

// A limit on applying, also that of starts that died, was about the history before.
static void forget_limit(struct applier *applier)
{
    struct instance *instance = applier->instance;
    atomic_store(&instance->apply_limit, UINT64_MAX);
    applier->hold_block = UINT64_MAX;
    attempt_forget(&applier->attempt, instance->directory, instance->name);
}

// Within a history it only rises: the role may have raised it beyond where the new store begins.
static void take_floor(struct instance *instance, uint64_t floor, bool fork)
{
    uint64_t known = atomic_load(&instance->history_floor);
    while ((fork || known < floor) &&
           !atomic_compare_exchange_weak(&instance->history_floor, &known, floor)) {
    }
}

void applier_replace(struct instance *instance, struct volume *volume, const struct state *state)
{
    struct applier *applier = instance->apply;
    struct volume *before = instance->volume;
    pthread_mutex_lock(&instance->lock);
    instance->volume = volume;
    atomic_store(&instance->store, volume->store);
    pthread_mutex_unlock(&instance->lock);
    store_compact_cancel(before->store);
    list_append(&instance->retired, &before->node);
    bool fork = applier_is_fork(instance, state->history);
    if (fork) {
        forget_limit(applier);
    }
    applier->state = *state;
    applier->flushed_block = state->place.number;
    applier->unflushed_bytes = 0;
    close_cursor(applier);
    applier->frozen = false;
    applier->replaying = true;
    applier->limited = false; // until it is asked for this one
    METRIC_SET(instance->metrics, instance, apply_limited, false);
    applier->damaged = atomic_load(&instance->damaged_last) > state->place.number;
    applier->replay_until = applier->synced_block;
    take_floor(instance, state->history_floor, fork);
    applier->front_loaded = true; // what is on disk is of the store before
    instance_store_replaced(instance);
    if (instance->role->replaced != NULL) {
        instance->role->replaced(instance, state->place.index);
    }
    atomic_store(&instance->suspect, false);
    atomic_store(&instance->wants_build, false);
}
