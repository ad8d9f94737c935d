// SPDX-License-Identifier: Apache-2.0
// What a parent's answer to the hello means: blocks flow from here on, or why they do not, and what
// is tried instead.
#include "common/base/clock.h"
#include "common/tree/follow.h"

#define LITTLE_BLOCKS 1000 // what a parent may be behind by, to be asked again at once
#define BEHIND_MAX 5       // ... and how often in a row

static void on_resume(struct follow *follow, const struct message_welcome *welcome)
{
    if (!follow->has_history) {
        memcpy(follow->history, welcome->history.data, HISTORY_ID_BYTES);
        follow->has_history = true;
        block_genesis(&follow->last, follow->history);
        follow->last_known = true;
        instance_adopt(follow->instance, follow->history);
    }
    follow->sent_on = follow->full;
    follow->too_old = follow->full = follow->insists = false;
    follow->at->behind = 0;
    if (!intake_is_stuck(follow)) {
        bootstrap_resumed(follow);
    }
    follow->stage = FOLLOW_STREAM;
    parents_new_round(&follow->parents);
    follow->link.silence_ns = follow->instance->node->silence * NS_PER_MS;
    char node[NODE_NAME_MAX + 1];
    link_words(node, sizeof node, welcome->node);
    follow_connected(follow, true, node);
    follow_state(follow, "following");
    log_line(LOG_INFO, follow->instance->name, "following %s at %s from block %llu", node,
             follow->link.address, (unsigned long long)follow->last.number + 1);
    report_start(follow);
    scout_start(follow);
    intake_repair(follow, false);
    intake_check_room(follow);
}

static void too_old(struct follow *follow, uint64_t oldest)
{
    follow->slow = true;
    follow->too_old = true;
    follow_alarm(follow, LOG_WARN, "too old: the journal of %s begins at index %llu",
                 follow->link.address, (unsigned long long)oldest);
    follow_leave(follow, ERR_TOO_OLD, false, "too old");
}

static void diverged(struct follow *follow, uint64_t index)
{
    follow->slow = true;
    follow_alarm(follow, LOG_ERROR,
                 "diverged at %llu: %s holds another log up to there; serving on, nothing is taken",
                 (unsigned long long)index, follow->link.address);
    follow_leave(follow, ERR_DIVERGED, false, "the logs have diverged");
    if (follow->instance->lead != NULL) { // it differs where this root knows it to be committed
        instance_stop_updates(follow->instance, ERR_DIVERGED,
                              "the leader's log lacks what is committed here");
    }
}

// The parent stands lower: is its log a part of ours?
static void on_behind(struct follow *follow, const struct message_welcome *welcome)
{
    struct block_header header;
    if (welcome->history.size != 0 && follow->has_history && welcome->chain.size == HASH128_BYTES &&
        journal_header(follow->instance->journal, welcome->block, &header) == OK &&
        !hash128_equal(header.chain, hash128_load(welcome->chain.data))) {
        diverged(follow, welcome->index);
        return;
    }
    follow_alarm(follow, LOG_INFO, "%s is behind, at index %llu: waiting", follow->link.address,
                 (unsigned long long)welcome->index);
    // While writes flow one is nearly always a little lower than who came from a quicker parent.
    bool little = follow->has_history && welcome->block + LITTLE_BLOCKS > follow->last.number;
    bool again = little && ++follow->at->behind <= BEHIND_MAX;
    follow_leave(follow, ERR_BEHIND, again, "you stand lower");
}

static void on_full(struct follow *follow, const struct message_welcome *welcome)
{
    bool named = choice_named(follow, welcome->elsewhere);
    follow->full = follow->full || !follow->insists; // else insisting is of no use there
    // Who lost its parent does not walk down the whole tree: the next one feeds it, and sends it to
    // where there is room after that.
    follow->insists = follow->insists || follow->lost[0] != '\0';
    follow_alarm(follow, LOG_INFO, "%s has as many children as it may have: %s",
                 follow->link.address, named ? "going on to one of them" : "looking elsewhere");
    follow_leave(follow, ERR_BUSY, false, "going elsewhere");
}

static void on_answer(struct follow *follow, const struct message_welcome *welcome)
{
    bool stands = follow->instance->lead != NULL;
    switch (welcome->answer) {
    case ANSWER_RESUME:
        on_resume(follow, welcome);
        return;
    case ANSWER_BEHIND:
        on_behind(follow, welcome);
        return;
    case ANSWER_TOO_OLD:
        if (stands && stand_offer(follow, welcome->oldest)) {
            follow_leave(follow, ERR_TOO_OLD, true, "there are blocks here that you hold too");
        } else {
            too_old(follow, welcome->oldest);
        }
        return;
    case ANSWER_FULL:
        on_full(follow, welcome);
        return;
    case ANSWER_DIVERGED:
        if (stands && follow->stand.offered.number != 0) { // nothing of that is committed
            too_old(follow, welcome->oldest);
        } else {
            diverged(follow, welcome->diverged_at);
        }
        return;
    default:
        follow_leave(follow, ERR_PROTOCOL, false, "unknown answer");
        return;
    }
}

// Does the parent's history name ours as the one that it forked from? Then ours has ended.
static bool is_fork(const struct follow *follow, const struct message_welcome *welcome,
                    struct birth *ret_birth)
{
    return follow->has_history && welcome->protocol == PEER_PROTOCOL &&
           welcome->history.size == HISTORY_ID_BYTES &&
           birth_decode(ret_birth, welcome->birth) == OK && ret_birth->forked &&
           memcmp(ret_birth->history, welcome->history.data, HISTORY_ID_BYTES) == 0 &&
           memcmp(ret_birth->ancestor, follow->history, HISTORY_ID_BYTES) == 0 &&
           lead_may_join(follow->instance, ret_birth->history);
}

static void loops(struct follow *follow)
{
    follow_alarm(follow, LOG_WARN, "%s gets its log from this node: a loop", follow->link.address);
    follow_leave(follow, ERR_REFUSED, false, "your log comes from this node: a loop");
}

int follow_on_welcome(struct follow *follow, struct bytes payload)
{
    struct message_welcome welcome;
    int error = message_welcome_decode(payload, &welcome);
    if (error != OK) {
        return error;
    }
    parent_learn(&follow->parents, follow->at, &welcome, clock_mono_ns() - follow->link.opened_ns,
                 loop_now_ns(follow->loop));
    follow->at->doubtful = choice_doubts(follow, &welcome);
    const char *node = follow->instance->node->node;
    // A root takes its log from whom promises say: also from one that had it from here.
    follow->at->below = follow->instance->lead == NULL && path_passed(welcome.path, node);
    if (welcome.answer == ANSWER_RESUME && follow->at->below) {
        loops(follow);
        return OK;
    }
    struct birth birth;
    if (is_fork(follow, &welcome, &birth)) {
        follow_alarm(follow, LOG_WARN,
                     "the history of %s forked from the one here: its data takes this one's place",
                     follow->link.address);
        follow_leave(follow, ERR_HISTORY, true, "your history forked from mine");
        bootstrap_fork(follow, &birth);
        return OK;
    }
    char words[128];
    link_words(words, sizeof words, welcome.reason);
    if (welcome.answer == ANSWER_REFUSED || welcome.protocol != PEER_PROTOCOL) {
        (void)choice_named(follow, welcome.elsewhere);
        follow_alarm(follow, LOG_WARN, "refused by %s: %s", follow->link.address,
                     welcome.answer == ANSWER_REFUSED ? words : "another protocol version");
        follow_leave(follow, ERR_REFUSED, false, "refused");
        return OK;
    }
    if (!link_name_valid(welcome.node, NODE_NAME_MAX)) {
        return ERR_PROTOCOL;
    }
    bool empty = welcome.history.size == 0 && welcome.answer == ANSWER_BEHIND;
    if (!empty && welcome.history.size != HISTORY_ID_BYTES) {
        return ERR_PROTOCOL;
    }
    if (!empty && follow->has_history &&
        memcmp(welcome.history.data, follow->history, HISTORY_ID_BYTES) != 0) {
        follow->slow = true;
        follow_alarm(follow, LOG_ERROR, "%s holds another history: nothing is taken from it",
                     follow->link.address);
        follow_leave(follow, ERR_HISTORY, false, "another history");
        return OK;
    }
    if (!empty && follow->has_history) {
        birth_learn(follow->instance, welcome.birth);
    }
    on_answer(follow, &welcome);
    return OK;
}
