// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/node_chair.h"

#include "common/base/clock.h"
#include "common/chair/chair_private.h"
#include "tests/sim/seams.h"

void node_chair_wake(struct node *node)
{
    actor_after(&node->turner, chance_skewed(500, WAKE_MAX_NS));
}

static void on_wake(void *owner) { node_chair_wake(owner); }

static void count_news(struct node *node)
{
    const struct council *council = node_council(node);
    struct seen *seen = &node->seen;
    bool up = council->role >= COUNCIL_ELECTED;
    bool refused = up && council->told_epoch >= council->mine.epoch;
    bool takes = up && council->donor < council->setup.roots &&
                 council->donor != council->setup.self;
    count_add(COUNT_claims_refused, refused && !seen->refused);
    count_add(COUNT_logs_taken, takes && !seen->takes);
    *seen = (struct seen){.refused = refused, .takes = takes};
}

static void turn(struct actor *actor)
{
    struct node *node = CONTAINER_OF(actor, struct node, turner);
    uint64_t now_ns = clock_mono_ns();
    uint64_t next_ns = chair_turn(node->process.chair, now_ns);
    count_news(node);
    if (next_ns != UINT64_MAX) {
        actor_after(actor, host_to_world_ns(actor->host, next_ns > now_ns ? next_ns - now_ns : 0));
    }
}

void node_chair_open(struct node *node)
{
    struct chair_setup setup = {.instance = node->process.instance, .service_prefix = "qs-"};
    actor_init(&node->turner, &node->host, turn);
    node->process.chair = chair_open(&setup);
    chair_join(node->process.chair, NULL, on_wake, node);
    node_chair_wake(node);
}

void node_chair_part(void *argument)
{
    struct parting *parting = argument;
    struct chair *chair = parting->node->process.chair;
    parting->parts = chair != NULL && chair_parting(chair);
}

void node_chair_close(struct node *node, struct notice *closed)
{
    actor_cancel(&node->turner);
    chair_leave(node->process.chair);
    chair_close(node->process.chair, closed);
}

const struct council *node_council(const struct node *node)
{
    return &node->process.chair->council;
}
