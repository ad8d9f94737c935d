// SPDX-License-Identifier: Apache-2.0
#include "common/wire/census_items.h"

// Those of common/data/limits.h and common/core/instance.h, which stand above this folder.
#define NAME_LIMIT 64
#define ROLE_LAST 3
#define STATE_LAST 2

#define ITEM_FIELDS 11

void census_item_append(struct buf *to, const struct census_item *item)
{
    size_t before = to->size;
    pack_array(to, ITEM_FIELDS);
    pack_str(to, item->node);
    pack_str(to, item->parent);
    pack_uint(to, item->role);
    pack_uint(to, item->state);
    pack_uint(to, item->flags);
    pack_uint(to, item->visible);
    pack_uint(to, item->age_ns);
    pack_uint(to, item->network_ns);
    pack_uint(to, item->queue_ns);
    pack_uint(to, item->apply_ns);
    pack_uint(to, item->ago_ns);
    CHECK(to->error != OK || to->size - before <= CENSUS_ITEM_MAX);
}

// As configuration allows names.
static bool is_name(struct bytes name)
{
    for (size_t i = 0; i < name.size; i++) {
        uint8_t c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '.' && c != '_' && c != '-') {
            return false;
        }
    }
    return name.size <= NAME_LIMIT;
}

static bool is_sound(const struct census_item *item)
{
    return item->node.size > 0 && is_name(item->node) && is_name(item->parent) &&
           !bytes_equal(item->node, item->parent) && item->role >= 1 && item->role <= ROLE_LAST &&
           item->state <= STATE_LAST && (item->flags & ~(uint64_t)CENSUS_FLAGS) == 0;
}

bool census_item_next(struct unpacker *from, struct census_item *ret_item)
{
    if (!unpack_ok(from) || from->rest.size == 0) {
        return false;
    }
    struct census_item item = {0};
    unpack_array_of(from, ITEM_FIELDS);
    item.node = unpack_str(from);
    item.parent = unpack_str(from);
    item.role = unpack_uint(from);
    item.state = unpack_uint(from);
    item.flags = unpack_uint(from);
    item.visible = unpack_uint(from);
    item.age_ns = unpack_uint(from);
    item.network_ns = unpack_uint(from);
    item.queue_ns = unpack_uint(from);
    item.apply_ns = unpack_uint(from);
    item.ago_ns = unpack_uint(from);
    if (!unpack_ok(from) || !is_sound(&item)) {
        unpack_fail(from);
        return false;
    }
    *ret_item = item;
    return true;
}
