// SPDX-License-Identifier: Apache-2.0
// The nodes of one kind in one data centre, as they are in force: what Consul said last, and what
// it said before and says no more. Pure: the caller brings the time. One thread.
//
// Consul forgets, lags, and is restarted empty; a list that follows it blindly turns each of these
// into an outage. So what it says adds at once and takes away slowly:
//   - an error, or an answer that names nobody, takes nobody away;
//   - whom an answer does not name any more goes behind those that it names (it is *missed*), and
//     leaves after ROSTER_KEPT_NS of answers that agree, at most a third of the list at a time.
// To be in the list means only to be worth a try, so an entry that stays too long costs little.
#ifndef QS_COMMON_DISCOVERY_ROSTER_H
#define QS_COMMON_DISCOVERY_ROSTER_H

#include "common/discovery/endpoints.h"

#define ROSTER_MAX 1024
#define ROSTER_KEPT_NS (600 * NS_PER_S)
#define ROSTER_STEP_NS (90 * NS_PER_S) // the most that one answer adds: none was heard in between

struct roster_entry {
    struct endpoint endpoint;
    bool missed;        // by the last answer that named anybody
    uint64_t missed_ns; // for how long answers have agreed on that
};

// Zero-initialised = empty.
struct roster {
    struct roster_entry *entries; // those that are named, in the order of the answer; then others
    size_t count, missed;
    uint64_t heard_ns; // when the last whole answer came, 0 = none yet
};

void roster_free(struct roster *roster);

// Takes an answer. `whole`: whoever is not named is missed; false: it may be old or a part, and
// only adds. Of several with one address the first counts.
void roster_take(struct roster *roster, const struct endpoints *named, bool whole,
                 uint64_t now_ns);

// Adds one from another time, behind all others, as missed; nothing when it is there or the roster
// is full.
void roster_remember(struct roster *roster, const struct endpoint *endpoint);

// By address; NULL when there is none.
const struct endpoint *roster_find(const struct roster *roster, const char *address);

#endif
