// SPDX-License-Identifier: Apache-2.0
// From words to a command: the row, the checks that Redis makes before it runs a command, in its
// order and with its words, and the start. Loop thread.
#ifndef QS_QS_DISPATCH_H
#define QS_QS_DISPATCH_H

#include "qs/session.h"

// The row of a command; NULL when there is none. Any thread.
const struct command *command_find(struct bytes word);
// All rows, for COMMAND.
const struct command *command_row(unsigned i); // i < command_count()
unsigned command_count(void);

// The name in lower case, as Redis's messages have it.
#define COMMAND_NAME_BYTES 40
void command_name(const struct command *command, char to[COMMAND_NAME_BYTES]);
bool command_arity_fits(const struct command *command, unsigned word_count);
// "wrong number of arguments for ..."; `subcommand` may be NULL.
void reply_arity(struct buf *to, const struct command *command, const char *subcommand);

// True when the command must see every write before it on its connection.
bool dispatch_quiet(const struct session *session, const struct command *command);

// True when the command starts only once everything before it is answered.
bool dispatch_alone(const struct session *session, const struct command *command);

// Starts a request. `words` live during the call.
void dispatch(struct session *session, const struct command *command, const struct bytes *words,
              unsigned word_count);

// Copies words into an arena.
struct bytes *words_copy(struct arena *arena, const struct bytes *words, unsigned word_count);

#endif
