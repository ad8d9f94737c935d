// SPDX-License-Identifier: Apache-2.0
// A question that Consul is asked again and again: by blocking queries, which are answered when
// something has changed, or at an interval. The rules that make the first kind safe are here: an
// index that goes back begins anew, one of an agent's former life is not waited for, one that is
// missing does not make a busy loop, at most one question a second, and never all nodes at once.
// An answer may come without a change, so whoever looks at it compares. The finder's thread.
//
// Source: https://developer.hashicorp.com/consul/api-docs/features/blocking
#ifndef QS_COMMON_DISCOVERY_INQUIRY_H
#define QS_COMMON_DISCOVERY_INQUIRY_H

#include "common/discovery/consul.h"

#define INQUIRY_WAIT_MS 60000  // how long Consul may wait for a change
#define INQUIRY_LEAST_MS 1000  // between an answer and the next question
#define INQUIRY_FAILED_MS 4000 // ... after the fourth failure in a row, before jitter
#define INQUIRY_DENIED_MS 30000 // ... when the token does not allow it

struct inquiry {
    char *path; // owned
    uint64_t every_ms; // 0 = a blocking query
    void (*answered)(struct inquiry *inquiry, const struct consul_answer *answer);
    struct consul_call call;
    uint64_t index;    // 0 = does not wait for a change
    unsigned life;     // of the agent, that gave the index
    unsigned failures; // in a row
    uint64_t next_ns;
};

// The first question is due at once. Takes `path` over.
void inquiry_open(struct inquiry *inquiry, char *path, uint64_t every_ms,
                  void (*answered)(struct inquiry *inquiry, const struct consul_answer *answer));
void inquiry_close(struct inquiry *inquiry);

// Asks when it is time. Returns when to call again at the latest; UINT64_MAX while an answer is
// awaited.
uint64_t inquiry_turn(struct inquiry *inquiry, struct consul *consul, uint64_t now_ns);

// The index to ask with next, once `got` came in answer to `asked`; 0 = do not wait for a change.
uint64_t inquiry_index(uint64_t asked, uint64_t got);

// Pause after the n-th failure in a row, before jitter.
uint64_t inquiry_pause_ms(unsigned failures);

#endif
