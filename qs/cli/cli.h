// SPDX-License-Identifier: Apache-2.0
// qs, the command line tool: one process, one connection, one command; single-threaded. Commands
// are rows of a table in main.c; each gets a `struct cli` with its words and, when the row says so,
// a connection on which the instance is selected already. What goes wrong is said on standard
// error where it happens, and only the exit code is handed back.
#ifndef QS_QS_CLI_CLI_H
#define QS_QS_CLI_CLI_H

#include <hiredis/hiredis.h>

#include "common/base/buf.h"

enum exit_code {
    EXIT_FOUND = 0,  // found, or done
    EXIT_ABSENT = 1, // not there, or not there in time
    EXIT_USAGE = 2,
    EXIT_ERROR = 3,
};

struct cli {
    const char *socket; // path, or NULL: host and port
    const char *host;
    int port;
    const char *instance; // NULL = whatever the address serves
    bool json;
    const char *command;
    char **words; // behind the command's name; options are taken out as they are read
    int count;
    int plain_from; // words from here on stood behind "--": they are no options
    redisContext *redis;
};

// ---- main.c: words ----------------------------------------------------------------------------

// Takes out option `name` (with its value, for the second); false / NULL when it is not there.
bool cli_flag(struct cli *cli, const char *name);
const char *cli_option(struct cli *cli, const char *name);
// A number given to option `name`, else `initial`; false: no such number, usage was printed.
bool cli_number(struct cli *cli, const char *name, uint64_t initial,
                uint64_t *ret_number) MUST_CHECK;
// Call after all options were read: false when a word that looks like an option is left, or the
// number of words does not fit; usage was printed.
bool cli_words_fit(struct cli *cli, int least, int most) MUST_CHECK;
// Prints what is wrong and how the command is used.
int cli_usage(struct cli *cli, const char *format, ...) PRINTF_LIKE(2, 3);

// ---- connect.c --------------------------------------------------------------------------------

// Connects and selects the instance. False: said why.
bool cli_connect(struct cli *cli) MUST_CHECK;

// Sends one command of `count` words and waits for its reply, which the caller frees
// (freeReplyObject). NULL after an error reply or a lost connection: said why.
redisReply *cli_call(struct cli *cli, size_t count, const struct bytes *words) MUST_CHECK;
// The same, but an error reply is handed back too.
redisReply *cli_call_any(struct cli *cli, size_t count, const struct bytes *words) MUST_CHECK;
// Connects and calls; the reply is a text. NULL: said why.
redisReply *cli_call_text(struct cli *cli, size_t count, const struct bytes *words) MUST_CHECK;
void cli_say_reply_error(const redisReply *reply);
void cli_error(const char *format, ...) PRINTF_LIKE(1, 2);

// ---- output.c ---------------------------------------------------------------------------------

// Writes `text` to standard output and empties it. False: it cannot be written (said so).
bool cli_print(struct buf *text) MUST_CHECK;
// Prints, frees and hands back `code`, or EXIT_ERROR.
int cli_finish(struct buf *text, int code) MUST_CHECK;
struct bytes reply_bytes(const redisReply *reply); // of a string; empty for nil
void append_count(struct buf *to, uint64_t number); // 1,234,567

// ---- commands: functions of the rows ----------------------------------------------------------

int run_get(struct cli *cli);
int run_put(struct cli *cli);
int run_del(struct cli *cli);
int run_mget(struct cli *cli);
int run_range(struct cli *cli);
int run_export(struct cli *cli);
int run_import(struct cli *cli);
int run_index(struct cli *cli);
int run_wait(struct cli *cli);
int run_digest(struct cli *cli);
int run_status(struct cli *cli);
int run_tree(struct cli *cli);
int run_promote(struct cli *cli);
int run_watch(struct cli *cli);

#endif
