// SPDX-License-Identifier: Apache-2.0
// CLIENT and its subcommands. What would need a mechanism that qs does not have is refused in
// words, never accepted silently.
#include "qs/dispatch.h"

struct subcommand {
    const char *word;
    const char *name;
    int arity; // with CLIENT itself, as in the table of commands
    void (*answer)(struct request *request, struct call *call, struct buf *to);
};

static void client_id(struct request *request, struct call *call, struct buf *to)
{
    (void)call;
    reply_integer(to, (int64_t)request->session->id);
}

static void client_getname(struct request *request, struct call *call, struct buf *to)
{
    (void)call;
    const char *name = request->session->name;
    if (name[0] == 0) {
        reply_nil(to, request->protocol);
    } else {
        reply_bulk(to, bytes_text(name));
    }
}

static void client_setname(struct request *request, struct call *call, struct buf *to)
{
    if (session_set_name(request->session, call_word(call, 2))) {
        reply_simple(to, "OK");
    } else if (call_word(call, 2).size > CLIENT_NAME_MAX) {
        reply_error(to, "ERR Client names cannot be longer than %d bytes.", CLIENT_NAME_MAX);
    } else {
        reply_error(to, "ERR Client names cannot contain spaces, newlines or special characters.");
    }
}

// Newer clients announce their library; nothing is done with it.
static void client_setinfo(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    struct bytes what = call_word(call, 2);
    if (word_is(what, "LIB-NAME") || word_is(what, "LIB-VER")) {
        reply_simple(to, "OK");
    } else {
        reply_error(to, "ERR Unrecognized option '%.*s'", (int)u64_min(what.size, 128),
                    (const char *)what.data);
    }
}

static void client_info(struct request *request, struct call *call, struct buf *to)
{
    (void)call;
    struct clients *clients = request->session->clients;
    struct buf text = {0};
    pthread_mutex_lock(&clients->lock);
    session_describe(request->session, &text);
    pthread_mutex_unlock(&clients->lock);
    reply_verbatim(to, buf_bytes(&text), request->protocol);
    buf_free(&text);
}

static void client_list(struct request *request, struct call *call, struct buf *to)
{
    if (call->word_count > 2) {
        reply_error(to, "ERR syntax error");
        return;
    }
    struct clients *clients = request->session->clients;
    struct buf text = {.limit = request->session->daemon->config->node.reply_bytes};
    pthread_mutex_lock(&clients->lock);
    LIST_FOR_EACH(node, &clients->all) {
        session_describe(CONTAINER_OF(node, struct session, all_node), &text);
    }
    pthread_mutex_unlock(&clients->lock);
    if (text.error == OK) {
        reply_verbatim(to, buf_bytes(&text), request->protocol);
    } else {
        reply_error_code(to, text.error);
    }
    buf_free(&text);
}

static void on_or_off(struct call *call, struct buf *to)
{
    struct bytes word = call_word(call, 2);
    if (word_is(word, "ON") || word_is(word, "OFF")) {
        reply_simple(to, "OK");
    } else {
        reply_error(to, "ERR syntax error");
    }
}

// Clients are never evicted here, so both answers are true.
static void client_no_evict(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    on_or_off(call, to);
}

static void client_reply(struct request *request, struct call *call, struct buf *to)
{
    (void)request;
    struct bytes word = call_word(call, 2);
    if (word_is(word, "OFF") || word_is(word, "SKIP")) {
        reply_error(to, "ERR CLIENT REPLY OFF and SKIP are not supported");
    } else {
        on_or_off(call, to);
    }
}

static const struct subcommand subcommands[] = {
    {"ID", "id", 2, client_id},
    {"GETNAME", "getname", 2, client_getname},
    {"SETNAME", "setname", 3, client_setname},
    {"SETINFO", "setinfo", 4, client_setinfo},
    {"INFO", "info", 2, client_info},
    {"LIST", "list", -2, client_list},
    {"NO-EVICT", "no-evict", 3, client_no_evict},
    {"REPLY", "reply", 3, client_reply},
};

static void answer_client(struct request *request, struct call *call, struct buf *to)
{
    struct bytes word = call_word(call, 1);
    for (size_t i = 0; i < ARRAY_LEN(subcommands); i++) {
        const struct subcommand *row = &subcommands[i];
        if (!word_is(word, row->word)) {
            continue;
        }
        unsigned words = call->word_count;
        bool fits = row->arity >= 0 ? words == (unsigned)row->arity
                                    : words >= (unsigned)-row->arity;
        if (fits) {
            row->answer(request, call, to);
        } else {
            reply_arity(to, call->command, row->name);
        }
        return;
    }
    reply_error(to, "ERR unknown subcommand '%.*s'. Try CLIENT HELP.",
                (int)u64_min(word.size, 128), (const char *)word.data);
}

const struct command_steps *command_client(void)
{
    static const struct command_steps steps = {.answer = answer_client};
    return &steps;
}
