// SPDX-License-Identifier: Apache-2.0
#include "proxy/source.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/data/digest.h"

#define FIRST_PAUSE_MS 20
#define REFUSED_FACTOR 5 // a replica that refused is tried this much more seldom

static const struct link_ops link_ops;

static void set_state(struct source *source, enum source_state state)
{
    atomic_store(&source->state, state);
}

static uint64_t pause_ms(const struct source *source)
{
    uint64_t longest = source->instance->node->reconnect;
    if (source->refused) {
        return random_jitter_ms(longest * REFUSED_FACTOR);
    }
    unsigned doublings = source->failures < 16 ? source->failures : 16;
    return random_jitter_ms(u64_min(longest, (uint64_t)FIRST_PAUSE_MS << doublings));
}

static void wait_for_next(struct source *source)
{
    set_state(source, SOURCE_WAITING);
    loop_timer_set(source->instance->home, &source->timer, pause_ms(source) * NS_PER_MS);
    source->failures++;
}

static void connect_now(struct source *source)
{
    struct instance *instance = source->instance;
    int fd;
    // An empty proxy has no rows, so there is nothing to fetch until a parent gave it a history.
    if (!journal_has_history(instance->journal) ||
        address_connect(&source->address, &fd) != OK) {
        wait_for_next(source);
        return;
    }
    set_state(source, SOURCE_CONNECTING);
    uint64_t silence_ns = instance->node->silence * NS_PER_MS;
    loop_timer_set(instance->home, &source->timer, silence_ns);
    link_open(&source->link, instance->home, fd, true, instance->node->heartbeat * NS_PER_MS,
              silence_ns, &link_ops);
    source->link.owner = source;
    source->link.scope = instance->name;
    snprintf(source->link.address, sizeof source->link.address, "%s", source->text);
}

static void on_timer(struct timer *timer)
{
    struct source *source = CONTAINER_OF(timer, struct source, timer);
    if (source_state(source) == SOURCE_CONNECTING) {
        source_leave(source, ERR_TIMEOUT, "no welcome in time");
    } else if (source_state(source) == SOURCE_WAITING) {
        connect_now(source);
    }
}

void source_open(struct source *source, struct instance *instance, unsigned number,
                 const struct endpoint *endpoint, const struct source_ops *ops, void *owner)
{
    CHECK(source_state(source) == SOURCE_CLOSED);
    *source = (struct source){.instance = instance,
                              .ops = ops,
                              .owner = owner,
                              .number = number,
                              .address = endpoint->parsed,
                              .listed = true,
                              .next_id = 1};
    snprintf(source->text, sizeof source->text, "%s", endpoint->address);
    list_init(&source->requests);
    timer_init(&source->timer, on_timer);
}

void source_start(struct source *source) { connect_now(source); }

void source_close(struct source *source)
{
    source->closing = true;
    loop_timer_clear(&source->timer);
    switch (source_state(source)) {
    case SOURCE_CONNECTING:
    case SOURCE_READY:
        set_state(source, SOURCE_LEAVING);
        link_close(&source->link, OK);
        break;
    case SOURCE_WAITING:
        set_state(source, SOURCE_CLOSED);
        source->ops->on_lost(source, false);
        break;
    case SOURCE_LEAVING:
    case SOURCE_CLOSED:
        break;
    }
}

void source_leave(struct source *source, int error, const char *reason)
{
    enum source_state state = source_state(source);
    if (state == SOURCE_CONNECTING || state == SOURCE_READY) {
        log_line(LOG_WARN, source->instance->name, "leaving replica %s: %s", source->text, reason);
        set_state(source, SOURCE_LEAVING);
        loop_timer_clear(&source->timer);
        link_close(&source->link, error);
    }
}

// ---- requests ----------------------------------------------------------------------------------

struct source_request *source_ask(struct source *source, struct flight *const *flights,
                                  unsigned count)
{
    CHECK(source_state(source) == SOURCE_READY && count > 0 && count <= FETCH_ITEMS_MAX);
    struct source_request *request = mem_zalloc(sizeof *request);
    request->id = source->next_id++;
    request->sent_ns = loop_now_ns(source->instance->home);
    request->count = count;
    struct buf items = {0};
    fetch_items_begin(&items, count);
    for (unsigned i = 0; i < count; i++) {
        flight_board(flights[i], &request->flights[i]);
        request->bytes += flight_cost(flights[i]);
        fetch_ask_append(&items, &(struct fetch_ask){flight_key(flights[i]), flights[i]->version});
    }
    list_append(&source->requests, &request->node);
    atomic_fetch_add(&source->in_flight, 1);
    const struct message_fetch message = {.id = request->id, .items = buf_bytes(&items)};
    message_fetch_encode(link_out(&source->link), &message);
    link_wrote(&source->link);
    buf_free(&items);
    METRIC_ADD(source->instance->metrics, instance, fetch_sent, count);
    return request;
}

static void finish(struct source *source, struct source_request *request)
{
    for (unsigned i = 0; i < request->count; i++) {
        CHECK(request->flights[i] == NULL);
    }
    atomic_fetch_sub(&source->in_flight, 1);
    mem_free(request);
}

static int on_fetched(struct source *source, struct bytes payload)
{
    struct message_fetched message;
    int error = message_fetched_decode(payload, &message);
    if (error != OK) {
        return error;
    }
    struct fetch_answer answers[FETCH_ITEMS_MAX];
    unsigned count;
    error = fetch_answers_decode(message.items, answers, &count);
    if (error != OK) {
        return error;
    }
    LIST_FOR_EACH(node, &source->requests) {
        struct source_request *request = CONTAINER_OF(node, struct source_request, node);
        if (request->id == message.id && request->count == count) {
            list_remove(&request->node);
            source->failures = 0;
            source->ops->on_answers(source, request, &message, answers);
            finish(source, request);
            return OK;
        }
    }
    return ERR_PROTOCOL; // an answer to no question
}

// ---- the link ----------------------------------------------------------------------------------

// Versions and indexes are of the view's history. The journal's may be the next one already.
static void locate(struct source *source, struct journal_place *ret_place)
{
    struct journal *journal = source->instance->journal;
    struct view *view = instance_pin(source->instance);
    bool shown = view != NULL && view->place.number > 0;
    *ret_place = shown ? view->place : journal_end(journal);
    memcpy(source->history, shown ? view->history : journal_history(journal), HISTORY_ID_BYTES);
    view_release(view);
}

bool source_is_outdated(const struct source *source)
{
    struct view *view = instance_pin(source->instance);
    bool outdated = view != NULL && view->place.number > 0 &&
                    memcmp(view->history, source->history, HISTORY_ID_BYTES) != 0;
    view_release(view);
    return outdated;
}

static void on_connected(struct link *link)
{
    struct source *source = link->owner;
    struct instance *instance = source->instance;
    struct journal_place end;
    locate(source, &end);
    uint8_t chain[HASH128_BYTES];
    hash128_store(chain, end.chain);
    const struct message_hello hello = {
        .protocol = PEER_PROTOCOL,
        .cluster = bytes_text(instance->node->cluster),
        .instance = bytes_text(instance->name),
        .node = bytes_text(instance->node->node),
        .role = (uint64_t)instance->options->role,
        .purpose = PURPOSE_FETCH,
        .history = bytes_of(source->history, HISTORY_ID_BYTES),
        .index = end.index,
        .block = end.number,
        .chain = bytes_of(chain, sizeof chain),
        .digest_algorithm = DIGEST_ALGORITHM,
    };
    message_hello_encode(link_out(link), &hello);
    link_wrote(link);
}

static void note_refusal(struct source *source, struct bytes reason)
{
    source->refused = true;
    if (!source->refusal_logged) {
        source->refusal_logged = true;
        int size = (int)u64_min(reason.size, 200);
        log_line(LOG_WARN, source->instance->name, "replica %s is not used: %.*s", source->text,
                 size, (const char *)reason.data);
    }
}

// It has just begun: as one that is not there yet, and will be in a moment.
static void note_start(struct source *source, struct bytes reason)
{
    source->refused = false;
    LOG_GATED(&source->lost_gate, LOG_INFO, source->instance->name,
              "replica %s is not used yet: %.*s", source->text,
              (int)u64_min(reason.size, 200), (const char *)reason.data);
}

static int on_welcome(struct source *source, struct bytes payload)
{
    struct message_welcome welcome;
    int error = message_welcome_decode(payload, &welcome);
    if (error != OK) {
        return error;
    }
    struct bytes history = bytes_of(source->history, HISTORY_ID_BYTES);
    if (welcome.answer == ANSWER_BEHIND) {
        note_start(source, welcome.reason);
        return ERR_BEHIND;
    }
    if (welcome.answer != ANSWER_RESUME) {
        note_refusal(source, welcome.reason);
        return ERR_REFUSED;
    }
    if (welcome.protocol != PEER_PROTOCOL || !bytes_equal(welcome.history, history)) {
        note_refusal(source, bytes_text("another history or protocol"));
        return ERR_REFUSED;
    }
    loop_timer_clear(&source->timer);
    source->ready_ns = loop_now_ns(source->instance->home);
    source->welcomed = true;
    source->refused = false;
    source->refusal_logged = false;
    set_state(source, SOURCE_READY);
    LOG_GATED(&source->ready_gate, LOG_INFO, source->instance->name, "fetching from replica %s",
              source->text);
    source->ops->on_ready(source, welcome.index);
    return OK;
}

static int on_message(struct link *link, uint16_t code, struct bytes payload)
{
    struct source *source = link->owner;
    enum source_state state = source_state(source);
    atomic_store(&source->rtt_ns, link->rtt_ns);
    if (state == SOURCE_LEAVING) {
        return OK;
    }
    if (source_is_outdated(source)) {
        source_leave(source, ERR_HISTORY, "the data here is that of another history now");
        return OK;
    }
    if (code == MESSAGE_welcome && state == SOURCE_CONNECTING) {
        return on_welcome(source, payload);
    }
    if (code == MESSAGE_fetched && state == SOURCE_READY) {
        return on_fetched(source, payload);
    }
    if (state == SOURCE_READY && source->ops->on_message != NULL) {
        return source->ops->on_message(source, code, payload);
    }
    return ERR_PROTOCOL;
}

// One that takes connections and drops them at once is tried no faster than one that is not there.
static void note_loss(struct source *source, int error)
{
    struct instance *instance = source->instance;
    if (loop_now_ns(instance->home) - source->ready_ns > instance->node->reconnect * NS_PER_MS) {
        source->failures = 0;
    }
    LOG_GATED(&source->lost_gate, LOG_WARN, instance->name, "replica %s is lost: %s", source->text,
              error_text(error));
}

static void on_close(struct link *link, int error)
{
    struct source *source = link->owner;
    // One that is left was ready too, unless it never said welcome.
    bool was_ready = source->welcomed;
    source->welcomed = false;
    if (source_state(source) == SOURCE_READY) {
        note_loss(source, error);
    }
    if (!link->closed_by_peer && (error == ERR_CHECKSUM || error == ERR_PROTOCOL)) {
        METRIC_ADD(source->instance->metrics, instance, fetch_bad_frames, 1);
    }
    loop_timer_clear(&source->timer);
    set_state(source, SOURCE_LEAVING);
    struct list *node;
    while ((node = list_take(&source->requests)) != NULL) {
        struct source_request *request = CONTAINER_OF(node, struct source_request, node);
        source->ops->on_unanswered(source, request);
        finish(source, request);
    }
    if (source->closing) {
        set_state(source, SOURCE_CLOSED);
    } else {
        wait_for_next(source);
    }
    source->ops->on_lost(source, was_ready);
}

static const struct link_ops link_ops = {
    .on_message = on_message,
    .on_connected = on_connected,
    .on_close = on_close,
};
