// SPDX-License-Identifier: Apache-2.0
#include "common/discovery/finder.h"

#include <pthread.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/discovery/seeker.h"

#define TURN_MAX_MS 60000

struct member {
    char *service;
    bool registers, seeks;
    struct agent agent;
    struct seeker seeker;
};

struct finder {
    struct finder_setup setup;
    struct consul *consul;
    struct dns *dns;
    char host[ADDRESS_TEXT_BYTES]; // that is registered
    unsigned port;
    struct member *members; // one an instance
    size_t member_count;
    bool seeks; // any of them
    // Which data centres there are, and which is the own one ("" = not known yet).
    struct inquiry self, names, distances;
    char own[ENDPOINT_SITE_MAX + 1];
    struct catalog_sites sites;
    pthread_t thread;
    _Atomic bool stopping;
};

// ---- data centres ------------------------------------------------------------------------------

static void tell_sites(struct finder *finder)
{
    for (size_t i = 0; i < finder->member_count && finder->own[0] != '\0'; i++) {
        if (finder->members[i].seeks) {
            seeker_sites(&finder->members[i].seeker, finder->own, &finder->sites);
        }
    }
}

static void on_self(struct inquiry *inquiry, const struct consul_answer *answer)
{
    struct finder *finder = CONTAINER_OF(inquiry, struct finder, self);
    if (answer->error == OK && finder->own[0] == '\0' &&
        catalog_read_self(answer->body, finder->own) == OK) {
        tell_sites(finder);
    }
}

static void on_names(struct inquiry *inquiry, const struct consul_answer *answer)
{
    struct finder *finder = CONTAINER_OF(inquiry, struct finder, names);
    if (answer->error == OK && catalog_read_sites(answer->body, &finder->sites) == OK) {
        finder->distances.next_ns = 0;
        finder->names.every_ms = finder->sites.count > 1 ? FINDER_SITES_MS : FINDER_ALONE_MS;
    }
}

// Without distances the order in which Consul names them stays: it is by nearness, too.
static void on_distances(struct inquiry *inquiry, const struct consul_answer *answer)
{
    struct finder *finder = CONTAINER_OF(inquiry, struct finder, distances);
    if (answer->error == OK &&
        catalog_read_distances(answer->body, finder->own, &finder->sites) != OK) {
        log_line(LOG_WARN, NULL, "Consul's coordinates are not what they should be");
    }
    tell_sites(finder);
}

static uint64_t sites_turn(struct finder *finder, uint64_t now_ns)
{
    if (!finder->seeks) {
        return UINT64_MAX;
    }
    uint64_t next_ns = inquiry_turn(&finder->names, finder->consul, now_ns);
    if (finder->own[0] == '\0') {
        next_ns = u64_min(next_ns, inquiry_turn(&finder->self, finder->consul, now_ns));
    } else if (finder->sites.count > 0) {
        next_ns = u64_min(next_ns, inquiry_turn(&finder->distances, finder->consul, now_ns));
    }
    return next_ns;
}

// ---- the thread --------------------------------------------------------------------------------

static void count_registered(struct finder *finder)
{
    unsigned registered = 0;
    for (size_t i = 0; i < finder->member_count; i++) {
        registered += finder->members[i].registers && finder->members[i].agent.registered_ns != 0;
    }
    METRIC_SET(finder->setup.metrics, node, consul_registered, registered);
}

static const struct finder_guest *guest_of(const struct finder *finder, size_t member)
{
    const struct finder_guest *guest = &finder->setup.instances[member].guest;
    return guest->owner != NULL ? guest : NULL;
}

// Does what is due; returns when the next thing is.
static uint64_t take_turn(struct finder *finder)
{
    uint64_t now_ns = clock_mono_ns();
    uint64_t next_ns = sites_turn(finder, now_ns);
    for (size_t i = 0; i < finder->member_count; i++) {
        struct member *member = &finder->members[i];
        if (member->registers) {
            next_ns = u64_min(next_ns, agent_turn(&member->agent, finder->consul, now_ns));
        }
        if (member->seeks) {
            next_ns = u64_min(next_ns, seeker_turn(&member->seeker, now_ns));
        }
        if (guest_of(finder, i) != NULL) {
            const struct finder_guest *guest = guest_of(finder, i);
            next_ns = u64_min(next_ns, guest->turn(guest->owner, clock_mono_ns()));
        }
    }
    count_registered(finder);
    return next_ns;
}

static void wait_until(struct finder *finder, uint64_t at_ns)
{
    uint64_t now_ns = clock_mono_ns();
    uint64_t wait_ms = at_ns <= now_ns ? 0 : (at_ns - now_ns) / NS_PER_MS + 1;
    unsigned timeout_ms = (unsigned)u64_min(wait_ms, TURN_MAX_MS);
    struct pollfd descriptors[DNS_DESCRIPTORS_MAX];
    unsigned count = 0;
    if (finder->dns != NULL) {
        count = dns_descriptors(finder->dns, descriptors);
        timeout_ms = dns_timeout_ms(finder->dns, timeout_ms);
    }
    consul_wait(finder->consul, descriptors, count, timeout_ms);
    if (finder->dns != NULL) {
        dns_process(finder->dns, descriptors, count);
    }
}

static bool all_left(const struct finder *finder)
{
    for (size_t i = 0; i < finder->member_count; i++) {
        if (finder->members[i].registers && !agent_left(&finder->members[i].agent)) {
            return false;
        }
    }
    return true;
}

static void leave(struct finder *finder)
{
    for (size_t i = 0; i < finder->member_count; i++) {
        if (finder->members[i].registers) {
            agent_leave(&finder->members[i].agent, finder->consul);
        }
    }
    while (!all_left(finder)) { // each call has its limit of time
        consul_wait(finder->consul, NULL, 0, AGENT_LEAVE_MS);
    }
}

static bool parting(const struct finder *finder)
{
    bool more = false;
    for (size_t i = 0; i < finder->member_count; i++) {
        const struct finder_guest *guest = guest_of(finder, i);
        more = (guest != NULL && guest->parting(guest->owner)) || more;
    }
    return more;
}

static void let_guests_part(struct finder *finder)
{
    uint64_t until_ns = clock_mono_ns() + AGENT_LEAVE_MS * NS_PER_MS;
    while (clock_mono_ns() < until_ns && parting(finder)) {
        wait_until(finder, u64_min(take_turn(finder), until_ns));
    }
}

static void *finder_main(void *argument)
{
    struct finder *finder = argument;
    pthread_setname_np(pthread_self(), "qs-finder");
    for (size_t i = 0; i < finder->member_count; i++) {
        const struct finder_guest *guest = guest_of(finder, i);
        if (guest != NULL) {
            guest->join(guest->owner, finder->consul);
        }
    }
    while (!atomic_load(&finder->stopping)) {
        wait_until(finder, take_turn(finder));
    }
    let_guests_part(finder);
    for (size_t i = 0; i < finder->member_count; i++) {
        const struct finder_guest *guest = guest_of(finder, i);
        if (guest != NULL) {
            guest->leave(guest->owner);
        }
    }
    leave(finder);
    return NULL;
}

// ---- life --------------------------------------------------------------------------------------

// host:port, as it was checked when it was configured; IPv6 loses its brackets.
static void split_address(struct finder *finder, const char *text)
{
    const char *colon = strrchr(text, ':');
    CHECK(colon != NULL);
    bool bracketed = text[0] == '[';
    snprintf(finder->host, sizeof finder->host, "%.*s", (int)(colon - text) - 2 * bracketed,
             text + bracketed);
    CHECK(sscanf(colon + 1, "%u", &finder->port) == 1);
}

// How soon a root is missed that may have led is a part of how soon another one leads.
static uint64_t ttl_ms(const struct finder_setup *setup, const struct finder_instance *instance)
{
    uint64_t soon_ms = u64_max(FINDER_SOON_MS, setup->node->silence);
    return instance->guest.owner != NULL ? u64_min(setup->consul->ttl, soon_ms)
                                         : setup->consul->ttl;
}

static void open_member(struct finder *finder, struct member *member,
                        const struct finder_instance *instance)
{
    const struct finder_setup *setup = &finder->setup;
    member->service = mem_format("%s%s", setup->consul->service_prefix, instance->name);
    member->registers = setup->advertise != NULL;
    member->seeks = instance->parents != NULL || instance->replicas != NULL;
    finder->seeks |= member->seeks;
    agent_open(&member->agent, &(struct agent_setup){
                                   .instance = instance->name,
                                   .node = setup->node->node,
                                   .cluster = setup->node->cluster,
                                   .service = member->service,
                                   .host = finder->host,
                                   .port = finder->port,
                                   .role = instance->role,
                                   .ttl_ms = ttl_ms(setup, instance),
                                   .facts = instance->facts,
                                   .owner = instance->owner,
                               });
    if (member->seeks) {
        seeker_open(&member->seeker, &(struct seeker_setup){
                                         .instance = instance->name,
                                         .node = setup->node->node,
                                         .cluster = setup->node->cluster,
                                         .service = member->service,
                                         .domain = setup->consul->domain,
                                         .site = setup->consul->datacenter,
                                         .parents = instance->parents,
                                         .replicas = instance->replicas,
                                         .saved_path = instance->saved_path,
                                         .metrics = instance->metrics,
                                         .node_metrics = setup->metrics,
                                         .consul = finder->consul,
                                         .dns = finder->dns,
                                     });
    }
}

static void finder_free(struct finder *finder)
{
    if (finder->dns != NULL) {
        dns_close(finder->dns); // it looks at calls under way, which lie in the seekers
    }
    for (size_t i = 0; i < finder->member_count; i++) {
        struct member *member = &finder->members[i];
        agent_close(&member->agent);
        if (member->seeks) {
            seeker_close(&member->seeker);
        }
        mem_free(member->service);
    }
    inquiry_close(&finder->self);
    inquiry_close(&finder->names);
    inquiry_close(&finder->distances);
    if (finder->consul != NULL) {
        consul_close(finder->consul);
    }
    mem_free(finder->members);
    mem_free(finder);
}

int finder_open(struct finder **ret_finder, const struct finder_setup *setup,
                const char **ret_reason)
{
    struct finder *finder = mem_zalloc(sizeof *finder);
    finder->setup = *setup;
    inquiry_open(&finder->self, mem_text("/v1/agent/self"), FINDER_SITES_MS, on_self);
    inquiry_open(&finder->names, mem_text("/v1/catalog/datacenters"), FINDER_ALONE_MS, on_names);
    inquiry_open(&finder->distances, mem_text("/v1/coordinate/datacenters"), FINDER_SITES_MS,
                 on_distances);
    int error = consul_open(&finder->consul, setup->consul, setup->metrics, ret_reason);
    if (error == OK) {
        error = dns_open(&finder->dns, setup->consul->dns, ret_reason);
    }
    if (error != OK) {
        finder_free(finder);
        return error;
    }
    if (setup->advertise != NULL) {
        split_address(finder, setup->advertise);
    }
    if (setup->consul->datacenter != NULL) {
        snprintf(finder->own, sizeof finder->own, "%s", setup->consul->datacenter);
    }
    finder->members = mem_zalloc(setup->instance_count * sizeof *finder->members);
    for (size_t i = 0; i < setup->instance_count; i++) {
        open_member(finder, &finder->members[finder->member_count++], &setup->instances[i]);
    }
    int code = pthread_create(&finder->thread, NULL, finder_main, finder);
    if (code != 0) {
        *ret_reason = "no thread can be started";
        finder_free(finder);
        return error_from_errno(code);
    }
    *ret_finder = finder;
    return OK;
}

void finder_close(struct finder *finder)
{
    atomic_store(&finder->stopping, true);
    consul_wake(finder->consul);
    pthread_join(finder->thread, NULL);
    finder_free(finder);
}
