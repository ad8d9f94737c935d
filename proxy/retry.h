// SPDX-License-Identifier: Apache-2.0
// When to stop asking for a value. Replicas are numbered; a round asks each one at most once. What
// a round of refusals means: all never had it = the histories differ; all have it no more = gone;
// anything else may change, so after a pause another round begins. Pure.
#ifndef QS_PROXY_RETRY_H
#define QS_PROXY_RETRY_H

#include "common/wire/message.h"

struct retry {
    uint64_t tried; // bit per replica: asked in this round
    unsigned refusals;
    unsigned never;
    unsigned gone;
};

enum retry_verdict { RETRY_NEXT, RETRY_PAUSE, RETRY_GONE, RETRY_NEVER };

// Replica `number` is being asked.
void retry_asked(struct retry *retry, unsigned number);

// One did not give the value: `status` is its answer, FETCH_ERROR when there was none or a bad one.
void retry_refused(struct retry *retry, enum fetch_status status);

// `number` is another replica from now on, which has not been asked.
void retry_forget(struct retry *retry, unsigned number);

// What to do, when nobody is being asked: given who may be asked, and who is connected. One that is
// connected but must not be asked (it is in quarantine) might have the value, so the round says
// nothing final. Unless RETRY_NEXT, a new round has begun.
enum retry_verdict retry_judge(struct retry *retry, uint64_t askable, uint64_t connected);

#endif
