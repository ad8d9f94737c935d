// SPDX-License-Identifier: Apache-2.0
#include "common/chair/ties.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/digest.h"

#define RETRY_MS 50u       // before a link is tried again, at first; it doubles up to `reconnect`
#define FACTS_MAX 1000     // on their way; a root that says more than is taken is cut off

static struct log_gate refused_gate, many_gate;

// The link to a root that is made here. Home loop.
struct tie {
    struct ties *ties;
    unsigned root;
    struct address address;
    struct link link;
    struct timer retry;
    unsigned failures; // in a row
    bool open, up;
};

struct ties {
    struct ties_setup setup;
    struct loop *loop;
    struct tie all[ROOTS_MAX]; // that of the own root is not used
    _Atomic uint64_t accepted[ROOTS_MAX]; // links, ever
    _Atomic uint64_t facts;               // on their way
    struct task start_task, close_task;
    struct notice *closed;
    bool closing;
};

// An accepted link. Its loop.
struct ear {
    struct ties *ties;
    unsigned root;
    uint64_t number;
};

static const struct members *names_of(const struct ties *ties)
{
    return &ties->setup.instance->lead->members;
}

// ---- facts -------------------------------------------------------------------------------------

static void fact_run(struct task *task)
{
    struct tie_fact *fact = CONTAINER_OF(task, struct tie_fact, task);
    struct ties *ties = fact->owner;
    atomic_fetch_sub(&ties->facts, 1);
    fact->owner = ties->setup.owner;
    ties->setup.run(task);
}

static void post(struct ties *ties, const struct tie_fact *given)
{
    struct tie_fact *fact = mem_alloc(sizeof *fact);
    *fact = *given;
    fact->task.run = fact_run;
    fact->owner = ties;
    atomic_fetch_add(&ties->facts, 1);
    mailbox_post(ties->setup.to, &fact->task);
}

static bool take_history(struct tie_fact *fact, struct bytes history)
{
    fact->has_history = history.size == HISTORY_ID_BYTES;
    if (fact->has_history) {
        memcpy(fact->history, history.data, HISTORY_ID_BYTES);
    }
    return fact->has_history || history.size == 0;
}

static bool take_ancestor(struct tie_fact *fact, struct bytes ancestor)
{
    fact->has_ancestor = ancestor.size == HISTORY_ID_BYTES;
    if (fact->has_ancestor) {
        memcpy(fact->ancestor, ancestor.data, HISTORY_ID_BYTES);
    }
    return fact->has_ancestor || ancestor.size == 0;
}

static int take_claim(struct tie_fact *fact, struct bytes payload)
{
    struct message_claim message;
    int error = message_claim_decode(payload, &message);
    if (error == OK &&
        (!take_history(fact, message.history) || !take_ancestor(fact, message.ancestor))) {
        error = ERR_PROTOCOL;
    }
    fact->kind = TIE_CLAIM;
    fact->leadership = (struct leadership){.epoch = message.epoch, .leader = fact->root};
    return error;
}

static int take_promise(struct tie_fact *fact, struct bytes payload, const struct members *names)
{
    struct message_promise message;
    int error = message_promise_decode(payload, &message);
    if (error != OK || !take_history(fact, message.history) ||
        message.end_chain.size != HASH128_BYTES || message.epoch > EPOCH_MAX) {
        return ERR_PROTOCOL;
    }
    int leader = members_find(names, message.leader);
    fact->kind = TIE_PROMISE;
    fact->granted = message.granted != 0;
    fact->promise = (struct promise){
        .leadership = {.epoch = message.epoch,
                       .leader = leader < 0 ? ROOT_NOBODY : (unsigned)leader},
        .generation = message.generation,
        .blank = message.blank != 0,
    };
    memcpy(fact->promise.history, fact->history, HISTORY_ID_BYTES);
    fact->end = (struct log_end){.epoch = message.end_epoch,
                                 .block = message.end_block,
                                 .index = message.end_index,
                                 .chain = hash128_load(message.end_chain.data)};
    return OK;
}

static int take_word(struct tie_fact *fact, struct bytes payload)
{
    struct message_word message;
    int error = message_word_decode(payload, &message);
    if (error != OK || !take_history(fact, message.history) ||
        !take_ancestor(fact, message.ancestor)) {
        return ERR_PROTOCOL;
    }
    fact->kind = TIE_WORD;
    fact->leadership = (struct leadership){.epoch = message.epoch, .leader = fact->root};
    fact->block = message.block;
    fact->generation = message.generation;
    fact->member = message.member != 0;
    return OK;
}

static int take_ask(struct tie_fact *fact, struct bytes payload)
{
    struct message_ask message;
    fact->kind = TIE_ASK;
    return message_ask_decode(payload, &message);
}

static int take_go(struct tie_fact *fact, struct bytes payload)
{
    struct message_go message;
    int error = message_go_decode(payload, &message);
    if (error == OK) {
        fact->kind = TIE_GO;
        fact->leadership = (struct leadership){.epoch = message.epoch, .leader = fact->root};
    }
    return error;
}

static int take(struct tie_fact *fact, uint16_t code, struct bytes payload,
                const struct members *names)
{
    switch (code) {
    case MESSAGE_claim:
        return take_claim(fact, payload);
    case MESSAGE_promise:
        return take_promise(fact, payload, names);
    case MESSAGE_word:
        return take_word(fact, payload);
    case MESSAGE_ask:
        return take_ask(fact, payload);
    case MESSAGE_go:
        return take_go(fact, payload);
    default:
        return ERR_PROTOCOL;
    }
}

// ---- accepted ----------------------------------------------------------------------------------

static int on_heard(struct link *link, uint16_t code, struct bytes payload)
{
    struct ear *ear = link->owner;
    struct ties *ties = ear->ties;
    struct tie_fact fact = {.root = ear->root, .number = ear->number};
    if (ear->number != atomic_load(&ties->accepted[ear->root])) {
        return ERR_REFUSED; // it has made another one since
    }
    if (atomic_load(&ties->facts) >= FACTS_MAX) {
        LOG_GATED(&many_gate, LOG_WARN, link->scope, "%s says more than can be taken",
                  link->address);
        return ERR_BUSY;
    }
    int error = take(&fact, code, payload, names_of(ties));
    if (error == OK) {
        post(ties, &fact);
    }
    return error;
}

static void on_ear_close(struct link *link, int error)
{
    (void)error; // the one that made it tries again
    struct ear *ear = link->owner;
    post(ear->ties,
         &(struct tie_fact){.root = ear->root, .number = ear->number, .kind = TIE_DOWN});
    mem_free(ear);
    mem_free(link);
}

static struct bytes history_of(const struct instance *instance)
{
    const struct journal *journal = instance->journal;
    return journal_has_history(journal) ? bytes_of(journal_history(journal), HISTORY_ID_BYTES)
                                        : bytes_of(NULL, 0);
}

const char *ties_accept(struct ties *ties, struct link *link, const struct message_hello *hello)
{
    static const struct link_ops ops = {.on_message = on_heard, .on_close = on_ear_close};
    const struct instance *instance = ties->setup.instance;
    int root = members_find(names_of(ties), hello->node);
    struct tie_fact fact = {.kind = TIE_UP};
    if (hello->role != ROLE_ROOT || root < 0 || !take_history(&fact, hello->history)) {
        return "this is none of the roots here";
    }
    struct message_welcome welcome = {.protocol = PEER_PROTOCOL,
                                      .answer = ANSWER_RESUME,
                                      .node = bytes_text(instance->node->node),
                                      .role = ROLE_ROOT,
                                      .history = history_of(instance)};
    message_welcome_encode(link_out(link), &welcome);
    link_wrote(link);
    struct ear *ear = mem_alloc(sizeof *ear);
    *ear = (struct ear){.ties = ties,
                        .root = (unsigned)root,
                        .number = atomic_fetch_add(&ties->accepted[root], 1) + 1};
    link->scope = instance->name;
    link_adopt(link, &ops, ear);
    fact.root = ear->root;
    fact.number = ear->number;
    post(ties, &fact);
    return NULL;
}

// ---- made --------------------------------------------------------------------------------------

static void connect_tie(struct tie *tie);

static void end_if_over(struct ties *ties)
{
    bool open = false;
    for (unsigned i = 0; i < names_of(ties)->count; i++) {
        open = open || ties->all[i].open;
    }
    if (ties->closing && !open) {
        notice_raise(ties->closed);
    }
}

static void try_later(struct tie *tie)
{
    const struct node_options *node = tie->ties->setup.instance->node;
    uint64_t most_ms = u64_min(node->reconnect, (uint64_t)RETRY_MS << u64_min(tie->failures, 10));
    tie->failures++;
    loop_timer_set(tie->ties->loop, &tie->retry, random_jitter_ms(most_ms) * NS_PER_MS);
}

static void on_retry(struct timer *timer) { connect_tie(CONTAINER_OF(timer, struct tie, retry)); }

static void on_connected(struct link *link)
{
    struct tie *tie = link->owner;
    const struct instance *instance = tie->ties->setup.instance;
    struct message_hello hello = {.protocol = PEER_PROTOCOL,
                                  .cluster = bytes_text(instance->node->cluster),
                                  .instance = bytes_text(instance->name),
                                  .node = bytes_text(instance->node->node),
                                  .role = ROLE_ROOT,
                                  .purpose = PURPOSE_TALK,
                                  .history = history_of(instance),
                                  .digest_algorithm = DIGEST_ALGORITHM};
    message_hello_encode(link_out(link), &hello);
    link_wrote(link);
}

static int on_welcome(struct link *link, uint16_t code, struct bytes payload)
{
    struct tie *tie = link->owner;
    struct message_welcome welcome;
    struct tie_fact fact = {.root = tie->root, .own = true, .kind = TIE_UP};
    if (tie->up || code != MESSAGE_welcome || message_welcome_decode(payload, &welcome) != OK ||
        !take_history(&fact, welcome.history)) {
        return ERR_PROTOCOL; // nothing else is said on a link that is made here
    }
    char words[128];
    if (welcome.answer != ANSWER_RESUME) {
        link_words(words, sizeof words, welcome.reason);
        LOG_GATED(&refused_gate, LOG_WARN, link->scope,
                  "root %s at %s does not talk to this one: %s",
                  names_of(tie->ties)->all[tie->root].name, link->address, words);
        return ERR_REFUSED;
    }
    tie->up = true;
    tie->failures = 0;
    post(tie->ties, &fact);
    return OK;
}

static void on_close(struct link *link, int error)
{
    (void)error;
    struct tie *tie = link->owner;
    if (tie->up) {
        post(tie->ties, &(struct tie_fact){.root = tie->root, .own = true, .kind = TIE_DOWN});
    }
    tie->open = tie->up = false;
    if (!tie->ties->closing) {
        try_later(tie);
    }
    end_if_over(tie->ties);
}

static void connect_tie(struct tie *tie)
{
    static const struct link_ops ops = {
        .on_message = on_welcome, .on_connected = on_connected, .on_close = on_close};
    const struct instance *instance = tie->ties->setup.instance;
    int fd;
    if (address_connect(&tie->address, &fd) != OK) {
        try_later(tie);
        return;
    }
    tie->open = true;
    link_open(&tie->link, tie->ties->loop, fd, true, instance->node->heartbeat * NS_PER_MS,
              instance->node->silence * NS_PER_MS, &ops);
    tie->link.owner = tie;
    tie->link.scope = instance->name;
    snprintf(tie->link.address, sizeof tie->link.address, "%s",
             names_of(tie->ties)->all[tie->root].address);
}

// ---- saying ------------------------------------------------------------------------------------

struct letter {
    struct task task;
    struct tie *tie;
    struct buf frames;
};

static void on_letter(struct task *task)
{
    struct letter *letter = CONTAINER_OF(task, struct letter, task);
    struct tie *tie = letter->tie;
    if (tie->up && link_may_talk(&tie->link)) {
        struct bytes frames = buf_bytes(&letter->frames);
        buf_append(link_out(&tie->link), frames.data, frames.size);
        link_wrote(&tie->link);
    }
    buf_free(&letter->frames);
    mem_free(letter);
}

void ties_send(struct ties *ties, unsigned root, struct buf *frames)
{
    struct letter *letter = mem_alloc(sizeof *letter);
    *letter = (struct letter){.task.run = on_letter, .tie = &ties->all[root], .frames = *frames};
    *frames = (struct buf){0};
    loop_post(ties->loop, &letter->task);
}

// ---- life --------------------------------------------------------------------------------------

static void on_start(struct task *task)
{
    struct ties *ties = CONTAINER_OF(task, struct ties, start_task);
    for (unsigned i = 0; i < names_of(ties)->count && !ties->closing; i++) {
        if (i != names_of(ties)->own) {
            connect_tie(&ties->all[i]);
        }
    }
}

struct ties *ties_open(const struct ties_setup *setup)
{
    struct ties *ties = mem_zalloc(sizeof *ties);
    ties->setup = *setup;
    ties->loop = setup->instance->home;
    for (unsigned i = 0; i < names_of(ties)->count; i++) {
        struct tie *tie = &ties->all[i];
        const char *reason;
        tie->ties = ties;
        tie->root = i;
        timer_init(&tie->retry, on_retry);
        // Checked with the configuration.
        CHECK(address_parse(&tie->address, names_of(ties)->all[i].address, &reason) == OK);
    }
    ties->start_task.run = on_start;
    loop_post(ties->loop, &ties->start_task);
    return ties;
}

static void on_closing(struct task *task)
{
    struct ties *ties = CONTAINER_OF(task, struct ties, close_task);
    ties->closing = true;
    for (unsigned i = 0; i < names_of(ties)->count; i++) {
        loop_timer_clear(&ties->all[i].retry);
        if (ties->all[i].open) {
            link_close(&ties->all[i].link, OK);
        }
    }
    end_if_over(ties);
}

void ties_close(struct ties *ties, struct notice *closed)
{
    ties->closed = closed;
    ties->close_task.run = on_closing;
    loop_post(ties->loop, &ties->close_task);
}

void ties_free(struct ties *ties) { mem_free(ties); }
