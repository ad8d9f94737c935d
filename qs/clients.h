// SPDX-License-Identifier: Apache-2.0
// All client connections (RESP) of a daemon: listeners, limits, spreading over the loops. The
// sessions themselves are in qs/session.c, the commands in qs/command_*.c.
#ifndef QS_QS_CLIENTS_H
#define QS_QS_CLIENTS_H

#include "qs/daemon.h"

// Listens on every `client` address. On failure *ret_reason (from mem_alloc) names the address
// and what is wrong.
int clients_open(struct clients **ret_clients, struct daemon *daemon, char **ret_reason) MUST_CHECK;
// Closes listeners and connections; `closed` is raised when all are gone; then clients_free.
void clients_close(struct clients *clients, struct notice *closed);
void clients_free(struct clients *clients);

#endif
