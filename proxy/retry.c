// SPDX-License-Identifier: Apache-2.0
#include "proxy/retry.h"

void retry_asked(struct retry *retry, unsigned number)
{
    CHECK(number < 64);
    retry->tried |= (uint64_t)1 << number;
}

void retry_refused(struct retry *retry, enum fetch_status status)
{
    retry->refusals++;
    retry->never += status == FETCH_NEVER ? 1 : 0;
    retry->gone += status == FETCH_GONE ? 1 : 0;
}

void retry_forget(struct retry *retry, unsigned number)
{
    retry->tried &= ~((uint64_t)1 << number);
}

enum retry_verdict retry_judge(struct retry *retry, uint64_t askable, uint64_t connected)
{
    if ((askable & ~retry->tried) != 0) {
        return RETRY_NEXT;
    }
    enum retry_verdict verdict = RETRY_PAUSE;
    if (retry->refusals > 0 && (connected & ~retry->tried) == 0) {
        if (retry->never == retry->refusals) {
            verdict = RETRY_NEVER;
        } else if (retry->never + retry->gone == retry->refusals) {
            verdict = RETRY_GONE;
        }
    }
    *retry = (struct retry){0};
    return verdict;
}
