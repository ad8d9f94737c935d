// SPDX-License-Identifier: Apache-2.0
// Sending a client's transaction on to the root that leads (common/tree/forward.h), and its answer
// back. What the words say is judged there, by that root's limits; what concerns the connection has
// been answered here. Once it is answered, nothing older than it is shown on this connection.
#include "common/tree/forward.h"
#include "common/wire/write_items.h"
#include "qs/request.h"
#include "qs/session.h"

struct sending {
    struct forwarded write;
    struct request *request;
};

static bool is_elsewhere(const struct request *request)
{
    bool elsewhere = false;
    for (unsigned i = 0; i < request->watched_count; i++) {
        elsewhere = elsewhere || request->watched[i].at != request->at;
    }
    return elsewhere;
}

static void encode(const struct request *request, struct buf *to)
{
    struct write_head head = {.protocol = (uint32_t)request->protocol,
                              .exec = request->exec,
                              .watched = request->watched_count,
                              .calls = request->call_count};
    write_head_append(to, &head);
    for (unsigned i = 0; i < request->watched_count; i++) {
        write_watched_append(to, request->watched[i].key, request->watched[i].version);
    }
    for (unsigned i = 0; i < request->call_count; i++) {
        const struct call *call = &request->calls[i];
        if (call->answered) {
            write_answer_append(to, buf_bytes(&call->early));
        } else {
            write_words_append(to, call->words, call->word_count);
        }
    }
}

static void answer(struct sending *sending, int status)
{
    struct request *request = sending->request;
    struct session *session = request->session;
    const struct forwarded *write = &sending->write;
    struct buf *to = request_out(request);
    if (status == OK) {
        session->last_index = write->index;
        session->last_at = request->at;
        session_wrote(session, request->at, write->history, write->index);
        buf_append_bytes(to, buf_bytes(&write->reply));
    } else {
        reply_error_code(to, status);
    }
    forward_end(&sending->write);
    mem_free(sending);
    request_finish(request);
}

static void answered(struct forwarded *write)
{
    answer(CONTAINER_OF(write, struct sending, write), write->status);
}

// What this connection may have seen. Another one may have taken its place since the command came;
// and while its log is there and its data is not, what is shown is still the former. Where nothing
// is shown yet, it is none.
static int name_history(const struct request *request, uint8_t to[HISTORY_ID_BYTES])
{
    struct view *view = instance_pin(request->at->instance);
    if (view == NULL) {
        return ERR_LOADING;
    }
    if (view->place.number > 0) {
        memcpy(to, view->history, HISTORY_ID_BYTES);
    }
    view_release(view);
    return session_forked(request->session, request->at) ? ERR_OTHER_HISTORY : OK;
}

void request_forward(struct request *request)
{
    if (is_elsewhere(request)) { // a key of another instance is watched: never as it was
        reply_nil_array(request_out(request), request->protocol);
        request_finish(request);
        return;
    }
    struct instance *instance = request->at->instance;
    struct sending *sending = mem_zalloc(sizeof *sending);
    struct forwarded *write = &sending->write;
    sending->request = request;
    write->instance = instance;
    write->loop = request->session->home->loop;
    write->answered = answered;
    write->patience_ns = instance->options->commit_wait * NS_PER_MS;
    encode(request, &write->items);
    bool fits = write_items_check(buf_bytes(&write->items)) == OK;
    int code = fits ? name_history(request, write->meant) : ERR_REQUEST_SIZE;
    code = code == OK ? forward_submit(write) : code;
    if (code != OK) {
        answer(sending, code);
    }
}
