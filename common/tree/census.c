// SPDX-License-Identifier: Apache-2.0
#include "common/tree/census.h"

#include <pthread.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/tree/tree.h"

// A saying that comes again on another way may look this much older or younger than it is.
#define SAME_NS (500 * NS_PER_MS)

struct resident {
    char node[NODE_NAME_MAX + 1], parent[NODE_NAME_MAX + 1];
    struct census_item said; // without the names and ago_ns
    uint64_t said_ns;        // monotonic here; when it was said
    const void *via;
    bool news;   // the parent was not told
    bool urgent; // ... and shall be told before others
};

struct census {
    struct instance *instance;
    pthread_mutex_t lock; // guards all below
    struct resident **residents; // in the order of their names
    size_t count, capacity;
    size_t turn;         // the one that a report goes on with
    uint64_t refused_ns; // when a node was passed over last; 0 = never
    uint64_t forgot_ns;  // when the table was last looked through for those to be dropped
};

struct census *census_open(struct instance *instance)
{
    struct census *census = mem_zalloc(sizeof *census);
    census->instance = instance;
    pthread_mutex_init(&census->lock, NULL);
    return census;
}

void census_close(struct census *census)
{
    for (size_t i = 0; i < census->count; i++) {
        mem_free(census->residents[i]);
    }
    mem_free(census->residents);
    pthread_mutex_destroy(&census->lock);
    mem_free(census);
}

// ---- the table, all under lock -----------------------------------------------------------------

// Where `node` stands, or would.
static size_t place_of(const struct census *census, struct bytes node, bool *ret_found)
{
    size_t low = 0, high = census->count;
    *ret_found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = bytes_compare(bytes_text(census->residents[middle]->node), node);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static uint64_t since(uint64_t then_ns, uint64_t now_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

// Drops what was lost or silent for long.
static void forget(struct census *census, uint64_t now_ns)
{
    size_t kept = 0;
    for (size_t i = 0; i < census->count; i++) {
        if (since(census->residents[i]->said_ns, now_ns) >= CENSUS_FORGET_NS) {
            mem_free(census->residents[i]);
        } else {
            census->residents[kept++] = census->residents[i];
        }
    }
    census->count = kept;
    census->forgot_ns = now_ns;
    METRIC_SET(census->instance->metrics, instance, census_nodes, kept);
}

// NULL: the table is full.
static struct resident *insert(struct census *census, size_t at)
{
    if (census->count >= census->instance->options->census_max) {
        return NULL;
    }
    if (census->count == census->capacity) {
        census->capacity = census->capacity == 0 ? 16 : 2 * census->capacity;
        census->residents = mem_realloc(census->residents,
                                      census->capacity * sizeof census->residents[0]);
    }
    memmove(&census->residents[at + 1], &census->residents[at],
            (census->count - at) * sizeof census->residents[0]);
    struct resident *resident = mem_zalloc(sizeof *resident);
    census->residents[at] = resident;
    census->count++;
    METRIC_SET(census->instance->metrics, instance, census_nodes, census->count);
    return resident;
}

static void put_name(char *to, struct bytes name)
{
    memcpy(to, name.data, name.size);
    to[name.size] = '\0';
}

// ---- what children report ----------------------------------------------------------------------

// Does it change what the tree looks like?
static bool is_urgent(const struct resident *resident, const struct census_item *item)
{
    return resident->said.role != item->role || resident->said.state != item->state ||
           resident->said.flags != item->flags || !bytes_equal_text(item->parent, resident->parent);
}

// Is it older than what is known, or a loss by one that the node has left since?
static bool is_stale(const struct resident *resident, const struct census_item *item,
                     const void *via, uint64_t said_ns)
{
    bool lost = (item->flags & CENSUS_LOST) != 0;
    return said_ns + SAME_NS < resident->said_ns || (lost && resident->via != via);
}

static void take(struct census *census, const void *via, const struct census_item *item,
                 uint64_t now_ns)
{
    uint64_t said_ns = now_ns > item->ago_ns ? now_ns - item->ago_ns : 0;
    if (since(said_ns, now_ns) >= CENSUS_FORGET_NS ||
        bytes_equal_text(item->node, census->instance->node->node)) {
        return;
    }
    bool found;
    size_t at = place_of(census, item->node, &found);
    struct resident *resident = found ? census->residents[at] : insert(census, at);
    if (resident == NULL && since(census->forgot_ns, now_ns) >= CENSUS_REPORT_NS) {
        forget(census, now_ns);
        resident = insert(census, place_of(census, item->node, &found));
    }
    if (resident == NULL) {
        census->refused_ns = now_ns;
        METRIC_ADD(census->instance->metrics, instance, census_refused, 1);
        return;
    }
    if (found && is_stale(resident, item, via, said_ns)) {
        return;
    }
    bool urgent = !found || is_urgent(resident, item);
    // What comes once more on another way is no news: it would go round in a circle for ever.
    resident->news |= urgent || said_ns > resident->said_ns + SAME_NS;
    resident->urgent |= urgent;
    put_name(resident->node, item->node);
    put_name(resident->parent, item->parent);
    resident->said = *item;
    resident->said_ns = said_ns;
    resident->via = via;
}

int census_take(struct census *census, const void *via, struct bytes items, uint64_t now_ns)
{
    struct census_item item;
    struct unpacker check = unpacker_of(items);
    while (census_item_next(&check, &item)) {
    }
    int error = unpack_end(&check);
    if (error != OK) {
        return error;
    }
    METRIC_ADD(census->instance->metrics, instance, census_bytes, items.size);
    struct unpacker from = unpacker_of(items);
    pthread_mutex_lock(&census->lock);
    while (census_item_next(&from, &item)) {
        take(census, via, &item, now_ns);
    }
    pthread_mutex_unlock(&census->lock);
    return OK;
}

void census_lose(struct census *census, const void *via)
{
    pthread_mutex_lock(&census->lock);
    for (size_t i = 0; i < census->count; i++) {
        struct resident *resident = census->residents[i];
        if (resident->via == via && (resident->said.flags & CENSUS_LOST) == 0) {
            resident->said.flags |= CENSUS_LOST;
            resident->news = resident->urgent = true;
        }
    }
    pthread_mutex_unlock(&census->lock);
}

bool census_below(struct census *census, const char *node)
{
    bool found;
    pthread_mutex_lock(&census->lock);
    size_t at = place_of(census, bytes_text(node), &found);
    bool below = found && (census->residents[at]->said.flags & CENSUS_LOST) == 0;
    pthread_mutex_unlock(&census->lock);
    return below;
}

// ---- what is told ------------------------------------------------------------------------------

static void append(struct buf *to, const struct resident *resident, uint64_t now_ns)
{
    struct census_item item = resident->said;
    item.node = bytes_text(resident->node);
    item.parent = bytes_text(resident->parent);
    item.ago_ns = since(resident->said_ns, now_ns);
    census_item_append(to, &item);
}

// Appends the news from `turn` on as long as there is room; then the next report goes on there.
static void tell(struct census *census, struct buf *to, bool urgent, uint64_t now_ns)
{
    size_t first = census->turn;
    for (size_t i = 0; i < census->count; i++) {
        size_t at = (first + i) % census->count;
        struct resident *resident = census->residents[at];
        if (!resident->news || (urgent && !resident->urgent)) {
            continue;
        }
        if (to->size + CENSUS_ITEM_MAX > CENSUS_REPORT_BYTES) {
            census->turn = at;
            return;
        }
        append(to, resident, now_ns);
        resident->news = resident->urgent = false;
    }
}

void census_tell(struct census *census, struct buf *to, uint64_t now_ns)
{
    pthread_mutex_lock(&census->lock);
    forget(census, now_ns);
    tell(census, to, true, now_ns);
    tell(census, to, false, now_ns);
    pthread_mutex_unlock(&census->lock);
}

void census_tell_all(struct census *census)
{
    pthread_mutex_lock(&census->lock);
    for (size_t i = 0; i < census->count; i++) {
        census->residents[i]->news = true;
    }
    pthread_mutex_unlock(&census->lock);
}

// ---- this node, and the whole ------------------------------------------------------------------

static bool is_cut(struct census *census, uint64_t now_ns)
{
    pthread_mutex_lock(&census->lock);
    bool cut = census->refused_ns != 0 && since(census->refused_ns, now_ns) < CENSUS_SILENT_NS;
    pthread_mutex_unlock(&census->lock);
    return cut;
}

void census_own(struct census_own *ret_own, struct instance *instance)
{
    struct upstream_status upstream;
    follow_status(instance, &upstream);
    snprintf(ret_own->parent, sizeof ret_own->parent, "%s", upstream.node);
    uint64_t flags = METRIC_GET(instance->metrics, instance, age_alarm) != 0 ? CENSUS_ALARM : 0;
    flags |= is_cut(instance->census, clock_mono_ns()) ? CENSUS_CUT : 0;
    struct view *view = instance_pin(instance);
    bool follows = ret_own->parent[0] != '\0';
    ret_own->item = (struct census_item){
        .node = bytes_text(instance->node->node),
        .parent = bytes_text(ret_own->parent),
        .role = (uint64_t)instance->options->role,
        .state = (uint64_t)instance_state(instance),
        .flags = flags,
        .visible = view != NULL ? view->place.index : 0,
        .age_ns = instance_age_ns(instance),
        .network_ns = follows ? METRIC_GET(instance->metrics, instance, lag_network_ns) : 0,
        .queue_ns = follows ? METRIC_GET(instance->metrics, instance, lag_queue_ns) : 0,
        .apply_ns = METRIC_GET(instance->metrics, instance, lag_apply_ns),
    };
    view_release(view);
}

size_t census_list(struct census *census, struct buf *to, uint64_t now_ns)
{
    struct census_own own;
    census_own(&own, census->instance);
    pthread_mutex_lock(&census->lock);
    forget(census, now_ns);
    bool found;
    size_t at = place_of(census, own.item.node, &found);
    for (size_t i = 0; i <= census->count; i++) {
        if (i == at) {
            census_item_append(to, &own.item);
        }
        if (i < census->count) {
            struct resident *resident = census->residents[i];
            if (since(resident->said_ns, now_ns) >= CENSUS_SILENT_NS) {
                resident->said.flags |= CENSUS_LOST;
            }
            append(to, resident, now_ns);
        }
    }
    size_t count = census->count + 1;
    pthread_mutex_unlock(&census->lock);
    return count;
}
