// SPDX-License-Identifier: Apache-2.0
#include "proxy/pool.h"

#include "common/base/clock.h"

#define SMOOTHING 8
#define FADE_NS NS_PER_S              // what was measured is worth half after this time
#define LEAST_WAIT_NS (NS_PER_MS / 2) // nearer than this all are the same
#define KNOWN_NS NS_PER_S             // how long a lag is held against a replica
#define DOUBLINGS_MAX 20

// In the order of asking.
enum rank { RANK_PROBE, RANK_GOOD, RANK_TRIMMED, RANK_BEHIND, RANK_NEVER };

void pool_open(struct pool *pool, uint64_t requests_max, uint64_t bytes_max,
               uint64_t quarantine_ms)
{
    CHECK(requests_max > 0 && bytes_max > 0);
    *pool = (struct pool){.requests_max = requests_max,
                          .bytes_max = bytes_max,
                          .quarantine_ms = quarantine_ms};
}

void pool_enter(struct pool *pool, unsigned number)
{
    CHECK(number <= pool->count && number < POOL_MAX);
    CHECK(pool->members[number].requests == 0);
    pool->members[number] = (struct pool_member){0};
    pool->count += number == pool->count;
}

static struct pool_member *member_at(struct pool *pool, unsigned number)
{
    CHECK(number < pool->count);
    return &pool->members[number];
}

static enum pool_health health_of(const struct pool_member *member)
{
    return (enum pool_health)atomic_load(&member->health);
}

// ---- sets --------------------------------------------------------------------------------------

uint64_t pool_connected(const struct pool *pool)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < pool->count; i++) {
        mask |= (uint64_t)pool->members[i].connected << i;
    }
    return mask;
}

uint64_t pool_healthy(const struct pool *pool)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < pool->count; i++) {
        const struct pool_member *member = &pool->members[i];
        mask |= (uint64_t)(member->connected && health_of(member) == POOL_HEALTHY) << i;
    }
    return mask;
}

uint64_t pool_askable(const struct pool *pool)
{
    uint64_t healthy = pool_healthy(pool);
    return healthy != 0 ? healthy : pool_connected(pool);
}

// A probe that ended without a verdict (nobody waited for it any more) leaves POOL_PROBING behind:
// then it is as due as before.
static bool is_due(const struct pool_member *member, uint64_t now_ns)
{
    return member->connected && health_of(member) != POOL_HEALTHY &&
           member->until_ns <= now_ns && member->requests == 0;
}

uint64_t pool_open_now(const struct pool *pool, uint64_t now_ns)
{
    uint64_t askable = pool_askable(pool);
    uint64_t mask = 0;
    for (unsigned i = 0; i < pool->count; i++) {
        const struct pool_member *member = &pool->members[i];
        bool room = member->requests < pool->requests_max && member->bytes < pool->bytes_max;
        bool open = (askable >> i & 1) != 0 && room;
        mask |= (uint64_t)(open || is_due(member, now_ns)) << i;
    }
    return mask;
}

// ---- choosing ----------------------------------------------------------------------------------

static bool is_behind(const struct pool *pool, const struct pool_member *member, uint64_t version,
                      uint64_t now_ns)
{
    return member->lag > 0 && version + member->lag > pool->index &&
           now_ns - member->lag_ns < KNOWN_NS;
}

static void note_lag(const struct pool *pool, struct pool_member *member, uint64_t index,
                     uint64_t now_ns)
{
    member->lag = pool->index > index ? pool->index - index : 0;
    member->lag_ns = now_ns;
}

static enum rank rank_of(const struct pool *pool, const struct pool_member *member,
                         uint64_t version, uint64_t now_ns)
{
    if (is_due(member, now_ns)) {
        return RANK_PROBE;
    }
    if (is_behind(pool, member, version, now_ns)) {
        return RANK_BEHIND;
    }
    return atomic_load(&member->floor) > version ? RANK_TRIMMED : RANK_GOOD;
}

static uint64_t response_now(const struct pool_member *member, uint64_t now_ns)
{
    uint64_t halvings = (now_ns - member->measured_ns) / FADE_NS;
    uint64_t response_ns = atomic_load(&member->response_ns);
    return u64_max(halvings < 64 ? response_ns >> halvings : 0, LEAST_WAIT_NS);
}

static uint64_t expected_ns(const struct pool_member *member, uint64_t now_ns)
{
    return response_now(member, now_ns) * (member->requests + 1);
}

// Of a set that is not empty.
static unsigned spread(struct pool *pool, uint64_t set, uint64_t now_ns)
{
    uint64_t least_ns = UINT64_MAX;
    for (unsigned i = 0; i < pool->count; i++) {
        if ((set >> i & 1) != 0) {
            least_ns = u64_min(least_ns, expected_ns(&pool->members[i], now_ns));
        }
    }
    unsigned chosen = pool->count;
    for (unsigned step = 1; step <= pool->count; step++) {
        unsigned i = (pool->rotation + step) % pool->count;
        const struct pool_member *member = &pool->members[i];
        bool near = (set >> i & 1) != 0 && expected_ns(member, now_ns) <= POOL_NEAR * least_ns;
        if (near &&
            (chosen == pool->count || member->requests < pool->members[chosen].requests)) {
            chosen = i;
        }
    }
    CHECK(chosen < pool->count);
    pool->rotation = chosen;
    return chosen;
}

int pool_choose(struct pool *pool, uint64_t version, uint64_t tried, bool spare, uint64_t now_ns)
{
    uint64_t open = pool_open_now(pool, now_ns) & ~tried;
    uint64_t set = 0;
    enum rank best = RANK_NEVER;
    for (unsigned i = 0; i < pool->count; i++) {
        const struct pool_member *member = &pool->members[i];
        if ((open >> i & 1) == 0 || (spare && health_of(member) != POOL_HEALTHY)) {
            continue;
        }
        enum rank rank = rank_of(pool, member, version, now_ns);
        if (rank < best) {
            best = rank;
            set = 0;
        }
        set |= (uint64_t)(rank == best) << i;
    }
    if (set == 0 || (spare && best == RANK_BEHIND)) {
        return -1;
    }
    return (int)spread(pool, set, now_ns);
}

bool pool_alike(const struct pool *pool, unsigned number, uint64_t one, uint64_t other,
                uint64_t now_ns)
{
    const struct pool_member *member = &pool->members[number];
    return is_behind(pool, member, one, now_ns) == is_behind(pool, member, other, now_ns);
}

uint64_t pool_room(const struct pool *pool, unsigned number)
{
    const struct pool_member *member = &pool->members[number];
    return pool->bytes_max > member->bytes ? pool->bytes_max - member->bytes : 0;
}

// ---- what happens to them ----------------------------------------------------------------------

void pool_joined(struct pool *pool, unsigned number, uint64_t index, uint64_t now_ns)
{
    struct pool_member *member = member_at(pool, number);
    member->connected = true;
    note_lag(pool, member, index, now_ns);
    atomic_store(&member->visible, 0);
    atomic_store(&member->floor, 0);
    atomic_store(&member->response_ns, 0);
}

void pool_leaving(struct pool *pool, unsigned number)
{
    member_at(pool, number)->connected = false;
}

void pool_staying(struct pool *pool, unsigned number)
{
    member_at(pool, number)->connected = true;
}

bool pool_left(struct pool *pool, unsigned number, uint64_t now_ns)
{
    struct pool_member *member = member_at(pool, number);
    CHECK(member->requests == 0 && member->bytes == 0);
    member->connected = false;
    return pool_failed(pool, number, now_ns);
}

bool pool_is_probe(const struct pool *pool, unsigned number)
{
    const struct pool_member *member = &pool->members[number];
    return health_of(member) != POOL_HEALTHY && member->requests == 0;
}

bool pool_sent(struct pool *pool, unsigned number, uint64_t bytes)
{
    struct pool_member *member = member_at(pool, number);
    bool probe = pool_is_probe(pool, number);
    member->requests++;
    member->bytes += bytes;
    if (probe) {
        atomic_store(&member->health, POOL_PROBING);
    }
    return probe;
}

void pool_over(struct pool *pool, unsigned number, uint64_t bytes)
{
    struct pool_member *member = member_at(pool, number);
    CHECK(member->requests > 0 && member->bytes >= bytes);
    member->requests--;
    member->bytes -= bytes;
}

void pool_dropped(struct pool *pool, unsigned number)
{
    struct pool_member *member = member_at(pool, number);
    if (member->requests == 1 && health_of(member) == POOL_PROBING) {
        atomic_store(&member->health, POOL_QUARANTINED);
    }
}

void pool_measured(struct pool *pool, unsigned number, uint64_t took_ns, uint64_t now_ns)
{
    struct pool_member *member = member_at(pool, number);
    uint64_t known_ns = atomic_load(&member->response_ns);
    uint64_t faded_ns = response_now(member, now_ns);
    atomic_store(&member->response_ns, u64_max(1, known_ns == 0 ? took_ns
                                   : (faded_ns * (SMOOTHING - 1) + took_ns) / SMOOTHING));
    member->measured_ns = now_ns;
}

void pool_reported(struct pool *pool, unsigned number, uint64_t visible, uint64_t floor,
                   uint64_t now_ns)
{
    struct pool_member *member = member_at(pool, number);
    note_lag(pool, member, visible, now_ns);
    atomic_store(&member->visible, visible);
    atomic_store(&member->floor, floor);
}

void pool_succeeded(struct pool *pool, unsigned number)
{
    struct pool_member *member = member_at(pool, number);
    member->errors = 0;
    member->quarantines = 0;
    atomic_store(&member->health, POOL_HEALTHY);
}

bool pool_failed(struct pool *pool, unsigned number, uint64_t now_ns)
{
    struct pool_member *member = member_at(pool, number);
    member->errors++;
    enum pool_health health = health_of(member);
    if (health == POOL_QUARANTINED || (health == POOL_HEALTHY && member->errors < POOL_ERRORS)) {
        return false;
    }
    uint64_t ms = u64_min(pool->quarantine_ms, (uint64_t)POOL_FIRST_MS << member->quarantines);
    member->quarantines += member->quarantines < DOUBLINGS_MAX ? 1 : 0;
    member->until_ns = now_ns + random_jitter_ms(ms) * NS_PER_MS;
    atomic_store(&member->health, POOL_QUARANTINED);
    return true;
}

uint64_t pool_lowest_visible(const struct pool *pool, uint64_t connected)
{
    uint64_t lowest = UINT64_MAX;
    for (unsigned i = 0; i < pool->count; i++) {
        const struct pool_member *member = &pool->members[i];
        uint64_t visible = atomic_load(&member->visible);
        if ((connected >> i & 1) != 0 && health_of(member) == POOL_HEALTHY && visible != 0) {
            lowest = u64_min(lowest, visible);
        }
    }
    return lowest == UINT64_MAX ? 0 : lowest;
}
