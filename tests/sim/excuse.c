// SPDX-License-Identifier: Apache-2.0
#include "tests/sim/excuse.h"

#include <string.h>

static bool is_building(const struct node *node)
{
    return node->phase == NODE_UP && atomic_load(&node->process.instance->wants_build);
}

// Its history begins where its store was built, or where its few bytes of it end.
static bool is_past(const struct node *replica, uint64_t index)
{
    if (replica->phase != NODE_UP) {
        return false;
    }
    const struct instance *instance = replica->process.instance;
    bool is_short = instance->options->history_bytes < GIB ||
                    METRIC_GET(instance->metrics, instance, builds) > 0;
    return is_short && atomic_load(&instance->history_floor) > index;
}

// A proxy is told of every replica; `ret_past`: none of them is to have its history at `index`.
static bool sources_build(const struct node *proxy, const struct node *all, unsigned count,
                          uint64_t index, bool *ret_past)
{
    bool build = proxy->replicas[0] != NULL;
    *ret_past = build;
    for (const char *const *replica = proxy->replicas; *replica != NULL; replica++) {
        for (unsigned i = 0; i < count; i++) {
            bool it = strcmp(all[i].address, *replica) == 0;
            build = build && (!it || is_building(&all[i]));
            *ret_past = *ret_past && (!it || is_building(&all[i]) || is_past(&all[i], index));
        }
    }
    return build;
}

bool excuse_left_behind(const struct node *node, const struct node *all, unsigned count,
                        const struct view *view, int status)
{
    bool past;
    bool build = sources_build(node, all, count, view->place.index, &past);
    bool behind =
        is_building(node) || view->store != atomic_load(&node->process.instance->store);
    return (status == ERR_GONE && (behind || past)) ||
           (status == ERR_UNAVAILABLE && (behind || build));
}
