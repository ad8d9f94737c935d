// SPDX-License-Identifier: Apache-2.0
// Commands about the daemon: COMMAND CONFIG INFO DBSIZE. What they say is derived from the tables
// and from qs/status.h. Loop thread.
#include "qs/dispatch.h"
#include "qs/status.h"

// ---- COMMAND -----------------------------------------------------------------------------------

static void row_flags(const struct command *command, struct buf *to)
{
    static const struct {
        unsigned flag;
        const char *word;
    } words[] = {{COMMAND_READ, "readonly"}, {COMMAND_WRITE, "write"}, {COMMAND_LOADING, "loading"},
                 {COMMAND_NOMULTI, "no_multi"}, {COMMAND_LOCAL, "fast"}};
    unsigned count = 0;
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        count += (command->flags & words[i].flag) != 0 ? 1 : 0;
    }
    reply_array(to, count);
    for (size_t i = 0; i < ARRAY_LEN(words); i++) {
        if ((command->flags & words[i].flag) != 0) {
            reply_simple(to, words[i].word);
        }
    }
}

// Where the keys stand, which clients that spread keys over servers ask for: first, last, step.
static void row_keys(const struct command *command, struct buf *to)
{
    bool data = (command->flags & (COMMAND_READ | COMMAND_WRITE)) != 0;
    bool key = data && strncmp(command->arguments, "key", 3) == 0;
    bool many = key && strstr(command->arguments, "...") != NULL;
    bool pairs = key && strcmp(command->arguments, "key value ...") == 0;
    reply_integer(to, key ? 1 : 0);
    reply_integer(to, many ? -1 : key ? 1 : 0);
    reply_integer(to, pairs ? 2 : key ? 1 : 0);
}

static void reply_row(const struct command *command, struct buf *to)
{
    char name[COMMAND_NAME_BYTES];
    command_name(command, name);
    reply_array(to, 10);
    reply_bulk(to, bytes_text(name));
    reply_integer(to, command->arity);
    row_flags(command, to);
    row_keys(command, to);
    for (int i = 0; i < 4; i++) {
        reply_array(to, 0); // categories, tips, key specifications, subcommands
    }
}

static void reply_docs(const struct command *command, int protocol, struct buf *to)
{
    char name[COMMAND_NAME_BYTES];
    command_name(command, name);
    bool ours = strncmp(name, "qs.", 3) == 0;
    reply_bulk(to, bytes_text(name));
    reply_map(to, 3, protocol);
    reply_bulk(to, bytes_text("summary"));
    reply_bulk(to, bytes_text(command->summary));
    reply_bulk(to, bytes_text("since"));
    reply_bulk(to, bytes_text(ours ? "0.1.0" : "1.0.0"));
    reply_bulk(to, bytes_text("group"));
    reply_bulk(to, bytes_text(ours ? "qs" : "generic"));
}

static void command_docs(struct request *request, struct call *call, struct buf *to)
{
    if (call->word_count == 2) {
        reply_map(to, command_count(), request->protocol);
        for (unsigned i = 0; i < command_count(); i++) {
            reply_docs(command_row(i), request->protocol, to);
        }
        return;
    }
    unsigned known = 0;
    for (unsigned i = 2; i < call->word_count; i++) {
        known += command_find(call_word(call, i)) != NULL ? 1 : 0;
    }
    reply_map(to, known, request->protocol);
    for (unsigned i = 2; i < call->word_count; i++) {
        const struct command *row = command_find(call_word(call, i));
        if (row != NULL) {
            reply_docs(row, request->protocol, to);
        }
    }
}

static void command_rows(struct buf *to)
{
    reply_array(to, command_count());
    for (unsigned i = 0; i < command_count(); i++) {
        reply_row(command_row(i), to);
    }
}

static void command_details(struct request *request, struct call *call, struct buf *to)
{
    if (call->word_count == 2) {
        command_rows(to);
        return;
    }
    reply_array(to, call->word_count - 2);
    for (unsigned i = 2; i < call->word_count; i++) {
        const struct command *row = command_find(call_word(call, i));
        if (row != NULL) {
            reply_row(row, to);
        } else {
            reply_nil_array(to, request->protocol);
        }
    }
}

static void command_list(struct call *call, struct buf *to)
{
    if (call->word_count > 2) {
        reply_error(to, "ERR syntax error");
        return;
    }
    reply_array(to, command_count());
    for (unsigned i = 0; i < command_count(); i++) {
        char name[COMMAND_NAME_BYTES];
        command_name(command_row(i), name);
        reply_bulk(to, bytes_text(name));
    }
}

static void reply_subcommand(struct buf *to, struct bytes word, const char *command)
{
    reply_error(to, "ERR unknown subcommand '%.*s'. Try %s HELP.", (int)u64_min(word.size, 128),
                (const char *)word.data, command);
}

static void answer_command(struct request *request, struct call *call, struct buf *to)
{
    if (call->word_count == 1) {
        command_rows(to);
    } else if (word_is(call_word(call, 1), "COUNT")) {
        reply_integer(to, command_count());
    } else if (word_is(call_word(call, 1), "DOCS")) {
        command_docs(request, call, to);
    } else if (word_is(call_word(call, 1), "INFO")) {
        command_details(request, call, to);
    } else if (word_is(call_word(call, 1), "LIST")) {
        command_list(call, to);
    } else {
        reply_subcommand(to, call_word(call, 1), "COMMAND");
    }
}

const struct command_steps *command_command(void)
{
    static const struct command_steps steps = {.answer = answer_command};
    return &steps;
}

// ---- CONFIG ------------------------------------------------------------------------------------

struct config_answer {
    const struct call *call;
    struct buf text; // name, value, name, value, ...
    unsigned pairs;
};

static void config_option(void *argument, const char *name, const char *value)
{
    struct config_answer *answer = argument;
    for (unsigned i = 2; i < answer->call->word_count; i++) {
        if (glob_match(call_word(answer->call, i), bytes_text(name))) {
            reply_bulk(&answer->text, bytes_text(name));
            reply_bulk(&answer->text, bytes_text(value));
            answer->pairs++;
            return;
        }
    }
}

static void answer_config(struct request *request, struct call *call, struct buf *to)
{
    if (!word_is(call_word(call, 1), "GET")) {
        reply_subcommand(to, call_word(call, 1), "CONFIG");
        return;
    }
    if (call->word_count < 3) {
        reply_arity(to, call->command, "get");
        return;
    }
    struct config_answer answer = {.call = call};
    // redis-benchmark asks for these two.
    config_option(&answer, "save", "");
    config_option(&answer, "appendonly", "no");
    config_each(request->session->daemon->config, config_option, &answer);
    reply_map(to, answer.pairs, request->protocol);
    buf_append_bytes(to, buf_bytes(&answer.text));
    buf_free(&answer.text);
}

const struct command_steps *command_config(void)
{
    static const struct command_steps steps = {.answer = answer_config};
    return &steps;
}

// ---- INFO, DBSIZE ------------------------------------------------------------------------------

static void answer_info(struct request *request, struct call *call, struct buf *to)
{
    struct daemon *daemon = request->session->daemon;
    struct buf text = {0};
    if (call->word_count == 1) {
        status_info(daemon, request->at, bytes_of(NULL, 0), &text);
    }
    for (unsigned i = 1; i < call->word_count; i++) {
        status_info(daemon, request->at, call_word(call, i), &text);
    }
    reply_verbatim(to, buf_bytes(&text), request->protocol);
    buf_free(&text);
}

const struct command_steps *command_info(void)
{
    static const struct command_steps steps = {.answer = answer_info};
    return &steps;
}

static void answer_dbsize(struct request *request, struct call *call, struct buf *to)
{
    (void)call;
    reply_integer(to, (int64_t)request->view->digest.keys);
}

const struct command_steps *command_dbsize(void)
{
    static const struct command_steps steps = {.answer = answer_dbsize};
    return &steps;
}
