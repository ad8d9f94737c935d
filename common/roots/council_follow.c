// SPDX-License-Identifier: Apache-2.0
// R7 and R8: a standby's log becomes its leader's. What it acknowledges is that all its blocks are,
// so nothing is before the last common block is known and what differed is cut. An elected root may
// lack what others have, and takes that over first: it is followed from the moment that it leads.
#include "common/roots/council_private.h"

// The log that this one shall become a copy of, as long as nothing is taken from anybody else.
static struct leadership line(const struct council *council)
{
    return council->role == COUNCIL_STANDBY ? council->promised.leadership : council->mine;
}

static bool is_source(const struct council *council, unsigned root)
{
    return council->role == COUNCIL_ELECTED
               ? council->donor == root
               : council_follows(council, council->promised.leadership) &&
                     council->promised.leadership.leader == root;
}

void council_common(struct council *council, unsigned root, uint64_t block)
{
    if (!council_is_other(council, root) || !is_source(council, root) || council->cutting ||
        block > council->appended || council->stopped != NULL) {
        return;
    }
    if (block < council->committed) {
        council_stop(council, "another root leads without blocks that are committed here");
    } else if (block < council->appended) {
        council->joined = false;
        council->cutting = true;
        council->cut_from = block + 1;
        council->cut_for = line(council);
        council_due(council, COUNCIL_CUT);
    } else if (council->role == COUNCIL_STANDBY) {
        council->joined = true;
        council_due(council, COUNCIL_ACKNOWLEDGE);
    }
    council_turn(council);
}

void council_cut(struct council *council)
{
    CHECK(council->cutting && council->appended < council->cut_from);
    council->cutting = false;
    if (council_follows(council, council->cut_for)) {
        council->joined = true;
        council_due(council, COUNCIL_ACKNOWLEDGE);
    }
    council_turn(council);
}

void council_on_lead(struct council *council, unsigned root, struct leadership leadership,
                     uint64_t committed, uint64_t generation, bool member)
{
    if (!council_is_other(council, root) || leadership.leader != root) {
        return;
    }
    if (!council_follows(council, leadership)) {
        council_on_claim(council, root, leadership);
        return;
    }
    if (!council->heard) {
        council->heard = true;
        council_due(council, COUNCIL_FOLLOW);
    }
    // Whatever was said of it, or asked because none was there, before this came.
    council->leader_gone = council->forced = false;
    council_see_generation(council, generation);
    council->leader_commit = u64_max(council->leader_commit, committed);
    council->wanted.blank = council->wanted.blank && !member;
    if (council->joined) {
        council_due(council, COUNCIL_ACKNOWLEDGE); // the one before may be lost
    }
    council_turn(council);
}

void council_rule_follow(struct council *council)
{
    if (!council->joined || council->cutting ||
        !council_follows(council, council->promised.leadership)) {
        return;
    }
    if (council->end.block > council->told_block) {
        council_due(council, COUNCIL_ACKNOWLEDGE);
    }
    uint64_t block = u64_min(council->leader_commit, council->end.block);
    if (block > council->committed) {
        council->committed = block;
        council_due(council, COUNCIL_COMMIT);
    }
}
