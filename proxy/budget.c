// SPDX-License-Identifier: Apache-2.0
#include "proxy/budget.h"

#define UNITS 1000000 // tokens a byte: one microsecond at one byte a second
#define FILL_US_MAX 10000000 // more time is as good as this, and cannot overflow
#define RATE_BYTES_MAX ((uint64_t)1 << 39)

void budget_open(struct budget *budget, uint64_t rate_bytes, uint64_t burst_bytes,
                 uint64_t requests_max, uint64_t bytes_max)
{
    CHECK(requests_max > 0 && bytes_max > 0);
    *budget = (struct budget){.rate_bytes = u64_min(rate_bytes, RATE_BYTES_MAX),
                              .burst_bytes = u64_min(burst_bytes, RATE_BYTES_MAX),
                              .requests_max = requests_max,
                              .bytes_max = bytes_max,
                              .hedge_percents = 100 * BUDGET_HEDGE_BURST};
    budget->tokens = (int64_t)(budget->burst_bytes * UNITS);
}

static void add_tokens(struct budget *budget, uint64_t tokens)
{
    int64_t full = (int64_t)(budget->burst_bytes * UNITS);
    int64_t sum = budget->tokens + (int64_t)tokens;
    budget->tokens = sum < full ? sum : full;
}

static void fill(struct budget *budget, uint64_t now_ns)
{
    uint64_t us = (now_ns - budget->filled_ns) / NS_PER_US;
    budget->filled_ns += us * NS_PER_US;
    add_tokens(budget, u64_min(us, FILL_US_MAX) * budget->rate_bytes);
}

uint64_t budget_room(struct budget *budget, uint64_t now_ns)
{
    if (budget->requests >= budget->requests_max || budget->bytes >= budget->bytes_max) {
        return 0;
    }
    uint64_t room = budget->bytes_max - budget->bytes;
    if (budget->rate_bytes == 0) {
        return room;
    }
    fill(budget, now_ns);
    return budget->tokens < UNITS ? 0 : u64_min(room, (uint64_t)budget->tokens / UNITS);
}

uint64_t budget_wait_ns(struct budget *budget, uint64_t now_ns)
{
    if (budget_room(budget, now_ns) > 0) {
        return 0;
    }
    if (budget->requests >= budget->requests_max || budget->bytes >= budget->bytes_max) {
        return UINT64_MAX;
    }
    uint64_t lacking = (uint64_t)(UNITS - budget->tokens);
    return (lacking / budget->rate_bytes + 1) * NS_PER_US;
}

void budget_owe(struct budget *budget, uint64_t bytes)
{
    if (budget->rate_bytes != 0) {
        budget->tokens -= (int64_t)(bytes * UNITS);
    }
}

void budget_take(struct budget *budget, uint64_t bytes)
{
    budget->requests++;
    budget->bytes += bytes;
    budget_owe(budget, bytes);
    budget->hedge_percents = (unsigned)u64_min(budget->hedge_percents + BUDGET_HEDGE_PERCENT,
                                               100 * BUDGET_HEDGE_BURST);
}

void budget_return(struct budget *budget, uint64_t bytes)
{
    CHECK(budget->requests > 0 && budget->bytes >= bytes);
    budget->requests--;
    budget->bytes -= bytes;
}

void budget_refund(struct budget *budget, uint64_t bytes)
{
    add_tokens(budget, bytes * UNITS);
}

bool budget_hedge(struct budget *budget)
{
    if (budget->hedge_percents < 100) {
        return false;
    }
    budget->hedge_percents -= 100;
    return true;
}
