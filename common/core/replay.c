// SPDX-License-Identifier: Apache-2.0
#include "common/core/replay.h"

#include "common/base/clock.h"

#define SLICE_NS (20 * NS_PER_MS)

void replay_serve(struct applier *applier)
{
    struct instance *instance = applier->instance;
    applier->replaying = false;
    journal_cursor_close(&applier->cursor);
    attempt_close(&applier->attempt);
    applier_publish(applier);
    int loading = INSTANCE_LOADING;
    atomic_compare_exchange_strong(&instance->state, &loading, INSTANCE_SERVING);
    log_line(LOG_INFO, instance->name, "serving at index %llu, %llu keys",
             (unsigned long long)applier->state.place.index,
             (unsigned long long)applier->state.digest.keys);
    applier_wake_waiters(instance, applier->state.place.index);
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

// The replay stands at a limit: what there is so far is served. At a root the blocks behind it are
// acknowledged writes that no view shows, so it takes no more.
static bool stops_before(struct applier *applier, const struct block *block)
{
    struct instance *instance = applier->instance;
    if (block->header.number == applier->hold_block) {
        atomic_store(&instance->apply_limit, applier->state.place.index);
        applier->hold_block = UINT64_MAX; // once: somebody may raise the limit
    }
    if (!applier_is_limited(applier, &block->header)) {
        return false;
    }
    if (instance_state(instance) == INSTANCE_LOADING) {
        replay_serve(applier);
        applier->replaying = true;
        if (instance->options->role == ROLE_ROOT) {
            instance_stop_updates(instance, ERR_STOPPED, "applying waits at a limit");
        }
    }
    journal_cursor_close(&applier->cursor);
    return true;
}

uint64_t replay_turn(struct applier *applier)
{
    struct instance *instance = applier->instance;
    uint64_t until_ns = clock_mono_ns() + SLICE_NS;
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
            journal_cursor_close(&applier->cursor);
            return APPLIER_RETRY_NS;
        }
    }
    return 0;
}
