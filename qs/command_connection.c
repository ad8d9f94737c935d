// SPDX-License-Identifier: Apache-2.0
// Commands about the connection itself: PING ECHO HELLO AUTH SELECT QUIT RESET (CLIENT has a file
// of its own). They change the session when they start, so those behind them see it. Loop thread.
#include "qs/dispatch.h"
#include "qs/version.h"

#define NO_PASSWORD                                                                                \
    "ERR AUTH <password> called without any password configured for the default user. Are you "    \
    "sure your configuration is correct?"
#define WRONG_PASSWORD "WRONGPASS invalid username-password pair or user is disabled."
#define BAD_NAME "ERR Client names cannot contain spaces, newlines or special characters."

static void answer_ping(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    if (call->word_count > 2) {
        reply_arity(to, call->command, NULL);
    } else if (call->word_count == 2) {
        reply_bulk(to, call_word(call, 1));
    } else {
        reply_simple(to, "PONG");
    }
}

const struct command_steps *command_ping(void)
{
    static const struct command_steps steps = {.answer = answer_ping};
    return &steps;
}

static void answer_echo(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    reply_bulk(to, call_word(call, 1));
}

const struct command_steps *command_echo(void)
{
    static const struct command_steps steps = {.answer = answer_echo};
    return &steps;
}

// ---- HELLO, AUTH -------------------------------------------------------------------------------

struct hello {
    int protocol;
    bool named;
    struct bytes name;
};

// There is one user, `default`, without a password: any password will do for it, as in Redis.
static bool user_known(struct bytes user) { return bytes_equal_text(user, "default"); }

static bool hello_options(const struct call *call, struct hello *hello, struct buf *to)
{
    unsigned i = 2;
    while (i < call->word_count) {
        unsigned more = call->word_count - i - 1;
        if (word_is(call_word(call, i), "AUTH") && more >= 2) {
            if (!user_known(call_word(call, i + 1))) {
                reply_error(to, WRONG_PASSWORD);
                return false;
            }
            i += 3;
        } else if (word_is(call_word(call, i), "SETNAME") && more >= 1) {
            hello->named = true;
            hello->name = call_word(call, i + 1);
            i += 2;
        } else {
            struct bytes word = call_word(call, i);
            reply_error(to, "ERR Syntax error in HELLO option '%.*s'",
                        (int)u64_min(word.size, 128), (const char *)word.data);
            return false;
        }
    }
    return true;
}

static void hello_map(struct session *session, struct buf *to)
{
    int protocol = session->protocol;
    const struct daemon_instance *at = session->selected;
    bool root = at != NULL && instance_leads(at->instance);
    reply_map(to, 7, protocol);
    reply_bulk(to, bytes_text("server"));
    reply_bulk(to, bytes_text("qs"));
    reply_bulk(to, bytes_text("version"));
    reply_bulk(to, bytes_text(QS_VERSION));
    reply_bulk(to, bytes_text("proto"));
    reply_integer(to, protocol);
    reply_bulk(to, bytes_text("id"));
    reply_integer(to, (int64_t)session->id);
    reply_bulk(to, bytes_text("mode"));
    reply_bulk(to, bytes_text("standalone"));
    reply_bulk(to, bytes_text("role"));
    reply_bulk(to, bytes_text(root ? "master" : "replica"));
    reply_bulk(to, bytes_text("modules"));
    reply_array(to, 0);
}

static void answer_hello(struct request *request, struct call *call, struct buf *to)
{
    struct session *session = request->session;
    struct hello hello = {.protocol = session->protocol};
    int64_t protocol = session->protocol;
    if (call->word_count > 1 && !parse_i64(call_word(call, 1), &protocol)) {
        reply_error(to, "ERR Protocol version is not an integer or out of range");
        return;
    }
    if (protocol < 2 || protocol > 3) {
        reply_error(to, "NOPROTO unsupported protocol version");
        return;
    }
    if (!hello_options(call, &hello, to)) {
        return;
    }
    if (hello.named && !session_set_name(session, hello.name)) {
        reply_error(to, BAD_NAME);
        return;
    }
    session_set(session, session->selected, (int)protocol);
    hello_map(session, to);
}

const struct command_steps *command_hello(void)
{
    static const struct command_steps steps = {.answer = answer_hello};
    return &steps;
}

static void answer_auth(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    if (call->word_count > 3) {
        reply_error(to, "ERR syntax error");
    } else if (call->word_count == 2) {
        reply_error(to, NO_PASSWORD);
    } else if (user_known(call_word(call, 1))) {
        reply_simple(to, "OK");
    } else {
        reply_error(to, WRONG_PASSWORD);
    }
}

const struct command_steps *command_auth(void)
{
    static const struct command_steps steps = {.answer = answer_auth};
    return &steps;
}

// ---- SELECT ------------------------------------------------------------------------------------

static void answer_select(struct request *request, struct call *call, struct buf *to)
{
    struct session *session = request->session;
    struct bytes word = call_word(call, 1);
    int64_t number;
    bool numeric = parse_i64(word, &number);
    struct daemon_instance *at = daemon_find(session->daemon, word);
    if (at == NULL && numeric && number >= 0) {
        at = daemon_number(session->daemon, (uint64_t)number);
    }
    if (at == NULL) {
        reply_error(to, numeric ? "ERR DB index is out of range"
                                : "ERR value is not an integer or out of range");
        return;
    }
    // A watched key belongs to an instance, and EXEC compares at one view.
    if (at != session->selected && session->watched_count > 0) {
        reply_error(to, "ERR SELECT of another instance while keys are watched");
        return;
    }
    session_set(session, at, session->protocol);
    reply_simple(to, "OK");
}

const struct command_steps *command_select(void)
{
    static const struct command_steps steps = {.answer = answer_select};
    return &steps;
}

// ---- QUIT, RESET -------------------------------------------------------------------------------

static void answer_quit(struct request *request, struct call *call, struct buf *to)
{
    (void)call;
    request->closes = true;
    request->session->ended = true;
    reply_simple(to, "OK");
}

const struct command_steps *command_quit(void)
{
    static const struct command_steps steps = {.answer = answer_quit};
    return &steps;
}

static void answer_reset(struct request *request, struct call *call, struct buf *to)
{
    (void)call;
    struct session *session = request->session;
    multi_clear(&session->multi);
    session_unwatch(session);
    (void)session_set_name(session, bytes_of(NULL, 0));
    session_set(session, session->first, 2);
    reply_simple(to, "RESET");
}

const struct command_steps *command_reset(void)
{
    static const struct command_steps steps = {.answer = answer_reset};
    return &steps;
}
