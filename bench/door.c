// SPDX-License-Identifier: Apache-2.0
#include "bench/door.h"

#include <hiredis/hiredis.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/base/spin.h"
#include "common/client/qs.h"

#define TIMEOUT_MS 10000

// ---- engines ------------------------------------------------------------------------------------

bool door_engine(struct door *door, const struct engine_calls *calls, const char *directory,
                 const struct pairs *pairs, const uint32_t *order)
{
    *door = (struct door){.get = calls->get, .close = calls->close};
    door->of = calls->open(directory, pairs, order);
    return door->of != NULL;
}

// ---- libqs --------------------------------------------------------------------------------------

struct handle {
    struct qs *qs;
    struct qs_result *result;
};

static ssize_t libqs_get(void *of, struct bytes key, uint8_t *to, size_t room)
{
    struct handle *handle = of;
    struct qs_bytes value;
    int error = qs_get(handle->qs, key.data, key.size, handle->result);
    if (error != QS_OK) {
        return error == QS_NOT_FOUND ? DOOR_ABSENT : DOOR_FAILED;
    }
    if (qs_value(handle->result, 0, &value) != QS_OK || value.size > room) {
        return DOOR_FAILED;
    }
    memcpy(to, value.data, value.size);
    return (ssize_t)value.size;
}

static void libqs_close(void *of)
{
    struct handle *handle = of;
    qs_result_free(handle->result);
    qs_close(handle->qs);
    mem_free(handle);
}

bool door_libqs(struct door *door, const char *socket, bool maps, unsigned busy_us)
{
    struct handle *handle = mem_zalloc(sizeof *handle);
    const struct qs_options options = {
        .size = sizeof options,
        .timeout_ms = TIMEOUT_MS,
        .shared = maps ? QS_SHARED_LIVE : QS_SHARED_NONE,
        .busy_poll = busy_us,
    };
    char *address = mem_format("unix:%s", socket);
    handle->result = qs_result_new();
    *door = (struct door){.get = libqs_get, .close = libqs_close, .of = handle};
    bool opened = qs_open(&handle->qs, address, &options) == QS_OK;
    if (!opened) {
        fprintf(stderr, "qs-bench: %s: %s\n", address, qs_last_error());
    }
    mem_free(address);
    return opened;
}

// ---- Redis --------------------------------------------------------------------------------------

struct redis {
    redisContext *context;
    struct spin spin;
};

// What hiredis has no option for: it sleeps at once.
static void look_for_reply(struct redis *redis)
{
    struct pollfd reply = {.fd = redis->context->fd, .events = POLLIN};
    int whole = 0;
    while (whole == 0 && redisBufferWrite(redis->context, &whole) == REDIS_OK) {
    }
    uint64_t since_ns = clock_mono_ns();
    while (spin_again(&redis->spin, since_ns) && poll(&reply, 1, 0) == 0) {
    }
}

static redisReply *redis_ask(struct redis *redis, struct bytes key)
{
    const char *words[] = {"GET", (const char *)key.data};
    const size_t sizes[] = {3, key.size};
    void *reply = NULL;
    if (redisAppendCommandArgv(redis->context, ARRAY_LEN(words), words, sizes) == REDIS_OK) {
        if (redis->spin.for_ns > 0) {
            look_for_reply(redis);
        }
        (void)redisGetReply(redis->context, &reply);
    }
    return reply;
}

static ssize_t redis_get(void *of, struct bytes key, uint8_t *to, size_t room)
{
    redisReply *reply = redis_ask(of, key);
    ssize_t size = DOOR_FAILED;
    if (reply != NULL && reply->type == REDIS_REPLY_NIL) {
        size = DOOR_ABSENT;
    } else if (reply != NULL && reply->type == REDIS_REPLY_STRING && reply->len <= room) {
        memcpy(to, reply->str, reply->len);
        size = (ssize_t)reply->len;
    }
    freeReplyObject(reply);
    return size;
}

static void redis_close(void *of)
{
    struct redis *redis = of;
    redisFree(redis->context);
    mem_free(redis);
}

bool door_redis(struct door *door, const char *socket, unsigned busy_us)
{
    struct redis *redis = mem_zalloc(sizeof *redis);
    redis->context = redisConnectUnix(socket);
    redis->spin.for_ns = busy_us * NS_PER_US;
    *door = (struct door){.get = redis_get, .close = redis_close, .of = redis};
    bool opened = redis->context != NULL && redis->context->err == 0;
    if (!opened) {
        fprintf(stderr, "qs-bench: %s: %s\n", socket,
                redis->context != NULL ? redis->context->errstr : "");
    }
    return opened;
}

void door_close(struct door *door)
{
    if (door->of != NULL) {
        door->close(door->of);
    }
    *door = (struct door){.of = NULL};
}
