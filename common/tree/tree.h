// SPDX-License-Identifier: Apache-2.0
// The tree as the rest of qs sees it: a node's own place (beats), its upstream (follow), its
// children (fanout), and the door for other nodes (peers).
//   beat.c    newest heartbeats, age of data
//   link.c    one peer connection: frames in and out, raw blocks, ping, silence
//   follow.c  child side: finds a parent among the configured ones, takes its blocks
//   fanout.c  parent side: feeds children from the journal by cursor
//   donor.c   gives snapshots to nodes that build their store
//   census.c  what the nodes below have said of themselves
//   pages.c   the whole tree, told page by page: picture.c, ask.c
//   forward.c writes on their way to the root that leads
//   regain.c  what the only root lost, from a child that has it
//   peers.c   listens, reads the hello, hands the connection to fanout or to the answerer
#ifndef QS_COMMON_TREE_TREE_H
#define QS_COMMON_TREE_TREE_H

#include "common/core/instance.h"
#include "common/wire/message.h"

struct link;

// ---- beats -------------------------------------------------------------------------------------
// The heartbeats of an instance that still matter, and what follows from them. Any thread.

#define BEAT_PATH_MAX 1024
#define WAY_AT_ROOT_NS 1 // as good as none, and not "not known"

struct beat {
    uint8_t history[HISTORY_ID_BYTES];
    uint64_t epoch, commit_index, block, root_ms, delay_ns, sequence;
    uint64_t held_ns; // of the delay: at the parent
    uint64_t way_ns;  // from the root to here, without what it waited anywhere; 0 = not known
    struct hash128 chain, digest;
    char path[BEAT_PATH_MAX]; // node names separated by a zero byte, root first
    size_t path_size;
    uint64_t received_ns; // monotonic here
};

// Raised after each new heartbeat.
struct beats_subscriber {
    struct list node;
    struct notice *notice;
};

struct beats *beats_open(void) MUST_CHECK;
void beats_close(struct beats *beats);
// The one that arrives last is the newest (a node has one parent, whose beats come in order). One
// with the same sequence, relayed again, replaces it; one of another history replaces all.
void beats_add(struct beats *beats, const struct beat *beat);
bool beats_newest(struct beats *beats, struct beat *ret_beat);
// Age of the data of a node whose visible index is `visible`: of all beats that it covers the least
// delay so far plus the time since. UINT64_MAX when none is covered yet. Never too low; too high
// only when many beats wait to be covered. `history` is that of what it shows, NULL while that is
// nothing: beats of another one say nothing about it.
uint64_t beats_age_ns(struct beats *beats, const uint8_t *history, uint64_t visible,
                      uint64_t now_ns);
void beats_subscribe(struct beats *beats, struct beats_subscriber *subscriber);
// After it returns the notice is not raised again.
void beats_unsubscribe(struct beats *beats, struct beats_subscriber *subscriber);

// Is `node` among the names of a path?
bool path_passed(struct bytes path, const char *node);
// Message to beat and back. The decoded delay and way count the hop's half round trip,
// `half_rtt_ns`; the encoded delay the time that the beat has been here, and the path this node's
// name. ERR_PROTOCOL: a field of an impossible size, or a path too long to be passed on.
int beat_decode(struct beat *ret_beat, struct bytes payload, uint64_t half_rtt_ns,
                uint64_t now_ns) MUST_CHECK;
int beat_encode(struct buf *to, const struct beat *beat, const char *node,
                uint64_t now_ns) MUST_CHECK;

// Age of an instance's data in nanoseconds, UINT64_MAX when unknown: 0 at a root, but for one of
// several that does not hear from the others (lead_doubt_ns). Any thread.
uint64_t instance_age_ns(struct instance *instance);

// ---- follow ------------------------------------------------------------------------------------

struct upstream_status {
    bool connected;
    char address[128], node[NODE_NAME_MAX + 1];
    char site[ENDPOINT_SITE_MAX + 1]; // this node's own, "" = not known
    char state[256];    // words: "following", "connecting", "too old: ...", "diverged at 12: ..."
    uint64_t rtt_ns, since_ns, received_index;
};

// Starts following instance->options->parents on its home loop: any thread, also before the loops
// run. ERR_CONFIG: a parent's address is not valid (logged). follow_close may be called from any
// thread while the home loop runs; `closed` is raised when no link is left and everything is freed.
int follow_open(struct instance *instance) MUST_CHECK;
void follow_close(struct instance *instance, struct notice *closed);
void follow_status(struct instance *instance, struct upstream_status *ret_status); // any thread
// Is that the data centre of this node, as it is configured or Consul says? Any thread.
bool follow_is_own_site(struct instance *instance, struct bytes site);

// ---- fanout ------------------------------------------------------------------------------------

struct child_status {
    char address[128], node[NODE_NAME_MAX + 1];
    int role;
    uint64_t received, synced, visible, age_ns, rtt_ns, sent_bytes, since_ns;
    uint64_t heard_ns; // when it last said how far it is
    uint64_t room;     // so many more it would feed; UINT64_MAX: no limit
};

struct fanout;

struct fanout *fanout_open(struct instance *instance) MUST_CHECK;
void fanout_close(struct fanout *fanout); // after instance_close; every child link must be gone
// How many direct children have reported `index` as synced. Any thread.
unsigned fanout_synced(struct fanout *fanout, uint64_t index);
// Copies up to `max` children; returns how many there are. Any thread.
size_t fanout_status(struct fanout *fanout, struct child_status *to, size_t max);
// For those who wait for fanout_synced: raised whenever a child reports another synced index or
// leaves. Any thread; after fanout_unsubscribe returns it is not raised again.
struct fanout_subscriber {
    struct list node;
    struct notice *notice;
};
void fanout_subscribe(struct fanout *fanout, struct fanout_subscriber *subscriber);
void fanout_unsubscribe(struct fanout *fanout, struct fanout_subscriber *subscriber);
// Answers a hello that asked to follow, or how that would be answered (peers.c has checked cluster,
// protocol, digest and names): takes the link over and feeds it, or ends it with an answer that
// says why not. False: refused. On the link's loop.
bool fanout_accept(struct fanout *fanout, struct link *link, const struct message_hello *hello);

struct readers;

// The permits of this node, whatever the instance; lives as long as the loops.
struct donor_site {
    struct readers *readers;
    uint64_t limit;         // repair_max
    _Atomic uint64_t given;
};

// Answers a hello that asked for a snapshot: takes the link over and gives slices (donor.c). NULL;
// or why it cannot be, and the link is left to the caller. On the link's loop.
const char *donor_accept(struct fanout *fanout, struct donor_site *site, struct link *link,
                         const struct message_hello *hello);

// ---- peers -------------------------------------------------------------------------------------

struct peers;

struct peers_setup {
    const struct node_options *node;
    struct node_metrics *metrics;
    struct loop *const *loops; // accepted connections are spread over these
    unsigned loop_count;
    struct readers *readers; // for snapshots; NULL: none are given
    void *owner;
    // The fanout of the instance with this name, NULL when unknown or not serving peers.
    struct fanout *(*find)(void *owner, struct bytes name);
    // Takes over a link whose hello asked to fetch (welcome not yet sent); false = not possible
    // here (this instance holds no values): refused. On the link's loop.
    bool (*answer)(void *owner, struct link *link, const struct message_hello *hello);
    // Takes over a link between roots, likewise. NULL; or why not.
    const char *(*talk)(void *owner, struct link *link, const struct message_hello *hello);
};

// Listens on node->peer. *ret_reason says what is wrong with the address.
int peers_open(struct peers **ret_peers, const struct peers_setup *setup,
               const char **ret_reason) MUST_CHECK;
// The address that it listens on, with the port that was chosen (ADDRESS_TEXT_BYTES).
void peers_address(const struct peers *peers, char *to);
// Closes the listener and every link that is left; `closed` is raised when all are gone. Any
// thread, while the loops run.
void peers_close(struct peers *peers, struct notice *closed);
// After `closed`; or when the loops have never run.
void peers_free(struct peers *peers);

#endif
