// SPDX-License-Identifier: Apache-2.0
// R5, R9, R10, R12: whom the leader counts, what is committed by that, and that the record says so;
// and the hand-over, for which all of it must be at one point.
//
// `members` is the record's set as far as it is known, `counted` those whom a block waits for. A
// root leaves `counted` only after the record is known to lack it, and is in it before the record
// has it.
#include "common/roots/council_private.h"

// ---- R5 ----------------------------------------------------------------------------------------

// What a root that has lost its disk acknowledges does not count until it was dropped and added: it
// may have promised another leader before.
static uint64_t agreed(const struct council *council)
{
    uint64_t least = council->end.block;
    for (unsigned root = 0; root < council->setup.roots; root++) {
        if (set_has(council->counted & council_others(council), root)) {
            uint64_t block = set_has(council->blank, root) ? 0 : council->acknowledged[root];
            least = u64_min(least, block);
        }
    }
    return least;
}

void council_rule_commit(struct council *council)
{
    if (council->role != COUNCIL_LEADING) {
        return;
    }
    uint64_t block = agreed(council);
    if (block < council->first || block <= council->committed ||
        set_size(council->counted) < council->setup.in_sync_min) {
        return;
    }
    council->committed = block;
    council->due_lead |= council_others(council) & council->granted;
    council_due(council, COUNCIL_COMMIT);
}

void council_on_acknowledge(struct council *council, unsigned root, struct leadership leadership,
                            uint64_t block)
{
    if (!council_is_other(council, root) || council->role != COUNCIL_LEADING ||
        !leadership_equal(leadership, council->mine) || block > council->appended) {
        return;
    }
    council->acknowledged[root] = u64_max(council->acknowledged[root], block);
    council->absent &= ~ROOT_BIT(root);
    council_turn(council);
}

enum council_writes council_writes(const struct council *council)
{
    if (council->role != COUNCIL_LEADING) {
        return COUNCIL_WRITES_ELSEWHERE;
    }
    if (set_size(council->counted) < council->setup.in_sync_min) {
        return COUNCIL_WRITES_SMALL;
    }
    return council->heir != ROOT_NOBODY          ? COUNCIL_WRITES_HANDING
           : council->committed < council->first ? COUNCIL_WRITES_OPENING
                                                 : COUNCIL_WRITES_TAKEN;
}

// ---- R9, R10, R12 ------------------------------------------------------------------------------

void council_set_settled(struct council *council)
{
    uint32_t set = council->record.in_sync;
    if (!set_has(set, council->setup.self)) {
        return; // somebody wrote that by hand: R12 writes it anew
    }
    uint32_t joined = set & ~council->members;
    council->members = set;
    council->due_lead |= joined & council->granted;
    if (council->counted != set) {
        council->counted = set;
        council_due(council, COUNCIL_COUNTED);
    }
}

// The record is lost, or goes back, or says what only a store that went back can say.
static bool is_strange(const struct council *council)
{
    return !council->record_present || council->record.generation < council->wanted.generation ||
           !leadership_equal(council->record.leadership, council->mine) ||
           council->record.in_sync != council->members;
}

static uint32_t absentees(const struct council *council)
{
    return (council->lagging | council->absent) & council->counted & council_others(council);
}

// R10: those outside that have the epoch block and all that is committed.
static uint32_t newcomers(const struct council *council)
{
    uint64_t least = u64_max(council->first, council->committed);
    // Of a connection that has just begun nothing is known before the answer to a claim (R13).
    uint32_t set =
        council_others(council) & ~council->members & ~council->lagging & council->granted;
    for (unsigned root = 0; root < council->setup.roots; root++) {
        set &= council->acknowledged[root] >= least ? ~(uint32_t)0 : ~ROOT_BIT(root);
    }
    return set;
}

// R9: one that lost its disk, or of those that lag so many that enough are left.
static uint32_t leavers(const struct council *council)
{
    uint32_t blank = council->blank & council->members;
    if (blank != 0) {
        return blank;
    }
    uint32_t set = absentees(council);
    while (set != 0 &&
           set_size(council->members & ~set) < council->setup.in_sync_min) {
        set &= set - 1;
    }
    return set;
}

static void write_set(struct council *council, uint32_t set)
{
    struct root_record record = {
        .leadership = council->mine,
        .in_sync = set,
        .generation = council->wanted.generation + 1,
    };
    memcpy(record.history, council->wanted.history, HISTORY_ID_BYTES);
    council_request(council, &record, council->modify_index);
}

void council_rule_set(struct council *council)
{
    if (council->role != COUNCIL_LEADING || council->request.busy) {
        return;
    }
    uint32_t in = newcomers(council), out = leavers(council);
    if (!council->record_known) {
        if (in != 0 || out != 0) {
            council_ask_record(council);
        }
        return;
    }
    if (is_strange(council)) {
        write_set(council, council->counted);
    } else if (in != 0 && (council->wanted.alone || council->promised.alone)) {
        council->wanted.alone = false; // on the disk before anybody else may hold what it lacks
    } else if (in != 0) {
        council->blank &= ~in;
        council->counted |= in;
        council_due(council, COUNCIL_COUNTED);
        write_set(council, council->members | in);
    } else if (out != 0) {
        write_set(council, council->members & ~out);
    }
}

// ---- hand-over ---------------------------------------------------------------------------------

void council_on_ask(struct council *council, unsigned root)
{
    if (council_is_other(council, root) && council->role == COUNCIL_LEADING &&
        set_has(council->members & council->counted, root)) {
        council->heir = root;
        council_turn(council);
    }
}

void council_promote_expired(struct council *council)
{
    council->heir = ROOT_NOBODY;
    council_undue(council, COUNCIL_GO);
    council_turn(council);
}

void council_rule_hand(struct council *council)
{
    if (council->role == COUNCIL_LEADING && council->heir != ROOT_NOBODY &&
        council->committed == council->appended && council->committed >= council->first &&
        council->acknowledged[council->heir] == council->appended) {
        council_due(council, COUNCIL_GO);
    }
}
