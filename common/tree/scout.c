// SPDX-License-Identifier: Apache-2.0
#include "common/tree/scout.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/tree/follow.h"

#define HURRY_PAUSE_MS 20u  // before all others are asked again; it doubles from round to round
#define HURRY_ROUNDS_MAX 10u
#define HURRY_INSISTS 6u // after so many rounds, 0.6 s, one that is full is insisted on

// ---- judging -----------------------------------------------------------------------------------

void scout_measure(struct follow *follow, uint64_t way_ns)
{
    struct parent *parent = follow->at;
    if (follow->link.rtt_ns != 0) {
        parent->rtt_ns = oracle_smooth_rtt(parent->rtt_ns, follow->link.rtt_ns);
    }
    parent->way_ns = way_ns != 0 ? way_ns : UINT64_MAX;
}

// The parent in use as it is now, and the best of the others beside it.
static struct parent *look(const struct follow *follow, struct prospect *ret_used,
                           struct prospect *ret_other)
{
    uint64_t now_ns = loop_now_ns(follow->loop);
    *ret_used = parent_prospect(&follow->parents, follow->at, now_ns);
    ret_used->age_ns = now_ns - follow->news_ns; // at least
    return parents_best(&follow->parents, follow->at, ret_used, now_ns, ret_other);
}

static struct parent *best(const struct follow *follow)
{
    struct prospect used, other;
    return look(follow, &used, &other);
}

// Somebody has news, while the parent in use may have none. Where that happens again and again, as
// behind a link that flaps, there is a rest between two such moves, as between others.
static bool found_news(struct follow *follow, uint64_t now_ns)
{
    struct scout *scout = &follow->scout;
    const struct parent *target = scout->target;
    struct oracle_rest *moves = &scout->oracle.moves;
    if (scout->hurry_ns == 0 || target == follow->at || target->told_ns < scout->hurry_ns ||
        !target->fits || target->doubtful ||
        oracle_rests(moves, follow->parents.unit_ns, now_ns)) {
        return false;
    }
    oracle_rest_begin(moves, follow->parents.unit_ns, now_ns);
    return true;
}

static bool is_sent(const struct follow *follow)
{
    const struct parent *target = follow->scout.target;
    return follow->scout.sent && target != follow->at && target->fits && !target->doubtful;
}

static void consider(struct follow *follow)
{
    if (follow->stage != FOLLOW_STREAM || follow->link.ending) {
        return;
    }
    uint64_t now_ns = loop_now_ns(follow->loop);
    if (is_sent(follow) || found_news(follow, now_ns)) {
        follow_move(follow, follow->scout.target);
        return;
    }
    struct prospect used, prospect;
    struct parent *other = look(follow, &used, &prospect);
    if (oracle_look(&follow->scout.oracle, &used, other != NULL ? &prospect : NULL,
                    follow->parents.unit_ns, now_ns)) {
        follow_move(follow, other);
    }
}

static void hurry_on(struct follow *follow);

// ---- asking ------------------------------------------------------------------------------------

static void on_connected(struct link *link) { follow_hello(link->owner, link, PURPOSE_PROBE); }

static int on_message(struct link *link, uint16_t code, struct bytes payload)
{
    struct follow *follow = link->owner;
    struct parent *target = follow->scout.target;
    struct message_welcome welcome;
    if (code != MESSAGE_welcome) {
        return ERR_PROTOCOL;
    }
    int error = message_welcome_decode(payload, &welcome);
    if (error != OK) {
        return error;
    }
    parent_learn(&follow->parents, target, &welcome, clock_mono_ns() - link->opened_ns,
                 loop_now_ns(follow->loop));
    target->doubtful = choice_doubts(follow, &welcome);
    bool ours = welcome.protocol == PEER_PROTOCOL && follow->has_history &&
                bytes_equal(welcome.history, bytes_of(follow->history, HISTORY_ID_BYTES));
    // One that stands a little lower at this moment would be there when we come.
    bool fits = welcome.answer == ANSWER_RESUME || welcome.answer == ANSWER_BEHIND;
    target->below = path_passed(welcome.path, follow->instance->node->node);
    target->fits = ours && fits && !target->below;
    target->full = ours && welcome.answer == ANSWER_FULL && !target->below;
    link_close(link, OK);
    return OK;
}

static void on_close(struct link *link, int error)
{
    struct follow *follow = link->owner;
    if (error != OK) {
        follow->scout.target->fits = follow->scout.target->full = false;
        follow->scout.target->told_ns = loop_now_ns(follow->loop);
    }
    follow->scout.busy = false;
    if (!follow->closing) {
        consider(follow);
        hurry_on(follow);
    }
    follow_end_if_over(follow);
}

static void probe(struct follow *follow, struct parent *target)
{
    static const struct link_ops ops = {
        .on_message = on_message, .on_connected = on_connected, .on_close = on_close};
    const struct node_options *node = follow->instance->node;
    struct scout *scout = &follow->scout;
    parents_hold(&follow->parents, &scout->target, target);
    scout->sent = false;
    int fd;
    target->told_ns = loop_now_ns(follow->loop); // its turn is over, whatever comes
    target->fits = target->full = false;
    if (address_connect(&target->endpoint.parsed, &fd) != OK) {
        hurry_on(follow);
        return;
    }
    METRIC_ADD(follow->instance->metrics, instance, parent_probes, 1);
    scout->busy = true;
    link_open(&scout->link, follow->loop, fd, true, node->heartbeat * NS_PER_MS,
              scout->hurry_ns != 0 ? parent_patience_ns(target, node->silence * NS_PER_MS)
                                   : node->silence * NS_PER_MS,
              &ops);
    scout->link.owner = follow;
    scout->link.scope = follow->instance->name;
    snprintf(scout->link.address, sizeof scout->link.address, "%s", target->endpoint.address);
}

static void set_timer(struct follow *follow)
{
    uint64_t every_ms = follow->instance->options->probe;
    if (every_ms > 0 && follow->scout.hurry_ns == 0) {
        uint64_t wait_ns = random_jitter_ms(every_ms) * NS_PER_MS;
        loop_timer_set(follow->loop, &follow->scout.timer, wait_ns);
    }
}

// Nobody who has news has room. Nodes that follow each other in a circle would stay there for ever.
static bool insist(struct follow *follow, uint64_t now_ns)
{
    struct scout *scout = &follow->scout;
    struct oracle_rest *moves = &scout->oracle.moves;
    if (scout->rounds < HURRY_INSISTS || follow->link.ending ||
        oracle_rests(moves, follow->parents.unit_ns, now_ns)) {
        return false;
    }
    struct parent *full = parents_full(&follow->parents, follow->at, scout->hurry_ns, now_ns);
    if (full != NULL) {
        oracle_rest_begin(moves, follow->parents.unit_ns, now_ns);
        follow->insists = true;
        follow_move(follow, full);
    }
    return full != NULL;
}

// The next one at once; when all were asked, all again after a pause.
static void hurry_on(struct follow *follow)
{
    struct scout *scout = &follow->scout;
    uint64_t now_ns = loop_now_ns(follow->loop), pause_ms = 0;
    if (scout->hurry_ns == 0 || follow->stage != FOLLOW_STREAM) {
        return;
    }
    choice_look_below(follow);
    if (parents_unasked(&follow->parents, follow->at, scout->hurry_ns, now_ns) == NULL) {
        if (insist(follow, now_ns)) {
            return;
        }
        pause_ms = random_jitter_ms(
            u64_min(follow->instance->node->reconnect, (uint64_t)HURRY_PAUSE_MS << scout->rounds));
        scout->hurry_ns = now_ns + pause_ms * NS_PER_MS;
        scout->rounds += scout->rounds < HURRY_ROUNDS_MAX;
    }
    loop_timer_set(follow->loop, &scout->timer, pause_ms * NS_PER_MS);
}

// One that seems better is asked again and again until that is settled; else all take turns.
static void on_timer(struct timer *timer)
{
    struct scout *scout = CONTAINER_OF(timer, struct scout, timer);
    struct follow *follow = CONTAINER_OF(scout, struct follow, scout);
    struct parent *better = scout->oracle.better_ns != 0 ? best(follow) : NULL;
    struct parent *target =
        scout->hurry_ns != 0 ? parents_unasked(&follow->parents, follow->at, scout->hurry_ns,
                                               loop_now_ns(follow->loop))
        : better != NULL     ? better
                             : parents_quietest(&follow->parents, follow->at);
    set_timer(follow);
    if (target != NULL && !scout->busy) {
        probe(follow, target);
    }
}

// ---- life --------------------------------------------------------------------------------------

void scout_open(struct follow *follow) { timer_init(&follow->scout.timer, on_timer); }

void scout_start(struct follow *follow)
{
    follow->scout.oracle.better_ns = 0;
    set_timer(follow);
    if (follow->at->doubtful) {
        scout_hurry(follow);
    }
}

void scout_hurry(struct follow *follow)
{
    struct scout *scout = &follow->scout;
    if (scout->hurry_ns == 0 && follow->parents.listed > 1) {
        scout->hurry_ns = loop_now_ns(follow->loop);
        scout->rounds = 0;
        hurry_on(follow);
    }
}

int scout_on_make_room(struct follow *follow, struct bytes payload)
{
    struct message_make_room message;
    int error = message_make_room_decode(payload, &message);
    if (error != OK || follow->link.ending || follow->scout.busy) {
        return error;
    }
    struct parent *target = parents_sent_to(&follow->parents, message.elsewhere,
                                            follow->instance->node->node);
    if (target != NULL) {
        probe(follow, target);
        follow->scout.sent = true;
    }
    return OK;
}

void scout_calm(struct follow *follow)
{
    if (follow->scout.hurry_ns != 0) {
        follow->scout.hurry_ns = 0;
        set_timer(follow);
    }
}

void scout_stop(struct follow *follow)
{
    follow->scout.hurry_ns = 0;
    follow->scout.sent = false;
    loop_timer_clear(&follow->scout.timer);
}

void scout_close(struct follow *follow)
{
    loop_timer_clear(&follow->scout.timer);
    if (follow->scout.busy) {
        link_close(&follow->scout.link, OK);
    }
}

bool scout_over(const struct follow *follow) { return !follow->scout.busy; }
