// SPDX-License-Identifier: Apache-2.0
// Consul's HTTP API: calls to one agent, several under way at once. A call is embedded in whoever
// asks, and answered once. Everything here is for one thread, but for consul_wake; nothing blocks
// but consul_wait.
//
// An agent is trusted with nothing but time and space that are bounded here: each call ends at its
// limit of time, and an answer beyond CONSUL_ANSWER_MAX is refused. What it says is for the caller
// to judge. The token is read from its file, and again whenever that changes.
#ifndef QS_COMMON_DISCOVERY_CONSUL_H
#define QS_COMMON_DISCOVERY_CONSUL_H

#include <poll.h>

#include "common/base/buf.h"
#include "common/base/metrics.h"
#include "common/base/options.h"

#define CONSUL_ANSWER_MAX (16 * MIB)
#define CONSUL_TIMEOUT_MS 5000 // of a call that does not wait for a change
#define CONSUL_WAIT_MAX 16     // descriptors beside those of the calls

struct consul;

// Lives during the callback only.
struct consul_answer {
    int error;          // OK: a status of 2xx. ERR_TIMEOUT, ERR_REPLY_SIZE, ERR_REFUSED (another
                        // status), ERR_IO
    unsigned status;    // HTTP's; 0 = there was no answer
    uint64_t index;     // X-Consul-Index, 0 = none
    bool leader;        // false: Consul says it knows no leader, so this may be old
    struct bytes body;
    const char *reason; // of an error, for people
};

struct consul_call {
    void (*answered)(struct consul_call *call, const struct consul_answer *answer);
    // Private.
    struct consul *consul;
    void *easy; // NULL = not under way
    void *headers;
    struct buf sent, body;
    uint64_t index;
    bool leaderless, oversize;
};

// *ret_reason: static memory.
int consul_open(struct consul **ret_consul, const struct consul_options *options,
                struct node_metrics *metrics, const char **ret_reason) MUST_CHECK;
void consul_close(struct consul *consul); // calls under way are not answered any more

// Asks; `call->answered` comes in a later consul_wait. `path` begins with /v1/ and is escaped where
// it must be.
void consul_get(struct consul *consul, struct consul_call *call, const char *path,
                unsigned timeout_ms);
void consul_put(struct consul *consul, struct consul_call *call, const char *path,
                struct bytes body, unsigned timeout_ms);
static inline bool consul_busy(const struct consul_call *call) { return call->easy != NULL; }
void consul_cancel(struct consul_call *call); // it is not answered any more

// Waits for calls, for `others` (their revents are set), for consul_wake, or for the time; gives
// the answers that have come.
void consul_wait(struct consul *consul, struct pollfd *others, unsigned other_count,
                 unsigned timeout_ms);
void consul_wake(struct consul *consul); // any thread

// The agent's life: another one once it has lost what it knew. Its indexes begin again then, so
// that one of an earlier life may be waited for in vain.
unsigned consul_life(const struct consul *consul);
void consul_begin_life(struct consul *consul);

#endif
