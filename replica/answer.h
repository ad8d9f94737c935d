// SPDX-License-Identifier: Apache-2.0
// A replica's side of a fetch: a proxy names (key, version) and gets exactly that version's value,
// or is told why not. Each request is answered from the newest view, on the loop where memory
// has all that it asks for, else whole on a reader thread. It never answers with another version:
// what a proxy at an earlier index asks for is found in the history.
//
// Bounded: a link whose requests under way, or whose unsent answers, reach a limit is not read
// until they are fewer. Its link may close with requests under way; the loop does not end before
// they have.
#ifndef QS_REPLICA_ANSWER_H
#define QS_REPLICA_ANSWER_H

#include "common/core/instance.h"
#include "common/core/readers.h"
#include "common/tree/link.h"
#include "common/wire/fetch_items.h"
#include "replica/mvcc.h"

// Takes over (and frees) a link whose hello has the purpose FETCH, on the link's loop, and answers
// the hello. A proxy of another cluster or history is answered `refused` with the reason and the
// link closes by itself: it is taken over then too. Always true.
bool answer_accept(struct instance *instance, struct readers *readers, struct link *link,
                   const struct message_hello *hello);

// The answer to one ask at `view`. `tier` STORE_CACHED: only what memory holds; ERR_INCOMPLETE
// says that more is needed. On OK *ret_status is set, and for FETCH_EXACT *ret_found holds the
// record until mvcc_release. Any thread.
int answer_ask(const struct instance *instance, const struct view *view, enum store_tier tier,
               const struct fetch_ask *ask, enum fetch_status *ret_status,
               struct mvcc_finding *ret_found) MUST_CHECK;

#endif
