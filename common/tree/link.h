// SPDX-License-Identifier: Apache-2.0
// One connection between two nodes: frames with typed messages, stretches of raw journal bytes
// announced by `blocks` or `patch`, pings both ways, and a limit on silence. What the messages mean
// is the owner's business: fanout, follow, the proxy's fetcher, the replica's answerer.
//
// Invariants: between an announcement and its last raw byte nothing else is written; until the
// handshake is accepted frames must be small, no ping is sent, and it must not take longer than the
// limit on silence; after link_close or link_dismiss nothing but on_close is called. Loop thread
// only.
#ifndef QS_COMMON_TREE_LINK_H
#define QS_COMMON_TREE_LINK_H

#include "common/io/stream.h"
#include "common/wire/message.h"

struct link;

// Largest payload before the handshake is accepted.
#define LINK_GREETING_MAX (16 * KIB)
// What may wait in the out buffer before small talk (pings, heartbeats, progress) is left out.
#define LINK_PENDING_MAX (64 * KIB)

struct link_ops {
    // A message other than ping, pong, goodbye, blocks and patch. A negative error closes the link
    // with a goodbye.
    int (*on_message)(struct link *link, uint16_t code, struct bytes payload);
    // Raw bytes after `blocks` (link->raw_block is 0) or `patch` (the block's number), in pieces.
    // NULL: both are refused.
    int (*on_raw)(struct link *link, struct bytes data);
    // The socket takes more: feed it (link_send_file, messages). May be NULL.
    void (*on_drained)(struct link *link);
    // Of a link opened as connecting, at the end of the turn: say hello (it leaves as soon as the
    // connection is up). May be NULL for accepted ones.
    void (*on_connected)(struct link *link);
    // Last call: OK after link_close(OK), ERR_CLOSED when the other side ended (its words, if it
    // said any, are in link->last_words), else what went wrong. The memory is the owner's again: an
    // adopted link is freed by mem_free.
    void (*on_close)(struct link *link, int error);
};

struct link {
    struct stream stream;
    const struct link_ops *ops;
    void *owner;             // set it after link_open
    const char *scope;       // for the log; likewise
    char address[128];       // of the other side, for people; a connecting owner sets it
    uint64_t raw_left;       // of the announced stretch being received
    uint64_t raw_block;      // 0: part of the stream of blocks; else the number of this patch
    uint64_t raw_out_left;   // of the announced stretch being sent
    size_t payload_max;
    uint64_t opened_ns;
    uint64_t heard_ns;       // last byte
    uint64_t paused_ns;      // when receiving last stood still
    uint64_t rtt_ns;         // smoothed, 0 = not known yet
    uint64_t ping_every_ns, silence_ns;
    uint64_t due_ns;         // when the timer should ring
    uint64_t pong_ns;        // owed once the raw stretch is out; 0 = none
    struct timer timer;
    struct task hello_task;
    bool connecting;         // nothing was heard yet
    bool trusted;            // the handshake was accepted
    bool ending;             // closed or dismissed here
    bool closed_by_peer;
    int error;               // what on_close will say; OK: what the stream says
    char last_words[192];    // of the other side's goodbye, printable
    // Whoever accepted the link and counts it: told just before on_close, even after another owner
    // has adopted it. May be NULL.
    void (*on_end)(struct link *link);
    void *keeper;
};

// Takes over a connected or connecting socket. All fields are set anew.
void link_open(struct link *link, struct loop *loop, int fd, bool connecting,
               uint64_t ping_every_ns, uint64_t silence_ns, const struct link_ops *ops);
// After the handshake of an accepted link: the new owner and its ops. The link is trusted from now
// on (a connecting one is after the first message that its owner accepted): frames may be large,
// pings flow.
void link_adopt(struct link *link, const struct link_ops *ops, void *owner);

// Where to encode a message: message_x_encode(link_out(link), &x); then link_wrote(link). Never
// inside a raw stretch.
struct buf *link_out(struct link *link);
void link_wrote(struct link *link);
// May something optional be written now? Not inside a raw stretch, not to a side that reads
// nothing.
bool link_may_talk(const struct link *link);

// Announces `size` raw bytes of the stream, or the whole block `number`; they follow by
// link_send_file and link_send_raw, and nothing else is written before they are out.
void link_announce(struct link *link, uint64_t size);
void link_announce_patch(struct link *link, uint64_t number, uint64_t size);
// As stream_send_file.
ssize_t link_send_file(struct link *link, int fd, off_t *offset, size_t size) MUST_CHECK;
void link_send_raw(struct link *link, struct bytes data);

// Stops and restarts receiving; the time between counts neither as silence nor as way.
void link_pause(struct link *link);
void link_resume(struct link *link);

// Says goodbye with an error and words (unless a raw stretch is half out), sends what is pending,
// closes. link_finish does the same without a goodbye; link_close closes now.
void link_dismiss(struct link *link, int error, const char *reason);
void link_finish(struct link *link, int error);
void link_close(struct link *link, int error);

// A text of the configuration, which may be unset.
struct bytes link_text(const char *text);
// Copies text of another node for logs and people: bounded, what does not print becomes '?'.
void link_words(char *to, size_t size, struct bytes text);
// A node's or an instance's name as configuration allows them: [A-Za-z0-9._-], bounded.
bool link_name_valid(struct bytes name, size_t limit);

#endif
