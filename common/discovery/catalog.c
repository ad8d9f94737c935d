// SPDX-License-Identifier: Apache-2.0
#include "common/discovery/catalog.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/base/mem.h"

#define DIMENSIONS_MAX 32
#define DISTANCE_MAX_S 60.0

// NULL when it is no JSON, or of another kind.
static json_t *load(struct bytes body, json_type type)
{
    json_error_t error;
    json_t *json = body.size == 0 ? NULL
                                  : json_loadb((const char *)body.data, body.size, 0, &error);
    if (json != NULL && json_typeof(json) != type) {
        json_decref(json);
        json = NULL;
    }
    return json;
}

// The text of a field, "" when there is none.
static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

// A name that may go into logs, files and paths: false when it has other characters or none.
static bool take_name(char *to, size_t room, const char *from)
{
    size_t size = strlen(from);
    if (size == 0 || size >= room ||
        strspn(from, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != size) {
        return false;
    }
    memcpy(to, from, size + 1);
    return true;
}

const char *catalog_address(struct endpoint *endpoint, const char *host, int64_t port)
{
    if (port < 1 || port > UINT16_MAX) {
        return "its port is not from 1 to 65535";
    }
    bool v6 = strchr(host, ':') != NULL;
    int length = snprintf(endpoint->address, sizeof endpoint->address, v6 ? "[%s]:%d" : "%s:%d",
                          host, (int)port);
    const char *reason;
    if (length >= (int)sizeof endpoint->address || strncmp(host, "unix:", 5) == 0 ||
        address_parse(&endpoint->parsed, endpoint->address, &reason) != OK) {
        return "its address is not a number";
    }
    return address_is_wildcard(&endpoint->parsed) ? "its address leads nowhere" : NULL;
}

static bool has_tag(const json_t *tags, const char *wanted)
{
    size_t i;
    const json_t *tag;
    json_array_foreach(tags, i, tag) {
        if (json_is_string(tag) && strcmp(json_string_value(tag), wanted) == 0) {
            return true;
        }
    }
    return false;
}

static enum endpoint_kind kind_of(const json_t *tags)
{
    return has_tag(tags, "root")           ? ENDPOINT_ROOT
           : has_tag(tags, "intermediate") ? ENDPOINT_INTERMEDIATE
           : has_tag(tags, "replica")      ? ENDPOINT_REPLICA
           : has_tag(tags, "proxy")        ? ENDPOINT_PROXY
                                           : ENDPOINT_UNKNOWN;
}

static unsigned depth_of(const char *text)
{
    char *end;
    unsigned long depth = strtoul(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == '\0' && depth < UINT32_MAX ? (unsigned)depth
                                                                                  : UINT32_MAX;
}

// NULL; or why this one cannot be used, with its name in endpoint->node as far as it has one.
static const char *read_node(const json_t *row, const struct catalog_wish *wish,
                             struct endpoint *endpoint)
{
    const json_t *node = json_object_get(row, "Node");
    const json_t *service = json_object_get(row, "Service");
    const json_t *meta = json_object_get(service, "Meta");
    if (!take_name(endpoint->node, sizeof endpoint->node, text_of(meta, "node"))) {
        take_name(endpoint->node, sizeof endpoint->node, text_of(node, "Node"));
        return "its meta `node` is no name of a node";
    }
    if (!take_name(endpoint->site, sizeof endpoint->site, text_of(node, "Datacenter"))) {
        return "its data centre is no name";
    }
    const char *host = text_of(service, "Address");
    host = host[0] != '\0' ? host : text_of(node, "Address");
    const char *reason = catalog_address(endpoint, host,
                                         json_integer_value(json_object_get(service, "Port")));
    endpoint->kind = kind_of(json_object_get(service, "Tags"));
    endpoint->depth = depth_of(text_of(meta, "depth"));
    endpoint->own_site = wish->own_site;
    return reason;
}

static void count_fault(struct catalog_faults *faults, const char *node, const char *reason)
{
    if (faults->refused++ == 0) {
        snprintf(faults->first, sizeof faults->first, "node %s: %s", node[0] == '\0' ? "?" : node,
                 reason);
    }
}

int catalog_read_health(struct bytes body, const struct catalog_wish *wish,
                        struct endpoints **ret_endpoints, struct catalog_faults *ret_faults)
{
    json_t *rows = load(body, JSON_ARRAY);
    if (rows == NULL) {
        return ERR_PROTOCOL;
    }
    *ret_faults = (struct catalog_faults){0};
    size_t count = u64_min(json_array_size(rows), CATALOG_NODES_MAX);
    struct endpoints *endpoints = endpoints_new(count);
    endpoints->count = 0;
    for (size_t i = 0; i < count; i++) {
        const json_t *row = json_array_get(rows, i);
        const json_t *meta = json_object_get(json_object_get(row, "Service"), "Meta");
        struct endpoint *next = &endpoints->endpoint[endpoints->count];
        const char *reason = read_node(row, wish, next);
        bool other = strcmp(text_of(meta, "cluster"), wish->cluster) != 0 ||
                     strcmp(next->node, wish->node) == 0;
        if (reason != NULL) {
            count_fault(ret_faults, next->node, reason);
        } else if (!other) {
            endpoints->count++;
            continue;
        }
        *next = (struct endpoint){.depth = UINT32_MAX, .distance_ns = UINT64_MAX};
    }
    json_decref(rows);
    *ret_endpoints = endpoints;
    return OK;
}

int catalog_read_sites(struct bytes body, struct catalog_sites *ret_sites)
{
    json_t *rows = load(body, JSON_ARRAY);
    if (rows == NULL) {
        return ERR_PROTOCOL;
    }
    ret_sites->count = 0;
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row) {
        struct catalog_site *next = &ret_sites->site[ret_sites->count];
        const char *name = json_is_string(row) ? json_string_value(row) : "";
        if (ret_sites->count < CATALOG_SITES_MAX &&
            take_name(next->name, sizeof next->name, name)) {
            next->distance_ns = UINT64_MAX;
            ret_sites->count++;
        }
    }
    json_decref(rows);
    return OK;
}

// ---- coordinates -------------------------------------------------------------------------------

// Seconds between two coordinates; negative when they cannot be compared.
// Source: https://developer.hashicorp.com/consul/docs/architecture/coordinates
static double distance_s(const json_t *a, const json_t *b)
{
    const json_t *va = json_object_get(a, "Vec"), *vb = json_object_get(b, "Vec");
    size_t size = json_array_size(va);
    if (size == 0 || size > DIMENSIONS_MAX || size != json_array_size(vb)) {
        return -1;
    }
    double sum = 0;
    for (size_t i = 0; i < size; i++) {
        double apart = json_number_value(json_array_get(va, i)) -
                       json_number_value(json_array_get(vb, i));
        sum += apart * apart;
    }
    double distance = sqrt(sum) + json_number_value(json_object_get(a, "Height")) +
                      json_number_value(json_object_get(b, "Height"));
    double adjusted = distance + json_number_value(json_object_get(a, "Adjustment")) +
                      json_number_value(json_object_get(b, "Adjustment"));
    return adjusted > 0 ? adjusted : distance;
}

static const json_t *coordinates_of(const json_t *rows, const char *site)
{
    size_t i;
    const json_t *row;
    json_array_foreach(rows, i, row) {
        const char *area = text_of(row, "AreaID");
        if (strcmp(text_of(row, "Datacenter"), site) == 0 &&
            (area[0] == '\0' || strcmp(area, "wan") == 0)) {
            return json_object_get(row, "Coordinates");
        }
    }
    return NULL;
}

// Of the two data centres' servers the two that are nearest.
static uint64_t nearest_ns(const json_t *own, const json_t *others)
{
    double least = DISTANCE_MAX_S;
    size_t i, j;
    const json_t *a, *b;
    json_array_foreach(own, i, a) {
        json_array_foreach(others, j, b) {
            double apart = distance_s(json_object_get(a, "Coord"), json_object_get(b, "Coord"));
            least = apart >= 0 && apart < least ? apart : least;
        }
    }
    return least < DISTANCE_MAX_S ? (uint64_t)(least * (double)NS_PER_S) : UINT64_MAX;
}

// Insertion keeps Consul's own order among those that are equally far.
static void order_sites(struct catalog_sites *sites)
{
    for (size_t i = 1; i < sites->count; i++) {
        struct catalog_site site = sites->site[i];
        size_t to = i;
        while (to > 0 && sites->site[to - 1].distance_ns > site.distance_ns) {
            sites->site[to] = sites->site[to - 1];
            to--;
        }
        sites->site[to] = site;
    }
}

int catalog_read_distances(struct bytes body, const char *own, struct catalog_sites *sites)
{
    json_t *rows = load(body, JSON_ARRAY);
    if (rows == NULL) {
        return ERR_PROTOCOL;
    }
    const json_t *from = coordinates_of(rows, own);
    for (size_t i = 0; i < sites->count; i++) {
        sites->site[i].distance_ns =
            nearest_ns(from, coordinates_of(rows, sites->site[i].name));
    }
    json_decref(rows);
    order_sites(sites);
    return OK;
}

int catalog_read_self(struct bytes body, char *ret_site)
{
    json_t *self = load(body, JSON_OBJECT);
    const char *name = text_of(json_object_get(self, "Config"), "Datacenter");
    bool good = take_name(ret_site, ENDPOINT_SITE_MAX + 1, name);
    json_decref(self);
    return good ? OK : ERR_PROTOCOL;
}
