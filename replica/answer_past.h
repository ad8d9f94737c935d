// SPDX-License-Identifier: Apache-2.0
// A replica's answers to what proxies ask as of an earlier index: single keys, and pages of a
// range. Reader thread; pure but for the store.
#ifndef QS_REPLICA_ANSWER_PAST_H
#define QS_REPLICA_ANSWER_PAST_H

#include "common/core/instance.h"
#include "common/wire/message.h"
#include "common/wire/past_items.h"

struct past_question {
    uint64_t at;
    struct bytes keys;       // sound items (past_keys_check); empty: a range is asked for
    struct bytes start, end; // [start, end), an empty end = no bound
    uint64_t limit;          // of rows
    // The answer:
    enum fetch_status status;
    struct buf items; // rows
    struct buf next;  // where the range goes on, empty = that was all
    unsigned served;  // values
};

// Answers from `view`, NULL while loading. Errors other than those with a status of their own are
// FETCH_ERROR, and returned for the log.
int past_answer(const struct instance *instance, const struct view *view,
                struct past_question *question) MUST_CHECK;

void past_question_free(struct past_question *question);

#endif
