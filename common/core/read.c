// SPDX-License-Identifier: Apache-2.0
// A read goes: look up every key in memory -> the rest as one job on a reader thread -> check the
// limit from stored lengths -> fetch what is missing by exact versions -> done. A reply_limit of 0
// is none.
#include "common/core/read.h"

#include "common/base/log.h"
#include "common/core/display.h"

// More keys than this in one read are not looked up on the loop, which others wait for.
#define INLINE_KEYS 512

static void lookup_row(const struct instance *instance, const struct view *view,
                       struct lookup *lookup, enum store_tier tier)
{
    int code = store_get(view->store, view->snapshot, 0, lookup->key, tier, &lookup->pin);
    lookup->unfiltered = code == ERR_NOT_FOUND && view->front != NULL;
    if (code == OK) {
        code = instance->role->decode(lookup->pin.data, &lookup->record);
        if (code != OK) {
            store_value_release(&lookup->pin);
        }
    }
    lookup->status = code;
}

// What the key is at the view: by the filter, the table of hot keys, the store. A value of the
// table is in `room`.
static void lookup_view(const struct instance *instance, const struct view *view,
                        struct hash128 hash, struct lookup *lookup, struct look_answer *room,
                        enum store_tier tier)
{
    if (front_absent_hash(view->front, hash)) {
        lookup->filtered = true;
        lookup->status = ERR_NOT_FOUND;
        return;
    }
    int code = display_look(view, hash, lookup->key, &lookup->record, room);
    lookup->hot = code != ERR_INCOMPLETE;
    if (lookup->hot) {
        lookup->status = code;
    } else {
        lookup_row(instance, view, lookup, tier);
    }
}

static void lookup_store(struct read *read, struct lookup *lookup, enum store_tier tier)
{
    struct look_answer room;
    lookup_view(read->instance, read->view, hash128(lookup->key, 0), lookup, &room, tier);
    if (lookup->hot && lookup->status == OK) {
        struct bytes value = lookup->record.value;
        lookup->fetched = read->values ? mem_copy(value.data, value.size) : NULL;
        lookup->record.value = bytes_of(lookup->fetched, read->values ? value.size : 0);
    }
}

static void lookup_fail(struct lookup *lookup, int error)
{
    store_value_release(&lookup->pin);
    mem_free(lookup->fetched);
    lookup->fetched = NULL;
    lookup->record = (struct record){0};
    lookup->status = error;
}

static void note_corrupt(const struct read *read)
{
    static struct log_gate gate;
    struct instance *instance = read->instance;
    METRIC_ADD(instance->metrics, instance, reads_corrupt, 1);
    LOG_GATED(&gate, LOG_ERROR, instance->name, "a record failed its check and is not served");
    instance_doubt_store(instance, read->view);
}

static void tally_take(struct read_tally *tally, const struct lookup *lookup)
{
    tally->keys++;
    tally->absent += lookup->status == ERR_NOT_FOUND ? 1 : 0;
    tally->filtered += lookup->filtered ? 1 : 0;
    tally->unfiltered += lookup->unfiltered ? 1 : 0;
    tally->hot += lookup->hot ? 1 : 0;
}

// Most of it is nothing, and an addition to what other threads read is not for nothing.
void read_tally_add(const struct read_tally *tally, struct instance *instance)
{
    METRIC_ADD(instance->metrics, instance, reads, tally->keys);
    if (tally->absent > 0) {
        METRIC_ADD(instance->metrics, instance, reads_absent, tally->absent);
        METRIC_ADD(instance->metrics, instance, reads_filtered, tally->filtered);
    }
    if (tally->unfiltered > 0) {
        METRIC_ADD(instance->metrics, instance, reads_unfiltered, tally->unfiltered);
    }
    if (tally->hot > 0) {
        METRIC_ADD(instance->metrics, instance, reads_hot, tally->hot);
    }
}

// Counts what the lookups came to. Returns the sum of the lengths of all values found.
static uint64_t read_count(struct read *read)
{
    struct read_tally tally = {0};
    uint64_t bytes = 0;
    for (unsigned i = 0; i < read->count; i++) {
        const struct lookup *lookup = &read->lookups[i];
        tally_take(&tally, lookup);
        bytes += lookup->status == OK ? lookup->record.length : 0;
        if (lookup->status == ERR_CORRUPT) {
            note_corrupt(read);
        }
    }
    read_tally_add(&tally, read->instance);
    return bytes;
}

static void lookup_touch(struct instance *instance, const struct lookup *lookup)
{
    if (instance->role->touch != NULL && lookup->status == OK) {
        instance->role->touch(instance, lookup->key, lookup->record.length);
    }
}

static void read_touch(const struct read *read)
{
    for (unsigned i = 0; i < read->count; i++) {
        lookup_touch(read->instance, &read->lookups[i]);
    }
}

// What the table of hot keys may answer the next time.
static void lookup_note(struct instance *instance, const struct view *view,
                        const struct lookup *lookup)
{
    const struct record *record = &lookup->record;
    bool found = lookup->status == OK && record->held;
    if (!lookup->hot && (found || lookup->unfiltered)) {
        display_note(instance->display, view, lookup->key, found ? record : NULL);
    }
}

// Of keys that were asked for: the rows of a range would drive out what is read often.
static void read_note(const struct read *read)
{
    for (unsigned i = 0; !read_is_past(read) && i < read->count; i++) {
        lookup_note(read->instance, read->view, &read->lookups[i]);
    }
}

bool read_at_once(struct instance *instance, const struct view *view, struct hash128 hash,
                  uint64_t limit, struct lookup *lookup, struct look_answer *room,
                  struct read_tally *tally)
{
    lookup_view(instance, view, hash, lookup, room, STORE_CACHED);
    bool whole = lookup->status == ERR_NOT_FOUND ||
                 (lookup->status == OK && lookup->record.held && lookup->record.length <= limit);
    if (whole) {
        tally_take(tally, lookup);
        lookup_touch(instance, lookup);
        lookup_note(instance, view, lookup);
    } else {
        store_value_release(&lookup->pin);
    }
    return whole;
}

void read_prefetch(const struct view *view, struct hash128 hash)
{
    front_prefetch(view->front, hash);
}

void read_resolved(struct read *read)
{
    uint64_t bytes = read_count(read);
    if (!read->values) {
        read->done(read);
        return;
    }
    if (read->reply_limit != 0 && bytes > read->reply_limit) {
        for (unsigned i = 0; i < read->count; i++) {
            lookup_fail(&read->lookups[i], ERR_REPLY_SIZE);
        }
        read->done(read);
        return;
    }
    read_touch(read);
    bool missing = false;
    for (unsigned i = 0; i < read->count; i++) {
        struct lookup *lookup = &read->lookups[i];
        if (!lookup_missing(lookup)) {
            continue;
        }
        missing = true;
        if (read->instance->role->fetch == NULL) {
            lookup_fail(lookup, ERR_CORRUPT);
            note_corrupt(read);
        }
    }
    if (missing && read->instance->role->fetch != NULL) {
        read->instance->role->fetch(read->instance, read);
        return;
    }
    read->done(read);
}

static void read_work(struct read_job *job)
{
    struct read *read = CONTAINER_OF(job, struct read, job);
    for (unsigned i = 0; i < read->count; i++) {
        if (read->lookups[i].pooled) {
            lookup_store(read, &read->lookups[i], STORE_ANY);
        }
    }
}

// ---- as of an earlier index --------------------------------------------------------------------

int read_at_error(const struct read *read)
{
    const struct instance *instance = read->instance;
    if (read->at > read->view->place.index) {
        return ERR_BEHIND;
    }
    bool keeps_history = instance->role->past_rows != NULL;
    bool gone = keeps_history && read->at < atomic_load(&instance->history_floor);
    return read_is_past(read) && gone ? ERR_GONE : OK;
}

void lookup_recall(const struct read *read, struct lookup *lookup, int status,
                   const struct record *record, uint64_t *ret_bytes)
{
    lookup->status = status;
    if (status != OK) {
        return;
    }
    *ret_bytes += record->length;
    lookup->record = *record;
    lookup->record.value = bytes_of(NULL, 0);
    if (read->values && (read->reply_limit == 0 || *ret_bytes <= read->reply_limit)) {
        lookup->fetched = mem_copy(record->value.data, record->value.size);
        lookup->record.value = bytes_of(lookup->fetched, record->value.size);
    }
}

// Marks what the view's rows say nothing about. True: there is some.
static bool mark_past(struct read *read)
{
    bool any = false;
    for (unsigned i = 0; i < read->count; i++) {
        struct lookup *lookup = &read->lookups[i];
        if (lookup->status == OK && !lookup_says(lookup, read->at)) {
            lookup_fail(lookup, ERR_NOT_FOUND);
        }
        lookup->past = lookup->status == ERR_NOT_FOUND;
        any = any || lookup->past;
    }
    return any;
}

static void looked_up(struct read *read)
{
    if (read_is_past(read) && mark_past(read)) {
        read->instance->role->past(read->instance, read);
    } else {
        read_note(read);
        read_resolved(read);
    }
}

// ---- the steps ---------------------------------------------------------------------------------

static void read_worked(struct task *task)
{
    looked_up(CONTAINER_OF(task, struct read, job.done));
}

void read_submit(struct read *read, void (*work)(struct read_job *job),
                 void (*worked)(struct task *task))
{
    read->job.work = work;
    read->job.loop = read->loop;
    read->job.done.run = worked;
    readers_submit(read->readers, &read->job);
}

void read_start(struct read *read)
{
    uint64_t pooled = 0;
    int error = read_at_error(read);
    for (unsigned i = 0; i < read->count; i++) {
        struct lookup *lookup = &read->lookups[i];
        *lookup = (struct lookup){.key = lookup->key,
                                  .status = error == OK ? ERR_INCOMPLETE : error};
        if (error == OK && i < INLINE_KEYS) {
            lookup_store(read, lookup, STORE_CACHED);
        }
        lookup->pooled = lookup->status == ERR_INCOMPLETE;
        pooled += lookup->pooled ? 1 : 0;
    }
    if (error != OK) {
        read->done(read);
        return;
    }
    if (pooled == 0) {
        looked_up(read);
        return;
    }
    METRIC_ADD(read->instance->metrics, instance, reads_pooled, pooled);
    read_submit(read, read_work, read_worked);
}

void read_fetched(struct read *read) { read->done(read); }

void read_release(struct read *read)
{
    for (unsigned i = 0; i < read->count; i++) {
        store_value_release(&read->lookups[i].pin);
        mem_free(read->lookups[i].fetched);
        read->lookups[i].fetched = NULL;
    }
    view_release(read->view);
    read->view = NULL;
}
