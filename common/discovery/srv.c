// SPDX-License-Identifier: Apache-2.0
#include "common/discovery/srv.h"

#include <ares.h>
#include <arpa/inet.h>
#include <strings.h>

#include "common/base/mem.h"
#include "common/discovery/catalog.h"

#define HEADER_BYTES 12
#define FIXED_BYTES 10 // type, class, time to live, length of the data
#define CLASS_IN 1
#define TYPE_A 1
#define TYPE_AAAA 28
#define TYPE_SRV 33
#define NAME_BYTES 256

// A target that wants an address, or an address for one.
struct record {
    char name[NAME_BYTES];
    char host[INET6_ADDRSTRLEN]; // of an address
    uint16_t port;               // of a target
};

struct walk {
    struct bytes message;
    size_t at;
    bool broken;
    struct record *targets, *hosts;
    size_t target_count, host_count;
};

static uint16_t u16_at(const struct walk *walk, size_t at)
{
    return (uint16_t)(walk->message.data[at] << 8 | walk->message.data[at + 1]);
}

// The name that stands at `at`; false when it is broken. *ret_size: bytes that it takes there.
static bool name_at(const struct walk *walk, size_t at, char *ret_name, size_t *ret_size)
{
    char *name;
    long size;
    if (at >= walk->message.size ||
        ares_expand_name(walk->message.data + at, walk->message.data, (int)walk->message.size,
                         &name, &size) != ARES_SUCCESS) {
        return false;
    }
    size_t length = strlen(name);
    bool fits = length < NAME_BYTES;
    if (fits) {
        memcpy(ret_name, name, length + 1);
        *ret_size = (size_t)size;
    }
    ares_free_string(name);
    return fits;
}

static void take_data(struct walk *walk, const char *name, unsigned type, size_t size)
{
    size_t ignored;
    struct record record = {.port = 0};
    const uint8_t *data = walk->message.data + walk->at;
    if (type == TYPE_SRV) {
        walk->broken |= size < 7 || !name_at(walk, walk->at + 6, record.name, &ignored);
        if (!walk->broken && walk->target_count < SRV_RECORDS_MAX) {
            record.port = u16_at(walk, walk->at + 4);
            walk->targets[walk->target_count++] = record;
        }
    } else if ((type == TYPE_A && size == 4) || (type == TYPE_AAAA && size == 16)) {
        memcpy(record.name, name, strlen(name) + 1);
        int family = type == TYPE_A ? AF_INET : AF_INET6;
        CHECK(inet_ntop(family, data, record.host, sizeof record.host) != NULL);
        if (walk->host_count < SRV_RECORDS_MAX) {
            walk->hosts[walk->host_count++] = record;
        }
    }
}

static void take_record(struct walk *walk)
{
    char name[NAME_BYTES];
    size_t size;
    if (!name_at(walk, walk->at, name, &size) ||
        walk->message.size - walk->at < size + FIXED_BYTES) {
        walk->broken = true;
        return;
    }
    size_t fixed = walk->at + size;
    size_t length = u16_at(walk, fixed + 8);
    walk->at = fixed + FIXED_BYTES;
    if (walk->message.size - walk->at < length) {
        walk->broken = true;
        return;
    }
    if (u16_at(walk, fixed + 2) == CLASS_IN) {
        take_data(walk, name, u16_at(walk, fixed), length);
    }
    walk->at += length;
}

static void skip_question(struct walk *walk)
{
    char name[NAME_BYTES];
    size_t size;
    walk->broken = !name_at(walk, walk->at, name, &size) ||
                   walk->message.size - walk->at < size + 4;
    if (!walk->broken) {
        walk->at += size + 4;
    }
}

static void walk_message(struct walk *walk)
{
    if (walk->message.size < HEADER_BYTES) {
        walk->broken = true;
        return;
    }
    unsigned questions = u16_at(walk, 4), records = 0;
    for (size_t at = 6; at < HEADER_BYTES; at += 2) {
        records += u16_at(walk, at);
    }
    walk->at = HEADER_BYTES;
    for (; questions > 0 && !walk->broken; questions--) {
        skip_question(walk);
    }
    for (; records > 0 && !walk->broken; records--) {
        take_record(walk);
    }
}

static const char *host_of(const struct walk *walk, const char *target)
{
    for (size_t i = 0; i < walk->host_count; i++) {
        if (strcasecmp(walk->hosts[i].name, target) == 0) {
            return walk->hosts[i].host;
        }
    }
    return "";
}

static struct endpoints *resolve(const struct walk *walk, size_t *ret_refused)
{
    struct endpoints *endpoints = endpoints_new(walk->target_count);
    size_t count = 0;
    for (size_t i = 0; i < walk->target_count; i++) {
        const struct record *target = &walk->targets[i];
        struct endpoint *next = &endpoints->endpoint[count];
        if (catalog_address(next, host_of(walk, target->name), target->port) == NULL) {
            next->kind = ENDPOINT_REPLICA;
            count++;
        }
    }
    *ret_refused = walk->target_count - count;
    endpoints->count = count;
    return endpoints;
}

int srv_read(struct bytes message, struct endpoints **ret_endpoints, size_t *ret_refused)
{
    struct walk walk = {
        .message = message,
        .targets = mem_alloc(SRV_RECORDS_MAX * sizeof(struct record)),
        .hosts = mem_alloc(SRV_RECORDS_MAX * sizeof(struct record)),
    };
    walk_message(&walk);
    if (!walk.broken) {
        *ret_endpoints = resolve(&walk, ret_refused);
    }
    mem_free(walk.targets);
    mem_free(walk.hosts);
    return walk.broken ? ERR_PROTOCOL : OK;
}
