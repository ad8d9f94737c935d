// SPDX-License-Identifier: Apache-2.0
// The connection to a daemon, over hiredis (RESP2), and what a person is told when it fails.
// Calls wait without a limit: the daemon answers or closes, and Ctrl-C ends the tool.
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/base/mem.h"
#include "qs/cli/cli.h"

#define CONNECT_SECONDS 5

void cli_error(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("qs: ", stderr);
    vfprintf(stderr, format, arguments);
    fputs("\n", stderr);
    va_end(arguments);
}

static bool select_instance(struct cli *cli)
{
    if (cli->instance == NULL) {
        return true;
    }
    struct bytes words[] = {bytes_text("SELECT"), bytes_text(cli->instance)};
    redisReply *reply = cli_call_any(cli, 2, words);
    if (reply == NULL) {
        return false;
    }
    bool selected = reply->type != REDIS_REPLY_ERROR;
    if (!selected) {
        cli_error("instance '%s' cannot be selected: %s", cli->instance, reply->str);
    }
    freeReplyObject(reply);
    return selected;
}

bool cli_connect(struct cli *cli)
{
    signal(SIGPIPE, SIG_IGN);
    struct timeval limit = {.tv_sec = CONNECT_SECONDS};
    char *address;
    if (cli->socket != NULL) {
        cli->redis = redisConnectUnixWithTimeout(cli->socket, limit);
        address = mem_format("unix:%s", cli->socket);
    } else {
        cli->redis = redisConnectWithTimeout(cli->host, cli->port, limit);
        address = mem_format("%s:%d", cli->host, cli->port);
    }
    bool connected = cli->redis != NULL && cli->redis->err == 0;
    if (!connected) {
        cli_error(
            "cannot connect to %s: %s\n    (is qsd running there? -s SOCKET or -h HOST -p PORT "
            "choose another address)",
            address, cli->redis == NULL ? "out of memory" : cli->redis->errstr);
    } else {
        redisSetTimeout(cli->redis, (struct timeval){0});
    }
    mem_free(address);
    return connected && select_instance(cli);
}

void cli_say_reply_error(const redisReply *reply)
{
    bool choose = strncmp(reply->str, "NOINSTANCE", 10) == 0;
    cli_error("%s%s", reply->str, choose ? " (-i INSTANCE chooses one)" : "");
}

redisReply *cli_call_any(struct cli *cli, size_t count, const struct bytes *words)
{
    const char **starts = mem_alloc(count * sizeof *starts);
    size_t *sizes = mem_alloc(count * sizeof *sizes);
    for (size_t i = 0; i < count; i++) {
        starts[i] = (const char *)words[i].data;
        sizes[i] = words[i].size;
    }
    redisReply *reply = redisCommandArgv(cli->redis, (int)count, starts, sizes);
    mem_free(starts);
    mem_free(sizes);
    if (reply == NULL) {
        cli_error("the connection was lost: %s", cli->redis->errstr);
    }
    return reply;
}

redisReply *cli_call(struct cli *cli, size_t count, const struct bytes *words)
{
    redisReply *reply = cli_call_any(cli, count, words);
    if (reply != NULL && reply->type == REDIS_REPLY_ERROR) {
        cli_say_reply_error(reply);
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}

redisReply *cli_call_text(struct cli *cli, size_t count, const struct bytes *words)
{
    redisReply *reply = cli_connect(cli) ? cli_call(cli, count, words) : NULL;
    if (reply != NULL && reply->type != REDIS_REPLY_STRING) {
        cli_error("the server answered something else than a text; is it qs?");
        freeReplyObject(reply);
        return NULL;
    }
    return reply;
}
