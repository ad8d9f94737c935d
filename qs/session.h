// SPDX-License-Identifier: Apache-2.0
// A client's connection: a stream, a parser, and a queue of requests in the order of their
// arrival. Commands are started in order, each after the one before is resolved, and answers leave
// in order:
// - a read is resolved when it starts: it pins the view and is answered from it alone. So many
//   reads may be under way at once.
// - a write is resolved when it is sequenced, and writes of one connection keep their order on the
//   way there: so they do not wait for each other. A read behind a write starts once that write is
//   answered, which is when it is published.
// - a barrier (WAIT, QS.WAITINDEX, WATCH) holds everything behind it.
// - a stream (QS.WATCH) starts once everything before it is answered, and then has the connection
//   for itself: other commands are refused, but for QUIT and RESET, which end it.
// What may not start yet stays unparsed in the stream. All on the session's loop.
#ifndef QS_QS_SESSION_H
#define QS_QS_SESSION_H

#include "common/io/stream.h"
#include "qs/clients_private.h"
#include "qs/request.h"

// What is between MULTI and EXEC.
struct multi {
    bool active;
    bool dirty;  // a command was refused: EXEC will be, too
    bool writes; // holds a WRITE
    bool views;  // holds something that is answered from a view
    struct call *calls; // from mem_alloc
    unsigned count, capacity;
    uint64_t bytes;
    struct arena arena;
};

#define CLIENT_NAME_MAX 256
// Reads of one connection under way at once, in keys; a range, or more keys than this, counts as
// this many. It bounds the values that wait in memory for one connection.
#define SESSION_COST_MAX 64u

// What a connection has seen of an instance.
struct seen {
    unsigned forks;      // 1 + the forks of the first view that was pinned, 0 = none
    struct token newest; // of its writes that were sent on: nothing older is shown to it any more
};

struct session {
    struct list node;     // in its client_loop's sessions
    struct list all_node; // in clients->all, under clients->lock
    struct stream stream;
    struct client_loop *home;
    struct clients *clients;
    struct daemon *daemon;
    uint64_t id;
    struct daemon_instance *first;    // what a fresh or reset connection has selected
    struct resp_parser parser;
    struct list requests;
    unsigned request_count;
    unsigned writes;   // at the sequencer
    unsigned barriers; // started, not answered
    unsigned cost;     // of reads under way
    size_t held_bytes; // answers that wait for those before
    bool blocked;      // the next command may not start yet
    bool blocked_quiet; // ... because it must see the writes before it
    bool blocked_alone; // ... because it must be the only one
    struct request *streaming; // has the connection for itself
    bool full;         // pipeline_max or output_bytes is reached
    bool ended;        // nothing more is parsed; closes behind the last answer
    bool finishing;    // the client sent its last byte: closes once all is answered
    bool gone;         // the stream is closed; only waits for what is under way
    unsigned holds;    // keeps the session while its queue is walked
    struct multi multi;
    struct watched *watched; // from mem_alloc
    unsigned watched_count, watched_capacity;
    struct arena watched_keys;
    struct seen *seen; // one for each instance
    uint64_t last_index; // of this connection's last write
    struct daemon_instance *last_at;
    struct timer idle;
    uint64_t active_ns;
    uint64_t opened_ns;
    // Read by CLIENT LIST from other loops: changed under clients->lock.
    struct daemon_instance *selected; // NULL = none
    int protocol;
    char name[CLIENT_NAME_MAX + 1];
    int fd;
    char *address, *local_address;
};

// Takes over an accepted descriptor. `first` is what it has selected, or NULL.
void session_open(struct client_loop *home, int fd, struct daemon_instance *first);
void session_close(struct session *session); // now; what is under way is waited for

// Pins the newest view of `at`. Whatever one connection sees of an instance is of one history, that
// of the first view it pinned: ERR_FORKED, and it shall end; ERR_LOADING: there is no view yet.
int session_view(struct session *session, struct daemon_instance *at,
                 struct view **ret_view) MUST_CHECK;
// As session_view. ERR_BEHIND: it does not show yet what this connection wrote at another node.
int session_pin(struct session *session, struct daemon_instance *at,
                struct view **ret_view) MUST_CHECK;
// A write that was sent on has been answered: it is of this index, or an earlier one.
void session_wrote(struct session *session, struct daemon_instance *at,
                   const uint8_t history[HISTORY_ID_BYTES], uint64_t index);
// Is one of them not shown here yet? Then which is the newest.
bool session_owes(const struct session *session, const struct daemon_instance *at,
                  struct token *ret_newest);
// Would it be ERR_FORKED?
bool session_forked(const struct session *session, const struct daemon_instance *at);

// Sends finished answers that have their turn, and goes on reading where that was held up.
void session_settle(struct session *session);
// Frees a closed session that nothing is under way for.
void session_free_if_idle(struct session *session);

// True when the next command may start; `quiet`: only once all writes before are answered.
bool session_ready(const struct session *session, bool quiet);

// MULTI's and WATCH's memory. qs/command_transaction.c
void multi_clear(struct multi *multi);
void session_unwatch(struct session *session);
void multi_queue(struct session *session, const struct command *command, const struct bytes *words,
                 unsigned word_count, struct buf *to);

// One line of CLIENT INFO and CLIENT LIST. Under clients->lock.
void session_describe(const struct session *session, struct buf *to);
void session_set(struct session *session, struct daemon_instance *selected, int protocol);
// Sets the client's name. False: not a name.
bool session_set_name(struct session *session, struct bytes name);

#endif
