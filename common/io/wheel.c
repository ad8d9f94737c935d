// SPDX-License-Identifier: Apache-2.0
// The timing wheel behind a loop's timers.
//
// Invariant: a timer in slot s of level l has the same digits above l as `tick`, and its digit at
// l is s, greater than that of `tick`. So the lowest level that holds anything holds the next
// timer, and opening slot s (when the tick reaches it) moves its timers to lower levels or out.
#include "common/io/wheel.h"

#define TICK_NS NS_PER_MS
#define TICK_LIMIT (((uint64_t)1 << (WHEEL_BITS * WHEEL_LEVELS)) - 1)

static unsigned level_shift(unsigned level) { return level * WHEEL_BITS; }

static uint64_t tick_of(uint64_t at_ns)
{
    uint64_t tick = at_ns / TICK_NS + (at_ns % TICK_NS != 0);
    return u64_min(tick, TICK_LIMIT);
}

void wheel_init(struct wheel *wheel, uint64_t now_ns)
{
    wheel->tick = now_ns / TICK_NS;
    CHECK(wheel->tick < TICK_LIMIT);
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        wheel->occupied[level] = 0;
        for (unsigned slot = 0; slot < WHEEL_SLOTS; slot++) {
            list_init(&wheel->slots[level][slot]);
        }
    }
}

void wheel_add(struct wheel *wheel, struct timer *timer)
{
    // What is due already waits for the next tick, so that a timer set again by its own firing
    // cannot keep the loop from its other work.
    uint64_t tick = u64_max(tick_of(timer->at_ns), wheel->tick + 1);
    unsigned highest = 63u - (unsigned)__builtin_clzll(tick ^ wheel->tick);
    unsigned level = highest / WHEEL_BITS;
    unsigned slot = (unsigned)(tick >> level_shift(level)) & (WHEEL_SLOTS - 1);
    CHECK(level < WHEEL_LEVELS);
    wheel->occupied[level] |= (uint64_t)1 << slot;
    list_append(&wheel->slots[level][slot], &timer->node);
}

// The first slot in use: its level, its number, and the tick at which it opens. False = none.
static bool find_first(struct wheel *wheel, unsigned *ret_level, unsigned *ret_slot,
                       uint64_t *ret_tick)
{
    for (unsigned level = 0; level < WHEEL_LEVELS; level++) {
        while (wheel->occupied[level] != 0) {
            unsigned slot = (unsigned)__builtin_ctzll(wheel->occupied[level]);
            if (!list_empty(&wheel->slots[level][slot])) {
                uint64_t above = wheel->tick >> level_shift(level) >> WHEEL_BITS;
                *ret_level = level;
                *ret_slot = slot;
                *ret_tick = (above << WHEEL_BITS | slot) << level_shift(level);
                return true;
            }
            wheel->occupied[level] &= ~((uint64_t)1 << slot);
        }
    }
    return false;
}

void wheel_take_due(struct wheel *wheel, uint64_t now_ns, struct list *due)
{
    uint64_t now_tick = now_ns / TICK_NS;
    unsigned level;
    unsigned slot;
    uint64_t tick;
    while (find_first(wheel, &level, &slot, &tick) && tick <= now_tick) {
        CHECK(tick > wheel->tick);
        struct list opened;
        list_init(&opened);
        list_move_all(&opened, &wheel->slots[level][slot]);
        wheel->tick = tick;
        for (struct list *node = list_take(&opened); node != NULL; node = list_take(&opened)) {
            struct timer *timer = CONTAINER_OF(node, struct timer, node);
            if (tick_of(timer->at_ns) <= tick) {
                list_append(due, node);
            } else {
                wheel_add(wheel, timer);
            }
        }
    }
    wheel->tick = u64_max(wheel->tick, now_tick);
}

uint64_t wheel_next_ns(struct wheel *wheel)
{
    unsigned level;
    unsigned slot;
    uint64_t tick;
    return find_first(wheel, &level, &slot, &tick) ? tick * TICK_NS : UINT64_MAX;
}

void wheel_clear(struct wheel *wheel)
{
    unsigned level;
    unsigned slot;
    uint64_t tick;
    while (find_first(wheel, &level, &slot, &tick)) {
        while (list_take(&wheel->slots[level][slot]) != NULL) {
        }
    }
}
