// SPDX-License-Identifier: Apache-2.0
// What a command is: its row (common/tables/commands.h) and what it does. Each row's handler is a
// function command_<handler>, in one of the qs/command_*.c, that names the steps; the engine in
// qs/dispatch.c, qs/request_read.c and qs/request_write.c calls them. One command stands alone in
// a request or is one of many in an EXEC: the steps do not see the difference.
//
// All steps run on the session's loop, but `evaluate`, and `render` of a command inside a
// transaction that writes: those run on the instance's writer thread and touch nothing but the
// call, the transaction and the reply.
#ifndef QS_QS_COMMAND_H
#define QS_QS_COMMAND_H

#include "common/core/read.h"
#include "common/wire/resp.h"
#include "qs/daemon.h"
#include "qs/token.h"
#include "replica/sequencer.h"

enum command_flag {
    COMMAND_READ = 1,
    COMMAND_WRITE = 2,
    COMMAND_LOCAL = 4,
    COMMAND_INSTANCE = 8,
    COMMAND_NOMULTI = 16,
    COMMAND_IMMEDIATE = 32,
    COMMAND_LOADING = 64,
};

struct request;
struct call;

struct command_steps {
    // LOCAL and INSTANCE: answers at once. INSTANCE: request->view is pinned, unless the command
    // is allowed while loading.
    void (*answer)(struct request *request, struct call *call, struct buf *to);
    // LOCAL and INSTANCE commands that take time: begins, and ends in request_finish.
    void (*start)(struct request *request, struct call *call);
    // READ: true when it must not start before an index is visible, and how long it may wait for
    // that. Only where it stands alone.
    bool (*least)(struct call *call, struct token *ret_least, uint64_t *ret_ms);
    // READ: checks the words and says what is to be read (call_keys, call_range). False: the
    // answer, an error or one that needs no reading, is in `to`.
    bool (*plan)(struct request *request, struct call *call, struct buf *to);
    // READ: answers from what was read, at request->index.
    void (*render)(struct request *request, struct call *call, struct buf *to);
    // WRITE: checks the words. False: an error is in `to`.
    bool (*check)(struct request *request, struct call *call, struct buf *to);
    // WRITE, and INSTANCE inside a transaction that writes. What it returns refuses the whole
    // transaction; errors of the command itself are answers.
    int (*evaluate)(struct request *request, struct call *call, struct txn *txn, struct buf *to);
    bool indexed;            // render uses request->index and versions
    bool aside;              // READ: not of keys as they are: refused in a transaction that writes
    bool lengths;            // render uses lengths, of keys planned without values
    bool barrier;            // nothing behind it starts before it is answered
    bool alone;              // begins when all before it is answered
    bool streams;            // likewise, and ends with QUIT or RESET
    const char *multi_error; // its own words when it comes between MULTI and EXEC
};

struct command {
    const char *word; // upper case
    int arity;
    unsigned flags;
    const char *arguments, *summary;
    const struct command_steps *(*steps)(void);
};

// A range that a call has asked for.
struct call_range {
    struct range_read range;
    struct request *request;
};

// A key as of an earlier index, that a call has asked for.
struct call_past {
    struct read read;
    struct lookup lookup;
    struct request *request;
};

// A command with its words.
struct call {
    const struct command *command;
    const struct command_steps *steps;
    struct bytes *words;
    unsigned word_count;
    // What its plan asked for:
    unsigned key_first, key_count;
    bool values;
    struct lookup *lookups;   // key_count of them
    struct call_range *ranged; // instead of keys
    struct call_past *past;    // likewise
    // The answer, when it was known before the reading or writing.
    bool answered;
    struct buf early;
};

// Plans to read the words [first, first + count) as keys. False: one is no key, as `to` says.
bool call_keys(struct call *call, unsigned first, unsigned count, bool values, struct buf *to);

// Plans a range, to be filled in by the caller.
struct range_read *call_range(struct request *request, struct call *call) MUST_CHECK;

// Plans to read `key` as of index `at`.
void call_past(struct request *request, struct call *call, struct bytes key, uint64_t at);

// Reads an index or a token that the view must have reached. False: it is none, is of another
// history, or the view has not, as `to` says.
bool call_at(struct request *request, struct bytes word, uint64_t *ret_at, struct buf *to);

// False when the key's size is not allowed, as `to` says.
bool key_check(struct bytes key, struct buf *to);

// The first lookup that failed, other than by absence: answers its error. True = all are sound.
bool call_sound(const struct call *call, struct buf *to);

static inline struct bytes call_word(const struct call *call, unsigned i) { return call->words[i]; }

// Compares without regard to case, as all words of the protocol are.
bool word_is(struct bytes word, const char *text);

#define COMMAND(word, handler, arity, flags, arguments, summary)                                   \
    const struct command_steps *command_##handler(void);
#include "common/tables/commands.h"

#endif
