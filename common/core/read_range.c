// SPDX-License-Identifier: Apache-2.0
// Ranges: an iterator on a reader thread, in slices, so that a long walk does not keep a thread
// from short reads. Rows are copied into the range's arena, counted against reply_limit before.
#include "common/core/read.h"
#include "common/wire/resp.h"

#ifndef RANGE_SLICE_KEYS // simulations make it smaller
#define RANGE_SLICE_KEYS 20000
#endif
#define SLICE_BYTES (8 * MIB)
// What a row costs in a reply beyond its bytes.
#define ROW_BYTES 32

static struct lookup *range_add(struct range_read *range, struct bytes key)
{
    struct read *read = &range->read;
    if (read->count == range->capacity) {
        range->capacity = range->capacity == 0 ? 16 : range->capacity * 2;
        read->lookups = mem_realloc(read->lookups, range->capacity * sizeof *read->lookups);
    }
    struct lookup *lookup = &read->lookups[read->count++];
    *lookup = (struct lookup){.key = arena_copy(&range->keys, key), .pooled = true};
    return lookup;
}

// Takes the key into the range. False: there is no room for it.
static bool range_take(struct range_read *range, struct bytes key, int status,
                       const struct record *record)
{
    struct read *read = &range->read;
    uint64_t length = status == OK && read->values ? record->length : 0;
    uint64_t cost = key.size + length + ROW_BYTES;
    if (read->reply_limit != 0 && cost > read->reply_limit - range->bytes) {
        return false;
    }
    range->bytes += cost;
    struct lookup *lookup = range_add(range, key);
    lookup->status = status;
    if (status == OK) {
        lookup->record = *record;
    }
    if (status == OK && record->held) {
        lookup->record.value =
            read->values ? arena_copy(&range->keys, record->value) : bytes_of(NULL, 0);
    }
    return true;
}

// Stops before `key`: the range goes on there another time.
static void range_stop(struct range_read *range, struct bytes key)
{
    range->more = true;
    range->next = arena_copy(&range->keys, key);
}

bool range_offer(struct range_read *range, struct bytes key, int status,
                 const struct record *record)
{
    bool wanted = status != ERR_NOT_FOUND;
    bool enough = range->visited_max != 0 && range->visited >= range->visited_max;
    if (enough || (wanted && range->read.count >= range->limit)) {
        range_stop(range, key);
        return false;
    }
    if (range->visited - range->slice_visited >= RANGE_SLICE_KEYS ||
        range->bytes - range->slice_bytes >= SLICE_BYTES) {
        buf_clear(&range->place);
        buf_append_bytes(&range->place, key);
        range->again = true;
        return false;
    }
    wanted = wanted && (range->match.size == 0 || glob_match(range->match, key));
    if (wanted && !range_take(range, key, status, record)) {
        // A walk that may stop anywhere stops here; one that may not has failed.
        if (range->visited_max != 0 && range->read.count > 0) {
            range_stop(range, key);
        } else {
            range->status = ERR_REPLY_SIZE;
        }
        return false;
    }
    range->visited++;
    return true;
}

void range_slice(struct range_read *range)
{
    range->again = false;
    range->slice_visited = range->visited;
    range->slice_bytes = range->bytes;
}

static int walk_view(struct range_read *range, struct bytes from)
{
    const struct view *view = range->read.view;
    const struct role *role = range->read.instance->role;
    struct store_iterator *iterator =
        store_iterator_open(view->store, view->snapshot, 0, range->start, range->end);
    store_iterator_seek(iterator, from);
    bool more = true;
    while (more && store_iterator_valid(iterator)) {
        struct record record = {0};
        int status = role->decode(store_iterator_value(iterator), &record);
        more = range_offer(range, store_iterator_key(iterator), status, &record);
        if (more) {
            store_iterator_next(iterator);
        }
    }
    int error = store_iterator_error(iterator);
    store_iterator_close(iterator);
    if (error == ERR_CORRUPT) {
        instance_doubt_store(range->read.instance, view);
    }
    return error;
}

static bool offer_past(void *argument, struct bytes key, int status, const struct record *record)
{
    return range_offer(argument, key, status, record);
}

static void range_work(struct read_job *job)
{
    struct range_read *range = CONTAINER_OF(job, struct range_read, read.job);
    const struct read *read = &range->read;
    if (range->status != OK) {
        return; // it failed before it began
    }
    struct bytes from = range->again ? buf_bytes(&range->place) : range->start;
    range_slice(range);
    int error;
    if (read_is_past(read)) {
        const struct role_range rows = {.start = range->start, .end = range->end, .from = from};
        error = read->instance->role->past_rows(read->instance, read->view, read->at, &rows,
                                                offer_past, range);
    } else {
        error = walk_view(range, from);
    }
    range->status = error != OK ? error : range->status;
}

static void range_values_done(struct read *read)
{
    struct range_read *range = CONTAINER_OF(read, struct range_read, read);
    range->done(range);
}

static void range_worked(struct task *task);

void range_ended(struct range_read *range)
{
    if (range->status != OK) {
        range->done(range);
        return;
    }
    read_resolved(&range->read);
}

static void range_worked(struct task *task)
{
    struct range_read *range = CONTAINER_OF(task, struct range_read, read.job.done);
    if (range->status == OK && range->again) {
        read_submit(&range->read, range_work, range_worked);
        return;
    }
    range_ended(range);
}

void range_start(struct range_read *range)
{
    range->read.lookups = NULL;
    range->read.count = 0;
    range->read.done = range_values_done;
    range->more = false;
    range->next = bytes_of(NULL, 0);
    range->keys = (struct arena){0};
    range->status = read_at_error(&range->read);
    range->capacity = 0;
    range->visited = 0;
    range->bytes = 0;
    range->again = false;
    range->place = (struct buf){0};
    range->slice_visited = range->slice_bytes = 0;
    struct instance *instance = range->read.instance;
    bool elsewhere = read_is_past(&range->read) && instance->role->past_rows == NULL;
    if (elsewhere && range->status == OK) {
        instance->role->past_range(instance, range);
    } else {
        read_submit(&range->read, range_work, range_worked);
    }
}

void range_release(struct range_read *range)
{
    read_release(&range->read);
    mem_free(range->read.lookups);
    range->read.lookups = NULL;
    range->read.count = 0;
    arena_free(&range->keys);
    buf_free(&range->place);
}
