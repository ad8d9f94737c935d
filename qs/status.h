// SPDX-License-Identifier: Apache-2.0
// The state of daemon and instances as JSON and as text, for INFO, QS.TREE, HTTP and `qs status`.
// Any thread.
#ifndef QS_QS_STATUS_H
#define QS_QS_STATUS_H

#include "common/tree/picture.h"
#include "qs/daemon.h"

void status_refresh(struct daemon *daemon);                     // sets the gauges
void status_json(struct daemon *daemon, struct buf *to);        // whole daemon, one JSON object
// This node's place; and, given a picture, the whole tree.
void status_tree_json(struct daemon_instance *instance, const struct picture *picture,
                      struct buf *to);
void status_info(struct daemon *daemon, struct daemon_instance *selected, struct bytes section,
                 struct buf *to); // INFO text, Redis's layout

#endif
