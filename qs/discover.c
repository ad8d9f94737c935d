// SPDX-License-Identifier: Apache-2.0
#include "qs/discover.h"

#include <stdio.h>

#include "common/base/mem.h"
#include "common/chair/chair.h"
#include "common/discovery/finder.h"
#include "qs/daemon.h"

struct discover {
    struct finder *finder;
    char advertise[ADDRESS_TEXT_BYTES];
    struct finder_instance *instances;
    size_t count;
};

// Hops from the root, by the newest heartbeat; UINT32_MAX = none has come.
static unsigned depth_of(struct instance *instance)
{
    struct beat beat;
    if (instance_leads(instance)) {
        return 0;
    }
    if (!beats_newest(instance->beats, &beat)) {
        return UINT32_MAX;
    }
    unsigned depth = beat.path_size > 0;
    for (size_t i = 0; i < beat.path_size; i++) {
        depth += beat.path[i] == '\0' && i + 1 < beat.path_size;
    }
    return depth;
}

// One that has followed nobody yet serves what it has, which is nothing: no parent, no replica.
static int state_of(const struct instance *instance)
{
    enum instance_state state = instance_state(instance);
    return state == INSTANCE_STOPPED                 ? AGENT_STOPPED
           : state != INSTANCE_SERVING               ? AGENT_LOADING
           : !journal_has_history(instance->journal) ? AGENT_LOADING
                                                     : AGENT_SERVING;
}

static void tell_facts(void *owner, struct agent_facts *ret_facts)
{
    const struct daemon_instance *each = owner;
    struct instance *instance = each->instance;
    *ret_facts = (struct agent_facts){
        .state = state_of(instance),
        .part = instance->lead == NULL       ? AGENT_ALONE
                : instance_leads(instance) ? AGENT_LEADER
                                           : AGENT_STANDBY,
        .feeds = fanout_status(each->fanout, NULL, 0) > 0,
        .depth = depth_of(instance),
    };
    struct view *view = instance_pin(instance);
    if (view != NULL) {
        ret_facts->epoch = view->epoch;
        for (size_t i = 0; i < HISTORY_ID_BYTES && view->place.number > 0; i++) {
            snprintf(ret_facts->history + 2 * i, 3, "%02x", view->history[i]);
        }
        view_release(view);
    }
}

// ---- who leads, of several roots ---------------------------------------------------------------

static void wake(void *owner) { consul_wake(owner); }
static void join(void *owner, struct consul *consul) { chair_join(owner, consul, wake, consul); }
static uint64_t turn(void *owner, uint64_t now_ns) { return chair_turn(owner, now_ns); }
static bool parting(void *owner) { return chair_parting(owner); }
static void leave(void *owner) { chair_leave(owner); }

static void fill_instance(struct finder_instance *to, struct daemon_instance *each)
{
    struct instance *instance = each->instance;
    const struct instance_options *options = instance->options;
    bool parents = options->role != ROLE_ROOT && options->parents[0] == NULL;
    bool replicas = options->role == ROLE_PROXY && options->replicas[0] == NULL;
    *to = (struct finder_instance){
        .name = instance->name,
        .role = options->role,
        .parents = parents ? &instance->parents : NULL,
        .replicas = replicas ? &instance->replicas : NULL,
        .saved_path = mem_format("%s/FOUND", instance->directory),
        .metrics = &each->metrics,
        .facts = tell_facts,
        .owner = each,
        .guest = {.join = join,
                  .turn = turn,
                  .parting = parting,
                  .leave = leave,
                  .owner = each->chair},
    };
}

int discover_open(struct discover **ret_discover, struct daemon *daemon)
{
    const struct config *config = daemon->config;
    if (!config->consul.given) {
        return OK;
    }
    struct discover *discover = mem_zalloc(sizeof *discover);
    discover->count = daemon->instance_count;
    discover->instances = mem_zalloc(discover->count * sizeof *discover->instances);
    for (size_t i = 0; i < discover->count; i++) {
        fill_instance(&discover->instances[i], &daemon->instances[i]);
    }
    if (config->node.advertise != NULL) {
        snprintf(discover->advertise, sizeof discover->advertise, "%s", config->node.advertise);
    } else if (daemon->peers != NULL) {
        peers_address(daemon->peers, discover->advertise); // with the port that was chosen
    }
    struct finder_setup setup = {
        .node = &config->node,
        .consul = &config->consul,
        .advertise = discover->advertise[0] == '\0' ? NULL : discover->advertise,
        .metrics = &daemon->metrics,
        .instances = discover->instances,
        .instance_count = discover->count,
    };
    const char *reason = NULL;
    int error = finder_open(&discover->finder, &setup, &reason);
    if (error != OK) {
        log_line(LOG_ERROR, NULL, "cannot look for other nodes through Consul: %s",
                 reason != NULL ? reason : error_text(error));
    }
    *ret_discover = discover;
    return error;
}

void discover_close(struct discover *discover)
{
    if (discover == NULL) {
        return;
    }
    if (discover->finder != NULL) {
        finder_close(discover->finder);
    }
    for (size_t i = 0; i < discover->count; i++) {
        mem_free((char *)discover->instances[i].saved_path);
    }
    mem_free(discover->instances);
    mem_free(discover);
}
