// SPDX-License-Identifier: Apache-2.0
// What a proxy may ask of its replicas, so that a cold one cannot crush them: bytes a second (a
// token bucket), requests and bytes in flight, and hedges as a share of all requests. The last
// value asked for may exceed what is left by its own size: so a value of any size can be asked for,
// and a bucket in debt waits until it is paid. Pure.
#ifndef QS_PROXY_BUDGET_H
#define QS_PROXY_BUDGET_H

#include "common/base/base.h"

// Of a hundred requests at most this many are asked of a second replica too, on the average.
#define BUDGET_HEDGE_PERCENT 5
// ... and this many in a row.
#define BUDGET_HEDGE_BURST 10

struct budget {
    uint64_t rate_bytes;   // a second; 0 = no limit
    uint64_t burst_bytes;
    uint64_t requests_max; // in flight
    uint64_t bytes_max;    // in flight
    int64_t tokens;        // millionths of a byte; negative = debt
    uint64_t filled_ns;
    uint64_t requests, bytes; // in flight
    unsigned hedge_percents;  // saved up; 100 = one hedge
};

void budget_open(struct budget *budget, uint64_t rate_bytes, uint64_t burst_bytes,
                 uint64_t requests_max, uint64_t bytes_max);

// How many bytes may be asked for now; 0 = nothing.
uint64_t budget_room(struct budget *budget, uint64_t now_ns);

// After how long there is room again if nothing is answered meanwhile: 0 = there is some,
// UINT64_MAX = an answer must come first.
uint64_t budget_wait_ns(struct budget *budget, uint64_t now_ns);

// A request for `bytes` is sent, while there is room; it is over; some of its values did not come.
void budget_take(struct budget *budget, uint64_t bytes);
void budget_return(struct budget *budget, uint64_t bytes);
void budget_refund(struct budget *budget, uint64_t bytes);
// More came than it was taken to be: that much is owed.
void budget_owe(struct budget *budget, uint64_t bytes);

// True: a hedge may be sent, and is paid for.
bool budget_hedge(struct budget *budget);

#endif
