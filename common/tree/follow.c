// SPDX-License-Identifier: Apache-2.0
// The child side of an instance: one link at a time to one of the parents that the list in force
// names. A parent's answer can end the attempt but never this node's data: whatever it says, the
// node serves on, says in its state what is wrong, and looks elsewhere.
#include "common/tree/follow.h"

#include <stdarg.h>
#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"

#define UNIT_MS 10000u // of the oracle, where nobody is probed

static struct follow *follow_of(const struct instance *instance) { return instance->upstream; }

// ---- state for people --------------------------------------------------------------------------

static void set_words(struct follow *follow, const char *words)
{
    pthread_mutex_lock(&follow->instance->lock);
    snprintf(follow->status.state, sizeof follow->status.state, "%s", words);
    pthread_mutex_unlock(&follow->instance->lock);
}

void follow_state(struct follow *follow, const char *format, ...)
{
    char words[sizeof follow->status.state];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    set_words(follow, words);
}

void follow_alarm(struct follow *follow, enum log_level level, const char *format, ...)
{
    char words[sizeof follow->alarm];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof words, format, arguments);
    va_end(arguments);
    set_words(follow, words);
    if (strcmp(words, follow->alarm) != 0) {
        memcpy(follow->alarm, words, sizeof words);
        log_line(level, follow->instance->name, "%s", words);
    }
}

void follow_flows(struct follow *follow)
{
    follow->failures = 0;
    follow->alarm[0] = '\0';
}

void follow_connected(struct follow *follow, bool connected, const char *node)
{
    struct instance_metrics *metrics = follow->instance->metrics;
    METRIC_SET(metrics, instance, parent_connected, connected);
    if (connected) {
        bool other = follow->before[0] != '\0' && strcmp(follow->before, node) != 0;
        METRIC_ADD(metrics, instance, parent_changes, other ? 1 : 0);
        snprintf(follow->before, sizeof follow->before, "%s", node);
    }
    pthread_mutex_lock(&follow->instance->lock);
    follow->status.connected = connected;
    follow->status.since_ns = clock_mono_ns();
    follow->status.rtt_ns = follow->link.rtt_ns;
    snprintf(follow->status.node, sizeof follow->status.node, "%s", node);
    snprintf(follow->status.address, sizeof follow->status.address, "%s",
             follow->at->endpoint.address);
    pthread_mutex_unlock(&follow->instance->lock);
}

// Blocks flow no more.
static void disconnected(struct follow *follow)
{
    if (follow->stage == FOLLOW_STREAM) {
        bool lost = !follow->closing && follow->next == NULL;
        if (lost && follow->lost[0] == '\0') {
            memcpy(follow->lost, follow->before, sizeof follow->lost);
            follow->lost_ns = loop_now_ns(follow->loop);
        }
        METRIC_ADD(follow->instance->metrics, instance, parent_lost, lost ? 1 : 0);
        follow_connected(follow, false, "");
        report_stop(follow);
        forward_lost(follow);
        scout_stop(follow);
    }
}

// ---- leaving a parent --------------------------------------------------------------------------

void follow_journal_restarted(struct follow *follow)
{
    memcpy(follow->history, journal_history(follow->instance->journal), HISTORY_ID_BYTES);
    follow->has_history = true;
    follow->last_known = false;
    follow->judged = (struct beat){0};
    follow->failures = 0;
    follow->slow = false;
    if (!follow->closing) {
        loop_timer_set(follow->loop, &follow->retry, 0);
    }
}

void follow_leave(struct follow *follow, int error, bool same, const char *reason)
{
    if (follow->stage == FOLLOW_LEAVING || follow->stage == FOLLOW_IDLE) {
        return;
    }
    disconnected(follow);
    follow->stage = FOLLOW_LEAVING;
    follow->same = same;
    follow->at->tried = !same;
    link_dismiss(&follow->link, error, reason);
}

void follow_move(struct follow *follow, struct parent *next)
{
    log_line(LOG_INFO, follow->instance->name, "moving from %s to %s, which is the better parent",
             follow->link.address, next->endpoint.address);
    METRIC_ADD(follow->instance->metrics, instance, parent_moves, 1);
    parents_hold(&follow->parents, &follow->next, next);
    follow_leave(follow, OK, true, "there is a better parent");
}

// ---- handshake ---------------------------------------------------------------------------------

void follow_hello(struct follow *follow, struct link *link, enum hello_purpose purpose)
{
    const struct instance *instance = follow->instance;
    const struct node_options *node = instance->node;
    uint8_t chain[HASH128_BYTES];
    struct message_hello hello = {
        .protocol = PEER_PROTOCOL,
        .cluster = bytes_text(node->cluster),
        .instance = bytes_text(instance->name),
        .node = bytes_text(node->node),
        .role = (uint64_t)instance->options->role,
        .purpose = purpose,
        .digest_algorithm = DIGEST_ALGORITHM,
        .address = link_text(node->advertise != NULL ? node->advertise : node->peer),
        .site = bytes_text(follow->parents.site),
        .insists = purpose == PURPOSE_FOLLOW && follow->insists,
    };
    if (follow->has_history && follow->last_known) {
        hash128_store(chain, follow->last.chain);
        hello.history = bytes_of(follow->history, HISTORY_ID_BYTES);
        hello.index = block_end(&follow->last);
        hello.block = follow->last.number;
        hello.chain = bytes_of(chain, sizeof chain);
    }
    message_hello_encode(link_out(link), &hello);
    link_wrote(link);
}

// A root that has begun the history itself follows from what it wrote, not from the first block.
static void know_own(struct follow *follow)
{
    const struct journal *journal = follow->instance->journal;
    if (!follow->has_history && journal_has_history(journal)) {
        memcpy(follow->history, journal_history(journal), HISTORY_ID_BYTES);
        follow->has_history = true;
        follow->last_known = false;
    }
}

static void on_connected(struct link *link)
{
    struct follow *follow = link->owner;
    bool stands = follow->instance->lead != NULL;
    if (stands) {
        know_own(follow);
        stand_greet(follow);
    }
    intake_locate(follow);
    follow_hello(follow, link, stands ? PURPOSE_STAND : PURPOSE_FOLLOW);
}

// ---- link --------------------------------------------------------------------------------------

static int on_message(struct link *link, uint16_t code, struct bytes payload)
{
    struct follow *follow = link->owner;
    if (follow->stage == FOLLOW_GREETING) {
        return code == MESSAGE_welcome ? follow_on_welcome(follow, payload) : ERR_PROTOCOL;
    }
    if (follow->stage != FOLLOW_STREAM) {
        return OK;
    }
    switch (code) {
    case MESSAGE_heartbeat:
        return report_on_beat(follow, payload);
    case MESSAGE_bad_block:
        return intake_on_bad_block(follow, payload);
    case MESSAGE_tree_page:
        return ask_on_page(follow, payload);
    case MESSAGE_make_room:
        return scout_on_make_room(follow, payload);
    case MESSAGE_forwarded:
        return forward_on_answer(follow, payload);
    case MESSAGE_lead:
        return stand_on_lead(follow, payload);
    default:
        return ERR_PROTOCOL;
    }
}

static void on_close(struct link *link, int error)
{
    struct follow *follow = link->owner;
    const char *words = link->closed_by_peer ? link->last_words : error_text(error);
    disconnected(follow);
    if (!link->closed_by_peer && (error == ERR_CHECKSUM || error == ERR_PROTOCOL)) {
        METRIC_ADD(follow->instance->metrics, instance, parent_bad_frames, 1);
    }
    if (!follow->closing && follow->stage == FOLLOW_STREAM) {
        follow_alarm(follow, LOG_WARN, "lost %s: %s", link->address, words);
        oracle_rest_begin(&follow->at->lost, follow->parents.unit_ns,
                          loop_now_ns(follow->loop));
    } else if (!follow->closing && follow->stage == FOLLOW_GREETING) {
        follow_alarm(follow, LOG_WARN, "cannot follow %s: %s", link->address, words);
        follow->at->tried = true;
    }
    intake_reset(follow);
    follow->stage = FOLLOW_IDLE;
    if (!follow->closing) {
        choice_wait(follow);
    }
    follow_end_if_over(follow);
}

static void connect_parent(struct follow *follow)
{
    static const struct link_ops ops = {.on_message = on_message,
                                        .on_raw = intake_raw,
                                        .on_connected = on_connected,
                                        .on_close = on_close};
    const struct node_options *node = follow->instance->node;
    follow->starving = !choice_make(follow);
    if (follow->starving) {
        follow_state(follow, follow->instance->lead != NULL
                                 ? "no other root's log is taken"
                                 : "no parents are known: waiting for a list of them");
        return;
    }
    const char *text = follow->at->endpoint.address;
    int fd;
    int error = address_connect(&follow->at->endpoint.parsed, &fd);
    if (error != OK) {
        follow_alarm(follow, LOG_WARN, "cannot connect to %s: %s", text, error_text(error));
        follow->at->tried = true;
        choice_wait(follow);
        return;
    }
    if (follow->alarm[0] == '\0') {
        follow_state(follow, "connecting to %s", text);
    }
    follow->stage = FOLLOW_GREETING;
    link_open(&follow->link, follow->loop, fd, true, node->heartbeat * NS_PER_MS,
              choice_patience_ns(follow), &ops);
    follow->link.owner = follow;
    follow->link.scope = follow->instance->name;
    snprintf(follow->link.address, sizeof follow->link.address, "%s", text);
}

static void on_retry(struct timer *timer)
{
    struct follow *follow = CONTAINER_OF(timer, struct follow, retry);
    if (instance_state(follow->instance) == INSTANCE_STOPPED) {
        follow_alarm(follow, LOG_ERROR, "stopped: nothing is followed any more");
        return;
    }
    connect_parent(follow);
}

// ---- notices -----------------------------------------------------------------------------------

static void on_room(struct notice *notice)
{
    struct follow *follow = CONTAINER_OF(notice, struct follow, room);
    intake_check_room(follow);
    follow_end_if_over(follow);
}

static void on_repair(struct notice *notice)
{
    struct follow *follow = CONTAINER_OF(notice, struct follow, repair);
    intake_repair(follow, false);
    bootstrap_look(follow);
    follow_end_if_over(follow);
}

// Another list: somebody new is tried at once by whoever waits.
static void on_list(struct notice *notice)
{
    struct follow *follow = CONTAINER_OF(notice, struct follow, list);
    if (!follow->closing && choice_take_list(follow)) {
        if (follow->starving || timer_is_set(&follow->retry)) {
            loop_timer_set(follow->loop, &follow->retry, 0);
        }
        bootstrap_look(follow);
    }
    follow_end_if_over(follow);
}

// ---- open and close ----------------------------------------------------------------------------

static void hook(struct follow *follow, bool on)
{
    struct instance *instance = follow->instance;
    pthread_mutex_lock(&instance->lock);
    instance->room = on ? &follow->room : NULL;
    instance->repair = on ? &follow->repair : NULL;
    instance->upstream = on ? follow : NULL;
    pthread_mutex_unlock(&instance->lock);
}

void follow_end_if_over(struct follow *follow)
{
    bool pending = atomic_load(&follow->room.pending) || atomic_load(&follow->repair.pending) ||
                   atomic_load(&follow->list.pending);
    if (!follow->closing || follow->stage != FOLLOW_IDLE || pending || !bootstrap_over(follow) ||
        !scout_over(follow) || !ask_over(follow) || !stand_taker_over(follow)) {
        return;
    }
    struct notice *closed = follow->closed;
    intake_reset(follow);
    buf_free(&follow->bootstrap.payload);
    parents_hold(&follow->parents, &follow->at, NULL);
    parents_hold(&follow->parents, &follow->next, NULL);
    parents_hold(&follow->parents, &follow->scout.target, NULL);
    parents_hold(&follow->parents, &follow->bootstrap.donors.at, NULL);
    parents_close(&follow->parents);
    mem_free(follow);
    notice_raise(closed);
}

static void close_run(struct task *task)
{
    struct follow *follow = CONTAINER_OF(task, struct follow, close_task);
    follow->closing = true;
    hook(follow, false); // no notice is raised after this
    stand_taker_close(follow);
    endpoint_feed_unsubscribe(&follow->instance->parents, &follow->list);
    loop_timer_clear(&follow->retry);
    bootstrap_close(follow);
    scout_close(follow);
    ask_close(follow);
    age_alarm_close(follow);
    if (follow->stage != FOLLOW_IDLE) {
        link_close(&follow->link, OK);
    }
    follow_end_if_over(follow);
}

static void start_run(struct task *task)
{
    struct follow *follow = CONTAINER_OF(task, struct follow, start_task);
    (void)choice_take_list(follow); // of what came before it was subscribed to
    connect_parent(follow);
    bootstrap_look(follow);
    age_alarm_open(follow);
}

int follow_open(struct instance *instance)
{
    struct follow *follow = mem_zalloc(sizeof *follow);
    follow->instance = instance;
    follow->loop = instance->home;
    timer_init(&follow->retry, on_retry);
    list_init(&follow->tick.node);
    bootstrap_open(follow);
    scout_open(follow);
    ask_open(follow);
    forward_up_open(follow);
    uint64_t probe_ms = instance->options->probe;
    follow->parents.unit_ns = (probe_ms != 0 ? probe_ms : UNIT_MS) * NS_PER_MS;
    snprintf(follow->parents.site, sizeof follow->parents.site, "%s",
             instance->node->site != NULL ? instance->node->site : "");
    notice_init(&follow->room, loop_mailbox(follow->loop), on_room);
    notice_init(&follow->repair, loop_mailbox(follow->loop), on_repair);
    notice_init(&follow->list, loop_mailbox(follow->loop), on_list);
    follow->start_task.run = start_run;
    follow->close_task.run = close_run;
    follow->has_history = journal_has_history(instance->journal);
    if (follow->has_history) {
        memcpy(follow->history, journal_history(instance->journal), HISTORY_ID_BYTES);
    }
    follow_state(follow, "connecting");
    hook(follow, true);
    stand_taker_open(follow);
    endpoint_feed_subscribe(&instance->parents, &follow->list);
    loop_post(follow->loop, &follow->start_task);
    return OK;
}

void follow_close(struct instance *instance, struct notice *closed)
{
    struct follow *follow = follow_of(instance);
    CHECK(follow != NULL);
    follow->closed = closed;
    loop_post(follow->loop, &follow->close_task);
}

void follow_status(struct instance *instance, struct upstream_status *ret_status)
{
    *ret_status = (struct upstream_status){0};
    pthread_mutex_lock(&instance->lock);
    struct follow *follow = instance->upstream;
    if (follow != NULL) {
        *ret_status = follow->status;
    }
    pthread_mutex_unlock(&instance->lock);
}

bool follow_is_own_site(struct instance *instance, struct bytes site)
{
    struct upstream_status status;
    follow_status(instance, &status);
    const char *own = status.site[0] != '\0' ? status.site : instance->node->site;
    return site.size > 0 && bytes_equal(site, link_text(own));
}
