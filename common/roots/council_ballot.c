// SPDX-License-Identifier: Apache-2.0
// R4: an elected root gathers promises, takes over the best log of those who gave them, and opens
// its epoch. Whoever promised knows what was committed, as in_sync_min + promote_min exceed the
// roots.
#include "common/roots/council_private.h"

void council_elected(struct council *council)
{
    council->role = COUNCIL_ELECTED;
    council->counted = 0;
    council->members = council->request.record.in_sync;
    council->due_claim = council_others(council);
}

// The one whose log is the best: this root's own where no other is better.
static unsigned best_log(const struct council *council, uint32_t voters)
{
    unsigned best = council->setup.self;
    const struct log_end *end = &council->end;
    for (unsigned root = 0; root < council->setup.roots; root++) {
        if (set_has(voters, root) && log_end_better(&council->ends[root], end)) {
            best = root;
            end = &council->ends[root];
        }
    }
    return best;
}

// The record that it has won names it alone, and all others have promised, and lost what they had:
// nobody else can hold what was committed.
static bool is_last(const struct council *council)
{
    return council->members == ROOT_BIT(council->setup.self) &&
           (council->granted & council->blank) == council_others(council);
}

void council_rule_open(struct council *council)
{
    uint32_t voters = council->granted & ~council->blank;
    if (council->role != COUNCIL_ELECTED || council->opening || council->cutting ||
        council->end.block != council->appended) {
        return;
    }
    bool whole = set_size(voters) + 1 >= council->setup.promote_min;
    bool enough = council_forks(council)
                      ? council_gathered(council)
                      : council->birth || council->wanted.alone || is_last(council) || whole;
    if (!enough) {
        return;
    }
    unsigned best = council->birth ? council->setup.self : best_log(council, voters);
    if (best == council->setup.self) {
        council->donor = ROOT_NOBODY;
        council->opening = true;
        council_undue(council, COUNCIL_FETCH);
        council_due(council, COUNCIL_OPEN);
    } else if (council->donor != best) {
        council->donor = best;
        council_due(council, COUNCIL_FETCH);
    }
}

// Its log may hold what was committed, so without it its promise does not count either.
void council_fetch_failed(struct council *council, unsigned root)
{
    if (council->role == COUNCIL_ELECTED && council->donor == root) {
        council->granted &= ~ROOT_BIT(root);
        council->donor = ROOT_NOBODY;
        council_undue(council, COUNCIL_FETCH);
        council_turn(council);
    }
}

void council_unable(struct council *council, bool unable)
{
    council->unable = unable;
    if (unable && council->role != COUNCIL_LEADING && council->role != COUNCIL_STANDBY) {
        council_rest(council);
    }
    council_turn(council);
}

void council_opened(struct council *council, struct leadership leadership, uint64_t block)
{
    if (!leadership_equal(leadership, council->mine) || !council->opening) {
        return;
    }
    if (council->birth) {
        council->committed = u64_min(council->committed, block - 1);
    }
    CHECK(block > council->committed);
    if (council_forks(council)) {
        council_forked(council, block);
    }
    council->role = COUNCIL_LEADING;
    council->opening = council->loss = council->birth = false;
    council->first = block;
    council->counted = council->members;
    CHECK(set_has(council->counted, council->setup.self));
    memset(council->acknowledged, 0, sizeof council->acknowledged);
    council->absent = council->counted & council_others(council) & ~council->granted;
    council->due_lead = council->granted;
    council_due(council, COUNCIL_COUNTED);
    council_turn(council);
}
