// SPDX-License-Identifier: Apache-2.0
#include "common/tree/age_alarm.h"

#include "common/base/clock.h"
#include "common/tree/follow.h"

// How often it looks.
#define LOOK_MIN_MS 10u
#define LOOK_MAX_MS 1000u

static double seconds(uint64_t ns) { return (double)ns / (double)NS_PER_S; }

static void raise_alarm(struct follow *follow, uint64_t age_ns)
{
    struct instance *instance = follow->instance;
    METRIC_SET(instance->metrics, instance, age_alarm, 1);
    METRIC_ADD(instance->metrics, instance, age_alarms, 1);
    follow->age_alarm.raised_ns = clock_mono_ns();
    log_line(LOG_WARN, instance->name,
             "the data here is %.1f s old, more than alarm_age (%.1f s): %s", seconds(age_ns),
             (double)instance->node->alarm_age / 1000, follow->status.state);
}

static void clear_alarm(struct follow *follow, uint64_t age_ns)
{
    struct instance *instance = follow->instance;
    METRIC_SET(instance->metrics, instance, age_alarm, 0);
    uint64_t lasted_ns = clock_mono_ns() - follow->age_alarm.raised_ns;
    log_line(LOG_INFO, instance->name,
             "the data here is young again, %.1f s; it was old for %.1f s", seconds(age_ns),
             seconds(lasted_ns));
    follow->age_alarm.raised_ns = 0;
}

bool age_alarm_holds(bool before, uint64_t age_ns, uint64_t limit_ns)
{
    return before ? age_ns >= limit_ns / 2 : age_ns > limit_ns;
}

static void on_look(struct timer *timer)
{
    struct follow *follow = CONTAINER_OF(timer, struct follow, age_alarm.timer);
    struct age_alarm *alarm = &follow->age_alarm;
    uint64_t limit_ns = follow->instance->node->alarm_age * NS_PER_MS;
    uint64_t now_ns = clock_mono_ns();
    uint64_t age_ns = instance_age_ns(follow->instance);
    if (age_ns == UINT64_MAX) {
        age_ns = now_ns - alarm->known_ns;
    } else {
        alarm->known_ns = now_ns - u64_min(age_ns, now_ns);
    }
    bool before = alarm->raised_ns != 0;
    bool now = age_alarm_holds(before, age_ns, limit_ns);
    if (now && !before) {
        raise_alarm(follow, age_ns);
    } else if (before && !now) {
        clear_alarm(follow, age_ns);
    }
    uint64_t look_ms = u64_min(follow->instance->node->alarm_age / 4, LOOK_MAX_MS);
    loop_timer_set(follow->loop, timer, u64_max(look_ms, LOOK_MIN_MS) * NS_PER_MS);
}

void age_alarm_open(struct follow *follow)
{
    timer_init(&follow->age_alarm.timer, on_look);
    follow->age_alarm.known_ns = clock_mono_ns();
    if (follow->instance->node->alarm_age != 0) {
        loop_timer_set(follow->loop, &follow->age_alarm.timer, 0);
    }
}

void age_alarm_close(struct follow *follow) { loop_timer_clear(&follow->age_alarm.timer); }
