// SPDX-License-Identifier: Apache-2.0
// Which parent is tried next, and when: the oracle's choice among those of the list in force that
// were not tried in this round; then a pause that grows from round to round.
#include "common/base/clock.h"
#include "common/tree/follow.h"

#define FIRST_PAUSE_MS 20u
#define SLOW_FACTOR 4u   // for answers that will hardly change soon
#define PATIENCE_SHIFT 2 // the first round takes this much less of the limit on silence
#define ROUNDS_MAX 10u   // the pause grows no more

static uint64_t damaged(const struct follow *follow)
{
    return atomic_load(&follow->instance->damaged_first);
}

static unsigned rounds(const struct follow *follow)
{
    return follow->failures / (unsigned)u64_max(follow->parents.listed, 1);
}

static uint64_t pause_ms(const struct follow *follow)
{
    uint64_t longest = follow->instance->node->reconnect;
    uint64_t pause =
        u64_min(longest, (uint64_t)FIRST_PAUSE_MS << u64_min(rounds(follow), ROUNDS_MAX)) /
        u64_max(follow->parents.listed, 1);
    return random_jitter_ms(follow->slow ? longest * SLOW_FACTOR : u64_max(pause, 1));
}

uint64_t choice_patience_ns(const struct follow *follow)
{
    uint64_t longest_ns = follow->instance->node->silence * NS_PER_MS;
    bool rests =
        oracle_rests(&follow->at->lost, follow->parents.unit_ns, loop_now_ns(follow->loop));
    if (rounds(follow) == 0 || rests) {
        return parent_patience_ns(follow->at, longest_ns) / (rests ? 2 : 1);
    }
    return longest_ns >> (rounds(follow) < PATIENCE_SHIFT ? PATIENCE_SHIFT - rounds(follow) : 0);
}

void choice_look_below(struct follow *follow)
{
    for (unsigned i = 0; i < follow->parents.count; i++) {
        struct parent *parent = follow->parents.all[i];
        if (parent->endpoint.node[0] != '\0') {
            parent->below = census_below(follow->instance->census, parent->endpoint.node);
        }
    }
}

static struct parent *best(const struct follow *follow)
{
    return parents_choose(&follow->parents, damaged(follow), loop_now_ns(follow->loop));
}

// One that is insisted on may still feed this node, and mend what is damaged.
static void new_round(struct follow *follow)
{
    if (follow->insists) {
        parents_new_round(&follow->parents);
    } else {
        parents_in_vain(&follow->parents, damaged(follow), loop_now_ns(follow->loop));
    }
}

void choice_wait(struct follow *follow)
{
    bool at_once = follow->next != NULL || follow->named;
    follow->named = false;
    follow->stage = FOLLOW_IDLE;
    follow->failures += at_once ? 0 : 1;
    bool round_over = !at_once && best(follow) == NULL;
    if (round_over) {
        follow->insists = follow->full;
        follow->full = false;
        follow->slow = follow->slow && !follow->insists; // a full one may answer otherwise at once
        new_round(follow);
    }
    uint64_t pause = at_once ? 0 : pause_ms(follow);
    if (follow->slow && !round_over) {
        pause = 0; // the others may answer better
    } else {
        follow->slow = false;
    }
    loop_timer_set(follow->loop, &follow->retry, pause * NS_PER_MS);
    // Who insists may still get the log.
    if (round_over && !follow->insists && (follow->too_old || intake_is_stuck(follow))) {
        follow->too_old = false;
        bootstrap_journal_lost(follow);
    }
}

bool choice_make(struct follow *follow)
{
    bool same = follow->same && follow->at->listed && follow->next == NULL;
    follow->same = false;
    if (same) {
        return true;
    }
    choice_look_below(follow);
    struct parent *next = follow->next != NULL ? follow->next : best(follow);
    if (next == NULL) {
        new_round(follow);
        next = best(follow);
    }
    parents_hold(&follow->parents, &follow->at, next);
    parents_hold(&follow->parents, &follow->next, NULL);
    return follow->at != NULL;
}

// Somebody feeds it since the loss: the lost parent, too, which may be back, and be the root, by
// whom everybody's log passes.
static bool heard_since(const struct follow *follow, const struct message_welcome *welcome)
{
    uint64_t since_ns = loop_now_ns(follow->loop) - follow->lost_ns;
    uint64_t margin_ns = follow->instance->node->heartbeat * NS_PER_MS;
    return since_ns > margin_ns && welcome->age_ns < since_ns - margin_ns;
}

// Of those that a lost parent fed each is about to look for another, or waits for one who is. They
// may follow each other meanwhile, but would find out late that none of them hears of the root.
bool choice_doubts(const struct follow *follow, const struct message_welcome *welcome)
{
    const struct node_options *node = follow->instance->node;
    uint64_t own_ns = instance_age_ns(follow->instance);
    bool aged = own_ns != UINT64_MAX && own_ns > node->silence * NS_PER_MS / 2 &&
                welcome->age_ns > own_ns - u64_min(own_ns / 2, node->heartbeat * NS_PER_MS);
    bool lost = follow->lost[0] != '\0';
    return aged || (lost && (welcome->orphan == 1 || (path_passed(welcome->path, follow->lost) &&
                                                      !heard_since(follow, welcome))));
}

bool choice_named(struct follow *follow, struct bytes elsewhere)
{
    follow->named = parents_named(&follow->parents, follow->at, elsewhere,
                                  follow->instance->node->node) > 0;
    return follow->named;
}

bool choice_take_list(struct follow *follow)
{
    struct endpoints *list = endpoint_feed_get(&follow->instance->parents);
    if (list->count > PARENTS_MAX) {
        log_line(LOG_WARN, follow->instance->name, "only the first %u parents of %zu are used",
                 PARENTS_MAX, list->count);
    }
    bool added = parents_take(&follow->parents, list);
    pthread_mutex_lock(&follow->instance->lock);
    memcpy(follow->status.site, follow->parents.site, sizeof follow->status.site);
    pthread_mutex_unlock(&follow->instance->lock);
    endpoints_release(list);
    return added;
}
