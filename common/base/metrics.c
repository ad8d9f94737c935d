// SPDX-License-Identifier: Apache-2.0
// Rows, shards and sums of the metrics, and their text for Prometheus. A thread takes the next
// shard the first time it counts something and keeps it; so a few busy threads never write to the
// same cache line, and a sum reads METRIC_SHARDS slots. Sums wrap modulo 2^64, which lets a gauge
// be raised in one shard and lowered in another. Any thread.
//
// Text format: https://prometheus.io/docs/instrumenting/exposition_formats/
#include "common/base/metrics.h"

#include <inttypes.h>

static const struct metric_row node_rows[] = {
#define COUNTER true
#define GAUGE false
#define NODE_METRIC(kind, name, unit, help) {#name, unit, help, kind},
#include "common/tables/metrics.h"
};

static const struct metric_row instance_rows[] = {
#define INSTANCE_METRIC(kind, name, unit, help) {#name, unit, help, kind},
#include "common/tables/metrics.h"
#undef COUNTER
#undef GAUGE
};

static _Atomic unsigned shards_given;

unsigned metric_shard(void)
{
    static _Thread_local unsigned shard_plus_1;
    if (__builtin_expect(shard_plus_1 == 0, 0)) {
        unsigned given = atomic_fetch_add_explicit(&shards_given, 1, memory_order_relaxed);
        shard_plus_1 = given % METRIC_SHARDS + 1;
    }
    return shard_plus_1 - 1;
}

uint64_t metric_sum(const _Atomic uint64_t *slots, size_t stride, unsigned id)
{
    CHECK(id < stride);
    uint64_t sum = 0;
    for (size_t shard = 0; shard < METRIC_SHARDS; shard++) {
        sum += atomic_load_explicit(&slots[shard * stride + id], memory_order_relaxed);
    }
    return sum;
}

const struct metric_row *node_metric_row(unsigned id)
{
    CHECK(id < NODE_METRIC_COUNT);
    return &node_rows[id];
}

const struct metric_row *instance_metric_row(unsigned id)
{
    CHECK(id < INSTANCE_METRIC_COUNT);
    return &instance_rows[id];
}

// In # HELP texts only the backslash and the line feed are special, in labels the quote too.
static void append_escaped(struct buf *to, const char *text, bool label)
{
    for (const char *at = text; *at != '\0'; at++) {
        if (*at == '\n') {
            buf_append_text(to, "\\n");
        } else {
            if (*at == '\\' || (label && *at == '"')) {
                buf_append(to, "\\", 1);
            }
            buf_append(to, at, 1);
        }
    }
}

static void append_head(struct buf *to, const struct metric_row *row)
{
    buf_format(to, "# HELP qs_%s ", row->name);
    append_escaped(to, row->help, false);
    if (row->unit[0] != '\0') {
        buf_format(to, " (%s)", row->unit);
    }
    buf_format(to, "\n# TYPE qs_%s %s\n", row->name, row->counter ? "counter" : "gauge");
}

void metrics_text_node(struct buf *to, const struct node_metrics *metrics)
{
    for (unsigned id = 0; id < NODE_METRIC_COUNT; id++) {
        append_head(to, &node_rows[id]);
        buf_format(to, "qs_%s %" PRIu64 "\n", node_rows[id].name,
                   metric_sum(metrics->slots[0], METRIC_STRIDE_node, id));
    }
}

void metrics_text_instances(struct buf *to, const struct instance_metrics *const *metrics,
                            const char *const *names, size_t count)
{
    for (unsigned id = 0; id < INSTANCE_METRIC_COUNT && count > 0; id++) {
        append_head(to, &instance_rows[id]);
        for (size_t i = 0; i < count; i++) {
            buf_format(to, "qs_%s{instance=\"", instance_rows[id].name);
            append_escaped(to, names[i], true);
            buf_format(to, "\"} %" PRIu64 "\n",
                       metric_sum(metrics[i]->slots[0], METRIC_STRIDE_instance, id));
        }
    }
}
