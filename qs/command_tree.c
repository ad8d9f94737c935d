// SPDX-License-Identifier: Apache-2.0
// QS.TREE: this node's place at once; QS.TREE ALL, a barrier that waits for a picture of the whole.
#include "qs/dispatch.h"
#include "qs/status.h"

static void reply_tree(struct request *request, const struct picture *picture, struct buf *to)
{
    struct buf text = {0};
    status_tree_json(request->at, picture, &text);
    reply_bulk(to, buf_bytes(&text));
    buf_free(&text);
}

// Waits for a picture. Freed when nobody can call it any more, as in command_wait.c.
struct tree_wait {
    struct request *request;
    struct picture_waiter waiter;
};

static void tree_answer(struct tree_wait *wait)
{
    struct request *request = wait->request;
    reply_tree(request, wait->waiter.picture, request_out(request));
    request->wait = NULL;
    request->cancel = NULL;
    picture_release(wait->waiter.picture);
    mem_free(wait);
    request_finish(request);
}

static void tree_over(struct task *task)
{
    tree_answer(CONTAINER_OF(task, struct tree_wait, waiter.task));
}

// When it cannot be cancelled, its task is on the way and answers.
static void tree_cancel(struct request *request)
{
    struct tree_wait *wait = request->wait;
    if (picture_cancel(request->at->instance->desk, &wait->waiter)) {
        tree_answer(wait);
    }
}

static void start_qs_tree(struct request *request, struct call *call)
{
    if (call->word_count == 2 && word_is(call_word(call, 1), "ALL")) {
        struct tree_wait *wait = mem_zalloc(sizeof *wait);
        wait->request = request;
        wait->waiter.mailbox = loop_mailbox(request->session->home->loop);
        wait->waiter.task.run = tree_over;
        request->wait = wait;
        request->cancel = tree_cancel;
        picture_want(request->at->instance->desk, &wait->waiter, PICTURE_PATIENCE_NS);
        return;
    }
    struct buf *to = request_out(request);
    if (call->word_count == 1) {
        reply_tree(request, NULL, to);
    } else {
        reply_error(to, "ERR syntax error");
    }
    request_finish(request);
}

static void answer_qs_tree(struct request *request, struct call *call, struct buf *to)
{
    if (call->word_count == 1) {
        reply_tree(request, NULL, to);
    } else {
        reply_error(to, "ERR QS.TREE ALL may take its time and is not allowed in a transaction");
    }
}

const struct command_steps *command_qs_tree(void)
{
    static const struct command_steps steps = {
        .start = start_qs_tree, .answer = answer_qs_tree, .barrier = true};
    return &steps;
}
