// SPDX-License-Identifier: Apache-2.0
// What one of several roots says of itself, to any thread.
#include "common/core/lead.h"

#include "common/base/clock.h"

bool instance_leads(const struct instance *instance)
{
    const struct lead *lead = instance->lead;
    return lead == NULL ? instance->options->role == ROLE_ROOT : atomic_load(&lead->opened) != 0;
}

bool lead_ready(const struct lead *lead, const struct view *view)
{
    return view->place.number >= atomic_load(&lead->opened) &&
           atomic_load(&lead->gate) == LEAD_GATE_OPEN;
}

const char *instance_part(const struct instance *instance)
{
    if (instance->lead == NULL) {
        return role_text((int)instance->options->role);
    }
    return instance_leads(instance) ? "leader" : "standby";
}

const struct block_header *lead_end(const struct lead *lead)
{
    return journal_last(lead->instance->journal);
}

bool lead_serves(const struct lead *lead, unsigned root)
{
    return atomic_load(&lead->opened) != 0 || atomic_load(&lead->serves) == (int)root;
}

struct journal_place lead_known(const struct lead *lead) { return commit_known(lead->commit); }

uint64_t lead_acknowledged(const struct lead *lead, unsigned root)
{
    return lead_forgot(lead, root, atomic_load(&lead->takers[root]))
               ? 0
               : atomic_load(&lead->acknowledged[root]);
}

bool lead_forgot(const struct lead *lead, unsigned root, uint64_t taker)
{
    return taker != 0 && taker <= atomic_load(&lead->forgotten[root]);
}

unsigned lead_least(const struct lead *lead)
{
    unsigned least = (unsigned)lead->instance->options->in_sync_min;
    return least != 0 ? least : tally_in_sync_min(lead->members.count);
}

void lead_heard(struct lead *lead, unsigned root, uint64_t now_ns)
{
    CHECK(root < lead->members.count);
    atomic_store(&lead->heard_ns[root], now_ns);
}

// When so many of the others had spoken since, at the latest; 0 = they have not.
static uint64_t heard_by(const struct lead *lead, unsigned wanted)
{
    uint64_t latest_ns = 0;
    for (unsigned i = 0; i < lead->members.count; i++) {
        uint64_t moment_ns = atomic_load(&lead->heard_ns[i]);
        unsigned since = 0;
        for (unsigned j = 0; j < lead->members.count; j++) {
            since += j != lead->members.own && atomic_load(&lead->heard_ns[j]) >= moment_ns;
        }
        latest_ns = since >= wanted ? u64_max(latest_ns, moment_ns) : latest_ns;
    }
    return latest_ns;
}

uint64_t lead_doubt_ns(const struct lead *lead, uint64_t now_ns)
{
    unsigned wanted = lead_least(lead) - 1;
    if (!lead->council || wanted == 0) {
        return 0;
    }
    uint64_t sure_ns = u64_max(atomic_load(&lead->opened_ns), heard_by(lead, wanted));
    uint64_t since_ns = now_ns > sure_ns ? now_ns - sure_ns : 0;
    return since_ns > lead->instance->node->silence * NS_PER_MS ? since_ns : 0;
}

struct lead_word lead_say(struct lead *lead)
{
    pthread_mutex_lock(&lead->instance->lock);
    struct lead_word word = lead->word;
    pthread_mutex_unlock(&lead->instance->lock);
    return word;
}

struct lead_report lead_look(struct lead *lead)
{
    pthread_mutex_lock(&lead->instance->lock);
    struct lead_report report = lead->report;
    pthread_mutex_unlock(&lead->instance->lock);
    return report;
}

void lead_observe(struct instance *instance, struct notice *changed)
{
    pthread_mutex_lock(&instance->lock);
    instance->lead->observer = changed;
    pthread_mutex_unlock(&instance->lock);
}

void instance_join(struct instance *instance, const uint8_t history[HISTORY_ID_BYTES])
{
    pthread_mutex_lock(&instance->lock);
    memcpy(instance->lead->joins, history, HISTORY_ID_BYTES);
    pthread_mutex_unlock(&instance->lock);
}

bool lead_may_join(const struct instance *instance, const uint8_t history[HISTORY_ID_BYTES])
{
    const struct lead *lead = instance->lead;
    if (lead == NULL || !lead->council) {
        return true;
    }
    pthread_mutex_lock(&lead->instance->lock);
    bool may = memcmp(lead->joins, history, HISTORY_ID_BYTES) == 0;
    pthread_mutex_unlock(&lead->instance->lock);
    return may;
}
