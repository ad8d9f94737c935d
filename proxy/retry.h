// SPDX-License-Identifier: Apache-2.0
// Which replica is asked next for a value, and when to stop asking. Replicas are numbered; a round
// asks each usable one at most once. What a round of refusals means: all never had it = the
// histories differ; all have it no more = gone; anything else may change, so after a pause
// another round begins. Pure.
#ifndef QS_PROXY_RETRY_H
#define QS_PROXY_RETRY_H

#include "common/wire/message.h"

#define RETRY_SOURCES_MAX 64

struct retry {
    uint64_t tried; // bit per replica: asked in this round
    unsigned refusals;
    unsigned never;
    unsigned gone;
};

enum retry_verdict { RETRY_NEXT, RETRY_PAUSE, RETRY_GONE, RETRY_NEVER };

// The first of `usable` that was not tried, cyclically after number `after`; -1 when there is none.
int retry_choose(const struct retry *retry, uint64_t usable, unsigned after);

// Replica `number` is being asked.
void retry_asked(struct retry *retry, unsigned number);

// It did not give the value: `status` is its answer, FETCH_ERROR when there was none or a bad one.
// What to do, given which replicas could be asked now; on RETRY_PAUSE a new round has begun.
enum retry_verdict retry_refused(struct retry *retry, enum fetch_status status, uint64_t usable);

#endif
