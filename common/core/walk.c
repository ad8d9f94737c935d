// SPDX-License-Identifier: Apache-2.0
#include "common/core/walk.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/core/applier.h"
#include "common/core/proof.h"

// How often a slice is read again because the journal could not say what happened since its view.
#define RETRIES_MAX 100

struct slice {
    int error;
    struct journal_place view; // that it was read at
    struct digest digest;
    uint64_t keys, bytes;
    bool whole; // no key comes after it
    size_t last_size;
    uint8_t last[KEY_BYTES_MAX]; // its last key
};

struct walk {
    struct instance *instance;
    struct task task;       // a step on its way to the applier
    struct notice *stepped;
    struct slice slice;
    int given_up; // walk_end's error
    // Written by the applier alone.
    bool going;
    bool voided;                  // the store is another now: ends at the next step
    struct digest sum;            // of the keys up to the cursor, after the block `applied`
    uint64_t applied;             // its number
    size_t cursor_size;           // 0: before the first key
    uint8_t cursor[KEY_BYTES_MAX];
    struct journal_cursor journal;
    unsigned retries;
    uint64_t begun_ns;
    struct front_generation *built; // may be NULL
    struct walk_result result;
};

static struct bytes cursor_of(const struct walk *walk)
{
    return bytes_of(walk->cursor, walk->cursor_size);
}

static void post(struct walk *walk, void (*run)(struct task *task))
{
    walk->task.run = run;
    mailbox_post(instance_applier(walk->instance), &walk->task);
}

// ---- the end, on the applier -------------------------------------------------------------------

static void answer(struct walk *walk, const struct walk_result *result)
{
    struct instance *instance = walk->instance;
    pthread_mutex_lock(&instance->lock);
    struct list *node;
    while ((node = list_take(&instance->walk_waiters)) != NULL) {
        struct walk_waiter *waiter = CONTAINER_OF(node, struct walk_waiter, node);
        waiter->error = result->error;
        waiter->index = result->index;
        waiter->digest = result->digest;
        waiter->waiting = false;
        loop_post(waiter->loop, &waiter->task);
    }
    pthread_mutex_unlock(&instance->lock);
}

static void log_diverged(const struct walk *walk, const struct state *state)
{
    char found[HASH128_TEXT_BYTES], wanted[HASH128_TEXT_BYTES];
    hash128_text(walk->sum.sum, found);
    hash128_text(state->digest.sum, wanted);
    log_line(LOG_ERROR, walk->instance->name,
             "the store is not what the log says at index %llu: it holds %llu keys with digest %s, "
             "not %llu keys with digest %s",
             (unsigned long long)state->place.index, (unsigned long long)walk->sum.keys, found,
             (unsigned long long)state->digest.keys, wanted);
}

static void log_bad_row(const struct walk *walk, int error)
{
    struct buf key = {0};
    buf_append_printable(&key, bytes_of(walk->slice.last, walk->slice.last_size));
    log_line(LOG_ERROR, walk->instance->name,
             error == ERR_CORRUPT ? "the row of key \"%.*s\" in the store failed its check"
                                  : "the row after key \"%.*s\" in the store cannot be read",
             (int)key.size, (const char *)key.data);
    buf_free(&key);
}

// What the verdict means for the instance.
static void judge(struct walk *walk, const struct state *state)
{
    struct instance *instance = walk->instance;
    int error = walk->result.error;
    if (error == ERR_DIVERGED) {
        METRIC_ADD(instance->metrics, instance, walk_mismatches, 1);
        log_diverged(walk, state);
    } else if (error == ERR_CORRUPT || error == ERR_IO) {
        METRIC_ADD(instance->metrics, instance, walk_failures, 1);
        log_bad_row(walk, error);
    } else if (error != OK) {
        return;
    }
    uint64_t took_ns = clock_mono_ns() - walk->begun_ns;
    METRIC_ADD(instance->metrics, instance, walks, 1);
    METRIC_SET(instance->metrics, instance, walk_ms, took_ns / NS_PER_MS);
    METRIC_SET(instance->metrics, instance, walked_index, state->place.index);
    atomic_store(&instance->soundness, error == OK ? STORE_PROVEN : STORE_UNSOUND);
    if (error == OK) {
        proof_give(instance);
    } else {
        instance_store_failed(instance, "a walk found it so");
    }
}

static void end(struct walk *walk, int error)
{
    struct instance *instance = walk->instance;
    const struct state *state = applier_state(instance);
    walk->going = false;
    walk->result = (struct walk_result){
        .error = error, .index = state->place.index, .digest = walk->sum};
    journal_cursor_close(&walk->journal);
    judge(walk, state);
    if (error == OK) {
        front_install(applier_front(instance), &state->place, state->digest.keys);
        instance_republish(instance); // or nobody asks it before the next block
    }
    front_abandon(applier_front(instance));
    front_release(walk->built);
    walk->built = NULL;
    // A void walk is nobody's answer: who waits goes on waiting, for the next one.
    if (!walk->voided) {
        answer(walk, &walk->result);
    }
}

// ---- steps on the applier ----------------------------------------------------------------------

static void on_begin(struct task *task)
{
    struct walk *walk = CONTAINER_OF(task, struct walk, task);
    CHECK(!walk->going);
    walk->going = true;
    // While the instance changes to another store, the newest view is still of the one before.
    struct view *view = instance_pin(walk->instance);
    walk->voided = view == NULL || view->store != atomic_load(&walk->instance->store);
    view_release(view);
    walk->sum = (struct digest){0};
    walk->applied = applier_state(walk->instance)->place.number;
    walk->cursor_size = 0;
    walk->retries = 0;
    walk->begun_ns = clock_mono_ns();
    front_begin(applier_front(walk->instance), walk->built);
    notice_raise(walk->stepped);
}

// Is the key in the slice: behind the cursor, and not behind the slice's last?
static bool in_slice(const struct walk *walk, struct bytes key)
{
    const struct slice *slice = &walk->slice;
    return bytes_compare(key, cursor_of(walk)) > 0 &&
           (slice->whole || bytes_compare(key, bytes_of(slice->last, slice->last_size)) <= 0);
}

// The generation that is built learns the keys, too: the block may have been applied before the
// walk began, and not been shown by the view that the slice was read at, as in a replay.
static void add_block(struct walk *walk, const struct block *block)
{
    struct block_walk entries;
    struct entry entry;
    block_walk_start(&entries, block);
    while (block_walk_next(&entries, &entry)) {
        if (in_slice(walk, entry.key)) {
            digest_entry(&walk->slice.digest, &entry);
            if (entry.op == ENTRY_PUT && walk->built != NULL) {
                front_learn(walk->built, entry.key);
            }
        }
    }
}

// Brings the slice from its view to the applied index. What fails here says nothing about the
// store.
static int catch_up(struct walk *walk)
{
    const struct journal_place *applied = &applier_state(walk->instance)->place;
    uint64_t from = walk->slice.view.number + 1;
    int error = OK;
    if (applied->number < from) {
        return OK; // nothing, and the journal may end before: another store is being built
    }
    // It was left where the slice before was taken. A view may be older than that: a replay applies
    // blocks that it does not show one by one.
    if (walk->journal.journal != NULL && walk->journal.number > from) {
        journal_cursor_close(&walk->journal);
    }
    if (walk->journal.journal == NULL) {
        error = journal_cursor_open(walk->instance->journal, &walk->journal, from);
    }
    while (error == OK && walk->journal.number <= applied->number) {
        struct block *block;
        error = journal_cursor_next(&walk->journal, &block);
        if (error == OK) {
            if (block->header.number >= from) {
                add_block(walk, block);
            }
            block_release(block);
        }
    }
    if (error != OK) {
        journal_cursor_close(&walk->journal);
    }
    return error;
}

// Whatever came into the store past the walk makes it void, as if it had been told.
static void note_gap(struct walk *walk, uint64_t applied)
{
    walk->voided = walk->voided || walk->applied != applied;
}

static void take(struct walk *walk)
{
    const struct slice *slice = &walk->slice;
    note_gap(walk, applier_state(walk->instance)->place.number);
    if (walk->voided || slice->error != OK) {
        end(walk, walk->voided ? ERR_STOPPED : slice->error);
        return;
    }
    int error = catch_up(walk);
    if (error != OK) {
        if (++walk->retries > RETRIES_MAX) {
            end(walk, error);
        }
        return; // the same slice is read again, at a newer view
    }
    digest_join(&walk->sum, &slice->digest);
    if (slice->whole) {
        bool same = digest_equal(&walk->sum, &applier_state(walk->instance)->digest);
        end(walk, same ? OK : ERR_DIVERGED);
        return;
    }
    memcpy(walk->cursor, slice->last, slice->last_size);
    walk->cursor_size = slice->last_size;
}

static void on_slice(struct task *task)
{
    struct walk *walk = CONTAINER_OF(task, struct walk, task);
    CHECK(walk->going);
    take(walk);
    notice_raise(walk->stepped);
}

static void on_end(struct task *task)
{
    struct walk *walk = CONTAINER_OF(task, struct walk, task);
    if (walk->going) {
        end(walk, walk->given_up);
    }
    answer(walk, &(struct walk_result){.error = walk->given_up});
    notice_raise(walk->stepped);
}

void walk_applied(struct walk *walk, const struct block *block)
{
    if (!walk->going) {
        return;
    }
    note_gap(walk, block->header.number - 1);
    walk->applied = block->header.number;
    if (walk->voided || walk->cursor_size == 0) {
        return;
    }
    struct block_walk entries;
    struct entry entry;
    block_walk_start(&entries, block);
    while (block_walk_next(&entries, &entry)) {
        if (bytes_compare(entry.key, cursor_of(walk)) <= 0) {
            digest_entry(&walk->sum, &entry);
        }
    }
}

void walk_void(struct walk *walk)
{
    walk->voided = true;
    atomic_store(&walk->instance->soundness, STORE_UNPROVEN);
}

// ---- the walker's ------------------------------------------------------------------------------

struct walk *walk_new(struct instance *instance)
{
    struct walk *walk = mem_zalloc(sizeof *walk);
    walk->instance = instance;
    return walk;
}

void walk_free(struct walk *walk)
{
    CHECK(!walk->going && list_empty(&walk->instance->walk_waiters));
    mem_free(walk);
}

void walk_attach(struct walk *walk, struct notice *stepped) { walk->stepped = stepped; }

void walk_begin(struct walk *walk)
{
    CHECK(!walk->going && walk->built == NULL);
    struct view *view = instance_pin(walk->instance);
    walk->built = front_prepare(walk->instance->options, view == NULL ? 0 : view->digest.keys);
    view_release(view);
    post(walk, on_begin);
}

void walk_end(struct walk *walk, int error)
{
    walk->given_up = error;
    post(walk, on_end);
}

bool walk_going(const struct walk *walk) { return walk->going; }

int walk_error(const struct walk *walk) { return walk->result.error; }

bool walk_asked(struct walk *walk)
{
    struct instance *instance = walk->instance;
    pthread_mutex_lock(&instance->lock);
    bool asked = !list_empty(&instance->walk_waiters);
    pthread_mutex_unlock(&instance->lock);
    return asked;
}

static struct store_iterator *open_behind(const struct walk *walk, const struct view *view)
{
    uint8_t start[KEY_BYTES_MAX + 1] = {0};
    memcpy(start, walk->cursor, walk->cursor_size);
    start[walk->cursor_size] = 0; // the least key behind the cursor
    size_t size = walk->cursor_size > 0 ? walk->cursor_size + 1 : 0;
    struct store_iterator *iterator = store_iterator_open_once(
        view->store, view->snapshot, 0, bytes_of(start, size), bytes_of(NULL, 0));
    store_iterator_seek(iterator, bytes_of(start, size));
    return iterator;
}

static void visit(struct walk *walk, const struct store_iterator *iterator)
{
    struct slice *slice = &walk->slice;
    struct bytes key = store_iterator_key(iterator);
    struct bytes row = store_iterator_value(iterator);
    struct record record;
    memcpy(slice->last, key.data, key.size);
    slice->last_size = key.size;
    slice->error = walk->instance->role->decode(row, &record);
    if (slice->error != OK) {
        return;
    }
    digest_add(&slice->digest, record.version, key);
    if (walk->built != NULL) {
        front_learn(walk->built, key);
    }
    slice->keys++;
    slice->bytes += key.size + row.size;
}

uint64_t walk_read(struct walk *walk, uint64_t keys, uint64_t bytes)
{
    struct slice *slice = &walk->slice;
    struct view *view = instance_pin(walk->instance);
    *slice = (struct slice){.view = view->place};
    struct store_iterator *iterator = open_behind(walk, view);
    while (slice->error == OK && store_iterator_valid(iterator) && slice->keys < u64_max(keys, 1) &&
           slice->bytes < u64_max(bytes, 1)) {
        visit(walk, iterator);
        store_iterator_next(iterator);
    }
    int error = store_iterator_error(iterator);
    slice->error = slice->error != OK ? slice->error : error;
    slice->whole = slice->error == OK && !store_iterator_valid(iterator);
    store_iterator_close(iterator);
    view_release(view);
    METRIC_ADD(walk->instance->metrics, instance, walk_keys, slice->keys);
    METRIC_ADD(walk->instance->metrics, instance, walk_bytes, slice->bytes);
    return slice->bytes;
}

void walk_hand(struct walk *walk) { post(walk, on_slice); }
