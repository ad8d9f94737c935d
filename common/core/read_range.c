// SPDX-License-Identifier: Apache-2.0
// Ranges: an iterator on a reader thread, in slices, so that a long walk does not keep a thread
// from short reads. Rows are copied into the range's arena, counted against reply_limit before.
#include "common/core/read.h"
#include "common/wire/resp.h"

#define SLICE_KEYS 20000
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

// Takes the row into the range. False: there is no room for it.
static bool range_take(struct range_read *range, struct bytes key, struct bytes row)
{
    struct read *read = &range->read;
    struct record record = {0};
    int status = read->instance->role->decode(row, &record);
    uint64_t length = status == OK && read->values ? record.length : 0;
    uint64_t cost = key.size + length + ROW_BYTES;
    if (read->reply_limit != 0 && cost > read->reply_limit - range->bytes) {
        return false;
    }
    range->bytes += cost;
    struct lookup *lookup = range_add(range, key);
    lookup->status = status;
    lookup->record = record;
    if (status == OK && record.held) {
        lookup->record.value =
            read->values ? arena_copy(&range->keys, record.value) : bytes_of(NULL, 0);
    }
    return true;
}

// Stops before `key`: the range goes on there another time.
static void range_stop(struct range_read *range, struct bytes key)
{
    range->more = true;
    range->next = arena_copy(&range->keys, key);
}

// Looks at the iterator's row. False: the range, or this slice of it, ends before that row.
static bool range_visit(struct range_read *range, const struct store_iterator *iterator,
                        uint64_t slice_keys, uint64_t slice_bytes)
{
    struct bytes key = store_iterator_key(iterator);
    bool enough = range->visited_max != 0 && range->visited >= range->visited_max;
    if (enough || range->read.count >= range->limit) {
        range_stop(range, key);
        return false;
    }
    if (slice_keys >= SLICE_KEYS || slice_bytes >= SLICE_BYTES) {
        buf_clear(&range->place);
        buf_append_bytes(&range->place, key);
        range->again = true;
        return false;
    }
    bool wanted = range->match.size == 0 || glob_match(range->match, key);
    if (wanted && !range_take(range, key, store_iterator_value(iterator))) {
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

static void range_work(struct read_job *job)
{
    struct range_read *range = CONTAINER_OF(job, struct range_read, read.job);
    struct view *view = range->read.view;
    struct bytes from = range->again ? buf_bytes(&range->place) : range->start;
    struct store_iterator *iterator =
        store_iterator_open(view->store, view->snapshot, 0, range->start, range->end);
    store_iterator_seek(iterator, from);
    range->again = false;
    uint64_t visited = range->visited;
    uint64_t bytes = range->bytes;
    while (store_iterator_valid(iterator) &&
           range_visit(range, iterator, range->visited - visited, range->bytes - bytes)) {
        store_iterator_next(iterator);
    }
    int code = store_iterator_error(iterator);
    range->status = code != OK ? code : range->status;
    store_iterator_close(iterator);
}

static void range_values_done(struct read *read)
{
    struct range_read *range = CONTAINER_OF(read, struct range_read, read);
    range->done(range);
}

static void range_worked(struct task *task);

static void range_submit(struct range_read *range)
{
    range->read.job.work = range_work;
    range->read.job.loop = range->read.loop;
    range->read.job.done.run = range_worked;
    readers_submit(range->read.readers, &range->read.job);
}

static void range_worked(struct task *task)
{
    struct range_read *range = CONTAINER_OF(task, struct range_read, read.job.done);
    if (range->status == OK && range->again) {
        range_submit(range);
        return;
    }
    if (range->status != OK) {
        range->done(range);
        return;
    }
    read_resolved(&range->read);
}

void range_start(struct range_read *range)
{
    range->read.lookups = NULL;
    range->read.count = 0;
    range->read.done = range_values_done;
    range->more = false;
    range->next = bytes_of(NULL, 0);
    range->keys = (struct arena){0};
    range->status = OK;
    range->capacity = 0;
    range->visited = 0;
    range->bytes = 0;
    range->again = false;
    range->place = (struct buf){0};
    range_submit(range);
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
