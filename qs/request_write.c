// SPDX-License-Identifier: Apache-2.0
// Writing: all calls of the request are one transaction at the root's sequencer. Reads among them
// are looked up through it, so they see what the transaction wrote before them, and are rendered
// by the same code as everywhere else.
#include "qs/request.h"
#include "qs/session.h"

// The keys of a READ, as they are inside the transaction.
static int look_up(struct request *request, struct call *call, struct txn *txn)
{
    if (call->steps->indexed) {
        request->index = txn_index(txn);
    }
    bool value = call->values || call->steps->lengths;
    for (unsigned i = 0; i < call->key_count; i++) {
        struct lookup *lookup = &call->lookups[i];
        struct txn_value found;
        lookup->status = txn_get(txn, lookup->key, value, &found);
        if (lookup->status == OK) {
            // What is read stays in memory until the transaction is evaluated.
            if (found.value.size > request->reply_left) {
                return ERR_REPLY_SIZE;
            }
            request->reply_left -= found.value.size;
            lookup->record = (struct record){.version = found.own ? request->index : found.version,
                                             .length = (uint32_t)found.value.size,
                                             .held = true,
                                             .value = found.value};
        } else if (lookup->status != ERR_NOT_FOUND) {
            return lookup->status;
        }
    }
    return OK;
}

static int evaluate_call(struct request *request, struct call *call, struct txn *txn,
                         struct buf *to)
{
    const struct command_steps *steps = call->steps;
    if (call->answered) {
        buf_append_bytes(to, buf_bytes(&call->early));
        return OK;
    }
    if (steps->evaluate != NULL) {
        return steps->evaluate(request, call, txn, to);
    }
    if (steps->plan != NULL && !steps->aside) {
        int code = look_up(request, call, txn);
        if (code == OK) {
            steps->render(request, call, to);
        }
        return code;
    }
    reply_error(to, "ERR %s is not allowed in a transaction that writes", call->command->word);
    return OK;
}

static int watched_changed(struct request *request, struct txn *txn)
{
    request->conflict = false;
    for (unsigned i = 0; i < request->watched_count; i++) {
        struct txn_value found = {0};
        int code = txn_get(txn, request->watched[i].key, false, &found);
        if (code != OK && code != ERR_NOT_FOUND) {
            return code;
        }
        uint64_t version = code == OK ? found.version : 0;
        request->conflict = request->conflict || version != request->watched[i].version ||
                            request->at != request->watched[i].at;
    }
    return OK;
}

// Writer thread; possibly twice.
int request_evaluate(struct transaction *transaction, struct txn *txn)
{
    struct request *request = CONTAINER_OF(transaction, struct request, transaction);
    struct buf *to = &request->reply;
    buf_clear(to);
    request->reply_left = to->limit;
    int code = watched_changed(request, txn);
    if (code != OK) {
        return code;
    }
    if (request->conflict) {
        reply_nil_array(to, request->protocol);
        return OK;
    }
    if (request->exec) {
        reply_array(to, request->call_count);
    }
    for (unsigned i = 0; i < request->call_count && code == OK; i++) {
        code = evaluate_call(request, &request->calls[i], txn, to);
    }
    return code != OK ? code : to->error;
}

static void answer(struct request *request, int status)
{
    struct session *session = request->session;
    if (status == OK) {
        session->last_index = request->transaction.index;
        session->last_at = request->at;
        // It is written already; only its place in the order is to be found.
        request->out = &request->reply;
        request->out_start = 0;
    } else {
        buf_clear(&request->reply);
        reply_error_code(request_out(request), status);
    }
    request_finish(request);
}

static void committed(struct task *task)
{
    struct request *request = CONTAINER_OF(task, struct request, transaction.done);
    answer(request, request->transaction.status);
}

// A command that does not touch the data is answered now, by whoever has the connection.
uint64_t request_prepare(struct request *request)
{
    uint64_t bytes = sizeof *request;
    for (unsigned i = 0; i < request->call_count; i++) {
        struct call *call = &request->calls[i];
        const struct command_steps *steps = call->steps;
        for (unsigned w = 0; w < call->word_count; w++) {
            bytes += call->words[w].size + sizeof call->words[w];
        }
        if (call->answered) {
            bytes += call->early.size;
        } else if ((call->command->flags & COMMAND_LOCAL) != 0) {
            request_render(request, call, &call->early);
            call->answered = true;
        } else if (steps->check != NULL && !steps->check(request, call, &call->early)) {
            call->answered = true;
        }
    }
    return bytes;
}

int request_submit(struct request *request, struct loop *loop, uint64_t reply_limit)
{
    request_plan(request);
    request->reply.limit = reply_limit;
    request->transaction.loop = loop;
    return sequencer_submit(request->at->instance, &request->transaction);
}

void request_write(struct request *request)
{
    struct session *session = request->session;
    struct instance *instance = request->at->instance;
    request->writing = true;
    session->writes++;
    request->transaction.bytes = request_prepare(request);
    if (!request->exec && request->one.answered) {
        buf_append_bytes(request_out(request), buf_bytes(&request->one.early));
        request_finish(request);
        return;
    }
    if (instance->options->forward_writes && !instance_leads(instance)) {
        request_forward(request);
        return;
    }
    request->transaction.done.run = committed;
    request->transaction.evaluate = request_evaluate;
    int code = request_submit(request, session->home->loop,
                              session->daemon->config->node.reply_bytes);
    if (code != OK) {
        answer(request, code);
    }
}
