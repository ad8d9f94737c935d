// SPDX-License-Identifier: Apache-2.0
// The door that is memory which the daemon shares (common/shared/look.h): mapped once a handle has
// asked its socket some times, and anew when the daemon is another one or its filter has grown.
//
// Readers enter through gates, a counter on a cache line for each thread or a few, and never wait.
// Whoever exchanges the mapping shuts them and waits until nobody is inside; who comes meanwhile
// goes to the socket.
#ifndef QS_COMMON_CLIENT_MAPPED_H
#define QS_COMMON_CLIENT_MAPPED_H

#include "common/client/door.h"

struct qs;

// `stays`: goes on while there is no daemon. Closed by its own call.
struct door *mapped_open(struct qs *qs, bool stays) MUST_CHECK;

#endif
