// SPDX-License-Identifier: Apache-2.0
// INFO: sections of `name:value` lines as Redis lays them out. Clients search the text for the
// first line with a name (redis-cli --stat does), so Redis's names keep their meaning and order,
// and ours come last. Any thread.
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/io/address.h"
#include "proxy/fetch.h"
#include "qs/status_parts.h"
#include "qs/version.h"

struct telling {
    struct daemon *daemon;
    struct daemon_instance *selected; // never NULL
    struct buf *to;
};

// The first TCP port among the client addresses, 0 when there is none.
static unsigned tcp_port(const struct daemon *daemon)
{
    const char *const *client = daemon->config->node.client;
    for (; *client != NULL; client++) {
        const char *colon = strrchr(*client, ':');
        unsigned port = 0;
        if (strncmp(*client, "unix:", 5) != 0 && colon != NULL) {
            for (const char *at = colon + 1; *at >= '0' && *at <= '9' && port <= 65535; at++) {
                port = port * 10 + (unsigned)(*at - '0');
            }
            return port;
        }
    }
    return 0;
}

static uint64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long pages = 0;
    if (file != NULL) {
        if (fscanf(file, "%*u %llu", &pages) != 1) {
            pages = 0;
        }
        fclose(file);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void tell_server(struct telling *telling)
{
    struct daemon *daemon = telling->daemon;
    uint64_t uptime = (clock_mono_ns() - daemon->started_ns) / NS_PER_S;
    bool uring = METRIC_GET(&daemon->metrics, node, io_uring) != 0;
    buf_format(telling->to,
               "redis_version:" REDIS_COMPATIBLE "\r\nredis_mode:standalone\r\n"
               "qs_version:" QS_VERSION "\r\nmultiplexing_api:%s\r\nprocess_id:%d\r\n"
               "run_id:%s\r\ntcp_port:%u\r\nnode:%s\r\ncluster:%s\r\n"
               "uptime_in_seconds:%" PRIu64 "\r\nuptime_in_days:%" PRIu64 "\r\n",
               uring ? "io_uring" : "epoll", (int)getpid(), daemon->run_id, tcp_port(daemon),
               daemon->config->node.node, daemon->config->node.cluster, uptime, uptime / 86400);
}

static void tell_clients(struct telling *telling)
{
    struct daemon *daemon = telling->daemon;
    buf_format(telling->to,
               "connected_clients:%" PRIu64 "\r\nmaxclients:%" PRIu64 "\r\nblocked_clients:0\r\n"
               "connected_peers:%" PRIu64 "\r\n",
               METRIC_GET(&daemon->metrics, node, clients), daemon->config->node.clients_max,
               METRIC_GET(&daemon->metrics, node, peers));
}

static void append_human(struct buf *to, uint64_t bytes)
{
    static const char units[] = "BKMGT";
    double amount = (double)bytes;
    size_t unit = 0;
    while (amount >= 1024 && unit + 2 < sizeof units) {
        amount /= 1024;
        unit++;
    }
    buf_format(to, "%.2f%c", amount, units[unit]);
}

static void tell_memory(struct telling *telling)
{
    uint64_t resident = resident_bytes();
    buf_format(telling->to, "used_memory:%" PRIu64 "\r\nused_memory_human:", resident);
    append_human(telling->to, resident);
    buf_format(telling->to, "\r\nused_memory_rss:%" PRIu64 "\r\nmaxmemory:0\r\n"
                            "maxmemory_policy:noeviction\r\n", resident);
}

static void tell_persistence(struct telling *telling)
{
    struct daemon_instance *selected = telling->selected;
    buf_format(telling->to, "loading:%d\r\nrdb_bgsave_in_progress:0\r\naof_enabled:1\r\n"
                            "aof_rewrite_in_progress:0\r\n",
               instance_state(selected->instance) == INSTANCE_LOADING);
}

static void tell_stats(struct telling *telling)
{
    struct daemon *daemon = telling->daemon;
    uint64_t reads = 0, absent = 0;
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        reads += METRIC_GET(&daemon->instances[i].metrics, instance, reads);
        absent += METRIC_GET(&daemon->instances[i].metrics, instance, reads_absent);
    }
    uint64_t commands = METRIC_GET(&daemon->metrics, node, commands);
    uint64_t uptime = (clock_mono_ns() - daemon->started_ns) / NS_PER_S;
    buf_format(telling->to,
               "total_connections_received:%" PRIu64 "\r\ntotal_commands_processed:%" PRIu64 "\r\n"
               "average_ops_per_sec:%" PRIu64 "\r\nrejected_connections:%" PRIu64 "\r\n"
               "keyspace_hits:%" PRIu64 "\r\nkeyspace_misses:%" PRIu64 "\r\n"
               "total_error_replies:%" PRIu64 "\r\n",
               METRIC_GET(&daemon->metrics, node, clients_accepted), commands,
               commands / u64_max(uptime, 1), METRIC_GET(&daemon->metrics, node, clients_refused),
               reads - u64_min(reads, absent), absent,
               METRIC_GET(&daemon->metrics, node, command_errors));
}

static void tell_upstream(struct telling *telling, struct instance *instance)
{
    struct upstream_status upstream;
    follow_status(instance, &upstream);
    const char *colon = strrchr(upstream.address, ':');
    int host = colon == NULL ? (int)strlen(upstream.address) : (int)(colon - upstream.address);
    buf_format(telling->to,
               "master_host:%.*s\r\nmaster_port:%s\r\nmaster_link_status:%s\r\n"
               "upstream_node:%s\r\nupstream_state:%s\r\nslave_read_only:1\r\n",
               host, upstream.address, colon == NULL ? "0" : colon + 1,
               upstream.connected ? "up" : "down", upstream.node, upstream.state);
}

static void tell_replication(struct telling *telling)
{
    struct daemon_instance *selected = telling->selected;
    struct instance *instance = selected->instance;
    struct instance_status status;
    instance_status_take(&status, selected);
    buf_format(telling->to, "role:%s\r\n",
               instance_leads(instance) ? "master"
               : instance->lead != NULL ? "standby"
                                        : "slave");
    if (instance->upstream != NULL && !instance_leads(instance)) {
        tell_upstream(telling, instance);
    }
    size_t children = selected->fanout == NULL ? 0 : fanout_status(selected->fanout, NULL, 0);
    buf_format(telling->to, "connected_slaves:%zu\r\nmaster_replid:%s\r\n"
                            "master_repl_offset:%" PRIu64 "\r\n",
               children, status.history, status.visible);
}

static void tell_keyspace(struct telling *telling)
{
    struct daemon *daemon = telling->daemon;
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        struct instance_status status;
        instance_status_take(&status, &daemon->instances[i]);
        if (status.digest.keys > 0) { // as Redis: empty ones are not listed
            buf_format(telling->to, "db%" PRIu64 ":keys=%" PRIu64 ",expires=0,avg_ttl=0\r\n",
                       status.options->number, status.digest.keys);
        }
    }
}

static void tell_qs(struct telling *telling)
{
    struct daemon *daemon = telling->daemon;
    buf_format(telling->to, "instances:%u\r\n", daemon->instance_count);
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        struct instance_status status;
        instance_status_take(&status, &daemon->instances[i]);
        const struct instance_options *options = status.options;
        buf_format(telling->to, "instance_%s:number=%" PRIu64 ",role=%s,state=%s,store=%s,"
                                "visible_index=%" PRIu64 ",synced_index=%" PRIu64 ",keys=%" PRIu64
                                ",age_ms=",
                   options->name, options->number, role_text(options->role),
                   instance_state_text(status.state), status.store, status.visible, status.synced,
                   status.digest.keys);
        if (status.age_ns == UINT64_MAX) {
            buf_append_text(telling->to, "unknown");
        } else {
            buf_format(telling->to, "%" PRIu64, status_ms(status.age_ns));
        }
        const struct instance_metrics *metrics = &daemon->instances[i].metrics;
        buf_format(telling->to, ",age_alarm=%d,lag_network_us=%" PRIu64 ",lag_queue_us=%" PRIu64
                                ",lag_apply_us=%" PRIu64,
                   METRIC_GET(metrics, instance, age_alarm) != 0,
                   METRIC_GET(metrics, instance, lag_network_ns) / 1000,
                   METRIC_GET(metrics, instance, lag_queue_ns) / 1000,
                   METRIC_GET(metrics, instance, lag_apply_ns) / 1000);
        buf_format(telling->to, ",digest=%s,history=%s,space=%s,space_reason=%s,disk_bytes=%" PRIu64
                                ",disk_free_bytes=%" PRIu64 "\r\n",
                   status.digest_text, status.history, space_level_text(status.space.level),
                   status.space.reason, status.space.sample.used_bytes,
                   status.space.sample.free_bytes);
    }
}

// What the proxies here fetch missing values from.
static void tell_replicas(struct telling *telling)
{
    struct daemon *daemon = telling->daemon;
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        struct instance *instance = daemon->instances[i].instance;
        struct replica_status status[STATUS_REPLICAS_MAX];
        size_t count = instance->options->role != ROLE_PROXY
                           ? 0 : fetch_status(instance, status, STATUS_REPLICAS_MAX);
        for (size_t j = 0; j < u64_min(count, STATUS_REPLICAS_MAX); j++) {
            buf_format(telling->to,
                       "replica_%s_%zu:address=%s,state=%s,in_flight=%u,rtt_us=%" PRIu64
                       ",response_us=%" PRIu64 ",visible_index=%" PRIu64 ",history_floor=%" PRIu64
                       "\r\n",
                       instance->name, j, status[j].address, status[j].state, status[j].in_flight,
                       status[j].rtt_ns / 1000, status[j].response_ns / 1000, status[j].visible,
                       status[j].floor);
        }
    }
}

static const struct {
    const char *name;
    void (*tell)(struct telling *telling);
} sections[] = {
    {"Server", tell_server},           {"Clients", tell_clients}, {"Memory", tell_memory},
    {"Persistence", tell_persistence}, {"Stats", tell_stats},     {"Replication", tell_replication},
    {"Keyspace", tell_keyspace},       {"QS", tell_qs},           {"Replicas", tell_replicas},
};

static bool is_word(struct bytes text, const char *word)
{
    return text.size == strlen(word) && strncasecmp((const char *)text.data, word, text.size) == 0;
}

void status_info(struct daemon *daemon, struct daemon_instance *selected, struct bytes section,
                 struct buf *to)
{
    CHECK(daemon->instance_count > 0);
    bool all = section.size == 0 || is_word(section, "all") || is_word(section, "default") ||
               is_word(section, "everything");
    struct telling telling = {
        .daemon = daemon,
        .selected = selected != NULL ? selected : &daemon->instances[0],
        .to = to,
    };
    for (size_t i = 0; i < ARRAY_LEN(sections); i++) {
        if (all || is_word(section, sections[i].name)) {
            buf_format(to, "%s# %s\r\n", to->size > 0 ? "\r\n" : "", sections[i].name);
            sections[i].tell(&telling);
        }
    }
}
