// SPDX-License-Identifier: Apache-2.0
#include "common/tree/bootstrap.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/tree/follow.h"

#ifndef SNAPSHOT_SLICE_BYTES // simulations make it smaller
#define SNAPSHOT_SLICE_BYTES MIB
#endif
#define FIRST_PAUSE_MS 20u
#define TURN_PAUSE_MS 4u // between two that are asked in a round
#define ROUNDS_MAX 10 // the pause grows no more
#define LOG_POLL_NS (50 * NS_PER_MS)

static struct log_gate none_gate;

static void locate(struct follow *follow);

static void next_donor(struct follow *follow)
{
    donors_pass(&follow->bootstrap.donors, &follow->parents);
}

static uint64_t patience_ns(const struct follow *follow)
{
    return follow->instance->options->snapshot_wait * NS_PER_MS;
}

// False: nobody is left who may be asked in this round.
static bool choose_donor(struct follow *follow)
{
    return donors_choose(&follow->bootstrap.donors, &follow->parents, patience_ns(follow),
                         loop_now_ns(follow->loop));
}

// ---- pauses ------------------------------------------------------------------------------------

static void end_round(struct follow *follow)
{
    struct donors *donors = &follow->bootstrap.donors;
    if (donors_new_round(donors, &follow->parents, loop_now_ns(follow->loop))) {
        log_line(LOG_INFO, follow->instance->name,
                 "waiting for a node of the own site to give the snapshot, for %llu s at most",
                 (unsigned long long)(patience_ns(follow) / NS_PER_S));
    }
}

static void try_later(struct follow *follow)
{
    struct bootstrap *bootstrap = &follow->bootstrap;
    uint64_t longest = follow->instance->node->reconnect;
    uint64_t pause = TURN_PAUSE_MS;
    bool again = bootstrap->donors.at != NULL; // the same one
    if (again || !choose_donor(follow)) {
        unsigned rounds = bootstrap->donors.rounds;
        pause = u64_min(longest, (uint64_t)FIRST_PAUSE_MS << u64_min(rounds, ROUNDS_MAX));
        end_round(follow);
    }
    loop_timer_set(follow->loop, &bootstrap->timer, random_jitter_ms(pause) * NS_PER_MS);
}

static void leave(struct follow *follow, int error, const char *reason)
{
    struct bootstrap *bootstrap = &follow->bootstrap;
    if (bootstrap->stage == BOOTSTRAP_GREETING || bootstrap->stage == BOOTSTRAP_STREAM) {
        bootstrap->stage = BOOTSTRAP_LEAVING;
        bootstrap->asked = 0;
        link_dismiss(&bootstrap->link, error, reason);
    }
}

static void leave_for_next(struct follow *follow, int error, const char *reason)
{
    next_donor(follow);
    leave(follow, error, reason);
}

// ---- asking ------------------------------------------------------------------------------------

// The lowest block at which the first slice may be read: what was shown must not be taken back, and
// the journal, if it stays, must run through that block.
static uint64_t first_least(const struct follow *follow)
{
    if (follow->bootstrap.birth.size > 0) {
        return 0; // another history, other numbers
    }
    struct instance *instance = follow->instance;
    struct view *view = instance_pin(instance);
    // What an earlier run has shown of a journal that cannot be replayed is not known.
    uint64_t shown = view != NULL ? view->place.number : journal_seen(instance->journal);
    view_release(view);
    uint64_t end = journal_end(instance->journal).number;
    if (follow->bootstrap.journal_lost) {
        return u64_max(shown, end);
    }
    uint64_t oldest = journal_oldest(instance->journal).number;
    return end < shown ? u64_max(shown, oldest) : oldest;
}

static void ask(struct follow *follow)
{
    struct bootstrap *bootstrap = &follow->bootstrap;
    const struct build_order *order = &bootstrap->order;
    bool all = follow->instance->options->role != ROLE_PROXY;
    struct message_slice slice = {.id = ++bootstrap->asked_last,
                                  .from = bytes_of(order->next, order->next_size),
                                  .bytes = SNAPSHOT_SLICE_BYTES,
                                  .values_above = all ? 0 : UINT64_MAX,
                                  .least = first_least(follow)};
    if (order->begun) {
        slice.least = order->start.number;
        // What is newer than the snapshot's begin may be too new for every replica.
        slice.values_above = all ? 0 : block_end(&order->start);
    }
    bootstrap->asked = slice.id;
    bootstrap->asked_least = slice.least;
    bootstrap->from_size = order->next_size;
    memcpy(bootstrap->from, order->next, order->next_size);
    message_slice_encode(link_out(&bootstrap->link), &slice);
    link_wrote(&bootstrap->link);
}

// ---- the link ----------------------------------------------------------------------------------

static void on_connected(struct link *link)
{
    struct follow *follow = link->owner;
    struct instance *instance = follow->instance;
    struct message_hello hello = {
        .protocol = PEER_PROTOCOL,
        .cluster = bytes_text(instance->node->cluster),
        .instance = bytes_text(instance->name),
        .node = bytes_text(instance->node->node),
        .role = (uint64_t)instance->options->role,
        .purpose = PURPOSE_SNAPSHOT,
        .digest_algorithm = DIGEST_ALGORITHM,
        .site = bytes_text(follow->parents.site),
        .insists = donors_insist(&follow->bootstrap.donors, patience_ns(follow),
                                 loop_now_ns(follow->loop)),
    };
    message_hello_encode(link_out(link), &hello);
    link_wrote(link);
}

// The history that is to be built, NULL when that is open: what this node follows, or is to follow,
// decides; an empty one stays with what the first slice was of.
static const uint8_t *wanted_history(const struct follow *follow)
{
    const struct bootstrap *bootstrap = &follow->bootstrap;
    return bootstrap->birth.size > 0 ? bootstrap->birth.history
           : follow->has_history     ? follow->history
           : bootstrap->order.begun  ? bootstrap->order.start.history
                                     : NULL;
}

// Nothing is given, or not now.
static void on_none(struct follow *follow, const struct message_welcome *welcome)
{
    struct bootstrap *bootstrap = &follow->bootstrap;
    char words[128];
    link_words(words, sizeof words, welcome->reason);
    bool later = welcome->answer == ANSWER_FULL || welcome->answer == ANSWER_WAIT;
    if (later) {
        donors_told(&bootstrap->donors, &follow->parents, welcome, follow->instance->node->node);
    } else {
        donors_refused(&bootstrap->donors);
    }
    bootstrap->told = true;
    follow_state(follow, "no snapshot from %s%s: %s", bootstrap->link.address, later ? " yet" : "",
                 words);
    LOG_GATED(&none_gate, LOG_INFO, follow->instance->name, "no snapshot from %s%s: %s",
              bootstrap->link.address, later ? " yet" : "", words);
    leave_for_next(follow, ERR_REFUSED, later ? "later" : "refused");
}

static int on_welcome(struct follow *follow, struct bytes payload)
{
    struct bootstrap *bootstrap = &follow->bootstrap;
    struct message_welcome welcome;
    int error = message_welcome_decode(payload, &welcome);
    if (error != OK) {
        return error;
    }
    if (welcome.answer != ANSWER_RESUME || welcome.history.size != HISTORY_ID_BYTES) {
        on_none(follow, &welcome);
        return OK;
    }
    const uint8_t *history = wanted_history(follow);
    if (history != NULL && memcmp(welcome.history.data, history, HISTORY_ID_BYTES) != 0) {
        follow_alarm(follow, LOG_ERROR, "%s holds another history: nothing is taken from it",
                     bootstrap->link.address);
        leave_for_next(follow, ERR_HISTORY, "another history");
        return OK;
    }
    memcpy(bootstrap->history, welcome.history.data, HISTORY_ID_BYTES);
    bootstrap->stage = BOOTSTRAP_STREAM;
    log_line(LOG_INFO, follow->instance->name, "building the store from %s",
             bootstrap->link.address);
    bootstrap->told = true;
    follow_state(follow, "building the store from %s", bootstrap->link.address);
    ask(follow);
    return OK;
}

static void post(struct follow *follow, enum build_kind kind);

static void refuse_slice(struct follow *follow, const char *reason)
{
    follow_alarm(follow, LOG_ERROR, "a slice of the snapshot from %s is not added: %s",
                 follow->bootstrap.link.address, reason);
}

// What keeps a slice from being where it was asked for, else NULL.
static const char *misplaced(const struct bootstrap *bootstrap, struct bytes bytes)
{
    struct block_header header;
    if (bytes.size != BLOCK_HEADER_BYTES || block_header_decode(&header, bytes.data) != OK) {
        return "its place is damaged";
    }
    if (memcmp(header.history, bootstrap->history, HISTORY_ID_BYTES) != 0) {
        return "it is of another history than the welcome";
    }
    return header.number < bootstrap->asked_least ? "it is older than was asked for" : NULL;
}

static int on_slice(struct follow *follow, struct bytes payload)
{
    struct bootstrap *bootstrap = &follow->bootstrap;
    struct message_slice_items items;
    int error = message_slice_items_decode(payload, &items);
    if (error != OK || bootstrap->asked == 0 || items.id != bootstrap->asked) {
        return ERR_PROTOCOL;
    }
    bootstrap->asked = 0;
    const char *reason = misplaced(bootstrap, items.header);
    if (reason != NULL) {
        refuse_slice(follow, reason);
        leave_for_next(follow, ERR_PROTOCOL, reason);
        return OK;
    }
    if (bootstrap->ordered) {
        leave(follow, ERR_BUSY, "the journal is being begun anew"); // it will be asked for again
        return OK;
    }
    buf_clear(&bootstrap->payload);
    buf_append_bytes(&bootstrap->payload, payload);
    bootstrap->donors.at->gave = true;
    donors_gave(&bootstrap->donors);
    post(follow, BUILD_ADD);
    return OK;
}

static int on_message(struct link *link, uint16_t code, struct bytes payload)
{
    struct follow *follow = link->owner;
    switch (follow->bootstrap.stage) {
    case BOOTSTRAP_GREETING:
        return code == MESSAGE_welcome ? on_welcome(follow, payload) : ERR_PROTOCOL;
    case BOOTSTRAP_STREAM:
        return code == MESSAGE_slice_items ? on_slice(follow, payload) : ERR_PROTOCOL;
    default:
        return OK;
    }
}

static void on_close(struct link *link, int error)
{
    struct follow *follow = link->owner;
    struct bootstrap *bootstrap = &follow->bootstrap;
    const char *words = link->closed_by_peer ? link->last_words : error_text(error);
    if (bootstrap->stage == BOOTSTRAP_STREAM && !follow->closing) {
        follow_alarm(follow, LOG_WARN, "the snapshot from %s broke off: %s", link->address, words);
        next_donor(follow);
    } else if (bootstrap->stage == BOOTSTRAP_GREETING && !follow->closing) {
        LOG_GATED(&none_gate, LOG_INFO, follow->instance->name, "no snapshot from %s: %s",
                  link->address, words);
        donors_refused(&bootstrap->donors);
        next_donor(follow);
    }
    bootstrap->stage = BOOTSTRAP_IDLE;
    bootstrap->asked = 0;
    if (!follow->closing && !bootstrap->ordered) {
        try_later(follow);
    }
    follow_end_if_over(follow);
}

static void connect_donor(struct follow *follow)
{
    static const struct link_ops ops = {
        .on_message = on_message, .on_connected = on_connected, .on_close = on_close};
    struct bootstrap *bootstrap = &follow->bootstrap;
    const struct node_options *node = follow->instance->node;
    if (!choose_donor(follow)) {
        try_later(follow);
        return;
    }
    const struct endpoint *endpoint = &bootstrap->donors.at->endpoint;
    const char *text = endpoint->address;
    int fd;
    int error = address_connect(&endpoint->parsed, &fd);
    if (error != OK) {
        follow_alarm(follow, LOG_WARN, "cannot connect to %s: %s", text, error_text(error));
        donors_refused(&bootstrap->donors);
        next_donor(follow);
        try_later(follow);
        return;
    }
    bootstrap->stage = BOOTSTRAP_GREETING;
    link_open(&bootstrap->link, follow->loop, fd, true, node->heartbeat * NS_PER_MS,
              node->silence * NS_PER_MS, &ops);
    bootstrap->link.owner = follow;
    bootstrap->link.scope = follow->instance->name;
    snprintf(bootstrap->link.address, sizeof bootstrap->link.address, "%s", text);
}

// ---- what comes next ---------------------------------------------------------------------------

static void on_restarted(struct task *task)
{
    struct bootstrap *bootstrap = CONTAINER_OF(task, struct bootstrap, restart.answered);
    struct follow *follow = CONTAINER_OF(bootstrap, struct follow, bootstrap);
    bootstrap->ordered = false;
    if (bootstrap->restart.error == OK) {
        bootstrap->journal_lost = false;
        bootstrap->birth.size = 0;
        follow_journal_restarted(follow);
        bootstrap_look(follow);
    } else if (!follow->closing) {
        try_later(follow); // a full disk; where the instance has stopped, it is told then
    }
    follow_end_if_over(follow);
}

// The journal begins anew where the snapshot began. It does so already when the log from there on
// has got lost too, and it must not when more has been shown or received since the snapshot was
// asked for: then the snapshot is of no use any more. The store in use is frozen, so what it shows
// is final.
static void restart_journal(struct follow *follow)
{
    struct bootstrap *bootstrap = &follow->bootstrap;
    struct instance *instance = follow->instance;
    const struct block_header *start = &bootstrap->order.start;
    struct journal_place oldest = journal_oldest(instance->journal);
    bool there = oldest.number == start->number && hash128_equal(oldest.chain, start->chain);
    if (there || start->number < first_least(follow)) {
        post(follow, BUILD_DROP);
        return;
    }
    if (follow->stage != FOLLOW_IDLE) {
        if (intake_is_stuck(follow)) {
            follow_leave(follow, ERR_DAMAGED, true, "the journal is begun anew");
        }
        loop_timer_set(follow->loop, &bootstrap->timer, FIRST_PAUSE_MS * NS_PER_MS);
        return;
    }
    loop_timer_clear(&follow->retry); // nothing is followed meanwhile
    bootstrap->ordered = true;
    bootstrap->restart = (struct restart_order){.instance = instance,
                                                .before = *start,
                                                .birth = bootstrap->birth,
                                                .loop = follow->loop,
                                                .answered.run = on_restarted};
    instance_restart_journal(&bootstrap->restart);
}

static void proceed(struct follow *follow)
{
    struct bootstrap *bootstrap = &follow->bootstrap;
    const struct build_order *order = &bootstrap->order;
    if (!atomic_load(&follow->instance->wants_build) && !bootstrap->journal_lost) {
        leave(follow, OK, "the store is built");
        return;
    }
    bool other = order->begun && memcmp(order->start.history, wanted_history(follow),
                                        HISTORY_ID_BYTES) != 0;
    if (other) {
        post(follow, BUILD_DROP); // it is of no use here
    } else if (bootstrap->journal_lost && !order->freeze) {
        locate(follow); // it got lost meanwhile
    } else if (bootstrap->journal_lost && order->begun) {
        restart_journal(follow);
    } else if (order->complete) {
        bootstrap->told = true;
        follow_state(follow, "the snapshot is complete, the log is added to it");
        leave(follow, OK, "the snapshot is complete");
        loop_timer_set(follow->loop, &bootstrap->timer, LOG_POLL_NS);
    } else if (bootstrap->stage == BOOTSTRAP_STREAM) {
        if (bootstrap->asked == 0) {
            ask(follow);
        }
    } else if (bootstrap->stage == BOOTSTRAP_IDLE) {
        connect_donor(follow);
    }
}

// A slice is some progress, but none that makes up for whole builds that came to nothing.
static void added(struct bootstrap *bootstrap)
{
    if (bootstrap->order.kind == BUILD_ADD) {
        bootstrap->donors.rounds = (unsigned)u64_min(bootstrap->given_up, ROUNDS_MAX);
    }
}

// The build has come to nothing, perhaps by what one of them gave.
static void blame_donors(struct follow *follow)
{
    struct buf donors = {0};
    for (unsigned i = 0; i < follow->parents.count; i++) {
        const struct parent *parent = follow->parents.all[i];
        if (parent->gave) {
            buf_format(&donors, "%s%s", donors.size > 0 ? ", " : "", parent->endpoint.address);
        }
    }
    if (donors.size == 0) {
        buf_format(&donors, "what an earlier run was given");
    }
    follow_alarm(follow, LOG_ERROR, "the store built from %.*s came to nothing",
                 (int)donors.size, (const char *)donors.data);
    buf_free(&donors);
}

static void on_answered(struct task *task)
{
    struct bootstrap *bootstrap = CONTAINER_OF(task, struct bootstrap, order.answered);
    struct follow *follow = CONTAINER_OF(bootstrap, struct follow, bootstrap);
    int error = bootstrap->order.error;
    bootstrap->ordered = false;
    if (follow->closing) {
        follow_end_if_over(follow);
        return;
    }
    if (error == ERR_STOPPED) {
        leave(follow, error, error_text(error));
        return;
    }
    bool given_up = bootstrap->order.given_up > bootstrap->given_up;
    bootstrap->given_up = bootstrap->order.given_up;
    if (given_up && error == OK) {
        blame_donors(follow);
    }
    for (unsigned i = 0; i < follow->parents.count && !bootstrap->order.begun; i++) {
        follow->parents.all[i]->gave = false;
    }
    if (error == OK && !given_up) {
        added(bootstrap);
        proceed(follow);
        return;
    }
    if (error != OK && bootstrap->order.kind == BUILD_ADD) {
        refuse_slice(follow, error_text(error));
    } else if (error != OK) {
        follow_alarm(follow, LOG_WARN, "no other store can be built yet: %s", error_text(error));
    }
    if (bootstrap->stage == BOOTSTRAP_IDLE) {
        next_donor(follow);
        try_later(follow);
    } else {
        leave_for_next(follow, error, error != OK ? error_text(error) : "it came to nothing");
    }
}

static void post(struct follow *follow, enum build_kind kind)
{
    struct bootstrap *bootstrap = &follow->bootstrap;
    CHECK(!bootstrap->ordered);
    bootstrap->ordered = true;
    bootstrap->order =
        (struct build_order){.instance = follow->instance,
                             .kind = kind,
                             .freeze = bootstrap->journal_lost,
                             .payload = buf_bytes(&bootstrap->payload),
                             .from = bytes_of(bootstrap->from, bootstrap->from_size),
                             .loop = follow->loop,
                             .answered.run = on_answered};
    build_post(&bootstrap->order);
}

static void locate(struct follow *follow) { post(follow, BUILD_LOCATE); }

static void on_timer(struct timer *timer)
{
    struct bootstrap *bootstrap = CONTAINER_OF(timer, struct bootstrap, timer);
    bootstrap_look(CONTAINER_OF(bootstrap, struct follow, bootstrap));
}

// ---- for the follower --------------------------------------------------------------------------

void bootstrap_look(struct follow *follow)
{
    struct bootstrap *bootstrap = &follow->bootstrap;
    bool wanted = atomic_load(&follow->instance->wants_build) || bootstrap->journal_lost;
    if (!wanted && bootstrap->told) {
        bootstrap->told = false;
        follow_state(follow, follow->stage == FOLLOW_STREAM ? "following" : "the store is built");
    }
    if (!wanted) {
        // Also when it was built while the journal was begun anew: then no answer ends the link,
        // which has a place there that others wait for.
        leave(follow, OK, "the store is built");
        donors_forget(&bootstrap->donors, &follow->parents);
    }
    if (wanted && !bootstrap->ordered && !follow->closing && follow->parents.listed > 0) {
        locate(follow);
    }
}

void bootstrap_journal_lost(struct follow *follow)
{
    atomic_store(&follow->instance->wants_build, true);
    if (!follow->bootstrap.journal_lost) {
        follow->bootstrap.journal_lost = true;
        if (!timer_is_set(&follow->bootstrap.timer)) {
            bootstrap_look(follow);
        }
    }
}

void bootstrap_resumed(struct follow *follow)
{
    follow->bootstrap.journal_lost = false;
    follow->bootstrap.birth.size = 0;
}

void bootstrap_fork(struct follow *follow, const struct birth *birth)
{
    follow->bootstrap.birth = *birth;
    bootstrap_journal_lost(follow);
}

void bootstrap_open(struct follow *follow)
{
    follow->bootstrap = (struct bootstrap){0};
    timer_init(&follow->bootstrap.timer, on_timer);
}

void bootstrap_close(struct follow *follow)
{
    struct bootstrap *bootstrap = &follow->bootstrap;
    loop_timer_clear(&bootstrap->timer);
    if (bootstrap->stage != BOOTSTRAP_IDLE) {
        link_close(&bootstrap->link, OK);
    }
}

bool bootstrap_over(const struct follow *follow)
{
    return follow->bootstrap.stage == BOOTSTRAP_IDLE && !follow->bootstrap.ordered;
}
