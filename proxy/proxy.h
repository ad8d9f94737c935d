// SPDX-License-Identifier: Apache-2.0
// The proxy's role: a row for every key (proxy/stub.c), values where they are held. A value that
// arrives with the log is held when it is no longer than keep_bytes and the hard limit of space is
// not passed; any other is fetched when first asked for (proxy/fetch.c), then held. Values leave
// when space is short: proxy/evict.h says which may, proxy/hand.h makes it happen. The window
// (common/core/window.c) says what must not be evicted: it moves over a block whose values are not
// kept for want of space; values longer than keep_bytes are outside its promise.
//
// Applying reads nothing: the log says everything that a row needs. So what an entry replaced is
// not compared with the row here, as a replica does; that the rows are the log's is what the
// running digest says and a walk over the store proves.
#ifndef QS_PROXY_PROXY_H
#define QS_PROXY_PROXY_H

#include "common/base/task.h"
#include "common/core/role.h"
#include "common/core/window.h"

struct fetcher;
struct recency;
struct evict;
struct hand;

// instance->role_state.
struct proxy {
    struct instance *instance;
    struct window window; // applier thread
    bool window_begun;
    struct fetcher *fetcher;
    struct recency *recency; // of what was read
    struct recency *missed;  // of what was fetched: whether a value is worth its place (fill.c)
    struct evict *evict;
    struct hand *hand;
    _Atomic unsigned halvings; // of the window's bytes
    struct task tighten;
    _Atomic bool tightening;   // the task is on its way
};

// Immutable.
const struct role *proxy_role(void) MUST_CHECK;

// The period that rows written now are stamped with. Any thread.
uint16_t proxy_period(const struct instance *instance);

// Space is short: W rises now as far as the window allows, whose bytes are halved so many times (0
// again: as configured); over the hard limit W rises to what every replica at hand can give again,
// too. A view shows it soon. Any one thread.
void proxy_tighten(struct instance *instance, unsigned halvings);

#endif
