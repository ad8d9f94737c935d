// SPDX-License-Identifier: Apache-2.0
#include "common/tree/regain.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/mem.h"
#include "common/data/digest.h"
#include "common/io/address.h"

// Nodes that hold another log: the oldest is forgotten first.
#define OTHERS_MAX 16

enum regain_stage { REGAIN_IDLE, REGAIN_GREETING, REGAIN_STREAM };

struct regain {
    struct instance *instance;
    struct link link;
    enum regain_stage stage;
    struct block_header last; // handed to the writer
    uint64_t until;           // the end of that node's journal, as it said
    struct buf bytes;         // of a block that is not whole yet
    struct task dial_task, close_task;
    struct notice room;
    struct notice *closed;
    bool closing;
    bool left;            // the link's end has been told
    pthread_mutex_t lock; // guards what follows
    bool busy;            // dial_task is posted, or a link is open
    char reach[ADDRESS_TEXT_BYTES], node[NODE_NAME_MAX + 1]; // of the child that is asked
    char others[OTHERS_MAX][NODE_NAME_MAX + 1];
    unsigned other;
};

static struct log_gate claim_gate, fail_gate;

// ---- ending ------------------------------------------------------------------------------------

static void end_if_over(struct regain *regain)
{
    if (regain->closing && regain->stage == REGAIN_IDLE && !atomic_load(&regain->room.pending)) {
        struct notice *closed = regain->closed;
        regain->closed = NULL;
        if (closed != NULL) {
            notice_raise(closed);
        }
    }
}

static void rest(struct regain *regain)
{
    regain->stage = REGAIN_IDLE;
    buf_free(&regain->bytes);
    pthread_mutex_lock(&regain->lock);
    regain->busy = false;
    pthread_mutex_unlock(&regain->lock);
    end_if_over(regain);
}

static void leave(struct regain *regain, int error, const char *reason)
{
    LOG_GATED(&fail_gate, LOG_WARN, regain->instance->name,
              "blocks that this root lacks could not be fetched from %s at %s: %s", regain->node,
              regain->reach, reason);
    regain->left = true;
    link_dismiss(&regain->link, error, reason);
}

// It is no child of this log: nothing is owed to it.
static void part(struct regain *regain, uint64_t index)
{
    struct instance *instance = regain->instance;
    log_line(LOG_ERROR, instance->name,
             "%s at %s holds another log than this root at index %llu: nothing is taken from it, "
             "writes are taken again", regain->node, regain->reach, (unsigned long long)index);
    pthread_mutex_lock(&regain->lock);
    memcpy(regain->others[regain->other++ % OTHERS_MAX], regain->node, sizeof regain->node);
    atomic_store(&instance->missing, 0);
    pthread_mutex_unlock(&regain->lock);
    METRIC_SET(instance->metrics, instance, lacks, 0);
    instance_wake_writer(instance);
    regain->left = true;
    link_dismiss(&regain->link, ERR_DIVERGED, "the logs have diverged");
}

// ---- blocks ------------------------------------------------------------------------------------

static void look_room(struct regain *regain)
{
    if (regain->stage != REGAIN_STREAM || regain->link.ending) {
        return;
    }
    if (instance_room(regain->instance)) {
        link_resume(&regain->link);
    } else {
        link_pause(&regain->link);
    }
}

static void on_room(struct notice *notice)
{
    struct regain *regain = CONTAINER_OF(notice, struct regain, room);
    look_room(regain);
    end_if_over(regain);
}

// The first block of what has come, if it is whole. False: more is needed, or *ret_error.
static bool take_block(struct regain *regain, int *ret_error)
{
    struct buf *bytes = &regain->bytes;
    struct block_header header;
    if (bytes->size < BLOCK_HEADER_BYTES) {
        return false;
    }
    *ret_error = block_header_decode(&header, bytes->data);
    size_t size = (size_t)BLOCK_HEADER_BYTES + header.payload_length;
    if (*ret_error != OK || bytes->size < size) {
        return false;
    }
    struct block *block;
    uint8_t *memory = mem_copy(bytes->data, size);
    *ret_error = block_decode(&block, bytes_of(memory, size), true);
    if (*ret_error != OK) {
        mem_free(memory);
        return false;
    }
    *ret_error = block_follows(&regain->last, block);
    if (*ret_error != OK) {
        block_release(block);
        return false;
    }
    block->received_ns = clock_mono_ns();
    regain->last = block->header;
    instance_receive(regain->instance, block);
    buf_consume(bytes, size);
    return true;
}

// Who has more comes again, or another that does.
static void look_end(struct regain *regain)
{
    if (regain->last.number >= regain->until) {
        link_dismiss(&regain->link, OK, "that was all");
    }
}

static int on_raw(struct link *link, struct bytes data)
{
    struct regain *regain = link->owner;
    if (regain->stage != REGAIN_STREAM || link->raw_block != 0) {
        return ERR_PROTOCOL;
    }
    int error = OK;
    buf_append_bytes(&regain->bytes, data);
    while (take_block(regain, &error)) {
    }
    if (error != OK) {
        leave(regain, error, "a block failed its check");
    } else {
        look_room(regain);
        look_end(regain);
    }
    return OK;
}

// ---- the link ----------------------------------------------------------------------------------

static void on_connected(struct link *link)
{
    struct regain *regain = link->owner;
    const struct instance *instance = regain->instance;
    const struct node_options *node = instance->node;
    struct journal_place end = journal_end(instance->journal);
    const uint8_t *history = journal_history(instance->journal);
    uint8_t chain[HASH128_BYTES];
    hash128_store(chain, end.chain);
    block_genesis(&regain->last, history);
    regain->last.number = end.number;
    regain->last.first_index = end.index + 1; // block_end of a header without batches
    regain->last.chain = end.chain;
    struct message_hello hello = {.protocol = PEER_PROTOCOL,
                                  .cluster = bytes_text(node->cluster),
                                  .instance = bytes_text(instance->name),
                                  .node = bytes_text(node->node),
                                  .role = ROLE_ROOT,
                                  .purpose = PURPOSE_REGAIN,
                                  .history = bytes_of(history, HISTORY_ID_BYTES),
                                  .index = end.index,
                                  .block = end.number,
                                  .chain = bytes_of(chain, sizeof chain),
                                  .digest_algorithm = DIGEST_ALGORITHM,
                                  .site = link_text(node->site)};
    message_hello_encode(link_out(link), &hello);
    link_wrote(link);
}

static int on_welcome(struct regain *regain, struct bytes payload)
{
    struct message_welcome welcome;
    int error = message_welcome_decode(payload, &welcome);
    if (error != OK || welcome.protocol != PEER_PROTOCOL) {
        return ERR_PROTOCOL;
    }
    const uint8_t *history = journal_history(regain->instance->journal);
    bool same = bytes_equal(welcome.history, bytes_of(history, HISTORY_ID_BYTES));
    char words[128];
    link_words(words, sizeof words, welcome.reason);
    if (welcome.answer == ANSWER_RESUME && same) {
        regain->stage = REGAIN_STREAM;
        log_line(LOG_WARN, regain->instance->name, "fetching what this root lacks from %s at %s: "
                 "blocks from %llu on", regain->node, regain->reach,
                 (unsigned long long)regain->last.number + 1);
        regain->until = welcome.block;
        look_end(regain);
    } else if (welcome.answer == ANSWER_DIVERGED && same) {
        part(regain, welcome.diverged_at);
    } else if (welcome.answer == ANSWER_TOO_OLD) {
        leave(regain, ERR_TOO_OLD, "its journal does not reach back to this root's end");
    } else {
        leave(regain, ERR_REFUSED, words[0] != '\0' ? words : "it does not give them");
    }
    return OK;
}

static int on_message(struct link *link, uint16_t code, struct bytes payload)
{
    struct regain *regain = link->owner;
    if (regain->stage == REGAIN_GREETING) {
        return code == MESSAGE_welcome ? on_welcome(regain, payload) : ERR_PROTOCOL;
    }
    return OK; // what a parent says beside the blocks is of no use here
}

static void on_close(struct link *link, int error)
{
    struct regain *regain = link->owner;
    if (error != OK && !regain->closing && !regain->left) {
        LOG_GATED(&fail_gate, LOG_WARN, regain->instance->name, "lost %s at %s, which holds "
                  "blocks that this root lacks: %s", regain->node, regain->reach,
                  link->closed_by_peer ? link->last_words : error_text(error));
    }
    rest(regain);
}

static void dial(struct task *task)
{
    static const struct link_ops ops = {.on_message = on_message,
                                        .on_raw = on_raw,
                                        .on_connected = on_connected,
                                        .on_close = on_close};
    struct regain *regain = CONTAINER_OF(task, struct regain, dial_task);
    struct instance *instance = regain->instance;
    const struct node_options *node = instance->node;
    struct address address;
    const char *reason = "";
    int fd = -1;
    // What was handed over last must be in the journal, whose end is asked from.
    bool settled = atomic_load(&instance->receive_bytes) == 0;
    int error = address_parse(&address, regain->reach, &reason);
    if (error != OK || !settled || regain->closing || address_connect(&address, &fd) != OK) {
        rest(regain);
        return;
    }
    regain->stage = REGAIN_GREETING;
    regain->left = false;
    link_open(&regain->link, instance->home, fd, true, node->heartbeat * NS_PER_MS,
              node->silence * NS_PER_MS, &ops);
    regain->link.owner = regain;
    regain->link.scope = instance->name;
    snprintf(regain->link.address, sizeof regain->link.address, "%s", regain->reach);
}

// ---- claims ------------------------------------------------------------------------------------

// Under lock.
static bool is_other(const struct regain *regain, struct bytes node)
{
    bool other = false;
    for (unsigned i = 0; i < OTHERS_MAX; i++) {
        other = other || (node.size > 0 && bytes_equal_text(node, regain->others[i]));
    }
    return other;
}

void regain_ahead(struct instance *instance, const struct message_hello *hello, const char *reach)
{
    struct regain *regain = instance->regain;
    if (regain == NULL) {
        return;
    }
    pthread_mutex_lock(&regain->lock);
    uint64_t end = journal_end(instance->journal).number;
    bool counts = hello->block > end && !is_other(regain, hello->node);
    bool dials = counts && !regain->busy && reach[0] != '\0';
    if (counts && hello->block > atomic_load(&instance->missing)) {
        atomic_store(&instance->missing, hello->block);
        METRIC_SET(instance->metrics, instance, lacks, hello->block - end);
    }
    if (dials) {
        regain->busy = true;
        snprintf(regain->reach, sizeof regain->reach, "%s", reach);
        link_words(regain->node, sizeof regain->node, hello->node);
    }
    pthread_mutex_unlock(&regain->lock);
    if (counts) {
        LOG_GATED(&claim_gate, LOG_ERROR, instance->name,
                  "%.*s%s%s holds blocks %llu to %llu of this history, which this root lacks: no "
                  "writes are taken before they were fetched from there; if that node is gone for "
                  "good, start this one anew",
                  (int)u64_min(hello->node.size, NODE_NAME_MAX), (const char *)hello->node.data,
                  reach[0] != '\0' ? " at " : ", which listens nowhere (`peer`),", reach,
                  (unsigned long long)end + 1, (unsigned long long)hello->block);
        instance_wake_writer(instance);
    }
    if (dials) {
        loop_post(instance->home, &regain->dial_task);
    }
}

// ---- open and close ----------------------------------------------------------------------------

static void hook(struct regain *regain, struct notice *room)
{
    pthread_mutex_lock(&regain->instance->lock);
    regain->instance->room = room;
    pthread_mutex_unlock(&regain->instance->lock);
}

static void close_run(struct task *task)
{
    struct regain *regain = CONTAINER_OF(task, struct regain, close_task);
    regain->closing = true;
    hook(regain, NULL);
    if (regain->stage != REGAIN_IDLE) {
        link_close(&regain->link, OK);
    }
    end_if_over(regain);
}

void regain_open(struct instance *instance)
{
    CHECK(instance->options->role == ROLE_ROOT && instance->lead == NULL);
    struct regain *regain = mem_zalloc(sizeof *regain);
    regain->instance = instance;
    pthread_mutex_init(&regain->lock, NULL);
    notice_init(&regain->room, loop_mailbox(instance->home), on_room);
    regain->dial_task.run = dial;
    regain->close_task.run = close_run;
    instance->regain = regain;
    hook(regain, &regain->room);
}

void regain_close(struct instance *instance, struct notice *closed)
{
    instance->regain->closed = closed;
    loop_post(instance->home, &instance->regain->close_task);
}

void regain_free(struct instance *instance)
{
    struct regain *regain = instance->regain;
    if (regain != NULL) {
        CHECK(regain->stage == REGAIN_IDLE);
        pthread_mutex_destroy(&regain->lock);
        mem_free(regain);
        instance->regain = NULL;
    }
}
