// SPDX-License-Identifier: Apache-2.0
// Where an instance stands: index, wait, digest.
#include <stdio.h>

#include "common/wire/import_text.h"
#include "common/wire/resp.h"
#include "qs/cli/cli.h"

#define WAIT_MS "10000"

static int finish_reply(redisReply *reply, struct buf *text, int code)
{
    freeReplyObject(reply);
    return cli_finish(text, code);
}

int run_index(struct cli *cli)
{
    bool token = cli_flag(cli, "--token");
    if (!cli_words_fit(cli, 0, 0)) {
        return EXIT_USAGE;
    }
    struct bytes words[] = {bytes_text("QS.INDEX"), bytes_text("TOKEN")};
    redisReply *reply = cli_connect(cli) ? cli_call(cli, token ? 2 : 1, words) : NULL;
    if (reply == NULL) {
        return EXIT_ERROR;
    }
    struct buf text = {0};
    if (reply->type == REDIS_REPLY_INTEGER) {
        buf_format(&text, cli->json ? "{\"index\": %lld}\n" : "%lld\n", reply->integer);
    } else if (cli->json) {
        buf_append_text(&text, "{");
        export_json_member(&text, "token", reply_bytes(reply));
        buf_append_text(&text, "}\n");
    } else {
        buf_append_bytes(&text, reply_bytes(reply));
        buf_append_text(&text, "\n");
    }
    return finish_reply(reply, &text, EXIT_FOUND);
}

// At the limit the answer is an error with the word BEHIND and the index that is visible: for a
// person and a script that is "not yet", not a failure.
int run_wait(struct cli *cli)
{
    if (!cli_words_fit(cli, 1, 2)) {
        return EXIT_USAGE;
    }
    struct bytes ms = bytes_text(cli->count == 2 ? cli->words[1] : WAIT_MS);
    struct bytes words[] = {bytes_text("QS.WAITINDEX"), bytes_text(cli->words[0]), ms};
    uint64_t number;
    if (!parse_u64(ms, &number)) {
        return cli_usage(cli, "'%s' is not a number of milliseconds", cli->words[1]);
    }
    redisReply *reply = cli_connect(cli) ? cli_call_any(cli, 3, words) : NULL;
    if (reply == NULL) {
        return EXIT_ERROR;
    }
    struct buf text = {0};
    bool error = reply->type == REDIS_REPLY_ERROR;
    if (error && strncmp(reply->str, "BEHIND", 6) != 0) {
        cli_say_reply_error(reply);
        return finish_reply(reply, &text, EXIT_ERROR);
    }
    if (error) {
        if (cli->json) {
            buf_append_text(&text, "{\"reached\": false}\n");
        }
        cli_say_reply_error(reply);
    } else {
        buf_format(&text, cli->json ? "{\"reached\": true, \"index\": %lld}\n" : "%lld\n",
                   reply->integer);
    }
    return finish_reply(reply, &text, error ? EXIT_ABSENT : EXIT_FOUND);
}

int run_digest(struct cli *cli)
{
    bool scan = cli_flag(cli, "--scan");
    if (!cli_words_fit(cli, 0, 0)) {
        return EXIT_USAGE;
    }
    struct bytes words[] = {bytes_text("QS.DIGEST"), bytes_text("SCAN")};
    redisReply *reply = cli_connect(cli) ? cli_call(cli, scan ? 2 : 1, words) : NULL;
    if (reply == NULL) {
        return EXIT_ERROR;
    }
    struct buf text = {0};
    bool fits = reply->type == REDIS_REPLY_ARRAY && reply->elements >= 2 &&
                reply->element[0]->type == REDIS_REPLY_INTEGER;
    if (!fits) {
        cli_error("the server answered something else than expected; is it qs?");
        return finish_reply(reply, &text, EXIT_ERROR);
    }
    struct bytes digest = reply_bytes(reply->element[1]);
    buf_format(&text, cli->json ? "{\"index\": %lld, \"digest\": \"%.*s\"}\n" : "%lld %.*s\n",
               reply->element[0]->integer, (int)digest.size, (const char *)digest.data);
    return finish_reply(reply, &text, EXIT_FOUND);
}
