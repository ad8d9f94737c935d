// SPDX-License-Identifier: Apache-2.0
// Writes that other nodes sent to the root that leads: each is one transaction at its sequencer, as
// if a client of its own had asked for it.
#ifndef QS_QS_FORWARDED_H
#define QS_QS_FORWARDED_H

#include "common/tree/forward.h"
#include "qs/daemon.h"

// Carries out what comes for this instance from now on, as long as it leads.
void forwarded_open(struct daemon_instance *at);

#endif
