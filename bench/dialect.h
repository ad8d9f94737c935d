// SPDX-License-Identifier: Apache-2.0
// What servers are asked, and the very bytes of the only right answer: so answers are compared, not
// parsed, and the client costs the same for every server. RESP2 (qs, Redis) and memcached's
// classic text protocol. Any thread.
#ifndef QS_BENCH_DIALECT_H
#define QS_BENCH_DIALECT_H

#include "common/base/buf.h"

enum dialect { DIALECT_RESP, DIALECT_MEMCACHED };

// Append a request to `to`.
void dialect_get(enum dialect dialect, struct buf *to, struct bytes key);
void dialect_set(enum dialect dialect, struct buf *to, struct bytes key, struct bytes value);

// Append the right answer.
void dialect_found(enum dialect dialect, struct buf *to, struct bytes key, struct bytes value);
void dialect_absent(enum dialect dialect, struct buf *to);
void dialect_stored(enum dialect dialect, struct buf *to);

#endif
