// SPDX-License-Identifier: Apache-2.0
// Counters and gauges, derived from common/tables/metrics.h. A bump is one relaxed atomic add in a
// slot that few threads share; readers sum the slots. Any thread.
#ifndef QS_COMMON_BASE_METRICS_H
#define QS_COMMON_BASE_METRICS_H

#include <stdatomic.h>

#include "common/base/buf.h"

#define METRIC_SHARDS 4

enum node_metric {
#define NODE_METRIC(kind, name, unit, help) NODE_METRIC_##name,
#include "common/tables/metrics.h"
    NODE_METRIC_COUNT
};

enum instance_metric {
#define INSTANCE_METRIC(kind, name, unit, help) INSTANCE_METRIC_##name,
#include "common/tables/metrics.h"
    INSTANCE_METRIC_COUNT
};

struct node_metrics {
    _Alignas(64) _Atomic uint64_t slots[METRIC_SHARDS][(NODE_METRIC_COUNT + 7) / 8 * 8];
};

struct instance_metrics {
    _Alignas(64) _Atomic uint64_t slots[METRIC_SHARDS][(INSTANCE_METRIC_COUNT + 7) / 8 * 8];
};

// The calling thread's shard.
unsigned metric_shard(void);

// METRIC_ADD(metrics, node, commands, 1); METRIC_SET(metrics, instance, keys, n); METRIC_GET(...)
#define METRIC_ADD(metrics, scope, name, amount)                                                   \
    atomic_fetch_add_explicit(&(metrics)->slots[metric_shard()][METRIC_ID_##scope(name)],          \
                              (uint64_t)(amount), memory_order_relaxed)
#define METRIC_SET(metrics, scope, name, value)                                                    \
    atomic_store_explicit(&(metrics)->slots[0][METRIC_ID_##scope(name)], (uint64_t)(value),        \
                          memory_order_relaxed)
#define METRIC_GET(metrics, scope, name) metric_sum((metrics)->slots[0], METRIC_STRIDE_##scope,    \
                                                    METRIC_ID_##scope(name))
#define METRIC_ID_node(name) NODE_METRIC_##name
#define METRIC_ID_instance(name) INSTANCE_METRIC_##name
#define METRIC_STRIDE_node ((NODE_METRIC_COUNT + 7) / 8 * 8)
#define METRIC_STRIDE_instance ((INSTANCE_METRIC_COUNT + 7) / 8 * 8)

// `slots` = the first shard's; `stride` = slots of one shard.
uint64_t metric_sum(const _Atomic uint64_t *slots, size_t stride, unsigned id);

// One row of either table, for those who print all of them.
struct metric_row {
    const char *name;
    const char *unit;
    const char *help;
    bool counter;
};
const struct metric_row *node_metric_row(unsigned id);         // id < NODE_METRIC_COUNT
const struct metric_row *instance_metric_row(unsigned id); // id < INSTANCE_METRIC_COUNT

// Prometheus text. For instances: all samples of one metric must stand together, so the caller
// gives all instances at once.
void metrics_text_node(struct buf *to, const struct node_metrics *metrics);
void metrics_text_instances(struct buf *to, const struct instance_metrics *const *metrics,
                            const char *const *names, size_t count);

#endif
