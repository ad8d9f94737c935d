// SPDX-License-Identifier: Apache-2.0
#include "common/discovery/agent.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/discovery/inquiry.h"

// ---- what is said ------------------------------------------------------------------------------

static json_t *tags_of(const struct agent_setup *setup, const struct agent_facts *facts)
{
    json_t *tags = json_array();
    bool alone = setup->role != ROLE_ROOT || facts->part == AGENT_ALONE;
    json_array_append_new(tags, json_string(alone ? role_text(setup->role) : "replica"));
    if (!alone) {
        json_array_append_new(tags, json_string(facts->part == AGENT_LEADER ? "root" : "standby"));
    }
    if ((setup->role == ROLE_REPLICA || !alone) && facts->feeds) {
        json_array_append_new(tags, json_string("intermediate"));
    }
    return tags;
}

// Values of meta are texts, whatever they are.
static void add_number(json_t *meta, const char *name, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRIu64, number);
    json_object_set_new(meta, name, json_string(text));
}

static json_t *meta_of(const struct agent_setup *setup, const struct agent_facts *facts)
{
    json_t *meta = json_object();
    json_object_set_new(meta, "node", json_string(setup->node));
    json_object_set_new(meta, "cluster", json_string(setup->cluster));
    json_object_set_new(meta, "role", json_string(role_text(setup->role)));
    json_object_set_new(meta, "history", json_string(facts->history));
    add_number(meta, "epoch", facts->epoch);
    if (facts->depth != UINT32_MAX) {
        add_number(meta, "depth", facts->depth);
    }
    return meta;
}

static const char *status_of(const struct agent_facts *facts)
{
    return facts->state == AGENT_SERVING   ? "passing"
           : facts->state == AGENT_STOPPED ? "warning"
                                           : "critical";
}

static const char *output_of(const struct agent_facts *facts)
{
    return facts->state == AGENT_SERVING   ? "serving"
           : facts->state == AGENT_STOPPED ? "takes no updates any more, reads go on"
                                           : "loading";
}

// Sends an object, which it takes over.
static void put(struct agent *agent, struct consul *consul, const char *path, json_t *object)
{
    size_t size = json_dumpb(object, NULL, 0, JSON_COMPACT);
    CHECK(size > 0);
    char *body = mem_alloc(size);
    json_dumpb(object, body, size, JSON_COMPACT);
    json_decref(object);
    consul_put(consul, &agent->call, path, bytes_of(body, size), CONSUL_TIMEOUT_MS);
    mem_free(body);
}

static json_t *check_of(const struct agent_setup *setup, const struct agent_facts *facts)
{
    char ttl[32];
    snprintf(ttl, sizeof ttl, "%" PRIu64 "ms", setup->ttl_ms);
    char *id = mem_format("%s:%s:ttl", setup->service, setup->node);
    json_t *check = json_object();
    json_object_set_new(check, "CheckID", json_string(id));
    json_object_set_new(check, "Name", json_string("qs says that it serves"));
    json_object_set_new(check, "TTL", json_string(ttl));
    json_object_set_new(check, "Status", json_string(status_of(facts)));
    json_object_set_new(check, "DeregisterCriticalServiceAfter", json_string(AGENT_FORGET));
    mem_free(id);
    return check;
}

static void register_node(struct agent *agent, struct consul *consul)
{
    const struct agent_setup *setup = &agent->setup;
    setup->facts(setup->owner, &agent->told);
    char *id = mem_format("%s:%s", setup->service, setup->node);
    json_t *service = json_object();
    json_object_set_new(service, "ID", json_string(id));
    json_object_set_new(service, "Name", json_string(setup->service));
    json_object_set_new(service, "Address", json_string(setup->host));
    json_object_set_new(service, "Port", json_integer((json_int_t)setup->port));
    json_object_set_new(service, "Tags", tags_of(setup, &agent->told));
    json_object_set_new(service, "Meta", meta_of(setup, &agent->told));
    json_object_set_new(service, "Check", check_of(setup, &agent->told));
    agent->step = AGENT_REGISTERING;
    put(agent, consul, "/v1/agent/service/register?replace-existing-checks=true", service);
    mem_free(id);
}

static void beat(struct agent *agent, struct consul *consul, const struct agent_facts *facts)
{
    char *path = mem_format("/v1/agent/check/update/%s:%s:ttl", agent->setup.service,
                            agent->setup.node);
    json_t *body = json_object();
    json_object_set_new(body, "Status", json_string(status_of(facts)));
    json_object_set_new(body, "Output", json_string(output_of(facts)));
    agent->step = AGENT_BEATING;
    put(agent, consul, path, body);
    mem_free(path);
}

// ---- when --------------------------------------------------------------------------------------

static uint64_t beat_ms(const struct agent *agent)
{
    return agent->setup.ttl_ms / 3;
}

static void wait_ms(struct agent *agent, uint64_t ms)
{
    agent->next_ns = clock_mono_ns() + ms * NS_PER_MS;
}

static void on_failure(struct agent *agent, const struct consul_answer *answer)
{
    agent->failures++;
    LOG_GATED(&agent->gate, LOG_WARN, agent->setup.instance,
              "cannot %s at Consul: %s (status %u) %.*s",
              agent->step == AGENT_REGISTERING ? "register this node" : "say that this node serves",
              answer->reason, answer->status, (int)u64_min(answer->body.size, 200),
              (const char *)answer->body.data);
    // An agent that answers, but not this, has lost the entry: it gets it at once.
    bool lost = agent->step == AGENT_BEATING && answer->error == ERR_REFUSED;
    agent->step = lost || agent->step == AGENT_REGISTERING ? AGENT_ABSENT : AGENT_PRESENT;
    if (agent->step == AGENT_ABSENT) {
        agent->registered_ns = 0;
    }
    wait_ms(agent, lost ? 0 : random_jitter_ms(u64_min(beat_ms(agent),
                                                       inquiry_pause_ms(agent->failures))));
}

static void on_answer(struct consul_call *call, const struct consul_answer *answer)
{
    struct agent *agent = CONTAINER_OF(call, struct agent, call);
    if (agent->step == AGENT_LEFT) {
        return;
    }
    if (answer->error != OK) {
        on_failure(agent, answer);
        return;
    }
    if (agent->step == AGENT_REGISTERING) {
        if (agent->registered_ns == 0) {
            log_line(LOG_INFO, agent->setup.instance, "registered at Consul as %s:%s, %s:%u",
                     agent->setup.service, agent->setup.node, agent->setup.host,
                     agent->setup.port);
            consul_begin_life(call->consul); // it did not know this node, so what did it?
        }
        agent->registered_ns = clock_mono_ns();
    }
    agent->failures = 0;
    agent->step = AGENT_PRESENT;
    wait_ms(agent, random_jitter_ms(beat_ms(agent)));
}

// By what others see of it; the state goes with each beat.
static bool facts_changed(const struct agent_facts *a, const struct agent_facts *b)
{
    return a->feeds != b->feeds || strcmp(a->history, b->history) != 0 || a->epoch != b->epoch ||
           a->depth != b->depth || a->part != b->part;
}

void agent_open(struct agent *agent, const struct agent_setup *setup)
{
    *agent = (struct agent){.setup = *setup, .call = {.answered = on_answer}};
}

void agent_close(struct agent *agent) { consul_cancel(&agent->call); }

uint64_t agent_turn(struct agent *agent, struct consul *consul, uint64_t now_ns)
{
    if (consul_busy(&agent->call) || agent->step == AGENT_LEFT) {
        return UINT64_MAX;
    }
    if (now_ns < agent->next_ns) {
        return agent->next_ns;
    }
    struct agent_facts facts;
    agent->setup.facts(agent->setup.owner, &facts);
    if (agent->registered_ns == 0 || now_ns - agent->registered_ns >= AGENT_AGAIN_NS ||
        facts_changed(&facts, &agent->told)) {
        register_node(agent, consul);
    } else {
        beat(agent, consul, &facts);
    }
    return UINT64_MAX;
}

// ---- leaving -----------------------------------------------------------------------------------

static void on_left(struct consul_call *call, const struct consul_answer *answer)
{
    struct agent *agent = CONTAINER_OF(call, struct agent, call);
    if (answer->error != OK) {
        log_line(LOG_WARN, agent->setup.instance,
                 "cannot take the entry at Consul back, it will lapse: %s (status %u)",
                 answer->reason, answer->status);
    }
    agent->step = AGENT_LEFT;
}

void agent_leave(struct agent *agent, struct consul *consul)
{
    consul_cancel(&agent->call); // also a registration, which may have arrived: so it is taken back
    agent->call.answered = on_left;
    char *path = mem_format("/v1/agent/service/deregister/%s:%s", agent->setup.service,
                            agent->setup.node);
    consul_put(consul, &agent->call, path, bytes_of("", 0), AGENT_LEAVE_MS);
    mem_free(path);
}
