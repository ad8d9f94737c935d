// SPDX-License-Identifier: Apache-2.0
#include "proxy/retry.h"

int retry_choose(const struct retry *retry, uint64_t usable, unsigned after)
{
    CHECK(after < RETRY_SOURCES_MAX);
    uint64_t left = usable & ~retry->tried;
    if (left == 0) {
        return -1;
    }
    uint64_t later = after == RETRY_SOURCES_MAX - 1 ? 0 : left & (UINT64_MAX << (after + 1));
    return __builtin_ctzll(later != 0 ? later : left);
}

void retry_asked(struct retry *retry, unsigned number)
{
    CHECK(number < RETRY_SOURCES_MAX);
    retry->tried |= (uint64_t)1 << number;
}

enum retry_verdict retry_refused(struct retry *retry, enum fetch_status status, uint64_t usable)
{
    retry->refusals++;
    retry->never += status == FETCH_NEVER ? 1 : 0;
    retry->gone += status == FETCH_GONE ? 1 : 0;
    if ((usable & ~retry->tried) != 0) {
        return RETRY_NEXT;
    }
    enum retry_verdict verdict = RETRY_PAUSE;
    if (retry->never == retry->refusals) {
        verdict = RETRY_NEVER;
    } else if (retry->never + retry->gone == retry->refusals) {
        verdict = RETRY_GONE;
    }
    *retry = (struct retry){0};
    return verdict;
}
