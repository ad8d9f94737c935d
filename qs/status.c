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
json_t *status_text(const char *text, size_t size)
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

void status_set_text(json_t *object, const char *name, const char *text)
{
    json_object_set_new(object, name, text == NULL ? json_null() : status_text(text, strlen(text)));
}

void status_set_number(json_t *object, const char *name, uint64_t number)
{
    json_object_set_new(object, name, json_integer((json_int_t)u64_min(number, INT64_MAX)));
}

// A duration that may be unknown.
void status_set_ms(json_t *object, const char *name, uint64_t ns)
{
    if (ns == UINT64_MAX) {
        json_object_set_new(object, name, json_null());
    } else {
        json_object_set_new(object, name, json_real((double)ns / (double)NS_PER_MS));
    }
}

void status_append_json(json_t *value, struct buf *to)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(9));
    CHECK(text != NULL);
    buf_append_text(to, text);
    mem_free(text);
    json_decref(value);
}

static json_t *replica_json(const struct replica_status *status)
{
    json_t *replica = json_object();
    status_set_text(replica, "address", status->address);
    status_set_text(replica, "state", status->state);
    json_object_set_new(replica, "connected", json_boolean(status->connected));
    status_set_number(replica, "in_flight", status->in_flight);
    status_set_ms(replica, "rtt_ms", status->rtt_ns);
    status_set_ms(replica, "response_ms", status->response_ns);
    status_set_number(replica, "visible_index", status->visible);
    status_set_number(replica, "history_floor", status->floor);
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

static json_t *space_json(const struct space_state *space)
{
    json_t *object = json_object();
    status_set_text(object, "level", space_level_text(space->level));
    status_set_text(object, "reason", space->level == SPACE_OK ? NULL : space->reason);
    status_set_number(object, "disk_bytes", space->sample.used_bytes);
    status_set_number(object, "disk_free_bytes", space->sample.free_bytes);
    return object;
}

static json_t *instance_json(struct daemon_instance *each)
{
    struct instance *instance = each->instance;
    struct instance_status status;
    instance_status_take(&status, each);
    json_t *object = status_place_json(each);
    status_set_number(object, "number", instance->options->number);
    status_set_number(object, "synced_index", status.synced);
    status_set_number(object, "keys", status.digest.keys);
    status_set_text(object, "digest", status.digest_text);
    status_set_text(object, "history", status.has_history ? status.history : NULL);
    status_set_number(object, "epoch", status.epoch);
    status_set_number(object, "history_floor", status.history_floor);
    json_object_set_new(object, "space", space_json(&status.space));
    json_object_set_new(object, "replicas", replicas_json(instance));
    json_t *metrics = json_object();
    for (unsigned id = 0; id < INSTANCE_METRIC_COUNT; id++) {
        status_set_number(metrics, instance_metric_row(id)->name,
                   metric_sum(each->metrics.slots[0], METRIC_STRIDE_instance, id));
    }
    json_object_set_new(object, "metrics", metrics);
    return object;
}

void status_json(struct daemon *daemon, struct buf *to)
{
    status_refresh(daemon);
    json_t *object = json_object();
    status_set_text(object, "node", daemon->config->node.node);
    status_set_text(object, "cluster", daemon->config->node.cluster);
    status_set_text(object, "version", QS_VERSION);
    status_set_text(object, "run_id", daemon->run_id);
    status_set_number(object, "started_ms", daemon->started_wall_ms);
    status_set_number(object, "uptime_s", (clock_mono_ns() - daemon->started_ns) / NS_PER_S);
    status_set_number(object, "loops", daemon->loop_count);
    json_t *metrics = json_object();
    for (unsigned id = 0; id < NODE_METRIC_COUNT; id++) {
        status_set_number(metrics, node_metric_row(id)->name,
                   metric_sum(daemon->metrics.slots[0], METRIC_STRIDE_node, id));
    }
    json_object_set_new(object, "metrics", metrics);
    json_t *instances = json_array();
    for (unsigned i = 0; i < daemon->instance_count; i++) {
        json_array_append_new(instances, instance_json(&daemon->instances[i]));
    }
    json_object_set_new(object, "instances", instances);
    status_append_json(object, to);
}
