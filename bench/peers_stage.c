// SPDX-License-Identifier: Apache-2.0
// Servers with all pairs, a root, a proxy of it and Redis, for the sections that look pairs up:
// they are loaded by the first one that asks and stay for the next, which has its own options.
#include <pthread.h>
#include <stdio.h>

#include <unistd.h>

#include "bench/drive.h"
#include "bench/peers.h"
#include "bench/writes.h"
#include "common/base/clock.h"
#include "common/base/mem.h"

#define STORE_CONNECTIONS 4
#define STORE_DEPTH 64
#define CACHE_LEAST (256 * MIB) // a daemon's default
#define CACHE_PART 8            // of the machine's memory

bool peers_count(struct peers *peers, const struct drive_result *result, bool fine)
{
    peers->answers += result->count;
    peers->faults += result->faults;
    if (!fine) {
        bool said = result->fault[0] != '\0';
        fprintf(stderr, "qs-bench: %s\n", said ? result->fault : "no connection");
    }
    return fine;
}

// ---- loading ------------------------------------------------------------------------------------

struct storing {
    const struct pairs *pairs;
    const struct rival *rival;
    struct drive_result result;
    bool fine;
};

static void *store_on(void *of)
{
    struct storing *storing = of;
    const struct drive_options options = {
        .socket = storing->rival->socket,
        .dialect = storing->rival->dialect,
        .what = DRIVE_STORE,
        .pairs = storing->pairs,
        .connections = STORE_CONNECTIONS,
        .depth = STORE_DEPTH,
    };
    storing->fine = drive_run(&options, &storing->result);
    return NULL;
}

static struct storing *storing_new(const struct peers *peers, const struct rival *rival)
{
    struct storing *storing = mem_zalloc(sizeof *storing);
    storing->pairs = peers->options->pairs;
    storing->rival = rival;
    return storing;
}

static bool storing_end(struct peers *peers, struct storing *storing)
{
    bool fine = peers_count(peers, &storing->result, storing->fine);
    mem_free(storing);
    return fine;
}

bool peers_store(struct peers *peers, const struct rival *rival)
{
    struct storing *storing = storing_new(peers, rival);
    store_on(storing);
    return storing_end(peers, storing);
}

// As many bytes of blocks as Redis needs for the same pairs, about: it holds them all in memory.
static uint64_t cache_for(const struct pairs *pairs)
{
    uint64_t memory = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t all = pairs->key_bytes + pairs->value_bytes;
    return u64_max(CACHE_LEAST, u64_min(all + all / 4, memory / CACHE_PART));
}

// The proxy follows from the beginning, so it keeps every value as it arrives. Redis is loaded on
// another core meanwhile.
static bool load(struct peers *peers)
{
    const struct pairs *pairs = peers->options->pairs;
    struct peers_stage *stage = &peers->stage;
    struct nodes *nodes = &stage->nodes;
    struct writes_options all = {.pairs = pairs, .count = pairs->count};
    stage->open = true;
    bool fine = nodes_open(nodes, NULL, peers->options->io, NULL);
    nodes->more = stage->options;
    nodes->source = NODE_ROOT;
    if (!fine || !rival_redis(&stage->redis, "redis", nodes->directory, NULL)) {
        return false;
    }
    pthread_t thread;
    struct storing *storing = storing_new(peers, &stage->redis);
    CHECK(pthread_create(&thread, NULL, store_on, storing) == 0);
    fine = node_start(nodes, NODE_ROOT, false) && node_start(nodes, NODE_PROXY, false);
    all.socket = nodes->node[NODE_ROOT].socket;
    fine = fine && writes_all(&all) && nodes_settle(nodes);
    pthread_join(thread, NULL);
    return storing_end(peers, storing) && fine;
}

// Brings everything onto the disk.
static bool restart(struct nodes *nodes, int which, const char *options)
{
    nodes->own[which] = options;
    bool fine = node_stop(nodes, which) && node_start(nodes, which, false);
    if (fine) {
        node_wait_still(&nodes->node[which], "store_bytes", NODE_STORE_LOOKS);
    }
    return fine;
}

static void set_options(struct peers_stage *stage, const struct pairs *pairs, unsigned busy_us)
{
    mem_free(stage->options);
    stage->cache_bytes = cache_for(pairs);
    stage->options =
        mem_format("loops = 1\nblock_cache = %llu\npin_index = yes\nbusy_poll = %u\n",
                   (unsigned long long)stage->cache_bytes, busy_us);
}

bool peers_stage(struct peers *peers, unsigned busy_us, const char *root_options,
                 const char *proxy_options)
{
    struct peers_stage *stage = &peers->stage;
    uint64_t began = clock_mono_ns();
    cores_free_self(&peers->cores);
    set_options(stage, peers->options->pairs, busy_us);
    if (!stage->open && !load(peers)) {
        return false;
    }
    stage->nodes.more = stage->options;
    bool fine = restart(&stage->nodes, NODE_ROOT, root_options) &&
                restart(&stage->nodes, NODE_PROXY, proxy_options) && nodes_settle(&stage->nodes);
    peers->loading_ns += clock_mono_ns() - began;
    return fine;
}

bool peers_stage_close(struct peers *peers)
{
    struct peers_stage *stage = &peers->stage;
    bool fine = true;
    if (stage->open) {
        rival_stop(&stage->redis);
        fine = nodes_close(&stage->nodes, false);
        mem_free(stage->options);
        *stage = (struct peers_stage){.open = false};
    }
    return fine;
}
