// SPDX-License-Identifier: Apache-2.0
#include "common/discovery/endpoints.h"

#include <stdio.h>

#include "common/base/mem.h"

struct endpoints *endpoints_new(size_t count)
{
    struct endpoints *endpoints =
        mem_zalloc(sizeof *endpoints + count * sizeof endpoints->endpoint[0]);
    atomic_store(&endpoints->references, 1);
    endpoints->count = count;
    for (size_t i = 0; i < count; i++) {
        endpoints->endpoint[i].depth = UINT32_MAX;
        endpoints->endpoint[i].distance_ns = UINT64_MAX;
    }
    return endpoints;
}

struct endpoints *endpoints_hold(struct endpoints *endpoints)
{
    atomic_fetch_add(&endpoints->references, 1);
    return endpoints;
}

void endpoints_release(struct endpoints *endpoints)
{
    if (endpoints != NULL && atomic_fetch_sub(&endpoints->references, 1) == 1) {
        mem_free(endpoints);
    }
}

int endpoints_parse(const char *const *texts, struct endpoints **ret_endpoints,
                    const char **ret_bad, const char **ret_reason)
{
    size_t count = 0;
    while (texts != NULL && texts[count] != NULL) {
        count++;
    }
    struct endpoints *endpoints = endpoints_new(count);
    for (size_t i = 0; i < count; i++) {
        struct endpoint *endpoint = &endpoints->endpoint[i];
        int length = snprintf(endpoint->address, sizeof endpoint->address, "%s", texts[i]);
        int error = address_parse(&endpoint->parsed, texts[i], ret_reason);
        if (error == OK && length >= ADDRESS_TEXT_BYTES) {
            *ret_reason = "the address is too long";
            error = ERR_CONFIG;
        }
        if (error != OK) {
            *ret_bad = texts[i];
            endpoints_release(endpoints);
            return ERR_CONFIG;
        }
    }
    *ret_endpoints = endpoints;
    return OK;
}

static bool endpoint_same(const struct endpoint *a, const struct endpoint *b)
{
    return strcmp(a->address, b->address) == 0 && strcmp(a->node, b->node) == 0 &&
           strcmp(a->site, b->site) == 0 && a->kind == b->kind && a->own_site == b->own_site;
}

static bool contains(const struct endpoints *all, const struct endpoint *wanted)
{
    for (size_t i = 0; i < all->count; i++) {
        if (endpoint_same(&all->endpoint[i], wanted)) {
            return true;
        }
    }
    return false;
}

bool endpoints_same(const struct endpoints *a, const struct endpoints *b)
{
    bool same = a->count == b->count;
    for (size_t i = 0; same && i < a->count; i++) {
        same = contains(b, &a->endpoint[i]) && contains(a, &b->endpoint[i]);
    }
    return same;
}

// ---- the feed ----------------------------------------------------------------------------------

void endpoint_feed_open(struct endpoint_feed *feed)
{
    *feed = (struct endpoint_feed){.newest = endpoints_new(0)};
    CHECK(pthread_mutex_init(&feed->lock, NULL) == 0);
}

void endpoint_feed_close(struct endpoint_feed *feed)
{
    endpoints_release(feed->newest);
    pthread_mutex_destroy(&feed->lock);
}

void endpoint_feed_publish(struct endpoint_feed *feed, struct endpoints *endpoints)
{
    pthread_mutex_lock(&feed->lock);
    struct endpoints *before = feed->newest;
    feed->newest = endpoints;
    for (size_t i = 0; i < ARRAY_LEN(feed->subscribers); i++) {
        if (feed->subscribers[i] != NULL) {
            notice_raise(feed->subscribers[i]);
        }
    }
    pthread_mutex_unlock(&feed->lock);
    endpoints_release(before);
}

struct endpoints *endpoint_feed_get(struct endpoint_feed *feed)
{
    pthread_mutex_lock(&feed->lock);
    struct endpoints *endpoints = endpoints_hold(feed->newest);
    pthread_mutex_unlock(&feed->lock);
    return endpoints;
}

static void replace(struct endpoint_feed *feed, const struct notice *from, struct notice *to)
{
    pthread_mutex_lock(&feed->lock);
    size_t i = 0;
    while (i < ARRAY_LEN(feed->subscribers) && feed->subscribers[i] != from) {
        i++;
    }
    CHECK(i < ARRAY_LEN(feed->subscribers));
    feed->subscribers[i] = to;
    pthread_mutex_unlock(&feed->lock);
}

void endpoint_feed_subscribe(struct endpoint_feed *feed, struct notice *notice)
{
    replace(feed, NULL, notice);
}

void endpoint_feed_unsubscribe(struct endpoint_feed *feed, struct notice *notice)
{
    replace(feed, notice, NULL);
}
