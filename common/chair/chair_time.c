// SPDX-License-Identifier: Apache-2.0
// What time tells a chair: who has been silent for too long, who lags, whether a history is to be
// begun, whether an order has to be given again. The owner's thread.
#include "common/chair/chair_private.h"

#include "common/base/clock.h"
#include "common/base/log.h"

static struct log_gate found_gate;

static uint64_t heartbeat_ns(const struct chair *chair)
{
    return chair->instance->node->heartbeat * NS_PER_MS;
}

static uint64_t silence_ns(const struct chair *chair)
{
    return chair->instance->node->silence * NS_PER_MS;
}

// Nothing was heard for `silence` of whoever leads, or did, since he was to be heard.
bool chair_is_silent(const struct chair *chair, unsigned leader)
{
    if (leader == ROOT_NOBODY) {
        return true;
    }
    uint64_t since_ns = chair->seats[leader].heard_ns;
    since_ns = leader == chair->awaited ? u64_max(since_ns, chair->awaited_ns) : since_ns;
    return chair->now_ns - since_ns >= silence_ns(chair);
}

void chair_note_awaited(struct chair *chair)
{
    unsigned leader = council_awaited(&chair->council);
    if (leader != chair->awaited) {
        chair->awaited = leader;
        chair->awaited_ns = chair->now_ns;
    }
}

// R1: no heartbeat, and Consul says so too, or it could speak and does not say that it leads: it
// has come back as something else. Whom `roots` does not name nobody waits for.
bool chair_is_gone(struct chair *chair)
{
    unsigned leader = council_awaited(&chair->council);
    if (leader == chair->names->own || !chair_is_silent(chair, leader)) {
        chair->gone = false;
        return false;
    }
    if (leader == ROOT_NOBODY || (chair->gone && chair->gone_root == leader)) {
        return true;
    }
    const struct seat *seat = &chair->seats[leader];
    return seat->talks && chair->now_ns - seat->up_ns >= silence_ns(chair);
}

// Has root `root` not acknowledged for `standby_lag` what it was to have?
static bool is_behind(struct chair *chair, unsigned root)
{
    const struct council *council = &chair->council;
    struct seat *seat = &chair->seats[root];
    if (council->role != COUNCIL_LEADING || seat->block_ns == 0 ||
        council->acknowledged[root] >= seat->block) {
        seat->block = council->end.block;
        seat->block_ns = chair->now_ns;
    }
    return chair->now_ns - seat->block_ns >= chair->instance->options->standby_lag * NS_PER_MS;
}

static uint32_t lagging(struct chair *chair)
{
    uint32_t set = 0;
    for (unsigned root = 0; root < chair->names->count; root++) {
        const struct seat *seat = &chair->seats[root];
        bool away = !seat->talks && chair->now_ns - seat->lost_ns >= silence_ns(chair);
        if (root != chair->names->own && (is_behind(chair, root) || away || seat->foreign)) {
            set |= ROOT_BIT(root);
        }
    }
    return set;
}

// docs/commit.md, "The first leader".
static void found(struct chair *chair)
{
    const struct council *council = &chair->council;
    const struct journal *journal = chair->instance->journal;
    const struct promise *promise = &council->wanted;
    // It has promised nobody; or to begin, and died before it made the record.
    bool again = promise->leadership.leader == chair->names->own;
    bool fresh = promise->generation == 0 &&
                 (again || promise->leadership.leader == ROOT_NOBODY);
    if (chair->names->own != chair->names->first || council->role != COUNCIL_STANDBY || !fresh) {
        return;
    }
    for (unsigned root = 0; root < chair->names->count; root++) {
        const struct seat *seat = &chair->seats[root];
        if (root != chair->names->own && (!seat->greeted || !seat->empty || !seat->talks)) {
            LOG_GATED(&found_gate, LOG_INFO, chair->instance->name,
                      "no history has been begun: waiting for root %s, which %s",
                      chair->names->all[root].name,
                      seat->talks ? "has one already" : "is not there");
            return;
        }
    }
    if (journal_has_history(journal)) {
        memcpy(chair->founded, journal_history(journal), HISTORY_ID_BYTES);
    } else if (again) {
        memcpy(chair->founded, promise->history, HISTORY_ID_BYTES);
    } else if (!chair->founds) {
        random_fill(chair->founded, HISTORY_ID_BYTES);
    }
    if (council->record_present) {
        LOG_GATED(&found_gate, LOG_WARN, chair->instance->name,
                  "no history is begun: Consul has a record of these roots, key qs/%s/record, and "
                  "none of them has data; take it away if that is as it should be",
                  chair->instance->name);
    }
    chair->founds = true;
    council_found(&chair->council, chair->founded);
}

void chair_watch_leader(struct chair *chair)
{
    unsigned leader = council_awaited(&chair->council);
    if (leader != ROOT_NOBODY && leader != chair->names->own && chair_is_silent(chair, leader) &&
        chair->now_ns >= chair->look_ns) {
        chair->look_ns = chair->now_ns + CHAIR_LOOK_MS * NS_PER_MS;
        keeper_look(&chair->keeper, leader);
    }
}

static void check_donor(struct chair *chair)
{
    unsigned donor = chair->council.donor;
    if (donor != ROOT_NOBODY) {
        const struct seat *seat = &chair->seats[donor];
        if (!seat->talks && chair->now_ns - seat->lost_ns >= silence_ns(chair)) {
            council_fetch_failed(&chair->council, donor);
        }
    }
}

void chair_end_hand_over(struct chair *chair)
{
    bool over = chair->now_ns >= chair->heir_ns || chair->council.role != COUNCIL_LEADING;
    if (chair->heir != ROOT_NOBODY && over) {
        chair->heir = ROOT_NOBODY;
        council_promote_expired(&chair->council);
    }
}

void chair_end_loss(struct chair *chair)
{
    if (chair->loss_ns != 0 && chair->now_ns >= chair->loss_ns) {
        chair->loss_ns = 0;
        council_loss_expired(&chair->council);
    }
}

// The first block of its epoch could not be written. Others wait as long as it says that it is
// elected, so it gives way in the end.
static void try_to_open(struct chair *chair)
{
    bool fails = chair->opening.leader != ROOT_NOBODY && chair_settled(chair);
    if (fails && chair->now_ns - chair->opening_ns >= silence_ns(chair)) {
        log_line(LOG_ERROR, chair->instance->name,
                 "this root cannot begin its epoch, and leaves it to another one to lead");
        chair->unable_ns = chair->now_ns + CHAIR_UNABLE_MS * NS_PER_MS;
        council_unable(&chair->council, true);
    } else if (fails) {
        chair_open_epoch(chair);
    } else if (chair->unable_ns != 0 && chair->now_ns >= chair->unable_ns) {
        chair->unable_ns = 0;
        council_unable(&chair->council, false);
    }
}

void chair_tick(struct chair *chair)
{
    chair->tick_ns = chair->now_ns + heartbeat_ns(chair);
    found(chair);
    check_donor(chair);
    try_to_open(chair);
    council_tick(&chair->council, chair_is_gone(chair), lagging(chair));
}

static void move_on(uint64_t *at_ns, uint64_t ns) { *at_ns += *at_ns == 0 ? 0 : ns; }

// While this process stood still it heard nobody: that was no silence of others.
void chair_forgive(struct chair *chair, uint64_t ns)
{
    if (ns <= u64_max(silence_ns(chair) / 2, 2 * heartbeat_ns(chair))) {
        return;
    }
    for (unsigned root = 0; root < chair->names->count; root++) {
        struct seat *seat = &chair->seats[root];
        move_on(&seat->heard_ns, ns);
        move_on(&seat->up_ns, ns);
        move_on(&seat->lost_ns, ns);
        move_on(&seat->block_ns, ns);
    }
    move_on(&chair->awaited_ns, ns);
    chair->gone = false;
}
