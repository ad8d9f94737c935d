// SPDX-License-Identifier: Apache-2.0
// The tree as JSON: this node's own place in it (path, parent, children), and the picture of the
// whole, a flat list of nodes that name their parents. Any thread.
#include <jansson.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/chair/chair.h"
#include "common/core/lead.h"
#include "qs/status_parts.h"

// ---- this node's place -------------------------------------------------------------------------

static json_t *path_json(struct instance *instance)
{
    json_t *path = json_array();
    struct beat beat;
    if (!instance_leads(instance) && beats_newest(instance->beats, &beat)) {
        size_t start = 0;
        for (size_t i = 0; i <= beat.path_size; i++) {
            if (i == beat.path_size || beat.path[i] == '\0') {
                if (i > start) {
                    json_array_append_new(path, status_text(beat.path + start, i - start));
                }
                start = i + 1;
            }
        }
    }
    const char *node = instance->node->node;
    json_array_append_new(path, status_text(node, strlen(node)));
    return path;
}

static json_t *parent_json(struct instance *instance)
{
    if (instance->upstream == NULL || instance_leads(instance)) {
        return json_null();
    }
    struct upstream_status status;
    follow_status(instance, &status);
    json_t *parent = json_object();
    json_object_set_new(parent, "connected", json_boolean(status.connected));
    status_set_text(parent, "node", status.node);
    status_set_text(parent, "address", status.address);
    status_set_text(parent, "state", status.state);
    status_set_ms(parent, "rtt_ms", status.rtt_ns);
    status_set_number(parent, "received_index", status.received_index);
    uint64_t now = clock_mono_ns();
    status_set_ms(parent, "since_ms", status.since_ns == 0 || now < status.since_ns
                                   ? UINT64_MAX : now - status.since_ns);
    return parent;
}

static json_t *child_json(const struct child_status *status, uint64_t now_ns)
{
    json_t *child = json_object();
    status_set_text(child, "node", status->node);
    status_set_text(child, "address", status->address);
    status_set_text(child, "role", role_text(status->role));
    status_set_number(child, "received_index", status->received);
    status_set_number(child, "synced_index", status->synced);
    status_set_number(child, "visible_index", status->visible);
    status_set_ms(child, "age_ms", status->age_ns);
    status_set_ms(child, "rtt_ms", status->rtt_ns);
    status_set_number(child, "sent_bytes", status->sent_bytes);
    status_set_ms(child, "since_ms",
                  now_ns < status->since_ns ? UINT64_MAX : now_ns - status->since_ns);
    return child;
}

static json_t *children_json(struct fanout *fanout)
{
    json_t *children = json_array();
    if (fanout == NULL) {
        return children;
    }
    struct child_status *status = mem_alloc(STATUS_CHILDREN_MAX * sizeof *status);
    size_t count = u64_min(fanout_status(fanout, status, STATUS_CHILDREN_MAX), STATUS_CHILDREN_MAX);
    uint64_t now_ns = clock_mono_ns();
    for (size_t i = 0; i < count; i++) {
        json_array_append_new(children, child_json(&status[i], now_ns));
    }
    mem_free(status);
    return children;
}

static json_t *set_json(const struct members *names, uint32_t set)
{
    json_t *list = json_array();
    for (unsigned root = 0; root < names->count; root++) {
        if (set_has(set, root)) {
            json_array_append_new(list, json_string(names->all[root].name));
        }
    }
    return list;
}

// What is decided by the roots themselves.
static void add_chair(json_t *roots, const struct members *names, struct chair *chair)
{
    static const char *const roles[] = {"standby", "trying", "elected", "leading"};
    struct chair_status status = chair_status(chair);
    status_set_text(roots, "role", roles[status.role]);
    status_set_number(roots, "promised_epoch", status.leadership.epoch);
    status_set_text(roots, "promised", status.leadership.leader < names->count
                                           ? names->all[status.leadership.leader].name
                                           : NULL);
    status_set_number(roots, "generation", status.generation);
    json_object_set_new(roots, "in_sync",
                        status.record_known ? set_json(names, status.in_sync) : json_null());
    json_object_set_new(roots, "counted", set_json(names, status.counted));
    status_set_text(roots, "no_writes", status.writes);
    status_set_number(roots, "asked", status.asked);
    status_set_text(roots, "refused", status.refused);
}

// One of several roots: what it does, and how far its log and what is committed reach.
static json_t *roots_json(const struct daemon_instance *each)
{
    struct instance *instance = each->instance;
    struct lead *lead = instance->lead;
    int leader = atomic_load(&lead->leader);
    json_t *roots = json_object();
    status_set_text(roots, "part", instance_part(instance));
    status_set_text(roots, "leader",
                    leader == LEAD_NOBODY ? NULL : lead->members.all[leader].name);
    status_set_number(roots, "epoch", atomic_load(&lead->epoch));
    status_set_number(roots, "committed_block", lead_known(lead).number);
    status_set_number(roots, "last_block", journal_tail(instance->journal).number);
    status_set_number(roots, "set_aside", atomic_load(&lead->set_aside));
    if (each->chair != NULL) {
        add_chair(roots, &lead->members, each->chair);
    }
    return roots;
}

json_t *status_place_json(struct daemon_instance *each)
{
    struct instance *instance = each->instance;
    struct instance_status status;
    instance_status_take(&status, each);
    json_t *tree = json_object();
    status_set_text(tree, "instance", instance->name);
    status_set_text(tree, "node", instance->node->node);
    status_set_text(tree, "role", role_text(instance->options->role));
    if (instance->lead != NULL) {
        json_object_set_new(tree, "roots", roots_json(each));
    }
    status_set_text(tree, "state", instance_state_text(status.state));
    status_set_number(tree, "visible_index", status.visible);
    status_set_ms(tree, "age_ms", status.age_ns);
    json_object_set_new(tree, "path", path_json(instance));
    json_object_set_new(tree, "parent", parent_json(instance));
    size_t children = each->fanout == NULL ? 0 : fanout_status(each->fanout, NULL, 0);
    status_set_number(tree, "children_count", children);
    json_object_set_new(tree, "children", children_json(each->fanout));
    return tree;
}

// ---- the whole ---------------------------------------------------------------------------------

static json_t *name_json(struct bytes name)
{
    return name.size == 0 ? json_null() : status_text((const char *)name.data, name.size);
}

static json_t *node_json(const struct census_item *item, uint64_t picture_age_ns)
{
    json_t *node = json_object();
    json_object_set_new(node, "node", name_json(item->node));
    json_object_set_new(node, "parent", name_json(item->parent));
    status_set_text(node, "role", role_text((int)item->role));
    status_set_text(node, "state", instance_state_text((enum instance_state)item->state));
    status_set_number(node, "visible_index", item->visible);
    status_set_ms(node, "age_ms", item->age_ns);
    status_set_ms(node, "network_ms", item->network_ns);
    status_set_ms(node, "queue_ms", item->queue_ns);
    status_set_ms(node, "apply_ms", item->apply_ns);
    status_set_ms(node, "said_ms", item->ago_ns > UINT64_MAX / 2 ? UINT64_MAX
                                                                 : item->ago_ns + picture_age_ns);
    json_object_set_new(node, "old", json_boolean((item->flags & CENSUS_ALARM) != 0));
    json_object_set_new(node, "lost", json_boolean((item->flags & CENSUS_LOST) != 0));
    json_object_set_new(node, "cut", json_boolean((item->flags & CENSUS_CUT) != 0));
    return node;
}

static json_t *picture_json(const struct picture *picture)
{
    json_t *whole = json_object();
    uint64_t age_ns = clock_mono_ns() - picture->taken_ns;
    json_object_set_new(whole, "whole", json_boolean(picture->reason[0] == '\0'));
    status_set_text(whole, "reason", picture->reason[0] == '\0' ? NULL : picture->reason);
    status_set_ms(whole, "taken_ms", age_ns);
    status_set_number(whole, "nodes_count", picture->count);
    json_t *nodes = json_array();
    struct unpacker from = unpacker_of(buf_bytes(&picture->items));
    struct census_item item;
    while (census_item_next(&from, &item)) {
        json_array_append_new(nodes, node_json(&item, age_ns));
    }
    json_object_set_new(whole, "nodes", nodes);
    return whole;
}

void status_tree_json(struct daemon_instance *each, const struct picture *picture, struct buf *to)
{
    json_t *tree = status_place_json(each);
    if (picture != NULL) {
        json_object_set_new(tree, "tree", picture_json(picture));
    }
    status_append_json(tree, to);
}
