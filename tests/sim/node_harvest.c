// SPDX-License-Identifier: Apache-2.0
// What a process of a node has counted, taken when it ends, and what none may ever count.
#include <string.h>

#include "tests/sim/node.h"

void node_harvest(struct node *node)
{
#define TAKE(count, metric)                                                                        \
    count_add(COUNT_##count, METRIC_GET(&node->metrics, instance, metric))
    TAKE(torn_tails, journal_torn);
    TAKE(damage_found, journal_damaged);
    TAKE(damage_mended, journal_repaired);
    TAKE(misses, fetch_misses);
    TAKE(joined, fetch_joined);
    TAKE(answers_behind, fetch_behind);
    TAKE(answers_gone, fetch_gone);
    TAKE(hedged, fetch_hedged);
    TAKE(quarantines, fetch_quarantines);
    TAKE(waited, fetch_waited);
    TAKE(history_collected, history_collected);
    TAKE(history_cut, history_cut);
    TAKE(evicted, values_evicted);
    TAKE(kept_out, fills_refused_space);
    TAKE(kept_out, values_refused);
    TAKE(walks, walks);
    TAKE(builds, builds);
    TAKE(builds_dropped, builds_dropped);
    TAKE(slices, build_slices);
    TAKE(reads_filtered, reads_filtered);
    TAKE(reads_hot, reads_hot);
    TAKE(hot_fills, hot_fills);
    TAKE(writes_filtered, writes_filtered);
    TAKE(fills, fills);
    TAKE(fills_stale, fills_stale);
    TAKE(bad_frames, parent_bad_blocks);
    TAKE(bad_frames, parent_bad_frames);
    TAKE(bad_frames, fetch_bad_frames);
    TAKE(parents_lost, parent_lost);
    TAKE(parent_moves, parent_moves);
    TAKE(sent_on, children_sent_on);
    TAKE(set_aside, set_aside);
#define NEVER(metric)                                                                              \
    WORLD_CHECK(METRIC_GET(&node->metrics, instance, metric) == 0, "n%u counts %llu " #metric,     \
                node->number,                                                                      \
                (unsigned long long)METRIC_GET(&node->metrics, instance, metric))
    NEVER(fetch_never);
    NEVER(fetch_bad);
    NEVER(digest_mismatches);
    NEVER(walk_mismatches);
    if (!node->decayed) {
        NEVER(reads_corrupt);
    }
    memset(&node->metrics, 0, sizeof node->metrics);
}
