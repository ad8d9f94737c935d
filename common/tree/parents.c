// SPDX-License-Identifier: Apache-2.0
#include "common/tree/parents.h"

#include <limits.h>
#include <stdio.h>

#include "common/base/mem.h"
#include "common/base/options.h"

#define BAD_TWICE 2 // a parent whose same block is bad this often is left
#define LATELY_NS (60 * NS_PER_S)
#define NAMED_AT_ONCE_MAX 8
#define WAY_MOST_NS (3600 * NS_PER_S) // of what is said: more would not tell more

static struct parent *find(const struct parents *parents, const char *address)
{
    for (unsigned i = 0; i < parents->count; i++) {
        if (strcmp(parents->all[i]->endpoint.address, address) == 0) {
            return parents->all[i];
        }
    }
    return NULL;
}

static struct parent *parent_new(const struct endpoint *endpoint)
{
    struct parent *parent = mem_zalloc(sizeof *parent);
    parent->endpoint = *endpoint;
    parent->rtt_ns = parent->age_ns = parent->way_ns = UINT64_MAX;
    parent->depth = UINT_MAX;
    return parent;
}

static bool is_wanted(const struct parent *parent)
{
    return parent->listed || parent->hops > 0 || parent->named_donor || parent->holders > 0;
}

static void drop_unwanted(struct parents *parents)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < parents->count; i++) {
        struct parent *parent = parents->all[i];
        if (is_wanted(parent)) {
            parents->all[kept++] = parent;
        } else {
            mem_free(parent);
        }
    }
    parents->count = kept;
}

void parents_close(struct parents *parents)
{
    for (unsigned i = 0; i < parents->count; i++) {
        CHECK(parents->all[i]->holders == 0);
        mem_free(parents->all[i]);
    }
    *parents = (struct parents){0};
}

static bool is_listed(const struct parents *parents, const struct parent *parent)
{
    for (unsigned i = 0; i < parents->listed; i++) {
        if (parents->all[i] == parent) {
            return true;
        }
    }
    return false;
}

bool parents_take(struct parents *parents, const struct endpoints *list)
{
    struct parents before = *parents;
    bool added = false;
    for (unsigned i = 0; i < before.count; i++) {
        before.all[i]->listed = false;
    }
    parents->count = 0;
    for (size_t i = 0; i < list->count && parents->count < PARENTS_MAX; i++) {
        const struct endpoint *endpoint = &list->endpoint[i];
        struct parent *parent = find(&before, endpoint->address);
        if (find(parents, endpoint->address) != NULL) {
            continue; // listed twice
        }
        added = added || parent == NULL || !is_listed(&before, parent);
        if (parent == NULL) {
            parent = parent_new(endpoint);
        }
        parent->listed = true;
        parent->endpoint = *endpoint;
        if (endpoint->own_site && endpoint->site[0] != '\0') {
            memcpy(parents->site, endpoint->site, sizeof parents->site);
        }
        parents->all[parents->count++] = parent;
    }
    parents->listed = parents->count;
    for (unsigned i = 0; i < before.count; i++) {
        if (is_wanted(before.all[i]) && !before.all[i]->listed) {
            parents->all[parents->count++] = before.all[i];
        } else if (!before.all[i]->listed) {
            mem_free(before.all[i]);
        }
    }
    return added;
}

void parents_hold(struct parents *parents, struct parent **holder, struct parent *parent)
{
    if (parent != NULL) {
        parent->holders++;
    }
    if (*holder != NULL) {
        CHECK((*holder)->holders > 0);
        (*holder)->holders--;
    }
    *holder = parent;
    drop_unwanted(parents);
}

bool parent_is_left(const struct parent *parent, uint64_t damaged)
{
    return parent->bad_count >= BAD_TWICE || (damaged != 0 && parent->no_repair == damaged);
}

struct parent *parents_choose(const struct parents *parents, uint64_t damaged, uint64_t now_ns)
{
    uint64_t mended = parents_may_mend(parents, damaged, now_ns) ? damaged : 0;
    struct parent *best = NULL;
    struct prospect best_prospect;
    for (unsigned i = 0; i < parents->count; i++) {
        struct parent *parent = parents->all[i];
        if (parent->tried || parent_is_left(parent, mended) ||
            (!parent->listed && parent->hops == 0)) {
            continue;
        }
        struct prospect prospect = parent_prospect(parents, parent, now_ns);
        if (best == NULL || oracle_before(&prospect, &best_prospect)) {
            best = parent;
            best_prospect = prospect;
        }
    }
    return best;
}

static void forget_named(struct parents *parents)
{
    for (unsigned i = 0; i < parents->count; i++) {
        parents->all[i]->hops = 0;
    }
    parents->named = 0;
    drop_unwanted(parents);
}

void parents_new_round(struct parents *parents)
{
    forget_named(parents);
    for (unsigned i = 0; i < parents->count; i++) {
        parents->all[i]->tried = false;
    }
}

// The others may be out of reach, or get their log from here, for ever.
void parents_in_vain(struct parents *parents, uint64_t damaged, uint64_t now_ns)
{
    parents_new_round(parents);
    for (unsigned i = 0; i < parents->listed; i++) {
        struct parent *parent = parents->all[i];
        if (damaged != 0 && parent->no_repair == damaged) {
            parents->unmendable = damaged;
            parents->unmendable_ns = now_ns;
        }
        parent->no_repair = 0; // it may be mended there when this is over
        parent->bad_count = 0;
    }
}

bool parents_may_mend(const struct parents *parents, uint64_t damaged, uint64_t now_ns)
{
    return damaged != parents->unmendable || now_ns - parents->unmendable_ns >= LATELY_NS;
}

// ---- those who are named -----------------------------------------------------------------------

// Takes the next text off, with its zero byte. False: there is none, or it is too long for `to`.
static bool next_text(struct bytes *rest, char *to, size_t size)
{
    const uint8_t *end = memchr(rest->data, 0, rest->size);
    size_t length = end == NULL ? size : (size_t)(end - rest->data);
    if (length >= size) {
        return false;
    }
    memcpy(to, rest->data, length + 1);
    *rest = bytes_of(end + 1, rest->size - length - 1);
    return true;
}

static bool next_named(struct bytes *rest, struct endpoint *ret_endpoint)
{
    const char *reason;
    *ret_endpoint = (struct endpoint){.depth = UINT32_MAX, .distance_ns = UINT64_MAX};
    return rest->size > 0 &&
           next_text(rest, ret_endpoint->address, sizeof ret_endpoint->address) &&
           next_text(rest, ret_endpoint->node, sizeof ret_endpoint->node) &&
           next_text(rest, ret_endpoint->site, sizeof ret_endpoint->site) &&
           address_parse(&ret_endpoint->parsed, ret_endpoint->address, &reason) == OK;
}

unsigned parents_named(struct parents *parents, const struct parent *by, struct bytes elsewhere,
                       const char *node)
{
    unsigned added = 0;
    unsigned hops = by->hops + 1;
    struct endpoint endpoint;
    for (unsigned i = 0; i < NAMED_AT_ONCE_MAX && next_named(&elsewhere, &endpoint); i++) {
        bool own = strcmp(endpoint.node, node) == 0;
        if (own || parents->named == PARENTS_NAMED_MAX || find(parents, endpoint.address) != NULL) {
            continue;
        }
        endpoint.own_site = parents->site[0] != '\0' && strcmp(endpoint.site, parents->site) == 0;
        struct parent *parent = parent_new(&endpoint);
        parent->hops = hops;
        parents->all[parents->count++] = parent;
        parents->named++;
        added++;
    }
    return added;
}

struct parent *parents_sent_to(struct parents *parents, struct bytes elsewhere, const char *node)
{
    struct endpoint endpoint;
    forget_named(parents);
    bool found = next_named(&elsewhere, &endpoint) && strcmp(endpoint.node, node) != 0;
    struct parent *parent = found ? find(parents, endpoint.address) : NULL;
    if (found && parent == NULL) {
        parent = parent_new(&endpoint);
        parent->hops = 1;
        parents->all[parents->count++] = parent;
        parents->named++;
    }
    return parent;
}

void parents_named_donors(struct parents *parents, struct bytes elsewhere, const char *node)
{
    unsigned count = 0;
    struct endpoint endpoint;
    for (unsigned i = 0; i < parents->count; i++) {
        count += parents->all[i]->named_donor ? 1 : 0;
    }
    for (unsigned i = 0; i < NAMED_AT_ONCE_MAX && next_named(&elsewhere, &endpoint); i++) {
        struct parent *parent = find(parents, endpoint.address);
        if (strcmp(endpoint.node, node) == 0 || count == PARENTS_DONORS_MAX ||
            (parent != NULL && parent->named_donor)) {
            continue;
        }
        if (parent == NULL) {
            parent = parent_new(&endpoint);
            parents->all[parents->count++] = parent;
        }
        parent->named_donor = true;
        count++;
    }
}

// ---- what is known -----------------------------------------------------------------------------

void parent_learn(const struct parents *parents, struct parent *parent,
                  const struct message_welcome *welcome, uint64_t way_ns, uint64_t now_ns)
{
    unsigned names = welcome->path.size > 0 ? 1 : 0;
    for (size_t i = 0; i < welcome->path.size; i++) {
        names += welcome->path.data[i] == 0 ? 1 : 0;
    }
    parent->told_ns = now_ns;
    parent->rtt_ns = oracle_smooth_rtt(parent->rtt_ns, way_ns / 2);
    parent->age_ns = welcome->age_ns;
    parent->way_ns = welcome->way_ns == 0
                         ? UINT64_MAX
                         : u64_min(welcome->way_ns, WAY_MOST_NS) + parent->rtt_ns / 2;
    parent->children = welcome->children;
    parent->children_max = welcome->children_max;
    parent->depth = names > 0 ? names : UINT_MAX;
    parent->root = welcome->role == ROLE_ROOT;
    parent->near = parents->site[0] != '\0' && bytes_equal_text(welcome->site, parents->site);
    parent->fits = welcome->answer == ANSWER_RESUME;
}

// Connecting and asking take two round trips, also of one at the other end of the world.
uint64_t parent_patience_ns(const struct parent *parent, uint64_t silence_ns)
{
    uint64_t rtt_ns =
        parent->rtt_ns != UINT64_MAX ? parent->rtt_ns : parent->endpoint.distance_ns;
    bool known = rtt_ns < silence_ns;
    return known ? u64_min(silence_ns / 2, silence_ns / 8 + 5 * rtt_ns / 2) : silence_ns / 4;
}

struct prospect parent_prospect(const struct parents *parents, const struct parent *parent,
                                uint64_t now_ns)
{
    unsigned order = 0;
    while (order < parents->count && parents->all[order] != parent) {
        order++;
    }
    bool lately = parent->told_ns != 0 && now_ns - parent->told_ns < LATELY_NS;
    const struct endpoint *endpoint = &parent->endpoint;
    return (struct prospect){
        .rests = oracle_rests(&parent->lost, parents->unit_ns, now_ns),
        .below = parent->below,
        .own_site = endpoint->own_site || parent->near,
        .root = parent->told_ns != 0 ? parent->root : endpoint->kind == ENDPOINT_ROOT,
        .rtt_ns = parent->rtt_ns != UINT64_MAX ? parent->rtt_ns : endpoint->distance_ns,
        .way_ns = parent->way_ns,
        .age_ns = lately ? parent->age_ns : UINT64_MAX,
        .depth = parent->told_ns != 0 ? parent->depth : endpoint->depth,
        .children = lately ? parent->children : 0,
        .children_max = lately ? parent->children_max : 0,
        .hops = parent->hops,
        .order = order,
    };
}

typedef bool condition(const struct parent *parent, uint64_t since_ns);

// Of the listed ones but `used`, the first by the oracle.
static struct parent *first(const struct parents *parents, const struct parent *used,
                            uint64_t since_ns, uint64_t now_ns, condition *holds)
{
    struct parent *found = NULL;
    struct prospect found_prospect;
    for (unsigned i = 0; i < parents->listed; i++) {
        struct parent *parent = parents->all[i];
        struct prospect prospect = parent_prospect(parents, parent, now_ns);
        if (parent != used && !parent_is_left(parent, 0) && holds(parent, since_ns) &&
            (found == NULL || oracle_before(&prospect, &found_prospect))) {
            found = parent;
            found_prospect = prospect;
        }
    }
    return found;
}

static bool is_unasked(const struct parent *parent, uint64_t since_ns)
{
    return parent->told_ns < since_ns;
}

static bool has_no_room(const struct parent *parent, uint64_t since_ns)
{
    return parent->full && !parent->doubtful && parent->told_ns >= since_ns;
}

struct parent *parents_unasked(const struct parents *parents, const struct parent *used,
                               uint64_t since_ns, uint64_t now_ns)
{
    return first(parents, used, since_ns, now_ns, is_unasked);
}

struct parent *parents_full(const struct parents *parents, const struct parent *used,
                            uint64_t since_ns, uint64_t now_ns)
{
    return first(parents, used, since_ns, now_ns, has_no_room);
}

static bool fits_lately(const struct parent *parent, uint64_t now_ns)
{
    return parent->fits && parent->told_ns != 0 && now_ns - parent->told_ns < LATELY_NS &&
           !parent_is_left(parent, 0);
}

// Those that could take the place of `used`; returns how many.
static unsigned look_at_others(const struct parents *parents, const struct parent *used,
                               const struct prospect *seen, uint64_t now_ns,
                               struct parent **others, struct prospect *prospects)
{
    unsigned count = 0;
    for (unsigned i = 0; i < parents->listed; i++) {
        struct parent *parent = parents->all[i];
        if (parent != used && fits_lately(parent, now_ns)) {
            others[count] = parent;
            prospects[count] = parent_prospect(parents, parent, now_ns);
            count += oracle_may_move(&prospects[count], seen) ? 1 : 0;
        }
    }
    return count;
}

struct parent *parents_best(const struct parents *parents, const struct parent *used,
                            struct prospect *seen, uint64_t now_ns, struct prospect *ret_best)
{
    struct parent *others[PARENTS_MAX], *best = NULL;
    struct prospect prospects[PARENTS_MAX];
    unsigned count = look_at_others(parents, used, seen, now_ns, others, prospects);
    oracle_compare_ways(seen, prospects, count);
    for (unsigned i = 0; i < count; i++) {
        if (best == NULL || oracle_before(&prospects[i], ret_best)) {
            best = others[i];
            *ret_best = prospects[i];
        }
    }
    return best;
}

struct parent *parents_quietest(const struct parents *parents, const struct parent *used)
{
    struct parent *quietest = NULL;
    for (unsigned i = 0; i < parents->listed; i++) {
        struct parent *parent = parents->all[i];
        if (parent != used && (quietest == NULL || parent->told_ns < quietest->told_ns)) {
            quietest = parent;
        }
    }
    return quietest;
}
