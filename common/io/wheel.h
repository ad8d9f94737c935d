// SPDX-License-Identifier: Apache-2.0
// A hierarchical timing wheel: set and clear in constant time, whatever the number of timers.
//
// Source: Varghese and Lauck, "Hashed and hierarchical timing wheels" (1987), with the level of a
// timer chosen by the highest digit in which its tick differs from the current one. A tick is one
// millisecond; a timer never fires early, and at most one tick late by the wheel's doing. Timers
// of one tick fire in the order of setting. Private to common/io; loop thread only.
#ifndef QS_COMMON_IO_WHEEL_H
#define QS_COMMON_IO_WHEEL_H

#include "common/io/loop.h"

#define WHEEL_BITS 6
#define WHEEL_SLOTS (1u << WHEEL_BITS)
#define WHEEL_LEVELS 7 // 64^7 ticks are 139 years

struct wheel {
    uint64_t tick;                   // all timers up to here have been taken out
    uint64_t occupied[WHEEL_LEVELS]; // a clear bit = an empty slot; a set one is only a hint
    struct list slots[WHEEL_LEVELS][WHEEL_SLOTS];
};

void wheel_init(struct wheel *wheel, uint64_t now_ns);

// Adds a timer that is in no list, for timer->at_ns.
void wheel_add(struct wheel *wheel, struct timer *timer);

// Moves the timers that are due to the end of `due`, earliest tick first.
void wheel_take_due(struct wheel *wheel, uint64_t now_ns, struct list *due);

// A time at or before which nothing is due: exact for the next 64 ticks, then a lower bound.
// UINT64_MAX when no timer is set.
uint64_t wheel_next_ns(struct wheel *wheel);

// Takes all timers out: they count as not set.
void wheel_clear(struct wheel *wheel);

#endif
