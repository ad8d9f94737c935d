// SPDX-License-Identifier: Apache-2.0
// qs's own commands that answer at once: QS.INDEX QS.DIGEST QS.TREE.
// What they call the index is the view's, or, in a transaction that writes, the transaction's.
#include "qs/dispatch.h"
#include "qs/status.h"
#include "qs/token.h"

// ---- QS.INDEX ----------------------------------------------------------------------------------

// The visible index, or, inside a transaction that writes, the transaction's.
static void reply_index(struct request *request, struct call *call, uint64_t index, struct buf *to)
{
    if (call->word_count == 1) {
        reply_integer(to, (int64_t)index);
    } else if (call->word_count == 2 && word_is(call_word(call, 1), "TOKEN")) {
        if (!journal_has_history(request->at->instance->journal)) {
            reply_error_code(to, ERR_LOADING); // an empty node that no parent has answered yet
            return;
        }
        char text[TOKEN_BYTES];
        token_text(request->at->instance, index, text);
        reply_bulk(to, bytes_text(text));
    } else {
        reply_error(to, "ERR syntax error");
    }
}

static void answer_qs_index(struct request *request, struct call *call, struct buf *to)
{
    reply_index(request, call, request->index, to);
}

static int evaluate_qs_index(struct request *request, struct call *call, struct txn *txn,
                             struct buf *to)
{
    reply_index(request, call, txn_index(txn), to);
    return OK;
}

const struct command_steps *command_qs_index(void)
{
    static const struct command_steps steps = {.answer = answer_qs_index,
                                               .evaluate = evaluate_qs_index};
    return &steps;
}

// ---- QS.DIGEST, QS.TREE ------------------------------------------------------------------------

static void answer_qs_digest(struct request *request, struct call *call, struct buf *to)
{
    if (call->word_count > 1) {
        reply_error(to, "ERR syntax error");
        return;
    }
    char text[HASH128_TEXT_BYTES];
    hash128_text(request->view->digest.sum, text);
    reply_array(to, 2);
    reply_integer(to, (int64_t)request->index);
    reply_bulk(to, bytes_text(text));
}

const struct command_steps *command_qs_digest(void)
{
    static const struct command_steps steps = {.answer = answer_qs_digest};
    return &steps;
}

static void answer_qs_tree(struct request *request, struct call *call, struct buf *to)
{
    if (call->word_count > 1) {
        reply_error(to, "ERR syntax error");
        return;
    }
    struct buf text = {0};
    status_tree_json(request->at, &text);
    reply_bulk(to, buf_bytes(&text));
    buf_free(&text);
}

const struct command_steps *command_qs_tree(void)
{
    static const struct command_steps steps = {.answer = answer_qs_tree};
    return &steps;
}
