// SPDX-License-Identifier: Apache-2.0
#include "common/tree/oracle.h"

#define NEAR_NS NS_PER_MS // nearer than this all are the same
#define LOAD_STEPS 8
#define CLASS_UNKNOWN 64u

// Steps of a factor of two above `least`.
static unsigned class_of(uint64_t value, uint64_t least)
{
    if (value == UINT64_MAX) {
        return CLASS_UNKNOWN;
    }
    uint64_t times = value / least;
    return times == 0 ? 0 : 64u - (unsigned)__builtin_clzll(times);
}

static bool is_old(const struct prospect *prospect)
{
    return prospect->age_ns != UINT64_MAX && prospect->age_ns >= ORACLE_OLD_NS;
}

static unsigned age_class(const struct prospect *prospect)
{
    return is_old(prospect) ? class_of(prospect->age_ns, ORACLE_OLD_NS) : 0;
}

static unsigned load_of(const struct prospect *prospect)
{
    return prospect->children_max == 0
               ? 0
               : (unsigned)u64_min(LOAD_STEPS, prospect->children * LOAD_STEPS /
                                                   prospect->children_max);
}

// So few places are left that others may take them before this node comes: a refusal costs two more
// round trips.
static bool is_crowded(const struct prospect *prospect)
{
    return load_of(prospect) >= LOAD_STEPS - LOAD_STEPS / ORACLE_KEPT;
}

// < 0: the first comes first.
static int compare(unsigned a, unsigned b) { return (a > b) - (a < b); }

bool oracle_before(const struct prospect *a, const struct prospect *b)
{
    const int order[] = {
        compare(a->rests, b->rests),
        compare(a->below, b->below),
        compare(is_old(a), is_old(b)),
        compare(b->own_site, a->own_site),
        compare(a->detour, b->detour),
        compare(class_of(a->rtt_ns, NEAR_NS), class_of(b->rtt_ns, NEAR_NS)),
        compare(is_crowded(a), is_crowded(b)),
        compare(age_class(a), age_class(b)),
        compare(a->root, b->root),
        compare(a->depth, b->depth),
        compare(load_of(a), load_of(b)),
        compare(b->hops, a->hops),
        compare(a->order, b->order),
    };
    for (unsigned i = 0; i < ARRAY_LEN(order); i++) {
        if (order[i] != 0) {
            return order[i] < 0;
        }
    }
    return false;
}

// Orphans are in haste, and should find room. So is who gets old data; and one more of the own site
// takes a load off the ways between sites.
static bool has_room(const struct prospect *other, const struct prospect *used)
{
    bool wanting = is_old(used) || (other->own_site && !used->own_site);
    uint64_t kept = wanting ? 0 : other->children_max / ORACLE_KEPT;
    return other->children_max == 0 || other->children + kept < other->children_max;
}

bool oracle_may_move(const struct prospect *other, const struct prospect *used)
{
    return !other->rests && !other->below && !is_old(other) && has_room(other, used);
}

static enum detour detour_of(uint64_t way_ns, uint64_t least_ns)
{
    uint64_t known_ns = way_ns == UINT64_MAX ? 0 : way_ns;
    return known_ns <= least_ns + least_ns / 4 + ORACLE_MARGIN_NS  ? DETOUR_NONE
           : known_ns < least_ns + least_ns / 2 + ORACLE_MARGIN_NS ? DETOUR_SOME
                                                                   : DETOUR_LONG;
}

void oracle_compare_ways(struct prospect *used, struct prospect *others, unsigned count)
{
    uint64_t least_ns = used->way_ns;
    for (unsigned i = 0; i < count; i++) {
        bool alike = others[i].own_site == used->own_site;
        least_ns = alike ? u64_min(least_ns, others[i].way_ns) : least_ns;
    }
    least_ns = u64_min(least_ns, UINT64_MAX / 4);
    used->detour = detour_of(used->way_ns, least_ns);
    for (unsigned i = 0; i < count; i++) {
        bool alike = others[i].own_site == used->own_site;
        others[i].detour = alike ? detour_of(others[i].way_ns, least_ns) : DETOUR_NONE;
    }
}

bool oracle_much_better(const struct prospect *other, const struct prospect *used)
{
    if (!oracle_may_move(other, used)) {
        return false;
    }
    if (is_old(used) && other->age_ns < used->age_ns / 2) {
        return true;
    }
    if (other->own_site != used->own_site) {
        return other->own_site;
    }
    if (other->detour != DETOUR_NONE) {
        return false;
    }
    if (used->detour == DETOUR_LONG) {
        return true;
    }
    return other->rtt_ns < UINT64_MAX / 4 &&
           other->rtt_ns * 2 + ORACLE_MARGIN_NS <= used->rtt_ns && used->rtt_ns != UINT64_MAX;
}

// ---- time --------------------------------------------------------------------------------------

void oracle_rest_begin(struct oracle_rest *rest, uint64_t unit_ns, uint64_t now_ns)
{
    bool forgotten = now_ns - rest->last_ns >= ORACLE_FORGET * unit_ns;
    rest->count = (forgotten || rest->last_ns == 0 ? 0 : rest->count) + 1;
    rest->last_ns = now_ns;
}

bool oracle_rests(const struct oracle_rest *rest, uint64_t unit_ns, uint64_t now_ns)
{
    if (rest->last_ns == 0) {
        return false;
    }
    unsigned doublings = rest->count < 16 ? rest->count - 1 : 15;
    uint64_t pause = u64_min((uint64_t)ORACLE_REST << doublings, ORACLE_REST_MAX);
    return now_ns - rest->last_ns < pause * unit_ns;
}

bool oracle_look(struct oracle *oracle, const struct prospect *used, const struct prospect *other,
                 uint64_t unit_ns, uint64_t now_ns)
{
    if (other == NULL || !oracle_much_better(other, used)) {
        oracle->better_ns = 0;
        return false;
    }
    if (oracle->better_ns == 0) {
        oracle->better_ns = now_ns;
    }
    if (now_ns - oracle->better_ns < ORACLE_HOLD * unit_ns ||
        oracle_rests(&oracle->moves, unit_ns, now_ns)) {
        return false;
    }
    oracle->better_ns = 0;
    oracle_rest_begin(&oracle->moves, unit_ns, now_ns);
    return true;
}

uint64_t oracle_smooth_rtt(uint64_t known_ns, uint64_t sample_ns)
{
    return sample_ns <= known_ns ? sample_ns : known_ns + (sample_ns - known_ns) / 8;
}
