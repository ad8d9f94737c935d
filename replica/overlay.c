// SPDX-License-Identifier: Apache-2.0
#include "replica/overlay.h"

#include "common/base/hash.h"
#include "common/base/mem.h"

#define FIRST_BUCKETS 1024

void overlay_open(struct overlay *overlay)
{
    list_init(&overlay->order);
    overlay->bucket_count = FIRST_BUCKETS;
    overlay->buckets = mem_zalloc(FIRST_BUCKETS * sizeof *overlay->buckets);
    overlay->entry_count = 0;
}

void overlay_close(struct overlay *overlay)
{
    overlay_forget(overlay, UINT64_MAX);
    mem_free(overlay->buckets);
    overlay->buckets = NULL;
}

static struct overlay_entry **bucket_of(const struct overlay *overlay, uint64_t hash)
{
    return &overlay->buckets[hash & (overlay->bucket_count - 1)];
}

static struct overlay_entry *find(const struct overlay *overlay, struct bytes key, uint64_t hash)
{
    struct overlay_entry *entry = *bucket_of(overlay, hash);
    while (entry != NULL &&
           !(entry->newest && entry->hash == hash && bytes_equal(entry->key, key))) {
        entry = entry->next;
    }
    return entry;
}

const struct overlay_entry *overlay_find(const struct overlay *overlay, struct bytes key)
{
    return overlay->entry_count == 0 ? NULL : find(overlay, key, hash64(key, 0));
}

static void grow(struct overlay *overlay)
{
    mem_free(overlay->buckets);
    overlay->bucket_count *= 2;
    overlay->buckets = mem_zalloc(overlay->bucket_count * sizeof *overlay->buckets);
    LIST_FOR_EACH(node, &overlay->order) {
        struct overlay_entry *entry = CONTAINER_OF(node, struct overlay_entry, node);
        struct overlay_entry **bucket = bucket_of(overlay, entry->hash);
        entry->next = *bucket;
        *bucket = entry;
    }
}

static void add(struct overlay *overlay, struct bytes key, struct bytes value, bool present,
                uint64_t index)
{
    if (overlay->entry_count >= overlay->bucket_count) {
        grow(overlay);
    }
    uint64_t hash = hash64(key, 0);
    struct overlay_entry *before = find(overlay, key, hash);
    if (before != NULL) {
        before->newest = false;
    }
    struct overlay_entry *entry = mem_alloc(sizeof *entry + key.size + value.size);
    uint8_t *data = (uint8_t *)(entry + 1);
    memcpy(data, key.data, key.size);
    if (value.size > 0) {
        memcpy(data + key.size, value.data, value.size);
    }
    struct overlay_entry **bucket = bucket_of(overlay, hash);
    *entry = (struct overlay_entry){.next = *bucket,
                                    .hash = hash,
                                    .index = index,
                                    .present = present,
                                    .newest = true,
                                    .key = bytes_of(data, key.size),
                                    .value = bytes_of(data + key.size, value.size)};
    *bucket = entry;
    list_init(&entry->node);
    list_append(&overlay->order, &entry->node);
    overlay->entry_count++;
}

void overlay_put(struct overlay *overlay, struct bytes key, struct bytes value, uint64_t index)
{
    add(overlay, key, value, true, index);
}

void overlay_delete(struct overlay *overlay, struct bytes key, uint64_t index)
{
    add(overlay, key, bytes_of(NULL, 0), false, index);
}

static void forget(struct overlay *overlay, struct overlay_entry *entry)
{
    struct overlay_entry **at = bucket_of(overlay, entry->hash);
    while (*at != entry) {
        at = &(*at)->next;
    }
    *at = entry->next;
    list_remove(&entry->node);
    overlay->entry_count--;
    mem_free(entry);
}

void overlay_forget(struct overlay *overlay, uint64_t visible)
{
    while (!list_empty(&overlay->order)) {
        struct overlay_entry *oldest =
            CONTAINER_OF(overlay->order.next, struct overlay_entry, node);
        if (oldest->index > visible) {
            return;
        }
        forget(overlay, oldest);
    }
}

// The newest remaining entry of a key becomes its newest again.
static void reinstate(struct overlay *overlay, struct bytes key, uint64_t hash)
{
    struct overlay_entry *best = NULL;
    for (struct overlay_entry *entry = *bucket_of(overlay, hash); entry != NULL;
         entry = entry->next) {
        if (entry->hash == hash && bytes_equal(entry->key, key) &&
            (best == NULL || entry->index > best->index)) {
            best = entry;
        }
    }
    if (best != NULL) {
        best->newest = true;
    }
}

void overlay_revoke(struct overlay *overlay, uint64_t index)
{
    while (!list_empty(&overlay->order)) {
        struct overlay_entry *newest =
            CONTAINER_OF(overlay->order.prev, struct overlay_entry, node);
        if (newest->index < index) {
            return;
        }
        uint8_t key[1024];
        CHECK(newest->key.size <= sizeof key);
        memcpy(key, newest->key.data, newest->key.size);
        struct bytes copy = bytes_of(key, newest->key.size);
        uint64_t hash = newest->hash;
        forget(overlay, newest);
        reinstate(overlay, copy, hash);
    }
}
