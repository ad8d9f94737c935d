// SPDX-License-Identifier: Apache-2.0
// MULTI EXEC DISCARD WATCH UNWATCH. What is queued is copied into the session; EXEC moves it into
// its request, and from there it is a read or a write like any other.
#include "qs/dispatch.h"

#define QUEUE_FIRST 8

// ---- MULTI -------------------------------------------------------------------------------------

void multi_clear(struct multi *multi)
{
    mem_free(multi->calls);
    arena_free(&multi->arena);
    *multi = (struct multi){0};
}

// Drops what is queued: EXEC will be refused, and only needs to know that.
static void multi_spoil(struct multi *multi)
{
    multi_clear(multi);
    multi->active = true;
    multi->dirty = true;
}

static int multi_room(const struct session *session, const struct bytes *words, unsigned word_count,
                      uint64_t *ret_bytes)
{
    const struct daemon_instance *at = session->selected;
    uint64_t entries = at != NULL ? at->instance->options->batch_entries : BATCH_ENTRIES_MAX;
    if (session->multi.count >= entries) {
        return ERR_QUEUE_LIMIT;
    }
    uint64_t bytes = session->multi.bytes + sizeof(struct call);
    for (unsigned i = 0; i < word_count; i++) {
        bytes += words[i].size + sizeof words[i];
    }
    if (bytes > session->daemon->config->node.request_bytes) {
        return ERR_REQUEST_SIZE;
    }
    *ret_bytes = bytes;
    return OK;
}

void multi_queue(struct session *session, const struct command *command, const struct bytes *words,
                 unsigned word_count, struct buf *to)
{
    struct multi *multi = &session->multi;
    if (multi->dirty) {
        multi_spoil(multi);
        reply_simple(to, "QUEUED");
        return;
    }
    uint64_t bytes;
    int code = multi_room(session, words, word_count, &bytes);
    if (code != OK) {
        multi_spoil(multi);
        reply_error_code(to, code);
        return;
    }
    multi->bytes = bytes;
    if (multi->count == multi->capacity) {
        multi->capacity = multi->capacity == 0 ? QUEUE_FIRST : multi->capacity * 2;
        multi->calls = mem_realloc(multi->calls, multi->capacity * sizeof *multi->calls);
    }
    struct call *call = &multi->calls[multi->count++];
    *call = (struct call){
        .command = command, .steps = command->steps(), .word_count = word_count};
    call->words = words_copy(&multi->arena, words, word_count);
    multi->writes = multi->writes || (command->flags & COMMAND_WRITE) != 0;
    multi->views =
        multi->views || (command->flags & (COMMAND_READ | COMMAND_INSTANCE)) != 0;
    reply_simple(to, "QUEUED");
}

static void answer_multi(struct request *request, struct call *call, struct buf *to)
{
    (void)call;
    request->session->multi.active = true;
    reply_simple(to, "OK");
}

const struct command_steps *command_multi(void)
{
    static const struct command_steps steps = {
        .answer = answer_multi, .multi_error = "ERR MULTI calls can not be nested"};
    return &steps;
}

static void answer_discard(struct request *request, struct call *call, struct buf *to)
{
    (void)call;
    struct session *session = request->session;
    if (!session->multi.active) {
        reply_error(to, "ERR DISCARD without MULTI");
        return;
    }
    multi_clear(&session->multi);
    session_unwatch(session);
    reply_simple(to, "OK");
}

const struct command_steps *command_discard(void)
{
    static const struct command_steps steps = {.answer = answer_discard};
    return &steps;
}

// ---- EXEC --------------------------------------------------------------------------------------

static void move_queue(struct session *session, struct request *request)
{
    struct multi *multi = &session->multi;
    arena_free(&request->arena); // EXEC's own word
    request->exec = true;
    request->arena = multi->arena;
    if (multi->calls == NULL) {
        multi->calls = mem_zalloc(sizeof *multi->calls);
    }
    request->calls = multi->calls;
    request->call_count = multi->count;
    request->watched = session->watched;
    request->watched_count = session->watched_count;
    request->watched_keys = session->watched_keys;
    session->watched = NULL;
    session->watched_count = session->watched_capacity = 0;
    session->watched_keys = (struct arena){0};
    *multi = (struct multi){0};
}

static void start_exec(struct request *request, struct call *call)
{
    (void)call;
    struct session *session = request->session;
    if (!session->multi.active) {
        reply_error(request_out(request), "ERR EXEC without MULTI");
        request_finish(request);
        return;
    }
    if (session->multi.dirty) {
        multi_clear(&session->multi);
        session_unwatch(session);
        reply_error(request_out(request),
                    "EXECABORT Transaction discarded because of previous errors.");
        request_finish(request);
        return;
    }
    bool writes = session->multi.writes;
    move_queue(session, request);
    if (writes) {
        request_write(request);
    } else {
        request_read(request);
    }
}

const struct command_steps *command_exec(void)
{
    static const struct command_steps steps = {.start = start_exec};
    return &steps;
}

// ---- WATCH -------------------------------------------------------------------------------------

void session_unwatch(struct session *session)
{
    mem_free(session->watched);
    session->watched = NULL;
    session->watched_count = session->watched_capacity = 0;
    arena_free(&session->watched_keys);
}

static bool plan_watch(struct request *request, struct call *call, struct buf *to)
{
    const struct instance_options *options = request->at->instance->options;
    uint64_t count = (uint64_t)request->session->watched_count + call->word_count - 1;
    if (count > options->batch_entries) {
        reply_error_code(to, ERR_QUEUE_LIMIT);
        return false;
    }
    return call_keys(call, 1, call->word_count - 1, false, to);
}

// A key that is watched twice keeps both versions, and both must hold: the first decides.
static void watch_key(struct request *request, struct bytes key, uint64_t version)
{
    struct session *session = request->session;
    if (session->watched_count == session->watched_capacity) {
        unsigned capacity = session->watched_capacity == 0 ? QUEUE_FIRST
                                                           : session->watched_capacity * 2;
        session->watched = mem_realloc(session->watched, capacity * sizeof *session->watched);
        session->watched_capacity = capacity;
    }
    session->watched[session->watched_count++] =
        (struct watched){.at = request->at,
                         .key = arena_copy(&session->watched_keys, key),
                         .version = version};
}

static void render_watch(struct request *request, struct call *call, struct buf *to)
{
    if (!call_sound(call, to)) {
        return;
    }
    for (unsigned i = 0; i < call->key_count; i++) {
        const struct lookup *lookup = &call->lookups[i];
        uint64_t version = lookup->status == OK ? lookup->record.version : 0;
        watch_key(request, lookup->key, version);
    }
    reply_simple(to, "OK");
}

const struct command_steps *command_watch(void)
{
    static const struct command_steps steps = {
        .plan = plan_watch,
        .render = render_watch,
        .barrier = true,
        .multi_error = "ERR WATCH inside MULTI is not allowed"};
    return &steps;
}

static void answer_unwatch(struct request *request, struct call *call, struct buf *to)
{
    (void)call;
    session_unwatch(request->session);
    reply_simple(to, "OK");
}

const struct command_steps *command_unwatch(void)
{
    static const struct command_steps steps = {.answer = answer_unwatch};
    return &steps;
}
