// SPDX-License-Identifier: Apache-2.0
#include "common/tree/scout.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/tree/follow.h"

static struct parent *best(const struct follow *follow)
{
    return parents_best(&follow->parents, follow->at, loop_now_ns(follow->loop));
}

// ---- judging -----------------------------------------------------------------------------------

void scout_measure(struct follow *follow)
{
    struct parent *parent = follow->at;
    if (follow->link.rtt_ns != 0) {
        parent->rtt_ns = oracle_smooth_rtt(parent->rtt_ns, follow->link.rtt_ns);
    }
}

static void consider(struct follow *follow)
{
    struct parent *other = best(follow);
    if (follow->stage != FOLLOW_STREAM || follow->link.ending) {
        return;
    }
    uint64_t now_ns = loop_now_ns(follow->loop);
    struct prospect used = parent_prospect(&follow->parents, follow->at, now_ns);
    used.age_ns = now_ns - follow->news_ns; // at least
    struct prospect prospect = {0};
    if (other != NULL) {
        prospect = parent_prospect(&follow->parents, other, now_ns);
    }
    if (oracle_look(&follow->scout.oracle, &used, other != NULL ? &prospect : NULL,
                    follow->parents.unit_ns, now_ns)) {
        follow_move(follow, other);
    }
}

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
    bool ours = welcome.protocol == PEER_PROTOCOL && follow->has_history &&
                bytes_equal(welcome.history, bytes_of(follow->history, HISTORY_ID_BYTES));
    // One that stands a little lower at this moment would be there when we come.
    bool fits = welcome.answer == ANSWER_RESUME || welcome.answer == ANSWER_BEHIND;
    target->fits = ours && fits && !path_passed(welcome.path, follow->instance->node->node);
    link_close(link, OK);
    return OK;
}

static void on_close(struct link *link, int error)
{
    struct follow *follow = link->owner;
    if (error != OK) {
        follow->scout.target->fits = false;
        follow->scout.target->told_ns = loop_now_ns(follow->loop);
    }
    follow->scout.busy = false;
    if (!follow->closing) {
        consider(follow);
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
    int fd;
    target->told_ns = loop_now_ns(follow->loop); // its turn is over, whatever comes
    target->fits = false;
    if (address_connect(&target->endpoint.parsed, &fd) != OK) {
        return;
    }
    METRIC_ADD(follow->instance->metrics, instance, parent_probes, 1);
    scout->busy = true;
    link_open(&scout->link, follow->loop, fd, true, node->heartbeat * NS_PER_MS,
              node->silence * NS_PER_MS, &ops);
    scout->link.owner = follow;
    scout->link.scope = follow->instance->name;
    snprintf(scout->link.address, sizeof scout->link.address, "%s", target->endpoint.address);
}

static void set_timer(struct follow *follow)
{
    uint64_t every_ms = follow->instance->options->probe;
    if (every_ms > 0) {
        uint64_t wait_ns = random_jitter_ms(every_ms) * NS_PER_MS;
        loop_timer_set(follow->loop, &follow->scout.timer, wait_ns);
    }
}

// One that seems better is asked again and again until that is settled; else all take turns.
static void on_timer(struct timer *timer)
{
    struct scout *scout = CONTAINER_OF(timer, struct scout, timer);
    struct follow *follow = CONTAINER_OF(scout, struct follow, scout);
    struct parent *better = scout->oracle.better_ns != 0 ? best(follow) : NULL;
    struct parent *target =
        better != NULL ? better : parents_quietest(&follow->parents, follow->at);
    if (target != NULL && !scout->busy) {
        probe(follow, target);
    }
    set_timer(follow);
}

// ---- life --------------------------------------------------------------------------------------

void scout_open(struct follow *follow) { timer_init(&follow->scout.timer, on_timer); }

void scout_start(struct follow *follow)
{
    follow->scout.oracle.better_ns = 0;
    set_timer(follow);
}

void scout_stop(struct follow *follow) { loop_timer_clear(&follow->scout.timer); }

void scout_close(struct follow *follow)
{
    loop_timer_clear(&follow->scout.timer);
    if (follow->scout.busy) {
        link_close(&follow->scout.link, OK);
    }
}

bool scout_over(const struct follow *follow) { return !follow->scout.busy; }
