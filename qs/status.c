// SPDX-License-Identifier: Apache-2.0
// Snapshots of the daemon's state, the gauges that nobody keeps up to date by himself, and the
// JSON forms. Everything is read through calls and atomics that are for any thread; nothing here
// waits for a loop or a worker, so a scrape never stalls a reader. Names that came from other
// nodes are shown with strange bytes replaced: JSON must be UTF-8.
#include "qs/status.h"

#include <jansson.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/core/lead.h"
#include "proxy/fetch.h"
#include "qs/status_parts.h"
#include "qs/version.h"

const char *instance_state_text(enum instance_state state)
{
    switch (state) {
    case INSTANCE_LOADING:
        return "loading";
    case INSTANCE_SERVING:
        return "serving";
    case INSTANCE_STOPPED:
        return "stopped";
    }
    return "unknown";
}

uint64_t status_ms(uint64_t ns) { return ns == UINT64_MAX ? UINT64_MAX : ns / NS_PER_MS; }

static void hex_text(const uint8_t *from, size_t size, char *to)
{
    for (size_t i = 0; i < size; i++) {
        snprintf(to + 2 * i, 3, "%02x", from[i]);
    }
}

// The last walk's verdict, unless something said more since.
static const char *store_text(struct instance *instance)
{
    if (atomic_load(&instance->wants_build)) {
        return "rebuilding";
    }
    if (atomic_load(&instance->suspect)) {
        return "unsound";
    }
    if (atomic_load(&instance->unproven)) {
        return "unwalked";
    }
    return atomic_load(&instance->soundness) == STORE_PROVEN ? "proven" : "unproven";
}

void instance_status_take(struct instance_status *ret_status, const struct daemon_instance *each)
{
    struct instance *instance = each->instance;
    *ret_status = (struct instance_status){
        .options = instance->options,
        .state = instance_state(instance),
        .store = store_text(instance),
        .synced = atomic_load(&instance->synced),
        .age_ns = instance_age_ns(instance),
    };
    space_read(instance, &ret_status->space);
    struct view *view = instance_pin(instance);
    if (view != NULL) {
        ret_status->has_view = true;
        ret_status->visible = view->place.index;
        ret_status->epoch = view->epoch;
        ret_status->history_floor = view->history_floor;
        ret_status->digest = view->digest;
        ret_status->has_history = view->place.number > 0;
        hex_text(view->history, HISTORY_ID_BYTES, ret_status->history);
        view_release(view);
    }
    hash128_text(ret_status->digest.sum, ret_status->digest_text);
    if (!ret_status->has_history && journal_has_history(instance->journal)) {
        ret_status->has_history = true;
        hex_text(journal_history(instance->journal), HISTORY_ID_BYTES, ret_status->history);
    }
}

static void refresh_instance(struct daemon_instance *each)
{
    struct instance *instance = each->instance;
    struct instance_metrics *metrics = &each->metrics;
    METRIC_SET(metrics, instance, state, instance_state(instance));
    METRIC_SET(metrics, instance, store_unsound, atomic_load(&instance->suspect));
    METRIC_SET(metrics, instance, synced_index, atomic_load(&instance->synced));
    METRIC_SET(metrics, instance, age_ms, status_ms(instance_age_ns(instance)));
    METRIC_SET(metrics, instance, journal_bytes, journal_bytes(instance->journal));
    struct store_sizes sizes;
    struct volume *volume = instance_volume(instance);
    store_sizes(volume->store, &sizes);
    volume_release(volume);
    uint64_t sum = 0;
    for (unsigned i = 0; i < STORE_FAMILIES_MAX; i++) {
        sum += sizes.family_bytes[i];
    }
    METRIC_SET(metrics, instance, store_bytes, sum);
    METRIC_SET(metrics, instance, history_rows_bytes, sum - sizes.family_bytes[0]);
}

void status_refresh(struct daemon *daemon)
{
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        refresh_instance(&daemon->instances[i]);
    }
}

// ---- JSON -------------------------------------------------------------------------------------

// Text whose bytes nobody vouches for.
static json_t *json_text(const char *text, size_t size)
{
    json_t *as_is = json_stringn(text, size);
    if (as_is != NULL) {
        return as_is;
    }
    char *copy = mem_copy(text, size);
    for (size_t i = 0; i < size; i++) {
        copy[i] = (unsigned char)copy[i] < 0x80 ? copy[i] : '?';
    }
    json_t *shown = json_stringn(copy, size);
    mem_free(copy);
    return shown;
}

static void set_text(json_t *object, const char *name, const char *text)
{
    json_object_set_new(object, name, text == NULL ? json_null() : json_text(text, strlen(text)));
}

static void set_number(json_t *object, const char *name, uint64_t number)
{
    json_object_set_new(object, name, json_integer((json_int_t)u64_min(number, INT64_MAX)));
}

// A duration that may be unknown.
static void set_ms(json_t *object, const char *name, uint64_t ns)
{
    if (ns == UINT64_MAX) {
        json_object_set_new(object, name, json_null());
    } else {
        json_object_set_new(object, name, json_real((double)ns / (double)NS_PER_MS));
    }
}

static void append_json(json_t *value, struct buf *to)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9));
    CHECK(text != NULL);
    buf_append_text(to, text);
    mem_free(text);
    json_decref(value);
}

static json_t *path_json(struct instance *instance)
{
    json_t *path = json_array();
    struct beat beat;
    if (!instance_leads(instance) && beats_newest(instance->beats, &beat)) {
        size_t start = 0;
        for (size_t i = 0; i <= beat.path_size; i++) {
            if (i == beat.path_size || beat.path[i] == '\0') {
                if (i > start) {
                    json_array_append_new(path, json_text(beat.path + start, i - start));
                }
                start = i + 1;
            }
        }
    }
    const char *node = instance->node->node;
    json_array_append_new(path, json_text(node, strlen(node)));
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
    set_text(parent, "node", status.node);
    set_text(parent, "address", status.address);
    set_text(parent, "state", status.state);
    set_ms(parent, "rtt_ms", status.rtt_ns);
    set_number(parent, "received_index", status.received_index);
    uint64_t now = clock_mono_ns();
    set_ms(parent, "since_ms", status.since_ns == 0 || now < status.since_ns
                                   ? UINT64_MAX : now - status.since_ns);
    return parent;
}

static json_t *child_json(const struct child_status *status, uint64_t now_ns)
{
    json_t *child = json_object();
    set_text(child, "node", status->node);
    set_text(child, "address", status->address);
    set_text(child, "role", role_text(status->role));
    set_number(child, "received_index", status->received);
    set_number(child, "synced_index", status->synced);
    set_number(child, "visible_index", status->visible);
    set_ms(child, "age_ms", status->age_ns);
    set_ms(child, "rtt_ms", status->rtt_ns);
    set_number(child, "sent_bytes", status->sent_bytes);
    set_ms(child, "since_ms", now_ns < status->since_ns ? UINT64_MAX : now_ns - status->since_ns);
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

static json_t *replica_json(const struct replica_status *status)
{
    json_t *replica = json_object();
    set_text(replica, "address", status->address);
    set_text(replica, "state", status->state);
    json_object_set_new(replica, "connected", json_boolean(status->connected));
    set_number(replica, "in_flight", status->in_flight);
    set_ms(replica, "rtt_ms", status->rtt_ns);
    set_ms(replica, "response_ms", status->response_ns);
    set_number(replica, "visible_index", status->visible);
    set_number(replica, "history_floor", status->floor);
    return replica;
}

// What a proxy fetches missing values from.
static json_t *replicas_json(struct instance *instance)
{
    json_t *replicas = json_array();
    if (instance->options->role == ROLE_PROXY) {
        struct replica_status status[STATUS_REPLICAS_MAX];
        size_t count = fetch_status(instance, status, STATUS_REPLICAS_MAX);
        for (size_t i = 0; i < u64_min(count, STATUS_REPLICAS_MAX); i++) {
            json_array_append_new(replicas, replica_json(&status[i]));
        }
    }
    return replicas;
}

// One of several roots: what it does, and how far its log and what is committed reach.
static json_t *roots_json(struct instance *instance)
{
    struct lead *lead = instance->lead;
    int leader = atomic_load(&lead->leader);
    json_t *roots = json_object();
    set_text(roots, "part", instance_part(instance));
    set_text(roots, "leader", leader == LEAD_NOBODY ? NULL : lead->members.all[leader].name);
    set_number(roots, "epoch", atomic_load(&lead->epoch));
    set_number(roots, "committed_block", lead_known(lead).number);
    set_number(roots, "last_block", journal_tail(instance->journal).number);
    set_number(roots, "set_aside", atomic_load(&lead->set_aside));
    return roots;
}

static json_t *tree_json(struct daemon_instance *each)
{
    struct instance *instance = each->instance;
    struct instance_status status;
    instance_status_take(&status, each);
    json_t *tree = json_object();
    set_text(tree, "instance", instance->name);
    set_text(tree, "node", instance->node->node);
    set_text(tree, "role", role_text(instance->options->role));
    if (instance->lead != NULL) {
        json_object_set_new(tree, "roots", roots_json(instance));
    }
    set_text(tree, "state", instance_state_text(status.state));
    set_number(tree, "visible_index", status.visible);
    set_ms(tree, "age_ms", status.age_ns);
    json_object_set_new(tree, "path", path_json(instance));
    json_object_set_new(tree, "parent", parent_json(instance));
    size_t children = each->fanout == NULL ? 0 : fanout_status(each->fanout, NULL, 0);
    set_number(tree, "children_count", children);
    json_object_set_new(tree, "children", children_json(each->fanout));
    return tree;
}

static json_t *space_json(const struct space_state *space)
{
    json_t *object = json_object();
    set_text(object, "level", space_level_text(space->level));
    set_text(object, "reason", space->level == SPACE_OK ? NULL : space->reason);
    set_number(object, "disk_bytes", space->sample.used_bytes);
    set_number(object, "disk_free_bytes", space->sample.free_bytes);
    return object;
}

static json_t *instance_json(struct daemon_instance *each)
{
    struct instance *instance = each->instance;
    struct instance_status status;
    instance_status_take(&status, each);
    json_t *object = tree_json(each);
    set_number(object, "number", instance->options->number);
    set_number(object, "synced_index", status.synced);
    set_number(object, "keys", status.digest.keys);
    set_text(object, "digest", status.digest_text);
    set_text(object, "history", status.has_history ? status.history : NULL);
    set_number(object, "epoch", status.epoch);
    set_number(object, "history_floor", status.history_floor);
    json_object_set_new(object, "space", space_json(&status.space));
    json_object_set_new(object, "replicas", replicas_json(instance));
    json_t *metrics = json_object();
    for (unsigned id = 0; id < INSTANCE_METRIC_COUNT; id++) {
        set_number(metrics, instance_metric_row(id)->name,
                   metric_sum(each->metrics.slots[0], METRIC_STRIDE_instance, id));
    }
    json_object_set_new(object, "metrics", metrics);
    return object;
}

void status_json(struct daemon *daemon, struct buf *to)
{
    status_refresh(daemon);
    json_t *object = json_object();
    set_text(object, "node", daemon->config->node.node);
    set_text(object, "cluster", daemon->config->node.cluster);
    set_text(object, "version", QS_VERSION);
    set_text(object, "run_id", daemon->run_id);
    set_number(object, "started_ms", daemon->started_wall_ms);
    set_number(object, "uptime_s", (clock_mono_ns() - daemon->started_ns) / NS_PER_S);
    set_number(object, "loops", daemon->loop_count);
    json_t *metrics = json_object();
    for (unsigned id = 0; id < NODE_METRIC_COUNT; id++) {
        set_number(metrics, node_metric_row(id)->name,
                   metric_sum(daemon->metrics.slots[0], METRIC_STRIDE_node, id));
    }
    json_object_set_new(object, "metrics", metrics);
    json_t *instances = json_array();
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        json_array_append_new(instances, instance_json(&daemon->instances[i]));
    }
    json_object_set_new(object, "instances", instances);
    append_json(object, to);
}

void status_tree_json(struct daemon_instance *each, struct buf *to)
{
    append_json(tree_json(each), to);
}
