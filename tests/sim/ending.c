// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/ending.h"

#include "tests/sim/session.h"

void ending_strict(unsigned operations, uint64_t think_ns, uint64_t limit_ns)
{
    uint64_t wanted = sessions_done() + operations;
    uint64_t until_ns = world_now_ns() + limit_ns;
    sessions_strict(operations, think_ns);
    while (sessions_done() < wanted && world_now_ns() < until_ns) {
        WORLD_CHECK(world_step(), "nothing happens any more");
    }
    sessions_stop();
    WORLD_CHECK(sessions_done() >= wanted, "operations hang in times of peace");
}

void ending_stop(struct node *nodes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        node_stop(&nodes[i], UINT64_MAX);
    }
}

bool ending_stopped(const struct node *nodes, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        if (nodes[i].phase != NODE_DOWN) {
            return false;
        }
    }
    return true;
}

void ending_close(struct run_result *ret_result, uint64_t counts[COUNT_TOTAL])
{
    count_add(COUNT_seeds, 1);
    count_add(COUNT_events, world_events());
    count_add(COUNT_sim_ms, world_now_ns() / NS_PER_MS);
    counts_take(counts);
    *ret_result = (struct run_result){
        .events = world_events(), .sim_ns = world_now_ns(), .trace = world_trace()};
    world_close();
}
