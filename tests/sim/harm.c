// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/harm.h"

#include "tests/sim/faults.h"
#include "tests/sim/seams.h"

static const char *const words[HARM_TOTAL] = {"is killed", "loses power", "freezes",
                                              "is unplugged", "has a disk that fails"};

void harm_strike(struct node *node, enum harm harm, uint64_t lost_ns,
                 void (*unplug)(unsigned number, uint64_t until_ns))
{
    uint64_t until_ns = world_now_ns() + lost_ns;
    world_log("loss", "n%u %s", node->number, words[harm]);
    switch (harm) {
    case HARM_KILL:
    case HARM_POWER:
        node_kill(node, harm == HARM_POWER);
        node_start_after(node, lost_ns);
        break;
    case HARM_FREEZE:
        node->host.asleep_until_ns = until_ns;
        count_add(COUNT_pauses, 1);
        break;
    case HARM_SYNC:
        faults_leave(lost_ns); // the person is elsewhere
        disk_set_fault(node->number, DISK_FAULT_SYNC);
        break;
    default:
        unplug(node->number, until_ns);
        break;
    }
}
