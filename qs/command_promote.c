// SPDX-License-Identifier: Apache-2.0
// QS.PROMOTE: a person wants this root to lead. It is asked, and answers at once: what comes of it
// takes a while, and stands in QS.TREE. Who accepts a loss says of which instance.
#include "common/chair/chair.h"
#include "qs/dispatch.h"

// NULL: it may be asked.
static const char *refusal(const struct request *request, const struct call *call)
{
    bool plain = call->word_count == 1;
    if (!plain && (call->word_count != 3 || !word_is(call->words[1], "ACCEPT-LOSS"))) {
        return "ERR syntax error";
    }
    if (!plain && !bytes_equal_text(call->words[2], request->at->instance->name)) {
        return "ERR this is another instance than the one whose loss is to be accepted";
    }
    return request->at->chair == NULL
               ? "ERR this node is none of several roots that ask Consul who leads"
               : NULL;
}

static void answer_qs_promote(struct request *request, struct call *call, struct buf *to)
{
    const char *refused = refusal(request, call);
    if (refused != NULL) {
        reply_error(to, "%s", refused);
        return;
    }
    if (call->word_count > 1) {
        chair_accept_loss(request->at->chair);
    } else {
        chair_promote(request->at->chair);
    }
    reply_simple(to, "OK");
}

const struct command_steps *command_qs_promote(void)
{
    static const struct command_steps steps = {.answer = answer_qs_promote};
    return &steps;
}
