// SPDX-License-Identifier: Apache-2.0
#include "common/discovery/seeker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/clock.h"
#include "common/base/hash.h"
#include "common/base/mem.h"
#include "common/discovery/saved.h"
#include "common/discovery/srv.h"

#define KIND(kind) (1u << (kind))
#define KINDS_REPLICA (KIND(ENDPOINT_REPLICA) | KIND(ENDPOINT_INTERMEDIATE))
#define KINDS_PARENT (KINDS_REPLICA | KIND(ENDPOINT_ROOT) | KIND(ENDPOINT_UNKNOWN))

// ---- sources -----------------------------------------------------------------------------------

static void refuse(struct source *source, size_t count, const char *first)
{
    struct seeker *seeker = source->seeker;
    METRIC_ADD(seeker->setup.metrics, instance, found_refused, count);
    if (count > 0) {
        LOG_GATED(&seeker->refused_gate, LOG_WARN, seeker->setup.instance,
                  "Consul names %zu that cannot be used: %s", count, first);
    }
}

static size_t count_kinds(const struct endpoints *list, unsigned kinds)
{
    size_t count = 0;
    for (size_t i = 0; i < list->count; i++) {
        count += (kinds & KIND(list->endpoint[i].kind)) != 0;
    }
    return count;
}

static void on_nodes(struct inquiry *inquiry, const struct consul_answer *answer)
{
    struct source *source = CONTAINER_OF(inquiry, struct source, inquiry);
    struct seeker *seeker = source->seeker;
    struct catalog_wish wish = {
        .node = seeker->setup.node, .cluster = seeker->setup.cluster, .own_site = source->own};
    struct endpoints *named;
    struct catalog_faults faults;
    const char *reason = answer->reason;
    if (answer->error == OK &&
        catalog_read_health(answer->body, &wish, &named, &faults) != OK) {
        reason = "the answer is not what it should be";
        METRIC_ADD(seeker->setup.node_metrics, node, consul_errors, 1);
    } else if (answer->error == OK) {
        uint64_t now_ns = clock_mono_ns(), said = hash64(answer->body, 0);
        refuse(source, faults.refused, faults.first);
        roster_take(&source->nodes, named, answer->leader, now_ns);
        source->replicas_named = count_kinds(named, KINDS_REPLICA);
        endpoints_release(named);
        if (said != source->said && !source->look.busy) {
            source->look_ns = u64_min(source->look_ns, now_ns + random_jitter_ms(
                                                                    INQUIRY_LEAST_MS) * NS_PER_MS);
        }
        if (seeker->setup.parents != NULL && seeker->parents->count == 0) {
            uint64_t soon_ns = now_ns + random_jitter_ms(SEEKER_LOST_MS) * NS_PER_MS;
            inquiry->next_ns = u64_min(inquiry->next_ns, soon_ns);
        }
        source->said = said;
        seeker->changed = true;
        return;
    }
    LOG_GATED(&seeker->gate, LOG_WARN, seeker->setup.instance,
              "Consul does not say which nodes there are, the list stays as it is: %s (status %u)",
              reason, answer->status);
}

static uint64_t look_pause_ms(const struct source *source)
{
    return source->look_failures == 0 ? source->look_every_ms
                                      : inquiry_pause_ms(source->look_failures);
}

// Consul answers in another order each time. This one stays, and differs from node to node.
static int by_lot(const void *a, const void *b)
{
    const struct endpoint *left = a, *right = b;
    return (left->distance_ns > right->distance_ns) - (left->distance_ns < right->distance_ns);
}

static void draw_lots(struct source *source, struct endpoints *named)
{
    uint64_t seed = hash64(bytes_text(source->seeker->setup.node), 0);
    for (size_t i = 0; i < named->count; i++) {
        named->endpoint[i].distance_ns = hash64(bytes_text(named->endpoint[i].address), seed);
    }
    qsort(named->endpoint, named->count, sizeof named->endpoint[0], by_lot);
    for (size_t i = 0; i < named->count; i++) {
        named->endpoint[i].distance_ns = UINT64_MAX;
        named->endpoint[i].own_site = source->own;
        memcpy(named->endpoint[i].site, source->site, sizeof source->site);
    }
}

static void on_replicas(struct dns_call *call, int error, struct bytes message)
{
    struct source *source = CONTAINER_OF(call, struct source, look);
    struct endpoints *named;
    size_t refused;
    if (error == OK) {
        error = srv_read(message, &named, &refused);
    }
    if (error == OK) {
        refuse(source, refused, "a replica without an address");
        draw_lots(source, named);
        roster_take(&source->replicas, named, true, clock_mono_ns());
        endpoints_release(named);
    } else if (error != ERR_NOT_FOUND) { // nobody is found where nobody is, too
        METRIC_ADD(source->seeker->setup.node_metrics, node, consul_lookup_errors, 1);
        LOG_GATED(&source->seeker->gate, LOG_WARN, source->seeker->setup.instance,
                  "Consul's DNS does not say which replicas there are, the list stays as it is: %s",
                  error_text(error));
    }
    source->look_failures =
        error == OK || error == ERR_NOT_FOUND ? 0 : source->look_failures + 1;
    source->look_ns = clock_mono_ns() + random_jitter_ms(look_pause_ms(source)) * NS_PER_MS;
    source->seeker->changed = true;
}

static char *nodes_path(const struct seeker *seeker, const char *site, bool own)
{
    // The filter: "proxy" not in Service.Tags
    return mem_format("/v1/health/service/%s?passing=1&stale%s&filter=%%22proxy%%22%%20not%%20in"
                      "%%20Service.Tags%s%s",
                      seeker->setup.service, own ? "&near=_agent" : "",
                      site[0] == '\0' ? "" : "&dc=", site);
}

static struct source *source_open(struct seeker *seeker, const char *site)
{
    struct source *source = mem_zalloc(sizeof *source);
    source->seeker = seeker;
    source->own = seeker->source_count == 0;
    source->distance_ns = UINT64_MAX;
    source->look_every_ms = source->own ? SEEKER_LOOK_MS : SEEKER_FAR_MS;
    source->look.answered = on_replicas;
    snprintf(source->site, sizeof source->site, "%s", site);
    inquiry_open(&source->inquiry, nodes_path(seeker, site, source->own),
                 source->own ? 0 : SEEKER_FAR_MS, on_nodes);
    if (!source->own) { // one after another
        uint64_t after_ms = random_jitter_ms(SEEKER_STAGGER_MS * seeker->source_count);
        source->inquiry.next_ns = clock_mono_ns() + after_ms * NS_PER_MS;
        source->look_ns = source->inquiry.next_ns;
    }
    seeker->sources[seeker->source_count++] = source;
    return source;
}

static void source_close(struct source *source)
{
    inquiry_close(&source->inquiry);
    roster_free(&source->nodes);
    roster_free(&source->replicas);
    mem_free(source);
}

// NULL when there are too many.
static struct source *source_of(struct seeker *seeker, const char *site)
{
    for (size_t i = 0; i < seeker->source_count; i++) {
        if (strcmp(seeker->sources[i]->site, site) == 0) {
            return seeker->sources[i];
        }
    }
    return seeker->source_count < ARRAY_LEN(seeker->sources) ? source_open(seeker, site) : NULL;
}

static uint64_t look_turn(struct source *source, uint64_t now_ns)
{
    const struct seeker_setup *setup = &source->seeker->setup;
    if (setup->replicas == NULL || source->look.busy) {
        return UINT64_MAX;
    }
    if (now_ns < source->look_ns) {
        return source->look_ns;
    }
    char *name = mem_format("replica.%s.service%s%s.%s", setup->service,
                            source->site[0] == '\0' ? "" : ".", source->site, setup->domain);
    METRIC_ADD(setup->node_metrics, node, consul_lookups, 1);
    dns_ask(setup->dns, &source->look, name);
    mem_free(name);
    return now_ns;
}

// ---- lists -------------------------------------------------------------------------------------

static bool listed(const struct endpoints *list, const struct endpoint *endpoint)
{
    for (size_t i = 0; i < list->count; i++) {
        if (strcmp(list->endpoint[i].address, endpoint->address) == 0) {
            return true;
        }
    }
    return false;
}

static void add(struct endpoints *list, const struct source *source,
                const struct endpoint *endpoint)
{
    if (list->count < SEEKER_LIST_MAX && !listed(list, endpoint)) {
        struct endpoint *next = &list->endpoint[list->count++];
        *next = *endpoint;
        next->distance_ns = source->distance_ns;
    }
}

static void add_nodes(struct endpoints *list, const struct seeker *seeker, unsigned kinds)
{
    for (size_t i = 0; i < seeker->source_count; i++) {
        const struct roster *nodes = &seeker->sources[i]->nodes;
        for (size_t j = 0; j < nodes->count; j++) {
            if (kinds & KIND(nodes->entries[j].endpoint.kind)) {
                add(list, seeker->sources[i], &nodes->entries[j].endpoint);
            }
        }
    }
}

static struct endpoints *new_list(void)
{
    struct endpoints *list = endpoints_new(SEEKER_LIST_MAX);
    list->count = 0;
    return list;
}

// What DNS names, else what the health questions name; and roots, while these name no replica.
static struct endpoints *list_replicas(const struct seeker *seeker)
{
    struct endpoints *list = new_list();
    size_t named = 0;
    for (size_t i = 0; i < seeker->source_count; i++) {
        const struct source *source = seeker->sources[i];
        named += source->replicas_named;
        for (size_t j = 0; j < source->replicas.count; j++) {
            const struct endpoint *entry = &source->replicas.entries[j].endpoint;
            const struct endpoint *known = roster_find(&source->nodes, entry->address);
            add(list, source, known != NULL ? known : entry);
        }
    }
    if (list->count == 0) {
        add_nodes(list, seeker, KINDS_REPLICA);
    }
    if (named == 0) {
        add_nodes(list, seeker, KIND(ENDPOINT_ROOT));
    }
    return list;
}

// Distances change all the time; but for them, and the order too.
static bool lists_equal(const struct endpoints *a, const struct endpoints *b)
{
    bool equal = a->count == b->count;
    for (size_t i = 0; equal && i < a->count; i++) {
        const struct endpoint *left = &a->endpoint[i], *right = &b->endpoint[i];
        equal = strcmp(left->address, right->address) == 0 &&
                strcmp(left->node, right->node) == 0 && strcmp(left->site, right->site) == 0 &&
                left->kind == right->kind && left->depth == right->depth &&
                left->own_site == right->own_site;
    }
    return equal;
}

// Takes the reference to `list` over. Returns whether others are in it than before.
static bool publish(struct endpoint_feed *feed, struct endpoints **last, struct endpoints *list)
{
    if (lists_equal(*last, list)) {
        endpoints_release(list);
        return false;
    }
    bool others = !endpoints_same(*last, list);
    endpoints_release(*last);
    *last = list;
    endpoint_feed_publish(feed, endpoints_hold(list));
    return others;
}

static void publish_all(struct seeker *seeker)
{
    const struct seeker_setup *setup = &seeker->setup;
    bool news = false;
    if (setup->parents != NULL) {
        struct endpoints *list = new_list();
        add_nodes(list, seeker, KINDS_PARENT);
        news |= publish(setup->parents, &seeker->parents, list);
    }
    if (setup->replicas != NULL) {
        news |= publish(setup->replicas, &seeker->replicas, list_replicas(seeker));
    }
    size_t missed = 0;
    for (size_t i = 0; i < seeker->source_count; i++) {
        missed += seeker->sources[i]->nodes.missed + seeker->sources[i]->replicas.missed;
    }
    METRIC_SET(setup->metrics, instance, found_parents, seeker->parents->count);
    METRIC_SET(setup->metrics, instance, found_replicas, seeker->replicas->count);
    METRIC_SET(setup->metrics, instance, found_missed, missed);
    if (news) {
        log_line(LOG_INFO, setup->instance,
                 "found: %zu possible parents, %zu replicas; %zu kept that Consul does not name",
                 seeker->parents->count, seeker->replicas->count, missed);
    }
    seeker->unsaved |= news;
    seeker->changed = false;
}

// ---- the file ----------------------------------------------------------------------------------

static void save_roster(struct buf *lines, const char *name, const struct roster *roster)
{
    for (size_t i = 0; i < roster->count; i++) {
        saved_add(lines, name, &roster->entries[i].endpoint);
    }
}

static void save(struct seeker *seeker)
{
    struct buf lines = {.limit = SAVED_BYTES_MAX / 2}; // the nearest, then
    for (size_t i = 0; i < seeker->source_count; i++) {
        save_roster(&lines, "nodes", &seeker->sources[i]->nodes);
        save_roster(&lines, "replicas", &seeker->sources[i]->replicas);
    }
    if (saved_write(seeker->setup.saved_path, &lines) != OK) {
        LOG_GATED(&seeker->gate, LOG_WARN, seeker->setup.instance, "cannot save %s: %s",
                  seeker->setup.saved_path, strerror(errno));
    }
    buf_free(&lines);
    seeker->unsaved = false;
}

static void on_saved(void *argument, const char *list, const struct endpoint *endpoint)
{
    struct seeker *seeker = argument;
    struct source *source =
        endpoint->own_site ? seeker->sources[0] : source_of(seeker, endpoint->site);
    if (source != NULL) {
        roster_remember(strcmp(list, "nodes") == 0 ? &source->nodes : &source->replicas, endpoint);
    }
}

static void load(struct seeker *seeker)
{
    int error = saved_read(seeker->setup.saved_path, on_saved, seeker);
    if (error != OK && error != ERR_NOT_FOUND) {
        log_line(LOG_WARN, seeker->setup.instance, "%s, which holds the nodes that were found "
                 "before, cannot be used: %s", seeker->setup.saved_path,
                 error == ERR_CORRUPT ? error_text(error) : strerror(errno));
    }
}

// ---- life --------------------------------------------------------------------------------------

void seeker_open(struct seeker *seeker, const struct seeker_setup *setup)
{
    *seeker = (struct seeker){.setup = *setup};
    seeker->parents = endpoints_new(0);
    seeker->replicas = endpoints_new(0);
    source_open(seeker, setup->site == NULL ? "" : setup->site);
    load(seeker);
    publish_all(seeker);
    seeker->unsaved = false;
}

void seeker_close(struct seeker *seeker)
{
    if (seeker->unsaved) {
        save(seeker);
    }
    for (size_t i = 0; i < seeker->source_count; i++) {
        source_close(seeker->sources[i]);
    }
    endpoints_release(seeker->parents);
    endpoints_release(seeker->replicas);
}

void seeker_sites(struct seeker *seeker, const char *own, const struct catalog_sites *sites)
{
    size_t rank = 0;
    for (size_t i = 0; i < sites->count; i++) {
        const struct catalog_site *site = &sites->site[i];
        struct source *source =
            strcmp(site->name, own) == 0 ? NULL : source_of(seeker, site->name);
        if (source == NULL || source->own) {
            continue;
        }
        source->distance_ns = site->distance_ns;
        source->inquiry.every_ms = source->look_every_ms =
            rank < SEEKER_NEAR ? SEEKER_NEAR_MS : SEEKER_FAR_MS;
        rank++;
        // Its place is behind the own one and those that are nearer.
        size_t at = 1;
        while (seeker->sources[at] != source) {
            at++;
        }
        for (; at > rank; at--) {
            seeker->sources[at] = seeker->sources[at - 1];
        }
        seeker->sources[rank] = source;
    }
    seeker->changed = true;
}

uint64_t seeker_turn(struct seeker *seeker, uint64_t now_ns)
{
    uint64_t next_ns = UINT64_MAX;
    for (size_t i = 0; i < seeker->source_count; i++) {
        struct source *source = seeker->sources[i];
        next_ns = u64_min(next_ns, inquiry_turn(&source->inquiry, seeker->setup.consul, now_ns));
        next_ns = u64_min(next_ns, look_turn(source, now_ns));
    }
    if (seeker->changed && now_ns >= seeker->publish_ns) {
        publish_all(seeker);
        seeker->publish_ns = now_ns + INQUIRY_LEAST_MS * NS_PER_MS;
    }
    if (seeker->unsaved && now_ns >= seeker->save_ns) {
        save(seeker);
        seeker->save_ns = now_ns + SEEKER_SAVE_NS;
    }
    next_ns = seeker->changed ? u64_min(next_ns, seeker->publish_ns) : next_ns;
    return seeker->unsaved ? u64_min(next_ns, seeker->save_ns) : next_ns;
}
