// SPDX-License-Identifier: Apache-2.0
// Rows are found through a small open table over the upper-case word, made once. The checks, their
// order and their words are Redis 7.0's: whatever it refuses to queue makes EXEC fail.
#include "qs/dispatch.h"

#include <stdio.h>

// The table's flags stand without a prefix.
#define READ COMMAND_READ
#define WRITE COMMAND_WRITE
#define LOCAL COMMAND_LOCAL
#define INSTANCE COMMAND_INSTANCE
#define NOMULTI COMMAND_NOMULTI
#define IMMEDIATE COMMAND_IMMEDIATE
#define LOADING COMMAND_LOADING

static const struct command rows[] = {
#define COMMAND(word, handler, arity, flags, arguments, summary)                                   \
    {word, arity, flags, arguments, summary, command_##handler},
#include "common/tables/commands.h"
};

#undef LOADING

#define WORD_MAX 32
#define TABLE_SIZE 256
_Static_assert(ARRAY_LEN(rows) < TABLE_SIZE / 2, "the table must stay sparse");

static uint8_t table[TABLE_SIZE]; // row + 1, 0 = empty
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static uint8_t upper(uint8_t byte) { return byte >= 'a' && byte <= 'z' ? byte - 32 : byte; }

static uint32_t word_hash(struct bytes word)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < word.size; i++) {
        hash = (hash ^ upper(word.data[i])) * 16777619u;
    }
    return hash ^ hash >> 15;
}

static void table_fill(void)
{
    for (unsigned i = 0; i < ARRAY_LEN(rows); i++) {
        struct bytes word = bytes_text(rows[i].word);
        CHECK(word.size <= WORD_MAX);
        uint32_t at = word_hash(word) % TABLE_SIZE;
        while (table[at] != 0) {
            at = (at + 1) % TABLE_SIZE;
        }
        table[at] = (uint8_t)(i + 1);
    }
}

bool word_is(struct bytes word, const char *text)
{
    for (size_t i = 0; i < word.size; i++) {
        if (text[i] == 0 || upper(word.data[i]) != upper((uint8_t)text[i])) {
            return false;
        }
    }
    return text[word.size] == 0;
}

const struct command *command_find(struct bytes word)
{
    pthread_once(&table_once, table_fill);
    if (word.size == 0 || word.size > WORD_MAX) {
        return NULL;
    }
    for (uint32_t at = word_hash(word) % TABLE_SIZE; table[at] != 0; at = (at + 1) % TABLE_SIZE) {
        const struct command *row = &rows[table[at] - 1];
        if (word_is(word, row->word)) {
            return row;
        }
    }
    return NULL;
}

unsigned command_count(void) { return ARRAY_LEN(rows); }

const struct command *command_row(unsigned i)
{
    CHECK(i < ARRAY_LEN(rows));
    return &rows[i];
}

void command_name(const struct command *command, char to[COMMAND_NAME_BYTES])
{
    size_t size = strlen(command->word);
    CHECK(size < COMMAND_NAME_BYTES);
    for (size_t i = 0; i <= size; i++) {
        char byte = command->word[i];
        to[i] = byte >= 'A' && byte <= 'Z' ? (char)(byte + 32) : byte;
    }
}

void reply_arity(struct buf *to, const struct command *command, const char *subcommand)
{
    char name[COMMAND_NAME_BYTES];
    command_name(command, name);
    reply_error(to, "ERR wrong number of arguments for '%s%s%s' command", name,
                subcommand != NULL ? "|" : "", subcommand != NULL ? subcommand : "");
}

struct bytes *words_copy(struct arena *arena, const struct bytes *words, unsigned word_count)
{
    struct bytes *copy = arena_alloc(arena, word_count * sizeof *copy);
    for (unsigned i = 0; i < word_count; i++) {
        copy[i] = arena_copy(arena, words[i]);
    }
    return copy;
}

// Words of a request: in the request itself when they are few and short.
static struct bytes *request_words(struct request *request, const struct bytes *words,
                                   unsigned word_count)
{
    size_t size = 0;
    for (unsigned i = 0; i < word_count; i++) {
        size += words[i].size;
    }
    if (word_count > REQUEST_FEW_WORDS || size > REQUEST_FEW_BYTES) {
        return words_copy(&request->arena, words, word_count);
    }
    uint8_t *at = request->few_bytes;
    for (unsigned i = 0; i < word_count; i++) {
        if (words[i].size > 0) {
            memcpy(at, words[i].data, words[i].size);
        }
        request->few_words[i] = bytes_of(at, words[i].size);
        at += words[i].size;
    }
    return request->few_words;
}

static void reply_unknown(struct buf *to, const struct bytes *words, unsigned word_count)
{
    char text[256];
    size_t size = 0;
    for (unsigned i = 1; i < word_count && size < 128; i++) {
        int room = 128 - (int)size;
        int shown = words[i].size < (size_t)room ? (int)words[i].size : room;
        size += (size_t)snprintf(text + size, sizeof text - size, "'%.*s' ", shown,
                                 (const char *)words[i].data);
    }
    int shown = words[0].size < 128 ? (int)words[0].size : 128;
    reply_error(to, "ERR unknown command '%.*s', with args beginning with: %.*s", shown,
                (const char *)words[0].data, (int)size, text);
}

// What keeps the command from running. False: the answer is in `to`.
static bool admit(struct session *session, const struct command *command,
                  const struct command_steps *steps, struct buf *to)
{
    if (session->multi.active && steps->multi_error != NULL) {
        return true; // its start says so, and the transaction goes on
    }
    if (session->multi.active && (command->flags & COMMAND_NOMULTI) != 0) {
        reply_error(to, "ERR Command not allowed inside a transaction");
        return false;
    }
    if ((command->flags & (COMMAND_READ | COMMAND_WRITE | COMMAND_INSTANCE)) == 0) {
        return true;
    }
    struct daemon_instance *at = session->selected;
    if (at == NULL) {
        reply_error_code(to, ERR_NO_INSTANCE);
        return false;
    }
    if ((command->flags & COMMAND_LOADING) == 0 &&
        instance_state(at->instance) == INSTANCE_LOADING) {
        reply_error_code(to, ERR_LOADING);
        return false;
    }
    if ((command->flags & COMMAND_WRITE) != 0 && !instance_leads(at->instance) &&
        !at->instance->options->forward_writes) {
        reply_error_code(to, ERR_READONLY);
        return false;
    }
    return true;
}

// An error before the command runs: an EXEC to come fails too.
static void refuse(struct session *session, struct request *request)
{
    if (session->multi.active) {
        session->multi.dirty = true;
    }
    request_finish(request);
}

bool command_arity_fits(const struct command *command, unsigned word_count)
{
    return command->arity >= 0 ? word_count == (unsigned)command->arity
                               : word_count >= (unsigned)-command->arity;
}

static void refuse_arity(struct session *session, struct request *request,
                         const struct command *command)
{
    struct buf *to = request_out(request);
    if (session->multi.active && word_is(bytes_text(command->word), "EXEC")) {
        reply_error(to, "EXECABORT Transaction discarded because of: wrong number of arguments "
                        "for 'exec' command");
        multi_clear(&session->multi);
        session_unwatch(session);
    } else {
        reply_arity(to, command, NULL);
    }
    refuse(session, request);
}

static void read_reached(struct request *request, uint64_t visible)
{
    (void)visible;
    request_read(request); // at that view or a newer one
}

static void run_read(struct request *request, struct call *call)
{
    struct token least;
    uint64_t ms;
    if (call->steps->least != NULL && call->steps->least(call, &least, &ms)) {
        request_await(request, &least, ms, read_reached);
    } else {
        request_read(request);
    }
}

static void run_at_once(struct request *request, uint64_t visible)
{
    (void)visible;
    struct call *call = &request->one;
    struct buf *to = request_out(request);
    unsigned flags = call->command->flags;
    bool views = (flags & (COMMAND_INSTANCE | COMMAND_LOADING)) == COMMAND_INSTANCE;
    if (!views || request_pin(request, to)) {
        call->steps->answer(request, call, to);
    }
    request_finish(request);
}

// The command runs now, alone in its request.
static void run(struct request *request, const struct command *command,
                const struct command_steps *steps, const struct bytes *words, unsigned word_count)
{
    struct session *session = request->session;
    struct call *call = &request->one;
    *call = (struct call){.command = command, .steps = steps, .word_count = word_count};
    call->words = request_words(request, words, word_count);
    if (session->multi.active && steps->multi_error != NULL) {
        reply_error(request_out(request), "%s", steps->multi_error);
        request_finish(request);
        return;
    }
    if (steps->barrier) {
        request->barrier = true;
        session->barriers++;
    }
    if ((command->flags & COMMAND_READ) != 0) {
        run_read(request, call);
        return;
    }
    if ((command->flags & COMMAND_WRITE) != 0) {
        request_write(request);
        return;
    }
    if (steps->start != NULL) {
        steps->start(request, call);
        return;
    }
    bool views = (command->flags & (COMMAND_INSTANCE | COMMAND_LOADING)) == COMMAND_INSTANCE;
    if (!views || !request_await_own(request, run_at_once)) {
        run_at_once(request, 0);
    }
}

bool dispatch_quiet(const struct session *session, const struct command *command)
{
    const struct multi *multi = &session->multi;
    if (command == NULL) {
        return false;
    }
    if (multi->active) {
        bool views = multi->views || session->watched_count > 0;
        return (command->flags & COMMAND_IMMEDIATE) != 0 && views && !multi->writes;
    }
    return (command->flags & (COMMAND_READ | COMMAND_INSTANCE)) != 0;
}

bool dispatch_alone(const struct session *session, const struct command *command)
{
    return command != NULL && !session->multi.active &&
           (command->steps()->streams || command->steps()->alone);
}

void dispatch(struct session *session, const struct command *command, const struct bytes *words,
              unsigned word_count)
{
    struct request *request = request_new(session);
    if (command == NULL) {
        reply_unknown(request_out(request), words, word_count);
        refuse(session, request);
        return;
    }
    if (!command_arity_fits(command, word_count)) {
        refuse_arity(session, request, command);
        return;
    }
    // What this client has seen was of a history that ended: nothing of it binds what comes now.
    if (session->selected != NULL && session_forked(session, session->selected)) {
        request_refuse(request, ERR_FORKED, request_out(request));
        refuse(session, request);
        return;
    }
    const struct command_steps *steps = command->steps();
    // The answer is asked for only where there is one: a request that starts may take its time.
    struct buf refusal = {0};
    if (!admit(session, command, steps, &refusal)) {
        buf_append_bytes(request_out(request), buf_bytes(&refusal));
        buf_free(&refusal);
        refuse(session, request);
        return;
    }
    bool queued = session->multi.active && (command->flags & COMMAND_IMMEDIATE) == 0 &&
                  steps->multi_error == NULL;
    if (queued) {
        multi_queue(session, command, words, word_count, request_out(request));
        request_finish(request);
        return;
    }
    run(request, command, steps, words, word_count);
}
