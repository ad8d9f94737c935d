// SPDX-License-Identifier: Apache-2.0
// QS.PROMOTE: a person wants this root to lead. It is asked, and answers at once: what comes of it
// takes a while, and stands in QS.TREE.
#include "common/chair/chair.h"
#include "qs/dispatch.h"

static void answer_qs_promote(struct request *request, struct call *call, struct buf *to)
{
    (void)call;
    if (request->at->chair == NULL) {
        reply_error(to, "ERR this node is none of several roots that ask Consul who leads");
        return;
    }
    chair_promote(request->at->chair);
    reply_simple(to, "OK");
}

const struct command_steps *command_qs_promote(void)
{
    static const struct command_steps steps = {.answer = answer_qs_promote};
    return &steps;
}
