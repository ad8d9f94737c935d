// SPDX-License-Identifier: Apache-2.0
#include "common/tree/forward.h"

#include "common/base/clock.h"
#include "common/base/mem.h"
#include "common/tree/follow.h"
#include "common/wire/write_items.h"

// ---- desk --------------------------------------------------------------------------------------

struct forward {
    struct instance *instance;
    int (*carry_out)(void *owner, struct forwarded *write); // NULL: nobody does
    void *owner;
    pthread_mutex_t lock; // guards what follows
    uint64_t count, bytes;
    struct notice *quiet;
};

struct forward *forward_open(struct instance *instance)
{
    struct forward *forward = mem_zalloc(sizeof *forward);
    forward->instance = instance;
    pthread_mutex_init(&forward->lock, NULL);
    return forward;
}

void forward_close(struct forward *forward)
{
    CHECK(forward->count == 0 && forward->bytes == 0);
    pthread_mutex_destroy(&forward->lock);
    mem_free(forward);
}

void forward_serve(struct instance *instance, void *owner,
                   int (*carry_out)(void *owner, struct forwarded *write))
{
    instance->forward->owner = owner;
    instance->forward->carry_out = carry_out;
}

// Under lock.
static void show(const struct forward *forward)
{
    METRIC_SET(forward->instance->metrics, instance, forwards, forward->count);
    METRIC_SET(forward->instance->metrics, instance, forwards_bytes, forward->bytes);
}

// Under lock. One always fits, or the largest could never be written.
static bool has_room(const struct forward *forward, uint64_t others, size_t size)
{
    return others == 0 || forward->bytes + size <= forward->instance->options->forward_bytes;
}

static bool count(struct forwarded *write)
{
    struct forward *forward = write->instance->forward;
    size_t size = sizeof *write + write->items.size + write->path.size;
    pthread_mutex_lock(&forward->lock);
    bool fits = forward->count < forward->instance->options->forward_max &&
                has_room(forward, forward->count, size);
    if (fits) {
        write->counted = size;
        forward->count++;
        forward->bytes += size;
        show(forward);
    }
    pthread_mutex_unlock(&forward->lock);
    METRIC_ADD(forward->instance->metrics, instance, forwards_refused, fits ? 0 : 1);
    return fits;
}

// `must`: also where there is no room.
static bool count_reply(struct forwarded *write, size_t size, bool must)
{
    struct forward *forward = write->instance->forward;
    pthread_mutex_lock(&forward->lock);
    CHECK(write->counted > 0);
    forward->bytes -= write->counted_reply;
    write->counted_reply = 0;
    bool fits = must || has_room(forward, forward->count - 1, size);
    if (fits) {
        write->counted_reply = size;
        forward->bytes += size;
    }
    show(forward);
    pthread_mutex_unlock(&forward->lock);
    return fits;
}

int forward_reply_fits(struct forwarded *write, size_t size)
{
    return count_reply(write, size, false) ? OK : ERR_BUSY;
}

void forward_end(struct forwarded *write)
{
    struct forward *forward = write->instance->forward;
    buf_free(&write->items);
    buf_free(&write->path);
    buf_free(&write->reply);
    if (write->counted == 0) {
        return;
    }
    pthread_mutex_lock(&forward->lock);
    CHECK(forward->count > 0);
    forward->count--;
    forward->bytes -= write->counted + write->counted_reply;
    write->counted = write->counted_reply = 0;
    show(forward);
    if (forward->count == 0 && forward->quiet != NULL) {
        notice_raise(forward->quiet);
    }
    pthread_mutex_unlock(&forward->lock);
}

void forward_drain(struct instance *instance, struct notice *quiet)
{
    struct forward *forward = instance->forward;
    pthread_mutex_lock(&forward->lock);
    forward->quiet = quiet;
    if (forward->count == 0) {
        notice_raise(quiet);
    }
    pthread_mutex_unlock(&forward->lock);
}

static void on_answered(struct task *task)
{
    struct forwarded *write = CONTAINER_OF(task, struct forwarded, task);
    write->answered(write);
}

static void answer(struct forwarded *write, int status)
{
    METRIC_ADD(write->instance->metrics, instance, writes_unknown,
               status == ERR_UNKNOWN_OUTCOME ? 1 : 0);
    write->status = status;
    write->task.run = on_answered;
    loop_post(write->loop, &write->task);
}

static void go_up(struct task *task);

int forward_submit(struct forwarded *write)
{
    struct instance *instance = write->instance;
    list_init(&write->node);
    if (!count(write)) {
        return ERR_BUSY;
    }
    if (instance_leads(instance)) {
        struct forward *forward = instance->forward;
        return forward->carry_out == NULL ? ERR_NO_LEADER
                                          : forward->carry_out(forward->owner, write);
    }
    write->task.run = go_up;
    loop_post(instance->home, &write->task);
    return OK;
}

// ---- up ----------------------------------------------------------------------------------------

void forward_up_open(struct follow *follow) { list_init(&follow->forward.sent); }

static void over(struct forwarded *write, int status)
{
    list_remove(&write->node);
    loop_timer_clear(&write->timer);
    answer(write, status);
}

static void on_late(struct timer *timer)
{
    over(CONTAINER_OF(timer, struct forwarded, timer), ERR_UNKNOWN_OUTCOME);
}

// Adds this node's name to the path. False: it has been here, or comes from too far away.
static bool sign(struct forwarded *write)
{
    const char *node = write->instance->node->node;
    if (path_passed(buf_bytes(&write->path), node) ||
        write->path.size + strlen(node) + 1 > BEAT_PATH_MAX) {
        return false;
    }
    buf_append(&write->path, node, strlen(node) + 1);
    return true;
}

// Whoever has seen nothing means what this node is about to show.
static void name_history(const struct follow *follow, struct forwarded *write)
{
    static const uint8_t none[HISTORY_ID_BYTES];
    if (memcmp(write->meant, none, HISTORY_ID_BYTES) == 0) {
        memcpy(write->meant, follow->history, HISTORY_ID_BYTES);
    }
}

static void pass_on(struct follow *follow, struct forwarded *write)
{
    struct instance *instance = follow->instance;
    name_history(follow, write);
    uint64_t limit_ns = instance->options->commit_wait * NS_PER_MS;
    write->id = ++follow->forward.last_id;
    write->patience_ns = u64_min(write->patience_ns, limit_ns);
    struct message_forward message = {.id = write->id,
                                      .path = buf_bytes(&write->path),
                                      .patience_ns = write->patience_ns,
                                      .items = buf_bytes(&write->items),
                                      .history = bytes_of(write->meant, HISTORY_ID_BYTES)};
    message_forward_encode(link_out(&follow->link), &message);
    link_wrote(&follow->link);
    METRIC_ADD(instance->metrics, instance, forwards_sent, 1);
    buf_free(&write->items);
    list_append(&follow->forward.sent, &write->node);
    timer_init(&write->timer, on_late);
    loop_timer_set(follow->loop, &write->timer, write->patience_ns);
}

// On the home loop, where the follower lives.
static void go_up(struct task *task)
{
    struct forwarded *write = CONTAINER_OF(task, struct forwarded, task);
    struct instance *instance = write->instance;
    pthread_mutex_lock(&instance->lock);
    struct follow *follow = instance->upstream;
    pthread_mutex_unlock(&instance->lock);
    bool follows = follow != NULL && follow->stage == FOLLOW_STREAM && !follow->link.ending;
    if (follows && sign(write)) {
        pass_on(follow, write);
    } else {
        answer(write, ERR_NO_LEADER);
    }
}

static struct forwarded *find(const struct follow *follow, uint64_t id)
{
    LIST_FOR_EACH(node, &follow->forward.sent) {
        struct forwarded *write = CONTAINER_OF(node, struct forwarded, node);
        if (write->id == id) {
            return write;
        }
    }
    return NULL;
}

// An error that this node does not know says nothing about what was done.
static int status_of(const struct message_forwarded *message)
{
    if (message->error == 0) {
        return OK;
    }
    bool known = message->error <= INT32_MAX && error_known(-(int)message->error);
    return known ? -(int)message->error : ERR_UNKNOWN_OUTCOME;
}

int forward_on_answer(struct follow *follow, struct bytes payload)
{
    struct message_forwarded message;
    int error = message_forwarded_decode(payload, &message);
    if (error != OK || message.id == 0 || message.id > follow->forward.last_id ||
        (message.error == 0 && message.history.size != HISTORY_ID_BYTES)) {
        return ERR_PROTOCOL;
    }
    struct forwarded *write = find(follow, message.id);
    if (write == NULL) {
        return OK; // too late
    }
    int status = status_of(&message);
    if (status == OK) {
        memcpy(write->history, message.history.data, HISTORY_ID_BYTES);
        write->index = message.index;
        buf_append_bytes(&write->reply, message.reply);
        (void)count_reply(write, message.reply.size, true);
    }
    over(write, status);
    return OK;
}

void forward_lost(struct follow *follow)
{
    while (!list_empty(&follow->forward.sent)) {
        over(CONTAINER_OF(follow->forward.sent.next, struct forwarded, node), ERR_UNKNOWN_OUTCOME);
    }
}

// ---- giver -------------------------------------------------------------------------------------

// Refusals that wait for a child to read them: they count nowhere else. Another one ends the link:
// no node has so many under way (forward_max).
#define REFUSED_MAX 65536

struct taken {
    struct forwarded write;
    struct list node;            // in the giver's `taken` or `ready`
    struct forward_giver *giver; // NULL: its link is gone
    uint64_t id;                 // the child's
    uint64_t due_ns;             // its answer is of no use afterwards
};

static struct taken *taken_at(struct list *node) { return CONTAINER_OF(node, struct taken, node); }

static void drop(struct taken *taken)
{
    list_remove(&taken->node);
    forward_end(&taken->write);
    mem_free(taken);
}

static void on_taken_answered(struct forwarded *write)
{
    struct taken *taken = CONTAINER_OF(write, struct taken, write);
    struct forward_giver *giver = taken->giver;
    if (giver == NULL) {
        drop(taken);
        return;
    }
    list_remove(&taken->node);
    list_append(&giver->ready, &taken->node);
    giver->turn(giver);
}

void forward_giver_open(struct forward_giver *giver, struct instance *instance, struct loop *loop,
                        void (*turn)(struct forward_giver *giver))
{
    *giver = (struct forward_giver){.instance = instance, .loop = loop, .turn = turn};
    list_init(&giver->taken);
    list_init(&giver->ready);
}

int forward_on_write(struct forward_giver *giver, struct bytes payload)
{
    struct message_forward message;
    int error = message_forward_decode(payload, &message);
    if (giver->refused >= REFUSED_MAX) {
        return ERR_BUSY;
    }
    if (error != OK || message.id == 0 || message.path.size > BEAT_PATH_MAX ||
        message.history.size != HISTORY_ID_BYTES || write_items_check(message.items) != OK) {
        return ERR_PROTOCOL;
    }
    uint64_t limit_ns = giver->instance->options->commit_wait * NS_PER_MS;
    struct taken *taken = mem_zalloc(sizeof *taken);
    struct forwarded *write = &taken->write;
    taken->giver = giver;
    taken->id = message.id;
    write->instance = giver->instance;
    write->loop = giver->loop;
    write->answered = on_taken_answered;
    write->patience_ns = u64_min(message.patience_ns, limit_ns);
    taken->due_ns = clock_mono_ns() + write->patience_ns;
    memcpy(write->meant, message.history.data, HISTORY_ID_BYTES);
    buf_append_bytes(&write->items, message.items);
    buf_append_bytes(&write->path, message.path);
    list_append(&giver->taken, &taken->node);
    int status = forward_submit(write);
    if (status != OK) {
        giver->refused++;
        buf_free(&write->items);
        answer(write, status);
    }
    return OK;
}

static void send_answer(const struct taken *taken, struct link *link)
{
    const struct forwarded *write = &taken->write;
    struct message_forwarded message = {.id = taken->id};
    if (write->status == OK) {
        message.history = bytes_of(write->history, HISTORY_ID_BYTES);
        message.index = write->index;
        message.reply = buf_bytes(&write->reply);
    } else {
        message.error = (uint64_t)-write->status;
    }
    message_forwarded_encode(link_out(link), &message);
    link_wrote(link);
}

void forward_tell(struct forward_giver *giver, struct link *link)
{
    uint64_t now_ns = list_empty(&giver->ready) ? 0 : clock_mono_ns();
    LIST_FOR_EACH(node, &giver->ready) {
        struct taken *taken = taken_at(node);
        bool sent = link_may_talk(link);
        if (sent) {
            send_answer(taken, link);
        }
        if (sent || taken->due_ns <= now_ns) {
            giver->refused -= taken->write.counted == 0 ? 1 : 0;
            drop(taken);
        }
    }
}

void forward_giver_close(struct forward_giver *giver)
{
    while (!list_empty(&giver->ready)) {
        drop(taken_at(giver->ready.next));
    }
    struct list *node;
    while ((node = list_take(&giver->taken)) != NULL) {
        taken_at(node)->giver = NULL;
    }
}
