// SPDX-License-Identifier: Apache-2.0
#include "bench/hot.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "bench/conn.h"
#include "bench/interrupt.h"
#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/shared/layout.h"

#define ANSWER_NS (10 * NS_PER_S)
#define FILL_KEYS 32 // of one MGET, half of what a daemon notes at once
#define TIMES_MAX 2  // what a daemon takes as a reason to note a key
// Places for a key: with four keys on average a bucket of eight overflows rarely.
#define SPARE 2
#define MEMORY_PART 4

static const struct {
    const char *name;
    uint64_t least, most;
} bounds[] = {
#define INSTANCE_OPTION(type, name, default, min, max, help) {#name, min, max},
#include "common/tables/options.h"
};

uint64_t hot_bytes_within(uint64_t bytes)
{
    uint64_t least = 0, most = 0;
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        if (strcmp(bounds[i].name, "hot_bytes") == 0) {
            least = bounds[i].least;
            most = bounds[i].most;
        }
    }
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    return u64_max(least, u64_min(bytes, u64_min(most, memory / MEMORY_PART)));
}

uint64_t hot_entry(const struct pairs *pairs)
{
    uint64_t all = pairs->key_bytes + pairs->value_bytes;
    uint64_t bytes = HOT_HEAD_BYTES + (all + pairs->count - 1) / pairs->count;
    uint64_t lines = (bytes + SHARED_LINE_BYTES - 1) / SHARED_LINE_BYTES;
    return u64_min(lines * SHARED_LINE_BYTES, HOT_SLOT_BYTES_MAX);
}

uint64_t hot_bytes_for(const struct pairs *pairs)
{
    uint64_t buckets = pairs->count * SPARE / HOT_WAYS + 1;
    return hot_bytes_within(buckets * hot_bucket_bytes(hot_entry(pairs)));
}

uint64_t hot_room(const struct pairs *pairs, uint64_t bytes)
{
    return bytes / hot_bucket_bytes(hot_entry(pairs)) * HOT_WAYS;
}

char *hot_options(const struct pairs *pairs, uint64_t bytes, bool shares)
{
    return mem_format("    share_memory = %s\n    hot_bytes = %llu\n    hot_entry = %llu\n",
                      shares ? "yes" : "no", (unsigned long long)bytes,
                      (unsigned long long)hot_entry(pairs));
}

static bool is_right(const redisReply *reply, const struct pairs *pairs, uint64_t first,
                     uint64_t count, unsigned times, uint8_t *right)
{
    uint64_t rows = times * count;
    bool fine = reply != NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements == rows;
    for (uint64_t i = 0; fine && i < rows; i++) {
        const redisReply *row = reply->element[i];
        size_t size = pair_value(pairs, first + i / times, 0, right);
        fine = row->type == REDIS_REPLY_STRING && row->len == size &&
               memcmp(row->str, right, size) == 0;
    }
    return fine;
}

// Looks pairs 0 .. count - 1 up, the last one first, each so many times in a row.
static bool look_up(const struct node *node, const struct pairs *pairs, uint64_t count,
                    unsigned times, uint64_t *answers)
{
    struct conn conn = {0};
    char(*names)[PAIR_KEY_BYTES_MAX] = mem_alloc(FILL_KEYS * sizeof *names);
    uint8_t *right = mem_alloc(PAIR_VALUE_BYTES_MAX);
    bool fine = conn_open(&conn, node->socket);
    uint64_t left = count;
    while (fine && left > 0 && !interrupted()) {
        uint64_t some = u64_min(FILL_KEYS, left);
        struct bytes words[1 + TIMES_MAX * FILL_KEYS] = {bytes_text("MGET")};
        left -= some;
        for (uint64_t i = 0; i < some; i++) {
            size_t size = pair_key(pairs, left + i, names[i]);
            for (unsigned time = 0; time < times; time++) {
                words[1 + i * times + time] = bytes_of(names[i], size);
            }
        }
        redisReply *reply = conn_call(&conn, ANSWER_NS, 1 + times * some, words);
        fine = is_right(reply, pairs, left, some, times, right);
        *answers += times * some;
        freeReplyObject(reply);
    }
    if (!fine) {
        fprintf(stderr, "qs-bench: %s: a wrong answer, or none\n", node->name);
    }
    conn_close(&conn);
    mem_free(names);
    mem_free(right);
    return fine && left == 0;
}

bool hot_fill(const struct node *node, const struct pairs *pairs, uint64_t count, uint64_t *answers)
{
    return look_up(node, pairs, count, TIMES_MAX, answers);
}

bool hot_blocks(const struct node *node, const struct pairs *pairs, uint64_t *answers)
{
    return look_up(node, pairs, pairs->count, 1, answers);
}
