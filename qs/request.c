// SPDX-License-Identifier: Apache-2.0
// A request's life: from the loop's pool into the session's queue, one answer, and back. The answer
// goes straight into the connection's buffer when it is this request's turn. Loop thread, but for
// request_render of a call inside a transaction (qs/command.h).
#include "qs/request.h"

#include "qs/session.h"

#define SPARE_MAX 1024
#define REPLY_KEPT (16 * KIB)

struct request *request_new(struct session *session)
{
    struct client_loop *home = session->home;
    struct list *node = list_take(&home->spare);
    struct request *request;
    if (node != NULL) {
        request = CONTAINER_OF(node, struct request, node);
        home->spare_count--;
        memset(request, 0, offsetof(struct request, reply));
    } else {
        request = mem_zalloc(sizeof *request);
    }
    request->session = session;
    request->at = session->selected;
    request->protocol = session->protocol;
    request->calls = &request->one;
    request->call_count = 1;
    list_append(&session->requests, &request->node);
    session->request_count++;
    return request;
}

// Gives back what the request held, but for its reply.
static void request_clean(struct request *request)
{
    for (unsigned i = 0; i < request->call_count; i++) {
        buf_free(&request->calls[i].early);
    }
    if (request->calls != &request->one) {
        mem_free(request->calls);
        request->calls = &request->one;
        request->call_count = 1;
    }
    view_release(request->view);
    request->view = NULL;
    mem_free(request->watched);
    request->watched = NULL;
    arena_free(&request->watched_keys);
    arena_free(&request->arena);
}

void request_free(struct request *request)
{
    struct session *session = request->session;
    struct client_loop *home = session->home;
    list_remove(&request->node);
    session->request_count--;
    buf_clear(&request->reply);
    request->reply.limit = 0;
    if (request->reply.capacity > REPLY_KEPT) {
        buf_free(&request->reply);
    }
    if (home->spare_count < SPARE_MAX) {
        home->spare_count++;
        list_append(&home->spare, &request->node);
        return;
    }
    buf_free(&request->reply);
    mem_free(request);
}

void request_free_spare(struct client_loop *loop)
{
    struct list *node;
    while ((node = list_take(&loop->spare)) != NULL) {
        struct request *request = CONTAINER_OF(node, struct request, node);
        buf_free(&request->reply);
        mem_free(request);
    }
    loop->spare_count = 0;
}

struct buf *request_out(struct request *request)
{
    struct session *session = request->session;
    bool turn = session->requests.next == &request->node && !session->gone &&
                !stream_closing(&session->stream);
    request->out = turn ? stream_out(&session->stream) : &request->reply;
    request->out_start = request->out->size;
    return request->out;
}

static void count_answer(struct request *request)
{
    struct node_metrics *metrics = &request->session->daemon->metrics;
    METRIC_ADD(metrics, node, commands, 1);
    const struct buf *out = request->out;
    if (out->size > request->out_start && out->data[request->out_start] == '-') {
        METRIC_ADD(metrics, node, command_errors, 1);
    }
}

void request_finish(struct request *request)
{
    struct session *session = request->session;
    CHECK(!request->done && request->out != NULL);
    count_answer(request);
    if (request->out != &request->reply) {
        stream_wrote(&session->stream);
    }
    session->held_bytes += request->reply.size;
    session->cost -= request->cost;
    session->barriers -= request->barrier ? 1 : 0;
    session->writes -= request->writing ? 1 : 0;
    request->done = true;
    request_clean(request);
    session_settle(session);
}

void request_refuse(struct request *request, int code, struct buf *to)
{
    reply_error_code(to, code);
    if (code == ERR_FORKED) {
        request->closes = true;
        request->session->ended = true;
    }
}

bool request_pin(struct request *request, struct buf *to)
{
    CHECK(request->view == NULL && request->at != NULL);
    int code = session_pin(request->session, request->at, &request->view);
    if (code != OK) {
        request_refuse(request, code, to);
        return false;
    }
    request->index = request->view->place.index;
    return true;
}

bool request_token(struct request *request, struct bytes word, uint64_t *ret_index, struct buf *to)
{
    struct token token;
    if (token_parse(word, &token) != OK) {
        reply_error(to, "ERR value is not an integer or out of range");
        return false;
    }
    struct view *view = request->view != NULL ? view_hold(request->view) : NULL;
    int code = view != NULL ? OK : session_view(request->session, request->at, &view);
    if (code == OK) {
        code = token_check(&token, view);
    }
    view_release(view);
    if (code != OK) {
        request_refuse(request, code, to);
        return false;
    }
    *ret_index = token.index;
    return true;
}

struct lookup *request_lookups(struct request *request, unsigned count)
{
    if (count <= REQUEST_FEW_LOOKUPS) {
        memset(request->few_lookups, 0, sizeof request->few_lookups);
        return request->few_lookups;
    }
    struct lookup *lookups = arena_alloc(&request->arena, count * sizeof *lookups);
    memset(lookups, 0, count * sizeof *lookups);
    return lookups;
}

void request_render(struct request *request, struct call *call, struct buf *to)
{
    if (call->answered) {
        buf_append_bytes(to, buf_bytes(&call->early));
    } else if (call->steps->render != NULL) {
        call->steps->render(request, call, to);
    } else if (call->steps->answer != NULL) {
        call->steps->answer(request, call, to);
    } else {
        reply_error(to, "ERR %s is not allowed inside a transaction", call->command->word);
    }
}

bool key_check(struct bytes key, struct buf *to)
{
    if (key.size == 0 || key.size > KEY_BYTES_MAX) {
        reply_error_code(to, ERR_KEY_SIZE);
        return false;
    }
    return true;
}

bool call_keys(struct call *call, unsigned first, unsigned count, bool values, struct buf *to)
{
    CHECK(first + count <= call->word_count);
    for (unsigned i = 0; i < count; i++) {
        if (!key_check(call->words[first + i], to)) {
            return false;
        }
    }
    call->key_first = first;
    call->key_count = count;
    call->values = values;
    return true;
}

struct range_read *call_range(struct request *request, struct call *call)
{
    call->ranged = arena_alloc(&request->arena, sizeof *call->ranged);
    memset(call->ranged, 0, sizeof *call->ranged);
    call->ranged->request = request;
    return &call->ranged->range;
}

void call_past(struct request *request, struct call *call, struct bytes key, uint64_t at)
{
    call->past = arena_alloc(&request->arena, sizeof *call->past);
    *call->past = (struct call_past){.read.at = at, .lookup.key = key, .request = request};
}

bool call_at(struct request *request, struct bytes word, uint64_t *ret_at, struct buf *to)
{
    if (!request_token(request, word, ret_at, to)) {
        return false;
    }
    // Without a view it is refused anyway: it stands in a transaction that writes.
    if (request->view != NULL && *ret_at > request->index) {
        reply_error(to, "BEHIND %llu", (unsigned long long)request->index);
        return false;
    }
    return true;
}

bool call_sound(const struct call *call, struct buf *to)
{
    for (unsigned i = 0; i < call->key_count; i++) {
        int status = call->lookups[i].status;
        if (status != OK && status != ERR_NOT_FOUND) {
            reply_error_code(to, status);
            return false;
        }
    }
    return true;
}
