// SPDX-License-Identifier: Apache-2.0
// QS.WATCH: a connection that is told every change of the keys with a prefix, one message for each
// index, once it is visible. What is told comes from the journal, by a cursor: so a watcher costs a
// place in it, not memory, can begin in the past as far as the journal reaches back, and a slow
// one is simply behind; when the journal no longer has what comes next, it is told so.
//
// Messages (RESP3: pushes):
//   ["qs.watch", index, [op, key, value or nil, ...]]  op: put or delete
//   ["qs.progress", index]  every change up to here was told; at the beginning and every second
// The command has its connection for itself and streams until that closes, or QUIT or RESET comes
// (qs/session.c). At any time it waits for an index to become visible, or a reader thread goes on
// in the journal for it, or it waits for the other side to read.
// All that it tells is of the history that is shown: the journal may be of the one to come already,
// whose blocks it does not tell, and when that one is shown the connection ends.
// While a reader thread has it, cursor, `next` and `out` are that thread's; all else is the loop's.
#include "qs/dispatch.h"

// Nothing more is read for a side that has this much to read, or half of output_bytes.
#define OUTPUT_BYTES MIB
// A reader thread goes on for so many bytes of the journal, then others have their turn.
#define SLICE_BYTES (8 * MIB)
#define PROGRESS_NS NS_PER_S

struct watching {
    struct request *request;
    struct instance *instance;
    struct read_job job;
    struct index_waiter waiter;
    struct timer timer;    // of the next progress message
    struct bytes prefix;
    int protocol;
    bool reading;          // a reader thread has it
    bool waiting;          // for the waiter's task
    bool over;             // ends as soon as neither is so
    bool announced;
    struct journal_cursor cursor;
    bool placed;
    uint64_t next;         // the first index that was not told
    uint64_t until;        // what is visible; for the reader thread, likewise:
    uint8_t history[HISTORY_ID_BYTES]; // ... and of which history
    unsigned forks;
    struct buf out, entries;
    int error;
};

// ---- on a reader thread ------------------------------------------------------------------------

// The first block that ends at `index` or later; one past the end when there is none.
static int find_block(struct journal *journal, uint64_t index, uint64_t *ret_number)
{
    struct journal_place oldest = journal_oldest(journal);
    if (index <= oldest.index) {
        return ERR_TOO_OLD;
    }
    uint64_t low = oldest.number + 1, high = journal_end(journal).number + 1;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        struct block_header header;
        int error = journal_header(journal, middle, &header);
        if (error != OK) {
            return error;
        }
        if (block_end(&header) >= index) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    *ret_number = low;
    return OK;
}

static int place(struct watching *watching)
{
    uint64_t number;
    struct journal *journal = watching->instance->journal;
    int error = find_block(journal, watching->next, &number);
    if (error == OK) {
        error = journal_cursor_open(journal, &watching->cursor, number);
    }
    watching->placed = error == OK;
    return error;
}

// Ends a message: what one index did to keys with the prefix.
static void tell_index(struct watching *watching, uint64_t index, uint64_t count)
{
    if (count > 0) {
        reply_push(&watching->out, 3, watching->protocol);
        reply_bulk(&watching->out, bytes_text("qs.watch"));
        reply_integer(&watching->out, (int64_t)index);
        reply_array(&watching->out, 3 * count);
        buf_append_bytes(&watching->out, buf_bytes(&watching->entries));
        buf_clear(&watching->entries);
    }
}

static void tell_block(struct watching *watching, const struct block *block)
{
    struct block_walk walk;
    struct entry entry;
    uint64_t count = 0;
    block_walk_start(&walk, block);
    while (block_walk_next(&walk, &entry)) {
        if (entry.index >= watching->next && bytes_prefix(entry.key, watching->prefix)) {
            bool put = entry.op == ENTRY_PUT;
            reply_bulk(&watching->entries, bytes_text(put ? "put" : "delete"));
            reply_bulk(&watching->entries, entry.key);
            if (put) {
                reply_bulk(&watching->entries, entry.value);
            } else {
                reply_nil(&watching->entries, watching->protocol);
            }
            count++;
        }
        if (entry.last_in_batch) {
            tell_index(watching, entry.index, count);
            count = 0;
        }
    }
}

static bool is_shown(const struct watching *watching, const struct block *block)
{
    return memcmp(block->header.history, watching->history, HISTORY_ID_BYTES) == 0;
}

static void watch_work(struct read_job *job)
{
    struct watching *watching = CONTAINER_OF(job, struct watching, job);
    uint64_t bytes = 0;
    int error = watching->placed ? OK : place(watching);
    while (error == OK && watching->next <= watching->until && bytes < SLICE_BYTES &&
           watching->out.size < OUTPUT_BYTES) {
        struct block *block;
        error = journal_cursor_next(&watching->cursor, &block);
        if (error == OK && !is_shown(watching, block)) {
            block_release(block);
            error = ERR_NOT_FOUND;
        }
        if (error == OK) {
            tell_block(watching, block);
            watching->next = u64_max(watching->next, block_end(&block->header) + 1);
            bytes += block->stored.size;
            block_release(block);
        }
    }
    // What is visible was in the journal: it has been begun anew since.
    watching->error = error == ERR_NOT_FOUND ? ERR_TOO_OLD : error;
}

// ---- on the loop -------------------------------------------------------------------------------

static void watch_go_on(struct watching *watching);

// Looks how far it may tell. False: it will end, by `error`.
static bool look(struct watching *watching)
{
    struct request *request = watching->request;
    struct view *view;
    watching->error = session_view(request->session, request->at, &view);
    if (watching->error != OK) {
        return false;
    }
    watching->until = view->place.index;
    watching->forks = view->forks;
    memcpy(watching->history, view->history, HISTORY_ID_BYTES);
    view_release(view);
    return true;
}

// Ends for good, once nothing is under way: with an error that `watching` met, or silently.
static void watch_end(struct watching *watching)
{
    struct request *request = watching->request;
    struct session *session = request->session;
    watching->over = true;
    loop_timer_clear(&watching->timer);
    if (watching->waiting && instance_wait_cancel(watching->instance, &watching->waiter)) {
        watching->waiting = false;
    }
    if (watching->reading || watching->waiting) {
        return;
    }
    session->streaming = NULL;
    request->turn = NULL;
    request->cancel = NULL;
    struct buf *to = request_out(request);
    if (watching->error != OK) {
        int code = watching->error == ERR_TOO_OLD ? ERR_GONE : watching->error;
        request_refuse(request, code, to);
    }
    METRIC_ADD(&session->daemon->metrics, node, watchers, -1);
    journal_cursor_close(&watching->cursor);
    buf_free(&watching->out);
    buf_free(&watching->entries);
    mem_free(watching);
    request_finish(request);
}

static bool has_room(const struct watching *watching)
{
    const struct session *session = watching->request->session;
    uint64_t limit = u64_min(OUTPUT_BYTES, session->daemon->config->node.output_bytes / 2);
    return stream_pending(&session->stream) < limit;
}

// Everything up to this index has been told. After a look.
static void tell_progress(struct watching *watching)
{
    struct stream *stream = &watching->request->session->stream;
    struct buf *to = stream_out(stream);
    reply_push(to, 2, watching->protocol);
    reply_bulk(to, bytes_text("qs.progress"));
    reply_integer(to, (int64_t)u64_min(watching->next - 1, watching->until));
    stream_wrote(stream);
    watching->announced = true;
}

static void watch_worked(struct task *task)
{
    struct watching *watching = CONTAINER_OF(task, struct watching, job.done);
    struct stream *stream = &watching->request->session->stream;
    watching->reading = false;
    if (watching->over) {
        watch_end(watching);
        return;
    }
    stream_write(stream, buf_bytes(&watching->out));
    buf_free(&watching->out);
    buf_free(&watching->entries);
    if (watching->error != OK) {
        watch_end(watching);
        return;
    }
    if (!watching->announced) {
        tell_progress(watching);
    }
    watch_go_on(watching);
}

static void watch_reached(struct task *task)
{
    struct watching *watching = CONTAINER_OF(task, struct watching, waiter.task);
    watching->waiting = false;
    if (watching->over) {
        watch_end(watching);
    } else {
        watch_go_on(watching);
    }
}

static void watch_go_on(struct watching *watching)
{
    struct session *session = watching->request->session;
    if (watching->reading || watching->waiting || watching->over) {
        return;
    }
    if (!has_room(watching)) {
        stream_want_drained(&session->stream); // comes back through request->turn
        return;
    }
    if (!look(watching)) {
        watch_end(watching);
        return;
    }
    if (watching->next > watching->until) {
        watching->waiting = true;
        watching->waiter.index = watching->next;
        watching->waiter.forks = watching->forks;
        instance_wait(watching->instance, &watching->waiter);
        return;
    }
    watching->reading = true;
    readers_submit(session->daemon->readers, &watching->job);
}

static void watch_turn(struct request *request) { watch_go_on(request->wait); }

static void watch_cancel(struct request *request) { watch_end(request->wait); }

static void watch_tick(struct timer *timer)
{
    struct watching *watching = CONTAINER_OF(timer, struct watching, timer);
    // While a reader thread has it, what it tells shows how far it is.
    if (!watching->reading && has_room(watching)) {
        if (!look(watching)) {
            watch_end(watching);
            return;
        }
        tell_progress(watching);
    }
    loop_timer_set(watching->request->session->home->loop, timer, PROGRESS_NS);
}

// ---- the command -------------------------------------------------------------------------------

static void watch_begin(struct request *request, struct call *call, uint64_t from)
{
    struct session *session = request->session;
    struct loop *loop = session->home->loop;
    struct watching *watching = mem_zalloc(sizeof *watching);
    watching->request = request;
    watching->instance = request->at->instance;
    watching->prefix = call_word(call, 1);
    watching->protocol = request->protocol;
    watching->next = from;
    watching->job = (struct read_job){.work = watch_work, .loop = loop, .done.run = watch_worked};
    watching->waiter.loop = loop;
    watching->waiter.task.run = watch_reached;
    timer_init(&watching->timer, watch_tick);
    loop_timer_set(loop, &watching->timer, PROGRESS_NS);
    request->wait = watching;
    request->turn = watch_turn;
    request->cancel = watch_cancel;
    session->streaming = request;
    METRIC_ADD(&session->daemon->metrics, node, watchers, 1);
    if (look(watching) && from > watching->until) {
        tell_progress(watching);
    }
    watch_go_on(watching); // looks again
}

// Where to begin: the index that FROM names, else the one after what is visible. False: the answer
// is in `to`.
static bool parse_from(struct request *request, const struct call *call, uint64_t *ret_from,
                       struct buf *to)
{
    if (call_word(call, 1).size > KEY_BYTES_MAX) {
        reply_error_code(to, ERR_KEY_SIZE);
        return false;
    }
    if (call->word_count == 2) {
        struct view *view;
        int code = session_view(request->session, request->at, &view);
        if (code != OK) {
            request_refuse(request, code, to);
            return false;
        }
        *ret_from = view->place.index + 1;
        view_release(view);
        return true;
    }
    if (call->word_count != 4 || !word_is(call_word(call, 2), "FROM")) {
        reply_error(to, "ERR syntax error, try QS.WATCH prefix [FROM index|token]");
        return false;
    }
    if (!request_token(request, call_word(call, 3), ret_from, to)) {
        return false;
    }
    *ret_from = u64_min(u64_max(*ret_from, 1), INT64_MAX);
    return true;
}

static void start_qs_watch(struct request *request, struct call *call)
{
    uint64_t from;
    struct buf error = {0};
    if (parse_from(request, call, &from, &error)) {
        watch_begin(request, call, from);
        return;
    }
    buf_append_bytes(request_out(request), buf_bytes(&error));
    buf_free(&error);
    request_finish(request);
}

const struct command_steps *command_qs_watch(void)
{
    static const struct command_steps steps = {
        .start = start_qs_watch, .barrier = true, .streams = true};
    return &steps;
}
