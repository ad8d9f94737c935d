// SPDX-License-Identifier: Apache-2.0
// A read goes: look up every key in memory -> the rest as one job on a reader thread -> check the
// limit from stored lengths -> fetch what is missing by exact versions -> done. A reply_limit of 0
// is none.
#include "common/core/read.h"

#include "common/base/log.h"
#include "common/core/display.h"

// More keys than this in one read are not looked up on the loop, which others wait for.
#define INLINE_KEYS 512

static void lookup_store(struct read *read, struct lookup *lookup, enum store_tier tier)
{
    const struct instance *instance = read->instance;
    const struct view *view = read->view;
    if (front_absent(view->front, lookup->key)) {
        lookup->filtered = true;
        lookup->status = ERR_NOT_FOUND;
        return;
    }
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

static void lookup_fail(struct lookup *lookup, int error)
{
    store_value_release(&lookup->pin);
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

// Counts what the lookups came to. Returns the sum of the lengths of all values found.
static uint64_t read_count(struct read *read)
{
    uint64_t absent = 0;
    uint64_t filtered = 0;
    uint64_t unfiltered = 0;
    uint64_t bytes = 0;
    for (unsigned i = 0; i < read->count; i++) {
        const struct lookup *lookup = &read->lookups[i];
        absent += lookup->status == ERR_NOT_FOUND ? 1 : 0;
        filtered += lookup->filtered ? 1 : 0;
        unfiltered += lookup->unfiltered ? 1 : 0;
        bytes += lookup->status == OK ? lookup->record.length : 0;
        if (lookup->status == ERR_CORRUPT) {
            note_corrupt(read);
        }
    }
    METRIC_ADD(read->instance->metrics, instance, reads, read->count);
    METRIC_ADD(read->instance->metrics, instance, reads_absent, absent);
    METRIC_ADD(read->instance->metrics, instance, reads_filtered, filtered);
    METRIC_ADD(read->instance->metrics, instance, reads_unfiltered, unfiltered);
    return bytes;
}

static void read_touch(const struct read *read)
{
    struct instance *instance = read->instance;
    for (unsigned i = 0; instance->role->touch != NULL && i < read->count; i++) {
        const struct lookup *lookup = &read->lookups[i];
        if (lookup->status == OK) {
            instance->role->touch(instance, lookup->key, lookup->record.length);
        }
    }
}

// What the memory that is shared may answer the next time.
static void read_note(const struct read *read)
{
    struct display *display = read->instance->display;
    for (unsigned i = 0; display != NULL && !read_is_past(read) && i < read->count; i++) {
        const struct lookup *lookup = &read->lookups[i];
        bool fits = lookup->status == OK && lookup->record.held &&
                    lookup->key.size + lookup->record.length <= HOT_DATA_BYTES;
        if (fits || lookup->unfiltered) {
            display_note(display, read->view, lookup->key);
        }
    }
}

void read_resolved(struct read *read)
{
    uint64_t bytes = read_count(read);
    read_note(read);
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
