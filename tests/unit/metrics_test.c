// SPDX-License-Identifier: Apache-2.0
// Metrics: threads take different shards, sums count everything, gauges may fall in another
// thread than they rose in, and the Prometheus text has each metric once with all its samples.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>

#include "common/base/mem.h"
#include "common/base/metrics.h"
#include "common/base/options.h"

#define THREADS 8
#define ROUNDS 5000

struct counting {
    struct node_metrics *node;
    unsigned shard;
};

static void *count(void *argument)
{
    struct counting *counting = argument;
    counting->shard = metric_shard();
    assert_int_equal(counting->shard, metric_shard());
    for (unsigned i = 0; i < ROUNDS; i++) {
        METRIC_ADD(counting->node, node, commands, 1);
        METRIC_ADD(counting->node, node, clients, 1);
    }
    return NULL;
}

static void *count_down(void *argument)
{
    struct counting *counting = argument;
    for (unsigned i = 0; i < ROUNDS; i++) {
        METRIC_ADD(counting->node, node, clients, -1);
    }
    return NULL;
}

// Runs threads first..last-1 side by side; returns the set of shards they used.
static unsigned run_threads(struct counting *counting, unsigned first, unsigned last,
                            void *(*run)(void *), struct node_metrics *metrics)
{
    pthread_t threads[THREADS];
    for (unsigned i = first; i < last; i++) {
        counting[i] = (struct counting){.node = metrics};
        assert_int_equal(pthread_create(&threads[i], NULL, run, &counting[i]), 0);
    }
    unsigned used = 0;
    for (unsigned i = first; i < last; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        used |= 1u << counting[i].shard;
    }
    return used;
}

static void sums_count_all_threads(void **state)
{
    (void)state;
    static struct node_metrics metrics;
    struct counting counting[THREADS];
    unsigned used = run_threads(counting, 0, 5, count, &metrics);
    run_threads(counting, 5, THREADS, count_down, &metrics);
    assert_int_equal(METRIC_GET(&metrics, node, commands), 5 * ROUNDS);
    assert_int_equal(METRIC_GET(&metrics, node, clients), 2 * ROUNDS);
    assert_int_equal(METRIC_GET(&metrics, node, peers), 0);
    // Five threads in a row, round robin: every shard was taken.
    assert_int_equal(used, (1u << METRIC_SHARDS) - 1);
}

static void gauges_are_set(void **state)
{
    (void)state;
    static struct instance_metrics metrics;
    METRIC_SET(&metrics, instance, keys, 17);
    METRIC_SET(&metrics, instance, keys, 5);
    assert_int_equal(METRIC_GET(&metrics, instance, keys), 5);
    METRIC_SET(&metrics, instance, age_ms, UINT64_MAX);
    assert_true(METRIC_GET(&metrics, instance, age_ms) == UINT64_MAX);
}

static void rows_match_the_table(void **state)
{
    (void)state;
    assert_string_equal(node_metric_row(NODE_METRIC_commands)->name, "commands");
    assert_true(node_metric_row(NODE_METRIC_commands)->counter);
    assert_false(node_metric_row(NODE_METRIC_clients)->counter);
    assert_string_equal(instance_metric_row(INSTANCE_METRIC_served)->name, "served");
    assert_string_equal(instance_metric_row(INSTANCE_METRIC_apply_ns)->unit, "ns");
    for (unsigned id = 0; id < INSTANCE_METRIC_COUNT; id++) {
        assert_true(instance_metric_row(id)->help[0] != '\0');
    }
}

static unsigned occurrences(const char *text, const char *part)
{
    unsigned count_found = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        count_found++;
    }
    return count_found;
}

static void text_is_prometheus(void **state)
{
    (void)state;
    static struct node_metrics node;
    static struct instance_metrics zones, keys;
    METRIC_ADD(&node, node, commands, 12);
    METRIC_SET(&zones, instance, visible_index, 7);
    METRIC_SET(&keys, instance, visible_index, UINT64_MAX);
    const struct instance_metrics *all[] = {&zones, &keys};
    const char *names[] = {"zones", "a\"b\\c\nd"};
    struct buf text = {0};
    metrics_text_node(&text, &node);
    metrics_text_instances(&text, all, names, 2);
    buf_append(&text, "", 1);
    const char *got = (const char *)text.data;
    assert_non_null(strstr(got, "# TYPE qs_commands counter\nqs_commands 12\n"));
    assert_non_null(strstr(got, "# TYPE qs_clients gauge\nqs_clients 0\n"));
    assert_non_null(strstr(got, "# TYPE qs_visible_index gauge\n"
                                "qs_visible_index{instance=\"zones\"} 7\n"
                                "qs_visible_index{instance=\"a\\\"b\\\\c\\nd\"} "
                                "18446744073709551615\n"));
    assert_int_equal(occurrences(got, "# TYPE "), NODE_METRIC_COUNT + INSTANCE_METRIC_COUNT);
    assert_int_equal(occurrences(got, "# HELP "), NODE_METRIC_COUNT + INSTANCE_METRIC_COUNT);
    assert_int_equal(occurrences(got, "# TYPE qs_reads "), 1);
    assert_int_equal(got[strlen(got) - 1], '\n');
    buf_free(&text);
}

static void no_instances_give_no_text(void **state)
{
    (void)state;
    struct buf text = {0};
    metrics_text_instances(&text, NULL, NULL, 0);
    assert_int_equal(text.size, 0);
    buf_free(&text);
}

static void roles_have_words(void **state)
{
    (void)state;
    assert_string_equal(role_text(ROLE_ROOT), "root");
    assert_string_equal(role_text(ROLE_REPLICA), "replica");
    assert_string_equal(role_text(ROLE_PROXY), "proxy");
    assert_string_equal(role_text(77), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_count_all_threads), cmocka_unit_test(gauges_are_set),
        cmocka_unit_test(rows_match_the_table),   cmocka_unit_test(text_is_prometheus),
        cmocka_unit_test(no_instances_give_no_text), cmocka_unit_test(roles_have_words),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
