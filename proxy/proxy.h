// SPDX-License-Identifier: Apache-2.0
// The proxy's role: a row for every key (proxy/stub.c), values where they are held. A value that
// arrives with the log is held when it is no longer than keep_bytes; any other is fetched when
// first asked for (proxy/fetch.c), then held. The window (common/core/window.c) says what must not
// be evicted; values longer than keep_bytes are outside its promise.
//
// Applying reads nothing: the log says everything that a row needs. So what an entry replaced is
// not compared with the row here, as a replica does; that the rows are the log's is what the
// running digest says and a walk over the store proves.
#ifndef QS_PROXY_PROXY_H
#define QS_PROXY_PROXY_H

#include "common/core/role.h"
#include "common/core/window.h"

struct fetcher;

// instance->role_state.
struct proxy {
    struct window window; // applier thread
    bool window_begun;
    struct fetcher *fetcher;
};

// Immutable.
const struct role *proxy_role(void) MUST_CHECK;

#endif
