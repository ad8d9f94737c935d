// SPDX-License-Identifier: Apache-2.0
#include "common/core/space.h"

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/disk.h"

#define COST_SHARE 50
// Room to spare before a level is left, as a part of the limit.
#define SIZE_MARGIN_SHARE 64
#define FREE_MARGIN_SHARE 16
// Parts of max_bytes: where the hard limit lies, so that what is under way there still fits.
#define HARD_SHARE 16
// ... that may be written before the space is measured again.
#define GROWTH_SHARE 128
// What is in memory, or about to be, stands on the disk twice when it is merged.
#define MERGE_COPIES 2
#define SEGMENTS_SPARE 2 // of the journal, beyond its limit

struct space {
    struct space_limits limits;
    _Atomic bool measuring; // by some thread
    _Atomic uint64_t due_ns;
    _Atomic uint64_t grown; // bytes, since the last measurement began
    _Atomic uint64_t used;  // bytes that count against max_bytes, by the last measurement
    _Atomic uint64_t beside; // space_beside's bytes
    pthread_mutex_t lock; // guards `state`
    struct space_state state;
    struct log_gate worse_gate, better_gate, fail_gate;
};

// ---- the rule ----------------------------------------------------------------------------------

struct bound {
    enum space_level level;
    const char *name;
    uint64_t limit;  // 0 = none
    uint64_t have;   // what counts against it
    bool at_most;    // have must not be above, else not below
    uint64_t margin;
};

static uint64_t part_of(option_SPACE part, uint64_t total_bytes)
{
    return part >= SPACE_PERCENT ? total_bytes / 100 * (part - SPACE_PERCENT) : part;
}

// Bytes by which a bound is passed, its margin included; negative: by which it is kept.
static int64_t passed_by(const struct bound *bound)
{
    int64_t limit = (int64_t)bound->limit, have = (int64_t)bound->have;
    return (bound->at_most ? have - limit : limit - have) + (int64_t)bound->margin;
}

static void judge_bound(struct space_state *state, const struct bound *bound,
                        enum space_level before)
{
    if (bound->limit == 0) {
        return;
    }
    int64_t passed = passed_by(bound), margin = (int64_t)bound->margin;
    bool held = passed > (before >= bound->level ? 0 : margin);
    if (held && bound->level > state->level) {
        state->level = bound->level;
        state->reason = bound->name;
    }
    if (bound->level == SPACE_SOFT) {
        uint64_t room = passed < margin ? (uint64_t)(margin - passed) : 0;
        state->room_bytes = u64_min(state->room_bytes, room);
        state->over_bytes = u64_max(state->over_bytes, passed > 0 && held ? (uint64_t)passed : 0);
    }
}

static uint64_t hard_bytes(const struct space_limits *limits)
{
    return limits->max_bytes - limits->max_bytes / HARD_SHARE;
}

struct space_state space_judge(const struct space_limits *limits, const struct space_sample *sample,
                               enum space_level before)
{
    uint64_t max = limits->max_bytes;
    uint64_t reserve = part_of(limits->reserve, sample->total_bytes);
    uint64_t used = sample->used_bytes + sample->coming_bytes;
    // A percentage and a size may come in the wrong order on a disk that the file does not know. A
    // pause with nothing to be given up would last for ever: so each level is one of those below.
    uint64_t hard = u64_max(part_of(limits->hard, sample->total_bytes), reserve);
    uint64_t soft = u64_max(part_of(limits->soft, sample->total_bytes), hard);
    const struct bound bounds[] = {
        {SPACE_SOFT, "max_bytes", max - max / 10, used, true,
         max / SIZE_MARGIN_SHARE},
        {SPACE_SOFT, "soft_limit", soft, sample->free_bytes, false, soft / FREE_MARGIN_SHARE},
        {SPACE_HARD, "max_bytes", hard_bytes(limits), used, true,
         max / SIZE_MARGIN_SHARE},
        {SPACE_HARD, "hard_limit", hard, sample->free_bytes, false, hard / FREE_MARGIN_SHARE},
        {SPACE_RESERVE, "reserve", reserve, sample->free_bytes, false,
         reserve / FREE_MARGIN_SHARE},
    };
    struct space_state state = {.reason = "", .sample = *sample, .room_bytes = UINT64_MAX};
    state.left_bytes = max > 0 ? max - u64_min(sample->used_bytes, max) : UINT64_MAX;
    for (size_t i = 0; i < ARRAY_LEN(bounds); i++) {
        judge_bound(&state, &bounds[i], before);
    }
    return state;
}

const char *space_level_text(enum space_level level)
{
    static const char *const texts[] = {"ok", "soft", "hard", "reserve"};
    return (size_t)level < ARRAY_LEN(texts) ? texts[level] : "unknown";
}

// ---- measuring ---------------------------------------------------------------------------------

void space_open(struct instance *instance)
{
    const struct instance_options *options = instance->options;
    struct space *space = mem_zalloc(sizeof *space);
    space->limits.reserve = options->reserve;
    if (options->role == ROLE_PROXY) {
        space->limits.max_bytes = options->cache.max_bytes;
        space->limits.soft = options->cache.soft_limit;
        space->limits.hard = options->cache.hard_limit;
    }
    space->state = (struct space_state){.reason = "", .room_bytes = UINT64_MAX};
    pthread_mutex_init(&space->lock, NULL);
    instance->space = space;
}

void space_close(struct instance *instance)
{
    struct space *space = instance->space;
    if (space != NULL) {
        pthread_mutex_destroy(&space->lock);
        mem_free(space);
        instance->space = NULL;
    }
}

// What a store takes for a while when it merges.
static uint64_t merging_bytes(struct store *store)
{
    struct store_sizes sizes;
    store_sizes(store, &sizes);
    return MERGE_COPIES * sizes.memtable_bytes + store_merge_bytes(store);
}

// ... and the journal until it is trimmed.
static uint64_t coming_bytes(struct instance *instance)
{
    const struct instance_options *options = instance->options;
    struct volume *volume = instance_volume(instance);
    uint64_t bytes = merging_bytes(volume->store) + atomic_load(&instance->space->beside);
    volume_release(volume);
    uint64_t journal = options->journal_bytes + SEGMENTS_SPARE * options->segment_bytes;
    return bytes + journal - u64_min(journal_bytes(instance->journal), journal);
}

static int measure(struct instance *instance, struct space_sample *ret_sample)
{
    struct space_sample sample;
    int error = disk_used(instance->directory, &sample.used_bytes);
    if (error == OK) {
        error = disk_free(instance->directory, &sample.free_bytes);
    }
    if (error == OK) {
        error = disk_total(instance->directory, &sample.total_bytes);
    }
    if (error == OK) {
        sample.coming_bytes = instance->space->limits.max_bytes > 0 ? coming_bytes(instance) : 0;
        *ret_sample = sample;
    }
    return error;
}

static void tell_change(const struct instance *instance, const struct space_state *state,
                        enum space_level before)
{
    struct space *space = instance->space;
    unsigned long long used = state->sample.used_bytes, left = state->sample.free_bytes;
    enum space_level worse = state->level > before ? state->level : before;
    if (worse < SPACE_HARD) {
        log_line(LOG_DEBUG, instance->name, "space: %s, %llu bytes used, %llu free",
                 space_level_text(state->level), used, left);
    } else if (state->level > before) {
        LOG_GATED(&space->worse_gate, state->level == SPACE_RESERVE ? LOG_ERROR : LOG_WARN,
                  instance->name, "space: limit %s passed, %s: %llu bytes used, %llu free",
                  state->reason,
                  state->level == SPACE_RESERVE ? "replication pauses"
                                                : "no fetched value is kept",
                  used, left);
    } else {
        LOG_GATED(&space->better_gate, LOG_INFO, instance->name,
                  "space: %s again, %llu bytes used, %llu free",
                  before == SPACE_RESERVE ? "above the reserve" : "below the hard limit", used,
                  left);
    }
}

static void take_sample(struct instance *instance, const struct space_sample *sample)
{
    struct space *space = instance->space;
    pthread_mutex_lock(&space->lock);
    enum space_level before = space->state.level;
    space->state = space_judge(&space->limits, sample, before);
    struct space_state state = space->state;
    pthread_mutex_unlock(&space->lock);
    atomic_store(&space->used, sample->used_bytes + sample->coming_bytes);
    atomic_store(&instance->space_level, (int)state.level);
    METRIC_SET(instance->metrics, instance, disk_bytes, sample->used_bytes);
    METRIC_SET(instance->metrics, instance, disk_free_bytes, sample->free_bytes);
    METRIC_SET(instance->metrics, instance, space_level, state.level);
    if (state.level != before) {
        tell_change(instance, &state, before);
        instance_wake_hand(instance);
    }
}

void space_grow(struct instance *instance, uint64_t bytes)
{
    struct space *space = instance->space;
    uint64_t grown = atomic_fetch_add(&space->grown, bytes) + bytes, max = space->limits.max_bytes;
    if (max > 0 && grown > max / GROWTH_SHARE) {
        space_poll(instance, true);
    }
}

void space_beside(struct instance *instance, struct store *store)
{
    struct space *space = instance->space;
    bool counts = store != NULL && space->limits.max_bytes > 0;
    atomic_store(&space->beside, counts ? merging_bytes(store) : 0);
}

bool space_takes(const struct instance *instance, uint64_t bytes)
{
    const struct space *space = instance->space;
    uint64_t more = MERGE_COPIES * (atomic_load(&space->grown) + bytes);
    return atomic_load(&instance->space_level) < SPACE_HARD &&
           (space->limits.max_bytes == 0 ||
            atomic_load(&space->used) + more <= hard_bytes(&space->limits));
}

void space_poll(struct instance *instance, bool now)
{
    struct space *space = instance->space;
    uint64_t begun_ns = clock_mono_ns();
    if (!now && begun_ns < atomic_load_explicit(&space->due_ns, memory_order_relaxed)) {
        return;
    }
    if (atomic_exchange(&space->measuring, true)) {
        return;
    }
    uint64_t grown = atomic_load(&space->grown);
    struct space_sample sample;
    int error = measure(instance, &sample);
    uint64_t ended_ns = clock_mono_ns();
    if (error == OK) {
        take_sample(instance, &sample);
        atomic_fetch_sub(&space->grown, grown);
    } else if (error != ERR_NOT_FOUND) {
        LOG_GATED(&space->fail_gate, LOG_WARN, instance->name, "%s cannot be measured: %s",
                  instance->directory, error_text(error));
    }
    atomic_store(&space->due_ns,
                 ended_ns + u64_max(SPACE_EVERY_NS, COST_SHARE * (ended_ns - begun_ns)));
    atomic_store(&space->measuring, false);
}

void space_read(const struct instance *instance, struct space_state *ret_state)
{
    struct space *space = instance->space;
    pthread_mutex_lock(&space->lock);
    *ret_state = space->state;
    pthread_mutex_unlock(&space->lock);
}
