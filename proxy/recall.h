// SPDX-License-Identifier: Apache-2.0
// A proxy's reads as of an earlier index: it has no history, so what its rows do not say is passed
// whole to a replica with floor <= index <= visible, and checked as it comes. A state of the past
// does not change: so a read may go on at another replica where one has ended. One replica after
// the other is asked, in rounds, until the deadline `fetch`. All say gone: ERR_GONE, at once. At
// the deadline: ERR_BEHIND when the last round heard that from some and gone from the others, else
// ERR_UNAVAILABLE. More than fetch_max reads at once: ERR_BUSY.
//
// recall_read and recall_range come from any loop; everything else is on the instance's home loop.
#ifndef QS_PROXY_RECALL_H
#define QS_PROXY_RECALL_H

#include "common/core/read.h"
#include "common/io/loop.h"

struct fetcher;
struct source;

struct recalls {
    struct list calls; // struct recall_call
    struct list busy;  // those that there was no room for
    uint64_t count;
    uint64_t next_id;
    struct timer timer; // runs while there are calls
};

void recalls_open(struct recalls *recalls);

// The role's `past` and `past_range`.
void recall_read(struct instance *instance, struct read *read);
void recall_range(struct instance *instance, struct range_read *range);

// For the fetcher: a message that may be an answer (as in source_ops); a replica's link is gone;
// the fetcher closes.
int recall_message(struct fetcher *fetcher, struct source *source, uint16_t code,
                   struct bytes payload) MUST_CHECK;
void recall_serve(struct fetcher *fetcher); // a replica may be less busy
void recall_lost(struct fetcher *fetcher, struct source *source);
// Replica `number` is another one from now on.
void recall_forget(struct fetcher *fetcher, unsigned number);
void recall_close(struct fetcher *fetcher);

#endif
