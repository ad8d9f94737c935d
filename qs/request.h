// SPDX-License-Identifier: Apache-2.0
// A request: one command of a connection, or one EXEC with all its commands, from its start until
// its answer has left. It belongs to its session's loop and stays allocated until everything that
// it has under way (a read, a transaction, a wait) has come back, even when the connection is long
// gone. While its transaction is at the sequencer, calls and reply belong to the writer thread.
#ifndef QS_QS_REQUEST_H
#define QS_QS_REQUEST_H

#include "qs/command.h"

struct session;
struct client_loop;

// A key of WATCH, and what version it had.
struct watched {
    const struct daemon_instance *at; // EXEC on another instance than this fails
    struct bytes key;
    uint64_t version; // 0 = absent
};

enum request_read { READ_FACTS, READ_VALUES, REQUEST_READS };

#define REQUEST_FEW_LOOKUPS 4
#define REQUEST_FEW_WORDS 8
#define REQUEST_FEW_BYTES 256

struct request {
    struct list node; // in session->requests, in the order of arrival
    struct session *session; // NULL: a write that another node sent (qs/forwarded.c)
    struct daemon_instance *at; // NULL when none is selected
    int protocol;
    bool done;     // answered; the answer may have to wait for those before
    bool closes;   // the connection ends behind its answer
    bool exec;     // its calls are answered as an array
    bool barrier;  // counted in session->barriers
    bool writing;  // counted in session->writes
    bool conflict; // a watched key has changed
    unsigned cost; // counted in session->cost
    struct call one;
    struct call *calls; // &one, or an array from mem_alloc
    unsigned call_count;
    struct view *view; // pinned
    uint64_t index;    // what `render` calls the index
    struct read reads[REQUEST_READS];
    unsigned reads_pending;
    unsigned call_next;   // calls before this one have what they read by themselves
    uint64_t reply_left;  // of reply_bytes
    struct watched *watched; // from mem_alloc; keys in `watched_keys`
    unsigned watched_count;
    struct arena watched_keys;
    struct transaction transaction;
    void (*cancel)(struct request *request); // gives up waiting, as soon as possible
    void (*turn)(struct request *request);   // it is the first, and the stream takes more
    void *wait;                              // what it waits with, of the command's own
    struct arena arena;
    struct buf *out;  // where the answer is written
    size_t out_start;
    // From here on memory is kept for the next request.
    struct buf reply;
    struct lookup few_lookups[REQUEST_FEW_LOOKUPS];
    struct bytes few_words[REQUEST_FEW_WORDS];
    uint8_t few_bytes[REQUEST_FEW_BYTES];
};

// A request at the end of the session's queue.
struct request *request_new(struct session *session) MUST_CHECK;
// Out of the queue and back to the loop's pool.
void request_free(struct request *request);
void request_free_spare(struct client_loop *loop);

// Where the answer goes: the connection's out buffer when it is this request's turn, else a buffer
// of its own. The whole answer is written, and request_finish called, before anything else runs.
struct buf *request_out(struct request *request) MUST_CHECK;
// The answer is written: the request and, if it was the last of a closed connection, the session
// may be gone after this.
void request_finish(struct request *request);

// Answers an error into `to`; behind ERR_FORKED's the connection ends.
void request_refuse(struct request *request, int code, struct buf *to);
// Pins the instance's view. False: the error was answered into `to`.
bool request_pin(struct request *request, struct buf *to);
// Reads a word that is an index or a token of the history that the request sees: of its view, or
// of the newest one before it has any. False: it is none, as `to` says.
bool request_token(struct request *request, struct bytes word, uint64_t *ret_index,
                   struct buf *to) MUST_CHECK;

// Plans all READ calls and lays out their lookups.
void request_plan(struct request *request);

// Runs the calls at one view, then answers and finishes. qs/request_read.c
void request_read(struct request *request);
// Goes on by `reached` once `least` is visible, at index `visible`; answers `-BEHIND` when it is
// not within `ms`, and `-HISTORY` as soon as it never will be. qs/request_await.c
void request_await(struct request *request, const struct token *least, uint64_t ms,
                   void (*reached)(struct request *request, uint64_t visible));
// Has this connection sent on a write that is not shown here yet? Then as request_await, for
// commit_wait; else false.
bool request_await_own(struct request *request,
                       void (*reached)(struct request *request, uint64_t visible)) MUST_CHECK;
// Runs the calls as one transaction, here or, by forward_writes, where the leader is, then answers
// and finishes. qs/request_write.c
void request_write(struct request *request);
// Reads the calls' words: what can be said of one without the data is answered in its `early`.
// Returns the bytes that the transaction holds in memory.
uint64_t request_prepare(struct request *request) MUST_CHECK;
// Finds out which keys the calls read, once they are prepared, and gives the whole to the
// sequencer; its `done` runs on `loop`. `reply_limit`: bytes.
int request_submit(struct request *request, struct loop *loop, uint64_t reply_limit) MUST_CHECK;
// The transaction's `evaluate`: the answer is in request->reply.
int request_evaluate(struct transaction *transaction, struct txn *txn);
// Sends the calls on to the parent, once they are prepared. qs/request_forward.c
void request_forward(struct request *request);

// Memory for `count` lookups, all zero.
struct lookup *request_lookups(struct request *request, unsigned count) MUST_CHECK;

// Writes the answer of one call that was not answered early, from what was read.
void request_render(struct request *request, struct call *call, struct buf *to);

#endif
