// SPDX-License-Identifier: Apache-2.0
// A proxy's connection to one replica: connects, shakes hands, sends fetch messages, matches the
// answers, and connects again after a pause when it was lost. A replica that refuses (another
// cluster or history) is not used, logged once, and tried again seldom; one that has no history yet
// is tried again as one that is not there.
// The home loop's, but for the status fields.
#ifndef QS_PROXY_SOURCE_H
#define QS_PROXY_SOURCE_H

#include <stdatomic.h>

#include "common/base/log.h"
#include "common/core/instance.h"
#include "common/discovery/endpoints.h"
#include "common/tree/link.h"
#include "common/wire/fetch_items.h"
#include "proxy/flight.h"

struct source_request {
    struct list node;
    uint64_t id;
    uint64_t sent_ns;
    uint64_t hedge_ns; // when another replica shall be asked too; the owner's, as what follows
    uint64_t bytes;    // of what was asked for
    bool hedge;        // asks for what another was asked for first
    bool late;         // its flights have been given to others
    unsigned count;
    struct flight *flights[FETCH_ITEMS_MAX]; // NULL where nobody waits any more
};

struct source;

struct source_ops {
    // It may be asked; its journal ends at `index`, as far as others may know.
    void (*on_ready)(struct source *source, uint64_t index);
    // `answers` has one item for each flight of the request, which is freed afterwards; `visible`
    // and `floor` are the replica's at that time.
    void (*on_answers)(struct source *source, struct source_request *request,
                       const struct message_fetched *message, const struct fetch_answer *answers);
    // The link went with this request unanswered; it is freed afterwards.
    void (*on_unanswered)(struct source *source, struct source_request *request);
    // Any other message of one that is ready; what it returns is as in link_ops. NULL: refused.
    int (*on_message)(struct source *source, uint16_t code, struct bytes payload);
    // The link is gone, whether it `was_ready` or not; after source_close it is the last call.
    void (*on_lost)(struct source *source, bool was_ready);
};

enum source_state {
    SOURCE_WAITING = 0, // for the timer
    SOURCE_CONNECTING,  // up to the welcome
    SOURCE_READY,
    SOURCE_LEAVING, // its link is closing
    SOURCE_CLOSED,
};

struct source {
    struct instance *instance;
    const struct source_ops *ops;
    void *owner;
    unsigned number;
    char text[ADDRESS_TEXT_BYTES]; // its address, as listed
    struct address address;
    bool listed;       // the owner's: it is in the list in force
    struct link link;
    struct timer timer; // next attempt; while connecting: the limit on that
    struct list requests;
    uint64_t next_id;
    unsigned failures; // since it was last of use
    uint64_t ready_ns;
    bool welcomed;     // this link
    uint8_t history[HISTORY_ID_BYTES]; // ... was greeted with it; what it answers is of it
    _Atomic bool refused; // the last time it was asked; read by any thread
    bool refusal_logged, closing;
    struct log_gate ready_gate, lost_gate;
    _Atomic int state;          // enum source_state; read by any thread
    _Atomic unsigned in_flight; // requests; read by any thread
    _Atomic uint64_t rtt_ns;
};

// Fills in a closed one; then source_start connects. The home loop.
void source_open(struct source *source, struct instance *instance, unsigned number,
                 const struct endpoint *endpoint, const struct source_ops *ops, void *owner);
void source_start(struct source *source);

// Ends it: on_unanswered for what is under way, then on_lost, maybe before this returns; then it
// may be opened again, for another replica.
void source_close(struct source *source);

static inline enum source_state source_state(const struct source *source)
{
    return (enum source_state)atomic_load(&source->state);
}

// Sends a request for `flights` (their slots are set), and lends it. Only while ready.
struct source_request *source_ask(struct source *source, struct flight *const *flights,
                                  unsigned count);

// Is its link of another history than the one that is shown now? Then it answers nothing any more.
bool source_is_outdated(const struct source *source);

// Leaves this replica for a moment: it misbehaved or does not answer.
void source_leave(struct source *source, int error, const char *reason);

#endif
