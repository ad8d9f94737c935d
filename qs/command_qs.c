// SPDX-License-Identifier: Apache-2.0
// qs's own commands that answer at once: QS.INDEX QS.DIGEST; and QS.DIGEST SCAN, a barrier that
// waits for a walk.
// What they call the index is the view's, or, in a transaction that writes, the transaction's.
#include "qs/dispatch.h"

// ---- QS.INDEX ----------------------------------------------------------------------------------

// The visible index, or, inside a transaction that writes, the transaction's.
static void reply_index(struct call *call, const uint8_t *history, uint64_t index, struct buf *to)
{
    if (call->word_count == 1) {
        reply_integer(to, (int64_t)index);
    } else if (call->word_count == 2 && word_is(call_word(call, 1), "TOKEN")) {
        char text[TOKEN_BYTES];
        token_text(history, index, text);
        reply_bulk(to, bytes_text(text));
    } else {
        reply_error(to, "ERR syntax error");
    }
}

static void answer_qs_index(struct request *request, struct call *call, struct buf *to)
{
    if (call->word_count > 1 && request->view->place.number == 0) {
        reply_error_code(to, ERR_LOADING); // an empty node that no parent has answered yet
    } else {
        reply_index(call, request->view->history, request->index, to);
    }
}

static int evaluate_qs_index(struct request *request, struct call *call, struct txn *txn,
                             struct buf *to)
{
    // The journal of a root never begins anew.
    const uint8_t *history = journal_history(request->at->instance->journal);
    reply_index(call, history, txn_index(txn), to);
    return OK;
}

const struct command_steps *command_qs_index(void)
{
    static const struct command_steps steps = {.answer = answer_qs_index,
                                               .evaluate = evaluate_qs_index};
    return &steps;
}

// ---- QS.DIGEST ---------------------------------------------------------------------------------

static void reply_digest(uint64_t index, const struct digest *digest, struct buf *to)
{
    char text[HASH128_TEXT_BYTES];
    hash128_text(digest->sum, text);
    reply_array(to, 2);
    reply_integer(to, (int64_t)index);
    reply_bulk(to, bytes_text(text));
}

static void answer_qs_digest(struct request *request, struct call *call, struct buf *to)
{
    if (call->word_count == 1) {
        reply_digest(request->index, &request->view->digest, to);
    } else if (call->word_count == 2 && word_is(call_word(call, 1), "SCAN")) {
        reply_error(to, "ERR QS.DIGEST SCAN takes its time and is not allowed in a transaction");
    } else {
        reply_error(to, "ERR syntax error");
    }
}

// Waits for a walk through the store. Freed when nobody can call it any more, as in command_wait.c.
struct walk_wait {
    struct request *request;
    struct walk_waiter waiter;
};

static void reply_walked(const struct walk_waiter *waiter, struct buf *to)
{
    switch (waiter->error) {
    case OK:
        reply_digest(waiter->index, &waiter->digest, to);
        break;
    case ERR_DIVERGED:
        reply_error(to, "DIVERGED the store is not what the log says at index %llu, see the log",
                    (unsigned long long)waiter->index);
        break;
    case ERR_CORRUPT:
        reply_error(to, "CORRUPT a row of the store failed its check, see the log");
        break;
    default:
        reply_error(to, "ERR the walk through the store was not finished: %s",
                    error_text(waiter->error));
        break;
    }
}

static void walk_answer(struct walk_wait *wait)
{
    struct request *request = wait->request;
    reply_walked(&wait->waiter, request_out(request));
    request->wait = NULL;
    request->cancel = NULL;
    mem_free(wait);
    request_finish(request);
}

static void walk_over(struct task *task)
{
    walk_answer(CONTAINER_OF(task, struct walk_wait, waiter.task));
}

// When it cannot be cancelled, its task is on the way and answers.
static void walk_cancel(struct request *request)
{
    struct walk_wait *wait = request->wait;
    if (instance_walk_cancel(request->at->instance, &wait->waiter)) {
        wait->waiter.error = ERR_STOPPED;
        walk_answer(wait);
    }
}

static void walk_wait_start(struct request *request)
{
    struct walk_wait *wait = mem_zalloc(sizeof *wait);
    wait->request = request;
    wait->waiter.loop = request->session->home->loop;
    wait->waiter.task.run = walk_over;
    request->wait = wait;
    request->cancel = walk_cancel;
    instance_walk(request->at->instance, &wait->waiter);
}

static void start_qs_digest(struct request *request, struct call *call)
{
    struct buf none = {0};
    if (!request_pin(request, &none)) {
        buf_append_bytes(request_out(request), buf_bytes(&none));
    } else if (call->word_count == 2 && word_is(call_word(call, 1), "SCAN")) {
        view_release(request->view); // a walk looks at many
        request->view = NULL;
        walk_wait_start(request);
        return;
    } else {
        answer_qs_digest(request, call, request_out(request));
    }
    buf_free(&none);
    request_finish(request);
}

const struct command_steps *command_qs_digest(void)
{
    static const struct command_steps steps = {
        .start = start_qs_digest, .answer = answer_qs_digest, .barrier = true};
    return &steps;
}
