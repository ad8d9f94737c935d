// SPDX-License-Identifier: Apache-2.0
// The HTTP door, on a thread of its own (libmicrohttpd): /metrics, /healthz, /readyz, /api/status,
// /api/tree. Handlers read snapshots; a scrape never stalls a reader.
#ifndef QS_QS_HTTP_H
#define QS_QS_HTTP_H

#include "qs/daemon.h"

// Does nothing (NULL) when no admin address is configured.
int http_open(struct http **ret_http, struct daemon *daemon, const char **ret_reason) MUST_CHECK;
void http_close(struct http *http);

#endif
