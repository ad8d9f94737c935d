// SPDX-License-Identifier: Apache-2.0
// watch: prints every change of the keys with a prefix as it becomes visible, until it is stopped.
// As TSV: index, put or delete, key, value. As JSON lines: the same, and lines with "progress", up
// to which index everything was told: where a program that goes on later begins (plus one).
#include <stdio.h>

#include "common/wire/import_text.h"
#include "qs/cli/cli.h"

static bool is_message(const redisReply *reply, const char *name, size_t elements)
{
    return reply->type == REDIS_REPLY_ARRAY && reply->elements == elements &&
           bytes_equal_text(reply_bytes(reply->element[0]), name) &&
           reply->element[1]->type == REDIS_REPLY_INTEGER;
}

static void append_change(struct buf *to, bool json, long long index, redisReply *const *change)
{
    bool put = change[2]->type == REDIS_REPLY_STRING;
    struct bytes op = reply_bytes(change[0]), key = reply_bytes(change[1]);
    if (!json) {
        buf_format(to, "%lld\t%.*s\t", index, (int)op.size, (const char *)op.data);
        export_tsv_field(to, key);
        if (put) {
            buf_append_text(to, "\t");
            export_tsv_field(to, reply_bytes(change[2]));
        }
        buf_append_text(to, "\n");
        return;
    }
    buf_format(to, "{\"index\": %lld, \"op\": \"%.*s\", ", index, (int)op.size,
               (const char *)op.data);
    export_json_member(to, "key", key);
    if (put) {
        buf_append_text(to, ", ");
        export_json_member(to, "value", reply_bytes(change[2]));
    }
    buf_append_text(to, "}\n");
}

// Prints one message. False: it is not one, or cannot be printed; said so.
static bool print_message(const struct cli *cli, const redisReply *reply)
{
    struct buf text = {0};
    if (is_message(reply, "qs.watch", 3) && reply->element[2]->elements % 3 == 0) {
        const redisReply *changes = reply->element[2];
        for (size_t i = 0; i < changes->elements; i += 3) {
            append_change(&text, cli->json, reply->element[1]->integer, &changes->element[i]);
        }
    } else if (is_message(reply, "qs.progress", 2)) {
        if (cli->json) {
            buf_format(&text, "{\"progress\": %lld}\n", reply->element[1]->integer);
        }
    } else {
        if (reply->type == REDIS_REPLY_ERROR) {
            cli_say_reply_error(reply);
        } else {
            cli_error("the server answered something else than expected; is it qs?");
        }
        return false;
    }
    bool printed = text.size == 0 || cli_print(&text);
    buf_free(&text);
    return printed;
}

int run_watch(struct cli *cli)
{
    const char *from = cli_option(cli, "--from");
    if (!cli_words_fit(cli, 1, 1)) {
        return EXIT_USAGE;
    }
    struct bytes words[] = {bytes_text("QS.WATCH"), bytes_text(cli->words[0]), bytes_text("FROM"),
                            bytes_text(from == NULL ? "" : from)};
    redisReply *reply =
        cli_connect(cli) ? cli_call_any(cli, from == NULL ? 2 : 4, words) : NULL;
    while (reply != NULL) {
        bool printed = print_message(cli, reply);
        freeReplyObject(reply);
        reply = NULL;
        if (!printed) {
            break;
        }
        void *next = NULL;
        if (redisGetReply(cli->redis, &next) != REDIS_OK) {
            cli_error("the connection was lost: %s", cli->redis->errstr);
        }
        reply = next;
    }
    return EXIT_ERROR;
}
