// SPDX-License-Identifier: Apache-2.0
// What ties the finder to a daemon: with a section consul { } in the configuration its instances
// are registered, and the lists that no configuration names come from Consul into their feeds.
#ifndef QS_QS_DISCOVER_H
#define QS_QS_DISCOVER_H

#include "common/base/error.h"

struct daemon;
struct discover;

// Leaves *ret_discover NULL when there is no consul { }. After the instances and the peers' door
// are open; closed before they are.
int discover_open(struct discover **ret_discover, struct daemon *daemon) MUST_CHECK;
void discover_close(struct discover *discover);

#endif
